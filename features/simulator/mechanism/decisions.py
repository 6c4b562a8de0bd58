"""Monthly decisions of accounts, and the resulting subscription rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from features.simulator.mechanism.accounts import PLANS, PRODUCTS, AccountTraits
from features.simulator.mechanism.calendar import (
    FAR,
    NEVER,
    Bools,
    Calendar,
    Floats,
    Ints,
    add_months,
    blank_unless,
    generator,
    month_start,
)
from features.simulator.mechanism.hazards import (
    CONTRACTION,
    CONTRACTION_AT_RENEWAL,
    EXPANSION,
    LAPSE_SHARE,
    MONTHLY_CHURN,
    PAYMENT_FAILURE,
    RENEWAL_LOSS,
    decision_offsets,
    lagged_states,
    logistic,
)
from features.simulator.mechanism.hidden_states import DEMAND, FIT, LEAD, PERSISTENCE, HiddenStates

REST_MONTHS = 4
"""Months after a start or an expansion without another expansion."""

SETTLING_MONTHS = 2
"""First months of a month-to-month account without churn."""

RELIEF = 1.0
"""Decrease of demand after an expansion."""

DUNNING_DAYS = 30
"""Days from a final payment failure to the end of the subscription."""

CROSS_SELL_SHARE = 0.2
METERED = PRODUCTS.index("automation")
"""The product sold by units rather than by seats."""

LATE_RENEWAL_SHARE = 0.04


@dataclass(frozen=True)
class Snapshot:
    """State of each account at 00:00 of the first day of a month.

    Attributes
    ----------
    is_open : started, without a decision
    deadline, renews : days of the current contract; `NEVER` when month to month
    is_secured : this renewal was decided before the first simulated month
    rests_until : first month in which another expansion is possible
    """

    is_open: Bools
    deadline: Ints
    renews: Ints
    is_secured: Bools
    rests_until: Ints


@dataclass
class Decisions:
    """Current state of every account during the simulation, and the record of events.

    Day arrays have `FAR` for events that have not happened. ``plan`` is a position in `PLANS`,
    ``allowance`` the units of `METERED` relative to the usual number, and ``kind_dice`` (accounts ×
    months) decides the kind of an expansion.
    """

    traits: AccountTraits
    seats: Ints
    owns: Bools
    unit_price: Floats
    open_since: Ints
    is_active: Bools
    decided: Ints
    ends: Ints
    notice: Ints
    reason: np.ndarray
    term_start: Ints
    renews: Ints
    deadline: Ints
    is_lost: Bools
    is_secured: Bools
    planned: Ints
    rests_until: Ints
    plan: Ints
    allowance: Floats
    kind_dice: Floats
    rows: list[pd.DataFrame] = field(default_factory=list)
    events: list[pd.DataFrame] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    seats_by_month: list[Ints] = field(default_factory=list)
    owns_by_month: list[Bools] = field(default_factory=list)
    allowance_by_month: list[Floats] = field(default_factory=list)

    def close(self, selected: Ints, ended: Ints, reason: str | None) -> None:
        """Write the open rows of the accounts `selected` as ended on those days."""
        for product in range(len(PRODUCTS)):
            has = self.owns[selected, product]
            self.close_one(selected[has], product, ended[has], reason)

    def close_one(self, selected: Ints, product: int, ended: Ints, reason: str | None) -> None:
        """Write the open rows of one product, which all of `selected` own."""
        self.rows.append(self._rows(selected, product, ended, reason))

    def _rows(self, selected: Ints, product: int, ended: Ints, reason: str | None) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "account": selected,
                "product": product,
                "started": self.open_since[selected, product],
                "ended": ended,
                "reason": reason,
                "renews": self.renews[selected],
                # A notice is recorded on the row it ends, and on the open row until then.
                "notice": self.notice[selected] if reason in {"churned", None} else NEVER,
                "seats": self.seats[selected],
                "unit_price": self.unit_price[selected, product],
                "plan": self.plan[selected],
            }
        )

    def reopen(self, selected: Ints, day: Ints) -> None:
        """Start new rows on those days for every product the accounts own."""
        self.open_since[selected] = np.where(self.owns[selected], day[:, None], NEVER)

    def record(self, selected: Ints, day: Ints, effective: Ints, outcome: str, reason: str) -> None:
        """Record decisions for the ground truth."""
        self.events.append(
            pd.DataFrame(
                {
                    "account": selected,
                    "decided": day,
                    "effective": effective,
                    "outcome": outcome,
                    "reason": reason,
                }
            )
        )


def simulate_decisions(
    seed: int, traits: AccountTraits, hidden_states: HiddenStates, calendar: Calendar
) -> Decisions:
    """Simulate every month. Demand in `hidden_states` is lowered in place after expansions."""
    rng = generator(seed, "life")
    decisions = _initial_decisions(
        traits, generator(seed, "kinds of growth").random((len(traits), calendar.n_months))
    )
    first = int(calendar.starts[0])
    before = np.flatnonzero(traits.started < first)
    _begin_before(decisions, before, first)
    _plan(rng, decisions, before, hidden_states, calendar)
    decisions.rests_until[before] = 0
    for month in range(calendar.n_months):
        decisions.snapshots.append(_snapshot(decisions))
        started = np.flatnonzero(calendar.month_of(traits.started) == month)
        _begin(decisions, started, month)
        _plan(rng, decisions, started, hidden_states, calendar)
        z = lagged_states(hidden_states, month)
        _decide_contracts(decisions, calendar, month)
        _decide_monthly(rng, decisions, calendar, month, z)
        _change(rng, decisions, hidden_states, calendar, month, z)
        _renew(rng, decisions, hidden_states, calendar, month, z)
        decisions.seats_by_month.append(np.where(decisions.is_active, decisions.seats, 0))
        decisions.owns_by_month.append(decisions.owns & decisions.is_active[:, None])
        decisions.allowance_by_month.append(decisions.allowance.copy())
        _end(decisions, calendar, month)
    still = np.flatnonzero(decisions.is_active)
    decisions.close(still, np.full(len(still), NEVER), None)
    return decisions


def subscription_rows(decisions: Decisions, calendar: Calendar) -> pd.DataFrame:
    """Return all rows as of `now`, sorted by account, product and start; whole numbers for days."""
    rows = pd.concat([part for part in decisions.rows if len(part)], ignore_index=True)
    rows = rows[(rows["started"] < calendar.now_day) & (rows["started"] != rows["ended"])]
    unseen = rows["ended"] >= calendar.now_day
    rows["reason"] = blank_unless(~unseen.to_numpy(), rows["reason"].to_numpy(dtype=object))
    rows["ended"] = rows["ended"].where(~unseen, NEVER)
    rows["notice"] = rows["notice"].where(rows["notice"] < calendar.now_day, NEVER)
    return rows.sort_values(["account", "product", "started"], ignore_index=True)


def decisions_table(decisions: Decisions, calendar: Calendar) -> pd.DataFrame:
    """Return the decisions taken before `now`, sorted by account and day; days as numbers."""
    events = pd.concat([part for part in decisions.events if len(part)], ignore_index=True)
    seen = events[events["decided"] < calendar.now_day]
    return seen.sort_values(["account", "decided", "outcome"], ignore_index=True)


def billing_days(traits: AccountTraits, calendar: Calendar, month: int) -> Ints:
    """Return the day of a month on which each account is charged: that of its start."""
    day: Ints = calendar.starts[month] + traits.started - month_start(traits.started)
    return day


def _initial_decisions(traits: AccountTraits, kind_dice: Floats) -> Decisions:
    n = len(traits)
    return Decisions(
        traits=traits,
        seats=traits.seats.copy(),
        owns=traits.owns.copy(),
        unit_price=traits.unit_price.copy(),
        open_since=np.full((n, len(PRODUCTS)), NEVER),
        is_active=np.zeros(n, dtype=bool),
        decided=np.full(n, FAR),
        ends=np.full(n, FAR),
        notice=np.full(n, NEVER),
        reason=np.full(n, "", dtype=object),
        term_start=traits.started.copy(),
        renews=np.full(n, NEVER),
        deadline=np.full(n, NEVER),
        is_lost=np.zeros(n, dtype=bool),
        is_secured=np.zeros(n, dtype=bool),
        planned=np.full(n, FAR),
        rests_until=np.zeros(n, dtype=np.int64),
        plan=traits.owns.sum(axis=1) - 1,
        allowance=np.ones(n),
        kind_dice=kind_dice,
    )


def _begin(decisions: Decisions, selected: Ints, month: int) -> None:
    decisions.is_active[selected] = True
    decisions.term_start[selected] = decisions.traits.started[selected]
    decisions.rests_until[selected] = month + REST_MONTHS
    decisions.reopen(selected, decisions.term_start[selected])


def _begin_before(decisions: Decisions, selected: Ints, first: int) -> None:
    """Start accounts that began before the first simulated month, with their earlier terms."""
    _begin(decisions, selected, 0)
    traits = decisions.traits
    while True:
        ends = add_months(decisions.term_start, np.maximum(traits.term_months, 1))
        over = np.flatnonzero(decisions.is_active & traits.has_contract & (ends < first))
        if len(over) == 0:
            return
        decisions.renews[over] = ends[over]
        decisions.close(over, ends[over], "renewed")
        decisions.unit_price[over] *= 1 + traits.escalator[over, None]
        decisions.term_start[over] = ends[over]
        decisions.reopen(over, ends[over])


def _plan(
    rng: np.random.Generator,
    decisions: Decisions,
    selected: Ints,
    hidden_states: HiddenStates,
    calendar: Calendar,
) -> None:
    """Draw the dates and the outcome of the current contract terms."""
    selected = selected[decisions.traits.has_contract[selected]]
    traits = decisions.traits
    decisions.renews[selected] = add_months(
        decisions.term_start[selected], traits.term_months[selected]
    )
    decisions.deadline[selected] = decisions.renews[selected] - traits.notice_period[selected]
    decisions.planned[selected] = _decision_days(rng, decisions, selected)
    decisions.is_secured[selected] = decisions.deadline[selected] - 45 < calendar.starts[0]
    dice = rng.random(len(selected))
    month = calendar.month_of(decisions.deadline[selected])
    for decisive in np.unique(month[month < calendar.n_months + 3]):
        if decisive < 0:
            continue  # secured: decided before the first simulated month
        now = month == decisive
        z = lagged_states(hidden_states, int(decisive))[selected[now]]
        chance = logistic(RENEWAL_LOSS.logit(z, traits.segment[selected[now]]))
        decisions.is_lost[selected[now]] = dice[now] < chance
    decisions.is_lost[selected[month >= calendar.n_months + 3]] = False
    decisions.is_lost[selected] &= ~decisions.is_secured[selected]


def _decision_days(rng: np.random.Generator, decisions: Decisions, selected: Ints) -> Ints:
    """Return the decision day of each renewal if it is lost."""
    days = np.zeros(len(selected), dtype=np.int64)
    period = decisions.traits.notice_period[selected]
    for value in np.unique(period):
        offsets, chance = decision_offsets(int(value))
        days = np.where(period == value, rng.choice(offsets, len(selected), p=chance), days)
    lapses = ~decisions.traits.auto_renew[selected] & (rng.random(len(selected)) < LAPSE_SHARE)
    return np.where(lapses, decisions.renews[selected], decisions.deadline[selected] + days)


def _snapshot(decisions: Decisions) -> Snapshot:
    return Snapshot(
        decisions.is_active & (decisions.decided == FAR),
        decisions.deadline.copy(),
        decisions.renews.copy(),
        decisions.is_secured.copy(),
        decisions.rests_until.copy(),
    )


def _decide_contracts(decisions: Decisions, calendar: Calendar, month: int) -> None:
    """Give notice for lost renewals whose planned day is in this month."""
    due = (
        decisions.is_active
        & decisions.traits.has_contract
        & decisions.is_lost
        & (decisions.decided == FAR)
    )
    start, end = calendar.starts[month], calendar.starts[month + 1]
    selected = np.flatnonzero(due & (decisions.planned >= start) & (decisions.planned < end))
    decisions.decided[selected], decisions.ends[selected] = (
        decisions.planned[selected],
        decisions.renews[selected],
    )
    decisions.reason[selected] = "churned"
    decisions.notice[selected] = np.where(
        decisions.planned[selected] < decisions.renews[selected], decisions.planned[selected], NEVER
    )
    decisions.record(
        selected, decisions.decided[selected], decisions.ends[selected], "churn", "churned"
    )


def _decide_monthly(
    rng: np.random.Generator, decisions: Decisions, calendar: Calendar, month: int, z: Floats
) -> None:
    """Draw churn and final payment failures of month-to-month accounts."""
    traits = decisions.traits
    settled = calendar.month_of(traits.started) + SETTLING_MONTHS <= month
    free = decisions.is_active & ~traits.has_contract & (decisions.decided == FAR) & settled
    leaves = free & (rng.random(len(traits)) < logistic(MONTHLY_CHURN.logit(z, traits.segment)))
    fails = rng.random(len(traits)) < logistic(PAYMENT_FAILURE.logit(z, traits.segment))
    day = calendar.starts[month] + rng.integers(0, calendar.length(month), len(traits))
    gives_notice = rng.random(len(traits)) < 0.65
    lag = rng.integers(10, 31, len(traits))
    for kind, chosen in (("churned", leaves), ("payment_failure", free & ~leaves & fails)):
        selected = np.flatnonzero(chosen)
        noticed = gives_notice[selected] & (kind == "churned")
        decided = (
            day[selected] if kind == "churned" else billing_days(traits, calendar, month)[selected]
        )
        wait = np.where(noticed, lag[selected], 1) if kind == "churned" else DUNNING_DAYS
        decisions.decided[selected], decisions.ends[selected] = decided, decided + wait
        decisions.notice[selected] = np.where(noticed, decided, NEVER)
        decisions.reason[selected] = kind
        decisions.record(selected, decided, decisions.ends[selected], "churn", kind)


def _change(
    rng: np.random.Generator,
    decisions: Decisions,
    hidden_states: HiddenStates,
    calendar: Calendar,
    month: int,
    z: Floats,
) -> None:
    """Draw expansions, and contractions of month-to-month accounts."""
    traits, n = decisions.traits, len(decisions.traits)
    free = decisions.is_active & (decisions.decided == FAR)
    grows = free & (decisions.rests_until <= month)
    grows &= rng.random(n) < logistic(EXPANSION.logit(z, traits.segment))
    shrinks = free & ~grows & ~traits.has_contract
    shrinks &= rng.random(n) < logistic(CONTRACTION.logit(z, traits.segment))
    day = calendar.starts[month] + rng.integers(0, calendar.length(month), n)
    # An expansion in the month of a renewal is signed with it.
    renewing = calendar.month_of(decisions.renews) == month
    day = np.where(renewing & traits.has_contract, decisions.renews - 1, day)
    day = np.maximum(day, decisions.open_since.max(axis=1) + 1)
    selected = np.flatnonzero(grows)
    _expand(rng, decisions, selected, day[selected], kinds_of_growth(decisions, z, month)[selected])
    decisions.rests_until[selected] = month + REST_MONTHS
    later = np.arange(hidden_states.states.shape[1] - LEAD - month - 1)
    hidden_states.states[selected, LEAD + month + 1 :, DEMAND] -= (
        RELIEF * PERSISTENCE[DEMAND] ** later
    )
    less = np.flatnonzero(shrinks & (decisions.seats > 3))
    decisions.close(less, day[less], "changed")
    _shrink(rng, decisions, less)
    decisions.reopen(less, day[less])
    decisions.record(less, day[less], day[less], "contraction", "seats")


def kinds_of_growth(decisions: Decisions, z: Floats, month: int) -> np.ndarray:
    """Return the kind of expansion of each account in a month, except cross-sells.

    Seats where demand is high, a higher tier where the fit is good, more units of `METERED`.
    """
    has_tier, is_metered = decisions.plan < len(PLANS) - 1, decisions.owns[:, METERED]
    weight = np.column_stack(
        [
            1.4 * np.exp(0.7 * z[:, DEMAND]),
            0.6 * np.exp(0.7 * z[:, FIT]) * has_tier,
            1.2 * is_metered,
        ]
    )
    cut = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    place = (decisions.kind_dice[:, month, None] > cut).sum(axis=1)
    return np.array(("seats", "tier", "usage"), dtype=object)[place]


def _expand(
    rng: np.random.Generator, decisions: Decisions, selected: Ints, day: Ints, kinds: np.ndarray
) -> None:
    """Add another product, seats on every product, a higher tier, or units of `METERED`."""
    growth = np.clip(rng.lognormal(-1.35, 0.5, len(selected)), 0.13, 0.8)
    cross = (rng.random(len(selected)) < CROSS_SELL_SHARE) & ~decisions.owns[selected].all(axis=1)
    kinds = np.where(cross, "product", kinds)
    for kind in ("product", "seats", "tier", "usage"):
        matches = kinds == kind
        decisions.record(selected[matches], day[matches], day[matches], "expansion", kind)
    new = np.argmin(decisions.owns[selected[cross]], axis=1)
    decisions.owns[selected[cross], new] = True
    decisions.open_since[selected[cross], new] = day[cross]
    _buy_units(
        decisions, selected[kinds == "usage"], day[kinds == "usage"], growth[kinds == "usage"]
    )
    wider = (kinds == "seats") | (kinds == "tier")
    decisions.close(selected[wider], day[wider], "changed")
    seats, tier = selected[kinds == "seats"], selected[kinds == "tier"]
    decisions.seats[seats] += np.ceil(decisions.seats[seats] * growth[kinds == "seats"]).astype(
        np.int64
    )
    decisions.plan[tier] += 1
    decisions.unit_price[tier] *= 1 + growth[kinds == "tier", None]
    decisions.reopen(selected[wider], day[wider])


def _buy_units(decisions: Decisions, selected: Ints, day: Ints, growth: Floats) -> None:
    """Raise the units of `METERED` so that total revenue grows by `growth`."""
    decisions.close_one(selected, METERED, day, "changed")
    price = decisions.unit_price[selected]
    factor = 1 + growth * (price * decisions.owns[selected]).sum(axis=1) / price[:, METERED]
    decisions.unit_price[selected, METERED] *= factor
    decisions.allowance[selected] *= factor
    decisions.open_since[selected, METERED] = day


def _shrink(rng: np.random.Generator, decisions: Decisions, selected: Ints) -> None:
    remaining = rng.uniform(0.6, 0.85, len(selected))
    decisions.seats[selected] = np.maximum(
        1, np.floor(decisions.seats[selected] * remaining)
    ).astype(np.int64)


def _renew(
    rng: np.random.Generator,
    decisions: Decisions,
    hidden_states: HiddenStates,
    calendar: Calendar,
    month: int,
    z: Floats,
) -> None:
    """Renew contracts that reach their renewal date without a decision to leave."""
    traits, n = decisions.traits, len(decisions.traits)
    reached = (
        decisions.is_active & traits.has_contract & (calendar.month_of(decisions.renews) == month)
    )
    selected = np.flatnonzero(reached & (decisions.decided == FAR))
    chance = logistic(CONTRACTION.logit(z, traits.segment) + CONTRACTION_AT_RENEWAL)
    cuts = (rng.random(n) < chance)[selected] & (decisions.seats[selected] > 3)
    lag = rng.integers(3, 29, n) * (rng.random(n) < LATE_RENEWAL_SHARE)
    uplift = np.round(rng.uniform(0.02, 0.06, n), 3) * (rng.random(n) < 0.4)
    day = decisions.renews[selected] + lag[selected]
    decisions.close(selected, decisions.renews[selected], "renewed")
    rise = np.where(traits.escalator[selected] > 0, traits.escalator[selected], uplift[selected])
    decisions.unit_price[selected] *= 1 + rise[:, None]
    _shrink(rng, decisions, selected[cuts])
    decisions.record(selected[cuts], day[cuts], day[cuts], "contraction", "renewal")
    decisions.term_start[selected] = decisions.renews[selected]
    decisions.reopen(selected, day)
    _plan(rng, decisions, selected, hidden_states, calendar)


def _end(decisions: Decisions, calendar: Calendar, month: int) -> None:
    """Close the rows of accounts that end in this month."""
    end = calendar.starts[month + 1]
    selected = np.flatnonzero(decisions.is_active & (decisions.ends < end))
    for reason in ("churned", "payment_failure"):
        ended = selected[decisions.reason[selected] == reason]
        decisions.close(ended, decisions.ends[ended], reason)
    decisions.is_active[selected] = False
