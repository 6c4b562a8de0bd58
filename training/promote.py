"""Promotion of candidates to a published release: bands, compare-and-swap, registry aliases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from configs.runtime.errors import ModelError, UnavailableError
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from training.model import bundle as bundles
from training.model.bands import FrozenBands, book_scores, frozen_bands, last_tested, newest_vectors
from training.model.reason_text import catalogue_version
from training.registry.mlflow_registry import repair_aliases
from training.registry.releases import (
    Release,
    ReleaseStore,
    current,
    get,
    new_release,
    open_store,
    publish,
    rollback,
)
from training.registry.shadow import publish_shadow, shadow_of, withdraw_shadow

if TYPE_CHECKING:
    from features.online_vectors import FeatureSet
    from training.pipeline import TrainedCandidate

Progress = Callable[[str], None]

MIRROR_ATTEMPTS = 20
"""Largest number of repetitions if other publications interfere with writing the aliases."""


def promote(
    workspace: Workspace,
    features: FeatureSet,
    candidates: dict[str, TrainedCandidate],
    *,
    created_at: datetime,
    by: str = "",
    note: str = "",
    is_forced: bool = False,
    is_shadow: bool = False,
    progress: Progress = lambda _: None,
) -> Release:
    """Publish the candidates as one release, unless they are current already.

    Parameters
    ----------
    workspace : Workspace
        The company.
    features : FeatureSet
        Served features; every bundle must have been trained on them.
    candidates : dict of str to TrainedCandidate
        One per target.
    created_at : datetime
        Time of the promotion, UTC.
    by, note : str
        Person, and reason.
    is_forced : bool
        Publish a model that fails a gate over one that met all.
    is_shadow : bool
        Publish as shadow release, which is scored only into the ledger, next to the published
        release. Gates do not apply.
    progress : callable
        Called with one line per step.

    Returns
    -------
    Release
        The current release, or the shadow release.

    Raises
    ------
    ModelError
        A candidate fails a gate that the published model met, or was trained on other features.
    StateError
        Another release was published meanwhile.
    """
    store = open_store(workspace)
    now_current = current(store)
    parts = {name: {"sha": item.sha, "verdict": item.verdict} for name, item in candidates.items()}
    if now_current is not None and _is_same(now_current, parts, features, workspace.company):
        progress(f"release {now_current.release_id} is current already")
        return now_current
    if now_current is not None and not (is_forced or is_shadow):
        _refuse_worse(now_current, candidates)
    loaded = {name: _bundle(workspace, item) for name, item in candidates.items()}
    _check_features(loaded, features, workspace.company)
    frozen = {
        name: _frozen(workspace, features, candidates[name], bundle)
        for name, bundle in loaded.items()
    }
    release = new_release(
        created_at=created_at,
        bundles=parts,
        feature_set={"hash": features.hash, "names": features.names},
        bands={name: part.cuts for name, part in frozen.items()},
        frozen={name: part.basis for name, part in frozen.items()},
        reason_catalogue_version=catalogue_version(),
        label_contracts={name: item.contract for name, item in candidates.items()},
        config_hash=workspace.company.config_hash,
        evidence={name: item.gate_result for name, item in candidates.items()},
        note=note,
    )
    if is_shadow:
        publish_shadow(store, release, by=by, note=note)
        progress(f"release {release.release_id} is scored as shadow release, and never shown")
        return release
    expected = now_current.release_id if now_current else None
    publish(store, release, expected, by=by, note=note)
    progress(f"published release {release.release_id}")
    _leave_shadow(store, release, progress)
    mirror_aliases(workspace, store, now_current, progress)
    return release


def end_shadow(workspace: Workspace, progress: Progress = lambda _: None) -> None:
    """End the shadow release; its scores stay in the ledger."""
    ended = withdraw_shadow(open_store(workspace))
    progress(f"ended the shadow release {ended}" if ended else "no shadow release")


def _leave_shadow(store: ReleaseStore, release: Release, progress: Progress) -> None:
    """End the shadow release if its models are published."""
    shadow = shadow_of(store)
    if shadow is not None and get(store, shadow).bundles == release.bundles:
        withdraw_shadow(store)
        progress(f"ended the shadow release {shadow}: its models are published")


def roll_back(
    workspace: Workspace,
    *,
    to: str | None = None,
    by: str = "",
    note: str = "",
    progress: Progress = lambda _: None,
) -> Release:
    """Roll back to an earlier release, and update the aliases."""
    store = open_store(workspace)
    before = current(store)
    release = rollback(store, to, by=by, note=note)
    progress(f"release {release.release_id} is current again")
    mirror_aliases(workspace, store, before, progress)
    return release


def mirror_aliases(
    workspace: Workspace, store: ReleaseStore, before: Release | None, progress: Progress
) -> None:
    """Set MLflow's aliases to the current release; an unavailable server is updated later.

    With simultaneous publications, the aliases of the superseded one may be written last. So the
    store is read again afterwards, and the aliases are rewritten until both agree.
    """
    release, missing = current(store), {}
    for _ in range(MIRROR_ATTEMPTS):
        try:
            missing = repair_aliases(workspace, release, before).missing
        except UnavailableError as error:
            progress(f"{error.what}; `bellwether relog` updates the aliases later")
            return
        newest = current(store)
        if newest == release:
            break
        release, before = newest, release
    for target in missing:
        progress(f"{target}: its bundle is not registered; `bellwether relog` registers it")


def _frozen(
    workspace: Workspace, features: FeatureSet, candidate: TrainedCandidate, bundle: bundles.Bundle
) -> FrozenBands:
    """Return the bands of a target from the newest vectors, or else from the last tested as_of."""
    folder = newest_vectors(workspace.state, features.hash)
    if folder is None:
        scores, counted_in = last_tested(candidate.folder), "the last tested as_of"
    else:
        scores, counted_in = book_scores(folder, bundle, features.names), f"book {folder.name}"
    return frozen_bands(scores, bundle.base_rate, workspace.company, counted_in)


def _is_same(
    release: Release, parts: dict[str, dict[str, str]], features: FeatureSet, company: Company
) -> bool:
    return (
        release.bundles == parts
        and release.feature_set["hash"] == features.hash
        and release.config_hash == company.config_hash
    )


def _refuse_worse(release: Release, candidates: dict[str, TrainedCandidate]) -> None:
    for name, item in candidates.items():
        published = release.bundles.get(name, {}).get("verdict")
        if published == "promotable" and item.verdict != "promotable":
            failed = [gate["words"] for gate in item.gate_result["gates"] if not gate["passed"]]
            raise ModelError(
                f"the published {name} model met every gate, the candidate does not: "
                + "; ".join(failed),
                where=f"release {release.release_id}",
                fix="keep the published model, or promote --force to publish it as provisional",
            )


def _bundle(workspace: Workspace, item: TrainedCandidate) -> bundles.Bundle:
    return bundles.load(workspace.state.bundles / item.sha, item.sha)


def _check_features(
    loaded: Mapping[str, bundles.Bundle], features: FeatureSet, company: Company
) -> None:
    served = set(features.names)
    for name, bundle in loaded.items():
        missing = [item.name for item in bundle.info if item.name not in served]
        if missing:
            raise ModelError(
                f"the {name} model needs features that are no longer built: {missing[:5]}",
                where=f"company {company.name}",
                fix="bellwether train COMPANY",
            )
