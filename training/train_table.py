"""Training of a company with a ready-made table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from configs.runtime.hashing import digest
from configs.schema.workspace import Workspace
from features.online_vectors import FeatureSet
from training.model import bundle as bundles
from training.pipeline import TrainedCandidate, train_frame
from training.tabular.table_frame import ParsedTable, build_table_frame

Progress = Callable[[str], None]


def train_table(
    workspace: Workspace, now: datetime, progress: Progress = lambda _: None
) -> dict[str, TrainedCandidate]:
    """Read the company's table, train its one target, and register the challenger.

    Raises
    ------
    SourceError, DataError
        The table is invalid.
    """
    table = build_table_frame(workspace, now)
    progress(_summary(table))
    frame = table.frame
    return {frame.target: train_frame(workspace, frame, table.contract, progress)}


def _summary(table: ParsedTable) -> str:
    n_left = sum("left out" in column.part for column in table.columns)
    left = f", {n_left} columns left out" if n_left else ""
    return (
        f"{len(table.frame):,} labelled rows, {len(table.frame.info)} features{left}; "
        f"`bellwether check` lists the kind of each column"
    )


def table_feature_set(workspace: Workspace, candidates: dict[str, TrainedCandidate]) -> FeatureSet:
    """Return the candidate's columns as the feature set of a release."""
    (candidate,) = candidates.values()
    manifest = bundles.load(workspace.state.bundles / candidate.sha, candidate.sha).manifest
    return FeatureSet(manifest.features, {"table": digest(manifest.column_kinds)})
