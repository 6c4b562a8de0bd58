"""Usage events and entitlements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from features.simulator.mechanism.accounts import LIST_PRICE, PRODUCTS
from features.simulator.mechanism.calendar import (
    DAY,
    NEVER,
    Floats,
    Ints,
    dates,
    instants,
    month_number,
)
from features.simulator.mechanism.context import SimulationContext, arrival, user_ids
from features.simulator.mechanism.decisions import METERED
from features.simulator.mechanism.hidden_states import DEMAND, ENGAGEMENT, FIT

FEATURES = (
    ("core", "dashboard"),
    ("core", "records"),
    ("core", "search"),
    ("core", "comments"),
    ("core", "reports"),
    ("core", "sharing"),
    ("core", "admin_settings"),
    ("core", "bulk_export"),
    ("core", "theme_settings"),
    ("analytics", "charts"),
    ("analytics", "segments"),
    ("analytics", "forecasts"),
    ("analytics", "scheduled_reports"),
    ("automation", "rules"),
    ("automation", "templates"),
    ("automation", "webhooks"),
    ("automation", "approvals"),
)
"""(product, feature), per product from the most to the least common."""

FIRST_FEATURE, N_FEATURES = np.array([0, 9, 13]), np.array([7, 4, 4])
"""Position of the first feature of each product, and number of features drawn by rank."""

BULK_EXPORT, THEME_SETTINGS = 7, 8

ROWS_PER_USER = 4.0
"""Rows per active user and month at average engagement, before weekends are thinned out."""

WEEKEND_KEPT = 0.25
SEASON = {7: 0.88, 8: 0.82, 12: 0.78}
"""Share of usage in holiday months."""

OFF_BOARDING_LEVEL, OFF_BOARDING_DAYS = 0.55, 25.0
"""Share of usage directly after a decision to leave, and time constant of its decay in days."""

MOST_USERS = 1_000


@dataclass(frozen=True)
class Usage:
    """Usage rows as numbers, sorted by account, user, day and feature.

    Attributes
    ----------
    rows_by_month : array, accounts × months
        Rows per account and month, for the hand-made health score.
    """

    account: Ints
    user: Ints
    day: Ints
    feature: Ints
    quantity: Ints
    rows_by_month: Ints


def draw_usage(context: SimulationContext) -> Usage:
    """Draw usage: one row per account, user, day and feature."""
    rng = context.rng("usage")
    n, months = len(context.traits), context.calendar.n_months
    habit = rng.lognormal(0, 0.35, n)
    taste = rng.normal(0, 0.30, n)
    reach = rng.lognormal(0, 0.20, n)
    engagement = context.hidden_states.path(ENGAGEMENT) + context.noise(rng, 0.30)
    breadth = context.hidden_states.path(FIT) + context.noise(rng, 0.30) + taste[:, None]
    expected = 0.5 * reach[:, None] * context.seats_before * np.exp(0.25 * engagement)
    pool = np.clip(expected.round().astype(np.int64), 1, context.seats_before * 11 // 10 + 1)
    parts = [
        _usage_of(
            rng, context, month, pool[:, month], habit, engagement[:, month], breadth[:, month]
        )
        for month in range(months)
    ]
    key, quantity = (np.concatenate([part[i] for part in parts]) for i in range(2))
    order = np.argsort(key, kind="stable")
    return _unpack(key[order], quantity[order], context)


def usage_table(usage: Usage, context: SimulationContext) -> pd.DataFrame:
    """Return the usage_events table; text columns are categories, as there are few of each."""
    rng = context.rng("usage arrival")
    selected, code = np.unique(usage.account * MOST_USERS + usage.user, return_inverse=True)
    users = user_ids(context.traits, *np.divmod(selected, MOST_USERS))
    products = np.array([PRODUCTS.index(product) for product, _ in FEATURES])
    moment = usage.day * DAY + rng.integers(6 * 3600, 20 * 3600, len(usage.day))
    return pd.DataFrame(
        {
            "account_id": _category(usage.account, context.traits.account_id),
            "user_id": _category(code, users),
            "occurred_at": instants(moment),
            "product": _category(products[usage.feature], PRODUCTS),
            "feature": _category(usage.feature, [feature for _, feature in FEATURES]),
            "quantity": usage.quantity.astype(np.float64),
            "known_at": instants(arrival(rng, moment, usual=900, late=4 * DAY)),
        }
    )


def entitlements_table(context: SimulationContext) -> pd.DataFrame:
    """Return the entitlements table: one row per account, product owned and first of a month.

    ``used`` covers the month before, so it is known on its date.
    """
    rng = context.rng("entitlements")
    own = rng.normal(0, 0.06, len(context.traits))[:, None]
    demand, engagement = context.hidden_states.path(DEMAND), context.hidden_states.path(ENGAGEMENT)
    share = 0.70 + 0.13 * demand + 0.03 * engagement + own + context.noise(rng, 0.06)
    owned = context.owns[:, :-1] & (context.presence[:, 1:, None] > 0)
    account, month, product = np.nonzero(owned)
    limit = context.seats[account, month] * np.array([1, 10, 100])[product]
    is_metered = product == METERED
    limit = np.where(is_metered, np.round(limit * context.allowance[account, month]), limit)
    by_product = share[account, month] + rng.normal(0, 0.03, len(account))
    day = context.calendar.starts[month + 1]
    remaining = context.is_there(account, day)
    table = pd.DataFrame(
        {
            "account_id": context.traits.account_id[account],
            "product": np.array(PRODUCTS, dtype=object)[product],
            "occurred_on": dates(day),
            "limit": limit.astype(np.float64),
            "used": np.round(limit * np.clip(by_product, 0.02, 1.3)),
            "list_price": np.array(LIST_PRICE)[product],
        }
    )
    return table[remaining].reset_index(drop=True)


def _usage_of(
    rng: np.random.Generator,
    context: SimulationContext,
    month: int,
    pool: Ints,
    habit: Floats,
    engagement: Floats,
    breadth: Floats,
) -> tuple[Ints, Ints]:
    """Return packed keys and quantities of one month's usage."""
    start, length = int(context.calendar.starts[month]), context.calendar.length(month)
    season = SEASON.get(int(month_number(np.array(start))) % 12 + 1, 1.0)
    mean = ROWS_PER_USER * pool * habit * np.exp(0.25 * engagement) * season
    account = np.repeat(np.arange(len(pool)), rng.poisson(mean * (context.seats[:, month] > 0)))
    day = start + (rng.random(len(account)) * length).astype(np.int64)
    remaining = rng.random(len(account)) < _kept_share(context, account, day)
    account, day = account[remaining], day[remaining]
    user = (pool[account] * rng.random(len(account)) ** 1.5).astype(np.int64)
    is_gone = (user == 0) & (day >= context.champion_left[account])
    user = np.where(is_gone, 1, user)
    feature = _features(rng, context.owns_before[account, month], breadth[account])
    exports = _export_spike(rng, context, month)
    account, user, day, feature = (
        np.concatenate(pair) for pair in zip((account, user, day, feature), exports, strict=True)
    )
    packed = ((account * MOST_USERS + user) * 100_000 + day) * 100 + feature
    key, count = np.unique(packed, return_counts=True)
    return key, count + rng.poisson(2.0 * count)


