"""What accounts decide, month by month, and the subscription rows that come of it."""

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
"""First months of a month-to-month account, in which nobody leaves."""

RELIEF = 1.0
"""How far demand falls when an expansion meets it."""

DUNNING_DAYS = 30
"""Days between a charge that fails for good and the end of the subscription."""

CROSS_SELL_SHARE = 0.2
METERED = PRODUCTS.index("automation")
"""The product that is sold by what it does, and not by who uses it."""

LATE_RENEWAL_SHARE = 0.04


@dataclass(frozen=True)
class Snapshot:
    """What stands at 00:00 of the first day of a month, per account.

    Attributes
    ----------
    is_open : started, and nothing decided yet
    deadline, renews : days of the current contract; `NEVER` when month to month
    is_secured : this renewal was settled before the world began
    rests_until : first month in which an expansion is possible again
    """

    is_open: Bools
    deadline: Ints
    renews: Ints
    is_secured: Bools
    rests_until: Ints


@dataclass
class Decisions:
    """The state of every account while the months pass, and the record of what happened.

    Day arrays hold `FAR` for what has not happened. ``plan`` is a position in `PLANS`,
    ``allowance`` how many times the usual units of `METERED` an account has bought, and
    ``kind_dice`` (accounts × months) decides what a growing account buys.
    """

    book: AccountTraits
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

    def close(self, who: Ints, ended: Ints, reason: str | None) -> None:
        """Write the open rows of the accounts `who` as ended on those days."""
        for product in range(len(PRODUCTS)):
            has = self.owns[who, product]
            self.close_one(who[has], product, ended[has], reason)

    def close_one(self, who: Ints, product: int, ended: Ints, reason: str | None) -> None:
        """Write the open rows of one product, which all of `who` own."""
        self.rows.append(self._rows(who, product, ended, reason))

    def _rows(self, who: Ints, product: int, ended: Ints, reason: str | None) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "account": who,
                "product": product,
                "started": self.open_since[who, product],
                "ended": ended,
                "reason": reason,
                "renews": self.renews[who],
                # A notice stands on the row it ends, and on the open row while that runs out.
                "notice": self.notice[who] if reason in {"churned", None} else NEVER,
                "seats": self.seats[who],
                "unit_price": self.unit_price[who, product],
                "plan": self.plan[who],
            }
        )

    def reopen(self, who: Ints, day: Ints) -> None:
        """Start new rows, for every product the accounts own, on those days."""
        self.open_since[who] = np.where(self.owns[who], day[:, None], NEVER)

    def record(self, who: Ints, day: Ints, effective: Ints, outcome: str, reason: str) -> None:
        """Write down decisions, for the truth."""
        self.events.append(
            pd.DataFrame(
                {
                    "account": who,
                    "decided": day,
                    "effective": effective,
                    "outcome": outcome,
                    "reason": reason,
                }
            )
        )


def live(seed: int, book: AccountTraits, latents: HiddenStates, calendar: Calendar) -> Decisions:
    """Run every month of the world. Demand in `latents` falls after expansions, in place."""
    rng = generator(seed, "life")
    life = _newborn(book, generator(seed, "kinds of growth").random((len(book), calendar.n_months)))
    first = int(calendar.starts[0])
    before = np.flatnonzero(book.started < first)
    _begin_before(life, before, first)
    _plan(rng, life, before, latents, calendar)
    life.rests_until[before] = 0
    for month in range(calendar.n_months):
        life.snapshots.append(_snapshot(life))
        born = np.flatnonzero(calendar.month_of(book.started) == month)
        _begin(life, born, month)
        _plan(rng, life, born, latents, calendar)
        z = lagged_states(latents, month)
        _decide_contracts(life, calendar, month)
        _decide_monthly(rng, life, calendar, month, z)
        _change(rng, life, latents, calendar, month, z)
        _renew(rng, life, latents, calendar, month, z)
        life.seats_by_month.append(np.where(life.is_active, life.seats, 0))
        life.owns_by_month.append(life.owns & life.is_active[:, None])
        life.allowance_by_month.append(life.allowance.copy())
        _end(life, calendar, month)
    still = np.flatnonzero(life.is_active)
    life.close(still, np.full(len(still), NEVER), None)
    return life


