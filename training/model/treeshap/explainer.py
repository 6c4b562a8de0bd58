"""Public explainer and predictor, verified against LightGBM on every model before use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.runtime.errors import ModelError
from training.model.treeshap.layout import lay_out
from training.model.treeshap.parse import (
    ZERO,
    Ensemble,
    UnsupportedModelError,
    members,
    parse_ensemble,
)

if TYPE_CHECKING:
    from training.model.treeshap.kernel import Kernel

logger = logging.getLogger("bellwether.training.model.treeshap")

TOLERANCE = 1e-9
"""Largest difference from LightGBM in log-odds, or relative to the largest contribution."""

PROBE_ROWS = 256

COLD_ROWS = 2_000
"""Number of rows from which compilation pays even for a single call."""

PIECE_ROWS = 2_048
"""Rows per call of the kernel, whose working memory then fits the second-level cache."""

_ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0, ZERO, -ZERO, 1e-36, -1e-36, 1e-34, -0.5, -1.0, 3e9)


@dataclass(frozen=True)
class Explained:
    """Contributions and predictions of some rows, from one pass over the trees.

    Attributes
    ----------
    base : float
        Expected log-odds of the average row, averaged over boosters.
    contributions : numpy.ndarray
        (rows, features), averaged over boosters; base + their sum is the mean of `raw`.
    raw : numpy.ndarray
        (boosters, rows) raw log-odds, the same bits as LightGBM's.
    """

    base: float
    contributions: np.ndarray
    raw: np.ndarray


@dataclass
class TreePredictor:
    """Raw log-odds of some boosters over the same features, the same bits as LightGBM's.

    LightGBM predicts until `warm` has compiled a kernel, 4 to 6 times as fast, and verified that
    its bits equal LightGBM's on test rows of these boosters. With an unsupported model, or any
    difference, LightGBM is used permanently and a warning is logged.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        At least one.
    """

    boosters: Sequence[Any]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _is_settled: bool = field(default=False, repr=False)
    _kernel: Kernel | None = field(default=None, repr=False)

    @property
    def is_fast(self) -> bool:
        """Whether the verified kernel is used."""
        return self._kernel is not None

    @cached_property
    def n_features(self) -> int:
        """Number of columns of the matrix."""
        return int(self.boosters[0].num_feature())

    def warm(self) -> bool:
        """Compile and verify once; return whether the kernel is used.

        Takes one to two seconds, mostly LightGBM on the test rows. Meanwhile other threads use
        LightGBM.
        """
        with self._lock:
            if not self._is_settled:
                self._kernel = _verified_kernel(self.boosters, self._difference)
                self._is_settled = True
        return self.is_fast

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Return raw log-odds, (boosters, rows).

        Raises
        ------
        ModelError
            When the matrix has another width than the model.
        """
        rows, kernel = self._rows(matrix), self._kernel
        if kernel is None:
            return _lightgbm_raw(self.boosters, rows, 1)
        return np.concatenate([kernel.raw(piece) for piece in _pieces(rows)], axis=1)

    def _difference(self, kernel: Kernel, rows: np.ndarray) -> str:
        """Return the difference between kernel and LightGBM on some rows; empty if none."""
        return _other_bits(kernel.raw(rows), self.boosters, rows)

    def _rows(self, matrix: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ModelError(
                f"the model takes {self.n_features} features, the rows have shape {rows.shape}"
            )
        return rows


class TreeExplainer(TreePredictor):
    """Exact path-dependent TreeSHAP values of some boosters over the same features, averaged.

    LightGBM's ``pred_contrib`` is used until `warm` has verified that the kernel's contributions
    equal LightGBM's within `TOLERANCE`, or until a call explains `COLD_ROWS` rows; the kernel is 50
    to 100 times as fast. Both differ by rounding, about 1e-15 in log-odds.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        At least one.
    """

    def explain(self, matrix: np.ndarray, *, threads: int = 1) -> tuple[float, np.ndarray]:
        """Return the base log-odds and the contribution of each feature.

        Parameters
        ----------
        matrix : numpy.ndarray
            (rows, features) as for LightGBM: category codes as numbers, NaN where missing.
        threads : int
            Threads over rows; any number gives the same bits.

        Returns
        -------
        tuple of float and numpy.ndarray
            Base, and (rows, features).

        Raises
        ------
        ModelError
            When the matrix has another width than the model.
        """
        rows, kernel = self._rows(matrix), self._kernel_for(len(matrix))
        if kernel is None:
            return _lightgbm_contributions(self.boosters, rows, threads)
        return kernel.forest.base, _run(kernel, rows, threads)[0]

    def explain_and_predict(self, matrix: np.ndarray, *, threads: int = 1) -> Explained:
        """Return contributions and raw log-odds together; parameters as for `explain`."""
        rows, kernel = self._rows(matrix), self._kernel_for(len(matrix))
        if kernel is None:
            base, values = _lightgbm_contributions(self.boosters, rows, threads)
            return Explained(base, values, _lightgbm_raw(self.boosters, rows, threads))
        return Explained(kernel.forest.base, *_run(kernel, rows, threads))

    def _kernel_for(self, n_rows: int) -> Kernel | None:
        if n_rows >= COLD_ROWS:
            self.warm()
        return self._kernel

    def _difference(self, kernel: Kernel, rows: np.ndarray) -> str:
        base, expected = _lightgbm_contributions(self.boosters, rows, 1)
        values, raw = _run(kernel, rows, 1)
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()), abs(base))
        gap = max(float(np.abs(values - expected).max()), abs(kernel.forest.base - base))
        # a NaN counts as a difference
        if not gap <= allowed:
            return f"contributions differ by {gap:.3g}, allowed is {allowed:.3g}"
        return _other_bits(raw, self.boosters, rows) or super()._difference(kernel, rows)


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    """Return the rows in pieces for the kernel; at least one."""
    return [rows[i : i + PIECE_ROWS] for i in range(0, max(len(rows), 1), PIECE_ROWS)]


