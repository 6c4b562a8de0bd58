"""Account-level simulation of the coming quarters with common shocks.

In each draw and period an open account is lost, grows, or changes like past accounts that neither
left nor grew (flat, uplift, contraction). Known changes are not simulated. Segments and owners are
sums of the same accounts in the same draws, so they add up to the total in every draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from training.forecast.common_shock import CommonShock

TABLE = 1 << 16
"""Size of the table of an empirical distribution: one entry per 16-bit random number."""

CHUNK_CELLS = 400_000
"""Draws × accounts per chunk: limits memory. Changing it changes the draws of a seed."""

CERTAIN = 9.0
"""|Φ⁻¹(p)| from which the outcome is certain."""


@dataclass(frozen=True)
class ForecastStep:
    """Possible changes of each account in one period. Arrays with one entry per account.

    Attributes
    ----------
    p_lost : array
        Probability of leaving, given that the account is active at the period's start.
    p_grows : array
        Probability of growing, likewise; ``p_lost + p_grows <= 1``.
    known : array
        Share of ARR not under notice: 1 minus the share known to end in the period.
    pool : array of int
        Row of `SimulatedChanges.others` for an account that neither leaves nor grows.
    is_open : array of bool
        False: nothing is simulated, the account keeps its known share.
    """

    p_lost: np.ndarray
    p_grows: np.ndarray
    known: np.ndarray
    pool: np.ndarray
    is_open: np.ndarray


@dataclass(frozen=True)
class SimulatedChanges:
    """Empirical relative changes of ARR, as tables of `TABLE` equally likely values.

    Attributes
    ----------
    growth : array
        Factors (new over old ARR) of accounts that grew.
    others : array, pools × TABLE
        Factors of accounts that neither left nor grew.
    """

    growth: np.ndarray
    others: np.ndarray


@dataclass(frozen=True)
class SimulatedDraws:
    """One period's draws: arrays of draws × groups.

    Attributes
    ----------
    base : array
        ARR at the start of the period.
    kept : array
        ARR retained, each account at most its ARR at the start.
    end : array
        ARR of the same accounts at the end.
    """

    base: np.ndarray
    kept: np.ndarray
    end: np.ndarray


def draws_table(values: np.ndarray, weights: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Return a weighted empirical distribution as `TABLE` equally likely values.

    Parameters
    ----------
    values, weights : array
        Factors and weights; without any, the factor is 1.
    share : float
        Probability that the distribution applies; otherwise the factor is 1.
    """
    total = weights.sum()
    if total <= 0 or share <= 0:
        return np.ones(TABLE, dtype=np.float32)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / total
    places = (np.arange(TABLE) + 0.5) / TABLE
    inside = places < share
    found = np.searchsorted(reached, places[inside] / share, side="left")
    table = np.ones(TABLE, dtype=np.float32)
    table[inside] = values[order][np.minimum(found, len(values) - 1)]
    # Changes come first, so that one comparison finds the few draws with a change.
    return np.concatenate([table[table != 1.0], table[table == 1.0]])


def expected_end(arr: np.ndarray, step: ForecastStep, changes: SimulatedChanges) -> np.ndarray:
    """Return each account's expected ARR at the end of a period: the mean of the draws."""
    growth = float(changes.growth.mean(dtype=np.float64))
    others = changes.others.mean(axis=1, dtype=np.float64)[step.pool]
    stays = 1.0 - step.p_lost - step.p_grows
    factor = np.where(step.is_open, step.p_grows * growth + stays * others, 1.0)
    end: np.ndarray = arr * step.known * factor
    return end


def expected_kept(arr: np.ndarray, step: ForecastStep, changes: SimulatedChanges) -> np.ndarray:
    """Return each account's expected ARR retained; growth of one account offsets no other."""
    room = np.divide(1.0, step.known, out=np.ones(len(arr)), where=step.known > 0)
    growth = _capped(changes.growth[None, :], np.zeros(len(arr), dtype=np.int64), room)
    others = _capped(changes.others, step.pool, room)
    stays = 1.0 - step.p_lost - step.p_grows
    factor = np.where(step.is_open, step.p_grows * growth + stays * others, 1.0)
    kept: np.ndarray = arr * step.known * factor
    return kept


