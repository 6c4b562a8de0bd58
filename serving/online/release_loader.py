"""Loading of releases: tried, verified, warmed, and kept up to date with the newest book."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from configs.runtime.errors import StateError
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore, OnlineRow, OnlineRows
from serving.batch.stored_answers import answer_key
from serving.ledger.model_archive import ModelArchive
from serving.online.release_trial import ReleaseTrials
from serving.scoring.scorer import Scorer, load_peers
from training.model.bands import newest_vectors
from training.registry.releases import Release, mark_served
from training.registry.shadow import read_shadow

logger = logging.getLogger("bellwether.serving")

Ranks = Mapping[str, np.ndarray]
"""Ascending probabilities of a published book (`serving.batch.score_book.read_ranks`)."""


@dataclass(frozen=True)
class LoadedRelease:
    """One release with everything that answers for it.

    Attributes
    ----------
    scorer : Scorer
        The release, with peers and ranks of the newest book.
    store : FeastStore
        Where its vectors are read.
    vectors : str
        Identity of the book its peers are of.
    shadow : Scorer or None
        The release in the shadow, where it takes the same vectors.
    """

    scorer: Scorer
    store: FeastStore
    vectors: str
    shadow: Scorer | None = None

    @property
    def release(self) -> Release:
        """The published release."""
        return self.scorer.release


class ReleaseLoader:
    """Loads the releases of one company for one process.

    Parameters
    ----------
    workspace : Workspace
        The company.
    archive : ModelArchive
        Is given the models that were loaded.
    clock : callable
        Returns now, UTC.
    """

    def __init__(
        self, workspace: Workspace, archive: ModelArchive, clock: Callable[[], datetime]
    ) -> None:
        self._workspace, self._archive, self._clock = workspace, archive, clock
        self._trials = ReleaseTrials(workspace.state)

    def load(self, release: Release, ranks: Ranks) -> LoadedRelease:
        """Try a release, load it aside and warm it.

        Raises
        ------
        StateError
            Its features are not in the online store yet.
        ModelError
            A bundle is missing, damaged or makes no sense.
        """
        scorer = self._tried(release)
        # A new handle: a registry read earlier does not know views declared since.
        store = FeastStore(self._workspace)
        if not store.is_ready(scorer.feature_hash):
            raise StateError(
                f"release {release.release_id} waits: its features "
                f"{release.feature_set['hash']} are not in the online store"
            )
        stage = self.with_book(LoadedRelease(scorer, store, ""), ranks)
        _warm(stage, self._clock())
        for model in scorer.models:
            model.bundle.warm()
            self._archive.adopt(model.sha, model.bundle)
        logger.info("release %s is loaded", release.release_id)
        self._remember(release)
        return stage

    def with_book(self, stage: LoadedRelease, ranks: Ranks) -> LoadedRelease:
        """Return the stage with the peers of the newest vectors and the ranks of the last book."""
        scorer = stage.scorer
        folder = newest_vectors(self._workspace.state, scorer.feature_hash)
        vectors = f"{folder.name}/{folder.stat().st_mtime_ns}" if folder else ""
        if vectors != stage.vectors:
            scorer = scorer.with_peers(load_peers(folder, scorer.release.feature_set["names"]))
        if ranks is not scorer.ranks:
            scorer = scorer.with_ranks(ranks)
        if scorer is stage.scorer:
            return stage
        return replace(stage, scorer=scorer, vectors=vectors)

    def with_shadow(self, stage: LoadedRelease) -> LoadedRelease:
        """Return the stage with the release in the shadow, where it takes the same vectors."""
        release = read_shadow(self._workspace.state.releases)
        if release is None or release.feature_set["hash"] != stage.scorer.feature_hash:
            return replace(stage, shadow=None)
        known = stage.shadow
        if known is not None and known.release.release_id == release.release_id:
            return stage
        return replace(stage, shadow=self._tried(release))

    def _tried(self, release: Release) -> Scorer:
        """Load a release that another process has scored a sample with."""
        vectors = newest_vectors(self._workspace.state, release.feature_set["hash"])
        self._trials.check(release, vectors)
        return Scorer.load(self._workspace, release)

    def _remember(self, release: Release) -> None:
        try:
            mark_served(self._workspace.state.releases, release)
        except (OSError, StateError) as error:
            logger.warning("which release is served cannot be noted: %s", error)


def _warm(stage: LoadedRelease, now: datetime) -> None:
    """Read and score once, so that the first caller does not pay for it."""
    scorer = stage.scorer
    answer_key(scorer, OnlineRow(now, b"", b"", b""), now)  # hashes the code, peers and ranks
    stage.store.online(scorer.feature_hash, scorer.width, [""])
    nothing = np.full((1, scorer.width), np.nan)
    facts = {"status": "scored", "tenure_days": 0}
    scorer.score([""], OnlineRows(np.ones(1, dtype=bool), nothing, nothing, [facts], [now]), now)
