"""Folds over accounts: settings and calibration from the training rows of a fold alone.

A table with a single as_of has no past to choose on and no future to test on. Accounts are dealt
into folds instead, and whatever is chosen for a fold (tree settings, the strength of a prior, the
calibration) is chosen on inner folds of its own training rows, so that the rows it is tested on
have decided nothing.
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
    config : Recipe
        What did best, or the default where nothing did clearly better.
    trials : pandas.DataFrame
        Of the search (`training.fitting.tune.Search`); empty without one.
    note : str
        What the search gained, or why the default was kept; empty without a search.
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
    """Return one config per fold, chosen on its training rows."""
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
    """Return probabilities of the test rows, each fold calibrated inside its training rows.

    Parameters
    ----------
    frame : TrainingFrame
        All rows.
    folds : Folds
        Over accounts.
    configs : sequence of Recipe
        One per fold.
    raw : numpy.ndarray
        Log-odds of the test rows, one fold after the other.
    seed : int
        Deals the inner folds.
    """
    parts, start = [], 0
    for fold, config in zip(folds.folds, configs, strict=True):
        end = start + len(fold.test)
        inside = calibration_inside(frame.take(fold.train), config, seed)
        parts.append(sigmoid(inside(raw[start:end])))
        start = end
    return np.concatenate(parts)


def calibration_inside(known: TrainingFrame, config: TrainingConfig, seed: int) -> Calibration:
    """Fit the calibration of a config to what it says of rows held out of `known`."""
    inner = make_folds(known, folds=CALIBRATION_FOLDS, fold_days=1, seed=seed)
    raw = np.empty(len(known))
    for fold in inner.folds:
        raw[fold.test] = fit(config, known.take(fold.train)).raw(known.take(fold.test))
    return fit_calibration(raw, known.label)
