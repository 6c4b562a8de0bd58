"""Calibration: an affine map of the log-odds, fitted on out-of-time predictions.

Affine in log-odds keeps the ranking and lets explanations add up. Isotonic regression costs
log-loss at these sizes.
"""

from __future__ import annotations

import numpy as np

from training.bundle import Calibration, sigmoid
from training.metrics import logistic_fit

MIN_EVENTS, AFFINE_EVENTS = 20, 100
"""Events from which the intercept, and from which also the slope, is fitted."""

SLOPES = (0.2, 3.0)
"""A fitted slope outside is not a matter of calibration: the intercept alone is fitted then."""


def fit_calibration(
    raw: np.ndarray, label: np.ndarray, weights: np.ndarray | None = None
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

    Returns
    -------
    Calibration
        Identity below `MIN_EVENTS` events by votes, intercept only below `AFFINE_EVENTS`.
    """
    weights = np.ones(len(raw)) if weights is None else weights
    # shared votes add up to whole events but for rounding
    n_events, n_others = round(float(weights @ label)), round(float(weights @ (1.0 - label)))
    n = min(n_events, n_others)
    if n < MIN_EVENTS:
        return Calibration(n_events=n_events)
    if n >= AFFINE_EVENTS and np.ptp(raw) > 1e-9:
        affine = _affine(raw, label, weights, n_events)
        if affine is not None:
            return affine
    return _intercept_only(raw, label, weights, n_events)


def _affine(
    raw: np.ndarray, label: np.ndarray, weights: np.ndarray, n_events: int
) -> Calibration | None:
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
        n_events,
    )


def _intercept_only(
    raw: np.ndarray, label: np.ndarray, weights: np.ndarray, n_events: int
) -> Calibration:
    shift, curve = 0.0, 1.0
    for _ in range(50):
        p = sigmoid(raw + shift)
        curve = float(weights @ (p * (1.0 - p)))
        step = float(weights @ (label - p)) / curve
        shift += float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-12:
            break
    return Calibration(1.0, shift, (0.0, 0.0, 1.0 / curve), "intercept", n_events)
