"""Earlier releases and bundles as the state directory keeps them, verified, to score with again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from configs.runtime.errors import ModelError, StateError
from configs.runtime.state_directory import State, read_json
from serving.ledger.store.score_rows import ScoreRow, unpack_features
from training.model.bundle import Bundle, load
from training.registry.releases import Release, release_from_dict

KEPT_BUNDLES = 8
"""Bundles held in memory; the oldest used makes room."""


class ModelArchive:
    """Releases and bundles of earlier scores. Threads may share one.

    Parameters
    ----------
    state : State
        Holds ``bundles/`` and ``releases/``.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._bundles: OrderedDict[str, Bundle] = OrderedDict()
        self._releases: dict[str, Release] = {}
        self._lock = threading.Lock()

    def bundle(self, sha: str) -> Bundle:
        """Return a bundle by its identity, every byte verified when it is read.

        Raises
        ------
        ModelError
            It is absent, or was changed after it was written.
        """
        found = self._bundles.get(sha) or load(self._state.bundles / sha, expected_sha=sha)
        self.adopt(sha, found)
        return found

    def adopt(self, sha: str, bundle: Bundle) -> None:
        """Keep a verified bundle that is in memory already."""
        with self._lock:
            self._bundles[sha] = bundle
            self._bundles.move_to_end(sha)
            while len(self._bundles) > KEPT_BUNDLES:
                self._bundles.popitem(last=False)

    def release(self, release_id: str) -> Release:
        """Return a release by its id, its content verified.

        Raises
        ------
        StateError
            It is absent, or was changed after it was made.
        """
        if release_id not in self._releases:
            path = self._state.releases / f"{release_id}.json"
            try:
                self._releases[release_id] = release_from_dict(read_json(path))
            except FileNotFoundError as error:
                raise StateError(
                    f"release {release_id} is not kept here",
                    where=str(path),
                    fix="bellwether score COMPANY   writes the mirror of the releases again",
                ) from error
        return self._releases[release_id]

    def columns(self, rows: Sequence[ScoreRow]) -> dict[str, np.ndarray]:
        """Return the vectors of scores of one release as named columns, (rows,) each.

        Raises
        ------
        StateError
            A vector is not one of its release.
        """
        names = self.release(rows[0].release_id).feature_set["names"]
        for row in rows:
            if len(row.features) != 8 * len(names):
                raise StateError(
                    f"{len(row.features) // 8} features are kept, the release has {len(names)}",
                    where=f"score {row.score_id}, release {row.release_id}",
                )
        packed = b"".join(row.features for row in rows)
        matrix = unpack_features(packed).reshape(len(rows), len(names))
        return dict(zip(names, matrix.T, strict=True))

    def matrix(self, rows: Sequence[ScoreRow], bundle: Bundle) -> tuple[np.ndarray, list[int]]:
        """Return the vectors of scores of one release as a bundle takes them.

        Returns
        -------
        matrix : numpy.ndarray
            (rows, features of the bundle), NaN in columns the release did not compute.
        lacking : list of int
            Those columns.
        """
        columns = self.columns(rows)
        unknown = np.full(len(rows), np.nan)
        names = bundle.encoder.names
        lacking = [position for position, name in enumerate(names) if name not in columns]
        known = {name: columns.get(name, unknown) for name in names}
        return bundle.encode(known).matrix, lacking

    def bundle_of(self, row: ScoreRow) -> Bundle:
        """Return the bundle that gave a score, which its release must name.

        Raises
        ------
        ModelError
            Release and score name different bundles, or the bundle is absent or changed.
        """
        named = self.release(row.release_id).bundles.get(row.target, {}).get("sha")
        if named != row.bundle_sha:
            raise ModelError(
                f"the score names bundle {row.bundle_sha[:12]}…, its release "
                f"{str(named)[:12]}… for {row.target}",
                where=f"score {row.score_id}, release {row.release_id}",
            )
        return self.bundle(row.bundle_sha)
