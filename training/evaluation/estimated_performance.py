"""Estimated performance: measures implied by calibrated probabilities, before outcomes are known.

The only assumption is calibration: each outcome is an independent draw with its own probability.
Then the distribution of the measures follows from the probabilities (Guillory et al., *Predicting
with confidence on unseen distributions*, 2021; confidence-based performance estimation in NannyML).
The estimate shows when accounts become harder to separate; it cannot show that probabilities are
wrong, which needs realised outcomes. A common shock to all accounts makes the true range wider.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

DRAWS = 400
MIN_EVENTS = 5.0
"""Smallest number of expected events for an AUC."""


@dataclass(frozen=True)
class EstimatedPerformance:
    """Measures implied by calibrated probabilities, with a 90 % range of single realisations.

    Attributes
    ----------
    n : int
        Accounts.
    events, events_low, events_high : float
        Expected number of events.
    brier, brier_low, brier_high : float
        Mean of (p − outcome)².
    auc, auc_low, auc_high : float or None
        Probability that an event ranks above a non-event; None below `MIN_EVENTS` expected events.
    """

    n: int
    events: float
    events_low: float
    events_high: float
    brier: float
    brier_low: float
    brier_high: float
    auc: float | None
    auc_low: float | None
    auc_high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Return plain JSON content."""
        return asdict(self)


def expected_performance(p: np.ndarray, *, seed: int) -> EstimatedPerformance:
    """Return the performance that probabilities imply if they are calibrated.

    Parameters
    ----------
    p : numpy.ndarray
        (accounts,) probabilities, one per account; at least one.
    seed : int
        Of the drawn outcomes.

    Examples
    --------
    >>> expected_performance(np.array([0.5, 0.5]), seed=1).brier
    0.25
    """
    events, brier, area = _drawn(p, np.random.default_rng(seed))
    auc = auc_low = auc_high = None
    if min(p.sum(), (1.0 - p).sum()) >= MIN_EVENTS:
        auc = expected_auc(p)
        auc_low, auc_high = _range(area[np.isfinite(area)])
    return EstimatedPerformance(
        len(p),
        float(p.sum()),
        *_range(events),
        float((p * (1.0 - p)).mean()),
        *_range(brier),
        auc,
        auc_low,
        auc_high,
    )


def expected_auc(p: np.ndarray, period: np.ndarray | None = None) -> float:
    """Return ``Σ pᵢ(1−pⱼ)·[pᵢ > pⱼ]`` over ``Σ pᵢ(1−pⱼ)``, pairs i ≠ j, ties counted half.

    Parameters
    ----------
    p : numpy.ndarray
        (rows,) probabilities.
    period : numpy.ndarray, optional
        (rows,) codes: pairs are formed within a period, as in `training.evaluation.metrics.auc`.

    Examples
    --------
    >>> round(expected_auc(np.array([0.9, 0.1])), 4)  # 0.81 / (0.81 + 0.01)
    0.9878
    """
    codes = np.zeros(len(p)) if period is None else period
    concordant, pairs = np.sum([_pairs(p[codes == code]) for code in np.unique(codes)], axis=0)
    return float(concordant / pairs)


def _pairs(p: np.ndarray) -> tuple[float, float]:
    """Return the expected concordant pairs, and all pairs of an event and a non-event."""
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=-np.inf) > 0)
    events = np.add.reduceat(p[order], starts)
    others = np.add.reduceat(1.0 - p[order], starts)
    with_itself = np.add.reduceat(p[order] * (1.0 - p[order]), starts)
    below = np.cumsum(others) - others
    concordant = (events * below + 0.5 * (events * others - with_itself)).sum()
    return float(concordant), float(p.sum() * (1.0 - p).sum() - with_itself.sum())


def _drawn(p: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return events, Brier score and AUC (NaN with one class) of each drawn set of outcomes."""
    _, place, size = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2.0)[place]  # ties have their mean rank
    events, brier, above = np.empty(DRAWS), np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):  # one draw at a time limits the memory
        label = rng.random(len(p)) < p
        events[draw] = label.sum()
        brier[draw] = ((p - label) ** 2).mean()
        above[draw] = ranks[label].sum()
    pairs = events * (len(p) - events)
    above -= events * (events + 1.0) / 2.0
    area = np.divide(above, pairs, out=np.full(DRAWS, np.nan), where=pairs > 0)
    return events, brier, area


def _range(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.05, 0.95])
    return float(low), float(high)
