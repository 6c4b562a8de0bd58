"""Statistical traces of scores that were edited after accounts left, for all or some accounts.

Each trace is a test on scores of lost accounts before the decision, compared with their own earlier
scores and with retained accounts. A real decline starts at a different time in each account, has
the usual noise and ends at a different level. An edit starts at one distance from the decision, is
too even, or gives many accounts the same level. A trace counts from a p-value of `UNLIKELY`,
corrected for multiple tests. `tests.benchmarks.training.integrity` measures the detection rate of
each kind of edit and the rate of false alarms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binom, poisson
from scipy.stats import t as student

UNLIKELY: Mapping[str, float] = {"one_distance": 0.01, "too_even": 1e-3, "one_level": 1e-3}
"""p-value of a trace. The first test is conservative, as its reference is the highest of several
rates."""

SHARP = 0.985
"""Quantile of the falls of retained accounts from which a lost account's sharpest fall counts."""

LEAST_LEAVERS, LEAST_STAYERS = 8, 20
"""Smallest number of lost and of retained accounts for the tests."""

BEGINS_DAYS = 45.0
"""Smallest distance from the decision in the search: real falls cluster just before it."""

LEAST_SHARE = 0.10
"""Smallest share of lost accounts at one distance or level that counts as a trace."""

LEAST_AVERAGED, CAUTION = 20, 15.0
"""Smallest number of paths for an average, and the correction factor of its p-value: falls are
heavy-tailed, and all neighbouring distances were tested."""

STRIDE = 1.7
"""Largest gap between neighbouring scores, in usual steps."""

YEAR, QUARTER = 365.0, 92.0


class Trace(NamedTuple):
    """Result of one test: p-value, and the finding in words."""

    p_value: float
    words: str


NOTHING = Trace(1.0, "")


@dataclass(frozen=True)
class Path:
    """One account's scores in time order.

    Attributes
    ----------
    risk : numpy.ndarray
        Higher is riskier.
    moved : numpy.ndarray
        Risk minus the average of retained accounts in that month.
    ahead : numpy.ndarray
        Days to the decision; empty for a retained account.
    month : numpy.ndarray
        Number of the month of each score.
    """

    risk: np.ndarray
    moved: np.ndarray
    ahead: np.ndarray
    month: np.ndarray


@dataclass(frozen=True)
class Paths:
    """Scores of lost accounts before the decision, scores of retained accounts, and their interval.

    Attributes
    ----------
    left, stayed : list of Path
        One per account.
    step_days : float
        The usual days between two scores of an account.
    """

    left: list[Path]
    stayed: list[Path]
    step_days: float

    @property
    def is_enough(self) -> bool:
        """Whether there are enough lost and retained accounts."""
        return len(self.left) >= LEAST_LEAVERS and len(self.stayed) >= LEAST_STAYERS


