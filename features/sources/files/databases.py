"""Source databases: DuckDB files attached read-only, PostgreSQL streamed in one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import duckdb

from configs.runtime.errors import ConfigError, SourceError, did_you_mean
from configs.schema.source_mapping import Input
from configs.schema.workspace import Workspace
from features.sources.files.sql import ROW, duckdb_errors, ident, literal, open_duckdb


def connection_url(workspace: Workspace, name: str, item: Input) -> str:
    """Return the URL of an input's connection.

    Raises
    ------
    ConfigError
        The environment has no URL for it, or one with another scheme.
    """
    connections = workspace.places.connections
    address = connections.get(str(item.connection))
    if address is None:
        hint = did_you_mean(str(item.connection), connections)
        raise ConfigError(
            f"input {name} uses the connection {item.connection}, which has no URL; "
            f"known: {', '.join(sorted(connections)) or 'none'}" + (f"; {hint}" if hint else ""),
            where=f"inputs.{name}.connection",
            fix=f"export BELLWETHER_CONNECTION_{str(item.connection).upper()}="
            "postgresql://USER@HOST/DATABASE   (or duckdb:///FILE)",
        )
    url = address.get_secret_value()
    scheme = urlsplit(url).scheme.split("+")[0]
    if scheme not in {"postgresql", "postgres", "duckdb"}:
        raise ConfigError(
            f"connection {item.connection} has the scheme {scheme!r}",
            where=f"BELLWETHER_CONNECTION_{str(item.connection).upper()}",
            fix="use postgresql://… or duckdb:///FILE",
        )
    return url


def database_paths(workspace: Workspace, name: str, item: Input) -> list[Path]:
    """Return the files of an input's database: a DuckDB file and its log, none for PostgreSQL."""
    url = connection_url(workspace, name, item)
    if not url.startswith("duckdb"):
        return []
    file = _file_of(workspace, item, url)
    return [file, file.with_name(f"{file.name}.wal")]


@dataclass(frozen=True)
class TableFingerprint:
    """Row count and order-independent hash of a database table."""

    table: str | None
    rows: int
    hash: str


def database_fingerprint(workspace: Workspace, name: str, item: Input) -> TableFingerprint:
    """Return the row count and an order-independent hash of a database table."""
    url = connection_url(workspace, name, item)
    if url.startswith("duckdb"):
        files = database_paths(workspace, name, item)
        with duckdb_errors(f"inputs.{name}"), open_duckdb(files=files) as connection:
            table = _attach(connection, workspace, name, item, url)
            query = f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0)::VARCHAR FROM {table} t"
            row = connection.execute(query).fetchone()
    else:
        row = _postgres().fingerprint(url, name, item)
    assert row is not None
    return TableFingerprint(item.table, int(row[0]), str(row[1]))


def stage_database(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, item: Input
) -> None:
    """Make a database table readable as ``raw.<name>``, with row numbers."""
    url = connection_url(workspace, name, item)
    numbered = f"AS SELECT row_number() OVER () AS {ROW}, "
    if url.startswith("duckdb"):
        table = _attach(connection, workspace, name, item, url)
        connection.execute(f"CREATE VIEW raw.{ident(name)} {numbered} * FROM {table}")
        return
    folder = Path(
        str(connection.execute("SELECT current_setting('temp_directory')").fetchall()[0][0])
    )
    file = folder / f"{name}.csv"
    types = _postgres().copy_table(url, name, item, file)
    columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in (*types, f"{ROW}_end"))
    shown = ", ".join(f"CAST({ident(c)} AS {t}) AS {ident(c)}" for c, t in types.items())
    connection.execute(
        f"CREATE TABLE raw.{ident(name)} {numbered} {shown} FROM read_csv({literal(file)}, "
        f"header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
        f"max_line_size = 67108864, columns = {{{columns}}})"
    )
    file.unlink()


def _attach(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, item: Input, url: str
) -> str:
    """Attach a DuckDB file read-only and return the SQL name of the input's table."""
    file = _file_of(workspace, item, url)
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
    schema, table = schema_and_table(item, "main")
    if f"{schema}.{table}" not in known:
        raise no_table(name, item, f"{schema}.{table}", known)
    return f"{ident(alias)}.{ident(schema)}.{ident(table)}"


def _file_of(workspace: Workspace, item: Input, url: str) -> Path:
    rest = url.removeprefix("duckdb:///")
    candidates = [Path(rest).expanduser(), workspace.data / rest, Path("/") / rest]
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        raise SourceError(
            f"the DuckDB file of connection {item.connection} does not exist",
            where="looked at, in order: " + ", ".join(str(path) for path in candidates),
            fix=f"correct BELLWETHER_CONNECTION_{str(item.connection).upper()}",
        )
    return file


def schema_and_table(item: Input, default: str) -> tuple[str, str]:
    """Return the schema and the table of an input; the schema is `default` if it names none."""
    schema, _, table = str(item.table).rpartition(".")
    return schema or default, table


def no_table(name: str, item: Input, wanted: str, known: list[str]) -> SourceError:
    """Return the error for a table that a connection does not have, with the tables it has."""
    hint = did_you_mean(wanted, known)
    return SourceError(
        f"connection {item.connection} has no table {wanted}; "
        + (hint or f"it has {len(known)}: {', '.join(known[:8])}"),
        where=f"inputs.{name}.table",
        fix="correct `table` in company.yaml, as schema.table",
    )


def _postgres() -> ModuleType:
    """Import the PostgreSQL reader, whose driver is in the extra ``postgres``."""
    try:
        from features.sources.files import postgres
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"PostgreSQL connections need the package {error.name}, which is not installed",
            fix="pip install 'bellwether-cs[postgres]'",
        ) from error
    return postgres
