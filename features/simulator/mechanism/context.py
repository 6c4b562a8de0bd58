"""Simulated accounts, states and decisions, the input of all signals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from features.simulator.mechanism.accounts import AccountTraits
from features.simulator.mechanism.calendar import (
    DAY,
    FAR,
    NEVER,
    Bools,
    Calendar,
    Floats,
    Ints,
    generator,
)
from features.simulator.mechanism.decisions import Decisions
from features.simulator.mechanism.hidden_states import CHAMPION_LEFT, LEAD, HiddenStates

LATE_SHARE = 0.02
"""Share of tickets and usage that arrives late."""


@dataclass(frozen=True)
class SimulationContext:
    """State of a simulated company before its signals are drawn.

    Attributes
    ----------
    rows : DataFrame
        Subscription rows with days as numbers, one per subscription and start of terms.
    """

    seed: int
    traits: AccountTraits
    hidden_states: HiddenStates
    decisions: Decisions
    rows: pd.DataFrame
    calendar: Calendar

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random generator of one kind of signal."""
        return generator(self.seed, purpose)

    @cached_property
    def seats(self) -> Ints:
        """Seats at the end of each month, accounts × months; 0 before and after its lifetime."""
        return np.stack(self.decisions.seats_by_month, axis=1)

    @cached_property
    def allowance(self) -> Floats:
        """Units of the metered product at the end of each month, relative to the usual number."""
        return np.stack(self.decisions.allowance_by_month, axis=1)

    @cached_property
    def owns(self) -> Bools:
        """Products owned at the end of each month, accounts × months × products."""
        return np.stack(self.decisions.owns_by_month, axis=1)

    @cached_property
    def seats_before(self) -> Ints:
        """Seats at the start of each month, accounts × months, as usage grows after a purchase."""
        before = np.column_stack([np.zeros(len(self.traits), dtype=np.int64), self.seats[:, :-1]])
        return np.where(before > 0, before, self.seats)

    @cached_property
    def owns_before(self) -> Bools:
        """Products at the start of each month, accounts × months × products."""
        before = np.concatenate([np.zeros_like(self.owns[:, :1]), self.owns[:, :-1]], axis=1)
        return np.where(before.any(axis=2, keepdims=True), before, self.owns)

    @cached_property
    def presence(self) -> Floats:
        """Share of the days of each month in the account's lifetime, accounts × months."""
        starts = self.calendar.starts[: self.calendar.n_months + 1]
        begin = np.maximum(self.traits.started[:, None], starts[:-1])
        end = np.minimum(self.decisions.ends[:, None], starts[1:])
        return np.clip((end - begin) / np.diff(starts), 0.0, 1.0)

    @cached_property
    def champion_left(self) -> Ints:
        """Day the first champion of each account left; `FAR` without a departure."""
        rng = self.rng("champions")
        left = self.hidden_states.shocked[:, :, CHAMPION_LEFT] & (self.presence > 0)
        month = np.argmax(left, axis=1)
        day = self.calendar.starts[month] + rng.integers(0, 28, len(month))
        ended = left.any(axis=1) & (day > self.traits.started + 30) & (day < self.decisions.decided)
        return np.where(ended & (day < self.calendar.now_day), day, FAR)

    def noise(self, rng: np.random.Generator, sd: float) -> Floats:
        """Return noise between a state and its signal, accounts × months."""
        return rng.normal(0, sd, self.presence.shape)

    def cells(self, rng: np.random.Generator, mean: Floats) -> tuple[Ints, Ints, Ints]:
        """Return account, month and day of events, on average `mean` per account and month.

        Events outside the account's lifetime or after `now` are left out.
        """
        count = rng.poisson(mean * self.presence)
        cell = np.repeat(np.arange(count.size), count.ravel())
        account, month = np.divmod(cell, count.shape[1])
        length = np.diff(self.calendar.starts)[month]
        day = self.calendar.starts[month] + (rng.random(len(cell)) * length).astype(np.int64)
        remaining = self.is_there(account, day)
        return account[remaining], month[remaining], day[remaining]

    def is_there(self, account: Ints, day: Ints) -> np.ndarray:
        """Return whether each account is active on that day, and the day has ended by `now`."""
        is_present = (day >= self.traits.started[account]) & (day < self.decisions.ends[account])
        return np.asarray(is_present & (day < self.calendar.now_day))

    def arr_at(self, account: Ints, day: Ints) -> Floats:
        """Return the ARR of each account on that day, in its currency."""
        queries = pd.DataFrame({"account": account, "day": day}).rename_axis("place").reset_index()
        pairs = queries.merge(self.rows, on="account")
        ended = pairs["ended"].where(pairs["ended"] != NEVER, self.calendar.now_day + 10**5)
        pairs = pairs[(pairs["started"] <= pairs["day"]) & (pairs["day"] < ended)]
        value = pairs.groupby("place")["arr"].sum()
        return value.reindex(queries.index, fill_value=0.0).to_numpy(dtype=np.float64)

    def state(self, number: int, account: Ints, month: Ints) -> Floats:
        """Return one state of each (account, month) pair."""
        return self.hidden_states.states[account, LEAD + month, number]


def with_arr(rows: pd.DataFrame, traits: AccountTraits) -> pd.DataFrame:
    """Return subscription rows with their ARR, in the account's currency."""
    discount = traits.discount[rows["account"].to_numpy()]
    return rows.assign(arr=(rows["seats"] * rows["unit_price"] * (1 - discount)).round(2))


def day_time(rng: np.random.Generator, day: Ints) -> Ints:
    """Return a moment of each day, in working hours (07:00 to 18:59 UTC)."""
    return day * DAY + rng.integers(7 * 3600, 19 * 3600, len(day))


def arrival(rng: np.random.Generator, moment: Ints, usual: int, late: int) -> Ints:
    """Return the arrival time of each row: `usual` seconds later, for a few up to `late`."""
    delay = np.where(rng.random(len(moment)) < LATE_SHARE, rng.integers(3600, late, len(moment)), 0)
    return moment + usual + delay


def user_ids(traits: AccountTraits, account: Ints, user: Ints) -> np.ndarray:
    """Return the id of each account's user by position; contacts are the first users."""
    return np.array(
        [f"{a}-U{u + 1:03d}" for a, u in zip(traits.account_id[account], user, strict=True)],
        dtype=object,
    )
