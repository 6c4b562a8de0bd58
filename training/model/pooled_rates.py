"""Pooled rates: one rate per cell, shrunk towards the overall rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

CALENDAR_DAYS = (0, 31, 61, 91, 121, 181, 366)
"""Inner edges of the days-to-renewal bins."""

SHRINK_ROWS = 50.0


@dataclass(frozen=True)
class PooledRates:
    """Rates per cell, shrunk towards the overall rate, which unseen cells get."""

    overall: float
    cells: Mapping[str, float]

    @classmethod
    def fit(cls, cells: np.ndarray, label: np.ndarray) -> PooledRates:
        """Pool the rows of each cell with `SHRINK_ROWS` rows of the overall rate."""
        overall = float(label.mean())
        names, code = np.unique(cells, return_inverse=True)
        events = np.bincount(code, weights=label)
        rate = (events + SHRINK_ROWS * overall) / (np.bincount(code) + SHRINK_ROWS)
        return cls(overall, dict(zip(names.tolist(), rate.tolist(), strict=True)))

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """Return each row's rate."""
        names, code = np.unique(cells, return_inverse=True)
        rates = np.array([self.cells.get(name, self.overall) for name in names.tolist()])
        looked_up: np.ndarray = rates[code]
        return looked_up


def calendar_cells(rows: pd.DataFrame) -> np.ndarray:
    """Return the cell of each row: days to renewal, segment, under contract or not."""
    days = rows["days_to_renewal"].to_numpy(dtype=np.float64)
    bins = np.where(np.isnan(days), -1, np.digitize(days, CALENDAR_DAYS))
    cells = (
        pd.Series(bins).astype(str)
        + "|" + rows["segment"].fillna("").astype(str).reset_index(drop=True)
        + "|" + rows["is_under_contract"].astype(str).reset_index(drop=True)
    )  # fmt: skip
    return cells.to_numpy(dtype=str)
