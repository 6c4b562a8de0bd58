"""DuckDB files as inputs, attached read-only."""

from __future__ import annotations

from pathlib import Path

import duckdb

from configs.schema.source_mapping import Input
from features.sources.files.databases.connections import no_table, schema_and_table
from features.sources.files.sql import columns_of, ident, literal, open_duckdb


def attach(connection: duckdb.DuckDBPyConnection, file: Path, name: str, item: Input) -> str:
    """Attach a DuckDB file read-only and return the SQL name of the input's table.

    Raises
    ------
    SourceError
        The file has no such table.
    """
    alias, known = _attached(connection, file, item)
    schema, table = schema_and_table(item, "main")
    if f"{schema}.{table}" not in known:
        raise no_table(name, item, f"{schema}.{table}", known)
    return f"{ident(alias)}.{ident(schema)}.{ident(table)}"


def table_names(file: Path, item: Input) -> list[str]:
    """Return the tables of a file as schema.table."""
    with open_duckdb(files=[file, file.with_name(f"{file.name}.wal")]) as connection:
        return _attached(connection, file, item)[1]


def _attached(
    connection: duckdb.DuckDBPyConnection, file: Path, item: Input
) -> tuple[str, list[str]]:
    """Attach a file once; return its name in SQL and its tables."""
    alias = f"bw_db_{item.connection}"
    attached = {
        row[0]
        for row in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()
    }
    if alias not in attached:
        connection.execute(f"ATTACH {literal(file)} AS {ident(alias)} (READ_ONLY)")
    known = [
        f"{row[0]}.{row[1]}"
        for row in connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = ?",
            [alias],
        ).fetchall()
    ]
    return alias, sorted(known)


def columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Return the columns of a table."""
    return list(columns_of(connection, f"SELECT * FROM {table}"))
