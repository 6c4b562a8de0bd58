"""SQL helpers: quoting, locked DuckDB connections and error conversion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from configs.runtime.errors import SourceError

SqlNode = dict[str, Any]
"""Node of the JSON syntax tree of DuckDB."""

ROW = "_bw_row"
"""Row number in the source relation, from 1."""


_LOCKED_DOWN: Mapping[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
"""Settings that forbid downloads and access to Python variables from queries."""


def open_duckdb(
    place: Path | None = None,
    *,
    files: Iterable[Path] = (),
    folders: Iterable[Path] = (),
    threads: int | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a locked DuckDB in UTC with access to the named files and folders only.

    Statements cannot open other files, load extensions or change settings.

    Parameters
    ----------
    place : Path or None
        Database file; None for a database in memory. Spill files go to its folder.
    files : iterable of Path
        Files it may open, with the paths used in queries.
    folders : iterable of Path
        Folders it may read and write.
    threads : int or None
        Number of threads; None for one per core.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        **_LOCKED_DOWN,
        **({"threads": threads} if threads else {}),
    }
    connection = duckdb.connect(str(place or ":memory:"), config=config)
    if place is not None:
        connection.execute(f"SET temp_directory = {literal(place.parent)}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = {text_list(files)}")
    connection.execute(f"SET allowed_directories = {text_list(f'{item}/' for item in folders)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@contextmanager
def scratch_duckdb(files: Iterable[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a locked DuckDB with access to some files and to a temporary folder for its work."""
    with TemporaryDirectory(prefix="bellwether-") as folder:
        connection = open_duckdb(Path(folder) / "work.duckdb", files=files, folders=[Path(folder)])
        try:
            yield connection
        finally:
            connection.close()


def ident(name: str) -> str:
    """Quote a name.

    >>> print(ident('a "b" c'))
    "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """Quote a text value.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + str(value).replace("'", "''") + "'"


def text_list(values: Iterable[object]) -> str:
    """Return a SQL list of texts.

    >>> text_list(["a", "b"])
    "['a', 'b']"
    """
    return "[" + ", ".join(literal(value) for value in values) + "]"


def columns_of(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """Return column name → DuckDB type of a query, without running it."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {query}").fetchall()}


def one_row(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """Run a query that yields one row and return it by column name."""
    cursor = connection.execute(query)
    names = [item[0] for item in cursor.description]
    row = cursor.fetchone()
    return dict(zip(names, row or (None,) * len(names), strict=True))


@contextmanager
def duckdb_errors(where: str, fix: str = "") -> Iterator[None]:
    """Convert errors of DuckDB into a `SourceError` with the place of the error."""
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(_first_lines(str(error)), where=where, fix=fix) from error


def _first_lines(message: str) -> str:
    return "\n".join(line for line in message.splitlines() if line.strip())[:800]
