"""One way to a small SQL store: SQLite in the state directory, or PostgreSQL by URL.

The release store and the score ledger share it. Light to import: serving starts with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import (
    Connection,
    DateTime,
    Dialect,
    Engine,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.types import String, TypeDecorator, TypeEngine

from configs.errors import ConfigError, DataError, StateError, UnavailableError

BUSY_SECONDS = 30
"""How long one writer waits for another before it gives up."""

_WRITES = "bellwether_writes"
_KEYS_AT_ONCE = 500

ROWS_AT_ONCE = 64
"""Rows that SQLite inserts by one statement, at most."""


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


def open_engine(url: str | None, file: Path, metadata: MetaData) -> Engine:
    """Connect, create the tables and columns that are missing, and return the engine.

    Parameters
    ----------
    url : str or None
        SQLAlchemy URL of SQLite or PostgreSQL; None for SQLite in `file`.
    file : Path
        The embedded database.
    metadata : MetaData
        The tables. Several processes may open an empty store at the same moment.

    Raises
    ------
    ConfigError
        The URL is not one, or names another kind of database.
    UnavailableError
        The database does not answer.
    """
    target = _parse(url) if url else URL.create("sqlite", database=str(file.resolve()))
    engine = _sqlite(target) if target.get_backend_name() == "sqlite" else _postgresql(target)
    with telling(engine):
        if engine.dialect.name == "sqlite":
            _create_on_sqlite(engine, metadata)
        else:
            _create_on_postgresql(engine, metadata)
    return engine


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
    except DBAPIError as error:
        if not is_outage(error):
            raise
        raise UnavailableError(
            f"the database does not answer: {first_line(error)}",
            where=address(engine),
            fix="start it, or correct BELLWETHER_LEDGER_URL; then run the same command again",
        ) from error


def is_outage(error: DBAPIError) -> bool:
    """Say whether the database failed, rather than the statement."""
    return error.connection_invalidated or type(error).__name__ in {
        "OperationalError",
        "InterfaceError",
        "DatabaseError",  # SQLite: the file is damaged, or is none
    }


def first_line(error: DBAPIError) -> str:
    """Return the driver's own words, one line of them."""
    return (str(error.orig).strip().splitlines() or [type(error).__name__])[0]


def settle(
    engine: Engine,
    table: Table,
    key: Sequence[str],
    records: Sequence[dict[str, Any]],
    *,
    but: Sequence[str] = (),
) -> int:
    """Insert the records whose key is new, in one transaction; the others must be equal.

    Parameters
    ----------
    engine : Engine
        Where.
    table : Table
        Into what.
    key : sequence of str
        Columns that are unique together.
    records : sequence of dict
        One per row.
    but : sequence of str
        Columns that may differ.

    Returns
    -------
    int
        Rows that were new.

    Raises
    ------
    StateError
        A key was used for something else.
    DataError
        The database refuses a value, or keeps refusing the rows.
    """
    clash = ""
    for _ in range(3):
        try:
            with writing(engine) as connection:
                return _insert_new(connection, table, key, records, but)
        except IntegrityError as error:
            # Another process inserted the same key between our look and our insert: look again.
            clash = first_line(error)
        except DBAPIError as error:
            raise DataError(f"the database cannot keep this: {first_line(error)}") from error
    raise DataError(f"the database refuses these rows: {clash}", where=address(engine))


def _insert_new(
    connection: Connection,
    table: Table,
    key: Sequence[str],
    records: Sequence[dict[str, Any]],
    but: Sequence[str],
) -> int:
    compared = [name for name in (records[0] if records else ()) if name not in but]
    known = _existing(connection, table, key, records)
    new = []
    for record in records:
        identity = tuple(record[name] for name in key)
        row = known.setdefault(identity, record)
        if row is record:
            new.append(record)
        elif any(row[name] != record[name] for name in compared):
            words = ", ".join(str(part) for part in identity)
            raise StateError(
                f"something else is kept under ({words})",
                where=f"table {table.name}, key {', '.join(key)}",
                fix="what was recorded is never changed; use a new key",
            )
    if new:
        names = tuple(column.name for column in table.columns if column.name in new[0])
        rows = [tuple(record[name] for name in names) for record in new]
        insert_many(connection, table, names, rows)
    return len(new)


