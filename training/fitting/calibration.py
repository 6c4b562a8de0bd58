"""Calibration: an affine map of the log-odds, fitted on out-of-time predictions.

Affine in log-odds keeps the ranking and lets explanations add up. Isotonic regression costs
log-loss at these sizes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.evaluation.metrics import level_shift, logistic_fit
from training.model.bundle import sigmoid
from training.model.manifest_parts import Calibration

MIN_EVENTS, AFFINE_EVENTS = 20, 100
"""Events from which the intercept, and from which also the slope, is fitted."""

MIN_PERIODS = 2
"""Test periods from which it can be told how far the level moves between them."""

CERTAIN = 3.0
"""Standard errors beyond which a level that is off in all periods is taken for what it is."""

SLOPES = (0.2, 3.0)
"""A fitted slope outside is not a matter of calibration: the intercept alone is fitted then."""


def fit_calibration(
    raw: np.ndarray,
    label: np.ndarray,
    weights: np.ndarray | None = None,
    age: np.ndarray | None = None,
) -> Calibration:
    """Fit ``slope · raw + intercept`` to what happened.

    Parameters
    ----------
    raw : numpy.ndarray
        Out-of-time raw log-odds whose labels were known when the calibration is fitted.
    label : numpy.ndarray
        0.0 or 1.0.
    weights : numpy.ndarray, optional
        Per row; by default 1. An account with several rows in a cohort shares one vote among them.
    age : numpy.ndarray, optional
        How many test periods ago each row was predicted, 0 the newest; by default all the same.
        Each period counts half as much as the one after it: an early cut-off's model knew less
        than the one that is calibrated, and its level is another.

    Returns
    -------
    Calibration
        Identity below `MIN_EVENTS` recent events by votes, intercept only below `AFFINE_EVENTS`.

    Notes
    -----
    Votes weigh what tells accounts apart. They are not how often things happen: who leaves early
    has few rows in a period, which weigh much, and a curve fitted to votes expects too many to
    leave. The level is therefore that of the rows, each of which stands for an account in the book
    of its day; of what it has moved, what is beyond chance is kept (`level_beyond_chance`).
    """
    weights = np.ones(len(raw)) if weights is None else weights
    age = np.zeros(len(raw)) if age is None else age
    recency = 0.5**age
    found = _fitted(raw, label, weights * recency)
    n_events = round(float(weights @ label))
    if found.rule == "identity":
        drift = between_periods(raw, label, weights, age)
        return replace(found, n_events=n_events, covariance=(0.0, 0.0, drift))
    wanted = sigmoid(raw + level_beyond_chance(raw, label, weights, age))
    level = level_shift(found(raw), wanted, recency)
    found = replace(found, intercept=found.intercept + level, n_events=n_events)
    slope, both, intercept = found.covariance
    drift = between_periods(found(raw), label, weights, age)
    return replace(found, covariance=(slope, both, intercept + drift))


def level_beyond_chance(
    raw: np.ndarray, label: np.ndarray, weights: np.ndarray, age: np.ndarray
) -> float:
    """Return how far the level has moved since the models were fitted, less what may be chance.

    The model that is calibrated has learned from these very periods, so its level knows them; the
    early models that predicted them did not, and were timid beside it. To add all of what they
    missed counts it twice: in six simulated companies of 1,000 accounts the present book came out
    at 0.88 to 1.21 of the true chances, 1.07 on average; so it is 0.89 to 1.11, and 1.01.

    Notes
    -----
    With m the shift that suits the recent rows and s its standard error, ``m · d / (d + s²)`` is
    what normal theory expects of the next period when periods differ by a variance d
    (`between_periods`). A shift beyond `CERTAIN` standard errors is no chance even where all
    periods agree: d is at least ``m² − (CERTAIN · s)²``. With fewer than `MIN_PERIODS` periods
    nothing tells drift from chance, and m is returned.

    Examples
    --------
    >>> raw, label = np.full(400, np.log(1 / 9)), np.tile(np.repeat([1.0, 0.0], [24, 176]), 2)
    >>> period, ones = np.repeat([1.0, 0.0], 200), np.ones(400)
    >>> round(level_shift(raw, label), 2), beyond_chance(raw, label, ones, period)
    (0.2, 0.0)
    """
    moved = level_shift(raw, label, 0.5**age)
    if len(np.unique(age)) < MIN_PERIODS:
        return moved
    p = sigmoid(raw + moved)
    curve = p * (1.0 - p)
    tells = np.array([float((weights * curve)[here].sum()) for here in _each(age)])
    counts = np.array([float((0.5**age * curve)[here].sum()) for here in _each(age)])
    error = float(((counts / counts.sum()) ** 2) @ (1.0 / tells))
    drift = max(between_periods(raw, label, weights, age), moved**2 - CERTAIN**2 * error, 0.0)
    return moved * drift / (drift + error)


def between_periods(
    logit: np.ndarray, label: np.ndarray, weights: np.ndarray, age: np.ndarray
) -> float:
    """Return the variance of the level between test periods, log-odds squared.

    The next period is no copy of the last ones; how far each was from the level of all of them,
    beyond chance, says how far the next may be (DerSimonian and Laird, *Meta-analysis in clinical
    trials*, 1986).

    Examples
    --------
    >>> label = np.repeat([0.0, 1.0, 0.0, 1.0], [900, 100, 500, 500])
    >>> period = np.repeat([1.0, 0.0], 1000)
    >>> round(between_periods(np.full(2000, -1.0), label, np.ones(2000), period), 1)
    2.4
    >>> between_periods(np.full(2000, -1.0), label, np.ones(2000), np.zeros(2000))
    0.0
    """
    found = [_level(logit[here], label[here], weights[here]) for here in _each(age)]
    known = np.array([item for item in found if item is not None]).reshape(-1, 2)
    if len(known) < MIN_PERIODS:
        return 0.0
    shift, information = known.T
    total = information.sum()
    spread = float(information @ (shift - information @ shift / total) ** 2)
    level_beyond_chance = spread - (len(known) - 1)
    return max(0.0, level_beyond_chance / float(total - (information**2).sum() / total))


def _each(age: np.ndarray) -> list[np.ndarray]:
    return [age == value for value in np.unique(age)]


def _level(logit: np.ndarray, label: np.ndarray, weights: np.ndarray) -> tuple[float, float] | None:
    """Return a period's level against the curve, and its information; None with one class."""
    shift = level_shift(logit, label, weights)
    if shift == 0.0:
        return None
    p = sigmoid(logit + shift)
    return shift, float(weights @ (p * (1.0 - p)))


