"""What the hidden states do to decisions, and what can be known of it beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.simulator.mechanism.accounts import AccountTraits
from features.simulator.mechanism.calendar import Floats, Ints
from features.simulator.mechanism.hidden_states import (
    CHAMPION,
    DEMAND,
    ENGAGEMENT,
    FIT,
    LEAD,
    PAIN,
    PAYMENT,
    PRICE,
    SENTIMENT,
    STATES,
    Dynamics,
    HiddenStates,
)

LAGS, FADE = (3, 4, 5), (0.5, 0.3, 0.2)
"""Months between a state and the decisions it moves, and how much of it each lag carries.

With no lag shorter than three months, the chances of the next three months are settled by the
states up to today, which makes the truth exact rather than estimated.
"""

THEME_OF = {
    ENGAGEMENT: "adoption",
    FIT: "breadth",
    PAIN: "support",
    CHAMPION: "relationship",
    SENTIMENT: "sentiment",
    PAYMENT: "payments",
    PRICE: "commercial",
    DEMAND: "commercial",
}
"""The catalogue's theme under which each state shows."""


@dataclass(frozen=True)
class Hazard:
    """One kind of decision: ``logit = intercept + weights · z``, z the faded sum of lagged states.

    Attributes
    ----------
    intercept : float
        At average states.
    weights : array, states
        Change of the log-odds per unit of state.
    by_segment : tuple of float
        Added to the intercept, per segment.
    """

    intercept: float
    weights: Floats
    by_segment: tuple[float, ...] = (0.0, 0.0, 0.0)

    def logit(self, lagged: Floats, segment: Ints) -> Floats:
        """Return the log-odds per account, from z (accounts × states)."""
        offset: Floats = np.array(self.by_segment)[segment] + self.intercept
        return offset + lagged @ self.weights


def _weights(**by_state: float) -> Floats:
    return np.array([by_state.get(name, 0.0) for name in STATES])


LEAVING = _weights(
    engagement=-0.65, fit=-0.56, pain=0.38, champion=-0.36, sentiment=-0.36, price=0.42
)

RENEWAL_LOSS = Hazard(-2.92, LEAVING, (0.25, 0.0, -0.35))
"""Losing one renewal of a contract."""

MONTHLY_CHURN = Hazard(-5.05, LEAVING, (0.1, 0.0, -0.2))
"""Deciding to leave in one month, month to month."""

PAYMENT_FAILURE = Hazard(-6.4, _weights(payment=1.3))
"""Being cut off for not paying in one month, month to month only."""

EXPANSION = Hazard(
    -3.75,
    _weights(demand=0.95, fit=0.45, sentiment=0.35, engagement=0.45, price=-0.35),
    (-0.1, 0.1, 0.2),
)
"""Buying at least a tenth more in one month."""

CONTRACTION = Hazard(-5.4, _weights(engagement=-0.5, price=0.6, demand=-0.4))
"""Buying at least a tenth less in one month, month to month; in contracts at the renewal."""

CONTRACTION_AT_RENEWAL = 2.4
"""Added to the log-odds of contraction at a renewal."""


def logistic(logit: Floats) -> Floats:
    """Return 1 / (1 + exp(−x)).

    >>> float(sigmoid(np.array(0.0)))
    0.5
    """
    odds: Floats = 1.0 / (1.0 + np.exp(-logit))
    return odds


def lagged_states(latents: HiddenStates, month: int) -> Floats:
    """Return z(month), accounts × states: what moves the decisions of that month."""
    states = latents.states
    z: Floats = sum(
        (fade * states[:, LEAD + month - lag] for lag, fade in zip(LAGS, FADE, strict=True)),
        start=np.zeros(states.shape[::2]),
    )
    return z


def hazard_outlook(latents: HiddenStates, month: int, horizon: int) -> Floats:
    """Return what z will be, on average, given the states up to the end of ``month − 1``.

    Returns
    -------
    array, accounts × (horizon + 1) × states
        The mean of z(month), z(month + 1), …, exact where no lag reaches into the future.
        Events that hit everyone (an outage) are taken as known.
    """
    law = latents.dynamics
    known = latents.states[:, LEAD + month - max(LAGS) : LEAD + month]
    path = [known[:, i] for i in range(known.shape[1])]
    for ahead in range(horizon + 1 - min(LAGS)):
        step = (path[-1] - latents.level) @ law.transition.T + law.drift
        path.append(latents.level + step + latents.pushes.get(month + ahead, 0.0))
    newest = max(LAGS)
    z = [
        sum(
            (f * path[newest + a - lag] for lag, f in zip(LAGS, FADE, strict=True)),
            start=np.zeros_like(latents.level),
        )
        for a in range(horizon + 1)
    ]
    return np.stack(z, axis=1)


def uncertainty(law: Dynamics, weights: Floats, horizon: int) -> Floats:
    """Return the variance of ``weights · z(month + a)`` around its mean, for a = 0 … horizon.

    Notes
    -----
    An innovation of month t reaches z through every lag that leaves time for it:
    ``c(t) = Σ_k fade_k · weights' A^(a − k − t)``; the variance is ``Σ_t c(t) Q c(t)'``.
    """
    variance = np.zeros(horizon + 1)
    for ahead in range(horizon + 1):
        for t in range(ahead - min(LAGS) + 1):
            reach = np.zeros(len(weights))
            for lag, fade in zip(LAGS, FADE, strict=True):
                if ahead - lag - t >= 0:
                    power = np.linalg.matrix_power(law.transition, ahead - lag - t)
                    reach += fade * (weights @ power)
            variance[ahead] += float(reach @ law.innovation @ reach)
    return variance


def expected_sigmoid(mean: Floats, variance: Floats) -> Floats:
    """Return E[sigmoid(X)] for X normal, by 24-point Gauss–Hermite quadrature.

    >>> round(float(expected_sigmoid(np.array([0.0]), np.array([4.0]))[0]), 12)
    0.5
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    spread = np.sqrt(variance)[..., None] * nodes
    value: Floats = logistic(mean[..., None] + spread) @ (weights / weights.sum())
    return value


def decision_offsets(notice_period: int) -> tuple[Ints, Floats]:
    """Return the days around the notice deadline on which a lost renewal is decided, with chances.

    A normal curve around ten days before the deadline, cut at 45 days before and 15 after.
    """
    days = np.arange(-45, min(15, notice_period - 1) + 1)
    chance = np.exp(-0.5 * ((days + 10) / 14) ** 2)
    return days, chance / chance.sum()


LAPSE_SHARE = 0.3
"""Lost renewals without auto-renewal that lapse on the renewal date, without a notice."""


def contract_undecided(book: AccountTraits, deadline: Ints, renews: Ints, day: Ints) -> Floats:
    """Return, for a renewal that will be lost, the chance that it is undecided at 00:00 of `day`.

    Parameters
    ----------
    deadline, renews, day : array of days
        One per account of `book`.
    """
    late = np.where(book.auto_renew, 0.0, LAPSE_SHARE) * (day <= renews)
    in_time = np.zeros(len(book))
    for period in np.unique(book.notice_period):
        offsets, chance = decision_offsets(int(period))
        tail = np.append(np.cumsum(chance[::-1])[::-1], 0.0)
        place = np.clip(day - deadline - offsets[0], 0, len(offsets))
        in_time = np.where(book.notice_period == period, tail[place], in_time)
    return late + np.where(book.auto_renew, 1.0, 1 - LAPSE_SHARE) * in_time
