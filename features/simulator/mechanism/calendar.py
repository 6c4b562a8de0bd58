"""Days and months as integers, for simulation with arrays.

A *day* is the number of days since 1970-01-01, a *moment* the number of seconds since then (UTC),
a *month* counts from the first simulated month. `NEVER` means "did not happen".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEVER = int(np.iinfo(np.int64).min)
"""Integer that numpy reads as NaT."""

FAR = 10**6
"""Day after every simulated day."""

DAY = 86_400
"""Seconds in a day."""

AHEAD = 48
"""Maximum number of months from the last simulated month to a renewal date."""


@dataclass(frozen=True)
class Calendar:
    """Months of a simulation.

    Attributes
    ----------
    n_months : int
        Months simulated; the last one is the month of `now`.
    starts : array of int
        First day of each month, for months 0 to ``n_months + AHEAD``.
    now : int
        Time of the export; nothing later is visible.
    """

    n_months: int
    starts: Ints
    now: int

    @property
    def now_day(self) -> int:
        """First day that has not ended by `now`."""
        return self.now // DAY

    def month_of(self, days: Ints) -> Ints:
        """Return the month of each day, negative before the first simulated month."""
        return np.searchsorted(self.starts, days, side="right").astype(np.int64) - 1

    def length(self, month: int) -> int:
        """Return the number of days of a month."""
        return int(self.starts[month + 1] - self.starts[month])


def calendar_until(now: datetime, months: int) -> Calendar:
    """Return the calendar of the `months` months that end with the month of `now`."""
    moment = now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
    last = np.datetime64(f"{moment.year:04d}-{moment.month:02d}", "M")
    span = last - (months - 1) + np.arange(months + AHEAD + 1)
    starts = span.astype("datetime64[D]").astype(np.int64)
    return Calendar(months, starts, int(moment.timestamp()))


def month_number(days: Ints) -> Ints:
    """Return the months since January 1970 of each day.

    >>> month_number(np.array([0, 31, 365]))
    array([ 0,  1, 12])
    """
    number: Ints = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return number


def month_start(days: Ints) -> Ints:
    """Return the first day of the month of each day.

    >>> month_start(np.array([0, 33]))
    array([ 0, 31])
    """
    return first_day(month_number(days))


def first_day(number: Ints) -> Ints:
    """Return the first day of months counted since January 1970."""
    day: Ints = number.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return day


def add_months(days: Ints, months: Ints | int) -> Ints:
    """Return the same day of the month `months` later, for days of the month up to the 28th.

    >>> add_months(np.array([31 + 27]), 12) - (31 + 27)   # 28 February 1970
    array([365])
    """
    return first_day(month_number(days) + months) + days - month_start(days)


def instants(moments: Ints) -> pd.Series:
    """Return moments as UTC timestamps in microseconds; `NEVER` becomes NaT."""
    naive = moments.astype("datetime64[s]").astype("datetime64[us]")
    return pd.Series(naive).dt.tz_localize("UTC")


def dates(days: Ints) -> pd.Series:
    """Return days as midnight timestamps without a zone, in microseconds; `NEVER` becomes NaT."""
    known = np.where(days == NEVER, 0, days) * DAY
    return pd.Series(np.where(days == NEVER, NEVER, known).astype("datetime64[s]")).astype(
        "datetime64[us]"
    )


def seconds(moments: pd.Series) -> Ints:
    """Return UTC timestamps as whole seconds; NaT becomes `NEVER`."""
    naive = moments.dt.tz_localize(None).to_numpy()
    whole: Ints = naive.astype("datetime64[s]").astype(np.int64)
    return whole


def blank_unless(shown: Bools, values: npt.NDArray[Any] | str) -> npt.NDArray[np.object_]:
    """Return `values` where they are shown, and None elsewhere.

    >>> blank_unless(np.array([True, False]), "play").tolist()
    ['play', None]
    """
    blank = np.full(len(shown), None, dtype=object)
    blank[shown] = values if isinstance(values, str) else values[shown]
    return blank


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the random generator of one purpose, independent of all other purposes."""
    return np.random.default_rng([seed, *purpose.encode()])
