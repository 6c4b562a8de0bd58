"""Joins labels and the feature store into the typed training frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from features.feast_store import FeastStore
from features.labels import Labels, require_events
from features.snapshots.grid import ACCOUNT_STATUS, Snapshots
from features.tables.catalog import FeatureInfo, is_kept
from training.data.training_frame import (
    GROWTH_COLUMNS,
    OPTIONAL_COLUMNS,
    ROW_COLUMNS,
    TrainingFrame,
    check_unique,
)

if TYPE_CHECKING:
    from features.sources import Loaded


def training_frame(
    labels: Labels,
    snapshots: Snapshots,
    loaded: Loaded,
    store: FeastStore,
    info: Sequence[FeatureInfo],
    exclude: Sequence[str] = (),
) -> TrainingFrame:
    """Join features, as known at each as_of, to the usable label rows of one target.

    Parameters
    ----------
    labels : Labels
        One target's labels; excluded rows are left out.
    snapshots : Snapshots
        Account status per as_of.
    loaded : Loaded
        The source tables, for segments and the company's own health score.
    store : Store
        The feature store, applied.
    info : sequence of FeatureInfo
        Features to join.
    exclude : sequence of str
        Shell patterns of features not to train on.

    Returns
    -------
    TrainingFrame
        One row per (entity, as_of), sorted by as_of and entity.

    Raises
    ------
    DataError
        No usable rows, or a single class.
    """
    require_events(labels)
    kept = [item for item in info if is_kept(item.name, exclude)]
    rows = labels.frame[labels.frame["excluded"].isna()].copy()
    rows = rows.sort_values(["as_of", "entity_id"], ignore_index=True)
    check_unique(
        rows, f"labels of {labels.target}", fix="keep one label per account, as_of and target"
    )
    rows["label"] = rows["label"].astype("int8")
    rows = _with_account_status(rows, snapshots)
    rows = _with_account(rows, loaded)
    rows["health_score"] = health_score_as_of(rows, loaded)
    rows = _with_kinds(rows, labels)
    known = (*ROW_COLUMNS, *OPTIONAL_COLUMNS, *GROWTH_COLUMNS)
    present = [name for name in known if name in rows]
    values = store.historical(rows, labels.target, kept)
    return TrainingFrame(labels.target, rows[present], values, tuple(kept))


def _with_kinds(rows: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Add the kind of growth of each positive row, where contract terms contain it."""
    if labels.kinds is None:
        return rows
    joined = rows.merge(labels.kinds, on=["entity_id", "as_of"], how="left", validate="one_to_one")
    grown = joined["label"] == 1
    return joined.assign(
        growth_kind=joined["growth_kind"].where(grown).fillna(""),
        growth_uplift=joined["growth_uplift"].where(grown),
    )


def _with_account_status(rows: pd.DataFrame, snapshots: Snapshots) -> pd.DataFrame:
    folder = snapshots.sets[ACCOUNT_STATUS].folder
    files = [str(folder / str(day) / "part.parquet") for day in snapshots.days]
    facts = ["arr", "is_under_contract", "renews_day", "notice_day"]
    columns = ["entity_id", "as_of", "as_of_day", *facts]
    standing = ds.dataset(files).to_table(columns=columns).to_pandas()
    joined = rows.merge(standing, on=["entity_id", "as_of"], how="left", validate="one_to_one")
    joined["days_to_renewal"] = (joined["renews_day"] - joined["as_of_day"]).astype("float64")
    joined["days_to_notice"] = (joined["notice_day"] - joined["as_of_day"]).astype("float64")
    joined["is_under_contract"] = joined["is_under_contract"].fillna(False).astype(bool)
    return joined


def _with_account(rows: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Add present segment and owner: slices of an evaluation, never features."""
    columns = loaded.tables["accounts"].columns
    segment = next((item for item in ("segment", "plan", "region") if item in columns), None)
    owner = "owner_id" if "owner_id" in columns else None
    if segment is None:
        rows = rows.assign(segment="all")
    else:
        rows = rows.assign(segment=_latest(rows, loaded, segment).fillna("unknown"))
    return rows.assign(owner_id=None if owner is None else _latest(rows, loaded, owner))


def _latest(rows: pd.DataFrame, loaded: Loaded, name: str) -> pd.Series:
    """Return the latest known attribute of each row's account."""
    path = loaded.tables["accounts"].path
    accounts = pq.read_table(path, columns=["account_id", name, "known_at"]).to_pandas()
    latest = accounts.sort_values("known_at").drop_duplicates("account_id", keep="last")
    return rows["entity_id"].map(latest.set_index("account_id")[name].astype("object"))


def health_score_as_of(rows: pd.DataFrame, loaded: Loaded) -> np.ndarray:
    """Return the company's own health score as known at each row's as_of.

    Returns
    -------
    numpy.ndarray
        float64, higher is healthier; NaN without a score.
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


def health_score_parts(loaded: Loaded) -> pd.DataFrame | None:
    """Return the components of the company's own health score over time.

    Returns
    -------
    pandas.DataFrame or None
        One row per account and known_at (UTC), with a float column ``part_<name>`` per component;
        None without components.
    """
    info = loaded.tables.get("health_scores")
    if info is None or "components" not in info.columns:
        return None
    rows = pq.read_table(
        info.path, columns=["account_id", "scored_at", "known_at", "components"]
    ).to_pandas()
    parts = pd.DataFrame([_parts(cell) for cell in rows["components"]], rows.index)
    parts = parts.apply(pd.to_numeric, errors="coerce").dropna(axis="columns", how="all")
    if parts.empty or not len(parts.columns):
        return None
    known = rows[["scored_at", "known_at"]].max(axis=1).dt.tz_localize("UTC")
    table = parts[sorted(parts.columns)].astype("float64").add_prefix("part_")
    return pd.concat([rows["account_id"].rename("entity_id"), known.rename("known_at"), table],
                     axis=1)  # fmt: skip


def _parts(cell: object) -> dict[str, object]:
    try:
        found = json.loads(str(cell))
    except ValueError:
        return {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}
