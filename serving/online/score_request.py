"""From account ids to answers and ledger rows: stored answers are served, the rest computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice

import numpy as np
import orjson

from configs.runtime.errors import BellwetherError
from features.feast_store import OnlineRow, OnlineRows, online_row_frame
from serving.auth.permissions import sees
from serving.batch.stored_answers import served_row, valid_answer
from serving.http.score_text import FAILED
from serving.ledger.shadow_scoring import shadow_rows
from serving.ledger.store.answer_rows import ledger_rows
from serving.ledger.store.score_rows import ScoreRow, new_score_ids
from serving.online.release_loader import LoadedRelease
from serving.scoring.answer import Answer
from serving.scoring.scorer import Scorer, status_answer

logger = logging.getLogger("bellwether.serving")

PART_ACCOUNTS = 128
"""Accounts of a batch that are scored and handed to the ledger together."""


class EncodedAnswer:
    """One account's answer, as a value and as JSON; each is made from the other when it is needed.

    Parameters
    ----------
    value : mapping, optional
        As it was computed (`serving.scoring.answer.Answer`).
    body : bytes, optional
        Its JSON; one of the two is given.
    status : str
        Of the account; from the value when left out.
    """

    def __init__(
        self, value: Answer | None = None, body: bytes | None = None, status: str = ""
    ) -> None:
        if value is not None:
            self.value = value
        if body is not None:
            self.body = body
        self.status: str = status or self.value["status"]

    @cached_property
    def value(self) -> Answer:
        """The answer as plain values."""
        value: Answer = orjson.loads(self.body)
        return value

    @cached_property
    def body(self) -> bytes:
        """The answer as JSON."""
        return orjson.dumps(self.value)


@dataclass(frozen=True)
class ScoredBatch:
    """Answers, and the ledger rows that must be committed before they are shown.

    Attributes
    ----------
    given : list of EncodedAnswer
        One per account asked, in that order; every score carries its ``score_id``.
    rows : list of ScoreRow
        One per account and target, without repeats.
    shadow : list of ScoreRow
        The same accounts by the release in the shadow; for the ledger alone.
    release_id : str
        Of a batch: what answered all of it.
    """

    given: list[EncodedAnswer]
    rows: list[ScoreRow]
    shadow: list[ScoreRow] = field(default_factory=list)
    release_id: str = ""

    @property
    def answers(self) -> list[Answer]:
        """The answers as plain values."""
        return [item.value for item in self.given]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One request for scores.

    Attributes
    ----------
    request_id, channel : str
        For the ledger (`ScoreRow`).
    owners : frozenset of str or None
        Owners whose accounts are visible; other accounts are treated as unknown. None is all
        owners.
    """

    request_id: str
    channel: str = "api"
    owners: frozenset[str] | None = None


def score_accounts(
    stage: LoadedRelease,
    account_ids: Sequence[str],
    request: ScoreRequest,
    now: datetime,
    keep: Callable[[list[ScoreRow]], object],
) -> ScoredBatch:
    """Score accounts part by part, all by one release; one answer per account, in their order.

    Parameters
    ----------
    stage : LoadedRelease
        What answers.
    account_ids : sequence of str
        Repeats are scored once.
    request : ScoreRequest
        Request id, channel and visible owners.
    now : datetime
        The clock.
    keep : callable
        Is given the ledger rows of each part, shadow included, so that the ledger commits some
        while others are scored.

    Raises
    ------
    UnavailableError
        The online store does not answer.
    """
    unique = list(dict.fromkeys(account_ids))
    whole = ScoredBatch([], [], [], stage.scorer.release.release_id)
    for start in range(0, len(unique), PART_ACCOUNTS):
        part = _score_part(stage, unique[start : start + PART_ACCOUNTS], request, now)
        keep([*part.rows, *part.shadow])
        whole.given.extend(part.given)
        whole.rows.extend(part.rows)
        whole.shadow.extend(part.shadow)
    by_id = dict(zip(unique, whole.given, strict=True))
    return replace(whole, given=[by_id[account_id] for account_id in account_ids])


