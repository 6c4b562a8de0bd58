"""PostgreSQL tables as inputs: fingerprint and copy, each in one read-only snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql as pg

from configs.runtime.errors import SourceError, UnavailableError
from configs.schema.source_mapping import Input
from features.sources.files.databases.connections import (
    Connection,
    invalid_url,
    no_table,
    schema_and_table,
)

PG_TYPES = {
    "bool": "BOOLEAN",
    "int2": "BIGINT",
    "int4": "BIGINT",
    "int8": "BIGINT",
    "float4": "DOUBLE",
    "float8": "DOUBLE",
    "numeric": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
}
"""PostgreSQL types that are kept; all others are read as text."""


def fingerprint(connection: Connection, name: str, item: Input) -> tuple[int, str]:
    """Return the row count and an order-independent hash of a table."""
    with _session(connection, name, item) as session:
        _require_table(session, name, item)
        row = session.execute(
            pg.SQL(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {} t"
            ).format(_pg_table(item))
        ).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


def copy_table(
    connection: Connection,
    name: str,
    item: Input,
    file: Path,
    choose: Callable[[Sequence[str]], list[str]],
) -> dict[str, str]:
    """Stream the chosen columns of a table into a CSV file and return column → DuckDB type."""
    table = _pg_table(item)
    with _session(connection, name, item) as session:
        _require_table(session, name, item)
        description = session.execute(pg.SQL("SELECT * FROM {} LIMIT 0").format(table)).description
        registry = psycopg.adapters.types
        available = {}
        for column in description or []:
            known = registry.get(column.type_code)
            available[column.name] = PG_TYPES.get(known.name if known else "", "VARCHAR")
        types = {column: available[column] for column in choose(list(available))}
        # The additional column prevents empty lines for rows of one empty value.
        copy = pg.SQL("COPY (SELECT {}, 1 FROM {}) TO STDOUT (FORMAT csv)").format(
            pg.SQL(", ").join(map(pg.Identifier, types)), table
        )
        with session.cursor().copy(copy) as stream, file.open("wb") as handle:
            for block in stream:
                handle.write(block)
    return types


def _pg_table(item: Input) -> pg.Identifier:
    return pg.Identifier(*schema_and_table(item, "public"))


@contextmanager
def _session(
    connection: Connection, name: str, item: Input
) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Open a read-only session on one snapshot of the database."""
    session = _connect(connection, name, item)
    try:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        session.execute("SET TIME ZONE 'UTC'")
        session.execute("SET DateStyle = 'ISO, YMD'")
        yield session
    except psycopg.Error as error:
        raise SourceError(
            f"table {item.table} of connection {item.connection} cannot be read: "
            f"{str(error).strip().splitlines()[0]}",
            where=f"inputs.{name}",
            fix="grant SELECT on it to the user of the connection",
        ) from error
    finally:
        session.close()


def _connect(connection: Connection, name: str, item: Input) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(connection.url.replace("+psycopg", "", 1), connect_timeout=10)
    except psycopg.ProgrammingError:
        # Not chained: the driver's message repeats the URL with its password.
        raise invalid_url(item, connection) from None
    except psycopg.OperationalError as error:
        raise UnavailableError(
            # The driver's message names host and user but never the password.
            f"connection {item.connection} does not answer: {str(error).strip().splitlines()[0]}",
            where=f"inputs.{name}.connection",
            fix=f"check {connection.variable} and the server",
        ) from error


def table_names(connection: Connection, item: Input) -> list[str]:
    """Return the tables of a database as schema.table."""
    with _connect(connection, str(item.connection), item) as session:
        return _tables(session)


def _tables(session: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
    rows = session.execute(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    ).fetchall()
    return [str(row[0]) for row in rows]


def _require_table(session: psycopg.Connection[tuple[Any, ...]], name: str, item: Input) -> None:
    known = _tables(session)
    wanted = ".".join(schema_and_table(item, "public"))
    if wanted not in known:
        raise no_table(name, item, wanted, known)
