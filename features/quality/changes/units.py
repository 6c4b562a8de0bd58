"""Numbers whose unit or scale changes overnight: minutes to seconds, euros to cents, 1–5 to 1–10.

The logarithms of the values in the four weeks before and after each day are compared, for the same
accounts. A change of unit shifts nearly all accounts by one factor on one day; growth shifts them
slowly and by different factors. Values that leave the range of the contract are set aside when
loading, so a change of scale is found in the quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from features.quality.changes.daily import Floats, first_day, happened_day
from features.quality.context import QualityContext
from features.sources.files.sql import ident, literal
from features.sources.manifest import OutsideValues
from features.tables.source_tables import ROW, TABLES, VERSIONS

WINDOW_DAYS, EDGE_DAYS = 28, 7
"""Days compared on each side of a change, and days just before and after it."""

LEAST_VALUES, LEAST_ACCOUNTS = 30, 8
"""Minimum number of values on each side, and of accounts with values on both."""

FACTOR = 3.0
"""Smallest factor that can be a change of unit."""

SAME_FACTOR, SAME_SHARE = 1.6, 0.75
"""Largest deviation of an account's factor from the common one, and the share of accounts that
must keep to it."""

SCORE = 8.0
"""Standard errors of the mean logarithm from which a shift is no chance (normal: 1e-15)."""

KNOWN_FACTORS: dict[float, str] = {
    60.0: "minutes and seconds, or hours and minutes",
    3600.0: "hours and seconds",
    24.0: "days and hours",
    1440.0: "days and minutes",
    100.0: "units and cents, or shares and percent",
    1000.0: "units and thousands, or seconds and milliseconds",
    1024.0: "bytes, kB and MB",
    1e6: "units and millions, or bytes and MB",
    10.0: "a decimal point moved by one digit",
    12.0: "years and months",
}
"""Factors between common units."""

SPLIT_BY = {"survey_responses": "kind", "entitlements": "product"}
"""Column by which the values of a table mean different things."""

OUTSIDE_SHARE, LEAST_OUTSIDE = 0.1, 10
"""Minimum share and number of values outside their range after a change of scale."""

BEFORE_RATIO = 10.0
"""Minimum ratio of the shares of values outside their range after and before a change of scale."""


@dataclass(frozen=True)
class UnitChange:
    """A number that is larger or smaller by a factor from one day on.

    Attributes
    ----------
    table, column, part : str
        The column, and the condition of its rows; an empty part is every row.
    day : date
        First day of the new unit.
    factor : float
        New values divided by old ones.
    rows, whole : int
        Values since that day, and all values.
    agree, compared : int
        Accounts that changed by this factor, and accounts with values before and after.
    """

    table: str
    column: str
    part: str
    day: date
    factor: float
    rows: int
    whole: int
    agree: int
    compared: int

    @property
    def known(self) -> tuple[float, str] | None:
        """The factor between common units that fits within 15 %, and their names."""
        ratio = max(self.factor, 1 / self.factor)
        found = min(KNOWN_FACTORS, key=lambda item: abs(np.log(ratio / item)))
        return (found, KNOWN_FACTORS[found]) if abs(np.log(ratio / found)) <= 0.15 else None


def unit_changes(context: QualityContext, table: str) -> Iterator[UnitChange]:
    """Yield changes of unit of the numbers of a table."""
    spec = TABLES[table]
    if "account_id" not in spec.columns:
        return
    for name in context.loaded.tables[table].columns:
        column = spec.columns.get(name)
        if column is None or column.kind not in {"number", "count"}:
            continue
        if column.visible_from not in {ROW, VERSIONS} and name != "csat":
            continue
        for part in _parts(context, table):
            found = _change(context, table, name, part)
            if found is not None:
                yield found


def _parts(context: QualityContext, table: str) -> list[str]:
    split = SPLIT_BY.get(table, "")
    if not split or not context.has(table, split):
        return [""]
    rows = context.connection.execute(
        f"SELECT {ident(split)} FROM {table} WHERE {ident(split)} IS NOT NULL "
        f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 20"
    ).fetchall()
    return [f"{ident(split)} = {literal(value)}" for (value,) in rows]


def _change(context: QualityContext, table: str, name: str, part: str) -> UnitChange | None:
    first = first_day(context, table)
    if first is None:
        return None
    values = f"{ident(name)} > 0 AND {part or 'true'}"
    rows = context.connection.execute(
        f"SELECT CAST({happened_day(table)} - $1 AS INTEGER) AS position, count(*) AS n, "
        f"sum(ln({ident(name)})) AS total, sum(ln({ident(name)}) ** 2) AS squares FROM {table} "
        f"WHERE {values} AND {happened_day(table)} >= $1 AND {happened_day(table)} < $2 GROUP BY 1",
        [first, context.now.date()],
    ).fetchnumpy()
    n_days = (context.now.date() - first).days
    if n_days < 2 * EDGE_DAYS or not len(rows["n"]):
        return None
    sums = np.zeros((3, n_days + 1))
    position = np.asarray(rows["position"], dtype=np.int64) + 1
    for row, key in enumerate(("n", "total", "squares")):
        sums[row, position] = np.asarray(rows[key], dtype=np.float64)
    place = _clearest_shift(np.cumsum(sums, axis=1))
    if place is None:
        return None
    return _agreed(context, table, name, part, first + timedelta(days=place))


def _clearest_shift(cumulated: Floats) -> int | None:
    """Return the day with the largest shift of the mean logarithm, where it is no chance."""
    n_days = cumulated.shape[1] - 1
    days = np.arange(1, n_days)
    before = cumulated[:, days] - cumulated[:, np.maximum(0, days - WINDOW_DAYS)]
    after = cumulated[:, np.minimum(n_days, days + WINDOW_DAYS)] - cumulated[:, days]
    enough = (before[0] >= LEAST_VALUES) & (after[0] >= LEAST_VALUES)
    if not enough.any():
        return None
    mean, error = zip(*(_mean_and_error(item) for item in (before, after)), strict=True)
    shift = np.abs(mean[1] - mean[0])
    score = shift / np.sqrt(np.maximum(error[0] + error[1], 1e-12))
    fits = enough & (shift >= np.log(FACTOR) * 0.9) & (score >= SCORE)
    return int(days[np.argmax(np.where(fits, score, -1.0))]) if fits.any() else None


def _mean_and_error(sums: Floats) -> tuple[Floats, Floats]:
    """Return the mean logarithm of each window and the square of its standard error."""
    n = np.maximum(sums[0], 1.0)
    mean = sums[1] / n
    return mean, np.maximum(sums[2] / n - mean**2, 1e-4) / n


def _agreed(
    context: QualityContext, table: str, name: str, part: str, day: date
) -> UnitChange | None:
    """Return the change if nearly all accounts changed by the same factor on this day."""
    column, moment = ident(name), happened_day(table)
    values = f"{column} > 0 AND {part or 'true'}"
    found = context.query_row(
        f"WITH per AS (SELECT account_id, "
        f"median(ln({column})) FILTER ({moment} >= $1 AND {moment} < $1 + INTERVAL {WINDOW_DAYS} "
        f"DAY) - median(ln({column})) FILTER ({moment} < $1 "
        f"AND {moment} >= $1 - INTERVAL {WINDOW_DAYS} DAY) AS shift FROM {table} WHERE {values} "
        f"GROUP BY 1), common AS (SELECT median(shift) AS middle FROM per) "
        f"SELECT (SELECT middle FROM common) AS shift, count(per.shift) AS compared, "
        f"count(*) FILTER (abs(per.shift - common.middle) <= ln({SAME_FACTOR})) AS agree, "
        f"(SELECT count(*) FROM {table} WHERE {values}) AS whole, "
        f"(SELECT count(*) FROM {table} WHERE {values} AND {moment} >= $1) AS rows "
        f"FROM per, common",
        day,
    )
    if found["compared"] < LEAST_ACCOUNTS or abs(found["shift"]) < np.log(FACTOR):
        return None
    if found["agree"] < SAME_SHARE * found["compared"]:
        return None
    return UnitChange(
        table,
        name,
        part,
        day,
        float(np.exp(found["shift"])),
        int(found["rows"]),
        int(found["whole"]),
        int(found["agree"]),
        int(found["compared"]),
    )


def is_scale_change(found: OutsideValues) -> bool:
    """Whether values outside their range begin on one day.

    >>> is_scale_change({"since": "2026-03-01", "rows": 60, "whole": 100, "rows_before": 1,
    ...                  "whole_before": 900, "low": 6.0, "high": 10.0})
    True
    """
    after = found["rows"] / max(found["whole"], 1)
    before = (found["rows_before"] + 1) / (found["whole_before"] + 1)
    return (
        found["rows"] >= LEAST_OUTSIDE
        and found["whole_before"] >= LEAST_VALUES
        and after >= OUTSIDE_SHARE
        and after >= BEFORE_RATIO * before
    )
