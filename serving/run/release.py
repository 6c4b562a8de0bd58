"""The published release, and whether it can score the features that are built."""

from __future__ import annotations

from configs.runtime.errors import ModelError, StateError
from configs.schema.workspace import Workspace
from features.online_vectors import FeatureSet
from training.registry.releases import Release, current, open_store


def published(workspace: Workspace) -> Release:
    """Return the current release.

    Raises
    ------
    StateError
        No release is published yet.
    """
    release = current(open_store(workspace))
    if release is None:
        raise StateError(
            "no model is published yet",
            where=str(workspace.state.releases),
            fix=f"bellwether run {workspace.folder}   trains and publishes",
        )
    return release


def can_score(release: Release, features: FeatureSet) -> bool:
    """Whether a release was trained on the features that are built."""
    return bool(release.feature_set["hash"] == features.hash)


def check_can_score(release: Release, features: FeatureSet) -> None:
    """Raise a ModelError for a release that was trained on other features than are built."""
    if not can_score(release, features):
        raise ModelError(
            "the features changed since the published model was trained, so it cannot score them",
            where=f"release {release.release_id}",
            fix="bellwether train, then bellwether promote",
        )
