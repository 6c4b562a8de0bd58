"""Change of each feature at the as_of at which the label changes to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.checks.helpers import column_aucs
from training.data.training_frame import TrainingFrame
from training.evaluation.sampling import MIN_SLICE_EVENTS

STEP_DAYS = 62.0
"""Largest distance in days between consecutive rows of an account."""

FAR_DAYS = 45.0
DAY = np.timedelta64(1, "D")

RENEWAL_DAYS = 30
"""Width in days of the groups by distance to renewal in which changes are compared."""

NO_RENEWAL = -1


@dataclass(frozen=True)
class TurnTests:
    """AUC of each feature's change for the rows at which the label changes to 1.

    Attributes
    ----------
    names : tuple of str
        Numeric features.
    auc, error : numpy.ndarray
        AUC of the change since the previous row, in either direction, minus the excess AUC of the
        changes before and after it; and its standard error.
    n_turns : int
        Rows at which the label changed to 1.
    """

    names: tuple[str, ...]
    auc: np.ndarray
    error: float
    n_turns: int


def label_turns(frame: TrainingFrame) -> TurnTests | None:
    """Return how strongly features change with the label; None with too few label changes.

    The label changes to 1 when the event comes within the horizon, on a day that depends only on
    the event. The comparison rows are those whose label was and stays 0, at a similar distance to
    their renewal.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    """
    rows = frame.rows
    order = np.lexsort((rows["as_of"].to_numpy(), rows["entity_id"].to_numpy()))
    stays, at = _pairs(rows.iloc[order])
    pool = np.flatnonzero(stays)
    if min(len(at), len(pool)) < MIN_SLICE_EVENTS:
        return None
    values = _filled(frame.features.iloc[order])
    changes = np.diff(values.to_numpy(), axis=0)
    among = _renewal_step(rows)[order][1:]

    def in_words(chosen: np.ndarray) -> np.ndarray:
        both = np.concatenate([chosen, pool])
        label = np.r_[np.ones(len(chosen)), np.zeros(len(pool))]
        return np.nan_to_num(column_aucs(changes[both], label, among[both]), nan=0.5)

    turn, after = in_words(at), in_words(at + 1)
    before = in_words(at[stays[at - 1]] - 1) if stays[at - 1].any() else np.full(len(turn), 0.5)
    direction = np.where(turn >= 0.5, 1.0, -1.0)
    # A decline over several months is no jump at the label change.
    usual = np.maximum.reduce(
        [direction * (after - 0.5), direction * (before - 0.5), np.zeros(len(direction))]
    )
    m, n = len(at), len(pool)
    error = float(np.sqrt((m + n + 1) / (12.0 * m * n)))
    return TurnTests(tuple(map(str, values)), 0.5 + direction * (turn - 0.5) - usual, error, m)


def _pairs(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows, from the second, stay at 0, and the positions of the label changes.

    A label change is at least `FAR_DAYS` before its decision, and the next row has the same
    decision; otherwise a legitimate feature may change at the same time.
    """
    entity, label = rows["entity_id"].to_numpy(), rows["label"].to_numpy()
    decided = rows["decision_at"].to_numpy(dtype="datetime64[us]")
    as_of = rows["as_of"].to_numpy(dtype="datetime64[us]")
    step, lead = np.diff(as_of) / DAY, (decided - as_of) / DAY
    is_next = (entity[1:] == entity[:-1]) & (step <= STEP_DAYS)
    goes_on = np.append(is_next & (decided[1:] == decided[:-1]), False)[1:]
    is_turn = is_next & (label[:-1] == 0) & (label[1:] == 1) & (lead[1:] >= FAR_DAYS) & goes_on
    stays = is_next & (label[:-1] == 0) & (label[1:] == 0)
    return stays, np.flatnonzero(is_turn)


def _filled(features: pd.DataFrame) -> pd.DataFrame:
    """Return numeric features with unknown values below all known ones: appearing is a change."""
    numbers = features.select_dtypes(["number", "bool"]).astype(np.float64)
    numbers = numbers.replace([np.inf, -np.inf], np.nan)
    reach = (numbers.max() - numbers.min()).fillna(0.0) + 1.0
    return numbers.fillna((numbers.min() - reach).fillna(0.0))


def _renewal_step(rows: pd.DataFrame) -> np.ndarray:
    if "days_to_renewal" not in rows:
        return np.full(len(rows), NO_RENEWAL)
    step = rows["days_to_renewal"].astype(np.float64) // RENEWAL_DAYS
    found: np.ndarray = step.fillna(NO_RENEWAL).to_numpy(dtype=np.int64)
    return found
