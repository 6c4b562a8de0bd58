"""Search and fit beside FLAML with LightGBM: same rows, same folds, one core, equal budgets.

Both are given what the last cut-off knew and the inner folds of it, search for so many seconds,
refit on all of it, and are measured by log-loss on what came after, uncalibrated. The seconds are
of the clock, from the first look at the rows to the fitted model. Our search is given so many
seconds and its refit comes on top, so FLAML is then given all the seconds that we took.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.runtime.state_directory import State
from configs.schema.company import Tuning, load_company
from configs.schema.workspace import Workspace, data_folder
from features.pipeline import FeatureBuild, build_features
from features.tables.catalog import FeatureInfo
from tests.benchmarks.measure import Measure
from tests.benchmarks.training.company import simulated
from training.data.dataset import training_frame
from training.data.splits import Folds, count_events, make_folds
from training.data.training_frame import TrainingFrame
from training.fitting.fit import TrainingConfig, choose_tier, fit, fit_encoder, starting_trees
from training.fitting.tune import search
from training.model.bundle import sigmoid

ONLINE_RETAIL = Path(__file__).parents[3] / "configs" / "companies" / "online_retail"
ACCOUNTS, MONTHS = 10_000, 24
BUDGETS = (5, 20, 60)
"""Seconds of search."""

FOLD_DAYS, INNER_FOLDS, SEED = 91, 3, 7
SEEDS = (7, 8, 9)
"""Boosters averaged, as the companies' configuration has it."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Contest:
    """What both are given, and what they are measured on.

    Attributes
    ----------
    known, later : TrainingFrame
        Rows the cut-off knew, and rows of the period after it.
    inner : Folds
        Of `known`.
    outcome : str
        What is predicted.
    """

    known: TrainingFrame
    later: TrainingFrame
    inner: Folds
    outcome: str


@dataclass(frozen=True)
class Result:
    """Log-loss on what came after, and the seconds it took to get there."""

    loss: float
    seconds: float


def contest(frame: TrainingFrame, outcome: str) -> Contest:
    """Cut a frame at the last cut-off that has labels on both sides."""
    last = make_folds(frame, folds=1, fold_days=FOLD_DAYS, seed=SEED).folds[-1]
    known = frame.take(last.train)
    inner = make_folds(known, folds=INNER_FOLDS, fold_days=FOLD_DAYS, seed=SEED)
    return Contest(known, frame.take(last.test), inner, outcome)


def log_loss(p: np.ndarray, label: np.ndarray) -> float:
    """Return the mean log-loss.

    >>> round(log_loss(np.array([0.5, 0.5]), np.array([0.0, 1.0])), 6)
    0.693147
    """
    inside = np.clip(p, 1e-12, 1.0 - 1e-12)
    return float(-np.mean(label * np.log(inside) + (1.0 - label) * np.log1p(-inside)))


def ours(given: Contest, budget: int) -> Result:
    """Search for `budget` seconds with our tuner, and fit its recipe."""
    tier = choose_tier(count_events(given.known.rows))
    trees = dict(starting_trees(tier, len(given.known)))
    recipe = TrainingConfig("lightgbm", given.outcome, SEEDS, trees, threads=1)
    tuning = Tuning(trials=10_000, timeout_seconds=budget)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        url = f"sqlite:///{folder}/optuna.db"
        found = search(recipe, given.known, given.inner, tuning, storage_url=url)
        fitted = fit(replace(recipe, trees=found.trees, rounds=found.rounds), given.known)
        seconds = time.perf_counter() - begin
    return Result(log_loss(sigmoid(fitted.raw(given.later)), given.later.label), seconds)


