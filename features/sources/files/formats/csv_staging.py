"""CSV files read into DuckDB: every column as text, and lines that fit no record kept aside."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from configs.runtime.errors import SourceError
from features.sources.files.formats.csv_files import MAX_LINE, Cleaner, Head, Scan, csv_head, scan
from features.sources.files.sql import ROW, ident, literal, text_list
from features.sources.files.staged import (
    LineCounts,
    Staged,
    count_rows,
    keep_rejects,
    scratch_folder,
)


def stage_csv(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: Sequence[Path],
    partitions: Sequence[str] = (),
) -> Staged:
    """Read CSV files into ``raw.<name>``, and lines that fit no record into ``rejects.<name>``.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with access to the files and to its work folder.
    name : str
        Name of the input.
    files : sequence of Path
        Files of one header.
    partitions : sequence of str
        Partition columns, from folders named ``key=value``.

    Raises
    ------
    SourceError
        A file cannot be read, or the headers differ.
    """
    parts = [_part(path) for path in files]
    first = parts[0].head
    for part in parts:
        check_same_header(name, part.path, first.columns, part.head.columns)
    with tempfile.TemporaryDirectory(dir=scratch_folder(connection)) as folder:
        reading = _Reading(connection, name, Path(folder), bool(partitions))
        odd = {part.path for part in parts if not part.is_plain_like(first)}
        lines = reading.read(parts, odd)
        if len(odd) < len(parts) and (lines.lost or _may_be_split(lines, parts)):
            connection.execute(f"DELETE FROM rejects.{ident(name)}")
            lines = reading.read(parts, {part.path for part in parts})
    return Staged(lines, tuple(f"{p.path.name}: {p.scan.note}" for p in parts if p.scan.note))


def check_same_header(name: str, path: Path, first: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse files of one input with different headers."""
    if list(columns) != list(first):
        raise SourceError(
            f"the files of input {name} have different headers: {tuple(first)} and "
            f"{tuple(columns)}",
            where=str(path),
            fix="give each its own input and join them with `sql`",
        )


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


@dataclass(frozen=True)
class _Reading:
    """Reads the files of one input.

    Attributes
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection to read them in.
    name : str
        Name of the input.
    folder : Path
        Folder for clean copies.
    is_partitioned : bool
        The paths have partition columns.
    """

    connection: duckdb.DuckDBPyConnection
    name: str
    folder: Path
    is_partitioned: bool

    def read(self, parts: Sequence[_Part], odd: set[Path]) -> LineCounts:
        """Read plain files directly and the odd ones as clean copies; return the line counts."""
        head, paths, copies = parts[0].head, [], []
        for number, part in enumerate(parts):
            if part.path not in odd:
                paths.append(part.path)
                continue
            copies.append(cleaner := Cleaner(part.head, head.delimiter))
            paths.append(self._copy_path(part.path, number))
            cleaner.write(part.path, part.scan.encoding, paths[-1])
            keep_rejects(self.connection, self.name, cleaner.rejects)
        rejected = self._read_csv(paths, head)
        plain = [part for part in parts if part.path not in odd]
        below = sum(part.scan.lines - part.head.lines for part in plain)
        records, taken = (
            sum(getattr(c, key) for c in copies) for key in ("records", "record_lines")
        )
        return LineCounts(
            below + sum(cleaner.lines for cleaner in copies),
            count_rows(self.connection, f"raw.{ident(self.name)}") - records + taken,
            rejected + sum(len(cleaner.rejects) for cleaner in copies),
        )

    def _copy_path(self, path: Path, number: int) -> Path:
        """Return the path of a clean copy, in the same partition."""
        inner = [part for part in path.parts[:-1] if "=" in part] if self.is_partitioned else []
        copy = self.folder.joinpath(str(number), *inner, f"{number}.csv")
        copy.parent.mkdir(parents=True, exist_ok=True)
        return copy

    def _read_csv(self, paths: Sequence[Path], head: Head) -> int:
        """Read files of one header into ``raw.<name>``; return the number of rejected lines."""
        columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in head.columns)
        hive = ", hive_partitioning = true, hive_types_autocast = false"
        rejects = f"bw_rejects_{self.name}"
        for table in (rejects, f"{rejects}_scan"):
            self.connection.execute(f"DROP TABLE IF EXISTS {table}")
        self.connection.execute(
            f"CREATE OR REPLACE TABLE raw.{ident(self.name)} AS "
            f"SELECT row_number() OVER () AS {ROW}, * "
            f"FROM read_csv({text_list(paths)}, header = true, auto_detect = false, "
            f"delim = {literal(head.delimiter)}, quote = '\"', escape = '\"', "
            f"columns = {{{columns}}}, max_line_size = {4 * MAX_LINE}, "
            f"store_rejects = true, rejects_table = '{rejects}', rejects_scan = '{rejects}_scan'"
            f"{hive if self.is_partitioned else ''})"
        )
        self.connection.execute(
            f"INSERT INTO rejects.{ident(self.name)} "
            f"SELECT line, trim(any_value(csv_line), chr(10)), "
            f"min(error_message) FROM {rejects} GROUP BY file_id, line "
            f"HAVING trim(any_value(csv_line), chr(10) || chr(13) || ' ') <> '' ORDER BY line"
        )
        return count_rows(self.connection, f"(SELECT DISTINCT file_id, line FROM {rejects})")