def _score_part(
    stage: LoadedRelease, account_ids: Sequence[str], request: ScoreRequest, now: datetime
) -> ScoredBatch:
    """Score some accounts; one that breaks the scoring of all costs no other its answer."""
    try:
        return _score(stage, account_ids, request, now)
    except BellwetherError:
        raise
    except Exception:
        logger.exception(
            "scoring failed for %d accounts",
            len(account_ids),
            extra={"request_id": request.request_id},
        )
    if len(account_ids) == 1:
        return ScoredBatch([EncodedAnswer(status_answer(account_ids[0], FAILED))], [])
    return _joined([_score_part(stage, [one], request, now) for one in account_ids])


def _score(
    stage: LoadedRelease, account_ids: Sequence[str], request: ScoreRequest, now: datetime
) -> ScoredBatch:
    """Read the accounts, serve the stored answers that are valid, and compute the rest."""
    held = stage.store.held(stage.scorer.feature_hash, account_ids)
    found = _served(stage, dict(zip(account_ids, held, strict=True)), request, now)
    missing = [i for i, account_id in enumerate(account_ids) if account_id not in found]
    shadow: list[ScoreRow] = []
    if missing:
        asked = [account_ids[i] for i in missing]
        rows = _seen(online_row_frame([held[i] for i in missing], stage.scorer.width), request)
        computed = _computed(stage.scorer, asked, rows, request, now)
        shadow = _scored_in_shadow(stage.shadow, asked, computed, rows)
        found |= zip(asked, computed, strict=True)
    parts = [found[account_id] for account_id in account_ids]
    whole = parts[0] if len(parts) == 1 else _joined(parts)
    return replace(whole, shadow=shadow)


def _joined(parts: Sequence[ScoredBatch]) -> ScoredBatch:
    return ScoredBatch(
        [answer for part in parts for answer in part.given],
        [row for part in parts for row in part.rows],
        [row for part in parts for row in part.shadow],
    )


def _served(
    stage: LoadedRelease,
    held: Mapping[str, OnlineRow | None],
    request: ScoreRequest,
    now: datetime,
) -> dict[str, ScoredBatch]:
    """Return the stored answers that are valid under new score ids; the others are computed.

    While a release is in the shadow all are computed: it scores what the published one does.
    """
    if stage.shadow is not None:
        return {}
    scorer, served_at = stage.scorer, datetime.now(UTC)
    valid = [
        (account_id, row, stored)
        for account_id, row in held.items()
        if row is not None
        and (stored := valid_answer(scorer, row, now)) is not None
        and sees(request.owners, {"owner_id": stored.owner_id})
    ]
    score_ids = iter(new_score_ids(served_at, sum(len(stored.rows) for *_, stored in valid)))
    new_row = served_row(scorer, now, request.request_id, request.channel, served_at)
    found = {}
    for account_id, row, stored in valid:
        body, rows = stored.serve(account_id, row, score_ids, new_row)
        found[account_id] = ScoredBatch([EncodedAnswer(body=body, status=stored.status)], rows)
    return found


def _seen(rows: OnlineRows, request: ScoreRequest) -> OnlineRows:
    """Return the rows with accounts that the request does not see as unknown."""
    if request.owners is None:
        return rows
    is_seen = np.array([sees(request.owners, facts) for facts in rows.facts], dtype=bool)
    return replace(rows, is_known=rows.is_known & is_seen)


def _computed(
    scorer: Scorer,
    account_ids: Sequence[str],
    rows: OnlineRows,
    request: ScoreRequest,
    now: datetime,
) -> list[ScoredBatch]:
    answers = scorer.score(account_ids, rows, now)
    made = iter(ledger_rows(scorer, answers, rows, now, request.request_id, request.channel))
    return [
        ScoredBatch([EncodedAnswer(answer)], list(islice(made, len(answer.get("scores", ())))))
        for answer in answers
    ]


def _scored_in_shadow(
    shadow: Scorer | None,
    account_ids: Sequence[str],
    computed: Sequence[ScoredBatch],
    rows: OnlineRows,
) -> list[ScoreRow]:
    """Score the same accounts in the shadow; an error there affects no answer."""
    if shadow is None:
        return []
    positions = {account_id: i for i, account_id in enumerate(account_ids)}
    try:
        return shadow_rows(shadow, [row for one in computed for row in one.rows], rows, positions)
    except Exception:
        logger.exception("the shadow cannot score")
        return []
