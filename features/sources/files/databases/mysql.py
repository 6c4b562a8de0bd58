"""MySQL and MariaDB tables as inputs: fingerprint and rows, each in one read-only snapshot.

The statements are tested against recorded answers of the driver's interface, not against a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from configs.runtime.errors import SourceError, UnavailableError
from configs.schema.source_mapping import Input
from features.sources.files.databases.connections import (
    Connection,
    invalid_url,
    no_table,
    schema_and_table,
)
from features.sources.files.formats.typed_rows import CHUNK, TypedRows
from features.sources.files.secrets import without_secrets

PORT = 3306
OPTIONS = {"ssl_ca", "ssl_cert", "ssl_key"}
"""Options of the URL: files for an encrypted connection."""

SYSTEM = "('mysql', 'sys', 'information_schema', 'performance_schema')"

SNAPSHOT = (
    "SET time_zone = '+00:00'",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)

Session = Any
"""Connection of the driver, which has no type information."""


def fingerprint(connection: Connection, name: str, item: Input) -> tuple[int, str]:
    """Return the row count and an order-independent hash of a table, computed by the server."""
    with _session(connection, name, item) as session:
        table, columns = _table(session, connection, name, item)
        row = next(iter(_query(session, hash_sql(table, columns))))
    return int(row[0]), str(row[1])


def hash_sql(table: str, columns: Sequence[str]) -> str:
    """Return the query of the row count and the sum of 60-bit hashes of the rows.

    >>> print(hash_sql("`t`", ["a"]))  # doctest: +ELLIPSIS
    SELECT COUNT(*), COALESCE(SUM(CAST(CONV(LEFT(MD5(CONCAT_WS(',', COALESCE(HEX(CAST(`a` AS ...
    """
    # As hexadecimal bytes, so that columns with different collations can be joined.
    cells = ", ".join(f"COALESCE(HEX(CAST({_quoted(c)} AS BINARY)), '-')" for c in columns)
    digits = f"CONV(LEFT(MD5(CONCAT_WS(',', {cells})), 15), 16, 10)"
    return f"SELECT COUNT(*), COALESCE(SUM(CAST({digits} AS UNSIGNED)), 0) FROM {table}"


def read(
    connection: Connection,
    name: str,
    item: Input,
    choose: Callable[[Sequence[str]], list[str]],
    rows: TypedRows,
) -> None:
    """Add the rows of a table, streamed: TIMESTAMP columns as UTC, DATETIME without a zone.

    Raises
    ------
    SourceError
        There is no such table, or it cannot be read.
    UnavailableError
        The server does not answer.
    """
    with _session(connection, name, item) as session:
        table, available = _table(session, connection, name, item)
        columns = choose(available)
        shown = ", ".join(map(_quoted, columns))
        with session.cursor() as cursor:
            cursor.execute(f"SELECT {shown} FROM {table}")
            zoned = [n for n, c in enumerate(cursor.description) if c[1] == FIELD_TYPE.TIMESTAMP]
            rows.add_rows(columns, _in_utc(_fetched(cursor), zoned))


def _fetched(cursor: Any) -> Iterator[Sequence[object]]:
    while chunk := cursor.fetchmany(CHUNK):
        yield from chunk


def _in_utc(rows: Iterator[Sequence[object]], zoned: list[int]) -> Iterator[Sequence[object]]:
    if not zoned:
        yield from rows
        return
    for row in rows:
        cells = list(row)
        for at in zoned:
            value = cells[at]
            if isinstance(value, datetime):
                cells[at] = value.replace(tzinfo=UTC)
        yield cells


def _quoted(name: str) -> str:
    """Quote a name.

    >>> print(_quoted("a`b"))
    `a``b`
    """
    return "`" + name.replace("`", "``") + "`"


def _query(session: Session, sql: str, values: Sequence[str] = ()) -> list[Sequence[Any]]:
    with session.cursor() as cursor:
        cursor.execute(sql, tuple(values) or None)
        return list(cursor.fetchall())


def table_names(connection: Connection, item: Input) -> list[str]:
    """Return the tables of a server as schema.table."""
    with _session(connection, str(item.connection), item) as session:
        return _tables(session)


def _tables(session: Session) -> list[str]:
    found = _query(
        session,
        "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables "
        f"WHERE table_schema NOT IN {SYSTEM} ORDER BY 1",
    )
    return [str(row[0]) for row in found]


def _table(
    session: Session, connection: Connection, name: str, item: Input
) -> tuple[str, list[str]]:
    """Return the SQL name and the columns of the input's table."""
    schema, table = schema_and_table(item, urlsplit(connection.url).path.strip("/"))
    found = _query(
        session,
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        [schema, table],
    )
    if not found:
        raise no_table(name, item, f"{schema}.{table}", _tables(session))
    return f"{_quoted(schema)}.{_quoted(table)}", [str(row[0]) for row in found]


@contextmanager
def _session(connection: Connection, name: str, item: Input) -> Iterator[Session]:
    """Open a read-only session on one snapshot of the database."""
    session = _connect(connection, name, item)
    try:
        for statement in SNAPSHOT:
            _query(session, statement)
        yield session
    except pymysql.MySQLError as error:
        raise SourceError(
            f"table {item.table} of connection {item.connection} cannot be read: "
            f"{without_secrets(_message(error), connection.url)}",
            where=f"inputs.{name}",
            fix="grant SELECT on it to the user of the connection",
        ) from error
    finally:
        session.close()


def _connect(connection: Connection, name: str, item: Input) -> Session:
    try:
        url = urlsplit(connection.url)
        port = url.port or PORT
    except ValueError:
        raise invalid_url(item, connection) from None
    options = dict(parse_qsl(url.query))
    if not url.hostname or not OPTIONS.issuperset(options):
        raise invalid_url(item, connection)
    try:
        return pymysql.connect(
            host=url.hostname,
            port=port,
            user=unquote(url.username or "") or None,
            password=unquote(url.password or ""),
            database=url.path.strip("/") or None,
            charset="utf8mb4",
            cursorclass=SSCursor,
            connect_timeout=10,
            **options,
        )
    except pymysql.MySQLError as error:
        # Not chained: messages of drivers may repeat credentials.
        raise UnavailableError(
            f"connection {item.connection} does not answer: "
            f"{without_secrets(_message(error), connection.url)}",
            where=f"inputs.{name}.connection",
            fix=f"check {connection.variable} and the server",
        ) from None


def _message(error: Exception) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__
