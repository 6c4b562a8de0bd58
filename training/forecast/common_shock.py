r"""Common shock: one factor that moves all accounts of a quarter, estimated with shrinkage.

The one-factor model of credit portfolios (Vasicek, "The distribution of loan portfolio value", Risk
15, 2002): account i is lost in quarter q when

    s Z_q + √(1 − s²) ε_i < Φ⁻¹(p_i),    Z_q, ε_i standard normal and independent.

Each account keeps its own probability p_i exactly; s² is the correlation of any two accounts. s = 0
means that accounts decide independently of each other.

A few quarters barely identify s, so it is a distribution: a half-normal prior is updated by the
exact likelihood of the outcomes on a grid, and the forecast draws s from the posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtri

PRIOR_SCALE = 0.15
"""Scale of the half-normal prior of s [judgement]: at a loss rate of 5 %, one standard deviation of
a quarter with s = 0.15 is 3.6 % to 6.8 %."""

GRID = np.linspace(0.0, 0.6, 31)
SHOCKS = np.linspace(-6.0, 6.0, 193)
"""Integration grid over the shock of a quarter, fine enough for thousands of accounts."""

STEP = 0.1
"""Rounding of Φ⁻¹(p) by which accounts are grouped; its effect on s is below the grid step."""

FEW_QUARTERS = 8
LIMIT = 1e-9


@dataclass(frozen=True)
class CommonShock:
    """Posterior distribution of s.

    Attributes
    ----------
    weights : numpy.ndarray
        Probability of each value of `GRID`.
    n_quarters, n_events : int
        Quarters and events behind the estimate.
    """

    weights: np.ndarray
    n_quarters: int = 0
    n_events: int = 0

    @property
    def mean(self) -> float:
        """Mean of s."""
        return float(self.weights @ GRID)

    def quantile(self, share: float) -> float:
        """Return the quantile of s at `share`."""
        reached = np.searchsorted(np.cumsum(self.weights), share)
        return float(GRID[min(int(reached), len(GRID) - 1)])

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return `n` draws of s."""
        return rng.choice(GRID, size=n, p=self.weights)

    def as_dict(self) -> dict[str, float | int | str]:
        """Return plain content with a sentence on its basis."""
        return {
            "mean": self.mean,
            "low": self.quantile(0.05),
            "high": self.quantile(0.95),
            "prior_scale": PRIOR_SCALE,
            "quarters": self.n_quarters,
            "events": self.n_events,
            "words": self._words(),
        }

    def _words(self) -> str:
        if self.n_quarters == 0:
            return (
                "No past quarter can be compared with its forecast, so the common shock is the "
                "assumption alone."
            )
        words = f"Estimated from {self.n_quarters} past quarters with {self.n_events} events"
        if self.n_quarters < FEW_QUARTERS:
            return (
                f"{words}: fewer than {FEW_QUARTERS} barely identify a common shock, so the prior "
                "assumption has a strong influence."
            )
        return f"{words}."


def prior() -> CommonShock:
    """Return the prior distribution of s."""
    return CommonShock(_normalised(_log_prior()))


def estimate_shock(
    quarters: Sequence[tuple[np.ndarray, np.ndarray]],
) -> CommonShock:
    """Return the posterior distribution of s after the observed quarters.

    Parameters
    ----------
    quarters : sequence of (p, happened)
        Per past quarter, the forecast probability of each account and whether it happened (0, 1).
    """
    seen = [(p, y) for p, y in quarters if len(p)]
    log_posterior = _log_prior()
    for p, happened in seen:
        log_posterior = log_posterior + shock_log_likelihood(p, happened)
    events = int(sum(float(np.sum(y)) for _, y in seen))
    return CommonShock(_normalised(log_posterior), len(seen), events)


def shock_log_likelihood(p: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """Return the log-likelihood of one quarter at each s of `GRID`.

    Notes
    -----
    ``log ∫ Π p_i(z)^y_i (1 − p_i(z))^(1 − y_i) φ(z) dz`` on the even grid `SHOCKS`, with
    ``p_i(z) = Φ((Φ⁻¹(p_i) − s z) / √(1 − s²))``.
    """
    place = np.round(ndtri(np.clip(p, LIMIT, 1.0 - LIMIT)) / STEP)
    threshold, group = np.unique(place, return_inverse=True)
    events = np.bincount(group, weights=np.asarray(happened, dtype=np.float64))
    others = np.bincount(group) - events
    return np.array([_integrated(threshold * STEP, events, others, s) for s in GRID])


def _integrated(threshold: np.ndarray, events: np.ndarray, others: np.ndarray, s: float) -> float:
    reach = (threshold[:, None] - s * SHOCKS) / np.sqrt(1.0 - s * s)
    log_p = events @ log_ndtr(reach) + others @ log_ndtr(-reach)
    width = SHOCKS[1] - SHOCKS[0]
    return float(logsumexp(log_p - 0.5 * SHOCKS**2) + np.log(width / np.sqrt(2.0 * np.pi)))


def _log_prior() -> np.ndarray:
    return -0.5 * (GRID / PRIOR_SCALE) ** 2


def _normalised(log_weights: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.exp(log_weights - logsumexp(log_weights))
    return weights / weights.sum()
