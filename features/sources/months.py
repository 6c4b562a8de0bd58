"""Rows of activity tables by the month in which they became known, with an identity per month.

Daily tables are kept per month, so that a month without new or changed rows is not built again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import duckdb

from configs.runtime.hashing import digest
from features.sources.files.sql import ident, text_list
from features.tables.source_tables import TABLES

MONTHLY = ("usage_events", "support_tickets", "survey_responses", "invoices", "touches")
"""Tables of activity, which grow every day."""

MonthRows = dict[str, list[int]]
"""Month as YYYY-MM → number of rows, and sum of their hashes."""


def known_day_sql(table: str) -> str:
    """Return SQL of the day a row counts from: `features.tables.daily_tables.known_day` as a date.

    >>> known_day_sql("invoices").startswith("greatest(CAST(issued_on AS DATE) + 1, ")
    True
    """
    spec = TABLES[table]
    happened = _first_midnight(spec.happened)
    if spec.columns[spec.happened].kind == "day":
        happened = f"CAST({spec.happened} AS DATE) + 1"
    return f"greatest({happened}, {_first_midnight('known_at')})"


def _first_midnight(column: str) -> str:
    day = f"CAST({column} AS DATE)"
    return f"{day} + CASE WHEN {column} > {day} THEN 1 ELSE 0 END"


def months_of(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], files: Iterable[Path]
) -> MonthRows:
    """Return the rows of canonical files by month."""
    shown = ", ".join([*(ident(name) for name in columns), "known_at"])
    rows = connection.execute(
        f"SELECT strftime({known_day_sql(table)}, '%Y-%m') AS month, count(*), "
        f"sum(hash({shown})) FROM read_parquet({text_list(files)}) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {str(month): [int(n), int(total)] for month, n, total in rows}


def month_identities(parts: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, str]:
    """Return the identity of the rows of each month over several files, in any order.

    >>> one = month_identities([{"2026-01": [2, 30]}, {"2026-01": [1, 12]}])
    >>> one == month_identities([{"2026-01": [3, 42]}])
    True
    """
    sums: dict[str, list[int]] = {}
    for part in parts:
        for month, (n, total) in part.items():
            held = sums.setdefault(month, [0, 0])
            held[0] += n
            held[1] += total
    return {month: digest(n, str(total)) for month, (n, total) in sorted(sums.items())}
