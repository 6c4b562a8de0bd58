"""From account ids to answers and ledger rows: read, recall what is known, compute the rest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import cast

import numpy as np

from configs.runtime.errors import BellwetherError
from features.feast_store import FeastStore, OnlineRow, OnlineRows, online_row_frame
from serving.auth.permissions import sees
from serving.http.score_text import FAILED
from serving.ledger.ledger import ScoreRow, new_score_ids, pack_features
from serving.ledger.shadow_scoring import shadow_rows
from serving.online.answer_cache import Basis, Given, Recall, basis_of
from serving.scoring.answer import Answer
from serving.scoring.export_rows import compact_reasons, ledger_extras
from serving.scoring.scorer import Scorer, kept_facts, status
from serving.scoring.timings import stage as timed
from training.registry.releases import Release

logger = logging.getLogger("bellwether.serving")


@dataclass(frozen=True)
class LoadedRelease:
    """One release with everything that answers for it."""

    scorer: Scorer
    store: FeastStore
    vectors: str
    shadow: Scorer | None = None
    recall: Recall = field(default_factory=Recall)

    @property
    def release(self) -> Release:
        """What is published."""
        return self.scorer.release


@dataclass(frozen=True)
class ScoredBatch:
    """Answers, and what the ledger must hold before anybody sees them.

    Attributes
    ----------
    given : list of Given
        One per account asked, in that order; every score carries its ``score_id``.
    rows : list of ScoreRow
        One per account and target, without repeats.
    shadow : list of ScoreRow
        The same accounts by the release in the shadow; for the ledger alone.
    release_id : str
        Of a batch: what answered all of it.
    """

    given: list[Given]
    rows: list[ScoreRow]
    shadow: list[ScoreRow] = field(default_factory=list)
    release_id: str = ""

    @property
    def answers(self) -> list[Answer]:
        """The answers as plain values."""
        return [cast("Answer", item.value) for item in self.given]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One account, on what occasion it is scored, and whose are seen (None: everybody's)."""

    account_id: str
    request_id: str
    channel: str
    owners: frozenset[str] | None


def score_together(
    stage: LoadedRelease, asked: Sequence[ScoreRequest], now: datetime
) -> list[ScoredBatch]:
    """Give again what is known, and compute and remember the rest; one result per ask.

    Raises
    ------
    UnavailableError
        The online store does not answer.
    """
    held, bases, known = known_answers(stage, asked, now)
    computed = [i for i, scored in enumerate(known) if scored is None]
    if computed:
        scored = _computed(stage, [asked[i] for i in computed], [held[i] for i in computed], now)
        with timed("recall"):
            for i, one in zip(computed, scored, strict=True):
                known[i] = one
                if (basis := bases[i]) is not None and one.rows:
                    stage.recall.keep(one.given[0], one.rows, basis)
    return [one for one in known if one is not None]


def known_answers(
    stage: LoadedRelease, asked: Sequence[ScoreRequest], now: datetime
) -> tuple[list[OnlineRow | None], list[Basis | None], list[ScoredBatch | None]]:
    """Return per ask what the store holds, the basis of an answer, and the answer if it is due."""
    with timed("read"):
        held = stage.store.held(stage.scorer.feature_hash, [ask.account_id for ask in asked])
    with timed("recall"):
        bases = [item and basis_of(item, now) for item in held]
        return held, bases, _recalled(stage, asked, bases, now)


def _recalled(
    stage: LoadedRelease,
    asked: Sequence[ScoreRequest],
    bases: Sequence[Basis | None],
    now: datetime,
) -> list[ScoredBatch | None]:
    """Return per ask the answer that is due again, None where there is none.

    While a release is in the shadow there is none: it scores what the published one does.
    """
    if stage.shadow is not None:
        return [None] * len(asked)
    kept = [
        stage.recall.find(ask.account_id, basis) if basis else None
        for ask, basis in zip(asked, bases, strict=True)
    ]
    at = datetime.now(UTC)
    score_ids = iter(new_score_ids(at, sum(len(item.rows) for item in kept if item)))
    given: list[ScoredBatch | None] = []
    for ask, item in zip(asked, kept, strict=True):
        if item is None or not sees(ask.owners, {"owner_id": item.owner_id}):
            given.append(None)
            continue
        ids = list(islice(score_ids, len(item.rows)))
        answer, rows = item.again(ids, ask.request_id, ask.channel, now, at)
        given.append(ScoredBatch([answer], rows))
    return given


