"""Raw inputs as they lie somewhere: files opened or staged in DuckDB, text first.

CSV is read with every column as text, so that no guessed type can lose a row; lines that do not
fit the header are kept aside as malformed. Parquet and database tables keep their types.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from configs.company import Input
from configs.errors import ConfigError, SourceError, did_you_mean
from configs.hashing import digest, file_digest
from configs.places import Workspace
from features.sources import databases
from features.sources.sql import ROW, columns_of, ident, literal, reading, text_list

CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")
DELIMITERS = (",", ";", "\t", "|")
HEAD_BYTES = 1_000_000


@dataclass(frozen=True)
class RawInput:
    """One input, opened.

    Attributes
    ----------
    name : str
        Its name in ``inputs``.
    place : str
        File or connection and table, for messages.
    columns : dict of str to str
        Column → DuckDB type.
    rows : int
        Rows read, without malformed lines.
    malformed : int
        Lines that do not fit the header.
    """

    name: str
    place: str
    columns: dict[str, str]
    rows: int
    malformed: int

    @property
    def relation(self) -> str:
        """The SQL name of its rows with their row number."""
        return f"raw.{ident(self.name)}"

    @property
    def rejects(self) -> str:
        """The SQL name of its malformed lines: ``line``, ``text``, ``why``."""
        return f"rejects.{ident(self.name)}"


def place_of(name: str, item: Input) -> str:
    """Say where an input lies, without any address or secret."""
    if item.file is not None:
        return f"input {name}: file {item.file}"
    return f"input {name}: table {item.table} of connection {item.connection}"


def files_of(workspace: Workspace, name: str) -> list[Path]:
    """Return the files of a file input, sorted; a pattern may name several.

    Raises
    ------
    SourceError
        No file there, naming the closest one in its folder.
    """
    pattern = str(workspace.company.inputs[name].file)
    path = workspace.data / pattern
    if path.is_file():
        return [path]
    found = sorted(p for p in workspace.data.glob(pattern) if p.is_file()) if "*" in pattern else []
    if found:
        return found
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    raise SourceError(
        f"the file of input {name} is not there" + (f"; {hint}" if hint else ""),
        where=str(path),
        fix="correct `inputs` in company.yaml, or name the data folder with --data FOLDER",
    )


def paths_of(workspace: Workspace, name: str) -> list[Path]:
    """Return every file the engine opens to read an input."""
    if workspace.company.inputs[name].file is None:
        return databases.paths_of(workspace, name, workspace.company.inputs[name])
    return files_of(workspace, name)


def fingerprint(
    workspace: Workspace, name: str, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what identifies the content of an input.

    Parameters
    ----------
    workspace : Workspace
        The company and its places.
    name : str
        The input.
    known : mapping
        Fingerprints of the last run by input; a file of the same size and modification time is
        not read again.

    Returns
    -------
    dict
        ``content`` (the identity), and what it was computed from.
    """
    item = workspace.company.inputs[name]
    if item.file is None:
        facts = databases.fingerprint(workspace, name, item)
        return {"content": digest(facts), **facts}
    before = {str(file["file"]): file for file in known.get(name, {}).get("files", [])}
    files = [
        _file_facts(path, workspace.data, before.get(_relative(path, workspace.data)))
        for path in files_of(workspace, name)
    ]
    return {"content": digest([file["sha256"] for file in files]), "files": files}


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _file_facts(path: Path, folder: Path, before: Mapping[str, Any] | None) -> dict[str, Any]:
    stat = path.stat()
    facts = {"file": _relative(path, folder), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if before is not None and all(before.get(key) == value for key, value in facts.items()):
        return dict(before)
    return {**facts, "sha256": file_digest(path)}


def open_input(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str) -> RawInput:
    """Make an input readable as ``raw.<name>`` (with row numbers) and as ``<name>`` (without)."""
    item = workspace.company.inputs[name]
    place = place_of(name, item)
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
    connection.execute("CREATE SCHEMA IF NOT EXISTS rejects")
    connection.execute(
        f"CREATE TABLE rejects.{ident(name)} (line BIGINT, text VARCHAR, why VARCHAR)"
    )
    with reading(place):
        if item.file is None:
            databases.stage(connection, workspace, name, item)
        else:
            _open_files(connection, name, files_of(workspace, name))
        columns = columns_of(connection, f"SELECT * FROM raw.{ident(name)}")
        columns.pop(ROW)
        shown = ", ".join(ident(column) for column in columns)
        connection.execute(f"CREATE VIEW {ident(name)} AS SELECT {shown} FROM raw.{ident(name)}")
        rows = _count(connection, f"raw.{ident(name)}")
        malformed = _count(connection, f"rejects.{ident(name)}")
    return RawInput(name, place, columns, rows, malformed)


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    return int(row[0]) if row else 0


def _open_files(connection: duckdb.DuckDBPyConnection, name: str, files: list[Path]) -> None:
    if all(path.suffix.lower() == ".parquet" for path in files):
        connection.execute(
            f"CREATE VIEW raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, * "
            f"FROM read_parquet({text_list(files)})"
        )
    elif all(path.name.lower().endswith(CSV_ENDINGS) for path in files):
        _stage_csv(connection, name, files)
    else:
        raise ConfigError(
            f"input {name} is neither CSV nor Parquet",
            where=str(files[0]),
            fix=f"endings read: .parquet, {', '.join(CSV_ENDINGS)}",
        )


def _stage_csv(connection: duckdb.DuckDBPyConnection, name: str, files: list[Path]) -> None:
    heads = [csv_head(path) for path in files]
    delimiter, header = heads[0]
    for path, head in zip(files, heads, strict=True):
        if head != heads[0]:
            raise SourceError(
                f"the files of input {name} have different headers: {header} and {head[1]}",
                where=str(path),
                fix="give each its own input and join them with `sql`",
            )
    columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in header)
    rejects = f"bw_rejects_{name}"
    connection.execute(
        f"CREATE TABLE raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, * "
        f"FROM read_csv({text_list(files)}, header = true, auto_detect = false, "
        f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}}, "
        f"store_rejects = true, rejects_table = '{rejects}', rejects_scan = '{rejects}_scan')"
    )
    # An open quote swallows the lines after it into one record: each of them is counted.
    connection.execute(
        f"INSERT INTO rejects.{ident(name)} SELECT line, text, why FROM ("
        f"SELECT line, unnest(string_split_regex(any_value(csv_line), '\\r?\\n')) AS text, "
        f"min(error_message) AS why FROM {rejects} GROUP BY file_id, line) "
        f"WHERE trim(text) <> '' ORDER BY line"
    )


def csv_head(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the column names of a CSV file.

    Raises
    ------
    SourceError
        The file is empty, not UTF-8, or names a column twice.
    """
    opener = gzip.open if path.suffix.lower() == ".gz" else Path.open
    with opener(path, "rb") as handle:
        head = handle.read(HEAD_BYTES)
    try:
        text = head.decode("utf-8-sig", errors="strict" if len(head) < HEAD_BYTES else "replace")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"the file is not UTF-8: {error}",
            where=str(path),
            fix="save it as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error
    if not text.strip():
        raise SourceError(
            "the file is empty, it has not even a header",
            where=str(path),
            fix="export it again; a table without rows still has its header, or is left out of "
            "`inputs`",
        )
    first = text.splitlines()[0]
    delimiter = max(DELIMITERS, key=first.count)
    names = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=delimiter))]
    header = tuple(name or f"column_{number}" for number, name in enumerate(names, start=1))
    twice = sorted({name for name in header if [h.lower() for h in header].count(name.lower()) > 1})
    if twice:
        raise SourceError(f"the header names a column twice: {', '.join(twice)}", where=str(path))
    return delimiter, header
