"""Histories of a health score, honest ones and edited ones, to measure the audit's checks on.

A world is two files as the audit takes them: scores (account_id, scored_on, health_score) and
outcomes (account_id, decided_on, outcome). `HONEST` names the ways of a score that was never
touched; `EDITS` how the scores before a decision were overwritten once it was known. The same kind
and seed give the same world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

FIRST = pd.Timestamp("2023-01-01")
NEVER = 100_000
BEST = 100.0


@dataclass(frozen=True)
class Way:
    """How an honest company and its score behave.

    Attributes
    ----------
    accounts, months : tuple of int
        Least and most of each; drawn per world.
    every_days : int
        Between two scores of an account.
    strength : float
        How far the hidden risk decides who leaves.
    seen : float
        Points of the score per unit of hidden risk.
    noise : float
        Points by which one score misses, independent of the one before.
    losses : tuple of float
        Share of accounts that leave in a year, least and most.
    falls : float
        Chance in a year of a sudden decline, after which leaving is likelier.
    after_fall : float
        Times the hazard after a decline, on top of what the higher risk does.
    wander : float
        Yearly drift of the hidden risk.
    season : float
        Points by which the whole book goes up and down in a year.
    step : float
        Points the score is rounded to; 0 writes one decimal.
    missing : float
        Share of scores that are missing.
    jitter_days : int
        Days by which a score's date varies.
    after_days : int
        Days for which scores go on after the decision, set low by hand; 0 ends them there.
    annual : bool
        Decisions are taken before a renewal, for many on the same day.
    stops : float
        Chance in a year that an account stops all use: its score stays at a floor.
    by_hand : float
        Share of low scores that are set by hand to a round number.
    outage : bool
        One month in which every score falls.
    finer_from : float
        Part of the history from which scores carry a decimal; 1: as `step` says throughout.
    """

    accounts: tuple[int, int] = (150, 600)
    months: tuple[int, int] = (24, 36)
    every_days: int = 30
    strength: float = 1.0
    seen: float = 10.0
    noise: float = 5.0
    losses: tuple[float, float] = (0.10, 0.22)
    falls: float = 0.0
    after_fall: float = 1.0
    wander: float = 0.3
    season: float = 0.0
    step: float = 0.0
    missing: float = 0.0
    jitter_days: int = 0
    after_days: int = 0
    annual: bool = False
    stops: float = 0.0
    by_hand: float = 0.0
    outage: bool = False
    finer_from: float = 1.0


USUAL = Way()
HONEST: Mapping[str, Way] = {
    "usual": USUAL,
    "weak": replace(USUAL, strength=0.3, seen=6.0, noise=8.0),
    "strong": replace(USUAL, strength=1.9, seen=13.0, noise=4.0),
    "drifting": replace(USUAL, wander=1.2, strength=1.4),
    "coarse": replace(USUAL, step=10.0),
    "three levels": replace(USUAL, step=25.0, seen=16.0),
    "weekly": replace(USUAL, every_days=7, noise=3.0, falls=0.08, accounts=(200, 400)),
    "sparse": replace(USUAL, every_days=91, months=(30, 40), noise=6.0),
    "uneven dates": replace(USUAL, jitter_days=9, missing=0.15),
    "seasonal": replace(USUAL, season=9.0, annual=True),
    "sharp falls": replace(USUAL, falls=0.15, after_fall=12.0, strength=0.6),
    "weekly, sharp falls": replace(
        USUAL,
        every_days=7,
        falls=0.15,
        after_fall=12.0,
        strength=0.6,
        noise=3.0,
        accounts=(200, 400),
    ),
    "set low after notice": replace(USUAL, after_days=75, falls=0.08),
    "weekly, set low after notice": replace(
        USUAL, every_days=7, after_days=60, falls=0.08, accounts=(200, 400)
    ),
    "missing values": replace(USUAL, missing=0.35),
    "few leavers": replace(USUAL, accounts=(120, 200), losses=(0.05, 0.08), falls=0.05),
    "use stops": replace(USUAL, stops=0.10),
    "round numbers by hand": replace(USUAL, by_hand=0.5, falls=0.08),
    "an outage": replace(USUAL, outage=True, annual=True),
    "finer from one day on": replace(USUAL, step=1.0, finer_from=0.5),
}


@dataclass(frozen=True)
class Edit:
    """How the scores before decisions were overwritten.

    Attributes
    ----------
    part : float
        Share of leavers.
    days : int
        Days before the decision from which scores are overwritten; 0: 60 to 365, per leaver.
    to : str
        ``floor`` (12 to 16), ``one value``, ``low`` (25 to 40), ``plausible`` (drawn from the
        lowest fifth of all scores), ``lowered`` (own scores less a number of points), ``ramp``
        (straight down to 12 to 16), ``lowered slowly`` (own scores less more and more points).
    raises : bool
        Scores of accounts that stayed are raised too.
    """

    part: float
    days: int
    to: str
    raises: bool = False


PARTS: Mapping[str, float] = {"a quarter": 0.25, "half": 0.5, "all": 1.0}
FORMS: Mapping[str, tuple[str, int, bool]] = {
    "floor, a year": ("floor", 365, False),
    "floor, half a year": ("floor", 182, False),
    "floor, 90 days": ("floor", 90, False),
    "floor, varied times": ("floor", 0, False),
    "floor, a year, stayers raised": ("floor", 365, True),
    "one value, a year": ("one value", 365, False),
    "low, a year": ("low", 365, False),
    "low, 90 days": ("low", 90, False),
    "plausible, a year": ("plausible", 365, False),
    "plausible, 90 days": ("plausible", 90, False),
    "lowered, a year": ("lowered", 365, False),
    "lowered, 90 days": ("lowered", 90, False),
    "ramp, a year": ("ramp", 365, False),
    "lowered slowly, a year": ("lowered slowly", 365, False),
}
EDITS: Mapping[str, Edit] = {
    f"{name}, {part}": Edit(share, days, to, raises)
    for name, (to, days, raises) in FORMS.items()
    for part, share in PARTS.items()
}
EDITED_WAYS = (
    "usual", "weak", "strong", "coarse", "weekly", "sharp falls", "uneven dates",
    "set low after notice",
)  # fmt: skip
"""The honest ways an edit is laid over, by turns."""


@dataclass(frozen=True)
class World:
    """Two files, and the numbers behind them.

    Attributes
    ----------
    scores, outcomes : pandas.DataFrame
        As the audit takes them.
    n_leavers, n_edited : int
        Accounts with a decision; those of them whose scores were overwritten.
    """

    scores: pd.DataFrame
    outcomes: pd.DataFrame
    n_leavers: int
    n_edited: int


@dataclass(frozen=True)
class _Book:
    """Arrays of a company: days of the grid, score per account and day (NaN: none), decisions."""

    days: np.ndarray
    at: np.ndarray
    score: np.ndarray
    gone: np.ndarray


def honest(kind: str, seed: int) -> World:
    """Return a world whose scores stood as the file says."""
    rng = np.random.default_rng([seed, *kind.encode()])
    return _files(_book(HONEST[kind], rng), 0)


def edited(kind: str, seed: int) -> World:
    """Return a world in which scores were overwritten once the decisions were known."""
    rng = np.random.default_rng([seed, *kind.encode()])
    way = HONEST[EDITED_WAYS[seed % len(EDITED_WAYS)]]
    book = _book(way, rng)
    edit = EDITS[kind]
    score, n_edited = _overwritten(book, edit, way, rng)
    return _files(replace(book, score=score), n_edited)


def _book(way: Way, rng: np.random.Generator) -> _Book:
    n = int(rng.integers(way.accounts[0], way.accounts[1] + 1))
    end = 30 * int(rng.integers(way.months[0], way.months[1] + 1))
    weeks = np.arange(0, end, 7)
    risk, fall, floor_from = _risks(way, n, weeks, rng)
    gone = _decisions(way, risk, fall, floor_from, weeks, rng)
    days = np.arange(0, end, way.every_days)
    at = days[None, :] + rng.integers(0, way.jitter_days + 1, (n, len(days)))
    score = _scores(way, risk, floor_from, at, days, rng)
    is_over = at >= (gone + way.after_days)[:, None]
    if way.after_days:
        score = _set_low(score, at, gone, rng)
    is_missing = rng.random(score.shape) < way.missing
    gone = np.where(gone < end, gone, NEVER)
    return _Book(days, at, np.where(is_over | is_missing, np.nan, score), gone)


def _risks(
    way: Way, n: int, weeks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the hidden risk per account and week, and the days of its fall and of its last use."""
    steps = rng.normal(size=(n, len(weeks))) * way.wander / np.sqrt(52)
    risk = rng.normal(size=(n, 1)) + np.cumsum(steps, axis=1)
    fall = rng.exponential(365 / max(way.falls, 1e-9), n)
    since = weeks[None, :] - fall[:, None]
    size = rng.uniform(1.8, 3.2, (n, 1))
    risk = risk + np.where(since >= 0, size, 0.0)
    idle = rng.exponential(365 / max(way.stops, 1e-9), n)
    return risk, fall, idle


