"""Ground truth: the true probabilities on the first day of each month."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.mechanism.accounts import AccountTraits
from features.simulator.mechanism.calendar import Calendar, Floats, Ints, dates
from features.simulator.mechanism.decisions import SETTLING_MONTHS, Decisions, Snapshot
from features.simulator.mechanism.hazards import (
    EXPANSION,
    LEAVING,
    MONTHLY_CHURN,
    PAYMENT_FAILURE,
    RENEWAL_LOSS,
    THEME_OF,
    Hazard,
    contract_undecided,
    expected_sigmoid,
    hazard_outlook,
    uncertainty,
)
from features.simulator.mechanism.hidden_states import STATES, HiddenStates

HORIZON_DAYS = 91
REACH = 4
"""Maximum number of months a horizon of 91 days overlaps."""

LONGEST = 40
"""Maximum number of months from an as_of to a notice deadline."""


def truth_table(
    traits: AccountTraits, hidden_states: HiddenStates, decisions: Decisions, calendar: Calendar
) -> pd.DataFrame:
    """Return the true probabilities: one row per account without a decision and first of a month.

    Columns
    -------
    account_id, as_of_on
        The key; as_of is 00:00 UTC of that day and the window is ``(as_of, as_of + 91 days]``.
    is_under_contract, renews_on
        Meaning of `p_churn`.
    p_churn
        Under contract: probability that this renewal is lost. Month to month: probability of a
        decision to leave within the window. Both given no decision by as_of.
    p_payment_failure
        Probability of a final payment failure within the window; 0 under contract.
    p_leave_91d
        Probability of a decision to leave or a final payment failure within the window.
    p_expansion
        Probability of an expansion within the window.
    churn_driver, expansion_driver
        Theme with the largest contribution to the log-odds.
    churn_<theme>, expansion_<theme>
        Log-odds contribution of each theme, before averaging over open months; 0 at an average
        state.
    """
    spread = uncertainty(hidden_states.dynamics, LEAVING, LONGEST)
    parts = [
        _truth_at(month, snapshot, traits, hidden_states, calendar, spread)
        for month, snapshot in enumerate(decisions.snapshots)
    ]
    return pd.concat(parts, ignore_index=True)


def _truth_at(
    month: int,
    snapshot: Snapshot,
    traits: AccountTraits,
    hidden_states: HiddenStates,
    calendar: Calendar,
    spread: Floats,
) -> pd.DataFrame:
    ahead = np.clip(calendar.month_of(snapshot.deadline) - month, 0, LONGEST)
    z = hazard_outlook(hidden_states, month, LONGEST)
    at_deadline = z[np.arange(len(traits)), np.where(traits.has_contract, ahead, 0)]
    loss, by_month = _renewal(month, snapshot, traits, calendar, at_deadline, spread[ahead])
    leave, unpaid = _monthly(month, traits, hidden_states, calendar, z)
    is_contract = traits.has_contract[:, None]
    lost, unpaid = np.where(is_contract, by_month, leave), np.where(is_contract, 0.0, unpaid)
    p_churn = np.where(traits.has_contract, loss, _within(lost, month, calendar))
    payment = _within(unpaid, month, calendar)
    survival = 1 - np.cumsum(lost + unpaid, axis=1)
    growth = _expansion(month, snapshot, traits, hidden_states, z, survival)
    leaves = _contract_within(month, snapshot, traits, calendar, loss)
    by_theme = _by_theme(at_deadline, LEAVING)
    growth_by_theme = _by_theme(z[:, 0], EXPANSION.weights)
    table = {
        "account_id": traits.account_id,
        "as_of_on": dates(np.full(len(traits), calendar.starts[month])),
        "is_under_contract": traits.has_contract,
        "renews_on": dates(snapshot.renews),
        "p_churn": p_churn,
        "p_payment_failure": payment,
        "p_leave_91d": np.where(traits.has_contract, leaves, p_churn + payment),
        "p_expansion": _within(growth, month, calendar),
        "churn_driver": _strongest(by_theme),
        "expansion_driver": _strongest(growth_by_theme),
        **{f"churn_{theme}": value for theme, value in by_theme.items()},
        **{f"expansion_{theme}": value for theme, value in growth_by_theme.items()},
    }
    return pd.DataFrame(table)[snapshot.is_open]


def _renewal(
    month: int,
    snapshot: Snapshot,
    traits: AccountTraits,
    calendar: Calendar,
    z: Floats,
    variance: Floats,
) -> tuple[Floats, Floats]:
    """Return the probability that this renewal is lost, and its split over the next `REACH` months.

    Notes
    -----
    With p the probability at the deadline and S the probability that a lost renewal is still
    undecided today, the probability given no decision so far is ``p S / (p S + 1 − p)``.
    """
    p = expected_sigmoid(RENEWAL_LOSS.logit(z, traits.segment), variance)
    p = np.where(snapshot.is_secured, 0.0, p)
    left = np.stack(
        [_undecided(traits, snapshot, int(calendar.starts[month + i])) for i in range(REACH + 1)],
        axis=1,
    )
    still = p * left[:, 0] + 1 - p
    by_month: Floats = p[:, None] * (left[:, :-1] - left[:, 1:]) / still[:, None]
    return p * left[:, 0] / still, by_month


def _undecided(traits: AccountTraits, snapshot: Snapshot, day: int) -> Floats:
    days = np.full(len(traits), day)
    deadline = np.where(traits.has_contract, snapshot.deadline, 0)
    return contract_undecided(traits, deadline, snapshot.renews, days)


def _contract_within(
    month: int, snapshot: Snapshot, traits: AccountTraits, calendar: Calendar, loss: Floats
) -> Floats:
    """Return the probability that the loss of this renewal is decided within the window."""
    today = int(calendar.starts[month])
    now = _undecided(traits, snapshot, today)
    later = _undecided(traits, snapshot, today + HORIZON_DAYS)
    share: Floats = np.divide(now - later, now, out=np.zeros_like(now), where=now > 0)
    return loss * share


def _monthly(
    month: int, traits: AccountTraits, hidden_states: HiddenStates, calendar: Calendar, z: Floats
) -> tuple[Floats, Floats]:
    """Return the month-to-month probabilities of leaving and of payment failure per month."""
    settled = calendar.month_of(traits.started)[:, None] + SETTLING_MONTHS
    free = settled <= month + np.arange(REACH)
    leave = free * _hazards_ahead(MONTHLY_CHURN, traits, hidden_states, z)
    unpaid = free * _hazards_ahead(PAYMENT_FAILURE, traits, hidden_states, z)
    still = _survival((1 - leave) * (1 - unpaid))
    return still * leave, still * (1 - leave) * unpaid


def _expansion(
    month: int,
    snapshot: Snapshot,
    traits: AccountTraits,
    hidden_states: HiddenStates,
    z: Floats,
    survival: Floats,
) -> Floats:
    """Return the probability of the first expansion in each of the next `REACH` months."""
    rested = snapshot.rests_until[:, None] <= month + np.arange(REACH)
    chance = rested * _hazards_ahead(EXPANSION, traits, hidden_states, z)
    first: Floats = survival * _survival(1 - chance) * chance
    return first


def _hazards_ahead(
    hazard: Hazard, traits: AccountTraits, hidden_states: HiddenStates, z: Floats
) -> Floats:
    """Return the hazard of each of the next `REACH` months, accounts × months."""
    variance = uncertainty(hidden_states.dynamics, hazard.weights, REACH - 1)
    logits = [hazard.logit(z[:, ahead], traits.segment) for ahead in range(REACH)]
    return expected_sigmoid(np.stack(logits, axis=1), variance)


def _survival(kept: Floats) -> Floats:
    """Return the probability of survival to the start of each month."""
    before = np.column_stack([np.ones(len(kept)), kept[:, :-1]])
    return np.asarray(np.cumprod(before, axis=1), dtype=np.float64)


def _within(by_month: Floats, month: int, calendar: Calendar) -> Floats:
    """Return the part of monthly probabilities within the window, spread evenly over days."""
    starts = calendar.starts[month : month + REACH + 1]
    end = starts[0] + HORIZON_DAYS
    share = np.clip((end - starts[:-1]) / np.diff(starts), 0, 1)
    inside: Floats = by_month @ share
    return inside


def _by_theme(z: Floats, weights: Floats) -> dict[str, Floats]:
    themes: dict[str, Floats] = {}
    for state in range(len(STATES)):
        if weights[state] != 0:
            theme = THEME_OF[state]
            themes[theme] = themes.get(theme, 0.0) + weights[state] * z[:, state]
    return themes


def _strongest(by_theme: dict[str, Floats]) -> np.ndarray:
    names: Ints = np.argmax(np.column_stack(list(by_theme.values())), axis=1)
    return np.array(list(by_theme), dtype=object)[names]
