"""Has a book drifted from what a model learned on? An answer only where the sample supports one.

The population stability index of shares q (the book) against p (the reference) is
``PSI = Σ (q − p)·ln(q/p)``. Without any drift it is not 0 but about ``(1/m + 1/n)·χ²`` with one
degree of freedom less than bins, for m accounts in the book and n in the reference (Yurdakul,
*Statistical properties of the population stability index*, 2018): 0.5 is nothing unusual among 40
accounts, though a rule of thumb calls 0.25 a shift. So the index is set beside its own sampling
distribution, drawn for these very numbers, and many features looked at together are told with a
false discovery rate (Benjamini and Hochberg, 1995). Light to import.
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
"""Drawn books without drift. Their mean and variance name the gamma distribution, of which χ² is
one, that the p-value is read from: draws alone cannot tell one in a thousand from one in a million.
"""

FALSE_DISCOVERY_RATE = 0.05

MOVED, MOVED_MUCH = 0.1, 0.25
"""The usual rule of thumb: what a supported index must reach to be worth a look, and an alarm."""

MIN_EXPECTED = 5.0
"""Accounts expected in a bin of the book; bins that expect fewer are joined."""

HALF = 0.5
"""Added to every count, so that an empty bin has a logarithm."""

Verdict = Literal["steady", "moved", "moved much", "too few to tell"]


@dataclass(frozen=True)
class Drift:
    """How far one distribution lies from its reference.

    Attributes
    ----------
    name : str
        Of the feature, or of the score.
    psi : float or None
        The index; None where there are too few accounts for two bins.
    usual : float or None
        What 95 % of books of this size stay below without any drift.
    p_value : float
        Share of such books with an index at least as large.
    verdict : str
        ``steady``: no more than chance makes, or too small to matter. ``moved``, ``moved much``:
        supported by the sample, and above `MOVED` or `MOVED_MUCH`. ``too few to tell``: a shift of
        `MOVED_MUCH` would not stand out among so few.
    n : int
        Accounts.
    missing, missing_before : float
        Share not known, in the book and in the reference.
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
        """Return the plain mapping."""
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
    """Compare columns of a book with a reference, all looked at together.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        (accounts,) values by name, one row per account, NaN where not known. Codes for categories.
    reference : mapping of str to mapping
        By name, from `histogram`; names without a histogram are left out.
    n_reference : int
        Independent accounts behind the reference. Rows of one account are not independent, so its
        accounts are counted, which errs towards silence.
    seed : int
        Of the drawn books.

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
    told = {name: index for name, index in found.items() if index is not None}
    alarming = _discoveries({name: index.p_value for name, index in told.items()})
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
    """Return the reference of a numeric column: how many values lie in ``(edge before, edge]``.

    Examples
    --------
    >>> histogram(np.array([0.0, 0.0, 1.0, 5.0, np.nan]), [0.0, 0.0, 2.0])
    Histogram(edges=(0.0, 2.0), counts=(2, 1, 1, 1))
    """
    kept = np.unique(np.asarray(edges, dtype=np.float64))
    return Histogram(edges=tuple(kept.tolist()), counts=tuple(_counts(column, kept).tolist()))


def _counts(column: np.ndarray, edges: np.ndarray) -> np.ndarray:
    known = column[~np.isnan(column)]
    inside = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return np.append(inside, len(column) - len(known))


def _index(
    values: np.ndarray, reference: Histogram, n_reference: int, rng: np.random.Generator
) -> _Index | None:
    """Return the index and that of drawn books without drift; None with too few accounts."""
    before = np.asarray(reference.counts, dtype=np.float64)
    now = _counts(values, np.asarray(reference.edges, dtype=np.float64)).astype(np.float64)
    groups = _joined(before / max(before.sum(), 1.0), len(values))
    if len(values) == 0 or groups.max() == 0:
        return None
    joined = np.bincount(groups, before) + HALF
    shares = joined / joined.sum()
    psi = float(_psi(np.bincount(groups, now)[None, :], shares[None, :])[0])
    books = rng.multinomial(len(values), shares, DRAWS).astype(np.float64)
    references = rng.multinomial(max(n_reference, 1), shares, DRAWS) + HALF
    null = _psi(books, references / references.sum(axis=1, keepdims=True))
    return _Index(psi, null)


def _psi(counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    now = counts + HALF
    now = now / now.sum(axis=1, keepdims=True)
    index: np.ndarray = ((now - before) * np.log(now / before)).sum(axis=1)
    return index


def _joined(shares: np.ndarray, n: int) -> np.ndarray:
    """Return the group of each bin: neighbours are joined until each expects `MIN_EXPECTED`."""
    groups = np.zeros(len(shares), dtype=np.int64)
    group, expected = 0, 0.0
    for position, share in enumerate(shares):
        groups[position] = group
        expected += share * n
        if expected >= MIN_EXPECTED and (1.0 - shares[: position + 1].sum()) * n >= MIN_EXPECTED:
            group, expected = group + 1, 0.0
    return groups


def _discoveries(p_values: Mapping[str, float]) -> set[str]:
    """Return the names that stand out at `FALSE_DISCOVERY_RATE`, by Benjamini and Hochberg."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    limits = FALSE_DISCOVERY_RATE * np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
    below = [i for i, name in enumerate(ordered) if p_values[name] <= limits[i]]
    return set(ordered[: below[-1] + 1]) if below else set()
