"""The search for tree settings: Optuna on inner time folds, resumable after a kill."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import lightgbm
import numpy as np
import optuna
import pandas as pd
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from configs.company import Tuning
from configs.hashing import digest
from training.bundle import sigmoid
from training.fit import DEFAULT_TREES, Fitted, Recipe, dataset, fit, fit_encoder
from training.frame import TrainingFrame
from training.splits import Fold, Folds

SPACE: Mapping[str, tuple[str, float, float]] = {
    "num_leaves": ("int", 4, 15),
    "max_depth": ("int", 2, 6),
    "learning_rate": ("log", 0.02, 0.1),
    "min_data_in_leaf": ("int_log", 10, 300),
    "feature_fraction": ("float", 0.2, 1.0),
    "bagging_fraction": ("float", 0.5, 1.0),
    "lambda_l2": ("log", 0.1, 100.0),
}
"""What is searched, as (scale, low, high). Leaves and depth are bounded because the cost of
explaining a score grows with both, and quality does not."""

MAX_ROUNDS, PATIENCE, NEWTON_STEPS = 400, 30, 30
LEVEL_FREE = "level_free_logloss"
HEARTBEAT_SECONDS, GRACE_SECONDS = 5, 15
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


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
        One row per trial: number, state, value (mean log-loss over inner folds), rounds, seconds,
        and one column per setting.
    study : str
        Name of the study in the storage.
    note : str
        Why the best trial was not taken; empty when it was.
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


def search(
    recipe: Recipe, frame: TrainingFrame, folds: Folds, tuning: Tuning, *, storage_url: str
) -> Search:
    """Search tree settings by mean level-free log-loss over inner folds.

    The number of rounds is not searched: it is read off the mean of the folds' learning curves.
    A second call with the same data, folds and configuration goes on where the first stopped.

    Parameters
    ----------
    recipe : Recipe
        Kind ``lightgbm``; its first seed is used in every trial.
    frame : TrainingFrame
        Rows that may be looked at: labels known at the cut-off the search stands for.
    folds : Folds
        Inner folds of `frame`.
    tuning : Tuning
        Trials and seconds allowed.
    storage_url : str
        SQLAlchemy URL of Optuna's storage.
    """
    name = study_name(recipe, frame, folds)
    with _quiet(), _storage(storage_url) as storage:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            load_if_exists=True,
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=recipe.seeds[0]),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(dict(DEFAULT_TREES))
        inner = _inner_folds(recipe, frame, folds)
        _run(study, recipe, inner, tuning)
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not finished:
            return Search(dict(recipe.trees), recipe.rounds, _table(study), name)
        best = study.best_trial
        found = replace(recipe, trees=dict(best.params), rounds=int(best.user_attrs["rounds"]))
        gain, error = gain_over(recipe, found, inner)
        if gain < error:
            note = (
                f"the search's best settings beat the default by {gain:.4f} log-loss with a "
                f"standard error of {error:.4f}: the default is kept"
            )
            return Search(dict(recipe.trees), recipe.rounds, _table(study), name, note)
        return Search(dict(found.trees), found.rounds, _table(study), name)


def gain_over(default: Recipe, found: Recipe, folds: Sequence[_InnerFold]) -> tuple[float, float]:
    """Return how much log-loss `found` saves over `default`, and its standard error.

    The best of many trials looks better than it is; it is taken only when it wins by more than
    the noise of the comparison (the one-standard-error rule of Breiman et al., 1984), clustered
    by entity because the rows of one entity are not independent.
    """
    gains, entities = [], []
    for fold in folds:
        before, after = (_row_losses(recipe, fold) for recipe in (default, found))
        gains.append(before - after)
        entities.append(fold.entity)
    gain = np.concatenate(gains)
    codes = np.unique(np.concatenate(entities), return_inverse=True)[1]
    sums = np.bincount(codes, weights=gain - gain.mean())
    return float(gain.mean()), float(np.sqrt((sums**2).sum()) / len(gain))


def _row_losses(recipe: Recipe, fold: _InnerFold) -> np.ndarray:
    booster = lightgbm.train(
        {**fold.train.params, **recipe.trees, "seed": recipe.seeds[0]},
        fold.train,
        num_boost_round=recipe.rounds,
    )
    raw = np.asarray(booster.predict(fold.matrix, raw_score=True, num_threads=1))
    return level_free_losses(raw, fold.label)


def study_name(recipe: Recipe, frame: TrainingFrame, folds: Folds) -> str:
    """Return the identity of a search: data, folds, recipe, space and what is minimised."""
    identity = digest(
        frame.fingerprint(),
        [[str(fold.cutoff), str(fold.until), len(fold.train)] for fold in folds.folds],
        recipe.as_dict(),
        dict(SPACE),
        [MAX_ROUNDS, PATIENCE, LEVEL_FREE],
    )
    return f"{frame.target}-{identity}"


def _run(study: optuna.Study, recipe: Recipe, folds: list[_InnerFold], tuning: Tuning) -> None:
    """Go on until the study holds the configured number of finished trials."""
    if len(study.get_trials(deepcopy=False, states=_FINISHED)) >= tuning.trials:
        return
    study.optimize(
        lambda trial: _objective(trial, recipe, folds),
        timeout=tuning.timeout_seconds,
        callbacks=[MaxTrialsCallback(tuning.trials, states=_FINISHED)],
    )


def _objective(trial: Trial, recipe: Recipe, folds: list[_InnerFold]) -> float:
    settings = _suggest(trial)
    curves: list[np.ndarray] = []
    for step, fold in enumerate(folds):
        curves.append(_learning_curve(replace(recipe, trees=settings), fold))
        mean = mean_curve(curves)
        trial.report(float(mean.min()), step)
        if step < len(folds) - 1 and trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("rounds", int(mean.argmin()) + 1)
    return float(mean.min())


def _suggest(trial: Trial) -> dict[str, float]:
    return {
        name: (
            trial.suggest_int(name, int(low), int(high), log=scale == "int_log")
            if scale.startswith("int")
            else trial.suggest_float(name, low, high, log=scale == "log")
        )
        for name, (scale, low, high) in SPACE.items()
    }


def _learning_curve(recipe: Recipe, fold: _InnerFold) -> np.ndarray:
    """Return the level-free log-loss of the test rows after each round, until it stops falling."""
    history: dict[str, dict[str, list[float]]] = {}
    lightgbm.train(
        {**fold.train.params, **recipe.trees, "seed": recipe.seeds[0], "metric": "None"},
        fold.train,
        num_boost_round=MAX_ROUNDS,
        valid_sets=[fold.test],
        valid_names=["test"],
        feval=_level_free,
        callbacks=[
            lightgbm.record_evaluation(history),
            lightgbm.early_stopping(PATIENCE, verbose=False),
        ],
    )
    return np.array(history["test"][LEVEL_FREE])


def _level_free(raw: np.ndarray, rows: lightgbm.Dataset) -> tuple[str, float, bool]:
    return LEVEL_FREE, level_free_loss(raw, np.asarray(rows.get_label(), np.float64)), False


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
    shift = 0.0
    for _ in range(NEWTON_STEPS if label.min() < label.max() else 0):
        p = sigmoid(raw + shift)
        step = float((label - p).sum() / max(float((p * (1.0 - p)).sum()), 1e-12))
        shift += float(np.clip(step, -2.0, 2.0))
        if abs(step) < 1e-9:
            break
    moved = raw + shift
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


def _inner_folds(recipe: Recipe, frame: TrainingFrame, folds: Folds) -> list[_InnerFold]:
    """Bin the rows of each inner fold once; every trial reuses them."""
    made = []
    for fold in folds.folds:
        train, test = frame.take(fold.train), frame.take(fold.test)
        encoder = fit_encoder(train)
        rows = dataset(recipe, encoder, train, encoder.encode(train.features).matrix)
        matrix = encoder.encode(test.features).matrix
        held = dataset(recipe, encoder, test, matrix, rows)
        entity = test.rows["entity_id"].to_numpy(dtype=str)
        made.append(_InnerFold(rows.construct(), held.construct(), matrix, test.label, entity))
    return made


@contextmanager
def _storage(url: str) -> Iterator[RDBStorage]:
    """Open the storage; a trial whose process died is found by its missing heartbeat and redone."""
    connect = {"timeout": 30} if url.startswith("sqlite") else {}
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": connect},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
    )
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's per-trial log lines off the terminal, and its word that heartbeats are new.

    Without heartbeats a trial whose process was killed would count as running for ever.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _table(study: optuna.Study) -> pd.DataFrame:
    return pd.DataFrame([_row(trial) for trial in study.get_trials(deepcopy=False)])


def _row(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "rounds": trial.user_attrs.get("rounds"),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        **trial.params,
    }


STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Prior variances tried for linear weights."""


def choose_strength(recipe: Recipe, frame: TrainingFrame, folds: Folds) -> float:
    """Return the prior variance of linear weights with the least mean log-loss over inner folds."""
    losses = [
        np.mean(
            [
                _loss(fit(replace(recipe, strength=strength), frame.take(fold.train)), frame, fold)
                for fold in folds.folds
            ]
        )
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def _loss(fitted: Fitted, frame: TrainingFrame, fold: Fold) -> float:
    test = frame.take(fold.test)
    return level_free_loss(fitted.raw(test), test.label)
