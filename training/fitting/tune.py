"""Search for tree settings by Optuna on inner time folds, resumable after a kill.

Several processes can share one search: the `Tuning.workers` started here, and any other
`bellwether train` with the same data, configuration and BELLWETHER_OPTUNA_URL, on any machine.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import lightgbm
import numpy as np
import optuna
import pandas as pd
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from configs.runtime.code_identity import code_digest
from configs.runtime.hashing import digest
from configs.schema.company import Tuning
from training.data.splits import Fold, Folds
from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import level_shift
from training.fitting.fit import (
    FittedModel,
    TrainingConfig,
    dataset,
    fit,
    fit_encoder,
    threads_for,
)
from training.fitting.optuna_study import open_study, trials_table
from training.model.bundle import logit_of
from training.model.manifest_parts import ModelTier

Space = Mapping[str, tuple[str, float, float]]
"""Setting to (scale, low, high)."""

SPACE: Space = {
    "num_leaves": ("int", 4, 15),
    "max_depth": ("int", 2, 6),
    "learning_rate": ("log", 0.02, 0.1),
    "min_data_in_leaf": ("int_log", 10, 300),
    "feature_fraction": ("float", 0.2, 1.0),
    "bagging_fraction": ("float", 0.5, 1.0),
    "lambda_l2": ("log", 0.1, 100.0),
}
"""Default search space. Leaves and depth are limited because the cost of an explanation grows with
both, and quality does not."""

SHALLOW: Space = {"num_leaves": ("int", 4, 8), "max_depth": ("int", 2, 4)}
"""Limits in the tier of shallow trees: with few events, larger trees overfit accounts."""

MAX_ROUNDS, PATIENCE = 400, 30

SEARCH_ROWS = 40_000
"""Largest number of training rows of a trial in a fold: settings of large tables are searched on a
part of the rows, and the final fit uses all rows."""

LEVEL_FREE = "level_free_logloss"
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_UNDER_WAY = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)


def space_for(tier: ModelTier, tuning: Tuning) -> dict[str, tuple[str, float, float]]:
    """Return the search space of a model tier, with the company's own ranges.

    >>> from training.fitting.fit import choose_tier
    >>> [space_for(choose_tier(n), Tuning())["num_leaves"] for n in (200, 2000)]
    [('int', 4, 8), ('int', 4, 15)]
    """
    usual: dict[str, tuple[str, float, float]] = {
        **SPACE,
        **(SHALLOW if tier.name == "trees" else {}),
    }
    own: dict[str, tuple[str, float, float]] = {
        name: (usual[name][0], item.low, item.high) for name, item in tuning.space.items()
    }
    return usual | own


@dataclass(frozen=True)
class Search:
    """Result of a search.

    Attributes
    ----------
    trees : dict of str to float
        Best settings.
    rounds : int
        Best number of boosting rounds.
    trials : pandas.DataFrame
        One row per trial: number, state, value (mean log-loss over inner folds; none for
        pruned trials), rounds, seconds, worker (the process that ran it) and one column per
        setting.
    study : str
        Name of the study in the storage.
    note : str
        Gain in log-loss, or the reason for keeping the default, in words.
    """

    trees: dict[str, float]
    rounds: int
    trials: pd.DataFrame
    study: str
    note: str = ""


@dataclass(frozen=True)
class _InnerFold:
    train: lightgbm.Dataset
    test: lightgbm.Dataset
    matrix: np.ndarray
    label: np.ndarray
    entity: np.ndarray


@dataclass(frozen=True)
class TrialTask:
    """One search, as passed to every process.

    Attributes
    ----------
    config : TrainingConfig
        Kind ``lightgbm``; its first seed is used in every trial.
    frame : TrainingFrame
        Rows with labels known at the cut-off of the search.
    folds : Folds
        Inner folds of `frame`.
    tuning : Tuning
        Limits on trials, seconds and processes.
    space : mapping
        Search space.
    storage_url : str
        SQLAlchemy URL of Optuna's storage.
    """

    config: TrainingConfig
    frame: TrainingFrame
    folds: Folds
    tuning: Tuning
    space: Space
    storage_url: str

    @property
    def name(self) -> str:
        """Name of the study."""
        return study_name(self.config, self.frame, self.folds, self.space)


def search(
    config: TrainingConfig,
    frame: TrainingFrame,
    folds: Folds,
    tuning: Tuning,
    *,
    storage_url: str,
    space: Space = SPACE,
) -> Search:
    """Search tree settings by mean level-free log-loss over inner folds.

    The number of rounds is not searched: it is the minimum of the mean learning curve of the folds.
    A second call with the same data, folds and configuration continues the first; simultaneous
    calls share the trials.

    Parameters
    ----------
    config, frame, folds, tuning, storage_url, space
        As in `TrialTask`.
    """
    threads = config.threads or min(threads_for(len(frame), 0), _fair_share(tuning.workers))
    task = TrialTask(replace(config, threads=threads), frame, folds, tuning, space, storage_url)
    runner = _Runner(task, time.monotonic())
    with open_study(storage_url, task.name, seed=config.seeds[0]) as study:
        if not study.get_trials(deepcopy=False, states=_UNDER_WAY) and _is_inside(
            config.trees, space
        ):
            study.enqueue_trial(dict(config.trees))
        with _worker_processes(task):
            runner.run(study)
        table = trials_table(study)
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            note = "no trial finished within the time limit: the default settings are used"
            return Search(dict(config.trees), config.rounds, table, task.name, note)
        return _chosen(study, runner, table)


def _chosen(study: optuna.Study, runner: _Runner, table: pd.DataFrame) -> Search:
    """Return the best trial's settings if they are better than the default's by more than noise.

    The default's own rounds are chosen first, by the same rule.
    """
    default = chosen = tried = runner.task.config
    for trial in (_trial_of(study, default), study.best_trial):
        if trial is None:
            continue
        tried = replace(default, trees=dict(trial.params), rounds=int(trial.user_attrs["rounds"]))
        if compare_trials(chosen, tried, runner.folds, runner.fitted).is_clear:
            chosen = tried
    is_taken = chosen is not default
    found = compare_trials(default, chosen if is_taken else tried, runner.folds, runner.fitted)
    note = found.words(is_taken=is_taken)
    return Search(dict(chosen.trees), chosen.rounds, table, runner.task.name, note)


def _trial_of(study: optuna.Study, config: TrainingConfig) -> FrozenTrial | None:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((trial for trial in trials if trial.params == dict(config.trees)), None)


def _fair_share(workers: int) -> int:
    return max(1, (os.cpu_count() or 1) // workers)


def _is_inside(settings: Mapping[str, float], space: Space) -> bool:
    return all(low <= settings[name] <= high for name, (_, low, high) in space.items())


@contextmanager
def _worker_processes(task: TrialTask) -> Iterator[None]:
    """Run further processes of the search until it is finished."""
    context = multiprocessing.get_context("spawn")  # LightGBM's threads do not survive a fork
    others = [
        context.Process(target=run_trials, args=(task, os.getpid()), daemon=True)
        for _ in range(task.tuning.workers - 1)
    ]
    for process in others:
        process.start()
    try:
        yield
    finally:
        for process in others:
            process.join()


def run_trials(task: TrialTask, parent: int) -> None:
    """Run trials of a search in a separate process, until it is finished or `parent` ended."""
    with open_study(task.storage_url, task.name, seed=task.config.seeds[0]) as study:
        _Runner(task, time.monotonic()).run(study, parent=parent)


FittedBoosters = Mapping[tuple[tuple[str, float], ...], Sequence[lightgbm.Booster]]
"""Fitted boosters by their settings, one per fold."""


@dataclass(frozen=True)
class ComparedTrials:
    """Comparison of two configs on the same test rows of the inner folds.

    Attributes
    ----------
    before, after : float
        Mean level-free log-loss of the default and of the settings found.
    error : float
        Standard error of the difference.
    """

    before: float
    after: float
    error: float

    @property
    def gain(self) -> float:
        """Decrease in log-loss; negative if the settings found are worse."""
        return self.before - self.after

    @property
    def is_clear(self) -> bool:
        """Whether the gain exceeds one standard error.

        The best of many trials is overestimated, hence the one-standard-error rule of Breiman et
        al. (1984).
        """
        return self.gain > 0.0 and self.gain >= self.error

    def words(self, *, is_taken: bool) -> str:
        """Return the comparison in a sentence for reports.

        >>> print(ComparedTrials(0.24, 0.2346, 0.001).words(is_taken=True))
        tuning lowered log-loss from 0.2400 to 0.2346 on the test rows of the search (standard \
error of the difference 0.0010)
        >>> print(ComparedTrials(0.24, 0.2524, 0.0077).words(is_taken=False))
        tuning did not improve on the default settings, which are used: log-loss on the \
