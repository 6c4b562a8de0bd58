"""The typed training frame: what every step after Feast takes, whatever it was made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from configs.errors import DataError
from configs.hashing import digest
from features.catalog import FeatureInfo

ROW_COLUMNS = {
    "entity_id": "the entity",
    "as_of": "prediction moment, datetime64[us, UTC]",
    "label": "0 or 1",
    "label_known_at": "when the label was known, grace included, datetime64[us, UTC]",
    "decision_at": "when it was decided, datetime64[us, UTC], NaT for label 0",
    "arr": "annual value at as_of, reporting currency, NaN unknown",
    "segment": "segment for slices, text",
    "is_under_contract": "asked about a renewal rather than the horizon, bool",
    "days_to_renewal": "calendar days to the renewal, NaN without contract",
    "health_score": "the company's own score as it stood, higher healthier, NaN without",
}


@dataclass(frozen=True)
class TrainingFrame:
    """Labelled rows: one per (entity, as_of) with an observed label window.

    Attributes
    ----------
    target : str
        Name of the target.
    rows : pandas.DataFrame
        Columns of `ROW_COLUMNS`, sorted by (as_of, entity_id), RangeIndex.
    features : pandas.DataFrame
        Same index; float64 columns, and text (object) columns for categories.
    info : tuple of FeatureInfo
        One per column of `features`, in order.
    """

    target: str
    rows: pd.DataFrame
    features: pd.DataFrame
    info: tuple[FeatureInfo, ...]

    def __post_init__(self) -> None:
        missing = [name for name in ROW_COLUMNS if name not in self.rows]
        if missing:
            raise DataError(f"the training frame misses {missing}", where=f"target {self.target}")
        names = [item.name for item in self.info]
        if names != list(self.features.columns) or len(self.rows) != len(self.features):
            raise DataError("features, their descriptions and rows do not line up")

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, mask: np.ndarray) -> TrainingFrame:
        """Return the rows where `mask` (bool, or positions) holds, reindexed."""
        return replace(
            self,
            rows=self.rows[mask].reset_index(drop=True)
            if mask.dtype == bool
            else self.rows.iloc[mask].reset_index(drop=True),
            features=self.features[mask].reset_index(drop=True)
            if mask.dtype == bool
            else self.features.iloc[mask].reset_index(drop=True),
        )

    @property
    def label(self) -> np.ndarray:
        """Labels as float64, 0.0 or 1.0."""
        return self.rows["label"].to_numpy(dtype=np.float64)

    def fingerprint(self) -> str:
        """Return the identity of the rows, labels and feature values."""
        hashed = pd.util.hash_pandas_object(
            pd.concat([self.rows[["entity_id", "as_of", "label"]], self.features], axis=1),
            index=False,
        )
        return digest(list(self.features.columns), int(hashed.sum()), len(self), length=16)