def _fitted(raw: np.ndarray, label: np.ndarray, weights: np.ndarray) -> Calibration:
    # shared votes add up to whole events but for rounding
    n = min(round(float(weights @ label)), round(float(weights @ (1.0 - label))))
    if n < MIN_EVENTS:
        return Calibration()
    if n >= AFFINE_EVENTS and np.ptp(raw) > 1e-9:
        affine = _affine(raw, label, weights)
        if affine is not None:
            return affine
    return _intercept_only(raw, label, weights)


def _affine(raw: np.ndarray, label: np.ndarray, weights: np.ndarray) -> Calibration | None:
    intercept, slope, information = logistic_fit(raw, label, weights[None, :])
    if not SLOPES[0] <= slope[0] <= SLOPES[1]:
        return None
    h_aa, h_ab, h_bb = information[0]
    determinant = h_aa * h_bb - h_ab**2
    covariance = h_aa / determinant, -h_ab / determinant, h_bb / determinant
    return Calibration(
        float(slope[0]),
        float(intercept[0]),
        (float(covariance[0]), float(covariance[1]), float(covariance[2])),
        "affine",
    )


def _intercept_only(raw: np.ndarray, label: np.ndarray, weights: np.ndarray) -> Calibration:
    shift = level_shift(raw, label, weights)
    p = sigmoid(raw + shift)
    curve = float(weights @ (p * (1.0 - p)))
    return Calibration(1.0, shift, (0.0, 0.0, 1.0 / curve), "intercept")
