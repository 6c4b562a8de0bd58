"""Common parts of the readers: line counts, rejected lines and the folder for copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from features.sources.files.sql import ident
from features.sources.manifest import LineTotals


@dataclass(frozen=True)
class Reject:
    """A line, or an element of a JSON array, that fits no record, with the reason."""

    line: int
    text: str
    why: str


@dataclass(frozen=True)
class LineCounts:
    """Line counts of text files and workbooks below their headers, without empty lines.

    Elements of a JSON array and rows of a sheet count as lines.

    Attributes
    ----------
    total : int
        Lines in the files.
    kept : int
        Lines of records that became rows; a record of a CSV file may span several lines.
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
class Staged:
    """Result of reading files into ``raw.<name>``: line counts, and notes on the format."""

    lines: LineCounts = field(default_factory=LineCounts)
    notes: tuple[str, ...] = ()


def prepare_schemas(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Create the schemas of raw rows and rejected lines, and the empty table of the latter."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
    connection.execute("CREATE SCHEMA IF NOT EXISTS rejects")
    connection.execute(
        f"CREATE OR REPLACE TABLE rejects.{ident(name)} (line BIGINT, text VARCHAR, why VARCHAR)"
    )


def keep_rejects(
    connection: duckdb.DuckDBPyConnection, name: str, rejects: Sequence[Reject]
) -> None:
    """Add lines to ``rejects.<name>``."""
    if rejects:
        rows = [[item.line, item.text, item.why] for item in rejects]
        connection.executemany(f"INSERT INTO rejects.{ident(name)} VALUES (?, ?, ?)", rows)


def count_rows(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """Return the number of rows of a relation."""
    return int(connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])


def scratch_folder(connection: duckdb.DuckDBPyConnection) -> Path | None:
    """Return the folder for copies that live as long as the connection; None in memory."""
    # All rows are fetched: an open result would block other statements.
    rows = connection.execute("SELECT current_setting('temp_directory')").fetchall()
    folder = Path(str(rows[0][0]))
    return folder if folder.is_dir() else None
