"""What changed since the last book, for every account of the present one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from serving.ledger.comparability import ScoreQuestion, asked_anew, question_of
from serving.ledger.model_archive import ModelArchive
from serving.ledger.score_changes import CurrentScore, asked_of, change_text, compare
from serving.ledger.score_rows import ScoreRow
from serving.scoring.scorer import ScoringModel
from training.model.score_change import SMALLEST_CHANGE

CHUNK_ROWS = 5_000


def changes_of_book(
    archive: ModelArchive,
    model: ScoringModel,
    scored: Sequence[Mapping[str, Any]],
    values: np.ndarray,
    as_of: datetime,
    earlier: Sequence[ScoreRow],
) -> dict[str, dict[str, Any]]:
    """Compare the scores of one target with those of an earlier book.

    Parameters
    ----------
    archive : Archive
        What answered then.
    model : Model
        What answers at present.
    scored : sequence of mapping
        Per account: account_id, probability, logit, facts.
    values : numpy.ndarray
        (accounts, vector) the served vectors of the same accounts.
    as_of : datetime
        The present prediction moment.
    earlier : sequence of ScoreRow
        The earlier book of this target.

    Returns
    -------
    dict
        Account id → change (points of probability, -1 to 1), change_is_clear, change_since (day)
        and change_text; accounts that are new in the book have none. One that was asked something
        else before, such as an earlier renewal, has change_since and change_text alone.

    Raises
    ------
    ModelError, StateError
        What answered then is no longer kept, or was changed.
    """
    before = {row.entity_id: row for row in earlier}
    pairs = [
        (i, before[row["account_id"]])
        for i, row in enumerate(scored)
        if row["account_id"] in before
    ]
    asked = {i: question_of(model.contract, scored[i]["facts"], as_of) for i, _ in pairs}
    then = {i: asked_of(archive, row, model.contract) for i, row in pairs}
    told = {
        row.entity_id: _unclear(scored[i]["probability"] - row.probability, row)
        if then[i].is_same(asked[i])
        else _asked_anew(then[i], asked[i], as_of, scored[i]["probability"], row)
        for i, row in pairs
    }
    # Small moves are never called clear, and most accounts move little: no need to explain them.
    moved = [
        (i, row) for i, row in pairs if abs(told[row.entity_id]["change"] or 0.0) >= SMALLEST_CHANGE
    ]
    for start in range(0, len(moved), CHUNK_ROWS):
        part = moved[start : start + CHUNK_ROWS]
        positions = [i for i, _ in part]
        present = CurrentScore(
            model.bundle,
            model.sha,
            model.encode(values[positions]),
            np.array([scored[i]["logit"] for i in positions]),
            [as_of] * len(part),
            [asked[i] for i in positions],
        )
        for found in compare(archive, present, [row for _, row in part]):
            for place, position in enumerate(found.rows):
                if found.changes.is_clear[place]:
                    row = part[position][1]
                    text = change_text(found.changes, place, row.as_of)
                    told[row.entity_id] |= {"change_is_clear": True, "change_text": text}
    return told


def _unclear(difference: float, row: ScoreRow) -> dict[str, Any]:
    day = f"{row.as_of:%Y-%m-%d}"
    return {
        "change": difference,
        "change_is_clear": False,
        "change_since": day,
        "change_text": f"no clear change since {day}",
    }


def _asked_anew(
    then: ScoreQuestion, now: ScoreQuestion, as_of: datetime, p: float, row: ScoreRow
) -> dict[str, Any]:
    return {
        "change": None,
        "change_is_clear": None,
        "change_since": f"{row.as_of:%Y-%m-%d}",
        "change_text": asked_anew(then, now, as_of.date(), p),
    }
