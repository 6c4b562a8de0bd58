"""Hazards of decisions as functions of hidden states, and their forecasts."""

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
"""Lags in months between a state and the decisions it affects, and their weights.

No lag is shorter than three months, so the probabilities of the next three months follow exactly
from the states up to today.
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
"""Catalogue theme of each state."""


@dataclass(frozen=True)
class Hazard:
    """One kind of decision: ``logit = intercept + weights · z``, z a weighted sum of lagged states.

    Attributes
    ----------
    intercept : float
        Log-odds at average states.
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
"""Loss of a renewal."""

MONTHLY_CHURN = Hazard(-5.05, LEAVING, (0.1, 0.0, -0.2))
"""Monthly decision to leave, for month-to-month accounts."""

PAYMENT_FAILURE = Hazard(-6.4, _weights(payment=1.3))
"""Monthly final payment failure, for month-to-month accounts."""

EXPANSION = Hazard(
    -3.75,
    _weights(demand=0.95, fit=0.45, sentiment=0.35, engagement=0.45, price=-0.35),
    (-0.1, 0.1, 0.2),
)
"""Monthly expansion by at least 10 %."""

CONTRACTION = Hazard(-5.4, _weights(engagement=-0.5, price=0.6, demand=-0.4))
"""Monthly contraction by at least 10 %; under contract at the renewal."""

CONTRACTION_AT_RENEWAL = 2.4
"""Added to the log-odds of contraction at a renewal."""


def logistic(logit: Floats) -> Floats:
    """Return 1 / (1 + exp(−x)).

    >>> float(logistic(np.array(0.0)))
    0.5
    """
    odds: Floats = 1.0 / (1.0 + np.exp(-logit))
    return odds


def lagged_states(hidden_states: HiddenStates, month: int) -> Floats:
    """Return z(month), accounts × states: the lagged states behind decisions of that month."""
    states = hidden_states.states
    z: Floats = sum(
        (fade * states[:, LEAD + month - lag] for lag, fade in zip(LAGS, FADE, strict=True)),
        start=np.zeros(states.shape[::2]),
    )
    return z


def hazard_outlook(hidden_states: HiddenStates, month: int, horizon: int) -> Floats:
    """Return the expected z given the states up to the end of ``month − 1``.

    Returns
    -------
    array, accounts × (horizon + 1) × states
        The mean of z(month), z(month + 1), …, exact where no lag reaches into the future.
        Events that affect all accounts (an outage) count as known.
    """
    law = hidden_states.dynamics
    known = hidden_states.states[:, LEAD + month - max(LAGS) : LEAD + month]
    path = [known[:, i] for i in range(known.shape[1])]
    for ahead in range(horizon + 1 - min(LAGS)):
        step = (path[-1] - hidden_states.level) @ law.transition.T + law.drift
        path.append(hidden_states.level + step + hidden_states.pushes.get(month + ahead, 0.0))
    newest = max(LAGS)
    z = [
        sum(
            (f * path[newest + a - lag] for lag, f in zip(LAGS, FADE, strict=True)),
            start=np.zeros_like(hidden_states.level),
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
    """Return decision days of lost renewals relative to the notice deadline, with probabilities.

    A normal curve around ten days before the deadline, truncated at 45 days before and 15 after.
    """
    days = np.arange(-45, min(15, notice_period - 1) + 1)
    chance = np.exp(-0.5 * ((days + 10) / 14) ** 2)
    return days, chance / chance.sum()


LAPSE_SHARE = 0.3
"""Share of lost renewals without auto-renewal that lapse on the renewal date without a notice."""


def contract_undecided(traits: AccountTraits, deadline: Ints, renews: Ints, day: Ints) -> Floats:
    """Return the probability that a lost renewal is still undecided at 00:00 of `day`.

    Parameters
    ----------
    deadline, renews, day : array of days
        One per account of `book`.
    """
    late = np.where(traits.auto_renew, 0.0, LAPSE_SHARE) * (day <= renews)
    in_time = np.zeros(len(traits))
    for period in np.unique(traits.notice_period):
        offsets, chance = decision_offsets(int(period))
        tail = np.append(np.cumsum(chance[::-1])[::-1], 0.0)
        place = np.clip(day - deadline - offsets[0], 0, len(offsets))
        in_time = np.where(traits.notice_period == period, tail[place], in_time)
    return late + np.where(traits.auto_renew, 1.0, 1 - LAPSE_SHARE) * in_time
