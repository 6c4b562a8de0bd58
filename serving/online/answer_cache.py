"""Answers that are due again while nothing they rest on has changed.

An answer follows from the release, the peers and ranks of the last book, the day, and what the
online store holds of the account. A `Recall` lives as long as the first three; the other two are
compared whenever somebody asks. What is recalled is the answer as it was computed, byte for byte,
but for the ids of its scores: every time it is given out it is a score of its own in the ledger.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import orjson

from features.feast_store import OnlineRow
from serving.ledger.score_rows import Json, ScoreRow, as_json

ROOM_BYTES = 128 * 2**20
"""What the answers of one process may take: those of about 11,000 accounts."""

_ENTRY_BYTES = 1_500
"""What an entry takes beside its texts, about."""


class Given:
    """One account's answer: as a value, and as JSON.

    Parameters
    ----------
    value : mapping, optional
        As it was computed (`serving.api.schemas.Answer`).
    body : bytes, optional
        Its JSON; one of the two is given.
    """

    def __init__(
        self, value: Mapping[str, Any] | None = None, body: bytes | None = None, status: str = ""
    ) -> None:
        if value is not None:
            self.value = value
        if body is not None:
            self.body = body
        self.status: str = status or self.value["status"]

    @cached_property
    def value(self) -> Mapping[str, Any]:
        """The answer as plain values."""
        value: Mapping[str, Any] = orjson.loads(self.body)
        return value

    @cached_property
    def body(self) -> bytes:
        """The answer as JSON."""
        return orjson.dumps(self.value)


class Basis(NamedTuple):
    """What an answer rests on beside the stage: the day, and what the store holds."""

    day: date
    age_days: int
    as_of: datetime
    digest: bytes


class Kept(NamedTuple):
    """One answer, and its scores as the ledger gets them, all without what is new every time.

    Attributes
    ----------
    basis : Basis
        What it rests on.
    owner_id : str or None
        Who looks after the account.
    pieces : tuple of bytes
        Its JSON, cut where the ids of its scores stand.
    rows : tuple of ScoreRow
        In the order of the ids; their reasons are `Json`.
    """

    basis: Basis
    owner_id: str | None
    pieces: tuple[bytes, ...]
    rows: tuple[ScoreRow, ...]

    def again(
        self, score_ids: Sequence[str], request_id: str, channel: str, now: datetime, at: datetime
    ) -> tuple[Given, list[ScoreRow]]:
        """Return the answer and its ledger rows under new ids, served `at` an instant."""
        ids = [*map(str.encode, score_ids), b""]
        body = b"".join(chain.from_iterable(zip(self.pieces, ids, strict=True)))
        rows = [
            row._replace(
                score_id=score_id, request_id=request_id, served_at=at, channel=channel, clock=now
            )
            for row, score_id in zip(self.rows, score_ids, strict=True)
        ]
        return Given(body=body, status="scored"), rows


class Recall:
    """The answers of one stage, by account; those least lately asked for make room.

    Parameters
    ----------
    room_bytes : int
        What they may take, about; with 0 nothing is recalled.
    """

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room_bytes = room_bytes
        self._n_bytes = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, entity: str) -> bool:
        return entity in self._kept

    @property
    def is_full(self) -> bool:
        """Whether a further answer would cost another its place."""
        return self._n_bytes >= 0.95 * self._room_bytes

    def forget_other_days(self, today: date) -> None:
        """Make room of the answers of other days: they are not due any more."""
        with self._lock:
            for entity in [e for e, kept in self._kept.items() if kept.basis.day != today]:
                self._forget(entity)

    def find(self, entity: str, basis: Basis) -> Kept | None:
        """Return the answer that is due for an account on this basis, if it is known."""
        with self._lock:
            kept = self._kept.get(entity)
            if kept is None or kept.basis != basis:
                return None
            self._kept.move_to_end(entity)
            return kept

    def keep(self, given: Given, rows: Sequence[ScoreRow], basis: Basis) -> None:
        """Remember the answer for an account, in place of an earlier one."""
        if not self._room_bytes:
            return
        body, pieces = given.body, []
        for row in rows:
            piece, found, body = body.partition(row.score_id.encode())
            if not found:
                return  # an answer that does not name its scores cannot be given again
            pieces.append(piece)
        kept = Kept(
            basis,
            given.value.get("owner_id"),
            (*pieces, body),
            tuple(row._replace(reasons=Json(as_json(row.reasons))) for row in rows),
        )
        with self._lock:
            entity = rows[0].entity_id
            self._forget(entity)
            self._kept[entity] = kept
            self._n_bytes += _size(kept)
            while self._n_bytes > self._room_bytes and self._kept:
                self._forget(next(iter(self._kept)))

    def _forget(self, entity: str) -> None:
        kept = self._kept.pop(entity, None)
        if kept is not None:
            self._n_bytes -= _size(kept)


def _size(kept: Kept) -> int:
    texts = chain(kept.pieces, (row.reasons for row in kept.rows), (kept.rows[0].features,))
    return _ENTRY_BYTES + sum(map(len, texts))


def basis_of(held: OnlineRow, now: datetime) -> Basis:
    """Return what an answer rests on that is given for what the store holds, at a time."""
    told = hashlib.blake2b(held.values, digest_size=16)
    told.update(held.past)
    told.update(held.facts)
    return Basis(now.date(), (now - held.as_of).days, held.as_of, told.digest())
