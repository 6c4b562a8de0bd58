"""A release is tried in a process of its own before it is served: checksums say nothing of sense.

A model whose files are whole may still give NaN, end a process or never come to an end (a tree that
leads back to itself). So another process loads it, scores a sample, and has only so much time; what
passed once is noted by its checksum and not tried again.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.runtime.errors import BellwetherError, ModelError
from configs.runtime.state_directory import MANIFEST, State, write_text_atomically
from training.model.bundle import Bundle, load
from training.model.manifest_parts import FeatureReference
from training.registry.releases import Release

TRIAL = "1"
"""Changes with what is looked at: what passed an earlier trial is tried again."""

COMPUTE_SECONDS, WAIT_SECONDS = 20, 180
"""Time of a processor, and time on the clock, that a trial may take."""

AGAIN_SECONDS = 600.0
"""Pause before a failed release is tried again: the machine may have been too busy."""

N_DRAWN, N_ACCOUNTS, N_EXPLAINED = 256, 256, 8
SUM_TOLERANCE = 1e-6

_FAILED = 3
_TREE = re.compile(r"^Tree=\d+$", re.MULTILINE)


class ReleaseTrials:
    """Trials of releases and their results; threads may share one.

    Parameters
    ----------
    state : State
        Holds ``bundles/`` and ``releases/``, where passed trials are noted.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._failed: dict[str, tuple[float, ModelError]] = {}
        self._lock = threading.Lock()

    def check(self, release: Release, vectors: Path | None) -> None:
        """Try every bundle of a release that has not passed yet.

        Parameters
        ----------
        release : Release
            What is to be served.
        vectors : Path, optional
            Folder of the newest book's vectors, to score some accounts of.

        Raises
        ------
        ModelError
            A bundle cannot be loaded, gives no probabilities, or comes to no end.
        """
        with self._lock:
            new = {t: str(part["sha"]) for t, part in release.bundles.items()}
            new = {target: sha for target, sha in new.items() if not self._note(sha).is_file()}
            if not new:
                return
            failed_at, error = self._failed.get(release.release_id, (0.0, None))
            if error is not None and time.monotonic() - failed_at < AGAIN_SECONDS:
                raise error
            target, mistake = run_trial(self._state, new, release, vectors)
            if mistake:
                raise self._refusal(release, target, mistake)
            self._failed.pop(release.release_id, None)
            for sha in new.values():
                _keep(self._note(sha))

    def _note(self, sha: str) -> Path:
        return self._state.releases / ".tried" / f"{sha}-{TRIAL}"

    def _refusal(self, release: Release, target: str, mistake: str) -> ModelError:
        told = ModelError(
            f"release {release.release_id} is refused: the model of {target} {mistake}",
            where=str(self._state.bundles / str(release.bundles[target]["sha"])),
            fix="bellwether rollback, or train and publish again",
        )
        # What was changed is found by its checksum at once, and may be put right at any time.
        if "damaged" not in mistake and "no bundle here" not in mistake:
            self._failed[release.release_id] = (time.monotonic(), told)
        return told


def _keep(note: Path) -> None:
    try:
        write_text_atomically(note, "")
    except (OSError, BellwetherError):
        return  # tried again next time


def run_trial(
    state: State, shas: Mapping[str, str], release: Release, vectors: Path | None
) -> tuple[str, str]:
    """Try bundles in another process.

    Parameters
    ----------
    state : State
        Holds the bundles.
    shas : mapping of str to str
        Target to the bundle's checksum.
    release, vectors : Release, Path
        As `ReleaseTrials.check`.

    Returns
    -------
    target, mistake : str
        What is wrong with which; an empty mistake when nothing is.
    """
    asked = {
        "bundles": [
            {"target": target, "folder": str(state.bundles / sha), "sha": sha}
            for target, sha in shas.items()
        ],
        "names": release.feature_set["names"],
        "vectors": str(vectors / "part.parquet") if vectors else "",
    }
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-P", "-m", "serving.online.release_trial"]
    environment = {**os.environ, "PYTHONPATH": paths}
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and module
            command,
            input=json.dumps(asked),
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode().splitlines()
        words = f"was not scored within {WAIT_SECONDS} s: does a tree lead back to itself?"
        return (said or list(shas))[-1], words
    said = done.stdout.splitlines()
    if done.returncode == _FAILED:
        return said[-2], said[-1]
    return (said or list(shas))[-1], _verdict(done)


