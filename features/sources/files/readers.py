"""Raw inputs opened or staged in DuckDB.

Every CSV column is read as text, so no guessed type can lose a row; lines that do not fit the
header are kept as malformed lines. All other files, and database tables, keep their types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from configs.runtime.errors import ConfigError, SourceError
from configs.runtime.hashing import digest
from configs.schema.source_mapping import Input
from configs.schema.workspace import Workspace
from features.sources.files import locations
from features.sources.files.databases import tables
from features.sources.files.formats import excel, json_files, zip_files
from features.sources.files.formats.csv_staging import check_same_header, stage_csv
from features.sources.files.formats.typed_rows import TypedRows, stage_rows
from features.sources.files.sql import ROW, columns_of, duckdb_errors, ident, literal, text_list
from features.sources.files.staged import (
    LineCounts,
    Staged,
    count_rows,
    keep_rejects,
    prepare_schemas,
    scratch_folder,
)
from features.sources.manifest import Fingerprint

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")

ENDINGS: dict[str, tuple[str, ...]] = {
    "Parquet": PARQUET_ENDINGS,
    "CSV": CSV_ENDINGS,
    "JSON": json_files.ENDINGS,
    "Excel": excel.ENDINGS,
}
"""Format → endings of its files."""


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
        Lines that do not fit the header, or are no JSON object.
    lines : LineCounts
        Line counts of text files and workbooks.
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
        return f"input {name}: file {', '.join(item.files)}"
    return f"input {name}: table {item.table} of connection {item.connection}"


def paths_of(workspace: Workspace, name: str) -> list[Path]:
    """Return the local files the engine opens to read an input."""
    item = workspace.company.inputs[name]
    if item.file is None:
        return tables.database_paths(workspace, name, item)
    return locations.local_files(workspace.data, name, item)


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
    if item.file is not None:
        return locations.files_fingerprint(workspace.data, name, item, known)
    facts = tables.database_fingerprint(workspace, name, item)
    content = digest({"table": facts.table, "rows": facts.rows, "hash": facts.hash})
    return {"content": content, "table": facts.table, "rows": facts.rows, "hash": facts.hash}


def open_input(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str) -> RawInput:
    """Make an input readable as ``raw.<name>`` (with row numbers) and as ``<name>`` (without)."""
    item = workspace.company.inputs[name]
    place = place_of(name, item)
    if item.file is not None:
        files = locations.local_files(workspace.data, name, item)
        stored = locations.stored_files(name, item)
        if stored:
            files += locations.copy_all_stored(name, stored, _own_folder(connection, name))
        return open_files(connection, name, files, place, sheet=item.sheet)
    prepare_schemas(connection, name)
    with duckdb_errors(place):
        notes = tables.stage_database(connection, workspace, name, item)
    return _opened(connection, name, place, Staged(notes=notes))


def _own_folder(connection: duckdb.DuckDBPyConnection, name: str) -> Path:
    """Return a new folder for files of an input that lives as long as the connection."""
    return Path(tempfile.mkdtemp(dir=scratch_folder(connection), prefix=f"{name}."))


def open_files(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: Sequence[Path],
    place: str,
    *,
    sheet: str | None = None,
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
        Files of one format; see `ENDINGS`. ZIP files are replaced by their content.
    place : str
        For messages.
    sheet : str or None
        Sheet of a workbook.
    any_ending : bool
        Files with an unknown ending are read as CSV.

    Raises
    ------
    ConfigError
        A file has an unknown ending, or the files have different formats.
    SourceError
        A file cannot be read, or the headers differ.
    """
    prepare_schemas(connection, name)
    with duckdb_errors(place):
        if any(path.name.lower().endswith(zip_files.ENDING) for path in files):
            files = locations.unpacked(files, _own_folder(connection, name))
        kind = _format_of(name, files, "CSV" if any_ending else "")
        _check_sheet(name, sheet, kind)
        partitions = locations.common_partitions(name, files)
        if kind == "Parquet":
            staged = _open_parquet(connection, name, files, is_partitioned=bool(partitions))
        elif kind == "CSV":
            staged = stage_csv(connection, name, files, partitions)
        elif kind == "JSON":
            staged = _stage_json(connection, name, files)
        else:
            staged = _stage_excel(connection, name, files, sheet)
    return _opened(connection, name, place, staged)


