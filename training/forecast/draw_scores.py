"""How good a forecast by draws was: CRPS, coverage, bias."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

BAND = 0.80
"""Share of outcomes that should lie between P10 and P90."""


def crps(draws: np.ndarray, observed: float) -> float:
    """Return the continuous ranked probability score of draws, in the unit of what is forecast.

    0 is perfect; of a single number it is the absolute error, so the two can be compared.

    Notes
    -----
    ``E|X − y| − E|X − X'| / 2`` over the empirical distribution of the draws (Gneiting and
    Raftery, Journal of the American Statistical Association 102, 2007, eq. 21).

    >>> crps(np.array([0.0, 1.0]), 0.5), crps(np.array([0.9]), 0.7)
    (0.25, 0.2)
    """
    x = np.sort(np.asarray(draws, dtype=np.float64))
    n = len(x)
    spread = float((x * (2.0 * np.arange(1, n + 1) - n - 1)).sum()) / n**2
    return round(float(np.abs(x - observed).mean()) - spread, 12)


def is_covered(draws: np.ndarray, observed: float) -> bool:
    """Return whether an outcome lies within the middle 80 % of the draws, limits included."""
    tail = (1.0 - BAND) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return bool(low <= observed <= high)


def coverage_tolerance(n: int) -> tuple[int, int]:
    """Return how many of `n` outcomes a perfect 80 % band holds in 95 of 100 cases.

    >>> coverage_tolerance(4), coverage_tolerance(8)
    ((1, 4), (4, 8))
    """
    low, high = binom.ppf([0.025, 0.975], n, BAND)
    return int(low), int(high)