def _capped(tables: np.ndarray, pool: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the mean of each account's factor, capped at its ARR at the start."""
    ways, place = np.unique(np.column_stack([pool, room]), axis=0, return_inverse=True)
    means = [np.minimum(tables[int(k)], top).mean(dtype=np.float64) for k, top in ways]
    return np.array(means)[place.ravel()]


def simulate_forecast(
    arr: np.ndarray,
    base: np.ndarray,
    steps: Sequence[ForecastStep],
    changes: Sequence[SimulatedChanges],
    shocks: tuple[CommonShock, CommonShock],
    groups: np.ndarray,
    *,
    draws: int,
    seed: int,
) -> list[SimulatedDraws]:
    """Simulate the coming periods, one after the other.

    Parameters
    ----------
    arr : array, accounts
        ARR now.
    base : array, accounts
        ARR at the start of the first period, which may have begun; later periods start from the
        simulated ARR.
    steps, changes : sequence, one per period
        Possible changes and their sizes.
    shocks : (CommonShock, CommonShock)
        Common shocks of leaving and of growing; each period has its own shocks.
    groups : array, accounts × groups
        1.0 where an account belongs to a group.
    draws, seed : int
        Number of draws, and seed: the same inputs give the same draws.
    """
    # Accounts are sorted by cell: the finest groups of the sums.
    cells, cell = np.unique(groups, axis=0, return_inverse=True)
    order = np.argsort(cell.ravel(), kind="stable")
    bounds = np.flatnonzero(np.diff(cell.ravel()[order], prepend=-1))
    size = max(1, CHUNK_CELLS // max(len(arr), 1))
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in steps]
    ordered = [_ordered(step, order) for step in steps]
    for rng, n in _generators(draws, size, seed):
        now = np.broadcast_to(arr[order].astype(np.float32), (n, len(arr)))
        start = np.broadcast_to(base[order].astype(np.float32), (n, len(arr)))
        for number, (step, change) in enumerate(zip(ordered, changes, strict=True)):
            now = _advance(rng, now, step, change, shocks)
            sums = (start, np.minimum(start, now), now * (start > 0))
            parts[number].append(tuple(_summed(x, bounds) for x in sums))
            start = now
    return [_collected(part, cells) for part in parts]


def _summed(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.add.reduceat(values, bounds, axis=1, dtype=np.float64)
    return found


def _collected(part: Sequence[tuple[np.ndarray, ...]], cells: np.ndarray) -> SimulatedDraws:
    sums = (np.concatenate(chunks) for chunks in zip(*part, strict=True))
    return SimulatedDraws(*(found @ cells for found in sums))


def _generators(draws: int, size: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    starts = range(0, draws, size)
    children = np.random.SeedSequence(seed).spawn(len(starts))
    for start, child in zip(starts, children, strict=True):
        yield np.random.Generator(np.random.SFC64(child)), min(size, draws - start)


def _ordered(step: ForecastStep, order: np.ndarray) -> ForecastStep:
    return ForecastStep(
        step.p_lost[order],
        step.p_grows[order],
        step.known[order],
        step.pool[order],
        step.is_open[order],
    )


def _advance(
    rng: np.random.Generator,
    now: np.ndarray,
    step: ForecastStep,
    change: SimulatedChanges,
    shocks: tuple[CommonShock, CommonShock],
) -> np.ndarray:
    """Return the ARR of every account at the end of a period, draws × accounts.

    One normal number per account decides: low values leave, high values grow.
    """
    noise = rng.standard_normal(now.shape, dtype=np.float32)
    dice = rng.integers(0, TABLE, size=now.shape, dtype=np.uint16)
    result = now * step.known.astype(np.float32)
    pool = np.where(step.is_open, step.pool, len(change.others))
    n_changing = np.append((change.others != 1.0).sum(axis=1), 0)[pool]
    cells = np.flatnonzero(dice < n_changing)
    place = dice.ravel()[cells] + (pool * TABLE)[cells % now.shape[1]]
    result.ravel()[cells] *= change.others.ravel()[place]
    grows = np.flatnonzero(noise > -_reach(rng, step.p_grows * step.is_open, shocks[1], len(now)))
    result.ravel()[grows] = _grown(now, step, change, grows, dice)
    lost = noise < _reach(rng, step.p_lost * step.is_open, shocks[0], len(now))
    np.copyto(result, 0.0, where=lost)
    return result


def _grown(
    now: np.ndarray,
    step: ForecastStep,
    change: SimulatedChanges,
    cells: np.ndarray,
    dice: np.ndarray,
) -> np.ndarray:
    row, column = np.divmod(cells, now.shape[1])
    grown: np.ndarray = now[row, column] * step.known[column] * change.growth[dice.ravel()[cells]]
    return grown


def _reach(rng: np.random.Generator, p: np.ndarray, shock: CommonShock, n: int) -> np.ndarray:
    """Return the normal number below which an account has the event, draws × accounts."""
    s, z = shock.draw(rng, n), rng.standard_normal(n)
    free = np.sqrt(1.0 - s * s)
    threshold = np.clip(ndtri(np.clip(p, 0.0, 1.0)), -CERTAIN, CERTAIN).astype(np.float32)
    reach: np.ndarray = np.multiply.outer((1.0 / free).astype(np.float32), threshold)
    reach -= (s * z / free).astype(np.float32)[:, None]
    return reach