def subscription_rows(life: Decisions, calendar: Calendar) -> pd.DataFrame:
    """Return all rows as of `now`, sorted by account, product and start; whole numbers for days."""
    rows = pd.concat([part for part in life.rows if len(part)], ignore_index=True)
    rows = rows[(rows["started"] < calendar.now_day) & (rows["started"] != rows["ended"])]
    unseen = rows["ended"] >= calendar.now_day
    rows["reason"] = blank_unless(~unseen.to_numpy(), rows["reason"].to_numpy(dtype=object))
    rows["ended"] = rows["ended"].where(~unseen, NEVER)
    rows["notice"] = rows["notice"].where(rows["notice"] < calendar.now_day, NEVER)
    return rows.sort_values(["account", "product", "started"], ignore_index=True)


def decisions_table(life: Decisions, calendar: Calendar) -> pd.DataFrame:
    """Return the decisions taken before `now`, sorted by account and day; days as numbers."""
    events = pd.concat([part for part in life.events if len(part)], ignore_index=True)
    seen = events[events["decided"] < calendar.now_day]
    return seen.sort_values(["account", "decided", "outcome"], ignore_index=True)


def billing_days(book: AccountTraits, calendar: Calendar, month: int) -> Ints:
    """Return the day of a month on which each account is charged: that of its beginning."""
    day: Ints = calendar.starts[month] + book.started - month_start(book.started)
    return day


def _newborn(book: AccountTraits, kind_dice: Floats) -> Decisions:
    n = len(book)
    return Decisions(
        book=book,
        seats=book.seats.copy(),
        owns=book.owns.copy(),
        unit_price=book.unit_price.copy(),
        open_since=np.full((n, len(PRODUCTS)), NEVER),
        is_active=np.zeros(n, dtype=bool),
        decided=np.full(n, FAR),
        ends=np.full(n, FAR),
        notice=np.full(n, NEVER),
        reason=np.full(n, "", dtype=object),
        term_start=book.started.copy(),
        renews=np.full(n, NEVER),
        deadline=np.full(n, NEVER),
        is_lost=np.zeros(n, dtype=bool),
        is_secured=np.zeros(n, dtype=bool),
        planned=np.full(n, FAR),
        rests_until=np.zeros(n, dtype=np.int64),
        plan=book.owns.sum(axis=1) - 1,
        allowance=np.ones(n),
        kind_dice=kind_dice,
    )


def _begin(life: Decisions, who: Ints, month: int) -> None:
    life.is_active[who] = True
    life.term_start[who] = life.book.started[who]
    life.rests_until[who] = month + REST_MONTHS
    life.reopen(who, life.term_start[who])


def _begin_before(life: Decisions, who: Ints, first: int) -> None:
    """Start the accounts older than the world, with the terms they had before it."""
    _begin(life, who, 0)
    book = life.book
    while True:
        ends = add_months(life.term_start, np.maximum(book.term_months, 1))
        over = np.flatnonzero(life.is_active & book.has_contract & (ends < first))
        if len(over) == 0:
            return
        life.renews[over] = ends[over]
        life.close(over, ends[over], "renewed")
        life.unit_price[over] *= 1 + book.escalator[over, None]
        life.term_start[over] = ends[over]
        life.reopen(over, ends[over])


def _plan(
    rng: np.random.Generator, life: Decisions, who: Ints, latents: HiddenStates, calendar: Calendar
) -> None:
    """Settle the dates and, unknown to anybody, the fate of the current contract terms."""
    who = who[life.book.has_contract[who]]
    book = life.book
    life.renews[who] = add_months(life.term_start[who], book.term_months[who])
    life.deadline[who] = life.renews[who] - book.notice_period[who]
    life.planned[who] = _decision_days(rng, life, who)
    life.is_secured[who] = life.deadline[who] - 45 < calendar.starts[0]
    dice = rng.random(len(who))
    month = calendar.month_of(life.deadline[who])
    for decisive in np.unique(month[month < calendar.n_months + 3]):
        if decisive < 0:
            continue  # secured: settled before the world began
        now = month == decisive
        z = lagged_states(latents, int(decisive))[who[now]]
        chance = logistic(RENEWAL_LOSS.logit(z, book.segment[who[now]]))
        life.is_lost[who[now]] = dice[now] < chance
    life.is_lost[who[month >= calendar.n_months + 3]] = False
    life.is_lost[who] &= ~life.is_secured[who]


