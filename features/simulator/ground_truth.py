"""The chances that really held at each month's first day, which no source table shows."""

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
"""Months that a horizon of 91 days can touch."""

LONGEST = 40
"""Months between any as_of and the notice deadline of the longest term, rounded up."""


def truth_table(
    book: AccountTraits, latents: HiddenStates, life: Decisions, calendar: Calendar
) -> pd.DataFrame:
    """Return the true chances: one row per account and first of a month, while nothing is decided.

    Columns
    -------
    account_id, as_of_on
        The key; as_of is 00:00 UTC of that day and the window is ``(as_of, as_of + 91 days]``.
    is_under_contract, renews_on
        Which question `p_churn` answers.
    p_churn
        Under contract: the chance that this renewal is lost. Month to month: the chance of
        deciding to leave within the window. Given that nothing is decided by as_of.
    p_payment_failure
        The chance of being cut off for not paying within the window; 0 under contract.
    p_leave_91d
        The chance of any decision to leave, or being cut off, within the window.
    p_expansion
        The chance of an expansion within the window.
    churn_driver, expansion_driver
        The theme that adds most to the log-odds.
    churn_<theme>, expansion_<theme>
        Log-odds from each theme, before averaging over what is still open; 0 at an average state.
    """
    spread = uncertainty(latents.dynamics, LEAVING, LONGEST)
    parts = [
        _truth_at(month, snapshot, book, latents, calendar, spread)
        for month, snapshot in enumerate(life.snapshots)
    ]
    return pd.concat(parts, ignore_index=True)


def _truth_at(
    month: int,
    snapshot: Snapshot,
    book: AccountTraits,
    latents: HiddenStates,
    calendar: Calendar,
    spread: Floats,
) -> pd.DataFrame:
    ahead = np.clip(calendar.month_of(snapshot.deadline) - month, 0, LONGEST)
    z = hazard_outlook(latents, month, LONGEST)
    at_deadline = z[np.arange(len(book)), np.where(book.has_contract, ahead, 0)]
    loss, by_month = _renewal(month, snapshot, book, calendar, at_deadline, spread[ahead])
    leave, unpaid = _monthly(month, book, latents, calendar, z)
    is_contract = book.has_contract[:, None]
    lost, unpaid = np.where(is_contract, by_month, leave), np.where(is_contract, 0.0, unpaid)
    p_churn = np.where(book.has_contract, loss, _within(lost, month, calendar))
    payment = _within(unpaid, month, calendar)
    survival = 1 - np.cumsum(lost + unpaid, axis=1)
    growth = _expansion(month, snapshot, book, latents, z, survival)
    leaves = _contract_within(month, snapshot, book, calendar, loss)
    by_theme = _by_theme(at_deadline, LEAVING)
    growth_by_theme = _by_theme(z[:, 0], EXPANSION.weights)
    table = {
        "account_id": book.account_id,
        "as_of_on": dates(np.full(len(book), calendar.starts[month])),
        "is_under_contract": book.has_contract,
        "renews_on": dates(snapshot.renews),
        "p_churn": p_churn,
        "p_payment_failure": payment,
        "p_leave_91d": np.where(book.has_contract, leaves, p_churn + payment),
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
    book: AccountTraits,
    calendar: Calendar,
    z: Floats,
    variance: Floats,
) -> tuple[Floats, Floats]:
    """Return the chance that this renewal is lost, and its split over the next `REACH` months.

    Notes
    -----
    With p the chance at the deadline and S the chance that a lost renewal is still undecided
    today, silence so far makes it ``p S / (p S + 1 − p)``.
    """
    p = expected_sigmoid(RENEWAL_LOSS.logit(z, book.segment), variance)
    p = np.where(snapshot.is_secured, 0.0, p)
    left = np.stack(
        [_undecided(book, snapshot, int(calendar.starts[month + i])) for i in range(REACH + 1)],
        axis=1,
    )
    still = p * left[:, 0] + 1 - p
    by_month: Floats = p[:, None] * (left[:, :-1] - left[:, 1:]) / still[:, None]
    return p * left[:, 0] / still, by_month


def _undecided(book: AccountTraits, snapshot: Snapshot, day: int) -> Floats:
    days = np.full(len(book), day)
    deadline = np.where(book.has_contract, snapshot.deadline, 0)
    return contract_undecided(book, deadline, snapshot.renews, days)


def _contract_within(
    month: int, snapshot: Snapshot, book: AccountTraits, calendar: Calendar, loss: Floats
) -> Floats:
    """Return the chance that the loss of this renewal is decided within the window."""
    today = int(calendar.starts[month])
    now = _undecided(book, snapshot, today)
    later = _undecided(book, snapshot, today + HORIZON_DAYS)
    share: Floats = np.divide(now - later, now, out=np.zeros_like(now), where=now > 0)
    return loss * share


def _monthly(
    month: int, book: AccountTraits, latents: HiddenStates, calendar: Calendar, z: Floats
) -> tuple[Floats, Floats]:
    """Return, month to month, the chances of leaving and of being cut off in each next month."""
    settled = calendar.month_of(book.started)[:, None] + SETTLING_MONTHS
    free = settled <= month + np.arange(REACH)
    leave = free * _chances(MONTHLY_CHURN, book, latents, z)
    unpaid = free * _chances(PAYMENT_FAILURE, book, latents, z)
    still = _still((1 - leave) * (1 - unpaid))
    return still * leave, still * (1 - leave) * unpaid


def _expansion(
    month: int,
    snapshot: Snapshot,
    book: AccountTraits,
    latents: HiddenStates,
    z: Floats,
    survival: Floats,
) -> Floats:
    """Return the chance of the first expansion in each of the next `REACH` months."""
    rested = snapshot.rests_until[:, None] <= month + np.arange(REACH)
    chance = rested * _chances(EXPANSION, book, latents, z)
    first: Floats = survival * _still(1 - chance) * chance
    return first


def _chances(hazard: Hazard, book: AccountTraits, latents: HiddenStates, z: Floats) -> Floats:
    """Return the hazard of each of the next `REACH` months, accounts × months."""
    variance = uncertainty(latents.dynamics, hazard.weights, REACH - 1)
    logits = [hazard.logit(z[:, ahead], book.segment) for ahead in range(REACH)]
    return expected_sigmoid(np.stack(logits, axis=1), variance)


def _still(kept: Floats) -> Floats:
    """Return the chance of having come to the beginning of each month."""
    before = np.column_stack([np.ones(len(kept)), kept[:, :-1]])
    return np.asarray(np.cumprod(before, axis=1), dtype=np.float64)


def _within(by_month: Floats, month: int, calendar: Calendar) -> Floats:
    """Return the part of monthly chances that falls within the window, days being alike."""
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