def _decisions(
    way: Way,
    risk: np.ndarray,
    fall: np.ndarray,
    idle: np.ndarray,
    weeks: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the day on which each account decides to leave; `NEVER` for those that stay."""
    n = len(risk)
    yearly = rng.uniform(*way.losses)
    weight = np.exp(way.strength * risk) * np.where(weeks[None, :] >= idle[:, None], 12.0, 1.0)
    weight = weight * np.where(weeks[None, :] >= fall[:, None], way.after_fall, 1.0)
    if way.annual:
        renewal = np.where(rng.random(n) < 0.4, 0, rng.integers(0, 365, n))
        until = (renewal[:, None] - weeks[None, :]) % 365
        weight = weight * np.where((until > 20) & (until <= 75), 6.0, 0.05)
    hazard = np.minimum(weight * yearly / 52 / np.median(weight.mean(axis=0)), 0.25)
    leaves = rng.random(hazard.shape) < hazard
    first = np.where(leaves.any(axis=1), leaves.argmax(axis=1), -1)
    day = weeks[first] + rng.integers(0, 7, n)
    return np.where((first >= 0) & (day >= 21), day, NEVER)


def _scores(
    way: Way,
    risk: np.ndarray,
    idle: np.ndarray,
    at: np.ndarray,
    days: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    week = np.minimum(at // 7, risk.shape[1] - 1)
    felt = np.take_along_axis(risk, week, axis=1)
    own = rng.normal(size=(len(risk), 1)) * way.noise * 0.8
    score = 62 + own - way.seen * felt + way.noise * rng.normal(size=felt.shape)
    score = score + way.season * np.sin(2 * np.pi * at / 365)
    if way.outage:
        first = int(rng.integers(len(days) // 3, len(days) - 3))
        score[:, first : first + 2] -= 15
    floor = 8 + 2 * rng.random(score.shape)
    score = np.where(at >= idle[:, None], floor, score)
    score = np.clip(score, 0, BEST)
    by_hand = (rng.random(score.shape) < way.by_hand) & (score < 45)
    fine = np.round(score, 1) if not way.step else way.step * np.round(score / way.step)
    later = np.arange(len(days)) >= way.finer_from * len(days)
    fine = np.where(later[None, :], np.round(score, 1), fine)
    return np.where(by_hand, 10 * np.round(score / 10), fine)


def _set_low(
    score: np.ndarray, at: np.ndarray, gone: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return scores with those after the notice set low, for most leavers, some days later."""
    told = gone + rng.integers(0, 15, len(gone))
    is_told = (at > told[:, None]) & (rng.random((len(gone), 1)) < 0.8)
    return np.where(is_told, 10.0, score)


def _overwritten(
    book: _Book, edit: Edit, way: Way, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    left = (book.gone < NEVER) & ~np.isnan(book.score).all(axis=1)
    chosen = rng.permutation(np.flatnonzero(left))[: int(np.ceil(edit.part * left.sum()))]
    days = np.full(len(chosen), edit.days) if edit.days else rng.integers(60, 366, len(chosen))
    ahead = book.gone[chosen][:, None] - book.at[chosen]
    inside = (ahead > 0) & (ahead <= days[:, None])
    score = book.score.copy()
    mine = score[chosen]
    made = _VALUES[edit.to](_Touched(mine, ahead, days[:, None], score, rng))
    step = way.step or 0.1
    made = np.clip(step * np.round(made / step), 0, BEST)
    score[chosen] = np.where(inside & ~np.isnan(mine), np.round(made, 1), mine)
    if edit.raises:
        lift = np.round(rng.uniform(5, 12, (len(score), 1)), 1)
        raised = np.minimum(score + step * np.round(lift / step), BEST)
        score = np.where((book.gone == NEVER)[:, None], np.round(raised, 1), score)
    touched = (inside & ~np.isnan(mine)).any(axis=1)
    return score, int(touched.sum())


@dataclass(frozen=True)
class _Touched:
    """What an edit is made from: the chosen leavers' scores, and all others."""

    mine: np.ndarray
    ahead: np.ndarray
    days: np.ndarray
    every: np.ndarray
    rng: np.random.Generator

    @property
    def nearness(self) -> np.ndarray:
        """From 0 where the edit begins to 1 at the decision."""
        part: np.ndarray = 1 - np.clip(self.ahead / self.days, 0, 1)
        return part


def _floor(of: _Touched) -> np.ndarray:
    return of.rng.uniform(12, 16, of.mine.shape)


def _low(of: _Touched) -> np.ndarray:
    return of.rng.uniform(25, 40, of.mine.shape)


def _one_value(of: _Touched) -> np.ndarray:
    return np.full(of.mine.shape, float(of.rng.integers(10, 30)))


def _plausible(of: _Touched) -> np.ndarray:
    known = of.every[~np.isnan(of.every)]
    found: np.ndarray = of.rng.choice(known[known <= np.quantile(known, 0.2)], of.mine.shape)
    return found


def _lowered(of: _Touched) -> np.ndarray:
    lowered: np.ndarray = of.mine - of.rng.uniform(20, 35, (len(of.mine), 1))
    return lowered


def _ramp(of: _Touched) -> np.ndarray:
    before = np.where((of.ahead > of.days) & ~np.isnan(of.mine), of.mine, 0.0)
    n = (before > 0).sum(axis=1)
    start = np.where(n > 0, before.sum(axis=1) / np.maximum(n, 1), 60.0)[:, None]
    end = of.rng.uniform(12, 16, (len(of.mine), 1))
    ramp: np.ndarray = start + (end - start) * of.nearness
    return ramp


def _lowered_slowly(of: _Touched) -> np.ndarray:
    lowered: np.ndarray = of.mine - of.rng.uniform(20, 35, (len(of.mine), 1)) * of.nearness
    return lowered


_VALUES: Mapping[str, Callable[[_Touched], np.ndarray]] = {
    "floor": _floor,
    "one value": _one_value,
    "low": _low,
    "plausible": _plausible,
    "lowered": _lowered,
    "ramp": _ramp,
    "lowered slowly": _lowered_slowly,
}


def _files(book: _Book, n_edited: int) -> World:
    account, moment = np.nonzero(~np.isnan(book.score))
    names = np.array([f"A{i:04d}" for i in range(len(book.gone))])
    day = FIRST + pd.to_timedelta(book.at[account, moment], unit="D")
    scores = pd.DataFrame({
        "account_id": names[account],
        "scored_on": day.strftime("%Y-%m-%d"),
        "health_score": book.score[account, moment],
    })  # fmt: skip
    known = set(scores["account_id"])
    lost = np.array([i for i in np.flatnonzero(book.gone < NEVER) if names[i] in known], int)
    decided = FIRST + pd.to_timedelta(book.gone[lost], unit="D")
    outcomes = pd.DataFrame({
        "account_id": names[lost],
        "decided_on": decided.strftime("%Y-%m-%d"),
        "outcome": "churn",
    })  # fmt: skip
    return World(scores, outcomes, len(lost), n_edited)
