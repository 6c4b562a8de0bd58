"""Tables of databases and warehouses as inputs: identity of their content, and copies in DuckDB."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import duckdb
import pyarrow as pa

from configs.runtime.errors import DataError, SourceError
from configs.runtime.hashing import digest, file_digest
from configs.schema.source_mapping import Input
from configs.schema.workspace import Workspace
from features.sources.files.databases import duckdb_files, sqlite
from features.sources.files.databases.connections import (
    Connection,
    connection_of,
    database_file,
    package_missing,
)
from features.sources.files.formats.typed_rows import TypedRows, stage_batches
from features.sources.files.sql import ROW, duckdb_errors, ident, literal, open_duckdb
from features.sources.files.staged import count_rows, scratch_folder
from features.sources.files.used_columns import used_columns

Choose = Callable[[Sequence[str]], list[str]]
"""Choice of the columns to read among those of a table."""

FILES = {"duckdb", "sqlite"}
MODULES = {"postgresql": ("postgres", "postgres"), "mysql": ("mysql", "mysql")}
"""Kind of connection → module, and extra that installs its driver."""


@dataclass(frozen=True)
class TableFingerprint:
    """Row count and order-independent hash of a database table."""

    table: str | None
    rows: int
    hash: str


def database_paths(workspace: Workspace, name: str, item: Input) -> list[Path]:
    """Return the files the engine opens: a DuckDB file and its log, none for other databases."""
    connection = connection_of(workspace, name, item)
    if connection.kind != "duckdb":
        return []
    file = database_file(workspace, item, connection)
    return [file, file.with_name(f"{file.name}.wal")]


def table_names(workspace: Workspace, connection: str, schema: str = "") -> list[str]:
    """Return the tables of a connection, as they are written in an input.

    Parameters
    ----------
    workspace : Workspace
        The environment with the URL of the connection.
    connection : str
        Name of the connection.
    schema : str
        Only tables of this schema (of this catalog and schema); empty for all.

    Raises
    ------
    SourceError
        There is none.
    """
    item = Input(connection=connection, table=schema or "tables")
    found = connection_of(workspace, connection, item)
    if found.kind == "duckdb":
        names = duckdb_files.table_names(database_file(workspace, item, found), item)
    elif found.kind == "sqlite":
        names = sqlite.table_names(database_file(workspace, item, found), item)
    elif found.kind in MODULES:
        names = _driver(found, item).table_names(found, item)
    else:
        names = _warehouses(found, item).table_names(found, item, schema)
    kept = [name for name in names if not schema or name.startswith(f"{schema}.")]
    if not kept:
        known = sorted({name.rpartition(".")[0] for name in names} - {""})
        raise SourceError(
            f"connection {connection} has no tables"
            + (f" in the schema {schema}" if schema else ""),
            where=found.variable,
            fix=f"name one of its schemas: {', '.join(known)}" if known else "check the database",
        )
    return kept


def database_fingerprint(workspace: Workspace, name: str, item: Input) -> TableFingerprint:
    """Return the row count and a hash of a table.

    A SQLite file is compared as a whole. Tables of warehouses have no cheap common identity: the
    columns in use are read for it.
    """
    found = connection_of(workspace, name, item)
    if found.kind == "duckdb":
        rows, text = _duckdb_fingerprint(workspace, name, item, found)
    elif found.kind == "sqlite":
        file = database_file(workspace, item, found)
        log = file.with_name(f"{file.name}-wal")
        rows = sqlite.count(file, name, item)
        text = digest(file_digest(file), file_digest(log) if log.is_file() else "", length=64)
    elif found.kind in MODULES:
        rows, text = _driver(found, item).fingerprint(found, name, item)
    else:
        with _read(workspace, name, item, found) as read:
            rows, text = _hash_of(read.batches)
    return TableFingerprint(item.table, rows, text)


def _duckdb_fingerprint(
    workspace: Workspace, name: str, item: Input, found: Connection
) -> tuple[int, str]:
    file = database_file(workspace, item, found)
    files = database_paths(workspace, name, item)
    with duckdb_errors(f"inputs.{name}"), open_duckdb(files=files) as connection:
        table = duckdb_files.attach(connection, file, name, item)
        return _hash_query(connection, table)


def _hash_of(batches: pa.RecordBatchReader) -> tuple[int, str]:
    with open_duckdb() as connection:
        connection.register("bw_stream", batches)
        return _hash_query(connection, "bw_stream")


def _hash_query(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, str]:
    query = f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0)::VARCHAR FROM {table} t"
    (rows, text), *_ = connection.execute(query).fetchall()
    return int(rows), str(text)


def stage_database(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, item: Input
) -> tuple[str, ...]:
    """Make a table readable as ``raw.<name>``, with row numbers; return notes on its columns.

    Only the columns in use are read.
    """
    found = connection_of(workspace, name, item)
    choose = partial(used_columns, workspace.company, name)
    if found.kind == "duckdb":
        file = database_file(workspace, item, found)
        table = duckdb_files.attach(connection, file, name, item)
        columns = choose(duckdb_files.columns(connection, table))
        connection.execute(
            f"CREATE VIEW raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, "
            f"{', '.join(map(ident, columns))} FROM {table}"
        )
        return ()
    if found.kind == "postgresql":
        _copy_postgres(connection, found, name, item, choose)
        return ()
    folder = scratch_folder(connection)
    with _read(workspace, name, item, found, folder) as read:
        stage_batches(connection, name, read.batches)
        kept = count_rows(connection, f"raw.{ident(name)}")
        if read.rows is not None and read.rows.rows != kept:
            raise DataError(
                f"{read.rows.rows:,} rows were received but {kept:,} are stored",
                where=f"inputs.{name}",
                fix="please report this as a bug",
            )
        return read.notes


@dataclass
class _Read:
    """An open table.

    Attributes
    ----------
    batches : pyarrow.RecordBatchReader
        Its rows.
    rows : TypedRows or None
        The rows of a database that yields Python values.
    notes : tuple of str
        Notes on its columns.
    """

    batches: pa.RecordBatchReader
    rows: TypedRows | None = None
    notes: tuple[str, ...] = ()


@contextmanager
def _read(
    workspace: Workspace,
    name: str,
    item: Input,
    found: Connection,
    scratch: Path | None = None,
) -> Iterator[_Read]:
    """Open the columns in use of a table."""
    choose = partial(used_columns, workspace.company, name)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        rows = TypedRows(Path(folder))
        notes: list[str] = []
        if found.kind == "sqlite":
            file = database_file(workspace, item, found)
            notes += sqlite.read(file, name, item, choose, rows)
        elif found.kind == "mysql":
            _driver(found, item).read(found, name, item, choose, rows)
        elif found.kind == "redshift":
            _warehouses(found, item).read_redshift(found, name, item, choose, rows)
        else:
            with _warehouses(found, item).batches(found, name, item, choose) as stream:
                yield _Read(stream)
            return
        notes += [f"{column}: values of several types, read as text" for column in rows.mixed]
        yield _Read(rows.reader(), rows, tuple(notes))


def _copy_postgres(
    connection: duckdb.DuckDBPyConnection,
    found: Connection,
    name: str,
    item: Input,
    choose: Choose,
) -> None:
    with tempfile.TemporaryDirectory(dir=scratch_folder(connection)) as folder:
        file = Path(folder) / "rows.csv"
        types = _driver(found, item).copy_table(found, name, item, file, choose)
        columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in (*types, f"{ROW}_end"))
        shown = ", ".join(f"CAST({ident(c)} AS {t}) AS {ident(c)}" for c, t in types.items())
        connection.execute(
            f"CREATE TABLE raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, {shown} "
            f"FROM read_csv({literal(file)}, "
            f"header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
            f"max_line_size = 67108864, columns = {{{columns}}})"
        )


def _driver(found: Connection, item: Input) -> ModuleType:
    """Import the reader of a server, whose driver is in an extra."""
    module, extra = MODULES[found.kind]
    try:
        return import_module(f"features.sources.files.databases.{module}")
    except ModuleNotFoundError as error:
        raise package_missing(item, found.kind, extra, error.name) from error


def _warehouses(found: Connection, item: Input) -> ModuleType:
    """Import the reader of warehouses, which needs ibis."""
    try:
        from features.sources.files.databases import warehouses
    except ModuleNotFoundError as error:
        raise package_missing(item, found.kind, found.kind, error.name) from error
    return warehouses
