"""Connections to SQL databases: SQLite in the state directory, or PostgreSQL by URL.

Light to import: serving starts with it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    DateTime,
    Dialect,
    Engine,
    create_engine,
    event,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.types import String, TypeDecorator, TypeEngine

from configs.runtime.errors import ConfigError, UnavailableError

BUSY_SECONDS = 30
"""Longest wait of one writer for another; then it gives up."""

_PATIENCE_MS = 1_000 * BUSY_SECONDS
_LOOK_MS = 2
"""Wait of SQLite itself for the write lock, before it is asked again."""

_WRITES = "bellwether_writes"


class UtcTime(TypeDecorator[datetime]):
    """An instant in UTC: ``timestamptz`` on PostgreSQL, sortable ISO text on SQLite.

    SQLite has no type for instants, and SQLAlchemy's own drops the zone there.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type of the dialect."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(32))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse an instant without zone; write it in UTC with microseconds."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"an instant needs its zone: {value!r}")
        return _as_text(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the instant in UTC."""
        if value is None:
            return None
        moment: datetime = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return moment.astimezone(UTC)


@lru_cache(maxsize=1024)
def _as_text(moment: datetime) -> str:
    # A batch shares its instants, and writing one out is dearer than the rest of its row.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def connect(url: str | None, file: Path) -> Engine:
    """Return the engine of a database, whose tables may be missing.

    `configs.runtime.migrate.open_engine` also brings its tables up to date.

    Parameters
    ----------
    url : str or None
        SQLAlchemy URL of SQLite or PostgreSQL; None for SQLite in `file`.
    file : Path
        The embedded database.

    Raises
    ------
    ConfigError
        The URL is not one, or names another kind of database.
    """
    target = _parse(url) if url else URL.create("sqlite", database=str(file.resolve()))
    return _sqlite(target) if target.get_backend_name() == "sqlite" else _postgresql(target)


def address(engine: Engine) -> str:
    """Return where the store is, without its password."""
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One read transaction: everything read in it is of one moment on SQLite."""
    with telling(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction, committed on leaving it.

    On SQLite it takes the write lock at once and waits its turn: a transaction that reads first
    and asks for the lock later fails without waiting.
    """
    with telling(engine), engine.connect() as plain:
        connection = plain.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


@contextmanager
def telling(engine: Engine) -> Iterator[None]:
    """Turn a driver's complaint into ours; a broken constraint stays what it is.

    Raises
    ------
    UnavailableError
        Connection refused or lost, locked beyond `BUSY_SECONDS`, disk full, read-only.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        if not is_outage(error):
            raise
        raise UnavailableError(
            f"the database does not answer: {first_line(error)}",
            where=address(engine),
            fix="start it, or correct BELLWETHER_LEDGER_URL; then run the same command again",
        ) from error


def is_outage(error: Exception) -> bool:
    """Say whether the database failed, rather than the statement: by a driver or SQLAlchemy."""
    return getattr(error, "connection_invalidated", False) or type(error).__name__ in {
        "OperationalError",
        "InterfaceError",
        "DatabaseError",  # SQLite: the file is damaged, or is none
    }


def first_line(error: Exception) -> str:
    """Return the driver's own words, one line of them."""
    words = str(getattr(error, "orig", None) or error)
    return (words.strip().splitlines() or [type(error).__name__])[0]


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(
            "not a database URL",
            where="BELLWETHER_LEDGER_URL",
            fix="write it as postgresql://user@host:5432/database",
        ) from error
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed
    raise ConfigError(
        f"releases and scores live in SQLite (a file) or PostgreSQL, not in {parsed.drivername}",
        where="BELLWETHER_LEDGER_URL",
        fix="write it as postgresql://user@host:5432/database, or leave it out",
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is always deferred
        for pragma in (
            f"busy_timeout={_PATIENCE_MS}",
            "page_size=16384",  # of a new file: a batch of scores commits in half the time of 4096
            "journal_mode=WAL",
            "synchronous=FULL",  # an acknowledged commit outlives a power cut
            "wal_autocheckpoint=2000",  # 32 MB: pages written often are copied back once
            "cache_size=-16384",  # 16 MB: the index by account is written all over
            # What a statement of many rows might have to undo else goes through a file of its own.
            "temp_store=MEMORY",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_WRITES):
            begin_writing(connection.connection.driver_connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def begin_writing(connection: Any) -> None:
    """Begin a write transaction on a SQLite driver's connection, waiting for other writers.

    It asks for the lock every few milliseconds: SQLite's own patience grows to a tenth of a second
    between two looks, and other processes take their turns meanwhile.

    Raises
    ------
    sqlite3.OperationalError
        Locked beyond `BUSY_SECONDS`; the file cannot be written.
    """
    ends = time.monotonic() + BUSY_SECONDS
    connection.execute(f"PRAGMA busy_timeout={_LOOK_MS}")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > ends:
                    raise
    finally:
        connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=8,
        connect_args={
            "connect_timeout": 5,
            "application_name": "bellwether",
            # A server that vanished without a word is given up within half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 25_000,
        },
    )
