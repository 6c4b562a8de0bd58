"""Every score served, with what is needed to replay it, and what became of it.

A score is committed before it is acknowledged. Callers do not each pay for a commit: a writer
thread takes whatever is waiting and commits it as one group, and every caller waits for the group
it is in. Several processes may write at once. Light to import.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    and_,
    func,
    select,
    update,
)

from configs.errors import DataError, StateError, UnavailableError
from configs.places import Workspace
from serving.group_commit import GroupWriter
from training.database import (
    BUSY_SECONDS,
    UtcTime,
    address,
    insert_many,
    open_engine,
    reading,
    settle,
    writing,
)

CHANNELS = ("api", "batch", "book", "shadow")
BOOK_ROWS = 5_000
"""Rows of a book that are committed at once."""

metadata = MetaData()

scores_table = Table(
    "scores",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("company", String(64), nullable=False),
    Column("score_id", String(40), nullable=False, unique=True),
    Column("request_id", Text, nullable=False),
    Column("served_at", UtcTime, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("target", String(64), nullable=False),
    Column("release_id", String(40), nullable=False),
    Column("bundle_sha", String(64), nullable=False),
    Column("probability", Double, nullable=False),
    Column("logit", Double, nullable=False),
    Column("band", String(32), nullable=False),
    Column("verdict", String(32), nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("feature_set", String(64), nullable=False),
    Column("reasons", Text, nullable=False),
    Column("channel", String(16), nullable=False),
    Index("scores_by_entity", "company", "entity_id", "target"),
)
Index(
    "scores_by_book",
    scores_table.c.company,
    scores_table.c.request_id,
    scores_table.c.target,
    sqlite_where=scores_table.c.channel == "book",
    postgresql_where=scores_table.c.channel == "book",
)
books_table = Table(
    "score_books",
    metadata,
    Column("company", String(64), nullable=False),
    Column("book_id", String(64), nullable=False),
    Column("target", String(64), nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("served_at", UtcTime, nullable=False),
    Column("release_id", String(40), nullable=False),
    Column("n_scores", Integer, nullable=False),
    Column("is_complete", Integer, nullable=False),
    PrimaryKeyConstraint("company", "book_id", "target"),
    Index("books_by_time", "company", "target", "served_at"),
)
outcomes_table = Table(
    "score_outcomes",
    metadata,
    Column("company", String(64), nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("target", String(64), nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("known_at", UtcTime, nullable=False),
    Column("label", Integer, nullable=False),
    Column("decision_at", UtcTime),
    Column("recorded_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "entity_id", "target", "as_of", "known_at"),
)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One score as it was served. One row per score_id.

    Attributes
    ----------
    score_id : str
        Unique (`new_score_ids`). Appending the same row again is harmless.
    request_id : str
        Of the request, the batch or the book.
    served_at, as_of : datetime
        With a zone: when it was answered, and the prediction moment.
    entity_id, target : str
        Who was asked about what.
    release_id, bundle_sha : str
        What answered.
    probability, logit : float
        Calibrated; probability in [0, 1], both finite.
    band, verdict : str
        As shown.
    features : bytes
        The vector, little-endian float64 (`pack_features`).
    feature_set : str
        Hash that names the order of the vector.
    reasons : list
        As shown, plain JSON values.
    channel : str
        One of `CHANNELS`.
    """

    score_id: str
    request_id: str
    served_at: datetime
    entity_id: str
    as_of: datetime
    target: str
    release_id: str
    bundle_sha: str
    probability: float
    logit: float
    band: str
    verdict: str
    features: bytes
    feature_set: str
    reasons: Sequence[Any]
    channel: str


