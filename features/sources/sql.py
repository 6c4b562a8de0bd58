"""Small pieces of SQL: quoting, and turning DuckDB's errors into ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from configs.errors import SourceError

ROW = "_bw_row"
"""Number of a row in the relation it was read from, from 1."""


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
def reading(where: str, fix: str = "") -> Iterator[None]:
    """Turn an error of DuckDB into a `SourceError` that says where it happened."""
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(_first_lines(str(error)), where=where, fix=fix) from error


def _first_lines(message: str) -> str:
    return "\n".join(line for line in message.splitlines() if line.strip())[:800]
