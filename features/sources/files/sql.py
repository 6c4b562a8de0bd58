"""Small pieces of SQL: quoting, and turning DuckDB's errors into ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from configs.runtime.errors import SourceError

ROW = "_bw_row"
"""Number of a row in the relation it was read from, from 1."""


_CLOSED: Mapping[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
"""Nothing is downloaded, and no name in a query stands for a variable of this program."""


def open_duckdb(
    place: Path | None = None,
    *,
    files: Iterable[Path] = (),
    folders: Iterable[Path] = (),
    threads: int | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB that speaks UTC, reaches the named files and folders only, and is locked.

    No statement can open anything else, load an extension or change a setting afterwards.

    Parameters
    ----------
    place : Path or None
        Its database file; None keeps it in memory. What does not fit there spills beside it.
    files : iterable of Path
        Files it may open, named as the queries name them.
    folders : iterable of Path
        Folders it may read and write.
    threads : int or None
        How many it uses; None is one per core.
    """
    config: dict[str, Any] = {**_CLOSED, **({"threads": threads} if threads else {})}
    connection = duckdb.connect(str(place or ":memory:"), config=config)
    if place is not None:
        connection.execute(f"SET temp_directory = {literal(place.parent)}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = {text_list(files)}")
    connection.execute(f"SET allowed_directories = {text_list(f'{item}/' for item in folders)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


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
    """Turn an error of DuckDB into a `SourceError` that says where it happened."""
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(_first_lines(str(error)), where=where, fix=fix) from error


def _first_lines(message: str) -> str:
    return "\n".join(line for line in message.splitlines() if line.strip())[:800]
