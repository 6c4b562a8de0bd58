"""Every score served, with what is needed to replay it, and what became of it.

A score is committed before it is acknowledged. One writer thread commits the waiting scores in
groups, one transaction per group; each caller returns after the commit of its group.
Several processes may write at once. Light to import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import func, select, update

from configs.runtime.database import BUSY_SECONDS, address, reading, telling, writing
from configs.runtime.errors import StateError, UnavailableError
from configs.runtime.migrate import open_engine
from configs.runtime.sql_inserts import insert_many, settle
from configs.runtime.tables import LEDGER_TABLES, books_table, contents_table, scores_table
from configs.schema.workspace import Workspace
from serving.ledger.store.commit_queue import CommitQueue, Record
from serving.ledger.store.outcome_store import OutcomeStore
from serving.ledger.store.run_reader import RunReader
from serving.ledger.store.score_reader import ScoreReader
from serving.ledger.store.score_rows import (
    ROW_NAMES,
    BookScores,
    ScoreRow,
    as_json,
    book_entry,
    book_records,
    check_book,
    check_score,
)

BOOK_ROWS = 5_000
"""Rows of a book that are committed at once."""

_RECORD_NAMES = ("company", *ROW_NAMES)
_REASONS, _FACTS = _RECORD_NAMES.index("reasons"), _RECORD_NAMES.index("facts")
_EMPTIED = ("features", "reasons")
"""Columns that are empty in a compacted score; a repeated append does not fill them again."""
_CONTEXT = ("facts", "clock")
"""Columns that a row of an earlier version lacks; a repeated append does not bring them."""


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

    Attributes
    ----------
    scores : ScoreReader
        Single scores.
    runs : RunReader
        Runs of the whole book.
    outcomes : OutcomeStore
        What became of predictions.

    Notes
    -----
    Open one per process, after forking. Threads share it.
    """

    def __init__(
        self, url: str | None, file: Path, company: str, *, wait_seconds: float = BUSY_SECONDS + 5
    ) -> None:
        self.company = company
        self.engine = open_engine(url, file, LEDGER_TABLES)
        self.scores = ScoreReader(self.engine, company)
        self.runs = RunReader(self.scores)
        self.outcomes = OutcomeStore(self.engine, company)
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
        becomes visible to `RunReader.last` with its last part.

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
        n_rows = check_book(book)
        key = ("company", "book_id", "target")
        entry = book_entry(book, self.company, n_rows)
        settle(self.engine, books_table, key, [entry], but=("is_complete", "channel"))
        n_new = 0
        for start in range(0, n_rows, BOOK_ROWS):
            part = book_records(book, slice(start, start + BOOK_ROWS), self.company)
            n_new += settle(
                self.engine, scores_table, ("score_id",), part, but=_CONTEXT, emptied=_EMPTIED
            )
        complete = update(books_table).where(*(books_table.c[name] == entry[name] for name in key))
        with writing(self.engine) as connection:
            connection.execute(complete.values(is_complete=1))
        return n_new

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
            check_score(row)
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


def _done(value: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(value)
    return future
