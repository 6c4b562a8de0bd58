"""Reader of the source tables of a company: rows of one account as they were known on a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
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

    def account_rows(
        self, table: str, moment: str, cells: Sequence[str], entity_id: str, as_of: date, days: int
    ) -> list[dict[str, Any]]:
        """Return the latest known version of an account's rows, newest first.

        Parameters
        ----------
        table, moment : str
            The table, and its column with the time of a row.
        cells : sequence of str
            Columns or SQL of one column each; those that the source does not have are left out.
        entity_id : str
            The account.
        as_of : date
            Rows known and dated by 00:00 UTC of this day.
        days : int
            Days before as_of in which the rows lie.
        """
        files = self.files(table, as_of, days)
        known = self.columns(files) if files else set()
        cells = [cell for cell in cells if column_of(cell) in known]
        if moment not in known or not cells:
            return []
        order = ", ".join(str(place) for place in range(1, len(cells) + 1))
        found = self.run(
            f"SELECT {', '.join(cells)} FROM read_parquet($files) WHERE account_id = $entity"
            f" AND known_at <= $now AND {moment} <= $now AND {moment} > $start"
            f"{latest_version(table, known)} ORDER BY {moment} DESC, {order}",
            parameters(files, entity_id, as_of, days),
        )
        return [dict(zip(cells, row, strict=True)) for row in found]

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


def midnight(day: date) -> datetime:
    """Return the start of a day as the source tables store it: UTC without a zone."""
    return datetime.combine(day, time())


def parameters(files: Sequence[str], entity_id: str, as_of: date, days: int) -> dict[str, Any]:
    """Return the parameters of a query about the last days of an account.

    ``$files``, ``$entity``, ``$now`` and ``$start``; days begin at 00:00 UTC.
    """
    now = midnight(as_of)
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


def column_of(cell: str) -> str:
    """Return the column of a cell.

    >>> column_of("text"), column_of("CASE WHEN paid_on <= $now THEN paid_on END")
    ('text', 'paid_on')
    """
    return cell.split("THEN ")[-1].split(" ")[0]
