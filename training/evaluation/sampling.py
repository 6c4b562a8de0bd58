"""Samples of out-of-time rows for measures: flagged rows, bootstrap settings, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from configs.schema.team_capacity import DAYS_PER_MONTH, workable
from training.data.splits import entity_codes
from training.evaluation.metrics import Measure, Sample, bootstrap, estimate, flag_top
from training.evaluation.parts import Measures

MODEL, MODEL_RAW = "model", "model_raw"
"""Names of the calibrated and the uncalibrated model among the scores."""

CHAMPION_ITSELF = "champion_itself"
"""Column of the published model's probabilities, NaN before its cut-off."""

MIN_SLICE_EVENTS = 10
"""Smallest number of events for which measures of a slice are shown."""


@dataclass(frozen=True)
class Drawing:
    """Bootstrap settings and the capacity of the team.

    Attributes
    ----------
    draws, seed : int
        Of the bootstrap.
    capacity_per_month : int
        Accounts the team can work in a month.
    fold_days : int
        Length of a test period, in days.
    """

    draws: int
    seed: int
    capacity_per_month: int
    fold_days: int

    @property
    def capacity_per_fold(self) -> float:
        """Accounts the team can work in a test period."""
        return workable(self.capacity_per_month, self.fold_days)


def sample_of(rows: pd.DataFrame, name: str, capacity: float) -> Sample:
    """Return the rows with the probabilities of a model; each fold's top `capacity` are flagged."""
    p = rows[f"p_{name}"].to_numpy(dtype=np.float64)
    flagged = np.zeros(len(rows))
    for number in rows["fold"].unique():
        here = (rows["fold"] == number).to_numpy()
        flagged[here] = flag_top(p[here], capacity)
    return sample_above(rows, name, flagged)


def sample_above(rows: pd.DataFrame, name: str, flagged: np.ndarray) -> Sample:
    """Return the rows with the probabilities of a model and the given flags."""
    return Sample(
        rows["label"].to_numpy(dtype=np.float64),
        rows[f"p_{name}"].to_numpy(dtype=np.float64),
        flagged,
        rows["arr"].to_numpy(dtype=np.float64),
        entity_codes(rows),
        rows["fold"].to_numpy(),
    )


def has_too_few_events(label: np.ndarray) -> bool:
    """Return whether fewer than `MIN_SLICE_EVENTS` rows have either outcome."""
    events = float(np.sum(label))
    return min(events, len(label) - events) < MIN_SLICE_EVENTS


def estimates(drawn: Mapping[str, np.ndarray]) -> Measures:
    """Return value and interval of every measure from the draws of `bootstrap`."""
    return {name: estimate(values).as_json() for name, values in drawn.items()}


def measure_sample(sample: Sample, drawing: Drawing, measures: Mapping[str, Measure]) -> Measures:
    """Return measures with their intervals; empty where the sample is too small."""
    if has_too_few_events(sample.label):
        return {}
    return estimates(bootstrap(sample, measures, draws=drawing.draws, seed=drawing.seed))


def first_repeat(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first assignment of accounts to folds: one test per row."""
    if "repeat" not in predictions:
        return predictions
    return predictions[predictions["repeat"] == 1].reset_index(drop=True)


def lead_days(rows: pd.DataFrame) -> np.ndarray:
    """Return days from as_of to the decision; NaN without a dated decision."""
    days: np.ndarray = (
        (rows["decision_at"] - rows["as_of"]).dt.total_seconds() / 86_400.0
    ).to_numpy(dtype=np.float64)
    return days


def month_codes(instants: Iterable[datetime]) -> np.ndarray:
    """Return calendar months as codes 0..m−1: the periods of served scores.

    >>> month_codes([datetime(2026, 1, 5), datetime(2026, 2, 2), datetime(2026, 1, 26)]).tolist()
    [0, 1, 0]
    """
    months = [f"{instant:%Y-%m}" for instant in instants]
    codes: np.ndarray = np.unique(months, return_inverse=True)[1]
    return codes


def step_days(predictions: pd.DataFrame) -> float:
    """Return the median distance in days between two as_of; a month for a single as_of."""
    instants = predictions["as_of"].drop_duplicates().sort_values()
    gaps = np.diff(instants.to_numpy(dtype="datetime64[us]")) / np.timedelta64(1, "D")
    return float(np.median(gaps)) if len(gaps) else DAYS_PER_MONTH
