"""Context of quality checks: loaded tables as views, and helpers for issues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from configs.schema.workspace import Workspace
from features.quality.report import Issue
from features.sources import Loaded
from features.sources.files.sql import one_row
from features.tables.source_tables import TABLES

SIGNALS: dict[str, str] = {
    "accounts": "every score",
    "subscriptions": "commercial signals and ARR at risk",
    "usage_events": "adoption and breadth signals",
    "entitlements": "utilisation signals",
    "support_tickets": "support signals",
    "survey_responses": "sentiment signals",
    "contacts": "relationship signals",
    "opportunities": "commercial signals",
    "invoices": "payment signals",
    "touches": "relationship signals and the effect of plays",
    "milestones": "journey signals",
    "health_scores": "the audit of the health score",
    "outcomes": "recorded outcomes",
    "labels": "labels of the company",
    "owners": "shares of the team's capacity",
    "rates": "money in other currencies",
}


@dataclass(frozen=True)
class QualityContext:
    """Loaded tables as views of one connection.

    Attributes
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with a view per loaded table of the rows known by `now`.
    workspace : Workspace
        The company.
    loaded : Loaded
        Facts about the tables.
    now : datetime
        The clock, UTC without zone, as stored in the tables.
    """

    connection: duckdb.DuckDBPyConnection
    workspace: Workspace
    loaded: Loaded
    now: datetime

    def has(self, table: str, *columns: str) -> bool:
        """Whether a table and its columns are loaded."""
        info = self.loaded.tables.get(table)
        return info is not None and all(column in info.columns for column in columns)

    def query_row(self, query: str, *values: object) -> dict[str, Any]:
        """Run a query and return its one row by column name."""
        relation = self.connection.execute(query, list(values)) if values else None
        if relation is None:
            return one_row(self.connection, query)
        names = [item[0] for item in relation.description]
        return dict(zip(names, relation.fetchone() or (None,) * len(names), strict=True))

    def issue(
        self, code: str, table: str, rows: int, whole: int | None, detail: str, advice: str = ""
    ) -> Issue:
        """Return an issue; `whole` is the total of `rows`, `advice` its specific remedy."""
        share = min(1.0, rows / whole) if whole else None
        return Issue(code, table, rows, share, detail, self.affects(table), advice)

    def affects(self, table: str) -> tuple[str, ...]:
        """Return the predictions that depend on a table."""
        if not table:
            return ("every score",)
        observed = {"subscriptions": "subscriptions", "outcomes": "outcomes", "labels": "labels"}
        source = observed.get(table, "activity" if TABLES[table].activity else "")
        labels = tuple(
            f"outcomes of {name}"
            for name, target in self.workspace.company.targets.items()
            if target.observed_in == source
        )
        return (SIGNALS[table], *labels)


def naive_utc(moment: datetime) -> datetime:
    """Return an instant as stored in tables: UTC without zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def count_of(rows: int, whole: int, noun: str = "rows") -> str:
    """Return a count and its share as text.

    >>> count_of(12, 400)
    '12 of 400 rows (3.0 %)'
    """
    share = 100 * rows / whole if whole else 0.0
    shown = f"{share:.1f}" if rows == 0 or share >= 0.1 else "< 0.1"
    return f"{rows:,} of {whole:,} {noun} ({shown} %)"
