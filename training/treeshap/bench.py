"""Time three explainers side by side in one run: ``python -m training.treeshap.bench``.

Every figure is the median over repetitions that alternate between the explainers, so that a busy
machine is busy for all of them. 50,000 rows would take the two slow ones minutes: they explain a
part, and their time is scaled by the rows, which favours neither (it is linear from some hundred
rows on).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from training.treeshap import TreeExplainer

N_FEATURES, N_TREES = 60, 300
TRAINING_ROWS = 20_000

SIZES = {1: (1, 25), 1_000: (500, 3), 50_000: (1_000, 3)}
"""Rows asked for: rows the slow explainers get, and repetitions."""


def make_rows(rng: np.random.Generator) -> np.ndarray:
    """Return (rows, features): three categories of twelve levels, a twentieth missing."""
    rows = rng.normal(size=(TRAINING_ROWS, N_FEATURES))
    rows[:, :3] = rng.integers(0, 12, (TRAINING_ROWS, 3))
    rows[rng.random(rows.shape) < 0.05] = np.nan
    return rows


def make_booster(rows: np.ndarray, leaves: int, rng: np.random.Generator) -> Any:
    """Return a booster of `N_TREES` trees; a seventh of the splits repeat a feature."""
    import lightgbm

    known = np.nan_to_num(rows)
    logit = (
        known[:, 6] + known[:, 7] * known[:, 8] + (known[:, 0] > 6) + 0.3 * known[:, 9:25].sum(1)
    )
    label = (logit + rng.normal(size=len(rows)) > 0).astype(float)
    data = lightgbm.Dataset(rows, label, categorical_feature=[0, 1, 2], params={"verbose": -1})
    settings = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "learning_rate": 0.05}
    return lightgbm.train(settings | {"num_threads": 1}, data, N_TREES)


def medians(calls: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return the median seconds of each call; they take turns."""
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seen[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seen.items()}


def compare(
    booster: Any, ours: TreeExplainer, rows: np.ndarray, n: int, threads: int
) -> dict[str, float]:
    """Return seconds for `n` rows by explainer."""
    import shap

    part, repetitions = SIZES[n]
    theirs = shap.TreeExplainer(booster)
    few, many = rows[:part], np.resize(rows, (n, N_FEATURES))
    found = medians(
        {
            "LightGBM": lambda: booster.predict(few, pred_contrib=True, num_threads=threads),
            "shap": lambda: theirs.shap_values(few, check_additivity=False),
            "ours": lambda: ours.explain(many, threads=threads),
        },
        repetitions,
    )
    return {name: s * (n / part if name != "ours" else 1.0) for name, s in found.items()}


def warm(ours: TreeExplainer) -> tuple[float, float]:
    """Return seconds of wall clock and of processor until the kernel is trusted."""
    wall, processor = time.perf_counter(), time.process_time()
    ours.warm()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print one table per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    # shap passes no number of threads on; LightGBM reads the default when it is imported
    os.environ["OMP_NUM_THREADS"] = str(threads)
    rng, console = np.random.default_rng(7), Console()
    rows = make_rows(rng)
    for leaves in (15, 31):
        booster = make_booster(rows, leaves, rng)
        ours = TreeExplainer((booster,))
        wall, processor = warm(ours)
        table = Table(
            title=f"{N_TREES} trees × {leaves} leaves × {N_FEATURES} features, {threads} thread(s)",
            caption=f"compiled and verified in {wall:.2f} s ({processor:.2f} s of processor)",
        )
        for heading in (
            "rows",
            "LightGBM, ms",
            "shap, ms",
            "ours, ms",
            "× LightGBM",
            "× shap",
        ):
            table.add_column(heading, justify="right")
        for n in SIZES:
            found = compare(booster, ours, rows, n, threads)
            times = [found[name] for name in ("LightGBM", "shap", "ours")]
            ratios = [f"{item / found['ours']:.1f}" for item in times[:2]]
            table.add_row(f"{n:,}", *(f"{1e3 * item:,.2f}" for item in times), *ratios)
        console.print(table)


if __name__ == "__main__":
    main()
