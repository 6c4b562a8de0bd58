"""Overwritten subscription rows, split into one row per billing period.

Many exports keep one row per subscription and move its period end forward at every renewal. Such
rows would imply that the latest renewal date was agreed on the first day, and that no subscription
ever renewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb

from features.sources.files.sql import ident, literal, one_row
from features.sources.manifest import Period

MONTHS: dict[Period, int] = {"year": 12, "quarter": 3, "month": 1}

_LAG = "known_at - CAST(first_on AS TIMESTAMP)"
PERIOD_KNOWN = (
    f"CASE WHEN {_LAG} < INTERVAL 45 DAY THEN CAST(from_on AS TIMESTAMP) + ({_LAG}) "
    f"ELSE CAST(from_on AS TIMESTAMP) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND END"
)
"""SQL of the time a period of an overwritten row was known: as late after its own first day
(``from_on``) as the row after its first (``first_on``), or at the end of that day."""

MIN_SUBSCRIPTIONS = 3
"""Minimum number of subscriptions to detect the pattern."""


@dataclass(frozen=True)
class BillingPeriods:
    """Result of splitting subscription rows.

    Attributes
    ----------
    period : str or None
        Billing period of the split rows; None without any.
    subscriptions, rows : int
        Source rows that were split, and the resulting rows.
    is_guess : bool
        The period was detected from the dates, not configured.
    shape : str
        Shape of the billing export the rows come from (`configs.schema.source_mapping.Billing`);
        empty without one.
    """

    period: Period | None = None
    subscriptions: int = 0
    rows: int = 0
    is_guess: bool = False
    shape: str = ""


def unfold_terms(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    columns: list[str],
    wanted: Period | Literal["off"] | None,
) -> BillingPeriods:
    """Rewrite the canonical subscriptions in `path` where rows span several billing periods.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with write access to `path`.
    path : Path
        ``data.parquet`` of the subscriptions.
    columns : list of str
        Its canonical columns, without known_at.
    wanted : {"year", "quarter", "month", "off"} or None
        ``tables.subscriptions.unfold``; None detects the pattern.
    """
    if wanted == "off" or not {"started_on", "renews_on"} <= set(columns):
        return BillingPeriods()
    connection.execute(
        f"CREATE OR REPLACE TABLE terms AS SELECT *, row_number() OVER () AS place, "
        f"{'ended_on' if 'ended_on' in columns else 'NULL::DATE'} AS over_on "
        f"FROM read_parquet({literal(path)})"
    )
    period = wanted or detect_period(connection)
    if period is None:
        return BillingPeriods()
    months = MONTHS[period]
    counts = one_row(connection, f"SELECT count(*) AS n FROM terms WHERE {_is_long(months)}")
    if counts["n"]:
        connection.execute(_query(path, columns, months))
    rows = one_row(connection, f"SELECT count(*) AS n FROM read_parquet({literal(path)})")["n"]
    whole = one_row(connection, "SELECT count(*) AS n FROM terms")["n"]
    return BillingPeriods(period, counts["n"], counts["n"] + rows - whole, is_guess=wanted is None)


def detect_period(connection: duckdb.DuckDBPyConnection) -> Period | None:
    """Return the billing period of overwritten rows in the table ``terms``, None without any.

    Overwritten rows are the only ones of their account and product, span a whole number of
    periods, end only on their renewal date, and, while active, all renew within one period
    independent of their start. Multi-year contracts renew at any time.
    """
    for period, months in MONTHS.items():
        found = one_row(
            connection,
            f"WITH single AS (SELECT account_id, any_value(started_on) AS started_on, "
            f"any_value(renews_on) AS renews_on, any_value(over_on) AS over_on FROM terms "
            f"GROUP BY account_id, subscription_id HAVING count(*) = 1), "
            f"alone AS (SELECT * FROM single WHERE account_id NOT IN (SELECT account_id FROM terms "
            f"GROUP BY account_id, started_on HAVING count(DISTINCT subscription_id) > 1)), "
            f"long AS (SELECT *, date_diff('day', started_on, renews_on) / (365.25 / 12 * {months})"
            f" AS periods FROM alone WHERE {_is_long(months)}), "
            f"held AS (SELECT * FROM long WHERE over_on IS NULL) "
            f"SELECT (SELECT count(*) FROM long) AS n, (SELECT count(*) FROM held) AS n_held, "
            f"(SELECT count(DISTINCT round(periods)) FROM long) AS n_lengths, "
            f"(SELECT count(*) FROM long WHERE abs(periods - round(periods)) "
            f"* {months} * 30.4 > 4) AS n_odd, "
            f"(SELECT count(*) FROM long WHERE over_on < renews_on) AS n_early, "
            f"(SELECT count(*) FROM long WHERE round(periods) % {12 // months} = 0) AS n_yearly, "
            f"(SELECT date_diff('day', min(renews_on), max(renews_on)) FROM held) AS span",
        )
        is_pattern = (
            found["n_held"] >= MIN_SUBSCRIPTIONS
            and found["n_lengths"] >= 2
            and found["n_odd"] + found["n_early"] == 0
            and found["span"] <= months * 31
        )
        if is_pattern and (period == "year" or found["n_yearly"] * 2 < found["n"]):
            return period
    return None


def _is_long(months: int) -> str:
    """Return SQL for: a row spans more than one and a half billing periods."""
    last = "least(coalesce(over_on, renews_on), renews_on)"
    return f"date_diff('day', started_on, {last}) > {months * 30.44 * 1.5:.0f}"


def _query(path: Path, columns: list[str], months: int) -> str:
    step = f"INTERVAL {months} MONTH"
    last = "least(coalesce(over_on, renews_on), renews_on)"
    new = {"started_on": "from_on", "renews_on": "CASE WHEN is_last THEN renews_on ELSE until END"}
    for name, before in (
        ("ended_on", "until"),
        ("end_reason", "'renewed'"),
        ("notice_at", "NULL"),
        ("auto_renew", "auto_renew"),
    ):
        if name in columns:
            new[name] = f"CASE WHEN is_last THEN {ident(name)} ELSE {before} END"
    shown = ", ".join(f"{new.get(name, ident(name))} AS {ident(name)}" for name in columns)
    return (
        f"COPY (WITH pieces AS (SELECT *, started_on AS first_on, "
        f"CAST(started_on + k * {step} AS DATE) AS from_on, "
        f"CAST(started_on + (k + 1) * {step} AS DATE) AS until, "
        f"k = max(k) OVER (PARTITION BY place) AS is_last FROM (SELECT *, unnest(range(0, "
        f"CASE WHEN {_is_long(months)} THEN greatest(1, CAST(round(date_diff('day', started_on, "
        f"{last}) / {months * 30.4375}) AS BIGINT)) ELSE 1 END)) AS k FROM terms)) "
        f"SELECT {shown}, {PERIOD_KNOWN} AS known_at FROM pieces "
        f"ORDER BY account_id, started_on, place) "
        f"TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)"
    )
