"""Change of every score since the previous score run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

import numpy as np

from serving.ledger.comparability import ScoreQuestion, asked_anew, question_of
from serving.ledger.model_archive import ModelArchive
from serving.ledger.score_changes import CurrentScore, asked_of, change_text, compare
from serving.ledger.store.score_rows import ScoreRow
from serving.scoring.scorer import ScoringModel
from training.model.score_change import SMALLEST_CHANGE

CHUNK_ROWS = 5_000


class ScoredAccount(NamedTuple):
    """Current score of one account, with the facts stored with its vector."""

    account_id: str
    probability: float
    logit: float
    facts: Mapping[str, Any]


class ChangeColumns(TypedDict):
    """Columns of the canonical row that describe a change."""

    change: float | None
    change_is_clear: bool | None
    change_since: str
    change_text: str


def changes_of_book(
    archive: ModelArchive,
    model: ScoringModel,
    scored: Sequence[ScoredAccount],
    values: np.ndarray,
    as_of: datetime,
    earlier: Sequence[ScoreRow],
) -> dict[str, ChangeColumns]:
    """Compare the scores of one target with those of an earlier run.

    Parameters
    ----------
    archive : ModelArchive
        Earlier releases and models.
    model : ScoringModel
        The current model.
    scored : sequence of ScoredAccount
        Current scores.
    values : numpy.ndarray
        (accounts, features) served vectors of the same accounts.
    as_of : datetime
        The current prediction moment.
    earlier : sequence of ScoreRow
        Scores of the earlier run for this target.

    Returns
    -------
    dict
        Columns of the change by account id. New accounts have none; after a change of the question,
        such as a renewal, only change_since and change_text have values.

    Raises
    ------
    ModelError, StateError
        The earlier release or model is no longer kept, or was changed.
    """
    before = {row.entity_id: row for row in earlier}
    pairs = [
        (i, before[row.account_id]) for i, row in enumerate(scored) if row.account_id in before
    ]
    asked = {i: question_of(model.contract, scored[i].facts, as_of) for i, _ in pairs}
    then = {i: asked_of(archive, row, model.contract) for i, row in pairs}
    changes = {
        row.entity_id: _unclear(scored[i].probability - row.probability, row)
        if then[i].is_same(asked[i])
        else _new_question(then[i], asked[i], as_of, scored[i].probability, row)
        for i, row in pairs
    }
    # Small changes are never clear, and most changes are small: they need no explanation.
    moved = [
        (i, row)
        for i, row in pairs
        if abs(changes[row.entity_id]["change"] or 0.0) >= SMALLEST_CHANGE
    ]
    for start in range(0, len(moved), CHUNK_ROWS):
        part = moved[start : start + CHUNK_ROWS]
        positions = [i for i, _ in part]
        present = CurrentScore(
            model.bundle,
            model.sha,
            model.encode(values[positions]),
            np.array([scored[i].logit for i in positions]),
            [as_of] * len(part),
            [asked[i] for i in positions],
        )
        for found in compare(archive, present, [row for _, row in part]):
            for place, position in enumerate(found.rows):
                if found.changes.is_clear[place]:
                    row = part[position][1]
                    text = change_text(found.changes, place, row.as_of)
                    changes[row.entity_id]["change_is_clear"] = True
                    changes[row.entity_id]["change_text"] = text
    return changes


def _unclear(difference: float, row: ScoreRow) -> ChangeColumns:
    day = f"{row.as_of:%Y-%m-%d}"
    return {
        "change": difference,
        "change_is_clear": False,
        "change_since": day,
        "change_text": f"no clear change since {day}",
    }


def _new_question(
    then: ScoreQuestion, now: ScoreQuestion, as_of: datetime, p: float, row: ScoreRow
) -> ChangeColumns:
    return {
        "change": None,
        "change_is_clear": None,
        "change_since": f"{row.as_of:%Y-%m-%d}",
        "change_text": asked_anew(then, now, as_of.date(), p),
    }