def _decision_days(rng: np.random.Generator, life: Decisions, who: Ints) -> Ints:
    """Return the day on which each renewal is decided, should it be lost."""
    days = np.zeros(len(who), dtype=np.int64)
    period = life.book.notice_period[who]
    for value in np.unique(period):
        offsets, chance = decision_offsets(int(value))
        days = np.where(period == value, rng.choice(offsets, len(who), p=chance), days)
    lapses = ~life.book.auto_renew[who] & (rng.random(len(who)) < LAPSE_SHARE)
    return np.where(lapses, life.renews[who], life.deadline[who] + days)


def _snapshot(life: Decisions) -> Snapshot:
    return Snapshot(
        life.is_active & (life.decided == FAR),
        life.deadline.copy(),
        life.renews.copy(),
        life.is_secured.copy(),
        life.rests_until.copy(),
    )


def _decide_contracts(life: Decisions, calendar: Calendar, month: int) -> None:
    """Give notice where the planned day of a lost renewal lies in this month."""
    due = life.is_active & life.book.has_contract & life.is_lost & (life.decided == FAR)
    start, end = calendar.starts[month], calendar.starts[month + 1]
    who = np.flatnonzero(due & (life.planned >= start) & (life.planned < end))
    life.decided[who], life.ends[who] = life.planned[who], life.renews[who]
    life.reason[who] = "churned"
    life.notice[who] = np.where(life.planned[who] < life.renews[who], life.planned[who], NEVER)
    life.record(who, life.decided[who], life.ends[who], "churn", "churned")


def _decide_monthly(
    rng: np.random.Generator, life: Decisions, calendar: Calendar, month: int, z: Floats
) -> None:
    """Let month-to-month accounts leave, or fail for good to pay."""
    book = life.book
    settled = calendar.month_of(book.started) + SETTLING_MONTHS <= month
    free = life.is_active & ~book.has_contract & (life.decided == FAR) & settled
    leaves = free & (rng.random(len(book)) < logistic(MONTHLY_CHURN.logit(z, book.segment)))
    fails = rng.random(len(book)) < logistic(PAYMENT_FAILURE.logit(z, book.segment))
    day = calendar.starts[month] + rng.integers(0, calendar.length(month), len(book))
    gives_notice = rng.random(len(book)) < 0.65
    lag = rng.integers(10, 31, len(book))
    for kind, chosen in (("churned", leaves), ("payment_failure", free & ~leaves & fails)):
        who = np.flatnonzero(chosen)
        noticed = gives_notice[who] & (kind == "churned")
        decided = day[who] if kind == "churned" else billing_days(book, calendar, month)[who]
        wait = np.where(noticed, lag[who], 1) if kind == "churned" else DUNNING_DAYS
        life.decided[who], life.ends[who] = decided, decided + wait
        life.notice[who] = np.where(noticed, decided, NEVER)
        life.reason[who] = kind
        life.record(who, decided, life.ends[who], "churn", kind)


def _change(
    rng: np.random.Generator,
    life: Decisions,
    latents: HiddenStates,
    calendar: Calendar,
    month: int,
    z: Floats,
) -> None:
    """Let accounts buy more, or, month to month, less."""
    book, n = life.book, len(life.book)
    free = life.is_active & (life.decided == FAR)
    grows = free & (life.rests_until <= month)
    grows &= rng.random(n) < logistic(EXPANSION.logit(z, book.segment))
    shrinks = free & ~grows & ~book.has_contract
    shrinks &= rng.random(n) < logistic(CONTRACTION.logit(z, book.segment))
    day = calendar.starts[month] + rng.integers(0, calendar.length(month), n)
    # An expansion in the month of a renewal is signed with it.
    renewing = calendar.month_of(life.renews) == month
    day = np.where(renewing & book.has_contract, life.renews - 1, day)
    day = np.maximum(day, life.open_since.max(axis=1) + 1)
    who = np.flatnonzero(grows)
    _expand(rng, life, who, day[who], kinds_of_growth(life, z, month)[who])
    life.rests_until[who] = month + REST_MONTHS
    later = np.arange(latents.states.shape[1] - LEAD - month - 1)
    latents.states[who, LEAD + month + 1 :, DEMAND] -= RELIEF * PERSISTENCE[DEMAND] ** later
    less = np.flatnonzero(shrinks & (life.seats > 3))
    life.close(less, day[less], "changed")
    _shrink(rng, life, less)
    life.reopen(less, day[less])
    life.record(less, day[less], day[less], "contraction", "seats")


