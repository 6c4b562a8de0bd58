"""Hidden monthly states of accounts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.simulator.mechanism.accounts import AccountTraits
from features.simulator.mechanism.calendar import Bools, Calendar, Floats, generator

STATES = (
    "engagement",
    "fit",
    "pain",
    "champion",
    "sentiment",
    "payment",
    "price",
    "demand",
)
"""States with mean about 0 and standard deviation about 1 over accounts and months."""

ENGAGEMENT, FIT, PAIN, CHAMPION, SENTIMENT, PAYMENT, PRICE, DEMAND = range(len(STATES))

PERSISTENCE = (0.92, 0.96, 0.82, 0.88, 0.88, 0.82, 0.90, 0.88)
LASTING = (0.60, 0.65, 0.45, 0.35, 0.50, 0.45, 0.45, 0.40)
"""Standard deviation of the constant level of an account, per state."""

CARRY_OVER = (
    (ENGAGEMENT, CHAMPION, 0.08),
    (ENGAGEMENT, FIT, 0.04),
    (SENTIMENT, PAIN, -0.10),
    (SENTIMENT, FIT, 0.04),
)
"""(affected state, state of the last month, effect)."""

SHOCKS = ("champion_left", "incident", "budget_cut", "card_trouble")
CHAMPION_LEFT, INCIDENT, BUDGET_CUT, CARD_TROUBLE = range(len(SHOCKS))
SHOCK_RATES = (0.018, 0.030, 0.012, 0.015)
"""Probability per account and month."""

SHOCK_EFFECTS = (
    (CHAMPION_LEFT, CHAMPION, -1.8),
    (CHAMPION_LEFT, ENGAGEMENT, -0.5),
    (INCIDENT, PAIN, 1.3),
    (INCIDENT, SENTIMENT, -0.3),
    (BUDGET_CUT, PRICE, 1.8),
    (CARD_TROUBLE, PAYMENT, 2.0),
)

OUTAGE = ((PAIN, 0.8), (SENTIMENT, -0.3))
BAD_RELEASE = ((PAIN, 0.9), (ENGAGEMENT, -0.3))
OUTAGE_AT, BAD_RELEASE_AT = 0.40, 0.65
"""Share of the simulated months after which each happens once."""

WARM_UP = 12
LEAD = 6
"""Months kept before the first simulated month, for the lags of the hazards."""


@dataclass(frozen=True)
class Dynamics:
    """Dynamics of the states, ``x(m) = μ + A (x(m−1) − μ) + B s(m) + u(m) + ε(m)``.

    Attributes
    ----------
    transition : array, states × states
        A.
    shock_effect : array, states × shocks
        B; s(m) are independent zero-one draws with probability `shock_rate`.
    noise_sd : array, states
        Standard deviation of ε.
    """

    transition: Floats
    shock_effect: Floats
    shock_rate: Floats
    noise_sd: Floats

    @property
    def drift(self) -> Floats:
        """The mean of ``B s``."""
        return self.shock_effect @ self.shock_rate

    @property
    def innovation(self) -> Floats:
        """The covariance of ``B s + ε``, states × states."""
        spread = self.shock_rate * (1 - self.shock_rate)
        covariance: Floats = np.diag(self.noise_sd**2)
        return covariance + (self.shock_effect * spread) @ self.shock_effect.T


@dataclass(frozen=True)
class HiddenStates:
    """States of all accounts over all months.

    Attributes
    ----------
    states : array, accounts × (LEAD + months) × states
        x; month m lies at position ``LEAD + m``. Demand is lowered in place after an expansion.
    level : array, accounts × states
        μ, the constant level of the account.
    pushes : dict of int to array (accounts × states)
        u by month: events that affect many accounts at once.
    shocked : array, accounts × months × shocks
        s, for signals of shocks.
    """

    dynamics: Dynamics
    states: Floats
    level: Floats
    pushes: dict[int, Floats]
    shocked: Bools

    def month(self, month: int) -> Floats:
        """Return x(m), accounts × states."""
        return self.states[:, LEAD + month]

    def path(self, state: int) -> Floats:
        """Return one state over the simulated months, accounts × months."""
        return self.states[:, LEAD:, state]


def dynamics() -> Dynamics:
    """Return the dynamics from the constants of this module."""
    persistence, lasting = np.array(PERSISTENCE), np.array(LASTING)
    transition = np.diag(persistence)
    for moved, by, amount in CARRY_OVER:
        transition[moved, by] += amount
    effect = np.zeros((len(STATES), len(SHOCKS)))
    for shock, state, amount in SHOCK_EFFECTS:
        effect[state, shock] = amount
    noise = np.sqrt((1 - persistence**2) * (1 - lasting**2))
    return Dynamics(transition, effect, np.array(SHOCK_RATES), noise)


def draw_hidden_states(seed: int, traits: AccountTraits, calendar: Calendar) -> HiddenStates:
    """Draw the states of every account before any decision."""
    rng = generator(seed, "latents")
    law = dynamics()
    n, length = len(traits), WARM_UP + LEAD + calendar.n_months
    level = rng.normal(0, np.array(LASTING), (n, len(STATES)))
    shocks = rng.random((length, n, len(SHOCKS))) < law.shock_rate
    pushes = _pushes(traits, calendar)
    deviation = rng.normal(0, 0.7, (n, len(STATES)))
    kept = np.empty((n, LEAD + calendar.n_months, len(STATES)))
    for step in range(length):
        noise = rng.normal(0, 1, (n, len(STATES))) * law.noise_sd
        push = pushes.get(step - WARM_UP - LEAD, 0.0)
        deviation = deviation @ law.transition.T + shocks[step] @ law.shock_effect.T + push + noise
        if step >= WARM_UP:
            kept[:, step - WARM_UP] = level + deviation
    shocked = np.swapaxes(shocks[WARM_UP + LEAD :], 0, 1)
    return HiddenStates(law, kept, level, pushes, shocked)


def _pushes(traits: AccountTraits, calendar: Calendar) -> dict[int, Floats]:
    outage = np.zeros((len(traits), len(STATES)))
    release = np.zeros_like(outage)
    for state, amount in OUTAGE:
        outage[:, state] = amount
    for state, amount in BAD_RELEASE:
        release[:, state] = amount * traits.owns[:, -1]
    months = (round(share * calendar.n_months) for share in (OUTAGE_AT, BAD_RELEASE_AT))
    return dict(zip(months, (outage, release), strict=True))
