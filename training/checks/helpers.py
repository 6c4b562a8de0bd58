"""Computations shared by checks: AUC of scores and columns, and small refits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from training.checks.context import CheckContext
from training.data.splits import entity_codes
from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import Estimate, Measure, Sample, auc, bootstrap, estimate
from training.evaluation.sampling import MIN_SLICE_EVENTS
from training.fitting.fit import TrainingConfig, fit

MAX_ROWS = 20_000
"""Largest number of training rows of a small refit, which limits the run time of a check."""

MAX_ROUNDS = 150


def lacks_events(rows: pd.DataFrame) -> bool:
    """Return whether either outcome has too few rows to measure a ranking."""
    events = int(rows["label"].sum())
    return min(events, len(rows) - events) < MIN_SLICE_EVENTS


def check_sample(rows: pd.DataFrame, score: np.ndarray) -> Sample:
    """Return a sample of out-of-time rows ranked by a score within test periods."""
    nothing = np.zeros(len(rows))
    label = rows["label"].to_numpy(dtype=np.float64)
    return Sample(label, score, nothing, nothing, entity_codes(rows), rows["fold"].to_numpy())


def auc_interval(context: CheckContext, sample: Sample, measure: Measure = auc) -> Estimate:
    """Return a measure with its 95 % interval, bootstrapped over accounts."""
    settings = context.company.training
    drawn = bootstrap(sample, {"it": measure}, draws=settings.bootstrap_draws, seed=settings.seed)
    return estimate(drawn["it"])


def in_words(found: Estimate) -> str:
    """Return an estimate in words.

    >>> in_words(Estimate(0.712, 0.651, None))
    '0.712 (interval not measurable)'
    """
    if found.value is None:
        return "not measurable"
    if found.low is None or found.high is None:
        return f"{found.value:.3f} (interval not measurable)"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def column_aucs(matrix: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the AUC of each column, ranked within test periods.

    Parameters
    ----------
    matrix : numpy.ndarray
        (rows, columns), no NaN; infinities rank at the ends.
    label : numpy.ndarray
        (rows,), 0 or 1.
    fold : numpy.ndarray
        (rows,), test period of each row.

    Returns
    -------
    numpy.ndarray
        (columns,), in [0, 1]; NaN when no period has both outcomes.

    Examples
    --------
    >>> matrix = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    >>> column_aucs(matrix, np.array([0.0, 0.0, 1.0]), np.zeros(3)).tolist()
    [1.0, 0.5]
    """
    concordant, pairs = np.zeros(matrix.shape[1]), 0.0
    for number in np.unique(fold):
        here = fold == number
        happened = label[here] == 1
        n_events, n_others = int(happened.sum()), int((~happened).sum())
        ranks = rankdata(matrix[here], axis=0)
        concordant += ranks[happened].sum(axis=0) - n_events * (n_events + 1) / 2
        pairs += n_events * n_others
    return concordant / pairs if pairs else np.full(matrix.shape[1], np.nan)


def small_config(context: CheckContext) -> TrainingConfig:
    """Return the model's settings with one seed and few rounds."""
    config = context.config
    return replace(config, seeds=config.seeds[:1], rounds=min(config.rounds, MAX_ROUNDS))


def score_of(
    config: TrainingConfig, train: TrainingFrame, test: TrainingFrame, seed: int
) -> np.ndarray:
    """Fit to all rows of some accounts, at most `MAX_ROWS`, and return the log-odds of `test`."""
    return fit(config, some_accounts(train, MAX_ROWS, seed)).raw(test)


def some_accounts(frame: TrainingFrame, n_rows: int, seed: int) -> TrainingFrame:
    """Return all rows of randomly drawn accounts, about `n_rows` rows."""
    if len(frame) <= n_rows:
        return frame
    code = entity_codes(frame.rows)
    order = np.random.default_rng(seed).permutation(int(code.max()) + 1)
    filled = np.cumsum(np.bincount(code)[order])
    chosen = order[: int(np.searchsorted(filled, n_rows)) + 1]
    return frame.take(np.isin(code, chosen))


def name_list(words: Sequence[str], most: int = 5) -> str:
    """Return the first items and the number of the others.

    >>> name_list(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(words[:most])
    return f"{shown} and {len(words) - most} more" if len(words) > most else shown