def _run(kernel: Kernel, rows: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean contributions and the raw log-odds of each booster, piece by piece."""
    if len(rows) <= PIECE_ROWS:
        return _mean(*kernel(rows))
    pieces = _pieces(rows)
    if threads > 1:
        with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
            done = list(pool.map(kernel, pieces))
    else:
        done = [kernel(piece) for piece in pieces]
    phi, raw = zip(*done, strict=True)
    return _mean(np.concatenate(phi), np.concatenate(raw, axis=1))


def _mean(phi: np.ndarray, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return contributions averaged over boosters, and the raw log-odds as they are."""
    return phi if len(raw) == 1 else phi / len(raw), raw


def _at_least_one(rows: np.ndarray) -> np.ndarray:
    """Return the rows, or one row of zeros: LightGBM does not accept an empty matrix."""
    return rows if len(rows) else np.zeros((1, rows.shape[1]))


def _lightgbm_contributions(
    boosters: Sequence[Any], rows: np.ndarray, threads: int
) -> tuple[float, np.ndarray]:
    filled = _at_least_one(rows)
    total = sum(
        np.asarray(booster.predict(filled, pred_contrib=True, num_threads=threads))
        for booster in boosters
    )
    mean = np.asarray(total) / len(boosters)
    return float(mean[0, -1]), mean[: len(rows), :-1]


def _lightgbm_raw(boosters: Sequence[Any], rows: np.ndarray, threads: int) -> np.ndarray:
    filled = _at_least_one(rows)
    each = [
        np.asarray(booster.predict(filled, raw_score=True, num_threads=threads))
        for booster in boosters
    ]
    return np.stack(each)[:, : len(rows)]


def _verified_kernel(
    boosters: Sequence[Any], difference: Callable[[Kernel, np.ndarray], str]
) -> Kernel | None:
    """Return a kernel verified to equal LightGBM, or None with a logged warning."""
    try:
        ensembles = [parse_ensemble(booster.model_to_string()) for booster in boosters]
        kernel = _kernel(ensembles)
    except (UnsupportedModelError, ImportError, OSError, RuntimeError) as error:
        fault = str(error)
    else:
        fault = difference(kernel, probe_rows(ensembles))
    if fault:
        logger.warning("using LightGBM, 4 to 100 times slower: %s", fault)
        return None
    return kernel


def _kernel(ensembles: Sequence[Ensemble]) -> Kernel:
    if len({ensemble.n_features for ensemble in ensembles}) != 1:
        raise UnsupportedModelError("the boosters have different numbers of features")
    # llvmlite is imported with the first compiled model, not at start-up
    from training.model.treeshap.kernel import Kernel, compiled

    return Kernel(lay_out(ensembles), compiled())


def _other_bits(raw: np.ndarray, boosters: Sequence[Any], rows: np.ndarray) -> str:
    """Return a message if predictions are not bit-identical to LightGBM's."""
    is_same = np.array_equal(raw, _lightgbm_raw(boosters, rows, 1))
    return "" if is_same else "raw predictions are not the same bits"


def probe_rows(ensembles: Sequence[Ensemble], n: int = PROBE_ROWS) -> np.ndarray:
    """Return deterministic test rows at the thresholds of a model's splits.

    Thresholds and their neighbours on both sides, members of category sets and unknown codes,
    missing, infinite and almost zero values.

    Parameters
    ----------
    ensembles : sequence of Ensemble
        Over the same features.
    n : int
        Rows.
    """
    rng = np.random.default_rng(20_170_612)
    return np.column_stack([_draw(rng, found, n) for found in _edges(ensembles)])


def _draw(rng: np.random.Generator, edges: np.ndarray, n: int) -> np.ndarray:
    """Return one column: three quarters thresholds, if any, and special values."""
    odd = rng.choice(_ODD, n)
    if not len(edges):
        return odd
    column: np.ndarray = np.where(rng.random(n) < 0.75, rng.choice(edges, n), odd)
    return column


def _edges(ensembles: Sequence[Ensemble]) -> list[np.ndarray]:
    """Return per feature the thresholds of all trees."""
    found: list[list[np.ndarray]] = [[] for _ in range(ensembles[0].n_features)]
    for tree in (tree for ensemble in ensembles for tree in ensemble.trees):
        for node in range(tree.n_nodes):
            at = tree.threshold[node]
            if tree.is_categorical(node):
                codes = members(tree.categories[int(at)]).astype(np.float64)
                around = np.concatenate([codes, codes + 1.0, codes + 0.5, codes[-1:] + 64.0])
            else:
                around = np.nextafter(at, [-np.inf, at, np.inf])
            found[int(tree.feature[node])].append(around)
    return [np.unique(np.concatenate(parts)) if parts else np.empty(0) for parts in found]
