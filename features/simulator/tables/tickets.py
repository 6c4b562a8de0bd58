"""Support tickets."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.mechanism.accounts import PRODUCTS
from features.simulator.mechanism.calendar import DAY, NEVER, Floats, Ints, blank_unless, instants
from features.simulator.mechanism.context import SimulationContext, arrival, day_time
from features.simulator.mechanism.hazards import logistic
from features.simulator.mechanism.hidden_states import ENGAGEMENT, PAIN, PRICE, SENTIMENT
from features.simulator.tables.remarks import ticket_texts

CATEGORIES = (
    "bug",
    "performance",
    "how_to",
    "feature_request",
    "access",
    "billing",
    "cancellation",
)
CANCELLATION = 6
PRIORITIES = ("low", "normal", "high", "urgent")
HOURS_TO_RESOLVE = (60.0, 36.0, 20.0, 10.0)

SUBJECTS = {
    "bug": (
        "The export stops halfway, every time.",
        "Saving a record shows an error 500 – since this morning.",
        "Wrong totals in the monthly report; see attached.\nWe need this for the board.",
        'The filter "is empty" returns everything',
    ),
    "performance": (
        "Pages take more than ten seconds to load.",
        "Search is very slow for our larger team again",
        "Timeouts during the nightly sync, third time this month!",
    ),
    "how_to": (
        "How do I share a view with another team?",
        "Where can I find the audit log?",
        "Können wir Felder umbenennen, ohne Daten zu verlieren?",
        "Is there a way to schedule this report?",
    ),
    "feature_request": (
        "Please add a dark theme, our night shift would love it.",
        "We would like approvals with more than one step.",
        "Could the charts be exported as images?",
    ),
    "access": (
        "New colleague cannot log in.",
        "Please reset two-factor for our admin",
        "SSO fails for one user",
    ),
    "billing": (
        "The last invoice shows the wrong number of seats.",
        "Why did the price go up? We did not expect this.",
        "Can we pay quarterly; and is there a discount for that?",
    ),
    "cancellation": (
        "How do we get all our data out before our subscription ends?",
        "Please confirm the cancellation, and the last day of service.",
    ),
}

TICKET_RATE = 0.13
"""Tickets per month of an average account, per square root of seats."""


def tickets_table(context: SimulationContext) -> tuple[pd.DataFrame, Ints]:
    """Return the support_tickets table, and tickets per account and month."""
    rng = context.rng("tickets")
    habit = rng.lognormal(0, 0.35, len(context.traits))[:, None]
    pain, engagement = context.hidden_states.path(PAIN), context.hidden_states.path(ENGAGEMENT)
    mean = TICKET_RATE * habit * np.sqrt(context.seats) * np.exp(0.45 * pain + 0.20 * engagement)
    account, month, day = context.cells(rng, mean)
    by_month = np.zeros(context.presence.shape, dtype=np.int64)
    np.add.at(by_month, (account, month), 1)
    category = _categories(rng, context, account, month)
    leaving, when = _cancellations(rng, context)
    account, day = np.append(account, leaving), np.append(day, when)
    category = np.append(category, np.full(len(leaving), CANCELLATION))
    return _table(rng, context, account, day, category), by_month


def _categories(
    rng: np.random.Generator, context: SimulationContext, account: Ints, month: Ints
) -> Ints:
    """Return the category of each ticket: pain raises bugs, price pressure raises billing."""
    pain = context.state(PAIN, account, month)
    price = context.state(PRICE, account, month)
    ones = np.ones(len(account))
    appeal = np.column_stack(
        [
            0.9 * np.exp(0.5 * pain),
            0.5 * np.exp(0.5 * pain),
            1.6 * ones,
            0.6 * ones,
            0.7 * ones,
            0.8 * np.exp(0.7 * price),
        ]
    )
    cut = np.cumsum(appeal, axis=1) / appeal.sum(axis=1, keepdims=True)
    chosen: Ints = (rng.random((len(account), 1)) > cut).sum(axis=1)
    return chosen


def _cancellations(rng: np.random.Generator, context: SimulationContext) -> tuple[Ints, Ints]:
    """Return cancellation tickets after a notice: (account, day)."""
    selected = np.flatnonzero(context.decisions.notice != NEVER)
    selected = selected[rng.random(len(selected)) < 0.6]
    day = context.decisions.decided[selected] + rng.integers(0, 8, len(selected))
    remaining = context.is_there(selected, day)
    return selected[remaining], day[remaining]


def _table(
    rng: np.random.Generator, context: SimulationContext, account: Ints, day: Ints, category: Ints
) -> pd.DataFrame:
    order = np.lexsort((account, day))
    account, day, category = account[order], day[order], category[order]
    month = context.calendar.month_of(day)
    pain = context.state(PAIN, account, month)
    priority = np.clip(np.round(rng.normal(1.1 + 0.35 * pain, 0.8)), 0, 3).astype(np.int64)
    opened = day_time(rng, day)
    hours = np.array(HOURS_TO_RESOLVE)[priority] * np.exp(rng.normal(0.30 * pain, 0.8))
    answered = opened + (hours * 3600 * rng.uniform(0.02, 0.4, len(day))).astype(np.int64)
    resolved = opened + (hours * 3600).astype(np.int64)
    csat = _csat(rng, pain, context.state(SENTIMENT, account, month))
    open_yet = resolved >= context.calendar.now
    reopened = rng.random(len(day)) < logistic(-2.3 + 0.5 * pain)
    product = np.where(rng.random(len(day)) < 0.75, 0, _any_product(rng, context, account))
    names = np.array(CATEGORIES, dtype=object)[category]
    return pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "ticket_id": [f"T-{i + 1:06d}" for i in range(len(day))],
            "opened_at": instants(opened),
            "first_response_at": instants(
                np.where(answered >= context.calendar.now, NEVER, answered)
            ),
            "resolved_at": instants(np.where(open_yet, NEVER, resolved)),
            "priority": np.array(PRIORITIES, dtype=object)[priority],
            "category": names,
            "product": np.array(PRODUCTS, dtype=object)[product],
            "csat": np.where(open_yet, np.nan, csat),
            "reopened": pd.Series(blank_unless(~open_yet, reopened)).astype("boolean"),
            "text": ticket_texts(
                context, _subjects(rng, names), account, month, category == CANCELLATION
            ),
            "known_at": instants(arrival(rng, opened, usual=60, late=3 * DAY)),
        }
    )


def _csat(rng: np.random.Generator, pain: Floats, sentiment: Floats) -> Floats:
    """Return satisfaction from 1 to 5, NaN without an answer."""
    value = np.clip(np.round(rng.normal(4.0 - 0.4 * pain + 0.35 * sentiment, 0.9)), 1, 5)
    return np.where(rng.random(len(pain)) < 0.4, value, np.nan)


def _any_product(rng: np.random.Generator, context: SimulationContext, account: Ints) -> Ints:
    owned = context.traits.owns[account] * rng.random((len(account), len(PRODUCTS)))
    product: Ints = np.argmax(owned, axis=1)
    return product


def _subjects(rng: np.random.Generator, category: np.ndarray) -> np.ndarray:
    texts = np.empty(len(category), dtype=object)
    for name, choices in SUBJECTS.items():
        place = np.flatnonzero(category == name)
        texts[place] = np.array(choices, dtype=object)[rng.integers(0, len(choices), len(place))]
    return texts
