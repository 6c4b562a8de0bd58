"""Raw inputs opened or staged in DuckDB.

Every CSV column is read as text, so no guessed type can lose a row; lines that do not fit the
header are kept as malformed lines. Parquet and database tables keep their types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from configs.runtime.errors import ConfigError, SourceError, did_you_mean
from configs.runtime.hashing import digest, file_digest
from configs.schema.source_mapping import Input
from configs.schema.workspace import Workspace
from features.sources.files import databases
from features.sources.files.csv_files import MAX_LINE, Cleaner, Head, Scan, csv_head, scan
from features.sources.files.sql import ROW, columns_of, duckdb_errors, ident, literal, text_list
from features.sources.manifest import FileFacts, Fingerprint, LineTotals

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")


@dataclass(frozen=True)
class LineCounts:
    """Line counts of CSV files below their headers, without empty lines.

    Attributes
    ----------
    total : int
        Lines in the files.
    kept : int
        Lines of records that became rows; a record may span several lines.
    set_aside : int
        Lines that fit no record.
    """

    total: int = 0
    kept: int = 0
    set_aside: int = 0

    @property
    def lost(self) -> int:
        """Lines that are neither kept nor set aside; must be 0."""
        return self.total - self.kept - self.set_aside

    def as_dict(self) -> LineTotals:
        """Return the counts as plain JSON values."""
        return {"total": self.total, "kept": self.kept, "set_aside": self.set_aside}


@dataclass(frozen=True)
class RawInput:
    """One input, opened.

    Attributes
    ----------
    name : str
        Its name in ``inputs``.
    place : str
        File, or connection and table, for messages.
    columns : dict of str to str
        Column → DuckDB type.
    rows : int
        Rows read, without malformed lines.
    malformed : int
        Lines that do not fit the header.
    lines : LineCounts
        Line counts of CSV files.
    notes : tuple of str
        Notes on the format of the files.
    """

    name: str
    place: str
    columns: dict[str, str]
    rows: int
    malformed: int
    lines: LineCounts = field(default_factory=LineCounts)
    notes: tuple[str, ...] = ()

    @property
    def relation(self) -> str:
        """SQL name of its rows with their row number."""
        return f"raw.{ident(self.name)}"

    @property
    def rejects(self) -> str:
        """SQL name of its malformed lines: ``line``, ``text``, ``why``."""
        return f"rejects.{ident(self.name)}"


def place_of(name: str, item: Input) -> str:
    """Return the place of an input for messages, without URL or secret."""
    if item.file is not None:
        return f"input {name}: file {item.file}"
    return f"input {name}: table {item.table} of connection {item.connection}"


def input_files(workspace: Workspace, name: str) -> list[Path]:
    """Return the files of a file input, sorted; a pattern may name several.

    Raises
    ------
    SourceError
        The file does not exist; the error names the closest one in its folder.
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
        f"the file of input {name} does not exist" + (f"; {hint}" if hint else ""),
        where=str(path),
        fix="correct `inputs` in company.yaml, or name the data folder with --data FOLDER",
    )


def paths_of(workspace: Workspace, name: str) -> list[Path]:
    """Return the files the engine opens to read an input."""
    if workspace.company.inputs[name].file is None:
        return databases.database_paths(workspace, name, workspace.company.inputs[name])
    return input_files(workspace, name)


def fingerprint(workspace: Workspace, name: str, known: Mapping[str, Fingerprint]) -> Fingerprint:
    """Return the identity of the content of an input.

    Parameters
    ----------
    workspace : Workspace
        The company and its folders.
    name : str
        The input.
    known : mapping
        Fingerprints of the last run by input; files with the same size and modification time are
        not read again.

    Returns
    -------
    Fingerprint
        ``content`` (the identity) and the facts behind it.
    """
    item = workspace.company.inputs[name]
    if item.file is None:
        facts = databases.database_fingerprint(workspace, name, item)
        content = digest({"table": facts.table, "rows": facts.rows, "hash": facts.hash})
        return {
            "content": content,
            "table": facts.table,
            "rows": facts.rows,
            "hash": facts.hash,
        }
    earlier = known[name].get("files", []) if name in known else []
    before = {file["file"]: file for file in earlier}
    files = [
        _file_facts(path, workspace.data, before.get(_relative(path, workspace.data)))
        for path in input_files(workspace, name)
    ]
    return {"content": digest([file["sha256"] for file in files]), "files": files}


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _file_facts(path: Path, folder: Path, before: FileFacts | None) -> FileFacts:
    stat = path.stat()
    if before is not None and (before["size"], before["mtime_ns"]) == (
        stat.st_size,
        stat.st_mtime_ns,
    ):
        return before
    return {
        "file": _relative(path, folder),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_digest(path),
    }


