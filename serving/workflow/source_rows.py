"""Reader of the source tables of a company: rows of one account as they were known on a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

from configs.runtime.errors import UnavailableError
from configs.runtime.state_directory import State
from features.sources.files.sql import open_duckdb
from features.sources.loaded_tables import canonical_files
from features.tables.source_tables import TABLES


class SourceRows:
    """Reader of source tables; one connection, thread-safe.

    Parameters
    ----------
    state : State
        State directory with the source tables.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        # Rows of one account need only one thread.
        self._connection = open_duckdb(folders=[state.sources], threads=1)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def files(self, table: str, as_of: date, days: int) -> list[str]:
        """Return the files that can hold rows of the last days; empty without the table."""
        folder = self._state.sources / table
        found = canonical_files(folder, as_of - timedelta(days=days))
        return [str(path) for path in found if path.is_file()]

    def columns(self, files: Sequence[str]) -> set[str]:
        """Return the columns of a table; all its files have the same ones."""
        rows = self.run("SELECT name FROM parquet_schema($files)", {"files": [*files][:1]})
        return {str(name) for (name,) in rows}

    def run(self, sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a query; ``$files`` is the parameter with the files.

        Raises
        ------
        UnavailableError
            A source table cannot be read.
        """
        cursor = self._connection.cursor()
        try:
            return list(cursor.execute(sql, values).fetchall())
        except duckdb.Error as error:
            raise UnavailableError(
                f"the evidence cannot be read: {error}",
                where=values["files"][0],
                fix="bellwether features COMPANY   writes the tables again",
            ) from error
        finally:
            cursor.close()


def parameters(files: Sequence[str], entity_id: str, as_of: date, days: int) -> dict[str, Any]:
    """Return the parameters of a query about the last days of an account.

    ``$files``, ``$entity``, ``$now`` and ``$start``; days begin at 00:00 UTC.
    """
    now = datetime(as_of.year, as_of.month, as_of.day)  # noqa: DTZ001  as stored: UTC, no zone
    return {
        "files": [*files],
        "entity": entity_id,
        "now": now,
        "start": now - timedelta(days=days),
    }


def latest_version(table: str, known: set[str]) -> str:
    """Return the SQL that keeps the last known version of each row."""
    key = [name for name in TABLES[table].key if name in known]
    if not key:
        return ""
    return f" QUALIFY row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY known_at DESC) = 1"
