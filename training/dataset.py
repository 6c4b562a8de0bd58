"""From labels and the feature store to the typed training frame."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from features.catalog import FeatureInfo
from features.labels import Labels, require_events
from features.snapshots import STANDING, Snapshots
from features.store import Store
from training.frame import ROW_COLUMNS, TrainingFrame

if TYPE_CHECKING:
    from features.sources import Loaded


def training_frame(
    labels: Labels,
    snapshots: Snapshots,
    loaded: Loaded,
    store: Store,
    info: Sequence[FeatureInfo],
    exclude: Sequence[str] = (),
) -> TrainingFrame:
    """Join features to the usable label rows of one target, as they were known then.

    Parameters
    ----------
    labels : Labels
        One target's labels; excluded rows are left out.
    snapshots : Snapshots
        Where each account stood.
    loaded : Loaded
        The source tables, for segments and the company's own health score.
    store : Store
        The feature store, applied.
    info : sequence of FeatureInfo
        The features wanted.
    exclude : sequence of str
        Shell patterns of features not to train on.

    Returns
    -------
    TrainingFrame
        One row per (entity, as_of), sorted by as_of and entity.

    Raises
    ------
    DataError
        When there is nothing to tell apart.
    """
    require_events(labels)
    kept = [item for item in info if not any(fnmatch(item.name, shape) for shape in exclude)]
    rows = labels.frame[labels.frame["excluded"].isna()].copy()
    rows = rows.sort_values(["as_of", "entity_id"], ignore_index=True)
    rows["label"] = rows["label"].astype("int8")
    rows = _with_standing(rows, snapshots)
    rows = _with_segment(rows, loaded)
    rows["health_score"] = health_score_as_of(rows, loaded)
    values = store.historical(rows, kept)
    return TrainingFrame(labels.target, rows[list(ROW_COLUMNS)], values, tuple(kept))


def _with_standing(rows: pd.DataFrame, snapshots: Snapshots) -> pd.DataFrame:
    folder = snapshots.sets[STANDING].folder
    files = [str(folder / str(day) / "part.parquet") for day in snapshots.days]
    columns = ["entity_id", "as_of", "as_of_day", "arr", "is_under_contract", "renews_day"]
    standing = ds.dataset(files).to_table(columns=columns).to_pandas()
    joined = rows.merge(standing, on=["entity_id", "as_of"], how="left", validate="one_to_one")
    joined["days_to_renewal"] = (joined["renews_day"] - joined["as_of_day"]).astype("float64")
    joined["is_under_contract"] = joined["is_under_contract"].fillna(False).astype(bool)
    return joined


def _with_segment(rows: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Attach the segment as it is today: for slices of an evaluation, never a feature."""
    info = loaded.tables["accounts"]
    name = next((item for item in ("segment", "plan", "region") if item in info.columns), None)
    if name is None:
        return rows.assign(segment="all")
    accounts = pq.read_table(info.path, columns=["account_id", name, "known_at"]).to_pandas()
    latest = accounts.sort_values("known_at").drop_duplicates("account_id", keep="last")
    segments = latest.set_index("account_id")[name].astype("object")
    return rows.assign(segment=rows["entity_id"].map(segments).fillna("unknown"))


def health_score_as_of(rows: pd.DataFrame, loaded: Loaded) -> np.ndarray:
    """Return the company's own score as it stood and was known at each row's as_of.

    Returns
    -------
    numpy.ndarray
        float64, higher is healthier; NaN where the company has none.
    """
    nothing = np.full(len(rows), np.nan)
    info = loaded.tables.get("health_scores")
    if info is None or "score" not in info.columns:
        return nothing
    scores = pq.read_table(
        info.path, columns=["account_id", "scored_at", "known_at", "score"]
    ).to_pandas()
    scores["visible_at"] = scores[["scored_at", "known_at"]].max(axis=1).dt.tz_localize("UTC")
    scores = scores.rename(columns={"account_id": "entity_id"}).sort_values("visible_at")
    asked = rows[["entity_id", "as_of"]].assign(row=np.arange(len(rows))).sort_values("as_of")
    found = pd.merge_asof(
        asked,
        scores[["entity_id", "visible_at", "score"]],
        left_on="as_of",
        right_on="visible_at",
        by="entity_id",
    )
    nothing[found["row"].to_numpy()] = found["score"].to_numpy(dtype="float64")
    return nothing