def _kept_share(context: SimulationContext, account: Ints, day: Ints) -> Floats:
    """Return the share of usage left on each day: weekends, off-boarding, lifetime."""
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    share = np.where(weekday >= 5, WEEKEND_KEPT, 1.0) * context.is_there(account, day)
    since = day - context.decisions.decided[account]
    leaving = (since > 0) & (context.decisions.reason[account] == "churned")
    fading = OFF_BOARDING_LEVEL * np.exp(-np.maximum(since, 0) / OFF_BOARDING_DAYS)
    faded: Floats = share * np.where(leaving, fading, 1.0)
    return faded


def _features(rng: np.random.Generator, owns: np.ndarray, breadth: Floats) -> Ints:
    """Return the feature of each row; a better fit uses more features of a product."""
    weight = owns * np.array([1.0, 0.45, 0.35]) + 1e-12
    cut = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    product = (rng.random((len(owns), 1)) > cut).sum(axis=1)
    depth = rng.random(len(owns)) ** np.exp(0.55 - 0.40 * breadth)
    feature: Ints = FIRST_FEATURE[product] + (N_FEATURES[product] * depth).astype(np.int64)
    odd = rng.random(len(owns))
    return np.where(odd < 0.01, THEME_SETTINGS, np.where(odd > 0.995, BULK_EXPORT, feature))


def _export_spike(
    rng: np.random.Generator, context: SimulationContext, month: int
) -> tuple[Ints, ...]:
    """Return the exports of accounts that gave notice in a month: (account, user, day, feature)."""
    start, end = context.calendar.starts[month], context.calendar.starts[month + 1]
    decided = context.decisions.decided
    selected = np.flatnonzero(
        (context.decisions.notice != NEVER) & (decided >= start) & (decided < end)
    )
    account = np.repeat(selected, rng.integers(1, 5, len(selected)))
    day = decided[account] + rng.integers(1, 12, len(account))
    remaining = context.is_there(account, day)
    account, day = account[remaining], day[remaining]
    zero = np.zeros(len(account), dtype=np.int64)
    return account, zero + rng.integers(0, 2, len(zero)), day, zero + BULK_EXPORT


def _category(codes: Ints, names: Sequence[str] | np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(cast(Any, codes), categories=pd.Index(names))


def _unpack(key: Ints, quantity: Ints, context: SimulationContext) -> Usage:
    rest, feature = np.divmod(key, 100)
    selected, day = np.divmod(rest, 100_000)
    account, user = np.divmod(selected, MOST_USERS)
    n, months = context.presence.shape
    cell = account * months + np.clip(context.calendar.month_of(day), 0, months - 1)
    by_month = np.bincount(cell, minlength=n * months).reshape(n, months)
    return Usage(account, user, day, feature, quantity, by_month)