def open_input(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str) -> RawInput:
    """Make an input readable as ``raw.<name>`` (with row numbers) and as ``<name>`` (without)."""
    item = workspace.company.inputs[name]
    place = place_of(name, item)
    if item.file is not None:
        return open_files(connection, name, input_files(workspace, name), place)
    _prepare(connection, name)
    with duckdb_errors(place):
        databases.stage_database(connection, workspace, name, item)
    return _opened(connection, name, place, LineCounts(), ())


def open_files(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: Sequence[Path],
    place: str,
    *,
    any_ending: bool = False,
) -> RawInput:
    """Make files readable as ``raw.<name>`` (with row numbers) and as ``<name>`` (without).

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection to open them in.
    name : str
        Name of the input.
    files : sequence of Path
        CSV or Parquet.
    place : str
        For messages.
    any_ending : bool
        Files without a Parquet ending are read as CSV.

    Raises
    ------
    ConfigError
        A file is neither CSV nor Parquet.
    SourceError
        A file cannot be read, or the headers differ.
    """
    _prepare(connection, name)
    lines = LineCounts()
    notes: tuple[str, ...] = ()
    with duckdb_errors(place):
        if all(path.suffix.lower() in PARQUET_ENDINGS for path in files):
            _open_parquet(connection, name, files)
        elif any_ending or all(path.name.lower().endswith(CSV_ENDINGS) for path in files):
            lines, notes = _stage_csv(connection, name, files)
        else:
            raise ConfigError(
                f"input {name} is neither CSV nor Parquet",
                where=str(files[0]),
                fix=f"endings read: .parquet, {', '.join(CSV_ENDINGS)}",
            )
    return _opened(connection, name, place, lines, notes)