def _verdict(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return ""
    if done.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        return (
            f"came to no end in {COMPUTE_SECONDS} s of computing: does a tree lead back to itself?"
        )
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    return f"ended the process that tried it (status {done.returncode}): {last[:200]}"


def main() -> int:
    """Try the bundles that standard input names; print each target, and what is wrong with it."""
    limit = (COMPUTE_SECONDS, COMPUTE_SECONDS + 1)
    resource.setrlimit(resource.RLIMIT_CPU, limit)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.loads(sys.stdin.read())
    # LightGBM writes to standard output whatever it likes: that goes with the errors.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for bundle in asked["bundles"]:
        print(bundle["target"], file=told)  # noqa: T201  what the other process reads
        try:
            mistake = mistake_in({**asked, **bundle})
        except BellwetherError as error:
            mistake = f"cannot be used: {error.what}"
        except (ValueError, TypeError, KeyError, IndexError, ArithmeticError) as error:
            mistake = f"cannot be used: {type(error).__name__}: {error}"
        if mistake:
            print(" ".join(mistake.split()), file=told)  # noqa: T201
            return _FAILED
    return 0


def mistake_in(asked: Mapping[str, Any]) -> str:
    """Return what is wrong with a bundle; the empty string when it makes sense.

    Parameters
    ----------
    asked : mapping
        folder and sha of the bundle, names of the served vector, file of the newest vectors.

    Raises
    ------
    ModelError
        It cannot be loaded.
    """
    from serving.scoring.scorer import import_lightgbm_alone

    folder = Path(asked["folder"])
    # The text first: to hand LightGBM trees without sense may end the process.
    manifest = _manifest(folder)
    for path in sorted(folder.glob("*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        mistake = tree_mistake(text, len(manifest["encoder"]["names"]))
        if mistake and path.name in manifest["files"]:
            load(folder, expected_sha=asked["sha"])  # a file that was changed is said to be that
            return f"makes no sense: {path.name}, {mistake}"
    import_lightgbm_alone()
    bundle = load(folder, expected_sha=asked["sha"])
    if not 0.0 <= bundle.base_rate <= 1.0:
        return f"has a base rate of {bundle.base_rate}"
    drawn = drawn_rows(bundle)
    mistake = _unscored(bundle, drawn, "drawn values")
    if mistake or not asked["vectors"] or not Path(asked["vectors"]).is_file():
        return mistake
    return _unscored(bundle, account_rows(bundle, asked["names"], asked["vectors"]), "accounts")


def _manifest(folder: Path) -> dict[str, Any]:
    """Return a bundle's manifest, unverified; one that cannot be read lists nothing."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"encoder": {"names": []}, "files": {}}
    return manifest


def _unscored(bundle: Bundle, matrix: np.ndarray, what: str) -> str:
    """Return what is wrong with the scores of some rows."""
    scores = bundle.predict(matrix)
    for name, values in (("probability", scores.p), ("log-odds", scores.logit)):
        n_wrong = int((~np.isfinite(values)).sum())
        if n_wrong:
            return f"gives no {name} to {n_wrong} of {len(values)} {what}"
    inside = (scores.p >= 0) & (scores.p <= 1)
    if not inside.all():
        return f"gives {int((~inside).sum())} of {len(inside)} {what} no probability in [0, 1]"
    if not (np.isfinite(scores.spread) & (scores.spread >= 0)).all():
        return f"does not say how sure it is of {what}"
    if bundle.has_reasons:
        again, why = bundle.predict_and_explain(matrix[:N_EXPLAINED])
        near = SUM_TOLERANCE * np.maximum(1, np.abs(again.logit))
        gap = np.array([again.logit, why.logit]) - scores.logit[:N_EXPLAINED]
        if not (np.abs(gap) <= near).all():
            return f"gives reasons that do not add up to the scores of {what}"
    return ""


def drawn_rows(bundle: Bundle) -> np.ndarray:
    """Return encoded rows whose values are drawn from what each feature was in training.

    The first row knows nothing; the next are low and high in everything at once.
    """
    draw = np.random.default_rng(7)
    columns = []
    for name in bundle.encoder.names:
        seen = bundle.manifest.reference.get(name, FeatureReference())
        levels = range(len(bundle.encoder.levels.get(name, ())))
        known = [*seen.quantiles, seen.low, seen.high, *levels]
        values = [np.nan, *(float(value) for value in known if value is not None)]
        ends = [np.nan, np.nanmin([*values, 0.0]), np.nanmax([*values, 0.0])]
        columns.append(np.concatenate([ends, draw.choice(values, N_DRAWN)]))
    return np.column_stack(columns)


def account_rows(bundle: Bundle, names: Sequence[str], file: str) -> np.ndarray:
    """Return the encoded rows of some accounts of the newest book, spread over it."""
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["values"])
    chosen = np.unique(np.linspace(0, len(table) - 1, N_ACCOUNTS).astype(int))
    values = np.array(table["values"].take(chosen).to_pylist(), dtype=np.float64)
    columns = {name: values[:, place] for place, name in enumerate(names)}
    return bundle.encode({name: columns[name] for name in bundle.encoder.names}).matrix


def tree_mistake(text: str, n_features: int) -> str:
    """Return what is wrong with the trees of a model's text; the empty string when nothing is.

    >>> lines = ("Tree=0", "num_leaves=2", "left_child=-1", "right_child=0", "leaf_value=0 1")
    >>> tree_mistake(chr(10).join(lines), 3)
    'tree 0 is no tree: its nodes lead to [-1, 0]'
    """
    for number, part in enumerate(_TREE.split(text)[1:]):
        fields = dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
        mistake = _one_tree_mistake(fields, n_features)
        if mistake:
            return f"tree {number} {mistake}"
    return ""


def _one_tree_mistake(fields: Mapping[str, str], n_features: int) -> str:
    try:
        n_leaves = int(fields["num_leaves"])
        leaves = np.array(fields["leaf_value"].split(), dtype=np.float64)
        children = [int(word) for side in _SIDES for word in fields.get(side, "").split()]
        cuts = np.array(fields.get("threshold", "").split(), dtype=np.float64)
        asked = [int(word) for word in fields.get("split_feature", "").split()]
    except (KeyError, ValueError) as error:
        return f"cannot be read: {error}"
    if len(leaves) != n_leaves:
        return f"has {len(leaves)} leaves, not {n_leaves}"
    if not np.isfinite(leaves).all():
        return f"has a leaf of {leaves[~np.isfinite(leaves)][0]}"
    if np.isnan(cuts).any():
        return "splits at NaN"
    if any(not 0 <= feature < n_features for feature in asked):
        return f"asks for feature {max(asked)} of {n_features}"
    # Each inner node but the first, and each leaf (from -1 down), is led to once.
    if n_leaves > 1 and sorted(children) != [*range(-n_leaves, 0), *range(1, n_leaves - 1)]:
        return f"is no tree: its nodes lead to {children[:8]}"
    return ""


_SIDES = ("left_child", "right_child")

if __name__ == "__main__":
    sys.exit(main())