def paths_of(rows: pd.DataFrame, lost: pd.Series) -> Paths:
    """Return the last version of every score, by account.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row per account, moment and version: entity_id, scored_at, risk; versions in order.
    lost : pandas.Series
        Account to the moment of its decision.
    """
    known = rows.dropna(subset=["risk"]).drop_duplicates(["entity_id", "scored_at"], keep="last")
    known = known.sort_values(["entity_id", "scored_at"], ignore_index=True)
    decided = pd.to_datetime(known["entity_id"].map(lost), utc=True)
    ahead = ((decided - known["scored_at"]).dt.total_seconds() / 86_400.0).to_numpy()
    days = known["scored_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy() / 86_400e6
    month = np.floor(days / 30.44).astype(np.int64)
    risk = known["risk"].to_numpy(dtype=np.float64)
    moved = risk - _usual(risk, month, np.isnan(ahead))
    codes = pd.factorize(known["entity_id"])[0]
    left, stayed, steps = [], [], []
    for part in np.split(np.arange(len(known)), np.flatnonzero(np.diff(codes)) + 1):
        if len(part) == 0:
            continue
        if np.isnan(ahead[part[0]]):
            stayed.append(Path(risk[part], moved[part], np.empty(0), month[part]))
            steps.append(np.diff(days[part]))
        elif (ahead[part] > 0).any():
            part = part[ahead[part] > 0]
            left.append(Path(risk[part], moved[part], ahead[part], month[part]))
    gaps = np.concatenate(steps) if steps else np.empty(0)
    return Paths(left, stayed, float(np.median(gaps)) if len(gaps) else 30.0)


def _usual(risk: np.ndarray, month: np.ndarray, is_stayer: np.ndarray) -> np.ndarray:
    """Return the average risk of retained accounts in the month of each score."""
    if not is_stayer.any():
        return np.zeros(len(risk))
    table = pd.Series(risk[is_stayer]).groupby(month[is_stayer]).mean()
    usual: np.ndarray = pd.Series(month).map(table).fillna(risk[is_stayer].mean()).to_numpy()
    return usual


def traces_of(rows: pd.DataFrame, lost: pd.Series) -> dict[str, Trace] | None:
    """Return every trace by its code; None with too few accounts.

    The p-values of tests with two windows are corrected for two tests.
    """
    paths = paths_of(rows, lost)
    if not paths.is_enough:
        return None
    return {
        "one_distance": _twice(breaks_at_one_distance(paths), step_at_one_distance(paths)),
        "too_even": _twice(too_even(paths, YEAR), too_even(paths, QUARTER)),
        "one_level": _twice(on_one_level(paths, YEAR), on_one_level(paths, QUARTER)),
    }


def _twice(*found: Trace) -> Trace:
    best = min(found, key=lambda item: item.p_value)
    return Trace(float(min(1.0, len(found) * best.p_value)), best.words)


def break_sizes(values: np.ndarray, width: int) -> np.ndarray:
    """Return the size of the break before each score, from the second score on.

    In units of one score's noise: the difference of means of up to `width` scores on either side
    over the square root of 1/before + 1/after.

    >>> break_sizes(np.array([1.0, 1.0, 5.0, 5.0]), 2).round(2).tolist()
    [1.63, 4.0, 1.63]
    """
    at = np.arange(1, len(values))
    total = np.concatenate([[0.0], np.cumsum(values)])
    low, high = np.maximum(at - width, 0), np.minimum(at + width, len(values))
    before, after = (total[at] - total[low]) / (at - low), (total[high] - total[at]) / (high - at)
    size: np.ndarray = (after - before) / np.sqrt(1.0 / (at - low) + 1.0 / (high - at))
    return size


def breaks_at_one_distance(paths: Paths) -> Trace:
    """Test whether sharpest falls of many lost accounts start at one distance from the decision.

    A sharpest fall counts if it exceeds the `SHARP` quantile of changes of retained accounts.
    The number at one distance is compared with the rate at neighbouring distances, the higher
    side, by the binomial distribution. Falls in one calendar month are an outage, not an edit.
    """
    width = int(np.clip(round(120 / paths.step_days), 2, 8))
    usual = [break_sizes(path.moved, width) for path in paths.stayed if len(path.risk) > 3]
    long = [path for path in paths.left if len(path.risk) > 2]
    if len(usual) < LEAST_STAYERS or not long:
        return NOTHING
    mark = float(np.quantile(np.concatenate(usual), SHARP))
    falls = [fall for path in long if (fall := _sharpest(path, width, mark)) is not None]
    if len(falls) < 4:
        return NOTHING
    reach = np.array([(path.ahead.min(), path.ahead.max()) for path in long])
    return _most_aligned(np.array(falls), reach, paths.step_days)


def _sharpest(path: Path, width: int, mark: float) -> tuple[float, float, float] | None:
    """Return the range of distances of an account's sharpest fall, and its month."""
    size = break_sizes(path.moved, width)
    at = int(size.argmax()) + 1
    if size[at - 1] <= mark:
        return None
    return path.ahead[at], path.ahead[at - 1], float(path.month[at])


def _most_aligned(falls: np.ndarray, reach: np.ndarray, step: float) -> Trace:
    """Return the distance with the most significant excess of falls."""
    near, far, month = falls.T
    middle = (near + far) / 2
    candidates = np.unique(np.ceil(near[near >= BEGINS_DAYS - 1]))
    overall = len(falls) / (len(reach) * reach[:, 1].mean() / step)
    looks, best = reach[:, 1].max() / step, NOTHING
    for distance in candidates:
        hit = (near <= distance) & (far > distance) & (far - near <= STRIDE * step + 1)
        n = int(hit.sum())
        if n < 3 or np.unique(month[hit], return_counts=True)[1].max() > max(2, n / 2):
            continue
        whole = int(_reaching(reach, distance))
        if n < LEAST_SHARE * whole:
            continue
        aside = middle[~hit]
        rate = max(overall, *_rates_aside(aside, reach, distance, step))
        p = float(binom.sf(n - 1, whole, min(rate, 0.9))) * max(1.0, 2.0 * looks)
        if p < best.p_value:
            words = (
                f"the sharpest falls of {n} of {whole} lost accounts are at one distance from the "
                f"decision, about {distance:.0f} days"
            )
            best = Trace(p, words)
    return best


def _reaching(reach: np.ndarray, distance: float) -> float:
    return float(((reach[:, 0] <= distance) & (reach[:, 1] > distance)).sum())


def _rates_aside(
    middle: np.ndarray, reach: np.ndarray, distance: float, step: float
) -> Iterator[float]:
    """Yield falls per lost account and step on either side of a distance."""
    wide = max(step, 7.0)
    for inner, outer in ((-1.0, -4.5), (1.0, 4.5)):
        low, high = sorted((distance + inner * wide, distance + outer * wide))
        low = max(low, 0.0)
        if high > low:
            n = ((middle >= low) & (middle < high)).sum()
            options = _reaching(reach, (low + high) / 2) * (high - low) / step
            yield (n + 0.5) / (options + 5.0)


def step_at_one_distance(paths: Paths) -> Trace:
    """Test whether the average path of lost accounts has a step at one distance from the decision.

    For each lost account with scores on both sides, the change over a distance is compared with
    the changes one window before and after it. An average over many accounts declines smoothly.
    The mean over accounts is tested by Student's t for every distance and window.
    """
    best = NOTHING
    for window in (60.0, 120.0):
        if window < 1.9 * paths.step_days:
            continue
        distances = np.arange(max(2 * window, 85.0), 560.0, 5.0)
        steps = np.array([_steps(path, distances, window) for path in paths.left])
        found = _largest_step(steps, distances, 2 * len(distances) * 5.0 / window)
        best = min(best, found, key=lambda item: item.p_value)
    return best


def _largest_step(steps: np.ndarray, distances: np.ndarray, looks: float) -> Trace:
    n = (~np.isnan(steps)).sum(axis=0)
    steps, distances, n = (item[..., n >= LEAST_AVERAGED] for item in (steps, distances, n))
    if not len(distances):
        return NOTHING
    scale = np.nanmedian(np.abs(steps)) * 1.4826 or np.inf
    mild = np.clip(steps, -4 * scale, 4 * scale)
    mean, error = np.nanmean(mild, axis=0), np.nanstd(mild, axis=0, ddof=1) / np.sqrt(n)
    ratio = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    at = int(ratio.argmax())
    p = float(student.sf(ratio[at], n[at] - 1)) * max(1.0, CAUTION * looks)
    words = (
        f"the scores of {n[at]} lost accounts fall at the same distance from the decision, about "
        f"{distances[at]:.0f} days"
    )
    return Trace(min(p, 1.0), words)


def _steps(path: Path, distances: np.ndarray, window: float) -> np.ndarray:
    """Return the change at each distance minus the mean of neighbouring changes; NaN unknown."""
    ahead, value = path.ahead[::-1], path.moved[::-1]
    total = np.concatenate([[0.0], np.cumsum(value)])
    edges = [np.searchsorted(ahead, distances + k * window, side="right") for k in range(-2, 3)]
    n = [high - low for low, high in zip(edges, edges[1:], strict=False)]
    sums = [total[high] - total[low] for low, high in zip(edges, edges[1:], strict=False)]
    part = [
        np.divide(s, k, out=np.full(len(distances), np.nan), where=k > 0)
        for s, k in zip(sums, n, strict=True)
    ]
    change: np.ndarray = 1.5 * (part[1] - part[2]) - 0.5 * (part[0] - part[3])
    return change


def too_even(paths: Paths, days: float) -> Trace:
    """Test whether last scores of lost accounts vary less than those of retained accounts.

    Evenness is the median second difference, which is zero for a straight line too. A lost account
    counts if at most 2 % of stretches of retained accounts with the same length and similar level
    are as even; up to 5 % of lost accounts are expected to count.
    """
    length = int(np.clip(round((days + 30) / paths.step_days), 4, 12))
    pieces = [
        path.risk[start : start + length]
        for path in paths.stayed
        for start in range(0, len(path.risk) - length + 1, length)
    ]
    ours = [path.risk[path.ahead <= days + 35][-length:] for path in paths.left]
    ours = [piece for piece in ours if len(piece) == length]
    if len(pieces) < 100 or len(ours) < 6:
        return NOTHING
    rough, level = _evenness(pieces)
    order = np.argsort(level, kind="stable")
    rough, level = rough[order], level[order]
    near = min(200, len(rough) // 2)
    start = np.searchsorted(level, _evenness(ours)[1]) - near // 2
    start = np.clip(start, 0, len(rough) - near)
    as_even = [
        (rough[low : low + near] <= mine + 1e-9).sum()
        for low, mine in zip(start, _evenness(ours)[0], strict=True)
    ]
    n = int(((np.array(as_even) + 1) / (near + 1) <= 0.02).sum())
    p = float(binom.sf(n - 1, len(ours), 0.05)) if n >= 3 else 1.0
    words = (
        f"the last {length} scores of {n} of {len(ours)} lost accounts vary less than those of "
        "retained accounts at the same level"
    )
    return Trace(p, words)


def _evenness(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the median second difference and the median of pieces of one length."""
    table = np.stack(pieces)
    return np.median(np.abs(np.diff(table, 2, axis=1)), axis=1), np.median(table, axis=1)


def on_one_level(paths: Paths, days: float) -> Trace:
    """Test whether many lost accounts have the same narrow level, more than at levels around it.

    The level of a lost account is the median of its scores of the last `days`. The number in a
    narrow range is compared with neighbouring ranges by the Poisson distribution, and has to be
    four times as large. A level that is also frequent among retained accounts is natural, such as
    a floor or a round number set by hand.
    """
    levels = [path.risk[path.ahead <= days] for path in paths.left]
    ours = np.sort([_middle(values) for values in levels if len(values) > 1])
    size = max(2, round(days / paths.step_days))
    theirs = np.sort(
        [
            _middle(path.risk[start : start + size])
            for path in paths.stayed
            for start in range(0, max(len(path.risk) - size + 1, 1), size)
            if len(path.risk) > 1
        ]
    )
    if len(ours) < LEAST_LEAVERS or len(theirs) < 50:
        return NOTHING
    spread = 1.4826 * float(np.median(np.abs(theirs - np.median(theirs)))) or float(theirs.std())
    every = np.sort(np.concatenate([path.risk for path in paths.stayed]))
    distinct = np.unique(every)
    grain = float(np.median(np.diff(distinct))) if len(distinct) > 1 else np.inf
    found = [
        _crowded(ours, every, width, days)
        for width in (0.08 * spread, 0.16 * spread)
        if grain <= width / 2
    ]
    best = min(found, key=lambda item: item.p_value, default=NOTHING)
    # Levels vary more between accounts than a Poisson distribution.
    return Trace(min(1.0, 100.0 * best.p_value), best.words)


def _middle(values: np.ndarray) -> float:
    """Return the upper median; faster than `numpy.median`."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def _crowded(ours: np.ndarray, every: np.ndarray, width: float, days: float) -> Trace:
    low = np.unique(ours)
    n, around = _inside(ours, low, width)
    n_scores, around_scores = _inside(every, low, width)
    expected = (around + 1) / 8
    is_natural = (n_scores >= 10) & (n_scores >= 2.5 * (around_scores + 1) / 8)
    least = max(3.0, LEAST_SHARE * len(ours))
    counts = (n >= least) & (n >= 4 * expected) & ~is_natural
    p = np.where(counts, poisson.sf(n - 1, expected) * 2 * len(ours), 1.0)
    at = int(p.argmin())
    words = (
        f"{n[at]} of {len(ours)} lost accounts are within {width:.2g} points of each other in the "
        f"last {days:.0f} days, {around[at]} in the eight neighbouring ranges of that width"
    )
    return Trace(float(min(p[at], 1.0)), words)


def _inside(values: np.ndarray, low: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of values in each range, and in the four ranges on either side."""
    slack = 1e-9
    first, start = (
        np.searchsorted(values, edge - slack, side="left") for edge in (low - 4 * width, low)
    )
    end, last = (
        np.searchsorted(values, edge + slack, side="right")
        for edge in (low + width, low + 5 * width)
    )
    return end - start, (last - first) - (end - start)
