"""From candidates to a published release: bands frozen, one compare-and-swap, aliases mirrored."""

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
"""Publications that may overtake one writing of the aliases."""


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
    """Publish the candidates as one release, unless they are published already.

    Parameters
    ----------
    workspace : Workspace
        The company.
    features : FeatureSet
        The features the book is materialised with; every bundle must have been trained on them.
    candidates : dict of str to Candidate
        One per target.
    created_at : datetime
        When, UTC.
    by, note : str
        Who, and why.
    is_forced : bool
        Publish a model that misses a gate over one that met all.
    is_shadow : bool
        Publish to the ledger only: what is published stays, and this is scored next to it. No gate
        keeps a model from that.
    progress : callable
        Is told what happened.

    Returns
    -------
    Release
        The current release, or the one in the shadow.

    Raises
    ------
    ModelError
        A candidate misses a gate that the published model met, or was trained on other features.
    StateError
        Somebody published meanwhile.
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
        progress(f"release {release.release_id} is scored in the shadow, and never shown")
        return release
    expected = now_current.release_id if now_current else None
    publish(store, release, expected, by=by, note=note)
    progress(f"published release {release.release_id}")
    _leave_shadow(store, release, progress)
    mirror_aliases(workspace, store, now_current, progress)
    return release


def end_shadow(workspace: Workspace, progress: Progress = lambda _: None) -> None:
    """Score nothing in the shadow any more; what was scored stays in the ledger."""
    ended = withdraw_shadow(open_store(workspace))
    progress(f"release {ended} left the shadow" if ended else "no release is in the shadow")


def _leave_shadow(store: ReleaseStore, release: Release, progress: Progress) -> None:
    """End the shadow of models that are published."""
    shadow = shadow_of(store)
    if shadow is not None and get(store, shadow).bundles == release.bundles:
        withdraw_shadow(store)
        progress(f"release {shadow} left the shadow: its models are published")


def roll_back(
    workspace: Workspace,
    *,
    to: str | None = None,
    by: str = "",
    note: str = "",
    progress: Progress = lambda _: None,
) -> Release:
    """Return to an earlier release, and mirror it."""
    store = open_store(workspace)
    before = current(store)
    release = rollback(store, to, by=by, note=note)
    progress(f"release {release.release_id} is current again")
    mirror_aliases(workspace, store, before, progress)
    return release


def mirror_aliases(
    workspace: Workspace, store: ReleaseStore, before: Release | None, progress: Progress
) -> None:
    """Make MLflow's aliases say what the store says; a server that is down is told later.

    Of two that publish at once, the one that lost the race may be the last to write its aliases. So
    the store is read again afterwards, and the aliases are written again until both agree: whoever
    writes last has seen the release that is current.
    """
    release, missing = current(store), {}
    for _ in range(MIRROR_ATTEMPTS):
        try:
            missing = repair_aliases(workspace, release, before).missing
        except UnavailableError as error:
            progress(f"{error.what}; `bellwether relog` mirrors the release later")
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
    """Size the bands of a target by the newest book; without one, by the last moment tested."""
    folder = newest_vectors(workspace.state, features.hash)
    if folder is None:
        scores, counted_in = last_tested(candidate.folder), "the last moment that was tested"
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
