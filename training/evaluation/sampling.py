"""From out-of-time rows to what is measured: who is flagged, how intervals are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from configs.schema.team_capacity import DAYS_PER_MONTH, workable
from training.data.splits import entity_codes
from training.evaluation.metrics import Measure, Sample, bootstrap, estimate, flag_top

MODEL, MODEL_RAW = "model", "model_raw"
"""The calibrated model, and the same before calibration."""

CHAMPION_ITSELF = "champion_itself"
"""Column of the published model's own probabilities, NaN before its cut-off."""

MIN_SLICE_EVENTS = 10
"""Events a slice needs before its measures are shown."""

Plain = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """How intervals are drawn and what the team can work.

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
    """Return the rows with the probabilities of a model and the flags they are given."""
    return Sample(
        rows["label"].to_numpy(dtype=np.float64),
        rows[f"p_{name}"].to_numpy(dtype=np.float64),
        flagged,
        rows["arr"].to_numpy(dtype=np.float64),
        entity_codes(rows),
        rows["fold"].to_numpy(),
    )


def is_thin(label: np.ndarray) -> bool:
    """Return whether there are too few rows with the event, or without, to measure anything."""
    events = float(np.sum(label))
    return min(events, len(label) - events) < MIN_SLICE_EVENTS


def estimates(drawn: Mapping[str, np.ndarray]) -> Plain:
    """Return point and interval of every measure that `bootstrap` drew."""
    return {name: estimate(values).as_dict() for name, values in drawn.items()}


def measured(sample: Sample, drawing: Drawing, measures: Mapping[str, Measure]) -> Plain:
    """Return measures with their intervals; nothing where the sample is too thin."""
    if is_thin(sample.label):
        return {}
    return estimates(bootstrap(sample, measures, draws=drawing.draws, seed=drawing.seed))


def first_deal(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first deal of accounts into folds: every row is tested once."""
    if "repeat" not in predictions:
        return predictions
    return predictions[predictions["repeat"] == 1].reset_index(drop=True)


def lead_days(rows: pd.DataFrame) -> np.ndarray:
    """Return days from as_of to the decision, NaN where none is dated."""
    days: np.ndarray = (
        (rows["decision_at"] - rows["as_of"]).dt.total_seconds() / 86_400.0
    ).to_numpy(dtype=np.float64)
    return days


def month_codes(moments: Iterable[datetime]) -> np.ndarray:
    """Return the calendar month of each moment as codes 0..m−1: the periods of served scores.

    >>> month_codes([datetime(2026, 1, 5), datetime(2026, 2, 2), datetime(2026, 1, 26)]).tolist()
    [0, 1, 0]
    """
    months = [f"{moment:%Y-%m}" for moment in moments]
    codes: np.ndarray = np.unique(months, return_inverse=True)[1]
    return codes


def step_days(predictions: pd.DataFrame) -> float:
    """Return the usual distance of two moments of the grid, a month for a single one."""
    moments = predictions["as_of"].drop_duplicates().sort_values()
    gaps = np.diff(moments.to_numpy(dtype="datetime64[us]")) / np.timedelta64(1, "D")
    return float(np.median(gaps)) if len(gaps) else DAYS_PER_MONTH