def _open_parquet(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> None:
    try:
        connection.execute(
            f"CREATE VIEW raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, * "
            f"FROM read_parquet({text_list(files)})"
        )
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise SourceError(
            f"{files[0].name} is not a readable Parquet file: {str(error).splitlines()[0]}",
            where=str(files[0]),
            fix="export it again; it may be truncated",
        ) from error


def _prepare(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
    connection.execute("CREATE SCHEMA IF NOT EXISTS rejects")
    connection.execute(
        f"CREATE OR REPLACE TABLE rejects.{ident(name)} (line BIGINT, text VARCHAR, why VARCHAR)"
    )


def _opened(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    place: str,
    lines: LineCounts,
    notes: tuple[str, ...],
) -> RawInput:
    with duckdb_errors(place):
        columns = columns_of(connection, f"SELECT * FROM raw.{ident(name)}")
        columns.pop(ROW)
        shown = ", ".join(ident(column) for column in columns)
        connection.execute(f"CREATE VIEW {ident(name)} AS SELECT {shown} FROM raw.{ident(name)}")
        rows = _count(connection, f"raw.{ident(name)}")
        malformed = _count(connection, f"rejects.{ident(name)}")
    return RawInput(name, place, columns, rows, malformed, lines, notes)


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    return int(row[0]) if row else 0


def _stage_csv(
    connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]
) -> tuple[LineCounts, tuple[str, ...]]:
    """Read CSV files into ``raw.<name>``, and lines that fit no record into ``rejects.<name>``."""
    parts = [_part(path) for path in files]
    first = parts[0].head
    for part in parts:
        if part.head.columns != first.columns:
            raise SourceError(
                f"the files of input {name} have different headers: "
                f"{first.columns} and {part.head.columns}",
                where=str(part.path),
                fix="give each its own input and join them with `sql`",
            )
    scratch = Path(
        str(connection.execute("SELECT current_setting('temp_directory')").fetchall()[0][0])
    )
    with tempfile.TemporaryDirectory(dir=scratch if scratch.is_dir() else None) as folder:
        odd = {part.path for part in parts if not part.is_plain_like(first)}
        lines = _read_parts(connection, name, parts, odd, Path(folder))
        if len(odd) < len(parts) and (lines.lost or _may_be_split(lines, parts)):
            connection.execute(f"DELETE FROM rejects.{ident(name)}")
            every = {part.path for part in parts}
            lines = _read_parts(connection, name, parts, every, Path(folder))
    return lines, tuple(f"{p.path.name}: {p.scan.note}" for p in parts if p.scan.note)


@dataclass(frozen=True)
class _Part:
    """One file of an input."""

    path: Path
    scan: Scan
    head: Head

    def is_plain_like(self, first: Head) -> bool:
        """Whether DuckDB can read the file directly with the header of the first one."""
        is_short = self.scan.longest < MAX_LINE
        return self.scan.is_plain and is_short and self.head == first and first.is_plain


def _part(path: Path) -> _Part:
    found = scan(path)
    return _Part(path, found, csv_head(path, found.encoding))


def _may_be_split(lines: LineCounts, parts: Sequence[_Part]) -> bool:
    """Whether an open quote may have split records: rejected lines in a file with quotes."""
    return bool(lines.set_aside) and any(part.scan.has_quotes for part in parts)


def _read_parts(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    parts: Sequence[_Part],
    odd: set[Path],
    folder: Path,
) -> LineCounts:
    """Read plain files directly and the odd ones as clean copies; return the line counts."""
    head, paths, copies = parts[0].head, [], []
    for number, part in enumerate(parts):
        if part.path not in odd:
            paths.append(part.path)
            continue
        copies.append(cleaner := Cleaner(part.head, head.delimiter))
        paths.append(folder / f"{number}.csv")
        cleaner.write(part.path, part.scan.encoding, paths[-1])
        if cleaner.rejects:
            rows = [[item.line, item.text, item.why] for item in cleaner.rejects]
            connection.executemany(f"INSERT INTO rejects.{ident(name)} VALUES (?, ?, ?)", rows)
    rejected = _read_csv(connection, name, paths, head)
    plain = [part for part in parts if part.path not in odd]
    below = sum(part.scan.lines - part.head.lines for part in plain)
    records, taken = (sum(getattr(c, key) for c in copies) for key in ("records", "record_lines"))
    return LineCounts(
        below + sum(cleaner.lines for cleaner in copies),
        _count(connection, f"raw.{ident(name)}") - records + taken,
        rejected + sum(len(cleaner.rejects) for cleaner in copies),
    )


def _read_csv(
    connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path], head: Head
) -> int:
    """Read files of one header into ``raw.<name>``; return the number of rejected lines."""
    columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in head.columns)
    rejects = f"bw_rejects_{name}"
    for table in (rejects, f"{rejects}_scan"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(
        f"CREATE OR REPLACE TABLE raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, * "
        f"FROM read_csv({text_list(paths)}, header = true, auto_detect = false, "
        f"delim = {literal(head.delimiter)}, quote = '\"', escape = '\"', "
        f"columns = {{{columns}}}, max_line_size = {4 * MAX_LINE}, "
        f"store_rejects = true, rejects_table = '{rejects}', rejects_scan = '{rejects}_scan')"
    )
    connection.execute(
        f"INSERT INTO rejects.{ident(name)} SELECT line, trim(any_value(csv_line), chr(10)), "
        f"min(error_message) FROM {rejects} GROUP BY file_id, line "
        f"HAVING trim(any_value(csv_line), chr(10) || chr(13) || ' ') <> '' ORDER BY line"
    )
    return _count(connection, f"(SELECT DISTINCT file_id, line FROM {rejects})")
