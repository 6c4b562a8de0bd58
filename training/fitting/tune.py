"""The search for tree settings: Optuna on inner time folds, resumable after a kill.

Several processes may share one search: those `Tuning.workers` starts here, and any other
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
"""What is searched unless `Tuning.space` says otherwise. Leaves and depth are bounded because the
cost of explaining a score grows with both, and quality does not."""

SHALLOW: Space = {"num_leaves": ("int", 4, 8), "max_depth": ("int", 2, 4)}
"""Bounds on the rung of shallow trees: with few events, larger trees learn accounts by heart."""

MAX_ROUNDS, PATIENCE = 400, 30

SEARCH_ROWS = 40_000
"""Rows a trial learns from in a fold, at most: settings are found on a part of a large table, in a
fraction of the time; what is fitted with them sees all of it."""

LEVEL_FREE = "level_free_logloss"
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_UNDER_WAY = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)


def space_for(rung: ModelTier, tuning: Tuning) -> dict[str, tuple[str, float, float]]:
    """Return what is searched on a rung; the company's own ranges go before ours.

    >>> from training.fitting.fit import choose_tier
    >>> [space_for(choose_tier(n), Tuning())["num_leaves"] for n in (200, 2000)]
    [('int', 4, 8), ('int', 4, 15)]
    """
    usual: dict[str, tuple[str, float, float]] = {
        **SPACE,
        **(SHALLOW if rung.name == "trees" else {}),
    }
    own: dict[str, tuple[str, float, float]] = {
        name: (usual[name][0], item.low, item.high) for name, item in tuning.space.items()
    }
    return usual | own


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes
    ----------
    trees : dict of str to float
        The best settings.
    rounds : int
        Boosting rounds at which they did best.
    trials : pandas.DataFrame
        One row per trial: number, state, value (mean log-loss over inner folds; none where the
        trial was pruned), rounds, seconds, worker (the process that ran it) and one column per
        setting.
    study : str
        Name of the study in the storage.
    note : str
        In words: by how much tuning lowered the log-loss, or why the default is kept.
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
    """One search, as it is handed to every process that takes part.

    Attributes
    ----------
    config : Recipe
        Kind ``lightgbm``; its first seed is used in every trial.
    frame : TrainingFrame
        Rows that may be looked at: labels known at the cut-off the search stands for.
    folds : Folds
        Inner folds of `frame`.
    tuning : Tuning
        Trials, seconds and processes allowed.
    space : mapping
        What is searched.
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

    The number of rounds is not searched: it is read off the mean of the folds' learning curves.
    A second call with the same data, folds and configuration goes on where the first stopped; calls
    at the same time share the trials.

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
        with _helpers(task):
            runner.run(study)
        table = trials_table(study)
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            note = "no trial came to its end in the time given: the default is kept"
            return Search(dict(config.trees), config.rounds, table, task.name, note)
        return _chosen(study, runner, table)


def _chosen(study: optuna.Study, runner: _Runner, table: pd.DataFrame) -> Search:
    """Return the best trial's settings where they beat the default's by more than noise.

    The default is first given the rounds its own learning curves ask for, by the same rule.
    """
    default = chosen = tried = runner.task.config
    for trial in (_trial_of(study, default), study.best_trial):
        if trial is None:
            continue
        tried = replace(default, trees=dict(trial.params), rounds=int(trial.user_attrs["rounds"]))
        if compare_trials(chosen, tried, runner.folds, runner.grown).is_clear:
            chosen = tried
    is_taken = chosen is not default
    found = compare_trials(default, chosen if is_taken else tried, runner.folds, runner.grown)
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
def _helpers(task: TrialTask) -> Iterator[None]:
    """Let other processes take part until the search is over."""
    context = multiprocessing.get_context("spawn")  # LightGBM's threads do not survive a fork
    others = [
        context.Process(target=help_search, args=(task, os.getpid()), daemon=True)
        for _ in range(task.tuning.workers - 1)
    ]
    for process in others:
        process.start()
    try:
        yield
    finally:
        for process in others:
            process.join()