def insert_many(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert rows, past what SQLAlchemy does per row.

    The statement is compiled once and the driver gets the values as they are, but for instants. On
    SQLite many rows go into one statement: between two statements the driver lets other threads
    run and waits until they pause, so that a thousand of them take ten times as long as one when
    the process is busy.

    Parameters
    ----------
    connection, table : Connection, Table
        In a write transaction; into what.
    names : tuple of str
        Columns, in the order of the table.
    rows : sequence of tuple
        Their values.
    """
    dialect = connection.dialect
    times = [i for i, name in enumerate(names) if isinstance(table.c[name].type, UtcTime)]
    bind, bound = UtcTime().process_bind_param, [list(row) for row in rows]
    for row in bound:
        for i in times:
            row[i] = bind(row[i], dialect)
    sql, start = _insert_sql(table, dialect.name, names), 0
    if dialect.name != "sqlite":
        connection.exec_driver_sql(sql, [tuple(row) for row in bound])
        return
    head, _, values = sql.partition(" VALUES ")
    for n_rows in _parts(len(rows)):
        part = bound[start : start + n_rows]
        statement = f"{head} VALUES {', '.join([values] * n_rows)}"
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))
        start += n_rows


def _parts(n_rows: int) -> Iterator[int]:
    """Split a number of rows into few sizes that come again, so that statements do too.

    >>> list(_parts(150))
    [64, 64, 16, 4, 2]
    """
    size = ROWS_AT_ONCE
    while n_rows:
        if size <= n_rows:
            n_rows -= size
            yield size
        else:
            size //= 2


@lru_cache(maxsize=16)
def _insert_sql(table: Table, dialect_name: str, names: tuple[str, ...]) -> str:
    if names != tuple(column.name for column in table.columns if column.name in names):
        raise ValueError(f"not in the order of {table.name}: {', '.join(names)}")
    dialect: Any = (
        sqlite.dialect(paramstyle="qmark")
        if dialect_name == "sqlite"
        else psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    )
    return str(insert(table).inline().compile(dialect=dialect, column_keys=list(names)))


def _existing(
    connection: Connection, table: Table, key: Sequence[str], records: Sequence[dict[str, Any]]
) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    columns = tuple_(*(table.c[name] for name in key))
    wanted = [tuple(record[name] for name in key) for record in records]
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        query = select(table).where(columns.in_(wanted[start : start + _KEYS_AT_ONCE]))
        for row in connection.execute(query).mappings():
            found[tuple(row[name] for name in key)] = dict(row)
    return found


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
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is always deferred
        for pragma in (
            f"busy_timeout={BUSY_SECONDS * 1000}",
            "page_size=16384",  # of a new file: a batch of scores commits in half the time of 4096
            "journal_mode=WAL",
            "synchronous=FULL",  # an acknowledged commit outlives a power cut
            "wal_autocheckpoint=2000",  # 32 MB: pages written often are copied back once
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=8,
        connect_args={"connect_timeout": 5, "application_name": "bellwether"},
    )


def _create_on_sqlite(engine: Engine, metadata: MetaData) -> None:
    path = Path(str(engine.url.database))
    # The first change to WAL and the first CREATE do not wait for each other on their own.
    try:
        with FileLock(path.with_name(f".{path.name}.lock")), writing(engine) as connection:
            _create(connection, metadata)
    except OSError as error:
        raise StateError(
            f"the database cannot be opened: {error}", where=str(path), fix="check its permissions"
        ) from error


def _create_on_postgresql(engine: Engine, metadata: MetaData) -> None:
    # CREATE TABLE IF NOT EXISTS of two sessions at once can fail on PostgreSQL.
    key = zlib.crc32(",".join(sorted(metadata.tables)).encode())
    with writing(engine) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        _create(connection, metadata)


def _create(connection: Connection, metadata: MetaData) -> None:
    """Create tables, and the columns a table of an earlier version lacks: those may be empty."""
    metadata.create_all(connection)
    known = inspect(connection)
    for table in metadata.sorted_tables:
        present = {column["name"] for column in known.get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                kind = column.type.compile(connection.dialect)
                connection.execute(
                    text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")
                )
