"""Every score served, with what is needed to replay it, and what became of it.

A score is committed before it is acknowledged. One writer thread commits whatever is waiting as one
group, and every caller waits for the group it is in. Several processes may write at once. Light to
import.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
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
    literal_column,
    or_,
    select,
    update,
)

from configs.runtime.database import (
    BUSY_SECONDS,
    UtcTime,
    address,
    open_engine,
    reading,
    telling,
    writing,
)
from configs.runtime.errors import DataError, StateError, UnavailableError
from configs.runtime.sql_inserts import insert_many, settle
from configs.schema.workspace import Workspace
from serving.ledger.commit_queue import CommitQueue, Record

SHADOW = "shadow"
CHANNELS = ("api", "batch", "book", SHADOW)
BOOK_ROWS = 5_000
"""Rows of a book that are committed at once."""

REFS_AT_ONCE = 500
"""Contents of compacted scores that are asked for by one query."""

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
    Column("facts", Text),
    Column("clock", UtcTime),
    # Keys of the content in `contents_table` that a compacted score shares with others.
    Column("vector_ref", String(32)),
    Column("reasons_ref", String(32)),
    Column("facts_ref", String(32)),
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
contents_table = Table(
    "score_contents",
    metadata,
    Column("company", String(64), nullable=False),
    Column("ref", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("last_served_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "ref"),
)
"""Vectors, reasons and facts of compacted scores, each once (`serving.ledger.retention`)."""

upkeep_table = Table(
    "score_upkeep",
    metadata,
    Column("company", String(64), nullable=False),
    Column("step", String(16), nullable=False),
    Column("through_row", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("due_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "step"),
)
"""How far compaction came, and when the service tidies next."""

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
    Column("channel", String(16)),
    PrimaryKeyConstraint("company", "book_id", "target"),
    Index("books_by_time", "company", "target", "served_at"),
)
labels_table = Table(
    "score_labels",
    metadata,
    Column("company", String(64), nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("target", String(64), nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("contract", String(16), nullable=False),
    Column("known_at", UtcTime, nullable=False),
    Column("label", Integer, nullable=False),
    Column("decision_at", UtcTime),
    Column("recorded_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("company", "target", "contract", "as_of", "entity_id", "known_at"),
)


class ScoreRow(NamedTuple):
    """One score as it was served. One row per score_id.

    A tuple, because a batch makes a thousand of them.

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
        The vector, little-endian float64 (`pack_features`); empty in an old score whose vector is
        not kept any more (`configs.schema.company.Retention`).
    feature_set : str
        Hash that names the order of the vector.
    reasons : list
        As shown, plain JSON values.
    channel : str
        One of `CHANNELS`; ``shadow`` was never shown to anybody.
    facts : mapping
        What decided which question was asked and what was at stake: status, contract dates,
        revenue, segment; with the rules that held and the expansion candidate that was shown;
        plain JSON values.
    clock : datetime or None
        With a zone: the moment days were counted from. The company's clock may be pinned, so it
        is not always when it was answered.
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
    facts: Mapping[str, Any] = {}
    clock: datetime | None = None


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
    facts : sequence, optional
        Per row a mapping of plain JSON values, see `ScoreRow`.
    channel : str
        ``book``, or ``shadow`` for a book that is never shown.
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
    facts: Sequence[Mapping[str, Any]] | None = None
    channel: str = "book"


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """What became of one prediction moment.

    One row per (entity, target, as_of, contract, known_at).

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
    contract : str
        Identity of the label contract that was asked (`serving.ledger.outcomes.contract_id`).
    """

    entity_id: str
    target: str
    as_of: datetime
    label: int
    known_at: datetime
    decision_at: datetime | None = None
    contract: str = ""


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One complete book of one target, shown or shadow.

    Attributes
    ----------
    book_id, target, release_id : str
        Which run asked what of which release.
    as_of, served_at : datetime
        UTC.
    n_scores : int
        Rows.
    channel : str
        ``book`` or ``shadow``.
    """

    book_id: str
    target: str
    release_id: str
    as_of: datetime
    served_at: datetime
    n_scores: int
    channel: str


@dataclass(frozen=True)
class JudgedScore:
    """Scores of books beside what became of them: columns of equal length.

    One row per entity, moment and bundle: where a moment was scored twice, the last counts.

    Attributes
    ----------
    entity_id, bundle_sha : sequence of str
        Whose score, and of which model.
    as_of : sequence of datetime
        The prediction moments, UTC.
    p, label : numpy.ndarray
        Probability as served; 1.0 it happened, 0.0 it did not.
    """

    entity_id: Sequence[str]
    bundle_sha: Sequence[str]
    as_of: Sequence[datetime]
    p: NDArray[np.float64]
    label: NDArray[np.float64]


EVERYTHING = pa.schema(
    [
        ("target", pa.string()),
        ("entity_id", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("served_at", pa.timestamp("us", tz="UTC")),
        ("release_id", pa.string()),
        ("bundle_sha", pa.string()),
        ("probability", pa.float64()),
        ("band", pa.string()),
        ("facts", pa.string()),
    ]
)

_ROW_NAMES = ScoreRow._fields
_RECORD_NAMES = ("company", *_ROW_NAMES)
_REASONS, _FACTS = _RECORD_NAMES.index("reasons"), _RECORD_NAMES.index("facts")
_REFS = ("vector_ref", "reasons_ref", "facts_ref")
_EMPTIED = ("features", "reasons")
"""Columns that are empty in a compacted score; a repeated append does not fill them again."""
_CONTEXT = ("facts", "clock")
"""Columns that a row of an earlier version lacks; a repeated append does not bring them."""
_OUTCOME_NAMES = tuple(item.name for item in fields(RecordedOutcome))
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
        self._writer = CommitQueue(self._insert, self._settle)

    @classmethod
    def open(cls, workspace: Workspace) -> Ledger:
        """Open the ledger of a company: `Places.ledger_url`, or SQLite in the state directory."""
        file = workspace.state.ledger / "scores.db"
        return cls(workspace.places.ledger_url, file, workspace.company.name)

    def ping(self) -> None:
        """Return when the database answers.

        Raises
        ------
        UnavailableError
            It does not.
        """
        with reading(self.engine) as connection:
            connection.execute(select(scores_table.c.score_id).limit(1)).first()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, rows: Sequence[ScoreRow], wait_seconds: float = 0.0) -> Future[int]:
        """Hand rows over and return at once; the future is done when they are committed.

        For asynchronous callers: ``await asyncio.wrap_future(ledger.submit(rows))``.

        Parameters
        ----------
        rows : sequence of ScoreRow
            All of them are committed, or none.
        wait_seconds : float
            How long to wait for room when writers are behind.

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
        self._check_process()
        records = self._records(rows)
        return self._writer.put(records, wait_seconds) if records else _done(0)

    @property
    def is_embedded(self) -> bool:
        """Whether it is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

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
        future = self.submit(rows, self._wait_seconds)
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
        settle(self.engine, books_table, key, [entry], but=("is_complete", "channel"))
        n_new = 0
        for start in range(0, n_rows, BOOK_ROWS):
            part = _book_records(book, slice(start, start + BOOK_ROWS), self.company)
            n_new += settle(
                self.engine, scores_table, ("score_id",), part, but=_CONTEXT, emptied=_EMPTIED
            )
        complete = update(books_table).where(*(books_table.c[name] == entry[name] for name in key))
        with writing(self.engine) as connection:
            connection.execute(complete.values(is_complete=1))
        return n_new

    def score(self, score_id: str) -> ScoreRow | None:
        """Return one score by its id, to replay it."""
        table = scores_table
        where = and_(table.c.company == self.company, table.c.score_id == score_id)
        return next(iter(self._read(where)), None)

    def served_by(self, entity_id: str, moment: datetime | None = None) -> list[ScoreRow]:
        """Return the last score of each target of an entity that was served by an instant."""
        table = scores_table
        where = [table.c.company == self.company, table.c.entity_id == entity_id]
        if moment is not None:
            where.append(table.c.served_at <= moment)
        found = self._read(and_(*where), table.c.served_at.desc(), table.c.row.desc(), limit=1_000)
        latest: dict[str, ScoreRow] = {}
        for row in found:
            latest.setdefault(row.target, row)
        return list(latest.values())

    def everything(self) -> pa.Table:
        """Return every score that was shown, without vectors and reasons, oldest first.

        Returns
        -------
        pyarrow.Table
            One row per score: target, entity_id, as_of, served_at, release_id, bundle_sha,
            probability, band, facts (JSON text, null in rows of an earlier version).
        """
        table = scores_table
        columns = [table.c[name] for name in EVERYTHING.names]
        ours = and_(table.c.company == self.company, table.c.channel != SHADOW)
        with reading(self.engine) as connection:
            columns.append(table.c.facts_ref)
            found = connection.execute(select(*columns).where(ours).order_by(table.c.row))
            rows = [dict(row) for row in found.mappings()]
            told = self.contents(connection, (row["facts_ref"] for row in rows if row["facts_ref"]))
        for row in rows:
            facts = told.get(row.pop("facts_ref") or "")
            row["facts"] = row["facts"] if facts is None else facts.decode()
        return pa.Table.from_pylist(rows, EVERYTHING)

    def sample(self, n: int) -> list[ScoreRow]:
        """Return about `n` scores spread evenly over the ledger, oldest first."""
        table = scores_table
        ours = table.c.company == self.company
        with reading(self.engine) as connection:
            first, last, count = connection.execute(
                select(func.min(table.c.row), func.max(table.c.row), func.count()).where(ours)
            ).one()
        if not count or n < 1:
            return []
        step = max(1, (last - first + 1) // n)
        chosen = and_(ours, (table.c.row - first) % step == 0)
        # Deleted scores leave gaps, and what was kept of old ones may be too little to replay.
        return [row for row in self._read(chosen, table.c.row, limit=n) if row.features]

    def history(
        self, entity_id: str, target: str, limit: int = 50, *, channel: str | None = None
    ) -> list[ScoreRow]:
        """Return the last scores served for one entity and target, newest first."""
        table = scores_table
        where = [
            table.c.company == self.company,
            table.c.entity_id == entity_id,
            table.c.target == target,
        ]
        if channel is not None:
            where.append(table.c.channel == channel)
        return self._read(and_(*where), table.c.served_at.desc(), table.c.row.desc(), limit=limit)

    def previous(
        self,
        entity_id: str,
        target: str,
        *,
        as_of: datetime,
        bundle_sha: str,
        served_before: datetime | None = None,
    ) -> ScoreRow | None:
        """Return the last shown score that another moment or another model gave, if there is one.

        Parameters
        ----------
        entity_id, target : str
            Whose, and what was asked.
        as_of, bundle_sha : datetime, str
            Of the present score; what it is compared with is no later than that moment.
        served_before : datetime, optional
            Only scores given out before this instant.
        """
        table = scores_table
        where = [
            table.c.company == self.company,
            table.c.entity_id == entity_id,
            table.c.target == target,
            table.c.channel != SHADOW,
            _is_earlier(table, table.c.bundle_sha, as_of, bundle_sha),
        ]
        if served_before is not None:
            where.append(table.c.served_at < served_before)
        newest = (table.c.as_of.desc(), table.c.served_at.desc(), table.c.row.desc())
        return next(iter(self._read(and_(*where), *newest, limit=1)), None)

    def last_book(
        self,
        target: str,
        *,
        before: datetime | None = None,
        unlike: tuple[datetime, str] | None = None,
    ) -> list[ScoreRow]:
        """Return the last complete book of a target, most probable first.

        Parameters
        ----------
        target : str
            What was asked.
        before : datetime, optional
            Only books served before this instant.
        unlike : (datetime, str), optional
            As_of and release of the present book: only books of another as_of, no later one, or of
            another release. It is the one to compare the present one with.

        Returns
        -------
        list of ScoreRow
            One per entity; empty when there is no book.
        """
        books, table = books_table, scores_table
        query = select(books.c.book_id).where(
            books.c.company == self.company,
            books.c.target == target,
            books.c.is_complete == 1,
            func.coalesce(books.c.channel, "book") == "book",
        )
        if before is not None:
            query = query.where(books.c.served_at < before)
        if unlike is not None:
            query = query.where(_is_earlier(books, books.c.release_id, *unlike))
        with reading(self.engine) as connection:
            book_id = connection.execute(
                query.order_by(books.c.as_of.desc(), books.c.served_at.desc()).limit(1)
            ).scalar_one_or_none()
        where = and_(
            table.c.company == self.company,
            table.c.request_id == book_id,
            table.c.target == target,
            table.c.channel == "book",
        )
        ordered = (table.c.probability.desc(), table.c.entity_id)
        return [] if book_id is None else self._read(where, *ordered)

    def record_outcomes(self, outcomes: Iterable[RecordedOutcome], *, recorded_at: datetime) -> int:
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
        key = ("company", "entity_id", "target", "as_of", "contract", "known_at")
        return settle(self.engine, labels_table, key, records, but=("recorded_at",))

    def record_outcome(self, outcome: RecordedOutcome, *, recorded_at: datetime) -> bool:
        """Record one outcome; False when it was known already. See `record_outcomes`."""
        return self.record_outcomes([outcome], recorded_at=recorded_at) == 1

    def outcomes(
        self, target: str, *, known_by: datetime | None = None, entity_id: str | None = None
    ) -> list[RecordedOutcome]:
        """Return the outcomes of a target, one per (entity, as_of, contract): the latest known.

        Parameters
        ----------
        target : str
            What was asked.
        known_by : datetime, optional
            As they were known at this instant.
        entity_id : str, optional
            Only of this entity.
        """
        table = labels_table
        query = select(table).where(table.c.company == self.company, table.c.target == target)
        if entity_id is not None:
            query = query.where(table.c.entity_id == entity_id)
        if known_by is not None:
            query = query.where(table.c.known_at <= known_by)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.known_at)).mappings().all()
        latest = {(row["entity_id"], row["as_of"], row["contract"]): row for row in rows}
        return [
            RecordedOutcome(**{name: row[name] for name in _OUTCOME_NAMES})
            for row in latest.values()
        ]

    def books(self, *, channel: str | None = None) -> list[BookEntry]:
        """Return every complete book, oldest first; of one channel where it is named."""
        table = books_table
        query = select(table).where(table.c.company == self.company, table.c.is_complete == 1)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.served_at)).mappings().all()
        names = [item.name for item in fields(BookEntry)]
        found = [
            BookEntry(**{name: row[name] for name in names} | {"channel": row["channel"] or "book"})
            for row in rows
        ]
        return [book for book in found if channel is None or book.channel == channel]

    def count_labels(self) -> dict[tuple[str, datetime], int]:
        """Return how many entities have an outcome, by target and prediction moment."""
        table = labels_table
        query = (
            select(table.c.target, table.c.as_of, func.count(table.c.entity_id.distinct()))
            .where(table.c.company == self.company)
            .group_by(table.c.target, table.c.as_of)
        )
        with reading(self.engine) as connection:
            return {(target, as_of): n for target, as_of, n in connection.execute(query)}

    def unlabelled(self, book: BookEntry, contract: str) -> set[str]:
        """Return the entities of a book that have no outcome under a contract yet."""
        scores, labels = scores_table, labels_table
        asked = select(scores.c.entity_id).where(*self._in_book(book))
        known = select(labels.c.entity_id).where(
            labels.c.company == self.company,
            labels.c.target == book.target,
            labels.c.contract == contract,
            labels.c.as_of == book.as_of,
        )
        with reading(self.engine) as connection:
            answered = set(connection.execute(known).scalars())
            return set(connection.execute(asked).scalars()) - answered

    def judged(self, books: Iterable[BookEntry], contract: str) -> JudgedScore:
        """Return the scores of books that have an outcome under a contract."""
        scores, labels = scores_table, labels_table
        found: dict[tuple[str, datetime, str], tuple[float, int]] = {}
        for book in sorted(books, key=lambda item: item.served_at):
            query = (
                select(
                    scores.c.entity_id, scores.c.bundle_sha, scores.c.probability, labels.c.label
                )
                .join(
                    labels,
                    and_(
                        labels.c.company == self.company,
                        labels.c.target == book.target,
                        labels.c.contract == contract,
                        labels.c.as_of == book.as_of,
                        labels.c.entity_id == scores.c.entity_id,
                    ),
                )
                .where(*self._in_book(book))
                .order_by(labels.c.known_at, scores.c.entity_id)
            )
            with reading(self.engine) as connection:
                for entity_id, sha, p, label in connection.execute(query):
                    found[entity_id, book.as_of, sha] = (p, label)
        return JudgedScore(
            [key[0] for key in found],
            [key[2] for key in found],
            [key[1] for key in found],
            np.array([p for p, _ in found.values()], dtype=np.float64),
            np.array([label for _, label in found.values()], dtype=np.float64),
        )

    def probabilities(self, book: BookEntry) -> NDArray[np.float64]:
        """Return the probabilities of one book, by entity."""
        table = scores_table
        query = select(table.c.probability).where(*self._in_book(book)).order_by(table.c.entity_id)
        with reading(self.engine) as connection:
            return np.array(connection.execute(query).scalars().all(), dtype=np.float64)

    def of_book(self, book: BookEntry) -> list[ScoreRow]:
        """Return the scores of one book, by entity."""
        return self._read(and_(*self._in_book(book)), scores_table.c.entity_id)

    def _in_book(self, book: BookEntry) -> list[Any]:
        table = scores_table
        # The channel is written out: with a parameter, no database would take the partial index.
        return [
            table.c.company == self.company,
            table.c.request_id == book.book_id,
            table.c.target == book.target,
            table.c.channel == literal_column(f"'{SHADOW if book.channel == SHADOW else 'book'}'"),
        ]

    def count(self) -> int:
        """Return how many scores the ledger holds."""
        query = select(func.count()).where(scores_table.c.company == self.company)
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())

    def size_bytes(self) -> int:
        """Return what the database takes: its file, or its tables of scores on a server."""
        if self.is_embedded:
            return Path(str(self.engine.url.database)).stat().st_size
        sizes = [
            func.pg_total_relation_size(f"{table.name}") for table in (scores_table, contents_table)
        ]
        with reading(self.engine) as connection:
            return sum(connection.execute(select(*sizes)).one())

    def shrink(self) -> None:
        """Give the space of removed scores back to the disk, which takes room for a copy meanwhile.

        Blocks all other writers while it runs. Without it, further scores reuse the space.
        """
        if self.is_embedded:
            with telling(self.engine), closing(self.engine.raw_connection()) as held:
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    held.cursor().execute(statement).fetchall()
            return
        with telling(self.engine), self.engine.connect() as plain:
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            tables = f"{scores_table.name}, {contents_table.name}"
            connection.exec_driver_sql(f"VACUUM FULL {tables}")

    def close(self) -> None:
        """Commit what waits, refuse what comes, and let go of the database."""
        self._writer.close()
        self.engine.dispose()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise StateError(
                "the ledger was opened before this process was forked",
                fix="open one ledger in each process",
            )

    def _records(self, rows: Sequence[ScoreRow]) -> list[Record]:
        """Return the values of rows as they are written, in the order of `_RECORD_NAMES`."""
        records: list[Record] = []
        facts: Mapping[str, Any] | None = None
        told = ""
        for row in rows:
            _check_score(row)
            if row.facts is not facts:  # the targets of an account share theirs
                facts, told = row.facts, as_json(row.facts)
            values: list[Any] = [self.company, *row]
            values[_REASONS], values[_FACTS] = as_json(row.reasons), told
            records.append(tuple(values))
        return records

    def _insert(self, records: Sequence[Record]) -> None:
        with writing(self.engine) as connection:
            insert_many(connection, scores_table, _RECORD_NAMES, records)

    def _settle(self, records: Sequence[Record]) -> None:
        named = [dict(zip(_RECORD_NAMES, record, strict=True)) for record in records]
        settle(self.engine, scores_table, ("score_id",), named, but=_CONTEXT, emptied=_EMPTIED)

    def _read(self, where: Any, *order: Any, limit: int | None = None) -> list[ScoreRow]:
        names = (*_ROW_NAMES, *_REFS)
        query = select(*(scores_table.c[name] for name in names)).where(where)
        with reading(self.engine) as connection:
            found = connection.execute(query.order_by(*order).limit(limit)).all()
            shared = self.contents(connection, (ref for row in found for ref in row[-3:] if ref))
        return [_row(values, shared) for values in found]

    def contents(self, connection: Connection, refs: Iterable[str]) -> dict[str, bytes]:
        """Return what compacted scores share; what is not kept any more is not among it."""
        table, wanted = contents_table, sorted(set(refs))
        found: dict[str, bytes] = {}
        for start in range(0, len(wanted), REFS_AT_ONCE):
            part = wanted[start : start + REFS_AT_ONCE]
            query = select(table.c.ref, table.c.body).where(
                table.c.company == self.company, table.c.ref.in_(part)
            )
            found |= {ref: zlib.decompress(body) for ref, body in connection.execute(query)}
        return found


def _is_earlier(table: Table, version: Any, as_of: datetime, present: str) -> Any:
    """Return the condition: an earlier moment, or the same moment seen by another version."""
    return or_(table.c.as_of < as_of, and_(table.c.as_of == as_of, version != present))


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
    elif any(moment and not moment.tzinfo for moment in (row.served_at, row.as_of, row.clock)):
        mistake = "served_at, as_of and clock need a zone"
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
        "facts": book.facts if book.facts is not None else book.entity_ids,
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
        "channel": book.channel,
        "clock": book.served_at,
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
            "reasons": as_json(reasons),
            "facts": as_json(facts),
        }
        for entity_id, probability, logit, band, vector, reasons, facts in zip(
            ids,
            book.probability[part].tolist(),
            book.logit[part].tolist(),
            book.band[part],
            vectors,
            book.reasons[part] if book.reasons is not None else [()] * len(ids),
            book.facts[part] if book.facts is not None else [{}] * len(ids),
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
        "channel": book.channel,
    }


def _outcome_record(
    outcome: RecordedOutcome, company: str, recorded_at: datetime
) -> dict[str, Any]:
    if outcome.label not in (0, 1):
        raise DataError(
            f"an outcome is 0 or 1, not {outcome.label}", where=f"entity {outcome.entity_id}"
        )
    record = {name: getattr(outcome, name) for name in _OUTCOME_NAMES}
    return record | {"company": company, "recorded_at": recorded_at}


def _row(values: Sequence[Any], shared: Mapping[str, bytes]) -> ScoreRow:
    record = dict(zip((*_ROW_NAMES, *_REFS), values, strict=True))
    vector, reasons, facts = (shared.get(record.pop(name) or "") for name in _REFS)
    reasons, facts = reasons or record["reasons"], facts or record["facts"]
    plain = {
        "features": vector or record["features"],
        "reasons": orjson.loads(reasons) if reasons else [],
        # rows of an earlier version have none
        "facts": orjson.loads(facts) if facts else {},
    }
    return ScoreRow(**record | plain)


def as_json(value: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return a value as the ledger writes it."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _time_prefix(moment: datetime) -> str:
    return f"{int(moment.timestamp() * 1000):012x}"
