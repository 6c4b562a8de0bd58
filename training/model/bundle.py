"""Bundle: the model artifact, a folder of text and JSON that loads without the training stack.

A bundle is ``manifest.json`` (`training.model.manifest`) plus the model's text files. The manifest
holds the checksum of every file, and the bundle's identity is the checksum of the manifest, so the
identity covers all bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from configs.runtime.errors import ModelError
from configs.runtime.hashing import canonical_json
from configs.runtime.state_directory import MANIFEST, new_folder
from features.tables.catalog import FeatureInfo
from training.model.encoder import Columns, Encoded, Encoder
from training.model.manifest import REQUIRED, ModelManifest
from training.model.manifest_parts import Calibration
from training.model.predictors import Predictor, predict_and_contributions, predictor_from_files

FORMAT_VERSION = 1

Confidence = Literal["high", "medium", "low"]

CONFIDENCE_LIMITS = (0.25, 0.6)
"""Standard deviation of the log-odds up to which a score is of high and of medium confidence.

At a risk of 10 %, 0.25 means a 90 % range of about 7 to 14 %, and 0.6 one of about 4 to 23 %.
"""

RANGE_DEVIATIONS = 1.6448536269514722
"""Half-width of the shown range in standard deviations: 90 %."""


@dataclass(frozen=True)
class Scores:
    """Calibrated scores, one per row.

    Attributes
    ----------
    p : numpy.ndarray
        Probability, in (0, 1).
    logit : numpy.ndarray
        The same as calibrated log-odds.
    spread : numpy.ndarray
        Standard deviation of `logit`: spread of the ensemble and uncertainty of the calibration.
    """

    p: np.ndarray
    logit: np.ndarray
    spread: np.ndarray

    @property
    def low(self) -> np.ndarray:
        """Lower end of the 90 % range of the probability."""
        return sigmoid(self.logit - RANGE_DEVIATIONS * self.spread)

    @property
    def high(self) -> np.ndarray:
        """Upper end of the 90 % range of the probability."""
        return sigmoid(self.logit + RANGE_DEVIATIONS * self.spread)

    @property
    def confidence(self) -> list[Confidence]:
        """Confidence of each row: high, medium or low, by `CONFIDENCE_LIMITS`."""
        return self.confidence_at(CONFIDENCE_LIMITS)

    def confidence_at(self, limits: Sequence[float]) -> list[Confidence]:
        """Return the confidence of each row by the limits frozen in the release."""
        words: tuple[Confidence, ...] = ("high", "medium", "low")
        return [words[i] for i in np.searchsorted(np.asarray(limits), self.spread)]


@dataclass(frozen=True)
class Contributions:
    """Contribution of each feature to the calibrated log-odds: base + sum(values) = logit(p).

    Attributes
    ----------
    base : float
        Log-odds of the average row.
    values : numpy.ndarray
        (rows, features).
    """

    base: float
    values: np.ndarray

    @property
    def logit(self) -> np.ndarray:
        """Log-odds of each row."""
        total: np.ndarray = self.base + self.values.sum(axis=1)
        return total


@dataclass(frozen=True)
class Bundle:
    """Model with everything needed to serve, explain and replay it.

    Attributes
    ----------
    manifest : ModelManifest
        Content of ``manifest.json``.
    predictor : Predictor
        The fitted model.
    """

    manifest: ModelManifest
    predictor: Predictor

    @property
    def encoder(self) -> Encoder:
        """Columns to matrix."""
        return self.manifest.encoder

    @property
    def info(self) -> tuple[FeatureInfo, ...]:
        """The features in matrix order."""
        return self.manifest.features

    @property
    def calibration(self) -> Calibration:
        """Affine map to served log-odds."""
        return self.manifest.calibration

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.manifest.target

    @property
    def outcome(self) -> str:
        """``churn``, ``contraction`` or ``expansion``."""
        return self.manifest.outcome

    @property
    def verdict(self) -> str:
        """``promotable``, ``provisional`` or ``no_signal``."""
        return self.manifest.verdict

    @property
    def base_rate(self) -> float:
        """Share of positives among all training rows; served where there is no signal."""
        return float("nan") if self.manifest.base_rate is None else self.manifest.base_rate

    @property
    def model_tier(self) -> str:
        """Name of the model tier; empty in bundles that do not record it."""
        return self.manifest.tier.name if self.manifest.tier else ""

    @property
    def evidence(self) -> str:
        """Reason for the model tier and, with few events, what is missing and until when."""
        return self.manifest.evidence

    @property
    def has_reasons(self) -> bool:
        """False where the base rate is served, which has no reasons."""
        return self.verdict != "no_signal"

    def encode(self, columns: Columns) -> Encoded:
        """Return the matrix of named feature columns."""
        return self.encoder.encode(columns)

    def predict(self, matrix: np.ndarray) -> Scores:
        """Score encoded rows."""
        self._check(matrix)
        return self._scores(*self.predictor.raw_and_spread(matrix))

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Return the probabilities of encoded rows, without the ranges that `predict` computes."""
        self._check(matrix)
        return sigmoid(self.calibration(self.predictor.raw(matrix)))

    def explain(self, matrix: np.ndarray) -> Contributions:
        """Attribute the calibrated log-odds of encoded rows to features."""
        self._check(matrix)
        return self._split(*self.predictor.contributions(matrix))

    def predict_and_explain(self, matrix: np.ndarray) -> tuple[Scores, Contributions]:
        """Return the results of `predict` and `explain` from one pass over the trees."""
        self._check(matrix)
        found = predict_and_contributions(self.predictor, matrix)
        return self._scores(found.raw, found.deviation), self._split(found.base, found.values)

    def _scores(self, raw: np.ndarray, deviation: np.ndarray) -> Scores:
        logit = self.calibration(raw)
        return Scores(sigmoid(logit), logit, self.calibration.spread(raw, deviation))

    def _split(self, base: float, values: np.ndarray) -> Contributions:
        slope, intercept = self.calibration.slope, self.calibration.intercept
        return Contributions(slope * base + intercept, slope * values)

    def change_spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the change in log-odds between two versions of rows.

        Like `Scores.spread`, of the difference: what all ensemble members and calibrations share
        cancels.
        """
        calibration = self.calibration
        moved = self.predictor.raw(after) - self.predictor.raw(before)
        deviation = calibration.slope * self.predictor.change_spread(before, after)
        total: np.ndarray = np.sqrt(deviation**2 + moved**2 * calibration.covariance[0])
        return total

    def warm(self) -> None:
        """Compile the explainer in the background; explanations work, slower, until it is done."""
        if self.has_reasons:
            self.predictor.warm()

    def _check(self, matrix: np.ndarray) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != len(self.encoder.names):
            raise ModelError(
                f"the model has {len(self.encoder.names)} features, the rows have shape "
                f"{matrix.shape}",
                where=f"target {self.target}",
                fix="encode rows with this bundle's encoder",
            )


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Return probabilities of log-odds, without overflow.

    >>> sigmoid(np.array([0.0, 800.0, -800.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    small = np.exp(-np.abs(logit))
    p: np.ndarray = np.where(logit >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
    return p


def logit_of(p: np.ndarray | float, *, edge: float = 1e-9) -> np.ndarray:
    """Return the log-odds of probabilities, clipped to ``[edge, 1 − edge]``."""
    inside = np.clip(np.asarray(p, dtype=np.float64), edge, 1.0 - edge)
    odds: np.ndarray = np.log(inside) - np.log1p(-inside)
    return odds


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sealed_manifest(bundle: Bundle) -> tuple[ModelManifest, dict[str, str]]:
    """Return the manifest as written, with the checksum of every file, and the files."""
    files = bundle.predictor.files()
    checksums = {name: _sha(text.encode()) for name, text in sorted(files.items())}
    sealed = bundle.manifest.changed(
        format_version=FORMAT_VERSION, kind=bundle.predictor.kind, files=checksums
    )
    return sealed, files


def bundle_identity(bundle: Bundle) -> str:
    """Return the SHA-256 under which a bundle would be saved."""
    return _sha((canonical_json(sealed_manifest(bundle)[0].to_dict()) + "\n").encode())


def save(bundle: Bundle, root: Path) -> str:
    """Write the bundle into ``root/<sha>/`` and return its SHA-256; equal bundles, equal bytes."""
    manifest, files = sealed_manifest(bundle)
    sha = bundle_identity(bundle)
    folder = root / sha
    if _is_intact(folder, sha):
        return sha
    with new_folder(folder, manifest.to_dict()) as aside:
        for name, text in files.items():
            (aside / name).write_bytes(text.encode())
    return sha


def _is_intact(folder: Path, sha: str) -> bool:
    if not (folder / MANIFEST).is_file():
        return False
    try:
        load(folder, expected_sha=sha)
    except ModelError:
        return False
    return True


def bundle_sha(folder: Path) -> str:
    """Return the identity of a bundle folder: the SHA-256 of its manifest.

    Raises
    ------
    ModelError
        The folder has no manifest.
    """
    try:
        return _sha((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise ModelError(
            "no bundle in this folder", where=str(folder), fix="bellwether train"
        ) from error


def load(folder: Path, expected_sha: str | None = None) -> Bundle:
    """Read a bundle and verify every byte.

    Parameters
    ----------
    folder : Path
        The bundle's folder.
    expected_sha : str, optional
        Its identity as recorded in the release or the ledger.

    Raises
    ------
    ModelError
        The bundle is absent, changed, or written in a newer format.
    """
    sha = bundle_sha(folder)
    if expected_sha is not None and sha != expected_sha:
        raise _damaged(folder, f"its checksum is {sha[:12]}…, expected {expected_sha[:12]}…")
    manifest = read_manifest(folder)
    files = {name: _read_file(folder, name, known) for name, known in manifest.files.items()}
    try:
        predictor = predictor_from_files(manifest.kind, files, list(manifest.seeds))
    except ModelError as error:
        raise ModelError(error.what, where=str(folder), fix=error.fix) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"the manifest misses {error}") from error
    return Bundle(manifest, predictor)


def read_manifest(folder: Path) -> ModelManifest:
    """Read the manifest of a bundle folder, without loading the model.

    Raises
    ------
    ModelError
        The manifest is unreadable, incomplete, or written in a newer format.
    """
    try:
        plain = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = plain["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"the manifest cannot be read: {error}") from error
    if version != FORMAT_VERSION:
        raise ModelError(
            f"the bundle has format {version}, this version reads {FORMAT_VERSION}",
            where=str(folder),
            fix="train again, or use the version of Bellwether that wrote it",
        )
    if not isinstance(plain.get("files"), dict):
        raise _damaged(folder, "the manifest lists no files")
    missing = [name for name in REQUIRED if name not in plain]
    if missing:
        raise _damaged(folder, f"the manifest misses {', '.join(missing)}")
    try:
        return ModelManifest.from_dict(plain)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise _damaged(folder, f"{place} of the manifest: {error.errors()[0]['msg']}") from error


def _read_file(folder: Path, name: str, known: str) -> str:
    if Path(name).name != name:
        raise _damaged(folder, f"the file name {name!r} points outside the folder")
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{name} is missing") from error
    if _sha(data) != known:
        raise _damaged(folder, f"{name} was changed after it was written")
    return data.decode("utf-8")


def _damaged(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"the bundle is damaged: {what}",
        where=str(folder),
        fix="restore the folder from a copy, or train again",
    )
