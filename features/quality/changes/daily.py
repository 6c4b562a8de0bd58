"""Rows per day of a table, by level of a column, and the usual number on each weekday.

The usual number is the median of the same weekday in the eight weeks before, so growth and
weekdays need no model. A run of days without rows is evidence in proportion to the rows usual in
it: under a Poisson distribution a run with 20 usual rows is empty with a probability of
``exp(-20) = 2e-9``. Tables that vary more need proportionally more rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from features.quality.context import QualityContext
from features.tables.source_tables import TABLES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WEEKS, LEAST_WEEKS = 8, 4
"""Number of preceding weeks in the usual number, and the minimum."""

EVIDENCE = 20.0
"""Usual rows in an empty run from which it is no chance: ``exp(-20)`` per run."""

LOW = 0.1
"""Maximum share of the usual rows in an empty run."""

TAIL = 0.001
"""Share of the oldest rows that do not define the first day: single dates far in the past."""

MAX_LEVELS = 300
"""Maximum number of levels of a column that is a category."""


@dataclass(frozen=True)
class DailyCounts:
    """Rows per level and day.

    Attributes
    ----------
    table : str
        The table.
    first : date
        Day of the first column.
    levels : tuple of str
        Level of each row of `counts`.
    counts : numpy.ndarray
        (levels, days) rows, up to the last complete day before the clock.
    """

    table: str
    first: date
    levels: tuple[str, ...]
    counts: Floats

    @property
    def n_days(self) -> int:
        """Number of days."""
        return self.counts.shape[1]

    def day(self, position: int) -> date:
        """Return the day of a column."""
        return self.first + timedelta(days=position)


@dataclass(frozen=True)
class Run:
    """Consecutive days with few rows: positions ``[start, stop)``, rows usual in them, rows."""

    start: int
    stop: int
    usual: float
    rows: float


def happened_day(table: str, alias: str = "") -> str:
    """Return SQL of the day a row of a table, under an alias, happened."""
    named = f"{alias}.{TABLES[table].happened}" if alias else TABLES[table].happened
    return f"CAST({named} AS DATE)"


def first_day(context: QualityContext, table: str) -> date | None:
    """Return the first day of a table, without a few much older rows.

    None without rows, or without the column of the time they happened.
    """
    if not context.has(table, TABLES[table].happened):
        return None
    day = happened_day(table)
    found = context.query_row(
        f"SELECT quantile_disc({day}, {TAIL}) AS first, max({day}) AS last FROM {table} "
        f"WHERE {day} < $1",
        context.now.date(),
    )
    first: date | None = found["first"]
    return first


def daily_counts(
    context: QualityContext,
    table: str,
    level: str = "'all'",
    joined: str = "",
    condition: str = "true",
) -> DailyCounts | None:
    """Return the rows per level and day, or None without rows or with too many levels.

    Parameters
    ----------
    context : QualityContext
        The loaded tables.
    table : str
        Name of the table, available as ``t``.
    level : str
        SQL of the level.
    joined : str
        SQL of a join to ``t``.
    condition : str
        SQL of the rows counted.
    """
    first = first_day(context, table)
    if first is None:
        return None
    day = happened_day(table, "t")
    rows = context.connection.execute(
        f"SELECT {level} AS level, CAST({day} - $1 AS INTEGER) AS position, count(*) AS n "
        f"FROM {table} t {joined} WHERE {day} >= $1 AND {day} < $2 AND {condition} "
        f"AND {level} IS NOT NULL GROUP BY ALL",
        [first, context.now.date()],
    ).fetchnumpy()
    levels, codes = np.unique(np.asarray(rows["level"], dtype=str), return_inverse=True)
    n_days = (context.now.date() - first).days
    if not len(levels) or len(levels) > MAX_LEVELS or n_days < 1:
        return None
    counts = np.zeros((len(levels), n_days))
    counts[codes, np.asarray(rows["position"], dtype=np.int64)] = rows["n"]
    return DailyCounts(table, first, tuple(str(item) for item in levels), counts)


def usual_counts(counts: Floats) -> Floats:
    """Return the usual rows of each day: the median of the same weekday in the weeks before.

    Days with less than four weeks before them have 0, that is, no evidence.

    >>> usual_counts(np.full((1, 40), 5.0))[0, [27, 28]].tolist()
    [0.0, 5.0]
    """
    n_days = counts.shape[1]
    past = np.full((WEEKS, *counts.shape), np.nan)
    for week in range(1, WEEKS + 1):
        if 7 * week < n_days:
            past[week - 1, :, 7 * week :] = counts[:, : n_days - 7 * week]
    usual = np.zeros_like(counts)
    start = 7 * LEAST_WEEKS
    if n_days > start:
        usual[:, start:] = np.nanmedian(past[:, :, start:], axis=0)
    return usual


def dispersion(counts: Floats, usual: Floats) -> Floats:
    """Return the variance over the mean of each level, at least 1; the worst 5 % of days are cut.

    >>> dispersion(np.full((1, 30), 9.0), np.full((1, 30), 9.0)).tolist()
    [1.0]
    """
    found = np.ones(len(counts))
    for row, (seen, expected) in enumerate(zip(counts, usual, strict=True)):
        known = expected >= 1.0
        if known.sum() >= LEAST_WEEKS:
            squared = np.sort((seen[known] - expected[known]) ** 2 / expected[known])
            kept = squared[: max(1, int(0.95 * len(squared)))]
            found[row] = max(1.0, float(kept.mean()))
    return found


def empty_runs(
    seen: Floats, usual: Floats, varies: float, low: float = LOW, evidence: float = EVIDENCE
) -> list[Run]:
    """Return runs of days with at most a share of the usual rows, too long for chance.

    Parameters
    ----------
    seen, usual : numpy.ndarray
        Rows per day, and those usual.
    varies : float
        Variance over the mean (`dispersion`).
    low : float
        Maximum share of the usual rows.
    evidence : float
        Minimum of the usual rows of a run, in units of `varies`.
    """
    is_low = (seen <= low * usual) & (usual > 0)
    is_neutral = (usual <= 0) & (seen <= 0)
    runs: list[Run] = []
    start: int | None = None
    last = -1
    for day in range(len(seen) + 1):
        if day < len(seen) and is_low[day]:
            start, last = (day if start is None else start), day
        elif start is not None and not (day < len(seen) and is_neutral[day]):
            part = slice(start, last + 1)
            expected = float(usual[part].sum())
            if expected >= evidence * varies:
                runs.append(Run(start, last + 1, expected, float(seen[part].sum())))
            start = None
    return runs
