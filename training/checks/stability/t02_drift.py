"""BW-T02."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.stats import chi2

from training.checks.base import (
    Check,
    Finding,
    Severity,
    issue_finding,
    not_applicable,
    passed,
    skipped,
    tip,
)
from training.checks.context import CheckContext
from training.checks.helpers import name_list
from training.fitting.fit import fit_encoder

BINS = 10
MOVED = 0.25
"""PSI from which a feature has moved: the usual threshold."""

MANY = 0.2
"""Share of moved features that is an issue."""

MIN_ACCOUNTS = 30
CHANCE = 0.01
"""Probability that any feature is reported as moved although none has."""


class DriftBetweenFolds(Check):
    """Finds scored accounts that differ from the training rows.

    The population stability index of every feature, over ten bins of the training rows and one for
    missing values, compares them with the scored accounts. Small samples differ by chance: with n
    and m accounts and B bins the index is about (1/n + 1/m)·χ² with B − 1 degrees of freedom, so a
    feature has moved only above 0.25 *and* above chance. It is an issue if more than a fifth of the
    features moved.
    """

    code: ClassVar[str] = "BW-T02"
    title = "scored accounts resemble the training rows"
    severity: ClassVar[Severity] = "advisory"
    to_do = (
        "check these features first: a source that stopped or changed its unit, a season, or "
        "ageing accounts; then train again"
    )

    def run(self, context: CheckContext) -> Finding:
        """Compare the distribution of every feature in training and in the scored accounts."""
        if context.evidence is None:
            return skipped("ready-made table: no scored accounts to compare with")
        book, frame = context.evidence.book, context.frame
        n, m = int(frame.rows["entity_id"].nunique()), len(book)
        if min(n, m) < MIN_ACCOUNTS:
            return not_applicable(f"{m} scored accounts and {n} in training are too few")
        encoder = fit_encoder(frame)
        before = encoder.encode(frame.features).matrix
        now = encoder.encode(book).matrix
        n_features = len(encoder.names)
        found = {}
        for position, name in enumerate(encoder.names):
            index, n_bins = psi(before[:, position], now[:, position])
            if index > max(MOVED, beyond_chance(n, m, n_bins, CHANCE / n_features)):
                found[name] = index
        if not found:
            return passed(f"none of {n_features} features has moved, {m:,} scored accounts")
        shown = [f"{k} (PSI {v:.2f})" for k, v in sorted(found.items(), key=lambda kv: -kv[1])]
        words = f"{len(found)} of {n_features} features have moved: {name_list(shown)}"
        return issue_finding(words) if len(found) > MANY * n_features else tip(words)


def psi(before: np.ndarray, now: np.ndarray) -> tuple[float, int]:
    """Return the population stability index of one column, and its number of bins.

    Parameters
    ----------
    before, now : numpy.ndarray
        float64, NaN unknown. Bins are the deciles of `before`, and one for NaN where there is any.

    Notes
    -----
    Σ (q − p)·ln(q/p) over bins of shares p before and q now; half a row is added to every bin, so
    that empty bins are finite.

    Examples
    --------
    >>> ten = np.arange(100.0)
    >>> psi(ten, ten)[0], round(psi(ten, ten + 30)[0], 2)
    (0.0, 1.26)
    """
    known = before[~np.isnan(before)]
    deciles = np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]) if len(known) else []
    edges = np.unique(deciles)
    counts = np.stack([_counts(column, edges) for column in (before, now)]) + 0.5
    used = counts.sum(axis=0) > 1.0
    p, q = counts[:, used] / counts[:, used].sum(axis=1, keepdims=True)
    return float(((q - p) * np.log(q / p)).sum()), int(used.sum())


def _counts(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return rows per bin; the first bin is that of missing values."""
    bins = np.where(np.isnan(column), 0, np.searchsorted(edges, column, side="left") + 1)
    counts: np.ndarray = np.bincount(bins, minlength=len(edges) + 2)
    return counts


def beyond_chance(n: int, m: int, n_bins: int, chance: float) -> float:
    """Return the index that two samples of one distribution exceed with this probability.

    >>> round(beyond_chance(1000, 100, 10, 0.05), 3)
    0.186
    """
    return float((1.0 / n + 1.0 / m) * chi2.ppf(1.0 - chance, max(n_bins - 1, 1)))
