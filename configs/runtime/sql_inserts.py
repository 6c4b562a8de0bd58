"""Inserts into a table of `configs.runtime.database`: many rows at once, each key once.

Light to import: serving starts with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Table, insert, select, tuple_
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError

from configs.runtime.database import UtcTime, address, first_line, writing
from configs.runtime.errors import DataError, StateError

ROWS_AT_ONCE = 256
"""Rows that SQLite inserts by one statement, at most."""

_KEYS_AT_ONCE = 500

Row = tuple[Any, ...]


def settle(
    engine: Engine,
    table: Table,
    key: Sequence[str],
    records: Sequence[dict[str, Any]],
    *,
    but: Sequence[str] = (),
    emptied: Sequence[str] = (),
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
    emptied : sequence of str
        Columns that may be empty in the database.

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
                return _insert_new(connection, table, key, records, but, emptied)
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
    emptied: Sequence[str],
) -> int:
    compared = [name for name in (records[0] if records else ()) if name not in but]
    known = _existing(connection, table, key, records)
    new = []
    for record in records:
        identity = tuple(record[name] for name in key)
        row = known.setdefault(identity, record)
        if row is record:
            new.append(record)
        elif any(
            row[name] != record[name] and (row[name] or name not in emptied) for name in compared
        ):
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
    bound = _bound(table, names, rows, connection.dialect)
    if connection.dialect.name == "sqlite":
        for sql, values in _sqlite_inserts(table, names, bound):
            connection.exec_driver_sql(sql, values)
    else:
        sql = _insert_sql(table, connection.dialect.name, names)
        connection.exec_driver_sql(sql, [tuple(row) for row in bound])


def _bound(
    table: Table, names: tuple[str, ...], rows: Sequence[Row], dialect: Dialect
) -> list[list[Any]]:
    """Return the values of rows as the driver takes them."""
    bound = [list(row) for row in rows]
    bind = UtcTime().process_bind_param
    for place in _instants(table, names):
        for row in bound:
            row[place] = bind(row[place], dialect)
    return bound


@lru_cache(maxsize=16)
def _instants(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(i for i, name in enumerate(names) if isinstance(table.c[name].type, UtcTime))


def _sqlite_inserts(
    table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, Row]]:
    """Return statements of many rows each, with their values."""
    head, _, values = _insert_sql(table, "sqlite", names).partition(" VALUES ")
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        yield _many(head, values, len(part)), tuple(chain.from_iterable(part))


@lru_cache(maxsize=2 * ROWS_AT_ONCE)
def _many(head: str, values: str, n_rows: int) -> str:
    return f"{head} VALUES {', '.join([values] * n_rows)}"


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