class _Splitter:
    """The inner folds as scikit-learn's splitters give them, for FLAML."""

    def __init__(self, folds: Folds) -> None:
        self._pairs = [(_positions(fold.train), _positions(fold.test)) for fold in folds.folds]

    def split(self, *_: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Return positions to train on and to test on."""
        return iter(self._pairs)

    def get_n_splits(self, *_: Any) -> int:
        """Return how many there are."""
        return len(self._pairs)


def _positions(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _automl() -> Any:
    # It would start a Java machine to see whether it is there.
    sys.modules.setdefault("pyspark", None)  # type: ignore[arg-type]  # None: not importable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("flaml").AutoML()


def flaml(given: Contest, budget: int) -> Result:
    """Let FLAML search LightGBM's settings for `budget` seconds, and refit."""
    encoder = fit_encoder(given.known)
    names = [f"f{i}" for i in range(len(encoder.names))]
    known = pd.DataFrame(encoder.encode(given.known.features).matrix, columns=names)
    later = pd.DataFrame(encoder.encode(given.later.features).matrix, columns=names)
    learner = _automl()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = time.perf_counter()
        learner.fit(
            X_train=known,
            y_train=given.known.label.astype(int),
            task="classification",
            metric="log_loss",
            estimator_list=["lgbm"],
            time_budget=budget,
            eval_method="cv",
            split_type=_Splitter(given.inner),
            n_jobs=1,
            seed=SEED,
            verbose=0,
        )
        seconds = time.perf_counter() - begin
        found = learner.predict_proba(later)  # None when the time was too short for one model
    if found is None:
        return Result(math.inf, seconds)
    return Result(log_loss(found[:, 1], given.later.label), seconds)


def frame_of(built: FeatureBuild, target: str) -> TrainingFrame:
    """Return the labelled rows of a company."""
    info = built.features.info
    return training_frame(built.labels[target], built.snapshots, built.loaded, built.store, info)


def kept(folder: Path, make: Callable[[], TrainingFrame]) -> TrainingFrame:
    """Return a frame that lies in a folder as Parquet, or make it and lay it there."""
    if not (folder / "info.json").exists():
        frame = make()
        folder.mkdir(parents=True, exist_ok=True)
        frame.rows.to_parquet(folder / "rows.parquet")
        frame.features.to_parquet(folder / "features.parquet")
        info = {"target": frame.target, "info": [item.as_dict() for item in frame.info]}
        (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")
    plain = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    return TrainingFrame(
        plain["target"],
        pd.read_parquet(folder / "rows.parquet"),
        pd.read_parquet(folder / "features.parquet"),
        tuple(FeatureInfo(**item) for item in plain["info"]),
    )


def _simulated(folder: Path, accounts: int, say: Progress) -> TrainingFrame:
    return frame_of(simulated(folder, accounts, MONTHS, say)[1], "churn")


def _online_retail(folder: Path, data: str, say: Progress) -> TrainingFrame:
    company = load_company(ONLINE_RETAIL)
    state = State(folder.resolve() / "online-retail")
    files = data_folder(company, ONLINE_RETAIL, data)
    workspace = Workspace(company, ONLINE_RETAIL, files, state)
    return frame_of(build_features(workspace, company.clock(), say), "churn")


def measure(
    folder: Path,
    data: str | None,
    say: Progress = lambda _: None,
    *,
    accounts: int = ACCOUNTS,
    budgets: Sequence[int] = BUDGETS,
) -> list[Measure]:
    """Return both, on the simulated company and, where its data is at hand, on Online Retail.

    Parameters
    ----------
    folder : Path
        Keeps the companies and their frames.
    data : str or None
        Folder of the public data; without it Online Retail is left out.
    say : callable
        Is told one line per step.
    accounts : int
        Of the simulated company.
    budgets : sequence of int
        Seconds of search.
    """
    name = f"simulated company, {accounts:,} accounts × {MONTHS} months"
    frames = {
        name: kept(folder / f"frame-{accounts}x{MONTHS}", lambda: _simulated(folder, accounts, say))
    }
    if data:
        frames["Online Retail"] = kept(
            folder / "frame-online-retail", lambda: _online_retail(folder, data, say)
        )
    else:
        say("Online Retail is left out: --data names no folder with its files")
    found: list[Measure] = []
    for where, frame in frames.items():
        found += _compare(where, contest(frame, "churn"), budgets, say)
    return found


def _compare(
    where: str, given: Contest, budgets: Sequence[int], say: Progress
) -> Iterator[Measure]:
    mine, theirs = [], []
    for budget in budgets:
        say(f"{where}: {budget} s each, {len(given.known):,} rows")
        mine.append(ours(given, budget))
        theirs.append(flaml(given, math.ceil(mine[-1].seconds)))
        yield _at_equal_budget(where, budget, mine[-1], theirs[-1])
    yield _time_to_target(where, mine, theirs)


def _at_equal_budget(where: str, budget: int, mine: Result, theirs: Result) -> Measure:
    is_found = math.isfinite(theirs.loss)
    return Measure(
        f"{where}: out-of-time log-loss after {budget} s of search",
        mine.loss,
        "nats",
        "FLAML with LightGBM",
        theirs.loss if is_found else None,
        theirs.loss / mine.loss if is_found else None,
        "lower at an equal budget",
        mine.loss < theirs.loss,
        {
            "our seconds": mine.seconds,
            "their seconds": theirs.seconds,
            "they found a model": is_found,
        },
    )


def _time_to_target(where: str, mine: Sequence[Result], theirs: Sequence[Result]) -> Measure:
    found = [item for item in theirs if math.isfinite(item.loss)]
    best = min(found or theirs, key=lambda item: item.loss)
    seconds = next((item.seconds for item in mine if item.loss <= best.loss), math.inf)
    return Measure(
        f"{where}: seconds to FLAML's best log-loss ({best.loss:.4f})",
        seconds,
        "s",
        "FLAML with LightGBM",
        best.seconds,
        best.seconds / seconds,
        "not slower",
        seconds <= best.seconds,
        {"ours": [item.loss for item in mine], "theirs": [item.loss for item in found]},
    )
