"""Drift between scored accounts and the training data: PSI with a significance test.

The population stability index of shares q (scored accounts) and p (reference) is ``PSI = Σ (q −
p)·ln(q/p)``. Without drift it is about ``(1/m + 1/n)·χ²`` with bins − 1 degrees of freedom, for m
scored and n reference accounts (Yurdakul, *Statistical properties of the population stability
index*, 2018): 0.5 is common among 40 accounts, although the usual rule of thumb calls 0.25 a shift.
So the index is compared with its simulated sampling distribution, and several features are tested
with a false discovery rate (Benjamini and Hochberg, 1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincc

from training.model.manifest_parts import Histogram

DRAWS = 500
"""Simulated samples without drift. Their mean and variance define the gamma distribution of the
p-value, because draws alone have too little resolution for small p-values.
"""

FALSE_DISCOVERY_RATE = 0.05

MOVED, MOVED_MUCH = 0.1, 0.25
"""Usual rule of thumb: smallest significant index for a moderate, and a large shift."""

MIN_EXPECTED = 5.0
"""Smallest expected number of accounts per bin; bins with fewer are merged."""

HALF = 0.5
"""Added to every count, so that empty bins have a logarithm."""

Verdict = Literal["steady", "moved", "moved much", "too few to tell"]


@dataclass(frozen=True)
class Drift:
    """Drift of one distribution from its reference.

    Attributes
    ----------
    name : str
        Of the feature, or of the score.
    psi : float or None
        Index; None with too few accounts for two bins.
    usual : float or None
        95th percentile of the index without drift, for this number of accounts.
    p_value : float
        Probability of an index at least as large without drift.
    verdict : str
        ``steady``: not significant or too small. ``moved``, ``moved much``: significant, and above
        `MOVED` or `MOVED_MUCH`. ``too few to tell``: a shift of `MOVED_MUCH` would not be
        significant for so few accounts.
    n : int
        Accounts.
    missing, missing_before : float
        Share of missing values of scored accounts, and of the reference, 0–1.
    """

    name: str
    psi: float | None
    usual: float | None
    p_value: float
    verdict: Verdict
    n: int
    missing: float
    missing_before: float

    def as_dict(self) -> dict[str, str | float | None]:
        """Return plain JSON content."""
        return asdict(self)


@dataclass(frozen=True)
class _Index:
    psi: float
    null: np.ndarray

    @property
    def p_value(self) -> float:
        mean, variance = self.null.mean(), self.null.var(ddof=1)
        return float(gammaincc(mean**2 / variance, self.psi * mean / variance))


def drift_of(
    columns: Mapping[str, np.ndarray],
    reference: Mapping[str, Histogram],
    *,
    n_reference: int,
    seed: int,
) -> list[Drift]:
    """Compare columns of scored accounts with a reference, with a joint false discovery rate.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        (accounts,) values by name, one row per account, NaN for unknown values. Codes for
        categories.
    reference : mapping of str to mapping
        By name, from `histogram`; names without a histogram are left out.
    n_reference : int
        Independent accounts of the reference. Rows of one account are not independent, so accounts
        are counted, which is conservative.
    seed : int
        Of the simulated samples.

    Returns
    -------
    list of Drift
        In the order of `columns`.
    """
    names = [name for name in columns if name in reference and reference[name].counts]
    found = {
        name: _index(columns[name], reference[name], n_reference, np.random.default_rng(seed + i))
        for i, name in enumerate(names)
    }
    indices = {name: index for name, index in found.items() if index is not None}
    alarming = _discoveries({name: index.p_value for name, index in indices.items()})
    return [
        _verdict(name, columns[name], reference[name], found[name], name in alarming)
        for name in names
    ]


def _verdict(
    name: str,
    values: np.ndarray,
    reference: Histogram,
    index: _Index | None,
    is_discovery: bool,
) -> Drift:
    counts = np.asarray(reference.counts, dtype=np.float64)
    before = float(counts[-1] / max(counts.sum(), 1.0))
    missing = float(np.isnan(values).mean()) if len(values) else 0.0
    if index is None:
        return Drift(name, None, None, 1.0, "too few to tell", len(values), missing, before)
    usual = float(np.quantile(index.null, 0.95))
    verdict: Verdict = "steady"
    if is_discovery and index.psi >= MOVED:
        verdict = "moved much" if index.psi >= MOVED_MUCH else "moved"
    elif usual >= MOVED_MUCH:
        verdict = "too few to tell"
    return Drift(name, index.psi, usual, index.p_value, verdict, len(values), missing, before)


def histogram(column: np.ndarray, edges: ArrayLike) -> Histogram:
    """Return the histogram of a column: number of values in ``(edge before, edge]``.

    Examples
    --------
    >>> histogram(np.array([0.0, 0.0, 1.0, 5.0, np.nan]), [0.0, 0.0, 2.0])
    Histogram(edges=(0.0, 2.0), counts=(2, 1, 1, 1))
    """
    distinct = np.unique(np.asarray(edges, dtype=np.float64))
    return Histogram(
        edges=tuple(distinct.tolist()), counts=tuple(_counts(column, distinct).tolist())
    )


def _counts(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    known = column[~np.isnan(column)]
    inside = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return np.append(inside, len(column) - len(known))


def _index(
    values: np.ndarray, reference: Histogram, n_reference: int, rng: np.random.Generator
) -> _Index | None:
    """Return the index and simulated ones without drift; None with too few accounts."""
    before = np.asarray(reference.counts, dtype=np.float64)
    now = _counts(values, np.asarray(reference.edges, dtype=np.float64)).astype(np.float64)
    groups = _merged_bins(before / max(before.sum(), 1.0), len(values))
    if len(values) == 0 or groups.max() == 0:
        return None
    joined = np.bincount(groups, before) + HALF
    shares = joined / joined.sum()
    psi = float(_psi(np.bincount(groups, now)[None, :], shares[None, :])[0])
    samples = rng.multinomial(len(values), shares, DRAWS).astype(np.float64)
    references = rng.multinomial(max(n_reference, 1), shares, DRAWS) + HALF
    null = _psi(samples, references / references.sum(axis=1, keepdims=True))
    return _Index(psi, null)


def _psi(counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    now = counts + HALF
    now = now / now.sum(axis=1, keepdims=True)
    index: np.ndarray = ((now - before) * np.log(now / before)).sum(axis=1)
    return index


def _merged_bins(shares: np.ndarray, n: int) -> np.ndarray:
    """Return the group of each bin: neighbours are merged until each expects `MIN_EXPECTED`."""
    groups = np.zeros(len(shares), dtype=np.int64)
    group, expected = 0, 0.0
    for position, share in enumerate(shares):
        groups[position] = group
        expected += share * n
        if expected >= MIN_EXPECTED and (1.0 - shares[: position + 1].sum()) * n >= MIN_EXPECTED:
            group, expected = group + 1, 0.0
    return groups


def _discoveries(p_values: Mapping[str, float]) -> set[str]:
    """Return the significant names at `FALSE_DISCOVERY_RATE`, by Benjamini and Hochberg."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    limits = FALSE_DISCOVERY_RATE * np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
    below = [i for i, name in enumerate(ordered) if p_values[name] <= limits[i]]
    return set(ordered[: below[-1] + 1]) if below else set()
