"""A ready-made table to a challenger and its features, by the steps every training takes."""

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
        What is wrong with the table, and what to do.
    """
    table = build_table_frame(workspace, now)
    progress(_told(table))
    frame = table.frame
    return {frame.target: train_frame(workspace, frame, table.contract, progress)}


def _told(table: ParsedTable) -> str:
    n_left = sum("left out" in column.part for column in table.columns)
    left = f", {n_left} columns left out" if n_left else ""
    return (
        f"{len(table.frame):,} labelled rows, {len(table.frame.info)} features{left}; "
        f"`bellwether check` tells how each column is read"
    )


def table_feature_set(workspace: Workspace, candidates: dict[str, TrainedCandidate]) -> FeatureSet:
    """Return the columns the candidate was trained on, as the release names them."""
    (candidate,) = candidates.values()
    manifest = bundles.load(workspace.state.bundles / candidate.sha, candidate.sha).manifest
    return FeatureSet(manifest.features, {"table": digest(manifest.column_kinds)})