def help_search(task: TrialTask, parent: int) -> None:
    """Take part in a search in a process of its own, until it is over or `parent` is gone."""
    with open_study(task.storage_url, task.name, seed=task.config.seeds[0]) as study:
        _Runner(task, time.monotonic()).run(study, parent=parent)


Grown = Mapping[tuple[tuple[str, float], ...], Sequence[lightgbm.Booster]]
"""Boosters by the settings they were grown with, one per fold."""


@dataclass(frozen=True)
class ComparedTrials:
    """Two configs on the same test rows of the same inner folds.

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
        """Log-loss saved; negative where the settings found do worse."""
        return self.before - self.after

    @property
    def is_clear(self) -> bool:
        """Whether the settings found win by more than the noise of the comparison.

        The best of many trials looks better than it is, hence the one-standard-error rule of
        Breiman et al. (1984).
        """
        return self.gain > 0.0 and self.gain >= self.error

    def words(self, *, is_taken: bool) -> str:
        """Return the comparison in a sentence for reports.

        >>> print(Compared(0.24, 0.2346, 0.001).words(is_taken=True))
        tuning lowered log-loss from 0.2400 to 0.2346 on the test rows of the search (standard \
error of the difference 0.0010)
        >>> print(Compared(0.24, 0.2524, 0.0077).words(is_taken=False))
        tuning found nothing better than the default settings, which are kept: log-loss on the \
test rows of the search 0.2400 with them, 0.2524 with the best settings tried
        """
        if is_taken:
            return (
                f"tuning lowered log-loss from {self.before:.4f} to {self.after:.4f} on the test "
                f"rows of the search (standard error of the difference {self.error:.4f})"
            )
        if self.gain <= 0.0:
            return (
                "tuning found nothing better than the default settings, which are kept: log-loss "
                f"on the test rows of the search {self.before:.4f} with them, {self.after:.4f} "
                "with the best settings tried"
            )
        return (
            f"tuning lowered log-loss from {self.before:.4f} to {self.after:.4f} on the test rows "
            f"of the search, which may be chance (standard error of the difference "
            f"{self.error:.4f}): the default settings are kept"
        )


def compare_trials(
    default: TrainingConfig, found: TrainingConfig, folds: Sequence[_InnerFold], grown: Grown
) -> ComparedTrials:
    """Return the log-loss of two configs on the same rows, and the error of their difference.

    Boosters that were grown already are used again, others are grown. The error is clustered by
    entity, because the rows of one entity are not independent.
    """
    known = [grown.get(_key(config.trees)) for config in (default, found)]
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
    config: TrainingConfig, fold: _InnerFold, grown: lightgbm.Booster | None
) -> np.ndarray:
    """Return the test rows' losses after the config's rounds; a booster with fewer grows on."""
    settings = {**fold.train.params, **config.trees, "seed": config.seeds[0]}
    booster = grown or lightgbm.train(settings, fold.train, num_boost_round=config.rounds)
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
    """One process's part in a search.

    Parameters
    ----------
    task : Task
        The search.
    begin : float
        Of the monotonic clock: when its seconds began.
    """

    def __init__(self, task: TrialTask, begin: float) -> None:
        self.task = task
        self.folds = _inner_folds(task.config, task.frame, task.folds)
        self.grown: dict[tuple[tuple[str, float], ...], list[lightgbm.Booster]] = {}
        self._best = math.inf
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        seconds = task.tuning.timeout_seconds
        self._until = math.inf if seconds is None else begin + seconds

    def run(self, study: optuna.Study, *, parent: int | None = None) -> None:
        """Go on until the study holds the configured number of finished trials, or time is up."""
        allowed = self.task.tuning.trials
        if len(study.get_trials(deepcopy=False, states=_FINISHED)) >= allowed:
            return

        def stop_in_time(study: optuna.Study, _trial: FrozenTrial) -> None:
            is_alone = parent is not None and os.getppid() != parent
            if is_alone or time.monotonic() >= self._until:
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
        self._keep(config, boosters, value)
        return value

    def _value(self, config: TrainingConfig, boosters: list[lightgbm.Booster]) -> float:
        """Return the mean loss over folds after the same rounds in each.

        The mean curve takes a fold that stopped early to stay where it stopped; here it goes on.
        """
        losses = map(_row_losses, [config] * len(boosters), self.folds, boosters)
        return float(np.mean([part.mean() for part in losses]))

    def _keep(self, config: TrainingConfig, boosters: list[lightgbm.Booster], value: float) -> None:
        """Keep the boosters of the default and of the best so far: the two are compared at last."""
        default, key = _key(self.task.config.trees), _key(config.trees)
        if value < self._best:
            self._best = value
            self.grown = {name: kept for name, kept in self.grown.items() if name == default}
            self.grown[key] = boosters
        elif key == default:
            self.grown[key] = boosters


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
        The clock passed `until`: what is half done is no trial.
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
    """Measure a round for LightGBM, which hands out probabilities under its own objective.

    Log-odds come to a `feval` only under an objective of the caller's own.
    """
    label = np.asarray(rows.get_label(), dtype=np.float64)
    return LEVEL_FREE, level_free_loss(logit_of(p), label), False


def level_free_loss(raw: np.ndarray, label: np.ndarray) -> float:
    """Return the mean log-loss of log-odds after the one shift that suits them best.

    The level of a period moves with the season and is calibration's business; without taking it
    out, a search prefers timid models wherever the next period's level differs from the last.

    >>> label = np.array([0.0, 1.0, 1.0, 0.0])
    >>> raw = np.array([-1.0, 1.0, 2.0, 0.5])
    >>> abs(level_free_loss(raw, label) - level_free_loss(raw + 3.0, label)) < 1e-9
    True
    """
    return float(level_free_losses(raw, label).mean())


def level_free_losses(raw: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the same per row; with one class alone the level stays as it is."""
    moved = raw + level_shift(raw, label)
    losses: np.ndarray = np.logaddexp(0.0, moved) - label * moved
    return losses


