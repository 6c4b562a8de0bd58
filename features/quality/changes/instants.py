"""Times that change meaning overnight: another time zone, and times of loading that are moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from features.quality.changes.daily import Floats, first_day, happened_day
from features.quality.context import QualityContext
from features.tables.source_tables import TABLES

WINDOW_DAYS, LEAST_ROWS = 28, 200
"""Days on each side of a shift that are compared, and rows needed on each."""

LEAST_HOURS = 2
"""Smallest shift in hours; clocks move by one hour between summer and winter."""

LEAST_DISTANCE, USUAL_FACTOR, LEFT = 0.15, 4.0, 0.35
"""Minimum distance of the hours before and after (0 to 1), as a multiple of the usual distance, and
the share of it that may be left once the shift is undone."""

RELOAD_SHARE, RELOAD_DAYS, RELOAD_ROWS = 0.1, 28, 50
"""Share of a table known on one day, number of days on which the rows happened, and minimum number
of rows, from which a day is that of a bulk reload."""

OLD_DAYS = 7
"""Age in days from which a row of that day is an old one."""


@dataclass(frozen=True)
class ZoneChange:
    """Hours of the day that shift on one day.

    Attributes
    ----------
    day : date
        First day of the new time zone.
    hours : int
        Shift of the times in hours, positive for later.
    rows : int
        Rows since that day.
    """

    day: date
    hours: int
    rows: int


@dataclass(frozen=True)
class Reload:
    """A day on which many old rows became known.

    Attributes
    ----------
    day : date
        Day of ``known_at``.
    rows : int
        Rows that happened more than a week before.
    first, last : date
        Days on which they happened.
    """

    day: date
    rows: int
    first: date
    last: date


def zone_change(context: QualityContext, table: str) -> ZoneChange | None:
    """Return the clearest shift of the hours of a table, or None."""
    spec = TABLES[table]
    first = first_day(context, table)
    if spec.columns[spec.happened].kind != "instant" or first is None:
        return None
    n_days = (context.now.date() - first).days
    if n_days < 2 * 7:
        return None
    rows = context.connection.execute(
        f"SELECT CAST({happened_day(table)} - $1 AS INTEGER) AS position, "
        f"hour({spec.happened}) AS hour, count(*) AS n FROM {table} "
        f"WHERE {happened_day(table)} >= $1 AND {happened_day(table)} < $2 "
        f"AND {spec.happened} <> date_trunc('day', {spec.happened}) "
        f"AND {spec.happened} <> date_trunc('day', {spec.happened}) + INTERVAL 1 DAY "
        f"- INTERVAL 1 MICROSECOND GROUP BY ALL",
        [first, context.now.date()],
    ).fetchnumpy()
    counts = np.zeros((24, n_days + 1))
    position = np.asarray(rows["position"], dtype=np.int64) + 1
    counts[np.asarray(rows["hour"], dtype=np.int64), position] = rows["n"]
    found = _clearest(np.cumsum(counts, axis=1))
    if found is None:
        return None
    place, hours = found
    return ZoneChange(first + timedelta(days=place), hours, int(counts[:, place + 1 :].sum()))


def _clearest(cumulated: Floats) -> tuple[int, int] | None:
    """Return day and shift in hours of the clearest change of the hours of the day."""
    n_days = cumulated.shape[1] - 1
    days = np.arange(7, n_days - 6)
    before = cumulated[:, days] - cumulated[:, np.maximum(0, days - WINDOW_DAYS)]
    after = cumulated[:, np.minimum(n_days, days + WINDOW_DAYS)] - cumulated[:, days]
    enough = (before.sum(axis=0) >= LEAST_ROWS) & (after.sum(axis=0) >= LEAST_ROWS)
    if not enough.any():
        return None
    old = before / np.maximum(before.sum(axis=0), 1.0)
    new = after / np.maximum(after.sum(axis=0), 1.0)
    distance = np.where(enough, _distance(old, new), 0.0)
    place = int(np.argmax(distance))
    usual = float(np.median(distance[enough]))
    if distance[place] < max(LEAST_DISTANCE, USUAL_FACTOR * usual):
        return None
    by_shift = [
        float(_distance(np.roll(old[:, place], hours), new[:, place])) for hours in range(24)
    ]
    hours = int(np.argmin(by_shift))
    signed = hours if hours <= 12 else hours - 24
    if abs(signed) < LEAST_HOURS or by_shift[hours] > LEFT * distance[place]:
        return None
    return int(days[place]), signed


def _distance(old: Floats, new: Floats) -> Floats:
    """Return the total variation distance of distributions over hours.

    >>> float(_distance(np.array([1.0, 0.0]), np.array([0.5, 0.5])))
    0.5
    """
    return np.asarray(0.5 * np.abs(old - new).sum(axis=0))


def reload(context: QualityContext, table: str) -> Reload | None:
    """Return the day on which most old rows of a table became known, if they are many."""
    info = context.loaded.tables[table]
    spec = TABLES[table]
    if info.known_basis != "column" or spec.happened not in info.columns:
        return None
    row = context.query_row(
        f"SELECT CAST(known_at AS DATE) AS day, count(*) AS rows, "
        f"count(DISTINCT {happened_day(table)}) AS days, min({happened_day(table)}) AS first, "
        f"max({happened_day(table)}) AS last FROM {table} "
        f"WHERE CAST(known_at AS DATE) > {happened_day(table)} + INTERVAL {OLD_DAYS} DAY "
        f"GROUP BY 1 ORDER BY rows DESC, day LIMIT 1"
        if info.rows
        else "SELECT NULL AS day, 0 AS rows, 0 AS days, NULL AS first, NULL AS last",
    )
    if not row or row["day"] is None:
        return None
    is_large = row["rows"] >= max(RELOAD_ROWS, RELOAD_SHARE * info.rows)
    if not is_large or row["days"] < RELOAD_DAYS:
        return None
    return Reload(row["day"], int(row["rows"]), row["first"], row["last"])
