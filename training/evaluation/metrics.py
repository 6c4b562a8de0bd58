"""Measures of scores, computed for many weightings of the rows at once.

A point estimate is a measure under equal weights; an interval is its spread under the weights of a
cluster bootstrap over entities. Rows of one entity are drawn together because they are not
independent (a row bootstrap understates the error of AUC by more than half). Every measure takes
`weights` of shape (draws, rows) and returns one value per draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit
from scipy.stats import norm

from training.evaluation.parts import EstimateJson, ReliabilityBin
from training.model.bundle import logit_of

CONFIDENCE_LEVEL = 0.95
_CHUNK_ELEMENTS = 4_000_000
_KEPT_CHUNKS = 128
"""Number of cached chunks of draws: those of one bootstrap, at most a megabyte each."""
_NEWTON_STEPS, _CONVERGED, _SINGULAR = 25, 1e-8, 1e-12
_LEVEL_STEPS, _LEVEL_CONVERGED = 50, 1e-12


@dataclass(frozen=True)
class Sample:
    """Rows of an evaluation.

    Attributes
    ----------
    label : numpy.ndarray
        0.0 or 1.0.
    p : numpy.ndarray
        Probabilities in (0, 1); their order is the ranking.
    flagged : numpy.ndarray
        Share in [0, 1] of each row that the team would work at its capacity (`flag_top`).
    arr : numpy.ndarray
        Annual value, NaN where unknown (counts as 0).
    entity : numpy.ndarray
        Entity codes 0..m−1, the clusters of the bootstrap.
    cohort : numpy.ndarray or None
        Code of the test period; rows are ranked within a period, as for the team's capacity. None:
        all rows are one period.
    """

    label: np.ndarray
    p: np.ndarray
    flagged: np.ndarray
    arr: np.ndarray
    entity: np.ndarray
    cohort: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> Sample:
        """Return some of the rows, with new entity codes."""
        entity = np.unique(self.entity[positions], return_inverse=True)[1]
        return Sample(
            self.label[positions],
            self.p[positions],
            self.flagged[positions],
            self.arr[positions],
            entity,
            None if self.cohort is None else self.cohort[positions],
        )

    def cohorts(self) -> list[np.ndarray]:
        """Return the positions of the rows of each test period."""
        if self.cohort is None:
            return [np.arange(len(self.p))]
        return [np.flatnonzero(self.cohort == code) for code in np.unique(self.cohort)]


def flag_top(p: np.ndarray, capacity: float) -> np.ndarray:
    """Return the share of each row that is worked when the team takes the `capacity` highest.

    Rows tied at the threshold share the remaining capacity, so the order of rows has no effect.

    >>> flag_top(np.array([0.9, 0.5, 0.5, 0.1]), 2).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    if capacity >= len(p):
        return np.ones(len(p))
    edge = np.sort(p)[::-1][max(int(np.ceil(capacity)) - 1, 0)]
    above, tied = p > edge, p == edge
    share = (capacity - above.sum()) / tied.sum()
    flagged: np.ndarray = above + tied * share
    return flagged


