"""Answers of a score run, stored in Feast's online store next to their vectors.

A stored answer is the response as JSON, the values of its ledger rows, and a key: the hash of
everything it was computed from. It is served while a request computes the same key from what it
reads; after a new release, vector, book, configuration, code or day the answer is computed on
demand. Every time it is served, its scores get new ids and are rows of their own in the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import BellwetherError
from features.feast_store import FeastStore, OnlineRow, OnlineRows
from serving.ledger.store.answer_rows import ledger_rows
from serving.ledger.store.score_rows import Json, ScoreRow, as_json
from serving.scoring.answer import Answer
from serving.scoring.scorer import Scorer

Progress = Callable[[str], None]

ROW_VALUES = (
    "target",
    "bundle_sha",
    "probability",
    "logit",
    "band",
    "verdict",
    "reasons",
    "facts",
)
"""Stored fields of a ledger row; the others come from the request, the release or the vector."""


class StoredAnswer(NamedTuple):
    """One account's answer as the online store holds it.

    Attributes
    ----------
    key : str
        `answer_key` of what it was computed from.
    status, owner_id : str
        Of the account; no owner is None.
    rows : list of dict
        Per score its id in `body` (``score_id``), and `ROW_VALUES`; reasons as the ledger writes
        them.
    body : bytes
        The response as JSON.
    """

    key: str
    status: str
    owner_id: str | None
    rows: list[dict[str, Any]]
    body: bytes

    def pack(self) -> bytes:
        """Return it as bytes: the key, the head as JSON and the body, a line each."""
        head = orjson.dumps([self.status, self.owner_id, self.rows])
        return b"\n".join((self.key.encode(), head, self.body))

    @classmethod
    def unpack(cls, stored: bytes) -> StoredAnswer:
        """Read what `pack` wrote."""
        key, head, body = stored.split(b"\n", 2)
        status, owner_id, rows = orjson.loads(head)
        return cls(key.decode(), status, owner_id, rows, body)

    def serve(
        self,
        account_id: str,
        row: OnlineRow,
        score_ids: Iterator[str],
        new_row: Callable[..., ScoreRow],
    ) -> tuple[bytes, list[ScoreRow]]:
        """Return the response and its ledger rows under new score ids.

        Parameters
        ----------
        account_id : str
            Of the account.
        row : OnlineRow
            What its key was compared with.
        score_ids : iterator of str
            One is taken per score.
        new_row : callable
            Makes a ledger row from its other values (`served_row`).
        """
        body, made = self.body, []
        for stored in self.rows:
            score_id = next(score_ids)
            body = body.replace(stored["score_id"].encode(), score_id.encode())
            own = {"score_id": score_id, "reasons": Json(stored["reasons"])}
            made.append(
                new_row(**stored | own, entity_id=account_id, as_of=row.as_of, features=row.values)
            )
        return body, made


def served_row(
    scorer: Scorer, now: datetime, request_id: str, channel: str, served_at: datetime
) -> Callable[..., ScoreRow]:
    """Return `ScoreRow` with the values that all scores of a request share."""
    return partial(
        ScoreRow,
        request_id=request_id,
        served_at=served_at,
        release_id=scorer.release.release_id,
        feature_set=scorer.feature_hash,
        channel=channel,
        clock=now,
    )


def answer_key(scorer: Scorer, row: OnlineRow, now: datetime) -> str:
    """Return the hash of everything an account's answer is computed from."""
    parts = (
        scorer.identity,
        code_digest(__name__),  # found once a process
        row.as_of.isoformat(),
        now.date().isoformat(),
        str((now - row.as_of).days),
    )
    told = hashlib.blake2b(" ".join(parts).encode(), digest_size=16)
    for content in (row.values, row.past, row.facts):
        told.update(content)
    return told.hexdigest()


def valid_answer(scorer: Scorer, row: OnlineRow, now: datetime) -> StoredAnswer | None:
    """Return the stored answer of an account; None when there is none or it is out of date."""
    if not row.answer.startswith(answer_key(scorer, row, now).encode()):
        return None
    return StoredAnswer.unpack(row.answer)


class AnswerPublisher:
    """Stores the answers of one score run; an outage of the store is reported, and costs nothing.

    Parameters
    ----------
    store : FeastStore
        Holds the vectors.
    scorer : Scorer
        What answers, with the ranks of the run.
    now : datetime
        When it is scored.
    progress : callable
        Receives a message about an outage.
    """

    def __init__(
        self, store: FeastStore, scorer: Scorer, now: datetime, progress: Progress
    ) -> None:
        self._store, self._scorer, self._now, self._progress = store, scorer, now, progress
        self._is_away = False

    def add(self, answers: Sequence[Answer], rows: OnlineRows) -> None:
        """Store some answers, computed from these rows; puts a score id into each score."""
        if self._is_away:
            return
        try:
            self._add(answers, rows)
        except BellwetherError as error:
            self._is_away = True
            self._progress(f"answers are not stored, so requests compute them: {error.what}")

    def _add(self, answers: Sequence[Answer], rows: OnlineRows) -> None:
        ids = [answer["account_id"] for answer in answers]
        made: dict[str, list[ScoreRow]] = {}
        for row in ledger_rows(self._scorer, answers, rows, self._now, "", ""):
            made.setdefault(row.entity_id, []).append(row)
        held = self._store.held(self._scorer.feature_hash, ids)
        packed: dict[str, bytes] = {}
        for i, (entity, online) in enumerate(zip(ids, held, strict=True)):
            if online is None or not _is_source(online, rows, i):
                continue
            key = answer_key(self._scorer, online, self._now)
            if not online.answer.startswith(key.encode()):  # not stored by an earlier run
                packed[entity] = _packed(key, answers[i], made.get(entity, []))
        if packed:
            as_of = next(moment for moment in rows.as_of if moment is not None)
            self._store.store_answers(self._scorer.feature_hash, packed, as_of)


def _packed(key: str, answer: Answer, made: Sequence[ScoreRow]) -> bytes:
    names = ("score_id", *ROW_VALUES)
    told = [item._replace(reasons=as_json(item.reasons)) for item in made]
    return StoredAnswer(
        key,
        answer["status"],
        answer.get("owner_id"),
        [{name: getattr(item, name) for name in names} for item in told],
        orjson.dumps(answer),
    ).pack()


def _is_source(row: OnlineRow, rows: OnlineRows, i: int) -> bool:
    """Return whether the online row equals the row that the answer was computed from."""
    return (
        row.as_of == rows.as_of[i]
        and row.values == np.ascontiguousarray(rows.values[i], dtype="<f8").tobytes()
        and row.past == np.ascontiguousarray(rows.past[i], dtype="<f8").tobytes()
        and orjson.loads(row.facts) == rows.facts[i]
    )
