"""Expected loss by time frame: in total, within 91 days, and by the end of the year.

An account's expected loss is its probability times its ARR and refers to the end of its estimate:
the renewal, or the end of the horizon. Sums over accounts with different ends are reported with the
last end and with the parts within 91 days and by the end of the calendar year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

NEAR_DAYS = 91


@dataclass(frozen=True)
class Frames:
    """Time frames of an expected loss.

    Attributes
    ----------
    as_of : date
        First day of the frames.
    """

    as_of: date

    @property
    def near_on(self) -> date:
        """The day `NEAR_DAYS` after as_of."""
        return self.as_of + timedelta(days=NEAR_DAYS)

    @property
    def year_end_on(self) -> date:
        """Last day of the calendar year of the day after as_of."""
        return date((self.as_of + timedelta(days=1)).year, 12, 31)


@dataclass(frozen=True)
class ExpectedLoss:
    """Expected loss of ARR of some accounts, in the reporting currency.

    Attributes
    ----------
    total : float
        Total, of each account up to the end of its estimate.
    until : date or None
        Latest end; None without one.
    near, year : float
        Parts by `near_on` and by `year_end_on`.
    near_on, year_end_on : date
        See `Frames`.
    """

    total: float
    until: date | None
    near: float
    near_on: date
    year: float
    year_end_on: date

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON content."""
        return {
            "total": self.total,
            "until": self.until.isoformat() if self.until else None,
            "within_91_days": self.near,
            "within_91_days_on": self.near_on.isoformat(),
            "by_year_end": self.year,
            "year_end_on": self.year_end_on.isoformat(),
        }


def part_by(by: date, as_of: date, until: date | None, is_renewal: bool) -> float:
    """Return the share of an account's expected loss by a day, 0–1.

    A renewal is lost on its day. The loss of an account without a renewal is spread evenly over its
    horizon.

    Parameters
    ----------
    by, as_of : date
        End and start of the time frame.
    until : date or None
        End of the estimate; None is after every frame.
    is_renewal : bool
        Whether that day is a renewal.

    Examples
    --------
    >>> by, day = date(2026, 9, 28), date(2026, 6, 29)
    >>> part_by(by, day, date(2026, 9, 1), True), part_by(by, day, date(2027, 6, 1), True)
    (1.0, 0.0)
    >>> part_by(by, day, date(2026, 12, 28), False), part_by(by, day, None, False)
    (0.5, 0.0)
    """
    if until is None:
        return 0.0
    if until <= by:
        return 1.0
    return 0.0 if is_renewal else (by - as_of).days / (until - as_of).days


def shares_by(
    by: date, as_of: date, until: Sequence[date | None], is_renewal: Sequence[bool]
) -> np.ndarray:
    """Return `part_by` of many accounts, (accounts,); computed once per distinct end."""
    asked = list(zip(until, is_renewal, strict=True))
    part = {pair: part_by(by, as_of, *pair) for pair in set(asked)}
    return np.array([part[pair] for pair in asked], dtype=np.float64)


def expected_loss(
    lost: np.ndarray, as_of: date, until: Sequence[date | None], is_renewal: Sequence[bool]
) -> ExpectedLoss:
    """Return the expected loss of some accounts by time frame.

    Parameters
    ----------
    lost : numpy.ndarray
        (accounts,) probability times ARR.
    as_of, until, is_renewal
        See `part_by`.

    Examples
    --------
    >>> ends = [date(2026, 9, 1), date(2029, 6, 1)]
    >>> found = expected_loss(np.array([10.0, 30.0]), date(2026, 6, 29), ends, [True, True])
    >>> found.total, found.until.isoformat(), found.near, found.near_on.isoformat()
    (40.0, '2029-06-01', 10.0, '2026-09-28')
    """
    frames = Frames(as_of)
    near, year = (
        float(lost @ shares_by(by, as_of, until, is_renewal))
        for by in (frames.near_on, frames.year_end_on)
    )
    last = max((day for day in until if day is not None), default=None)
    return ExpectedLoss(float(lost.sum()), last, near, frames.near_on, year, frames.year_end_on)
