"""Missing and late partitions: days without rows in a table that has rows every day or month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

import numpy as np

from features.quality.changes.daily import (
    DailyCounts,
    daily_counts,
    dispersion,
    empty_runs,
    happened_day,
    usual_counts,
)
from features.quality.context import QualityContext

THIN, THIN_EVIDENCE = 0.5, 50.0
"""Share of the usual rows below which the last days are incomplete, and usual rows needed."""

LAST_DAYS = 7
"""Days before the clock in which a missing partition is late; earlier ones are missing."""

REGULAR_DAYS, REGULAR_SPREAD, LEAST_GAP = 6, 1.35, 3
"""Row days, ratio of their largest usual to their median gap, and smallest gap in days from which a
table has regular partitions such as months."""

MISSING_GAP, LATE_GAP = 1.7, 1.3
"""Multiple of the regular gap without rows from which a partition is missing, or late."""


@dataclass(frozen=True)
class Hole:
    """Days of a table without rows, or with fewer than usual.

    Attributes
    ----------
    first, last : date
        The days.
    rows : float
        Rows present.
    usual : float
        Rows usual on such days; 0 for partitions such as months.
    is_late : bool
        The hole reaches the clock.
    """

    first: date
    last: date
    rows: float
    usual: float
    is_late: bool


def holes(context: QualityContext, table: str) -> list[Hole]:
    """Return the missing and late days of a table, oldest first."""
    daily = daily_counts(context, table)
    if daily is None:
        return []
    regular = _regular_gap(daily)
    found = _regular_holes(daily, regular) if regular else _daily_holes(daily)
    late = [] if regular else _incomplete_end(context, table, daily)
    return [item for item in found if not (late and item.is_late)] + late


def _regular_gap(daily: DailyCounts) -> float | None:
    """Return the usual gap between days with rows of a monthly or weekly table, or None."""
    gaps = np.diff(np.flatnonzero(daily.counts[0]))
    if len(gaps) < REGULAR_DAYS:
        return None
    usual = float(median(gaps))
    upper = float(np.quantile(gaps, 0.8))
    return usual if usual >= LEAST_GAP and upper <= REGULAR_SPREAD * usual else None


def _regular_holes(daily: DailyCounts, gap: float) -> list[Hole]:
    days = np.flatnonzero(daily.counts[0])
    found = [
        Hole(daily.day(int(a) + 1), daily.day(int(b) - 1), 0, 0, False)
        for a, b in zip(days[:-1], days[1:], strict=True)
        if b - a >= MISSING_GAP * gap
    ]
    silent = daily.n_days - int(days[-1])
    if silent >= LATE_GAP * gap:
        found.append(Hole(daily.day(int(days[-1]) + 1), daily.day(daily.n_days - 1), 0, 0, True))
    return found


def _daily_holes(daily: DailyCounts) -> list[Hole]:
    seen = daily.counts[0]
    usual = usual_counts(daily.counts)
    varies = float(dispersion(daily.counts, usual)[0])
    return [
        Hole(
            daily.day(run.start),
            daily.day(run.stop - 1),
            run.rows,
            run.usual,
            run.stop == daily.n_days,
        )
        for run in empty_runs(seen, usual[0], varies)
    ]


def _incomplete_end(context: QualityContext, table: str, daily: DailyCounts) -> list[Hole]:
    """Return the last days where they have fewer rows than earlier days had as soon after."""
    seen = _arrived_as_soon(context, table, daily)
    usual = usual_counts(seen.counts)
    varies = float(dispersion(seen.counts, usual)[0])
    runs = empty_runs(seen.counts[0], usual[0], varies, THIN, THIN_EVIDENCE)
    return [
        Hole(daily.day(run.start), daily.day(run.stop - 1), run.rows, run.usual, True)
        for run in runs
        if run.stop == daily.n_days and run.stop - run.start <= LAST_DAYS
    ]


def _arrived_as_soon(context: QualityContext, table: str, daily: DailyCounts) -> DailyCounts:
    """Return rows per day that were known as soon as those of the last day are now."""
    if context.loaded.tables[table].known_basis != "column":
        return daily
    lag = context.now - context.now.replace(hour=0, minute=0, second=0, microsecond=0)
    moment = f"CAST({happened_day(table, 't')} AS TIMESTAMP)"
    limit = lag + timedelta(days=1)
    seconds = int(limit.total_seconds())
    soon = daily_counts(
        context, table, condition=f"t.known_at <= {moment} + INTERVAL {seconds} SECOND"
    )
    return soon if soon is not None and soon.counts.shape == daily.counts.shape else daily