def mean_curve(curves: list[np.ndarray]) -> np.ndarray:
    """Return the mean of learning curves; one that stopped early stays at its last value.

    >>> mean_curve([np.array([3.0, 1.0]), np.array([3.0, 2.0, 4.0])]).tolist()
    [3.0, 1.5, 2.5]
    """
    longest = max(len(curve) for curve in curves)
    padded = [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves]
    mean: np.ndarray = np.mean(padded, axis=0)
    return mean


def _inner_folds(config: TrainingConfig, frame: TrainingFrame, folds: Folds) -> list[_InnerFold]:
    """Bin the rows of each inner fold once; every trial reuses them."""
    made = []
    for fold in folds.folds:
        train, test = _part(frame.take(fold.train)), frame.take(fold.test)
        encoder = fit_encoder(train)
        rows = dataset(config, encoder, train, encoder.encode(train.features).matrix)
        matrix = encoder.encode(test.features).matrix
        held = dataset(config, encoder, test, matrix, rows)
        entity = test.rows["entity_id"].to_numpy(dtype=str)
        made.append(_InnerFold(rows.construct(), held.construct(), matrix, test.label, entity))
    return made


def _part(train: TrainingFrame, most: int = SEARCH_ROWS) -> TrainingFrame:
    """Return all rows of as many entities as have about `most` rows; of a small table, all of it.

    Which entities follows from their ids alone, so that every process and every run takes the same.
    """
    if len(train) <= most:
        return train
    codes, names = pd.factorize(train.rows["entity_id"].astype(str))
    marks = pd.util.hash_array(np.asarray(names, dtype=object), categorize=False)
    return train.take(np.flatnonzero(marks[codes] < most / len(train) * 2.0**64))


STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Prior variances tried for linear weights."""


def choose_strength(config: TrainingConfig, frame: TrainingFrame, folds: Folds) -> float:
    """Return the prior variance of linear weights with the least mean log-loss over inner folds."""
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
