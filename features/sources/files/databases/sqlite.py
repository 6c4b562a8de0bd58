"""SQLite tables as inputs, read in one read-only transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from configs.runtime.errors import SourceError
from configs.schema.source_mapping import Input
from features.sources.files.databases.connections import no_table, schema_and_table
from features.sources.files.formats.typed_rows import TypedRows
from features.sources.files.sql import ident


class _Decoder:
    """Decodes texts, and counts those that are not UTF-8."""

    def __init__(self) -> None:
        self.broken = 0

    def __call__(self, value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            self.broken += 1
            return value.decode("utf-8", "replace")


def count(file: Path, name: str, item: Input) -> int:
    """Return the number of rows of a table."""
    with _session(file, name, item) as session:
        row = session.execute(f"SELECT count(*) FROM {_table(session, name, item)}").fetchone()
    return int(row[0])


def read(
    file: Path,
    name: str,
    item: Input,
    choose: Callable[[Sequence[str]], list[str]],
    rows: TypedRows,
) -> list[str]:
    """Add the rows of a table, and return notes on them.

    Parameters
    ----------
    file : Path
        The database.
    name : str
        The input.
    item : Input
        Its configuration.
    choose : callable
        Chooses the columns to read.
    rows : TypedRows
        Receives the rows; a column of numbers and texts becomes text, because SQLite checks no
        types.

    Raises
    ------
    SourceError
        The file is damaged, or has no such table.
    """
    with _session(file, name, item) as session:
        decoder = _Decoder()
        session.text_factory = decoder
        table = _table(session, name, item)
        described = session.execute(f"SELECT * FROM {table} LIMIT 0").description
        columns = choose([column[0] for column in described])
        shown = ", ".join(map(ident, columns))
        rows.add_rows(columns, session.execute(f"SELECT {shown} FROM {table}"))
    broken = decoder.broken
    return [f"{broken:,} texts are not UTF-8, replaced by \ufffd"] if broken else []


def table_names(file: Path, item: Input) -> list[str]:
    """Return the tables and views of a file."""
    with _session(file, str(item.connection), item) as session:
        return [name for name in _tables(session) if not name.startswith("sqlite_")]


def _tables(session: sqlite3.Connection) -> list[str]:
    found = session.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
    ).fetchall()
    return [str(row[0]) for row in found]


def _table(session: sqlite3.Connection, name: str, item: Input) -> str:
    schema, table = schema_and_table(item, "main")
    known = _tables(session)
    if schema != "main" or table not in known:
        raise no_table(name, item, str(item.table), known)
    return ident(table)


@contextmanager
def _session(file: Path, name: str, item: Input) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, isolation_level=None)
        ) as session:
            session.execute("BEGIN")
            yield session
    except sqlite3.Error as error:
        raise SourceError(
            f"table {item.table} of connection {item.connection} cannot be read: {error}",
            where=f"inputs.{name}, {file}",
            fix="test it with   sqlite3 FILE 'PRAGMA integrity_check'   and copy it again with "
            "`.backup` if it is damaged",
        ) from error
