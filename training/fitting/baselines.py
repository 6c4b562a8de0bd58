"""Baselines, fitted to the training rows of a fold and scored on its test rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import logistic_fit
from training.fitting.fit import fit_all_columns, fit_encoder
from training.model.bundle import logit_of, sigmoid
from training.model.pooled_rates import SHRINK_ROWS, PooledRates, calendar_cells

FEATURE_BINS = 10

MANY_RULES = 4
"""Number of rules from which accounts are pooled."""

FLATTEST, STEEPEST = 1e-10, 25.0
"""Limits of the slope (log-odds per standard deviation, to the furthest row) without ties."""

Scorer = Callable[[TrainingFrame], np.ndarray]
"""Turns rows into probabilities."""


def fit_constant(train: TrainingFrame) -> Scorer:
    """Fit the rate of the training rows, equal for all accounts."""
    rate = float(train.label.mean())
    return lambda frame: np.full(len(frame), rate)


def fit_calendar(train: TrainingFrame) -> Scorer:
    """Fit rates by days to renewal, segment, and under contract or not."""
    rates = PooledRates.fit(calendar_cells(train.rows), train.label)
    return lambda frame: rates(calendar_cells(frame.rows))


def fit_best_feature(train: TrainingFrame) -> Scorer:
    """Fit binned rates of the single feature with the lowest training loss."""
    encoder = fit_encoder(train)
    matrix = encoder.encode(train.features).matrix
    candidates = []
    for position, name in enumerate(encoder.names):
        column = matrix[:, position]
        edges = _edges(column, n_levels=len(encoder.levels.get(name, ())))
        bins = _bins(column, edges)
        rates = _bin_rates(bins, train.label, len(edges) + 2)
        p = rates[bins]
        loss = -np.mean(train.label * np.log(p) + (1.0 - train.label) * np.log1p(-p))
        candidates.append((loss, position, edges, rates))
    _, chosen, edges, rates = min(candidates, key=lambda candidate: candidate[0])

    def score(frame: TrainingFrame) -> np.ndarray:
        column = encoder.encode(frame.features).matrix[:, chosen]
        p: np.ndarray = rates[_bins(column, edges)]
        return p

    return score


def _bin_rates(bins: np.ndarray, label: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the rate of each bin, shrunk to the overall rate."""
    events, rows = np.bincount(bins, label, n_bins), np.bincount(bins, minlength=n_bins)
    rates: np.ndarray = (events + SHRINK_ROWS * label.mean()) / (rows + SHRINK_ROWS)
    return rates


def _edges(column: np.ndarray, *, n_levels: int) -> np.ndarray:
    if n_levels:
        return np.arange(n_levels) + 0.5
    known = column[~np.isnan(column)]
    if len(known) == 0:
        return np.zeros(0)
    inner = np.linspace(0.0, 1.0, FEATURE_BINS + 1)[1:-1]
    edges: np.ndarray = np.unique(np.quantile(known, inner))
    return edges


def _bins(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return bin numbers from 1; 0 where the value is missing."""
    numbers: np.ndarray = np.where(np.isnan(column), 0, np.digitize(column, edges) + 1)
    return numbers


def has_rules(frame: TrainingFrame) -> bool:
    """Return whether rules (`training.model.rule_model`) were applied and differ between rows."""
    return "n_rules" in frame.rows and bool(frame.rows["n_rules"].nunique() > 1)


def fit_rules(train: TrainingFrame) -> Scorer:
    """Fit rates by the number of rules that hold; rules are independent of outcomes."""
    rates = PooledRates.fit(_rule_cells(train), train.label)
    return lambda frame: rates(_rule_cells(frame))


def _rule_cells(frame: TrainingFrame) -> np.ndarray:
    cells: np.ndarray = np.minimum(frame.rows["n_rules"].to_numpy(), MANY_RULES).astype(str)
    return cells


def has_health_score(frame: TrainingFrame) -> bool:
    """Return whether the company's own health score differs between rows."""
    return bool(frame.rows["health_score"].nunique() > 1)


def fit_health_score(train: TrainingFrame, *, is_growth: bool = False) -> Scorer:
    """Fit probabilities to the company's own health score as known at the time.

    The fit is a logistic curve with the sign of the score and a limited slope, so it ranks accounts
    exactly like the score and has the same AUC. Rows without a score get their own rate.

    Parameters
    ----------
    train : TrainingFrame
        Rows to fit on.
    is_growth : bool
        Whether a healthier score should raise the probability (expansion).
    """
    score, label = _health(train), train.label
    known = ~np.isnan(score)
    missing_rate = (label[~known].sum() + SHRINK_ROWS * label.mean()) / (
        (~known).sum() + SHRINK_ROWS
    )
    curve = _rising_curve(score[known] if is_growth else -score[known], label[known], label.mean())

    def predict(frame: TrainingFrame) -> np.ndarray:
        values = _health(frame)
        p = np.full(len(values), missing_rate)
        here = ~np.isnan(values)
        p[here] = curve(values[here] if is_growth else -values[here])
        return p

    return predict


def _rising_curve(
    risk: np.ndarray, label: np.ndarray, rate: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a logistic curve that increases with `risk`; without a fit, nearly flat at `rate`."""
    center, width = (risk.mean(), risk.std() or 1.0) if len(risk) else (0.0, 1.0)
    z = (risk - center) / width
    level = (label.sum() + SHRINK_ROWS * rate) / (len(label) + SHRINK_ROWS)
    intercept, slope = float(logit_of(level)), FLATTEST
    if len(risk):
        a, b, _ = logistic_fit(z, label, np.ones((1, len(z))))
        if np.isfinite(a[0]) and np.isfinite(b[0]) and b[0] > FLATTEST:
            steepest = STEEPEST / max(float(np.abs(z).max()), 1.0)
            intercept, slope = float(a[0]), min(float(b[0]), steepest)

    def curve(values: np.ndarray) -> np.ndarray:
        return sigmoid(intercept + slope * (values - center) / width)

    return curve


def _health(frame: TrainingFrame) -> np.ndarray:
    return frame.rows["health_score"].to_numpy(dtype=np.float64)


def fit_logistic(train: TrainingFrame) -> Scorer:
    """Fit an L2 logistic regression on all robustly scaled columns."""
    fitted = fit_all_columns(train)
    return lambda frame: sigmoid(fitted.raw(frame))


BASELINES: dict[str, Callable[[TrainingFrame], Scorer]] = {
    "constant": fit_constant,
    "calendar": fit_calendar,
    "rules": fit_rules,
    "best_feature": fit_best_feature,
    "health_score": fit_health_score,
    "logistic": fit_logistic,
}
"""Baselines by their name in reports."""


def baselines_for(
    train: TrainingFrame, *, is_growth: bool = False
) -> dict[str, Callable[[TrainingFrame], Scorer]]:
    """Return the applicable baselines: health score and rules only where rows have them."""
    lacking = {
        name
        for name, is_available in (
            ("health_score", has_health_score(train)),
            ("rules", has_rules(train)),
        )
        if not is_available
    }
    fits = BASELINES | {"health_score": partial(fit_health_score, is_growth=is_growth)}
    return {name: fit for name, fit in fits.items() if name not in lacking}