@dataclass(frozen=True)
class BookScores:
    """The whole book scored at once, for one target: columns of equal length.

    Attributes
    ----------
    book_id : str
        Names the run; appending the same book again completes it.
    target : str
        What was asked.
    as_of, served_at : datetime
        With a zone, the same for every row.
    release_id, bundle_sha, verdict, feature_set : str
        What answered.
    entity_ids : sequence of str
        One per row, without repeats.
    probability, logit : array of float64
        Calibrated.
    band : sequence of str
        As shown.
    features : array of float64, (n, k)
        One vector per row.
    reasons : sequence, optional
        Per row a list of plain JSON values.
    """

    book_id: str
    target: str
    as_of: datetime
    served_at: datetime
    release_id: str
    bundle_sha: str
    verdict: str
    feature_set: str
    entity_ids: Sequence[str]
    probability: NDArray[np.float64]
    logit: NDArray[np.float64]
    band: Sequence[str]
    features: NDArray[np.float64]
    reasons: Sequence[Sequence[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one prediction moment. One row per (entity, target, as_of, known_at).

    Attributes
    ----------
    entity_id, target : str
        Whose outcome.
    as_of : datetime
        The prediction moment it answers.
    label : int
        1 it happened, 0 it did not.
    known_at : datetime
        When that became known. A correction is a further row, known later.
    decision_at : datetime or None
        When it was decided, where it was.
    """

    entity_id: str
    target: str
    as_of: datetime
    label: int
    known_at: datetime
    decision_at: datetime | None = None


_ROW_NAMES = tuple(item.name for item in fields(ScoreRow))
_OUTCOME_NAMES = tuple(item.name for item in fields(Outcome))
_BOOK_CONSTANTS = (
    "served_at",
    "as_of",
    "target",
    "release_id",
    "bundle_sha",
    "verdict",
    "feature_set",
)


def pack_features(values: ArrayLike) -> bytes:
    """Return a vector as little-endian float64 bytes; missing values keep their bits.

    >>> unpack_features(pack_features([1.5, float("nan")]))
    array([1.5, nan])
    """
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack_features(packed: bytes) -> NDArray[np.float64]:
    """Return the vector of `pack_features`, bit for bit."""
    return np.frombuffer(packed, dtype="<f8").astype(np.float64)


def new_score_ids(served_at: datetime, n: int) -> list[str]:
    """Return `n` unique ids that sort by time, which keeps inserts at the end of the index.

    >>> from datetime import UTC
    >>> len(set(new_score_ids(datetime(2026, 1, 1, tzinfo=UTC), 3)))
    3
    """
    prefix = _time_prefix(served_at)
    noise = secrets.token_hex(10 * n)
    return [prefix + noise[20 * i : 20 * i + 20] for i in range(n)]


class Ledger:
    """The ledger of one company; use as a context manager, or `close` it.

    Parameters
    ----------
    url : str or None
        SQLAlchemy URL of SQLite or PostgreSQL; None for SQLite in `file`.
    file : Path
        The embedded database. Its folder must not be on a network file system.
    company : str
        Several companies may share one database.
    wait_seconds : float
        How long `append` waits for its commit, and for room when writers are behind.

    Notes
    -----
    Open one per process, after forking. Threads share it.
    """

    def __init__(
        self, url: str | None, file: Path, company: str, *, wait_seconds: float = BUSY_SECONDS + 5
    ) -> None:
        self.company = company
        self.engine = open_engine(url, file, metadata)
        self._wait_seconds = wait_seconds
        self._process = os.getpid()
        self._writer = GroupWriter(self._commit, self._settle)

    @classmethod
    def open(cls, workspace: Workspace) -> Ledger:
        """Open the ledger of a company: `Places.ledger_url`, or SQLite in the state directory."""
        file = workspace.state.ledger / "scores.db"
        return cls(workspace.places.ledger_url, file, workspace.company.name)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, rows: Sequence[ScoreRow]) -> Future[int]:
        """Hand rows over and return at once; the future is done when they are committed.

        For asynchronous callers: ``await asyncio.wrap_future(ledger.submit(rows))``.

        Returns
        -------
        Future of int
            The number of rows. It fails with what `append` raises.

        Raises
        ------
        DataError
            A row cannot be kept: a probability out of range, an instant without zone …
        StateError
            The ledger is closed, or was opened before this process was forked.
        UnavailableError
            Too many rows wait already.
        """
        return self._hand_over(rows, 0.0)

    def append(self, rows: Sequence[ScoreRow]) -> int:
        """Commit rows, then return how many; all of them, or none and an error.

        Raises
        ------
        DataError, StateError
            As `submit`; also a score_id that was used for another score.
        UnavailableError
            The database does not answer or does not keep up. The rows may still arrive, so the
            same call may be repeated with the same ids.
        """
        future = self._hand_over(rows, self._wait_seconds)
        try:
            return future.result(self._wait_seconds)
        except FutureTimeout as error:
            raise UnavailableError(
                f"{len(rows)} scores were not committed within {self._wait_seconds:g} s",
                where=address(self.engine),
                fix="is the database busy or the disk slow? repeat with the same score ids",
            ) from error

    def append_book(self, book: BookScores) -> int:
        """Commit a whole book, without going through the writer's queue.

        Rows are written in parts, so that single scores get their turn in between; the book
        becomes visible to `last_book` with its last part.

        Returns
        -------
        int
            Rows of the book that were not there yet.

        Raises
        ------
        DataError
            Columns of different length, or a row that cannot be kept.
        StateError
            Another book is kept under this book_id.
        """
        n_rows = _check_book(book)
        key = ("company", "book_id", "target")
        entry = _book_entry(book, self.company, n_rows)
        settle(self.engine, books_table, key, [entry], but=("is_complete",))
        n_new = 0
        for start in range(0, n_rows, BOOK_ROWS):
            part = _book_records(book, slice(start, start + BOOK_ROWS), self.company)
            n_new += settle(self.engine, scores_table, ("score_id",), part)
        complete = update(books_table).where(*(books_table.c[name] == entry[name] for name in key))
        with writing(self.engine) as connection:
            connection.execute(complete.values(is_complete=1))
        return n_new

    def score(self, score_id: str) -> ScoreRow | None:
        """Return one score by its id, to replay it."""
        table = scores_table
        where = and_(table.c.company == self.company, table.c.score_id == score_id)
        return next(iter(self._read(where)), None)

    def history(self, entity_id: str, target: str, limit: int = 50) -> list[ScoreRow]:
        """Return the last scores served for one entity and target, newest first."""
        table = scores_table
        where = and_(
            table.c.company == self.company,
            table.c.entity_id == entity_id,
            table.c.target == target,
        )
        return self._read(where, table.c.served_at.desc(), table.c.row.desc(), limit=limit)

    def last_book(self, target: str, *, before: datetime | None = None) -> list[ScoreRow]:
        """Return the last complete book of a target, most probable first.

        Parameters
        ----------
        target : str
            What was asked.
        before : datetime, optional
            Only books served before this instant: the one to compare the current one with.

        Returns
        -------
        list of ScoreRow
            One per entity; empty when there is no book.
        """
        books, table = books_table, scores_table
        query = select(books.c.book_id).where(
            books.c.company == self.company, books.c.target == target, books.c.is_complete == 1
        )
        if before is not None:
            query = query.where(books.c.served_at < before)
        with reading(self.engine) as connection:
            book_id = connection.execute(
                query.order_by(books.c.served_at.desc()).limit(1)
            ).scalar_one_or_none()
        where = and_(
            table.c.company == self.company,
            table.c.request_id == book_id,
            table.c.target == target,
            table.c.channel == "book",
        )
        ordered = (table.c.probability.desc(), table.c.entity_id)
        return [] if book_id is None else self._read(where, *ordered)

    def record_outcomes(self, outcomes: Iterable[Outcome], *, recorded_at: datetime) -> int:
        """Record what became of predictions; repeating it changes nothing.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        StateError
            The same outcome was recorded with another label. A correction has a later known_at.
        """
        records = [_outcome_record(item, self.company, recorded_at) for item in outcomes]
        key = ("company", "entity_id", "target", "as_of", "known_at")
        return settle(self.engine, outcomes_table, key, records, but=("recorded_at",))

    def record_outcome(self, outcome: Outcome, *, recorded_at: datetime) -> bool:
        """Record one outcome; False when it was known already. See `record_outcomes`."""
        return self.record_outcomes([outcome], recorded_at=recorded_at) == 1

    def outcomes(self, target: str, *, known_by: datetime | None = None) -> list[Outcome]:
        """Return the outcomes of a target, one per (entity, as_of): the latest known.

        Parameters
        ----------
        target : str
            What was asked.
        known_by : datetime, optional
            As they were known at this instant.
        """
        table = outcomes_table
        query = select(table).where(table.c.company == self.company, table.c.target == target)
        if known_by is not None:
            query = query.where(table.c.known_at <= known_by)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.known_at)).mappings().all()
        latest = {(row["entity_id"], row["as_of"]): row for row in rows}
        return [Outcome(**{name: row[name] for name in _OUTCOME_NAMES}) for row in latest.values()]

    def count(self) -> int:
        """Return how many scores the ledger holds."""
        query = select(func.count()).where(scores_table.c.company == self.company)
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())

    def close(self) -> None:
        """Commit what waits, refuse what comes, and let go of the database."""
        self._writer.close()
        self.engine.dispose()

    def _hand_over(self, rows: Sequence[ScoreRow], wait_seconds: float) -> Future[int]:
        if os.getpid() != self._process:
            raise StateError(
                "the ledger was opened before this process was forked",
                fix="open one ledger in each process",
            )
        records = [self._record(row) for row in rows]
        return self._writer.put(records, wait_seconds) if records else _done(0)

    def _record(self, row: ScoreRow) -> dict[str, Any]:
        _check_score(row)
        record = {name: getattr(row, name) for name in _ROW_NAMES}
        record["company"] = self.company
        record["reasons"] = _dump(row.reasons)
        return record

    def _commit(self, records: list[dict[str, Any]]) -> None:
        with writing(self.engine) as connection:
            insert_many(connection, scores_table, records)

    def _settle(self, records: list[dict[str, Any]]) -> None:
        settle(self.engine, scores_table, ("score_id",), records)

    def _read(self, where: Any, *order: Any, limit: int | None = None) -> list[ScoreRow]:
        query = select(*(scores_table.c[name] for name in _ROW_NAMES)).where(where)
        with reading(self.engine) as connection:
            found = connection.execute(query.order_by(*order).limit(limit)).all()
        return [_row(values) for values in found]


def _done(value: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(value)
    return future


def _check_score(row: ScoreRow) -> None:
    mistake = ""
    if not 0.0 <= row.probability <= 1.0:  # false for NaN too
        mistake = f"probability {row.probability} is not in [0, 1]"
    elif not math.isfinite(row.logit):
        mistake = f"logit {row.logit} is not finite"
    elif row.served_at.tzinfo is None or row.as_of.tzinfo is None:
        mistake = "served_at and as_of need a zone"
    elif row.channel not in CHANNELS:
        mistake = f"channel {row.channel!r} is none of {', '.join(CHANNELS)}"
    elif len(row.features) % 8:
        mistake = f"features are {len(row.features)} bytes, not float64 values"
    if mistake:
        raise DataError(mistake, where=f"score {row.score_id} of {row.entity_id}")


def _check_book(book: BookScores) -> int:
    n_rows = len(book.entity_ids)
    columns = {
        "probability": book.probability,
        "logit": book.logit,
        "band": book.band,
        "features": book.features,
        "reasons": book.reasons if book.reasons is not None else book.entity_ids,
    }
    wrong = {name: len(values) for name, values in columns.items() if len(values) != n_rows}
    if wrong:
        raise DataError(
            f"the columns of a book differ in length: {n_rows} entities, {wrong}",
            where=f"book {book.book_id}",
        )
    inside = (book.probability >= 0) & (book.probability <= 1) & np.isfinite(book.logit)
    if not inside.all():
        first = book.entity_ids[int(np.argmin(inside))]
        raise DataError(
            f"{int((~inside).sum())} scores are not probabilities with finite logits",
            where=f"book {book.book_id}, first at entity {first}",
        )
    return n_rows


def _book_records(book: BookScores, part: slice, company: str) -> list[dict[str, Any]]:
    same = {
        "company": company,
        "request_id": book.book_id,
        "channel": "book",
        **{name: getattr(book, name) for name in _BOOK_CONSTANTS},
    }
    vectors = np.ascontiguousarray(book.features[part], dtype="<f8")
    ids = book.entity_ids[part]
    return [
        same
        | {
            "score_id": _book_score_id(book, company, entity_id),
            "entity_id": entity_id,
            "probability": probability,
            "logit": logit,
            "band": band,
            "features": vector.tobytes(),
            "reasons": _dump(reasons),
        }
        for entity_id, probability, logit, band, vector, reasons in zip(
            ids,
            book.probability[part].tolist(),
            book.logit[part].tolist(),
            book.band[part],
            vectors,
            book.reasons[part] if book.reasons is not None else [()] * len(ids),
            strict=True,
        )
    ]


def _book_score_id(book: BookScores, company: str, entity_id: str) -> str:
    """Return the same id for the same row of the same book, so that a repeat completes it."""
    key = "\x1f".join((company, book.book_id, book.target, entity_id))
    return _time_prefix(book.served_at) + hashlib.sha256(key.encode()).hexdigest()[:20]


def _book_entry(book: BookScores, company: str, n_rows: int) -> dict[str, Any]:
    return {
        "company": company,
        "book_id": book.book_id,
        "target": book.target,
        "as_of": book.as_of,
        "served_at": book.served_at,
        "release_id": book.release_id,
        "n_scores": n_rows,
        "is_complete": 0,
    }


def _outcome_record(outcome: Outcome, company: str, recorded_at: datetime) -> dict[str, Any]:
    if outcome.label not in (0, 1):
        raise DataError(
            f"an outcome is 0 or 1, not {outcome.label}", where=f"entity {outcome.entity_id}"
        )
    record = {name: getattr(outcome, name) for name in _OUTCOME_NAMES}
    return record | {"company": company, "recorded_at": recorded_at}


def _row(values: Sequence[Any]) -> ScoreRow:
    record = dict(zip(_ROW_NAMES, values, strict=True))
    return ScoreRow(**record | {"reasons": orjson.loads(record["reasons"])})


def _dump(reasons: Sequence[Any]) -> str:
    return orjson.dumps(reasons, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _time_prefix(moment: datetime) -> str:
    return f"{int(moment.timestamp() * 1000):012x}"
