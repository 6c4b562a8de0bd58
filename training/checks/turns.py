"""How far each feature turns at the moment at which the label turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.checks.measure import column_aucs
from training.frame import TrainingFrame
from training.sampling import MIN_SLICE_EVENTS

STEP_DAYS = 62.0
"""Two rows of an account further apart than this are no neighbours."""

FAR_DAYS = 45.0
DAY = np.timedelta64(1, "D")

RENEWAL_DAYS = 30
"""Changes are compared among accounts as near to their renewal, in steps of so many days."""

NO_RENEWAL = -1


@dataclass(frozen=True)
class Turns:
    """How well the change of each feature tells rows at which the label turns from the others.

    Attributes
    ----------
    names : tuple of str
        Number features.
    auc, error : numpy.ndarray
        Of the change since the row before, upwards or downwards, and its standard error.
    n_turns : int
        Rows at which the label turned to 1.
    """

    names: tuple[str, ...]
    auc: np.ndarray
    error: float
    n_turns: int


def turns(frame: TrainingFrame) -> Turns | None:
    """Return how far features turn with the label; None with too few turns.

    The label turns to 1 when the event comes within the horizon, on a day that nothing but the
    event decides. Rows of accounts whose label was and stays 0 are what it is held against, those
    as near to their renewal.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    """
    rows = frame.rows
    order = np.lexsort((rows["as_of"].to_numpy(), rows["entity_id"].to_numpy()))
    is_pair, turned = _pairs(rows.iloc[order])
    if min(int(turned.sum()), int((~turned).sum())) < MIN_SLICE_EVENTS:
        return None
    values = _filled(frame.features.iloc[order])
    changes = (values.to_numpy()[1:] - values.to_numpy()[:-1])[is_pair]
    among = _renewal_step(rows)[order][1:][is_pair]
    found = column_aucs(changes, turned.astype(np.float64), among)
    m, n = int(turned.sum()), int((~turned).sum())
    error = float(np.sqrt((m + n + 1) / (12.0 * m * n)))
    names = tuple(str(name) for name in values)
    return Turns(names, np.maximum(found, 1.0 - found), error, m)


def _pairs(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows, from the second, are compared with the row before, and which turned.

    A turn lies `FAR_DAYS` before its decision or more, and the next row tells of the same
    decision: otherwise the label follows the moment itself, and so may an honest feature.
    """
    entity, label = rows["entity_id"].to_numpy(), rows["label"].to_numpy()
    decided = rows["decision_at"].to_numpy(dtype="datetime64[us]")
    as_of = rows["as_of"].to_numpy(dtype="datetime64[us]")
    step, lead = np.diff(as_of) / DAY, (decided - as_of) / DAY
    is_next = (entity[1:] == entity[:-1]) & (step <= STEP_DAYS)
    goes_on = np.append(is_next & (decided[1:] == decided[:-1]), False)[1:]
    is_turn = is_next & (label[:-1] == 0) & (label[1:] == 1) & (lead[1:] >= FAR_DAYS) & goes_on
    is_pair = is_turn | (is_next & (label[:-1] == 0) & (label[1:] == 0))
    return is_pair, is_turn[is_pair]


def _filled(features: pd.DataFrame) -> pd.DataFrame:
    """Return number features with unknown values below all known ones: to appear is a change."""
    numbers = features.select_dtypes(["number", "bool"]).astype(np.float64)
    numbers = numbers.replace([np.inf, -np.inf], np.nan)
    reach = (numbers.max() - numbers.min()).fillna(0.0) + 1.0
    return numbers.fillna((numbers.min() - reach).fillna(0.0))


def _renewal_step(rows: pd.DataFrame) -> np.ndarray:
    if "days_to_renewal" not in rows:
        return np.full(len(rows), NO_RENEWAL)
    step = np.floor(rows["days_to_renewal"].astype(np.float64) / RENEWAL_DAYS)
    found: np.ndarray = step.fillna(NO_RENEWAL).to_numpy(dtype=np.int64)
    return found
