"""Warehouse tables as inputs: Snowflake, BigQuery, Redshift, Databricks and Trino through ibis.

An ibis table is reduced to the columns in use, compiled to one SELECT of the warehouse's dialect
and streamed as Arrow batches; a filter of the table is part of that SELECT. Redshift has no ibis
back end: its SELECT is compiled for PostgreSQL, translated, and run by its own driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import ibis
import pyarrow as pa
import sqlglot

from configs.runtime.errors import BellwetherError, SourceError, UnavailableError, did_you_mean
from configs.schema.source_mapping import Input
from features.sources.files.databases.connections import (
    Connection,
    invalid_url,
    no_table,
    package_missing,
)
from features.sources.files.formats.typed_rows import CHUNK, TypedRows
from features.sources.files.secrets import without_secrets

Choose = Callable[[Sequence[str]], list[str]]
Table = Any
"""An ibis table; ibis has no type information."""
Backend = Any
"""An ibis back end, or a connection of the driver of Redshift."""

SQL_DIALECTS = {"redshift": "postgres"}
"""Kind of connection → dialect that ibis compiles, where it is not its own."""


def selected(table: Table, columns: Sequence[str]) -> Table:
    """Return an ibis table reduced to some columns; its filters are kept."""
    return table.select(*columns)


def sql_of(table: Table, kind: str) -> str:
    """Return the SELECT of an ibis table in the dialect of a kind of connection.

    >>> table = ibis.table({"a": "int64", "b": "string"}, name="t", database="s")
    >>> print(" ".join(sql_of(selected(table, ["a"]), "redshift").split()))
    SELECT "t0"."a" FROM "s"."t" AS "t0"
    """
    dialect = SQL_DIALECTS.get(kind, kind)
    text = str(ibis.to_sql(table, dialect=dialect))
    return text if dialect == kind else sqlglot.transpile(text, read=dialect, write=kind)[0]


def stream(table: Table, choose: Choose) -> pa.RecordBatchReader:
    """Return the columns in use of an ibis table as Arrow batches, without holding them all."""
    return selected(table, choose(table.columns)).to_pyarrow_batches(chunk_size=CHUNK)


@contextmanager
def batches(
    connection: Connection, name: str, item: Input, choose: Choose
) -> Iterator[pa.RecordBatchReader]:
    """Open a table of a warehouse with an ibis back end.

    Parameters
    ----------
    connection : Connection
        The connection.
    name : str
        The input.
    item : Input
        Its configuration; ``table`` is ``table``, ``schema.table`` or ``catalog.schema.table``.
    choose : callable
        Chooses the columns to read.

    Raises
    ------
    ConfigError
        The package of the warehouse is not installed, or the URL is not valid.
    SourceError
        There is no such table, or it cannot be read.
    UnavailableError
        The warehouse refuses the connection or does not answer.
    """
    backend = _connected(connection, name, item, connect)
    try:
        with _read_errors(connection, name, item):
            yield stream(find_table(backend, name, item), choose)
    finally:
        backend.disconnect()


def connect(connection: Connection) -> Backend:
    """Connect an ibis back end, without the objects that ibis would create in the warehouse."""
    if connection.kind == "snowflake":
        return ibis.connect(connection.url, create_object_udfs=False)
    if connection.kind == "databricks":
        return _databricks(connection.url)
    return ibis.connect(connection.url)


def _databricks(address: str) -> Backend:
    module = import_module("ibis.backends.databricks")

    class ReadOnly(module.Backend):  # type: ignore[name-defined, misc]
        """Back end that creates no volume for tables in memory, which are not used."""

        def _post_connect(self, **_: Any) -> None:
            pass

    url = urlsplit(address)
    catalog, _, schema = url.path.strip("/").partition("/")
    backend = ReadOnly()
    backend.do_connect(
        server_hostname=url.hostname,
        access_token=unquote(url.password) if url.password else None,
        catalog=catalog or None,
        schema=schema or "default",
        **dict(parse_qsl(url.query)),
    )
    return backend


def _connected(
    connection: Connection, name: str, item: Input, opener: Callable[[Connection], Backend]
) -> Backend:
    try:
        urlsplit(connection.url).port  # noqa: B018  raises for a port that is no number
    except ValueError:
        raise invalid_url(item, connection) from None
    try:
        return opener(connection)
    except ImportError as error:
        raise package_missing(item, connection.kind, connection.kind, error.name) from error
    except Exception as error:
        # Not chained: messages of drivers may repeat credentials.
        raise UnavailableError(
            f"connection {item.connection} does not answer or refuses: "
            f"{type(error).__name__}: {without_secrets(str(error), connection.url)}",
            where=f"inputs.{name}.connection",
            fix=f"check {connection.variable}, written as {connection.example}, and the network",
        ) from None


def table_names(connection: Connection, item: Input, schema: str) -> list[str]:
    """Return the tables of a schema of a warehouse, with the schema where one is named."""
    if connection.kind == "redshift":
        session = _connected(connection, str(item.connection), item, connect_redshift)
        try:
            return _redshift_tables(session.cursor())
        finally:
            session.close()
    backend = _connected(connection, str(item.connection), item, connect)
    try:
        above = schema.split(".") if schema else []
        database = tuple(above) if len(above) > 1 else (above[0] if above else None)
        return [".".join([*above, name]) for name in backend.list_tables(database=database)]
    finally:
        backend.disconnect()


def find_table(backend: Backend, name: str, item: Input) -> Table:
    """Return the ibis table of an input; upper and lower case need not match.

    Raises
    ------
    SourceError
        There is no such table; the error names the closest one.
    """
    *above, table = str(item.table).split(".")
    database = tuple(above) if len(above) > 1 else (above[0] if above else None)
    known = backend.list_tables(database=database)
    same = [text for text in known if text.lower() == table.lower()]
    found = table if table in known else same[0] if len(same) == 1 else None
    if found is not None:
        return backend.table(found, database=database)
    if database is None or did_you_mean(table, known):
        raise no_table(name, item, table, known)
    raise no_table(name, item, str(item.table), [".".join([*above, text]) for text in known])


@contextmanager
def _read_errors(connection: Connection, name: str, item: Input) -> Iterator[None]:
    try:
        yield
    except BellwetherError:
        raise
    except Exception as error:
        raise SourceError(
            f"table {item.table} of connection {item.connection} cannot be read: "
            f"{type(error).__name__}: {without_secrets(str(error), connection.url)}",
            where=f"inputs.{name}",
            fix="check the name of the table, and that the user of the connection may read it",
        ) from None


def read_redshift(
    connection: Connection, name: str, item: Input, choose: Choose, rows: TypedRows
) -> None:
    """Add the rows of a Redshift table.

    Raises
    ------
    ConfigError
        The driver is not installed, or the URL is not valid.
    SourceError
        There is no such table, or it cannot be read.
    UnavailableError
        The warehouse refuses the connection or does not answer.
    """
    session = _connected(connection, name, item, connect_redshift)
    try:
        with _read_errors(connection, name, item):
            cursor = session.cursor()
            table = _redshift_table(cursor, name, item)
            columns = choose(table.columns)
            cursor.execute(sql_of(selected(table, columns), "redshift"))
            rows.add_rows(columns, _fetched(cursor))
    finally:
        session.close()


def connect_redshift(connection: Connection) -> Backend:
    """Connect the driver of Redshift."""
    driver = import_module("redshift_connector")
    url = urlsplit(connection.url)
    return driver.connect(
        host=url.hostname,
        port=url.port or 5439,
        database=url.path.strip("/"),
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        **dict(parse_qsl(url.query)),
    )


def _redshift_table(cursor: Any, name: str, item: Input) -> Table:
    schema, _, table = str(item.table).rpartition(".")
    schema = schema or "public"
    cursor.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (schema, table),
    )
    columns = [str(row[0]) for row in cursor.fetchall()]
    if not columns:
        raise no_table(name, item, f"{schema}.{table}", _redshift_tables(cursor))
    # Only names are compiled; the values have the types of the driver.
    return ibis.table(dict.fromkeys(columns, "string"), name=table, database=schema)


def _redshift_tables(cursor: Any) -> list[str]:
    cursor.execute(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    return [str(row[0]) for row in cursor.fetchall()]


def _fetched(cursor: Any) -> Iterator[Sequence[object]]:
    while chunk := cursor.fetchmany(CHUNK):
        yield from chunk