def _format_of(name: str, files: Sequence[Path], default: str) -> str:
    """Return the one format of files."""
    kinds: dict[str, Path] = {}
    for path in files:
        excel.refuse_other_workbook(path)
        text = path.name.lower()
        found = next((kind for kind, ends in ENDINGS.items() if text.endswith(ends)), default)
        if not found:
            raise ConfigError(
                f"input {name} has a file of a format that is not read: {path.name}",
                where=str(path),
                fix="endings read: "
                + "; ".join(f"{kind} {', '.join(ends)}" for kind, ends in ENDINGS.items())
                + f"; {zip_files.ENDING} with such files inside",
            )
        kinds.setdefault(found, path)
    if len(kinds) > 1:
        raise ConfigError(
            f"input {name} has files of several formats: "
            + ", ".join(f"{path.name} ({kind})" for kind, path in kinds.items()),
            where=str(files[0].parent),
            fix="give each format its own input, or narrow the pattern, as in usage/*.parquet",
        )
    return next(iter(kinds))


def _check_sheet(name: str, sheet: str | None, kind: str) -> None:
    if sheet is not None and kind != "Excel":
        raise ConfigError(
            f"input {name} names a sheet, but its file is {kind}",
            where=f"inputs.{name}.sheet in company.yaml",
            fix="remove `sheet`",
        )


def _open_parquet(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: Sequence[Path],
    *,
    is_partitioned: bool,
) -> Staged:
    # By name: columns that only later files have are kept, and types that differ are widened.
    options = ", union_by_name = true" if len(files) > 1 else ""
    if is_partitioned:
        options += ", hive_partitioning = true, hive_types_autocast = false"
    try:
        connection.execute(
            f"CREATE VIEW raw.{ident(name)} AS SELECT row_number() OVER () AS {ROW}, * "
            f"FROM read_parquet({text_list(files)}{options})"
        )
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        damaged = _first_damaged(connection, files) or files[0]
        raise SourceError(
            f"{damaged.name} is not a readable Parquet file: {str(error).splitlines()[0]}",
            where=str(damaged),
            fix="export it again; it may be truncated",
        ) from error
    return Staged(notes=_lacking(connection, files) if len(files) > 1 else ())


def _first_damaged(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> Path | None:
    for path in files:
        try:
            connection.execute(f"SELECT 1 FROM parquet_file_metadata({literal(path)})")
        except duckdb.Error:
            return path
    return None


def _lacking(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> tuple[str, ...]:
    """Return a note for each column that some files lack."""
    rows = connection.execute(
        f"SELECT name, count(DISTINCT file_name) AS n FROM parquet_schema({text_list(files)}) "
        f"WHERE column_id IS NOT NULL GROUP BY name HAVING n < {len(files)} ORDER BY name"
    ).fetchall()
    return tuple(
        f"{column}: {len(files) - n:,} of {len(files):,} files lack it; it is empty in their rows"
        for column, n in rows
    )


def _stage_json(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> Staged:
    with tempfile.TemporaryDirectory(dir=scratch_folder(connection)) as folder:
        partitions = [locations.partitions_of(path) for path in files]
        read = json_files.read_json_files(files, partitions, Path(folder))
        stage_rows(connection, name, read.rows)
    keep_rejects(connection, name, read.rejects)
    kept = count_rows(connection, f"raw.{ident(name)}")
    notes = [*_mixed_notes(read.rows)]
    notes += [f"{key}: kept as JSON text, its objects have many keys" for key in read.as_text]
    return Staged(LineCounts(read.lines, kept, len(read.rejects)), tuple(notes))


def _stage_excel(
    connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path], sheet: str | None
) -> Staged:
    notes: list[str] = []
    with tempfile.TemporaryDirectory(dir=scratch_folder(connection)) as folder:
        rows = TypedRows(Path(folder))
        first: tuple[str, ...] = ()
        for path in files:
            found = excel.open_sheet(path, sheet)
            first = first or found.columns
            check_same_header(name, path, first, found.columns)
            excel.add_sheet(found, locations.partitions_of(path), rows)
            notes += [f"{path.name}: {note}" for note in found.notes]
        stage_rows(connection, name, rows)
    kept = count_rows(connection, f"raw.{ident(name)}")
    return Staged(LineCounts(rows.rows, kept, 0), (*notes, *_mixed_notes(rows)))


def _mixed_notes(rows: TypedRows) -> list[str]:
    return [f"{column}: values of several types, read as text" for column in rows.mixed]


def _opened(
    connection: duckdb.DuckDBPyConnection, name: str, place: str, staged: Staged
) -> RawInput:
    with duckdb_errors(place):
        columns = columns_of(connection, f"SELECT * FROM raw.{ident(name)}")
        columns.pop(ROW)
        shown = ", ".join(ident(column) for column in columns)
        connection.execute(f"CREATE VIEW {ident(name)} AS SELECT {shown} FROM raw.{ident(name)}")
        rows = count_rows(connection, f"raw.{ident(name)}")
        malformed = count_rows(connection, f"rejects.{ident(name)}")
    return RawInput(name, place, columns, rows, malformed, staged.lines, staged.notes)