def auc(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve: chance that an event outranks a non-event, ties half.

    Pairs are formed within a test period: between periods the level of all scores moves with the
    season, which is calibration, not ranking.
    """
    concordant, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for positive, negative in _by_score(sample, weights):
        negatives_below = np.cumsum(negative, axis=1) - negative
        concordant += (positive * (negatives_below + 0.5 * negative)).sum(axis=1)
        pairs += positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio(concordant, pairs)


def auc_pooled(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the AUC over pairs of all test periods together, its usual definition.

    It also measures how well the level of the scores follows the season.
    """
    return auc(replace(sample, cohort=None), weights)


def average_precision(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return average precision: precision at each threshold, weighted by the recall it adds.

    Within a test period, averaged over periods by their events.
    """
    found, events = np.zeros(len(weights)), np.zeros(len(weights))
    for positive, negative in _by_score(sample, weights):
        hits = np.cumsum(positive[:, ::-1], axis=1)
        taken = hits + np.cumsum(negative[:, ::-1], axis=1)
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        found += (precision * positive[:, ::-1]).sum(axis=1)
        events += positive.sum(axis=1)
    return _ratio(found, events)


def _by_score(sample: Sample, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, per test period, the weight of events and non-events per distinct score, ascending."""
    for here in sample.cohorts():
        order = here[np.argsort(sample.p[here], kind="stable")]
        starts = np.flatnonzero(np.diff(sample.p[order], prepend=-np.inf) > 0)
        ranked, label = weights[:, order], sample.label[order]
        positive = np.add.reduceat(ranked * label, starts, axis=1)
        negative = np.add.reduceat(ranked * (1.0 - label), starts, axis=1)
        yield positive, negative


def log_loss(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the mean of −log of the probability of the observed outcome, natural logarithm."""
    p = np.clip(sample.p, 1e-15, 1.0 - 1e-15)
    loss = -(sample.label * np.log(p) + (1.0 - sample.label) * np.log1p(-p))
    return _ratio(weights @ loss, weights.sum(axis=1))


def brier(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of probability and outcome."""
    return _ratio(weights @ (sample.p - sample.label) ** 2, weights.sum(axis=1))


def brier_skill(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return 1 − Brier / Brier of the constant observed rate: 0 no better, 1 perfect."""
    rate = _ratio(weights @ sample.label, weights.sum(axis=1))
    return 1.0 - _ratio(brier(sample, weights), rate * (1.0 - rate))


def observed_to_expected(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return events over the sum of probabilities: above 1, the scores are too low."""
    return _ratio(weights @ sample.label, weights @ sample.p)


def calibration_slope(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return b of the logistic recalibration ``logit P(y) = a + b·logit(p)``.

    Below 1 the scores are too extreme, above 1 not extreme enough. NaN for scores that do not vary.
    """
    return _recalibration(sample, weights)[1]


def calibration_intercept(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return a of the recalibration in `calibration_slope`."""
    return _recalibration(sample, weights)[0]


def _recalibration(sample: Sample, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    score = logit_of(sample.p)
    nothing = np.full(len(weights), np.nan)
    if np.ptp(score) < 1e-9:
        return nothing, nothing
    return logistic_fit(score, sample.label, weights)[:2]


def level_shift(raw: np.ndarray, label: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the shift of log-odds for which the mean probability is the observed rate.

    Parameters
    ----------
    raw, label : numpy.ndarray
        (rows,).
    weights : numpy.ndarray, optional
        (rows,), by default 1.

    Returns
    -------
    float
        0 with a single class, for which no finite shift exists.

    Examples
    --------
    >>> raw, label = np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0])
    >>> round(level_shift(raw, label), 6) == round(float(np.log(1 / 3)), 6)
    True
    """
    weights = np.ones(len(raw)) if weights is None else weights
    events = float(weights @ label)
    if not 0.0 < events < float(weights.sum()):
        return 0.0
    shift = 0.0
    for _ in range(_LEVEL_STEPS):
        p = expit(raw + shift)
        step = (events - float(weights @ p)) / max(float(weights @ (p * (1.0 - p))), _SINGULAR)
        shift += float(np.clip(step, -1.0, 1.0))
        if abs(step) < _LEVEL_CONVERGED:
            break
    return shift


def logistic_fit(
    score: np.ndarray, label: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit ``logit P(y) = a + b·score`` once per row of `weights`, by Newton steps.

    Parameters
    ----------
    score, label : numpy.ndarray
        (rows,).
    weights : numpy.ndarray
        (draws, rows), at least 0.

    Returns
    -------
    intercept, slope : numpy.ndarray
        (draws,); NaN where the fit does not exist (no rows, one class, or separated classes).
    information : numpy.ndarray
        (draws, 3): the Fisher information of (a, a), (a, b), (b, b) at the solution.
    """
    if len(score) == 0:
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing.copy(), np.zeros((len(weights), 3))
    center, width = score.mean(), score.std() or 1.0
    z = (score - center) / width
    powers = np.column_stack([np.ones_like(z), z, z**2])
    start = _newton(powers, label, weights.mean(axis=0, keepdims=True), np.zeros((1, 2)))[0]
    start = start if np.isfinite(start).all() else np.zeros((1, 2))
    fitted, h = _newton(powers, label, weights, np.repeat(start, len(weights), axis=0))
    slope = fitted[:, 1] / width
    h_aa, h_ab, h_bb = h[:, 0], width * h[:, 1], width**2 * h[:, 2]
    information = np.stack(
        [h_aa, h_ab + center * h_aa, h_bb + 2.0 * center * h_ab + center**2 * h_aa], axis=1
    )
    return fitted[:, 0] - slope * center, slope, information


def _newton(
    powers: np.ndarray, label: np.ndarray, weights: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (draws, 2) coefficients on the first two powers, NaN without a fit, and information.

    Steps are limited to [−2, 2], so that a distant start does not overshoot.
    """
    at = start.copy()
    for _ in range(_NEWTON_STEPS):
        p = expit(at @ powers[:, :2].T)
        gradient = (weights * (label - p)) @ powers[:, :2]
        h = (weights * (p * (1.0 - p))) @ powers
        determinant = h[:, 0] * h[:, 2] - h[:, 1] ** 2
        safe = np.where(determinant > _SINGULAR, determinant, np.inf)
        step = np.stack(
            [
                (h[:, 2] * gradient[:, 0] - h[:, 1] * gradient[:, 1]) / safe,
                (h[:, 0] * gradient[:, 1] - h[:, 1] * gradient[:, 0]) / safe,
            ],
            axis=1,
        )
        at += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < _CONVERGED:
            break
    failed = (np.abs(step).max(axis=1) > _CONVERGED) | (determinant <= _SINGULAR)
    return np.where(failed[:, None], np.nan, at), h


def capture(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the share of events among the flagged rows: recall at capacity."""
    return _ratio(weights @ (sample.label * sample.flagged), weights @ sample.label)


def lift(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the event rate of flagged rows over that of all rows."""
    rate = _ratio(weights @ sample.label, weights.sum(axis=1))
    flagged_rate = _ratio(weights @ (sample.label * sample.flagged), weights @ sample.flagged)
    return _ratio(flagged_rate, rate)


def arr_capture(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Return the share of the annual value of events that lies in flagged rows; NaN without ARR."""
    value = np.nan_to_num(sample.arr) * sample.label
    return _ratio(weights @ (value * sample.flagged), weights @ value)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where the divisor is 0."""
    nothing = np.full(np.shape(above), np.nan)
    quotient: np.ndarray = np.divide(above, below, out=nothing, where=below != 0)
    return quotient


Measure = Callable[[Sample, np.ndarray], np.ndarray]

MEASURES: Mapping[str, Measure] = {
    "auc": auc,
    "auc_pooled": auc_pooled,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "brier_skill": brier_skill,
    "observed_to_expected": observed_to_expected,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
    "lift_at_capacity": lift,
    "capture_at_capacity": capture,
    "arr_capture_at_capacity": arr_capture,
}
"""Measures by their name in reports."""

AUC_WITHIN, AUC_POOLED = "AUC within test periods", "AUC over all periods together"
"""Displayed names of `auc` and `auc_pooled`."""


SUMS = (log_loss, brier, brier_skill, observed_to_expected, lift, capture, arr_capture)
"""Measures computed from weighted sums only."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> EstimateJson:
        """Return plain JSON content."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def as_dict(self) -> dict[str, float | None]:
        """Return `as_json` as a plain dict."""
        return {"value": self.value, "low": self.low, "high": self.high}


def entity_weights(entity: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return (draws, rows) weights of a cluster bootstrap: draws of each row's entity.

    Parameters
    ----------
    entity : numpy.ndarray
        Codes 0..m−1.
    draws : int
        Bootstrap samples.
    seed : int
        Equal seeds give equal weights, so measures of two models on the same rows are paired.
    """
    weights: np.ndarray = _counts(int(entity.max()) + 1, draws, seed)[:, entity].astype(np.float64)
    return weights


def entity_sums(entity: np.ndarray, draws: int, seed: int) -> PerEntity:
    """Return equal weights followed by those of `draws` bootstrap samples, for sums only."""
    m = int(entity.max()) + 1
    counts = np.vstack([np.ones((1, m)), _counts(m, draws, seed)])
    return PerEntity(counts, entity)


@lru_cache(maxsize=_KEPT_CHUNKS)
def _counts(m: int, draws: int, seed: int) -> np.ndarray:
    """Return the number of times each of m entities was drawn; cached for further measures."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(m, np.full(m, 1.0 / m), size=draws).astype(np.int16)


def bootstrap(
    sample: Sample, measures: Mapping[str, Measure], *, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Return, per measure, the point estimate followed by `draws` bootstrap values."""
    equal = np.ones((1, len(sample.label)))
    size = max(1, _CHUNK_ELEMENTS // max(1, len(sample.label)))
    parts: dict[str, list[np.ndarray]] = {
        name: [measure(sample, equal)] for name, measure in measures.items()
    }
    for start in range(0, draws, size):
        n = min(size, draws - start)
        counts = _counts(int(sample.entity.max()) + 1, n, seed + start)
        for name, value in _drawn(sample, measures, counts).items():
            parts[name].append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _drawn(
    sample: Sample, measures: Mapping[str, Measure], counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each measure per draw, by its fastest method."""
    summed = cast("np.ndarray", PerEntity(counts.astype(np.float64), sample.entity))
    rows: np.ndarray | None = None
    found = {}
    for name, measure in measures.items():
        if measure is auc:
            found[name] = auc_of_counts(sample, counts)
        elif measure is auc_pooled:
            found[name] = auc_of_counts(replace(sample, cohort=None), counts)
        elif measure in SUMS:
            found[name] = measure(sample, summed)
        else:
            rows = counts[:, sample.entity].astype(np.float64) if rows is None else rows
            found[name] = measure(sample, rows)
    return found


@dataclass(frozen=True)
class PerEntity:
    """Weights of rows given by their entities, so that sums need no weight per row.

    Replaces the (draws, rows) array in measures that only multiply it by columns or sum it.
    """

    counts: np.ndarray
    entity: np.ndarray

    def __matmul__(self, column: np.ndarray) -> np.ndarray:
        """Return the weighted sum of a column, per draw."""
        total: np.ndarray = self.counts @ np.bincount(
            self.entity, weights=column, minlength=self.counts.shape[1]
        )
        return total

    def sum(self, axis: int) -> np.ndarray:
        """Return the weight of all rows, per draw."""
        assert axis == 1
        return self @ np.ones(len(self.entity))


def auc_of_counts(sample: Sample, counts: np.ndarray) -> np.ndarray:
    """Return `auc` with one weight per entity, without a weight per row.

    Rows without the event are counted between the scores of events only: sums over few bins, by
    one sparse product for all draws.

    Parameters
    ----------
    sample : Sample
        Labels are 0 or 1.
    counts : numpy.ndarray
        (draws, entities): number of times each entity was drawn.
    """
    drawn = np.ascontiguousarray(counts.T, dtype=np.float64)
    concordant, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    for here in sample.cohorts():
        happened = sample.label[here] == 1
        events, others = here[happened], here[~happened]
        if len(events) == 0 or len(others) == 0:
            continue
        marks, place = np.unique(sample.p[events], return_inverse=True)
        found = np.searchsorted(marks, sample.p[others], side="left")
        tied = marks[np.minimum(found, len(marks) - 1)] == sample.p[others]
        positive = _summed(place, sample.entity[events], len(marks), drawn)
        between = _summed(2 * found + tied, sample.entity[others], 2 * len(marks) + 1, drawn)
        below = np.cumsum(between, axis=0)[: 2 * len(marks) : 2]
        concordant += (positive * (below + 0.5 * between[1::2])).sum(axis=0)
        pairs += positive.sum(axis=0) * between.sum(axis=0)
    return _ratio(concordant, pairs)


def _summed(bins: np.ndarray, entity: np.ndarray, n_bins: int, drawn: np.ndarray) -> np.ndarray:
    """Return (bins, draws): the weight of the rows of each bin."""
    shape = (n_bins, len(drawn))
    member = csr_matrix((np.ones(len(bins)), (bins, entity)), shape=shape)
    summed: np.ndarray = member @ drawn
    return summed


def estimate(values: np.ndarray) -> Estimate:
    """Return value and percentile interval of one measure from the draws of `bootstrap`.

    Draws in which the measure is undefined (no event drawn) are left out.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    tail = (1.0 - CONFIDENCE_LEVEL) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail]) if len(drawn) else (np.nan, np.nan)
    return Estimate(*(none_if_nan(x) for x in (values[0], low, high)))


def none_if_nan(value: Any) -> float | None:
    """Return a plain float, None for NaN and infinities, which JSON cannot represent."""
    return float(value) if np.isfinite(value) else None


def wilson(events: float, n: float) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a rate.

    >>> low, high = wilson(10, 100)
    >>> round(low, 4), round(high, 4)
    (0.0552, 0.1744)
    """
    z = float(norm.ppf(0.5 + CONFIDENCE_LEVEL / 2.0))
    rate, shrink = events / n, 1.0 + z**2 / n
    middle = (rate + z**2 / (2.0 * n)) / shrink
    half = z * np.sqrt(rate * (1.0 - rate) / n + z**2 / (4.0 * n**2)) / shrink
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def design_effect(label: np.ndarray, entity: np.ndarray) -> float:
    """Return the design effect: factor on the variance of a rate by clustering, at least 1.

    Parameters
    ----------
    label : numpy.ndarray
        0.0 or 1.0.
    entity : numpy.ndarray
        Entity of each row.

    Notes
    -----
    The variance of the rate when entities are drawn with all their rows, over ``p(1 − p)/n`` of
    independent rows. Events and rows divided by it count as independent ones (Rao and Scott,
    Biometrics 48 (1992) 577). With a single class it is the number of rows per entity.

    Examples
    --------
    >>> label = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    >>> design_effect(label, np.arange(6)), round(design_effect(label, np.arange(6) // 2), 6)
    (1.0, 2.0)
    """
    codes = np.unique(entity, return_inverse=True)[1]
    n, rate, n_entities = len(label), float(np.mean(label)), int(codes.max()) + 1
    if n_entities == n:
        return 1.0
    if rate in (0.0, 1.0):
        return n / n_entities
    excess = np.bincount(codes, weights=label - rate)
    return max(1.0, float((excess**2).sum()) / (n * rate * (1.0 - rate)))


def clustered_wilson(label: np.ndarray, entity: np.ndarray) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a rate of rows clustered by entity."""
    effect = design_effect(label, entity)
    return wilson(float(np.sum(label)) / effect, len(label) / effect)


def reliability(
    label: np.ndarray, p: np.ndarray, entity: np.ndarray, *, bins: int = 10
) -> list[ReliabilityBin]:
    """Return observed against predicted rate in bins of equally many rows.

    Tied scores stay in one bin.

    Returns
    -------
    list of dict
        n, events, expected (mean probability), observed (rate), low and high (Wilson, for rows of
        the same entities), and the bin's p_from and p_to.
    """
    edges = np.unique(np.quantile(p, np.linspace(0.0, 1.0, bins + 1)))
    which = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, max(len(edges) - 2, 0))
    table: list[ReliabilityBin] = []
    for number in np.unique(which):
        inside = which == number
        n, events = int(inside.sum()), float(label[inside].sum())
        low, high = clustered_wilson(label[inside], entity[inside])
        table.append(
            {
                "n": n,
                "events": int(events),
                "expected": float(p[inside].mean()),
                "observed": events / n,
                "low": low,
                "high": high,
                "p_from": float(p[inside].min()),
                "p_to": float(p[inside].max()),
            }
        )
    return table
