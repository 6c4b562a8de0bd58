"""Accounts without a common attribute that become silent on the same days.

Falling usage spreads over weeks. In an outage many more accounts than usual are silent over the
same days, they were as active as usual just before, and the others are as active as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from features.quality.changes.daily import Bools, Floats, first_day, happened_day
from features.quality.context import QualityContext

MAX_ACCOUNTS = 4_000
"""Accounts in the scan; of more, a sample by hash."""

LENGTHS = (3, 4, 5, 6, 7, 9, 11, 14)
"""Lengths of silences that are searched, in days."""

PAST_DAYS = 28
"""Days before a silence that define the usual activity of an account."""

LEAST_ACTIVE = 1.5
"""Usual active days of an account in a silence from which its silence counts."""

THRESHOLD = 8.0
"""Robust standard deviations of the number of silent accounts from which it is no chance."""

EXCESS_SHARE, LEAST_EXCESS = 0.15, 5
"""Minimum share and number of accounts that are silent beyond the usual number."""

OTHERS_SHARE = 0.7
"""Minimum activity of the other accounts, as a share of their usual activity."""

EDGE_SHARE = 0.6
"""Minimum activity of the silent accounts just before and, if it has ended, just after."""


@dataclass(frozen=True)
class Silence:
    """A simultaneous silence.

    Attributes
    ----------
    first, last : date
        Days of the silence.
    accounts : tuple of str
        Silent accounts that are usually active on such days.
    usual : float
        Number of silent accounts that is usual for so many days.
    whole : int
        Accounts that are usually active on such days.
    has_ended : bool
        The accounts are active again.
    """

    first: date
    last: date
    accounts: tuple[str, ...]
    usual: float
    whole: int
    has_ended: bool


@dataclass(frozen=True)
class _Activity:
    first: date
    ids: np.ndarray
    total: np.ndarray
    """(accounts, days + 1) cumulative active days."""
    profile: Floats
    """Cumulative usual activity of all accounts by weekday, days + 1."""


def common_silence(context: QualityContext, table: str) -> Silence | None:
    """Return the clearest simultaneous silence of a table, or None."""
    activity = _activity(context, table)
    if activity is None:
        return None
    best: tuple[float, int, int] | None = None
    for length in LENGTHS:
        found = _scan(activity, length)
        if found is not None and (best is None or found[0] > best[0]):
            best = (*found, length)
    if best is None:
        return None
    return _silence(activity, best[1], best[2])


def _activity(context: QualityContext, table: str) -> _Activity | None:
    first = first_day(context, table)
    n_days = (context.now.date() - first).days if first else 0
    if first is None or n_days < 2 * PAST_DAYS + max(LENGTHS):
        return None
    day = happened_day(table)
    rows = context.connection.execute(
        f"WITH kept AS (SELECT account_id FROM {table} GROUP BY 1 ORDER BY hash(account_id) "
        f"LIMIT {MAX_ACCOUNTS}) "
        f"SELECT DISTINCT account_id, CAST({day} - $1 AS INTEGER) AS position FROM {table} "
        f"SEMI JOIN kept USING (account_id) WHERE {day} >= $1 AND {day} < $2",
        [first, context.now.date()],
    ).fetchnumpy()
    ids, codes = np.unique(np.asarray(rows["account_id"], dtype=str), return_inverse=True)
    active = np.zeros((len(ids), n_days + 1), dtype=np.int32)
    active[codes, np.asarray(rows["position"], dtype=np.int64) + 1] = 1
    by_day = active[:, 1:].sum(axis=0).astype(np.float64)
    weekday = np.arange(n_days) % 7
    usual = np.array([by_day[weekday == item].mean() for item in range(7)])
    profile = np.concatenate([[0.0], np.cumsum(usual[weekday])])
    return _Activity(first, ids, np.cumsum(active, axis=1), profile)


def _window(activity: _Activity, start: int, length: int) -> tuple[Floats, Floats]:
    """Return the active days of each account in a window, and those usual by its past."""
    total, profile = activity.total, activity.profile
    seen = (total[:, start + length] - total[:, start]).astype(np.float64)
    past = (total[:, start] - total[:, start - PAST_DAYS]).astype(np.float64)
    scale = (profile[start + length] - profile[start]) / (
        profile[start] - profile[start - PAST_DAYS]
    )
    return seen, past * scale


def _scan(activity: _Activity, length: int) -> tuple[float, int] | None:
    """Return score and first day of the clearest silence of a length."""
    starts = np.arange(PAST_DAYS, activity.total.shape[1] - length)
    excess, chance = np.zeros(len(starts)), np.ones(len(starts))
    is_candidate = np.zeros(len(starts), dtype=bool)
    for place, start in enumerate(starts):
        seen, usual = _window(activity, int(start), length)
        asked = usual >= LEAST_ACTIVE
        n_asked = int(asked.sum())
        if n_asked < LEAST_EXCESS:
            continue
        silent = asked & (seen == 0)
        expected = float(np.exp(-usual[asked]).sum())
        excess[place], chance[place] = silent.sum() - expected, max(1.0, expected)
        least = max(LEAST_EXCESS, EXCESS_SHARE * n_asked)
        is_candidate[place] = excess[place] >= least and _is_partial(
            activity, int(start), length, silent, asked
        )
    if not is_candidate.any():
        return None
    centre = float(np.median(excess))
    spread = max(1.4826 * float(np.median(np.abs(excess - centre))), 1e-9)
    score = (excess - centre) / np.maximum(spread, np.sqrt(chance))
    score[~is_candidate] = -np.inf
    place = int(np.argmax(score))
    return (float(score[place]), int(starts[place])) if score[place] >= THRESHOLD else None


def _is_partial(activity: _Activity, start: int, length: int, silent: Bools, asked: Bools) -> bool:
    """Whether the others are active as usual, and the silent ones were just before."""
    seen, usual = _window(activity, start, length)
    others = asked & ~silent
    if not others.any() or seen[others].sum() < OTHERS_SHARE * usual[others].sum():
        return False
    edge = min(7, length)
    profile, total = activity.profile, activity.total
    per_day = usual[silent].sum() / max(profile[start + length] - profile[start], 1e-9)
    before = (total[silent, start] - total[silent, start - edge]).sum()
    if before < EDGE_SHARE * per_day * (profile[start] - profile[start - edge]):
        return False
    last = min(total.shape[1] - 1, start + length + edge)
    if last == start + length:
        return True
    after = (total[silent, last] - total[silent, start + length]).sum()
    return bool(after >= EDGE_SHARE * per_day * (profile[last] - profile[start + length]))


def _silence(activity: _Activity, start: int, length: int) -> Silence:
    seen, usual = _window(activity, start, length)
    asked = usual >= LEAST_ACTIVE
    silent = asked & (seen == 0)
    return Silence(
        activity.first + timedelta(days=start),
        activity.first + timedelta(days=start + length - 1),
        tuple(str(item) for item in activity.ids[silent]),
        float(np.exp(-usual[asked]).sum()),
        int(asked.sum()),
        start + length < activity.total.shape[1] - 1,
    )
