"""A world whose fate is settled: what the signals are drawn from."""

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
    """Everything known about a simulated company before its signals are drawn.

    Attributes
    ----------
    rows : DataFrame
        Subscription rows with days as numbers, one per subscription and start of terms.
    """

    seed: int
    book: AccountTraits
    latents: HiddenStates
    life: Decisions
    rows: pd.DataFrame
    calendar: Calendar

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random numbers of one kind of signal."""
        return generator(self.seed, purpose)

    @cached_property
    def seats(self) -> Ints:
        """Seats at the end of each month, accounts × months; 0 while not a customer."""
        return np.stack(self.life.seats_by_month, axis=1)

    @cached_property
    def allowance(self) -> Floats:
        """Units of the metered product at the end of each month, in usual ones, like `seats`."""
        return np.stack(self.life.allowance_by_month, axis=1)

    @cached_property
    def owns(self) -> Bools:
        """Products owned at the end of each month, accounts × months × products."""
        return np.stack(self.life.owns_by_month, axis=1)

    @cached_property
    def seats_before(self) -> Ints:
        """Seats with which each month began, accounts × months: use grows after a purchase."""
        before = np.column_stack([np.zeros(len(self.book), dtype=np.int64), self.seats[:, :-1]])
        return np.where(before > 0, before, self.seats)

    @cached_property
    def owns_before(self) -> Bools:
        """Products with which each month began, accounts × months × products."""
        before = np.concatenate([np.zeros_like(self.owns[:, :1]), self.owns[:, :-1]], axis=1)
        return np.where(before.any(axis=2, keepdims=True), before, self.owns)

    @cached_property
    def presence(self) -> Floats:
        """Share of each month's days on which an account was there, accounts × months."""
        starts = self.calendar.starts[: self.calendar.n_months + 1]
        begin = np.maximum(self.book.started[:, None], starts[:-1])
        end = np.minimum(self.life.ends[:, None], starts[1:])
        return np.clip((end - begin) / np.diff(starts), 0.0, 1.0)

    @cached_property
    def champion_left(self) -> Ints:
        """Day each account's first champion left; `FAR` when that has not happened."""
        rng = self.rng("champions")
        left = self.latents.shocked[:, :, CHAMPION_LEFT] & (self.presence > 0)
        month = np.argmax(left, axis=1)
        day = self.calendar.starts[month] + rng.integers(0, 28, len(month))
        gone = left.any(axis=1) & (day > self.book.started + 30) & (day < self.life.decided)
        return np.where(gone & (day < self.calendar.now_day), day, FAR)

    def wobble(self, rng: np.random.Generator, sd: float) -> Floats:
        """Return noise between a state and what shows of it, accounts × months."""
        return rng.normal(0, sd, self.presence.shape)

    def cells(self, rng: np.random.Generator, mean: Floats) -> tuple[Ints, Ints, Ints]:
        """Return account, month and day of events, `mean` of them per account and month.

        Events outside the account's life or after `now` are left out.
        """
        count = rng.poisson(mean * self.presence)
        cell = np.repeat(np.arange(count.size), count.ravel())
        account, month = np.divmod(cell, count.shape[1])
        length = np.diff(self.calendar.starts)[month]
        day = self.calendar.starts[month] + (rng.random(len(cell)) * length).astype(np.int64)
        kept = self.is_there(account, day)
        return account[kept], month[kept], day[kept]

    def is_there(self, account: Ints, day: Ints) -> np.ndarray:
        """Return whether each account is a customer on that day, and the day is over by `now`."""
        there = (day >= self.book.started[account]) & (day < self.life.ends[account])
        return np.asarray(there & (day < self.calendar.now_day))

    def arr_at(self, account: Ints, day: Ints) -> Floats:
        """Return the annual value of each account on that day, in its currency."""
        asked = pd.DataFrame({"account": account, "day": day}).rename_axis("place").reset_index()
        pairs = asked.merge(self.rows, on="account")
        ended = pairs["ended"].where(pairs["ended"] != NEVER, self.calendar.now_day + 10**5)
        pairs = pairs[(pairs["started"] <= pairs["day"]) & (pairs["day"] < ended)]
        value = pairs.groupby("place")["arr"].sum()
        return value.reindex(asked.index, fill_value=0.0).to_numpy(dtype=np.float64)

    def state(self, number: int, account: Ints, month: Ints) -> Floats:
        """Return one state of each (account, month) pair."""
        return self.latents.states[account, LEAD + month, number]


def with_arr(rows: pd.DataFrame, book: AccountTraits) -> pd.DataFrame:
    """Return subscription rows with their annual value, in the account's currency."""
    discount = book.discount[rows["account"].to_numpy()]
    return rows.assign(arr=(rows["seats"] * rows["unit_price"] * (1 - discount)).round(2))


def day_time(rng: np.random.Generator, day: Ints) -> Ints:
    """Return a moment of each day, in working hours (07:00 to 18:59 UTC)."""
    return day * DAY + rng.integers(7 * 3600, 19 * 3600, len(day))


def arrival(rng: np.random.Generator, moment: Ints, usual: int, late: int) -> Ints:
    """Return when each row arrives: `usual` seconds later, a few of them up to `late` seconds."""
    delay = np.where(rng.random(len(moment)) < LATE_SHARE, rng.integers(3600, late, len(moment)), 0)
    return moment + usual + delay


def user_ids(book: AccountTraits, account: Ints, user: Ints) -> np.ndarray:
    """Return the id of each account's user by position; contacts are the first users."""
    return np.array(
        [f"{a}-U{u + 1:03d}" for a, u in zip(book.account_id[account], user, strict=True)],
        dtype=object,
    )
