"""Typed training frame: the input of every training step, from Feast or a ready-made table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError
from configs.runtime.hashing import digest
from features.tables.catalog import FeatureInfo

ROW_COLUMNS = {
    "entity_id": "the entity",
    "as_of": "prediction moment, datetime64[us, UTC]",
    "label": "0 or 1",
    "label_known_at": "time at which the label became known, grace included, datetime64[us, UTC]",
    "decision_at": "time of the decision, datetime64[us, UTC], NaT for label 0",
    "arr": "annual value at as_of, reporting currency, NaN unknown",
    "segment": "segment for slices, text",
    "is_under_contract": "asked about a renewal rather than the horizon, bool",
    "days_to_renewal": "calendar days to the renewal, NaN without contract",
    "health_score": "the company's own health score, higher is healthier, NaN without",
}

OPTIONAL_COLUMNS = {
    "days_to_notice": "calendar days to the last day on which notice counts, NaN without contract",
    "owner_id": "present owner of the account, for workload only, None unknown",
}
"""Optional columns for further parts of an evaluation."""

GROWTH_COLUMNS = {
    "growth_kind": "kind of the growth inside the window, empty without one",
    "growth_uplift": "revenue gained inside the window over that at as_of, NaN without",
}
"""Columns present if contract terms contain the kind of growth."""


@dataclass(frozen=True)
class TrainingFrame:
    """Labelled rows: one per (entity, as_of) with an observed label window.

    Attributes
    ----------
    target : str
        Name of the target.
    rows : pandas.DataFrame
        Columns of `ROW_COLUMNS` and, where known, of `OPTIONAL_COLUMNS` and `GROWTH_COLUMNS`,
        sorted by (as_of, entity_id), RangeIndex.
    features : pandas.DataFrame
        Same index; float64 columns, and text (object) columns for categories.
    info : tuple of FeatureInfo
        One per column of `features`, in order.
    reading : mapping of str to str
        For a ready-made table: kind of each column (`training.tabular.column_kinds.Kind`), stored
        in the bundle to convert new rows identically. Empty for the feature store.
    contract : mapping
        For a ready-made table: definition of its label, with counts. Empty likewise.
    """

    target: str
    rows: pd.DataFrame
    features: pd.DataFrame
    info: tuple[FeatureInfo, ...]
    reading: Mapping[str, str] = field(default_factory=dict)
    contract: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in ROW_COLUMNS if name not in self.rows]
        if missing:
            raise DataError(f"the training frame misses {missing}", where=f"target {self.target}")
        names = [item.name for item in self.info]
        if names != list(self.features.columns) or len(self.rows) != len(self.features):
            raise DataError("features, their descriptions and rows do not match")

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, mask: np.ndarray) -> TrainingFrame:
        """Return the rows selected by `mask` (bool, or positions), reindexed."""
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

    @property
    def weight(self) -> np.ndarray:
        """Weight of each row in a fit: float64, mean 1.

        Many rows precede one decision: every as_of before a renewal has the same label, and
        monthly rows share most of a 91-day window. The weight is 1 over the number of overlapping
        label windows of the entity (a simple form of the average uniqueness of López de Prado,
        Advances in Financial Machine Learning, 2018, ch. 4). Without it, trees overfit accounts
        with many rows.
        """
        entity = self.rows["entity_id"].astype("category").cat.codes.to_numpy(dtype=np.int64)
        opens, closes = _days(self.rows["as_of"]), _days(self.rows["label_known_at"])
        span = int(max(closes.max(initial=0), opens.max(initial=0))) + 2
        # One sorted array for all entities: windows of others are further apart than any span.
        starts, ends = np.sort(entity * span + opens), np.sort(entity * span + closes)
        begun = np.searchsorted(starts, entity * span + closes, side="left")
        over = np.searchsorted(ends, entity * span + opens, side="right")
        weight = 1.0 / np.maximum(begun - over, 1)
        return weight / weight.mean() if len(weight) else weight

    def fingerprint(self) -> str:
        """Return the identity of the rows, labels and feature values."""
        growth = [name for name in GROWTH_COLUMNS if name in self.rows]
        hashed = pd.util.hash_pandas_object(
            pd.concat([self.rows[["entity_id", "as_of", "label", *growth]], self.features], axis=1),
            index=False,
        )
        return digest(list(self.features.columns), int(hashed.sum()), len(self), length=16)


def check_unique(rows: pd.DataFrame, where: str, *, fix: str) -> None:
    """Raise for rows of the same entity and as_of; the error says whether their labels agree.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns entity_id, as_of and label.
    where, fix : str
        Of the error.

    Raises
    ------
    DataError
        Two rows share their key.
    """
    repeated = rows[rows.duplicated(["entity_id", "as_of"], keep=False)]
    if repeated.empty:
        return
    differ = repeated.groupby(["entity_id", "as_of"])["label"].nunique() > 1
    if differ.any():
        shown = ", ".join(str(key[0]) for key in differ.index[differ.to_numpy()][:3])
        raise DataError(
            f"contradictory labels: {int(differ.sum()):,} accounts have rows of the same "
            f"as_of with different labels: {shown}",
            where=where,
            fix=fix,
        )
    shown = ", ".join(str(key[0]) for key in differ.index[:3])
    raise DataError(
        f"{len(repeated):,} rows have the same account and as_of as another: {shown}",
        where=where,
        fix=fix,
    )


def _days(moments: pd.Series) -> np.ndarray:
    """Return whole days since 1970-01-01."""
    return moments.astype("datetime64[us, UTC]").astype("int64").to_numpy() // 86_400_000_000
