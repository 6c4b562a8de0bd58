"""Nested cross-validation: settings and calibration chosen on the training rows of each fold.

A table with a single as_of has no earlier rows to choose settings on and no later rows to test on.
Its folds hold out accounts, and all choices for a fold (tree settings, the strength of a prior, the
calibration) are made on inner folds of its own training rows, without its test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from configs.schema.company import Training
from training.data.splits import Folds, count_events, make_folds
from training.data.training_frame import TrainingFrame
from training.fitting.calibration import fit_calibration
from training.fitting.fit import TrainingConfig, choose_tier, fit
from training.fitting.tune import choose_strength, search, space_for
from training.model.bundle import sigmoid
from training.model.manifest_parts import Calibration

CALIBRATION_FOLDS = 3


def choose_config(
    default: TrainingConfig, known: TrainingFrame, settings: Training, storage_url: str
) -> tuple[TrainingConfig, pd.DataFrame, str]:
    """Choose settings on inner folds of `known`.

    Returns
    -------
    config : TrainingConfig
        Best settings, or the default if none is clearly better.
    trials : pandas.DataFrame
        Of the search (`training.fitting.tune.Search`); empty without one.
    note : str
        Gain from the search, or the reason for the default; empty without a search.
    """
    inner = make_folds(
        known,
        folds=settings.tuning.inner_folds,
        fold_days=settings.fold_days,
        seed=settings.seed,
    )
    if default.kind == "linear":
        strength = choose_strength(default, known, inner)
        return replace(default, strength=strength), pd.DataFrame(), ""
    space = space_for(choose_tier(count_events(known.rows)), settings.tuning)
    found = search(default, known, inner, settings.tuning, storage_url=storage_url, space=space)
    return replace(default, trees=found.trees, rounds=found.rounds), found.trials, found.note


def choose_per_fold(
    default: TrainingConfig,
    frame: TrainingFrame,
    folds: Folds,
    settings: Training,
    storage_url: str,
) -> tuple[TrainingConfig, ...]:
    """Return the settings of each fold, chosen on its training rows."""
    return tuple(
        choose_config(default, frame.take(fold.train), settings, storage_url)[0]
        for fold in folds.folds
    )


def calibrated(
    frame: TrainingFrame,
    folds: Folds,
    configs: Sequence[TrainingConfig],
    raw: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return probabilities of the test rows, each fold calibrated on its training rows.

    Parameters
    ----------
    frame : TrainingFrame
        All rows.
    folds : Folds
        Over accounts.
    configs : sequence of TrainingConfig
        One per fold.
    raw : numpy.ndarray
        Log-odds of the test rows, one fold after the other.
    seed : int
        Of the inner folds.
    """
    parts, start = [], 0
    for fold, config in zip(folds.folds, configs, strict=True):
        end = start + len(fold.test)
        calibration = inner_calibration(frame.take(fold.train), config, seed)
        parts.append(sigmoid(calibration(raw[start:end])))
        start = end
    return np.concatenate(parts)


def inner_calibration(known: TrainingFrame, config: TrainingConfig, seed: int) -> Calibration:
    """Fit the calibration of a config to its predictions of rows held out of `known`."""
    inner = make_folds(known, folds=CALIBRATION_FOLDS, fold_days=1, seed=seed)
    raw = np.empty(len(known))
    for fold in inner.folds:
        raw[fold.test] = fit(config, known.take(fold.train)).raw(known.take(fold.test))
    return fit_calibration(raw, known.label)