test rows of the search 0.2400 with them, 0.2524 with the best settings tried
        """
        if is_taken:
            return (
                f"tuning lowered log-loss from {self.before:.4f} to {self.after:.4f} on the test "
                f"rows of the search (standard error of the difference {self.error:.4f})"
            )
        if self.gain <= 0.0:
            return (
                "tuning did not improve on the default settings, which are used: log-loss "
                f"on the test rows of the search {self.before:.4f} with them, {self.after:.4f} "
                "with the best settings tried"
            )
        return (
            f"tuning lowered log-loss from {self.before:.4f} to {self.after:.4f} on the test rows "
            f"of the search, which may be chance (standard error of the difference "
            f"{self.error:.4f}): the default settings are kept"
        )


def compare_trials(
    default: TrainingConfig,
    found: TrainingConfig,
    folds: Sequence[_InnerFold],
    fitted: FittedBoosters,
) -> ComparedTrials:
    """Return the log-loss of two configs on the same rows, and the error of their difference.

    Fitted boosters are reused. The error is clustered by entity, because the rows of one entity are
    not independent.
    """
    known = [fitted.get(_key(config.trees)) for config in (default, found)]
    before, after = (
        np.concatenate(
            [
                _row_losses(config, fold, boosters[step] if boosters else None)
                for step, fold in enumerate(folds)
            ]
        )
        for config, boosters in zip((default, found), known, strict=True)
    )
    gain = before - after
    codes = np.unique(np.concatenate([fold.entity for fold in folds]), return_inverse=True)[1]
    sums = np.bincount(codes, weights=gain - gain.mean())
    error = float(np.sqrt((sums**2).sum()) / len(gain))
    return ComparedTrials(float(before.mean()), float(after.mean()), error)


def _key(settings: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(settings.items()))


def _row_losses(
    config: TrainingConfig, fold: _InnerFold, fitted: lightgbm.Booster | None
) -> np.ndarray:
    """Return the test rows' losses after the config's rounds, adding rounds if needed."""
    settings = {**fold.train.params, **config.trees, "seed": config.seeds[0]}
    booster = fitted or lightgbm.train(settings, fold.train, num_boost_round=config.rounds)
    while booster.current_iteration() < config.rounds:
        if booster.update():
            break  # no leaf can be split any more
    raw = booster.predict(fold.matrix, raw_score=True, num_iteration=config.rounds, num_threads=1)
    return level_free_losses(np.asarray(raw), fold.label)


def study_name(
    config: TrainingConfig, frame: TrainingFrame, folds: Folds, space: Space = SPACE
) -> str:
    """Return the identity of a search: data, folds, config, space and code."""
    identity = digest(
        frame.fingerprint(),
        [[str(fold.cutoff), str(fold.until), len(fold.train)] for fold in folds.folds],
        config.as_dict(),
        dict(space),
        code_digest(__name__),
    )
    return f"{frame.target}-{identity}"


class _Runner:
    """Trials of one process in a search.

    Parameters
    ----------
    task : TrialTask
        The search.
    begin : float
        Start of the time limit, on the monotonic clock.
    """

    def __init__(self, task: TrialTask, begin: float) -> None:
        self.task = task
        self.folds = _inner_folds(task.config, task.frame, task.folds)
        self.fitted: dict[tuple[tuple[str, float], ...], list[lightgbm.Booster]] = {}
        self._best = math.inf
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        seconds = task.tuning.timeout_seconds
        self._until = math.inf if seconds is None else begin + seconds

    def run(self, study: optuna.Study, *, parent: int | None = None) -> None:
        """Run trials until the study has the configured number of them, or time is up."""
        allowed = self.task.tuning.trials
        if len(study.get_trials(deepcopy=False, states=_FINISHED)) >= allowed:
            return

        def stop_in_time(study: optuna.Study, _trial: FrozenTrial) -> None:
            is_orphan = parent is not None and os.getppid() != parent
            if is_orphan or time.monotonic() >= self._until:
                study.stop()

        left = self._until - time.monotonic()
        study.optimize(
            self._objective,
            timeout=None if left == math.inf else max(left, 0.0),
            callbacks=[MaxTrialsCallback(allowed, states=_FINISHED), stop_in_time],
        )

    def _objective(self, trial: Trial) -> float:
        trial.set_user_attr("worker", self._worker)
        config = replace(self.task.config, trees=_suggest(trial, self.task.space))
        curves: list[np.ndarray] = []
        boosters: list[lightgbm.Booster] = []
        for step, fold in enumerate(self.folds):
            curve, booster = _learning_curve(config, fold, self._until)
            curves.append(curve)
            boosters.append(booster)
            mean = mean_curve(curves)
            trial.report(float(mean.min()), step)
            if step < len(self.folds) - 1 and trial.should_prune():
                raise optuna.TrialPruned
        rounds = int(mean.argmin()) + 1
        value = self._value(replace(config, rounds=rounds), boosters)
        trial.set_user_attr("rounds", rounds)
        self._store(config, boosters, value)
        return value

    def _value(self, config: TrainingConfig, boosters: list[lightgbm.Booster]) -> float:
        """Return the mean loss over folds after the same number of rounds in each.

        The mean curve extends a fold that stopped early by its last value; here rounds are added.
        """
        losses = map(_row_losses, [config] * len(boosters), self.folds, boosters)
        return float(np.mean([part.mean() for part in losses]))

    def _store(
        self, config: TrainingConfig, boosters: list[lightgbm.Booster], value: float
    ) -> None:
        """Store the boosters of the default and of the best trial, for the final comparison."""
        default, key = _key(self.task.config.trees), _key(config.trees)
        if value < self._best:
            self._best = value
            self.fitted = {name: item for name, item in self.fitted.items() if name == default}
            self.fitted[key] = boosters
        elif key == default:
            self.fitted[key] = boosters


def _suggest(trial: Trial, space: Space) -> dict[str, float]:
    return {
        name: (
            trial.suggest_int(name, int(low), int(high), log=scale == "int_log")
            if scale.startswith("int")
            else trial.suggest_float(name, low, high, log=scale == "log")
        )
        for name, (scale, low, high) in space.items()
    }


def _learning_curve(
    config: TrainingConfig, fold: _InnerFold, until: float
) -> tuple[np.ndarray, lightgbm.Booster]:
    """Return the level-free log-loss of the test rows after each round, until it stops falling.

    Raises
    ------
    optuna.TrialPruned
        Time is up: the unfinished trial does not count.
    """
    history: dict[str, dict[str, list[float]]] = {}

    def in_time(_: object) -> None:
        if time.monotonic() >= until:
            raise optuna.TrialPruned("time is up")

    booster = lightgbm.train(
        {**fold.train.params, **config.trees, "seed": config.seeds[0], "metric": "None"},
        fold.train,
        num_boost_round=MAX_ROUNDS,
        valid_sets=[fold.test],
        valid_names=["test"],
        feval=_level_free,
        keep_training_booster=True,
        callbacks=[
            lightgbm.record_evaluation(history),
            in_time,
            lightgbm.early_stopping(PATIENCE, verbose=False),
        ],
    )
    return np.array(history["test"][LEVEL_FREE]), booster


def _level_free(p: np.ndarray, rows: lightgbm.Dataset) -> tuple[str, float, bool]:
    """Evaluate a round for LightGBM, which passes probabilities under its own objective.

    A `feval` gets log-odds only with a custom objective.
    """
    label = np.asarray(rows.get_label(), dtype=np.float64)
    return LEVEL_FREE, level_free_loss(logit_of(p), label), False


def level_free_loss(raw: np.ndarray, label: np.ndarray) -> float:
    """Return the mean log-loss of log-odds after their optimal constant shift.

    The level of a period moves with the season and is corrected by calibration; otherwise a search
    prefers underconfident models wherever the level of the next period differs.

    >>> label = np.array([0.0, 1.0, 1.0, 0.0])
    >>> raw = np.array([-1.0, 1.0, 2.0, 0.5])
    >>> abs(level_free_loss(raw, label) - level_free_loss(raw + 3.0, label)) < 1e-9
    True
    """
    return float(level_free_losses(raw, label).mean())


def level_free_losses(raw: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the level-free log-loss per row; without a shift if there is one class only."""
    moved = raw + level_shift(raw, label)
    losses: np.ndarray = np.logaddexp(0.0, moved) - label * moved
    return losses


