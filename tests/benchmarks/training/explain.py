"""Exact contributions by LightGBM, by shap and by ours, side by side.

The explainers take turns, so that a busy machine is busy for all of them, and so that each finds
the caches as the others left them — as in a service, where something else always ran in between.
50,000 rows would take the two slow ones minutes: they explain a part, and their time is scaled by
the rows, which favours neither (it is linear from some hundred rows on).
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.benchmarks.measure import Measure
from training.model.treeshap import TreeExplainer

N_FEATURES, N_TREES, N_CATEGORIES = 60, 300, 3
TRAINING_ROWS = 20_000
GOALS = {1: 5.0, 50_000: 10.0}
"""How many times as fast as shap, by rows."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    rows : int
        Rows asked for.
    part : int
        Rows the slow explainers get; their time is scaled.
    turns : int
        Repetitions, of which the median counts.
    """

    rows: int
    part: int
    turns: int


SIZES = (Size(1, 1, 300), Size(1_000, 250, 5), Size(50_000, 1_000, 3))


def make_rows(rng: np.random.Generator, n: int = TRAINING_ROWS) -> np.ndarray:
    """Return (n, features): three categories of twelve levels, a twentieth missing."""
    rows = rng.normal(size=(n, N_FEATURES))
    rows[:, :N_CATEGORIES] = rng.integers(0, 12, (n, N_CATEGORIES))
    rows[rng.random(rows.shape) < 0.05] = np.nan
    return rows


def make_odd(rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Return the rows with a tenth of the values infinite, almost zero or of unseen categories."""
    odd = np.array([np.inf, -np.inf, np.nan, 0.0, 1e-36, -1.0, 99.0, 1e9])
    return np.where(rng.random(rows.shape) < 0.1, rng.choice(odd, rows.shape), rows)


def make_booster(rows: np.ndarray, leaves: int, rng: np.random.Generator, trees: int) -> Any:
    """Return a booster; a seventh of the splits of its paths repeat a feature."""
    import lightgbm

    known = np.nan_to_num(rows)
    logit = (
        known[:, 6] + known[:, 7] * known[:, 8] + (known[:, 0] > 6) + 0.3 * known[:, 9:25].sum(1)
    )
    label = (logit + rng.normal(size=len(rows)) > 0).astype(float)
    categories = list(range(N_CATEGORIES))
    data = lightgbm.Dataset(rows, label, categorical_feature=categories, params={"verbose": -1})
    settings = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "learning_rate": 0.05}
    return lightgbm.train(settings | {"num_threads": 1}, data, trees)


def medians(calls: Mapping[str, Callable[[int], object]], turns: int) -> dict[str, float]:
    """Return the median seconds of each call; they take turns and are told which turn it is."""
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns):
        for name, call in calls.items():
            begin = time.perf_counter()
            call(turn)
            seen[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seen.items()}


def compare(
    booster: Any, theirs: Any, ours: TreeExplainer, rows: np.ndarray, size: Size, threads: int
) -> dict[str, float]:
    """Return seconds for `size.rows` rows by explainer."""
    many = np.resize(rows, (size.rows, rows.shape[1])) if size.rows > 1 else rows

    def some(turn: int) -> np.ndarray:
        return rows[turn : turn + 1] if size.rows == 1 else rows[: size.part]

    found = medians(
        {
            "LightGBM": lambda i: booster.predict(some(i), pred_contrib=True, num_threads=threads),
            "shap": lambda i: theirs.shap_values(some(i), check_additivity=False),
            "ours": lambda i: ours.explain(many if size.rows > 1 else some(i), threads=threads),
        },
        size.turns,
    )
    return {
        name: seconds * (size.rows / size.part if name != "ours" else 1.0)
        for name, seconds in found.items()
    }


def largest_differences(
    booster: Any, theirs: Any, ours: TreeExplainer, rows: np.ndarray
) -> dict[str, float]:
    """Return by how much our values differ at most from LightGBM's and from shap's."""
    _, values = ours.explain(rows)
    exact = booster.predict(rows, pred_contrib=True)[:, :-1]
    shapley = theirs.shap_values(rows, check_additivity=False)
    return {
        "largest difference from LightGBM": float(np.abs(values - exact).max()),
        "largest difference from shap": float(np.abs(values - shapley).max()),
    }


def _explainers(leaves: int, trees: int) -> tuple[np.ndarray, Any, Any, TreeExplainer, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shap's imports and its own change of shape
        import shap

    import lightgbm

    from training.model.predictors import model_text

    rng = np.random.default_rng(7)
    rows = make_rows(rng)
    grown = make_booster(rows, leaves, rng, trees)
    # as served: without the parameters, in which shap would find an objective to warn about
    booster = lightgbm.Booster(model_str=model_text(grown.model_to_string()))
    ours = TreeExplainer((booster,))
    begin = time.perf_counter()
    ours.warm()
    seconds = time.perf_counter() - begin
    return make_odd(rng, rows), booster, shap.TreeExplainer(booster), ours, seconds


def measure(
    sizes: tuple[Size, ...] = SIZES,
    leaves: tuple[int, ...] = (15, 31),
    trees: int = N_TREES,
    threads: int = 1,
) -> list[Measure]:
    """Return one line per model and number of rows.

    shap passes no number of threads on, and LightGBM reads its default when it is imported: for
    equal threads, ``OMP_NUM_THREADS`` must say `threads` before.
    """
    found = []
    for n_leaves in leaves:
        rows, booster, theirs, ours, seconds = _explainers(n_leaves, trees)
        shape = f"{trees} trees × {n_leaves} leaves × {N_FEATURES} features"
        detail: dict[str, Any] = largest_differences(booster, theirs, ours, rows[:500])
        detail |= {"compiled and verified in seconds": seconds, "threads": threads}
        for size in sizes:
            times = compare(booster, theirs, ours, rows, size, threads)
            ratio = times["shap"] / times["ours"]
            goal = GOALS.get(size.rows)
            is_equal = max(v for k, v in detail.items() if k.startswith("largest")) < 1e-9
            found.append(
                Measure(
                    f"{size.rows:,} row{'s' if size.rows > 1 else ''}, {shape}",
                    1e3 * times["ours"],
                    "ms",
                    "shap.TreeExplainer",
                    1e3 * times["shap"],
                    ratio,
                    f"≥ {goal:g} × as fast, equal within 1e-9" if goal else "",
                    ratio >= goal and is_equal if goal else None,
                    detail | {"LightGBM_ms": 1e3 * times["LightGBM"]},
                )
            )
    return found
