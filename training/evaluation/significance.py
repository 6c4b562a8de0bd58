"""Statistical tests and measures with closed formulas, verified against published examples."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from scipy.special import expit
from scipy.stats import chi2, norm, rankdata

LikelihoodRatio = dict[str, float | None]
"""``chi2`` and ``p_value`` of `likelihood_ratio`; None where a fit does not exist."""


class Delong(TypedDict):
    """Result of `delong`."""

    first: float
    second: float
    difference: float
    se: float
    p_value: float | None


_STEPS, _CLOSE, _RIDGE = 50, 1e-10, 1e-10


def logistic_coefficients(columns: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a logistic regression with an intercept by maximum likelihood.

    Parameters
    ----------
    columns : numpy.ndarray
        (rows, k), not standardised.
    label : numpy.ndarray
        0.0 or 1.0.

    Returns
    -------
    coefficients : numpy.ndarray
        (1 + k,), the intercept first; NaN where the classes are separated.
    log_likelihood : float
        At the solution.
    """
    x, center, width = _standardised(columns)
    beta = np.zeros(x.shape[1])
    step = np.full(x.shape[1], np.inf)
    for _ in range(_STEPS):
        p = expit(x @ beta)
        h = (x * (p * (1.0 - p))[:, None]).T @ x + _RIDGE * np.eye(len(beta))
        step = np.clip(np.linalg.solve(h, x.T @ (label - p)), -3.0, 3.0)
        beta = beta + step
        if np.abs(step).max() < _CLOSE:
            break
    found = beta[1:] / width
    slopes = np.concatenate([[beta[0] - (found * center).sum()], found])
    converged = bool(np.abs(step).max() < 1e-6)
    return (slopes if converged else np.full(len(slopes), np.nan)), binomial_log_likelihood(
        x @ beta, label
    )


def _standardised(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    center, width = columns.mean(axis=0), columns.std(axis=0)
    width = np.where(width > 0, width, 1.0)
    scaled = (columns - center) / width
    return np.column_stack([np.ones(len(columns)), scaled]), center, width


def binomial_log_likelihood(logit: np.ndarray, label: np.ndarray) -> float:
    """Return the Bernoulli log-likelihood of log-odds."""
    return float((label * logit - np.logaddexp(0.0, logit)).sum())


def likelihood_ratio(label: np.ndarray, known: np.ndarray, added: np.ndarray) -> LikelihoodRatio:
    """Test whether one score adds information to another (likelihood ratio).

    Two logistic regressions: on `known`, and on both.

    Parameters
    ----------
    label : numpy.ndarray
        0.0 or 1.0, independent rows (one per account).
    known, added : numpy.ndarray
        Scores, on a scale on which the log-odds are linear.

    Returns
    -------
    dict
        ``chi2`` (one degree of freedom), ``p_value``; None where a fit does not exist.

    Notes
    -----
    ``2·(ℓ(known, added) − ℓ(known))``, Wilks, Annals of Mathematical Statistics 9 (1938) 60.
    """
    if np.ptp(added) == 0:
        return {"chi2": 0.0, "p_value": 1.0}
    both, above = logistic_coefficients(np.column_stack([known, added]), label)
    _, below = logistic_coefficients(known[:, None], label)
    if np.isnan(both).any():
        return {"chi2": None, "p_value": None}
    statistic = max(0.0, 2.0 * (above - below))
    return {"chi2": statistic, "p_value": float(chi2.sf(statistic, 1))}


def delong(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> Delong:
    """Compare two AUCs on the same independent rows.

    Parameters
    ----------
    label : numpy.ndarray
        0.0 or 1.0; rows must be independent: one per account.
    first, second : numpy.ndarray
        Two scores, higher more likely.

    Returns
    -------
    dict
        first, second (AUCs), difference, se, p_value (two-sided; None without variance).

    Notes
    -----
    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, by the mid-ranks of Sun and Xu,
    IEEE Signal Processing Letters 21 (2014) 1389.
    """
    parts = [_placements(label == 1, score) for score in (first, second)]
    areas = [float(positive.mean()) for positive, _ in parts]
    covariance = sum(
        np.cov(np.vstack([parts[0][side], parts[1][side]])) / len(parts[0][side]) for side in (0, 1)
    )
    assert isinstance(covariance, np.ndarray)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
    difference = areas[0] - areas[1]
    se = float(np.sqrt(max(variance, 0.0)))
    p_value = float(2.0 * norm.sf(abs(difference) / se)) if se > 0 else None
    return {"first": areas[0], "second": areas[1], "difference": difference, "se": se,
            "p_value": p_value}  # fmt: skip


def _placements(happened: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, per event, the share of non-events below it; per non-event, of events above it."""
    ranks = rankdata(score)
    events, others = score[happened], score[~happened]
    n_events, n_others = len(events), len(others)
    above = (ranks[happened] - rankdata(events)) / n_others
    below = 1.0 - (ranks[~happened] - rankdata(others)) / n_events
    return above, below


def net_benefit(label: np.ndarray, p: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the net benefit of acting on all rows at or above a threshold.

    Parameters
    ----------
    label : numpy.ndarray
        0.0 or 1.0.
    p : numpy.ndarray
        Probabilities.
    thresholds : numpy.ndarray
        Each in (0, 1): probability at which costs equal benefits of acting.

    Returns
    -------
    numpy.ndarray
        Per threshold, in events per row: ``TP/n − FP/n · t/(1 − t)``.

    Notes
    -----
    Vickers and Elkin, Medical Decision Making 26 (2006) 565.

    Examples
    --------
    >>> net_benefit(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.9, 0.6, 0.1, 0.4]),
    ...             np.array([0.5])).tolist()
    [0.0]
    """
    order = np.argsort(p, kind="stable")
    ranked, events = p[order], label[order]
    start = np.searchsorted(ranked, thresholds, side="left")
    true = events.sum() - np.concatenate([[0.0], np.cumsum(events)])[start]
    acted = len(p) - start
    benefit: np.ndarray = (true - (acted - true) * thresholds / (1.0 - thresholds)) / len(p)
    return benefit
