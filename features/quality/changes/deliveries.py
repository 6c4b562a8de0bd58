"""Rows of a table without identity that were delivered twice, at different times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from features.quality.context import QualityContext
from features.sources.files.sql import ident
from features.tables.source_tables import TABLES

LEAST_ROWS = 10
"""Minimum number of repeated rows."""

TIMED_SHARE = 0.9
"""Share of the events with a time of day from which equal rows are no separate events."""

DAY_SHARE, USUAL_SHARE = 0.5, 0.1
"""Share of repeated rows on a day of a second delivery, and the largest usual share, in tables with
dates only."""


@dataclass(frozen=True)
class Repeated:
    """Rows equal to an earlier one in every column but ``known_at``.

    Attributes
    ----------
    rows, whole : int
        Repeated rows, and all rows.
    accounts : tuple of str
        Their accounts.
    first, last : date
        Days on which they happened.
    rows_where : str
        SQL condition of the days.
    """

    rows: int
    whole: int
    accounts: tuple[str, ...]
    first: date
    last: date

    @property
    def words(self) -> str:
        """The days as text."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def repeated_rows(context: QualityContext, table: str) -> Repeated | None:
    """Return the repeated rows of a table without keys, or None."""
    spec, info = TABLES[table], context.loaded.tables[table]
    if spec.key or "account_id" not in spec.columns or "event_id" in info.read.get("types", {}):
        return None
    names = ", ".join(ident(name) for name in info.columns)
    happened = ident(spec.happened)
    timed = context.query_row(
        f"SELECT avg(({happened} <> date_trunc('day', {happened}) AND {happened} <> "
        f"date_trunc('day', {happened}) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)::INT) AS share "
        f"FROM {table}"
        if spec.columns[spec.happened].kind == "instant"
        else "SELECT 0.0 AS share"
    )["share"]
    days = (
        ""
        if timed is not None and timed >= TIMED_SHARE
        else (
            f"SEMI JOIN (SELECT day FROM by_day, usual WHERE share >= {DAY_SHARE} "
            f"AND usual.share_of_days <= {USUAL_SHARE}) USING (day)"
        )
    )
    found = context.query_row(
        f"WITH numbered AS (SELECT account_id, CAST({happened} AS DATE) AS day, "
        f"row_number() OVER (PARTITION BY {names} ORDER BY known_at) AS place FROM {table}), "
        f"by_day AS (SELECT day, avg((place > 1)::INT) AS share FROM numbered GROUP BY 1), "
        f"usual AS (SELECT median(share) AS share_of_days FROM by_day), "
        f"repeated AS (SELECT * FROM numbered {days} WHERE place > 1) "
        f"SELECT count(*) AS rows, (SELECT count(*) FROM {table}) AS whole, "
        f"coalesce(list(DISTINCT account_id ORDER BY account_id), []) AS ids, "
        f"min(day) AS first, max(day) AS last FROM repeated"
    )
    if found["rows"] < LEAST_ROWS:
        return None
    return Repeated(
        int(found["rows"]),
        int(found["whole"]),
        tuple(found["ids"]),
        found["first"],
        found["last"],
    )