def mean_curve(curves: list[np.ndarray]) -> np.ndarray:
    """Return the mean of learning curves; one that stopped early is extended by its last value.

    >>> mean_curve([np.array([3.0, 1.0]), np.array([3.0, 2.0, 4.0])]).tolist()
    [3.0, 1.5, 2.5]
    """
    longest = max(len(curve) for curve in curves)
    padded = [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves]
    mean: np.ndarray = np.mean(padded, axis=0)
    return mean


def _inner_folds(config: TrainingConfig, frame: TrainingFrame, folds: Folds) -> list[_InnerFold]:
    """Bin the rows of each inner fold once, for all trials."""
    made = []
    for fold in folds.folds:
        train, test = _subset(frame.take(fold.train)), frame.take(fold.test)
        encoder = fit_encoder(train)
        rows = dataset(config, encoder, train, encoder.encode(train.features).matrix)
        matrix = encoder.encode(test.features).matrix
        held = dataset(config, encoder, test, matrix, rows)
        entity = test.rows["entity_id"].to_numpy(dtype=str)
        made.append(_InnerFold(rows.construct(), held.construct(), matrix, test.label, entity))
    return made


def _subset(train: TrainingFrame, most: int = SEARCH_ROWS) -> TrainingFrame:
    """Return all rows of some entities, about `most` rows; all rows of a small table.

    The selection depends only on the ids, so that all processes and runs use the same rows.
    """
    if len(train) <= most:
        return train
    codes, names = pd.factorize(train.rows["entity_id"].astype(str))
    marks = pd.util.hash_array(np.asarray(names, dtype=object), categorize=False)
    return train.take(np.flatnonzero(marks[codes] < most / len(train) * 2.0**64))


STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Candidate prior variances of linear weights."""


def choose_strength(config: TrainingConfig, frame: TrainingFrame, folds: Folds) -> float:
    """Return the prior variance of linear weights with the lowest mean log-loss on inner folds."""
    losses = [
        np.mean(
            [
                _loss(fit(replace(config, strength=strength), frame.take(fold.train)), frame, fold)
                for fold in folds.folds
            ]
        )
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def _loss(fitted: FittedModel, frame: TrainingFrame, fold: Fold) -> float:
    test = frame.take(fold.test)
    return level_free_loss(fitted.raw(test), test.label)