def kinds_of_growth(life: Decisions, z: Floats, month: int) -> np.ndarray:
    """Return what each account would buy more of in a month, another product apart.

    Seats where demand is high, a higher tier where the fit is good and there is one, more units
    where `METERED` is owned.
    """
    has_tier, is_metered = life.plan < len(PLANS) - 1, life.owns[:, METERED]
    weight = np.column_stack(
        [
            1.4 * np.exp(0.7 * z[:, DEMAND]),
            0.6 * np.exp(0.7 * z[:, FIT]) * has_tier,
            1.2 * is_metered,
        ]
    )
    cut = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    place = (life.kind_dice[:, month, None] > cut).sum(axis=1)
    return np.array(("seats", "tier", "usage"), dtype=object)[place]


def _expand(
    rng: np.random.Generator, life: Decisions, who: Ints, day: Ints, kinds: np.ndarray
) -> None:
    """Add another product, seats on every product, a higher tier, or units of `METERED`."""
    growth = np.clip(rng.lognormal(-1.35, 0.5, len(who)), 0.13, 0.8)
    cross = (rng.random(len(who)) < CROSS_SELL_SHARE) & ~life.owns[who].all(axis=1)
    kinds = np.where(cross, "product", kinds)
    for kind in ("product", "seats", "tier", "usage"):
        here = kinds == kind
        life.record(who[here], day[here], day[here], "expansion", kind)
    new = np.argmin(life.owns[who[cross]], axis=1)
    life.owns[who[cross], new] = True
    life.open_since[who[cross], new] = day[cross]
    _buy_units(life, who[kinds == "usage"], day[kinds == "usage"], growth[kinds == "usage"])
    wider = (kinds == "seats") | (kinds == "tier")
    life.close(who[wider], day[wider], "changed")
    seats, tier = who[kinds == "seats"], who[kinds == "tier"]
    life.seats[seats] += np.ceil(life.seats[seats] * growth[kinds == "seats"]).astype(np.int64)
    life.plan[tier] += 1
    life.unit_price[tier] *= 1 + growth[kinds == "tier", None]
    life.reopen(who[wider], day[wider])


def _buy_units(life: Decisions, who: Ints, day: Ints, growth: Floats) -> None:
    """Raise what is bought of `METERED` so far that the whole revenue grows by `growth`."""
    life.close_one(who, METERED, day, "changed")
    price = life.unit_price[who]
    factor = 1 + growth * (price * life.owns[who]).sum(axis=1) / price[:, METERED]
    life.unit_price[who, METERED] *= factor
    life.allowance[who] *= factor
    life.open_since[who, METERED] = day


def _shrink(rng: np.random.Generator, life: Decisions, who: Ints) -> None:
    kept = rng.uniform(0.6, 0.85, len(who))
    life.seats[who] = np.maximum(1, np.floor(life.seats[who] * kept)).astype(np.int64)


def _renew(
    rng: np.random.Generator,
    life: Decisions,
    latents: HiddenStates,
    calendar: Calendar,
    month: int,
    z: Floats,
) -> None:
    """Start new terms for the contracts that reach their renewal date undecided."""
    book, n = life.book, len(life.book)
    reached = life.is_active & book.has_contract & (calendar.month_of(life.renews) == month)
    who = np.flatnonzero(reached & (life.decided == FAR))
    chance = logistic(CONTRACTION.logit(z, book.segment) + CONTRACTION_AT_RENEWAL)
    cuts = (rng.random(n) < chance)[who] & (life.seats[who] > 3)
    lag = rng.integers(3, 29, n) * (rng.random(n) < LATE_RENEWAL_SHARE)
    uplift = np.round(rng.uniform(0.02, 0.06, n), 3) * (rng.random(n) < 0.4)
    day = life.renews[who] + lag[who]
    life.close(who, life.renews[who], "renewed")
    rise = np.where(book.escalator[who] > 0, book.escalator[who], uplift[who])
    life.unit_price[who] *= 1 + rise[:, None]
    _shrink(rng, life, who[cuts])
    life.record(who[cuts], day[cuts], day[cuts], "contraction", "renewal")
    life.term_start[who] = life.renews[who]
    life.reopen(who, day)
    _plan(rng, life, who, latents, calendar)


def _end(life: Decisions, calendar: Calendar, month: int) -> None:
    """Close the rows of the accounts whose last day has come."""
    end = calendar.starts[month + 1]
    who = np.flatnonzero(life.is_active & (life.ends < end))
    for reason in ("churned", "payment_failure"):
        gone = who[life.reason[who] == reason]
        life.close(gone, life.ends[gone], reason)
    life.is_active[who] = False