def _computed(
    stage: LoadedRelease,
    asked: Sequence[ScoreRequest],
    held: Sequence[OnlineRow | None],
    now: datetime,
) -> list[ScoredBatch]:
    account_ids = [ask.account_id for ask in asked]
    rows = online_row_frame(held, stage.scorer.width)
    if any(ask.owners is not None for ask in asked):
        is_seen = np.array(
            [sees(ask.owners, facts) for ask, facts in zip(asked, rows.facts, strict=True)],
            dtype=bool,
        )
        rows = replace(rows, is_known=rows.is_known & is_seen)
    answers = stage.scorer.score(account_ids, rows, now)
    kept = iter(ledger_rows(stage, answers, rows, now, asked))
    given = [
        ScoredBatch([Given(answer)], list(islice(kept, len(answer.get("scores", ())))))
        for answer in answers
    ]
    return given if stage.shadow is None else _in_shadow(stage.shadow, given, rows)


def _in_shadow(shadow: Scorer, given: Sequence[ScoredBatch], rows: OnlineRows) -> list[ScoredBatch]:
    """Score the same accounts in the shadow; trouble there costs nobody an answer."""
    shown = [row for one in given for row in one.rows]
    positions = {one.given[0].value["account_id"]: i for i, one in enumerate(given)}
    beside: dict[tuple[str, str], list[ScoreRow]] = {}
    try:
        for row in shadow_rows(shadow, shown, rows, positions):
            beside.setdefault((row.entity_id, row.request_id), []).append(row)
    except Exception:
        logger.exception("the shadow cannot score")
        return list(given)
    return [
        replace(one, shadow=beside.get((one.rows[0].entity_id, one.rows[0].request_id), []))
        if one.rows
        else one
        for one in given
    ]


def score_alone(
    stage: LoadedRelease, asked: Sequence[ScoreRequest], now: datetime
) -> list[ScoredBatch]:
    """Answer one after the other: an account that cannot be scored costs no other its answer."""
    given: list[ScoredBatch] = []
    for ask in asked:
        try:
            given += score_together(stage, [ask], now)
        except BellwetherError:
            raise
        except Exception:
            logger.exception("an account cannot be scored", extra={"request_id": ask.request_id})
            given.append(ScoredBatch([Given({"account_id": ask.account_id, **status(FAILED)})], []))
    return given


def ledger_rows(
    stage: LoadedRelease,
    answers: Sequence[Answer],
    rows: OnlineRows,
    now: datetime,
    asked: Sequence[ScoreRequest],
) -> list[ScoreRow]:
    """Return what the ledger keeps of some answers, and put each score's id into it."""
    # When it was really answered: the company's clock may be pinned.
    served_at = datetime.now(UTC)
    parts = [
        (i, part) for i, answer in enumerate(answers) for part in answer.get("scores", {}).values()
    ]
    facts = {i: kept_facts(rows.facts[i]) for i, _ in parts}
    vectors = [pack_features(vector) for vector in rows.values]
    made = []
    for (i, part), score_id in zip(parts, new_score_ids(served_at, len(parts)), strict=True):
        part["score_id"] = score_id
        as_of = rows.as_of[i]
        assert as_of is not None  # a scored account has one
        made.append(
            ScoreRow(
                score_id=score_id,
                request_id=asked[i].request_id,
                served_at=served_at,
                entity_id=answers[i]["account_id"],
                as_of=as_of,
                target=part["target"],
                release_id=stage.release.release_id,
                bundle_sha=part["bundle_sha"],
                probability=part["probability"],
                logit=part["logit"],
                band=part["band"],
                verdict=part["verdict"],
                features=vectors[i],
                feature_set=stage.scorer.feature_hash,
                reasons=compact_reasons(part),
                channel=asked[i].channel,
                facts={**facts[i], **beside}
                if (beside := ledger_extras(answers[i], part))
                else facts[i],
                clock=now,
            )
        )
    return made
