"""Feature pipeline: raw tables to a filled feature store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import ConfigError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import read_manifest, write_json_atomically
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore, vector_view
from features.labels import Labels, build_labels
from features.online_vectors import FeatureSet, build_vectors, feature_set
from features.snapshots.grid import ACCOUNT_STATUS, Snapshots, build_snapshots
from features.sources import Loaded, load_sources

Progress = Callable[[str], None]

APPLIED = "applied"


@dataclass(frozen=True)
class FeatureBuild:
    """Result of the feature pipeline.

    Attributes
    ----------
    loaded : Loaded
        Canonical source tables and gaps.
    snapshots : Snapshots
        Features and account status per (entity, as_of).
    features : FeatureSet
        The ordered features with their identity.
    labels : dict of str to Labels
        By target.
    store : FeastStore
        Feature store with the latest vectors.
    """

    loaded: Loaded
    snapshots: Snapshots
    features: FeatureSet
    labels: dict[str, Labels]
    store: FeastStore


@dataclass(frozen=True)
class ServedFeatures:
    """Features of the latest as_of, as scores are computed from; without labels.

    Attributes
    ----------
    snapshots : Snapshots
        Features and account status per (entity, as_of).
    features : FeatureSet
        The ordered features with their identity.
    store : FeastStore
        Feature store with the latest vectors.
    """

    snapshots: Snapshots
    features: FeatureSet
    store: FeastStore


def left_out(built: FeatureBuild) -> dict[str, dict[str, list[str]]]:
    """Return features left out, by the data they need, and label rows left out, by target.

    Returns
    -------
    dict
        ``features``: missing data → names. ``rows``: target → reasons with counts, as text.
    """
    needs: dict[str, list[str]] = {}
    for name, why in sorted(built.snapshots.dropped.items()):
        needs.setdefault(why, []).append(name)
    rows = {
        name: [
            f"{count:,} {reason.replace('_', ' ')}"
            for reason, count in labels.contract["excluded"].items()
        ]
        for name, labels in built.labels.items()
    }
    return {"features": needs, "rows": rows}


def build_features(
    workspace: Workspace,
    now: datetime,
    progress: Progress = lambda _: None,
    *,
    is_served: bool = True,
) -> FeatureBuild:
    """Load the sources, rebuild outdated results, and fill the feature store.

    The caller holds the lock of the state directory.

    Parameters
    ----------
    workspace : Workspace
        The company, its data and its state.
    now : datetime
        The clock, UTC.
    progress : callable
        Receives one line per step.
    is_served : bool
        Load the latest vectors into the online store. False to train as of an earlier day while
        the service keeps its vectors.

    Raises
    ------
    SourceError, DataError, ConfigError
        Invalid data or configuration.
    """
    refuse_ready_table(workspace.company)
    loaded = load_sources(workspace, now, progress)
    if is_served:
        served = build_served(workspace, loaded, now, progress)
    else:
        snapshots = build_snapshots(workspace, loaded, now, progress)
        served = ServedFeatures(snapshots, feature_set(snapshots), FeastStore(workspace))
        declare_only(workspace, served.snapshots, served.features, served.store, progress)
    labels = build_labels(workspace, loaded, served.snapshots, now, progress)
    return FeatureBuild(loaded, served.snapshots, served.features, labels, served.store)


def build_served(
    workspace: Workspace, loaded: Loaded, now: datetime, progress: Progress = lambda _: None
) -> ServedFeatures:
    """Build outdated features of loaded tables and fill the feature store; no labels.

    Labels are for training: a score run does without them. The caller holds the lock of the state
    directory.
    """
    snapshots = build_snapshots(workspace, loaded, now, progress)
    features, store = feature_set(snapshots), FeastStore(workspace)
    fill_store(workspace, loaded, snapshots, features, store, progress)
    return ServedFeatures(snapshots, features, store)


def refuse_ready_table(company: Company) -> None:
    """Refuse companies with a ready-made table, which have no features to build."""
    if company.table is not None:
        raise ConfigError(
            f"{company.name} is a ready-made table: it has no sources to build features from, so "
            "there is no score run, no feature store and no service for it",
            where="table in company.yaml",
            fix="check, train, checks, promote, rollback, releases, relog, score and run work on "
            "it; score new rows with:  bellwether score COMPANY --rows FILE",
        )


def fill_store(
    workspace: Workspace,
    loaded: Loaded,
    snapshots: Snapshots,
    features: FeatureSet,
    store: FeastStore,
    progress: Progress,
) -> None:
    """Declare the views and load the latest vectors, unless the store already holds them.

    Damaged embedded files are recreated; they hold no data of their own.
    """
    for name in store.drop_damaged():
        progress(f"feature store: {name} was damaged and is recreated")
    store.write_config()
    folder = build_vectors(workspace, loaded, snapshots)
    n_accounts = pq.read_metadata(folder / "part.parquet").num_rows
    limit = workspace.company.serving.online_by_name_up_to
    is_named = n_accounts <= limit
    wanted = {
        "views": digest(
            features.hash,
            code_digest("features.feast_store"),
            sorted(workspace.company.targets),
            workspace.company.exclude_features,
            is_named,
        ),
        "book": read_manifest(folder),
        # Views have absolute paths: a moved state directory has to be declared again.
        "where": digest(
            workspace.state.root.absolute(),
            workspace.places.redis_url,
            workspace.places.registry_url,
        ),
    }
    marker = workspace.state.feast / APPLIED
    is_declared = read_manifest(marker) == wanted and store.declares(workspace.company.targets)
    if is_declared and _is_filled(store, features, folder, snapshots.book_on):
        progress("feature store: unchanged")
        return
    progress(f"feature store: declaring {len(features.names)} features")
    store.apply(snapshots, features, workspace.company.targets, is_named=is_named)
    by_name = (
        f"{len(features.versions)} families by name"
        if is_named
        else f"no features by name: {n_accounts:,} accounts, serving.online_by_name_up_to "
        f"is {limit:,}"
    )
    progress(
        f"feature store: loading {vector_view(features.hash)} of {snapshots.book_on}, and {by_name}"
    )
    store.materialize(features, snapshots.book_on)
    marker.mkdir(parents=True, exist_ok=True)
    write_json_atomically(marker / "manifest.json", wanted)


def declare_only(
    workspace: Workspace,
    snapshots: Snapshots,
    features: FeatureSet,
    store: FeastStore,
    progress: Progress,
) -> None:
    """Declare the views for training; the next `fill_store` declares those for serving."""
    shutil.rmtree(workspace.state.feast / APPLIED, ignore_errors=True)
    store.drop_damaged()
    progress(f"feature store: declaring {len(features.names)} features as of {snapshots.book_on}")
    n_accounts = pq.read_metadata(snapshots.sets[ACCOUNT_STATUS].path(snapshots.book_on)).num_rows
    is_named = n_accounts <= workspace.company.serving.online_by_name_up_to
    store.apply(snapshots, features, workspace.company.targets, is_named=is_named)


def _is_filled(store: FeastStore, features: FeatureSet, folder: Path, book_on: date) -> bool:
    """Whether the store holds the vector of the first account; an emptied store does not."""
    first = pq.read_table(folder / "part.parquet", columns=["entity_id"]).slice(0, 1)
    return all(store.holds(features, item, book_on) for item in first["entity_id"].to_pylist())
