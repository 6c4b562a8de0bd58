"""The model artifact: a folder of text and JSON that loads without the training stack.

A bundle is ``manifest.json`` plus the model's text files. The manifest holds the checksum of every
file, and the bundle's identity is the checksum of the manifest, so one name vouches for all bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from configs.runtime.errors import ModelError
from configs.runtime.hashing import canonical_json
from configs.runtime.state_directory import MANIFEST, new_folder
from features.tables.catalog import FeatureInfo
from training.model.encoder import Columns, Encoded, Encoder
from training.model.predictors import Predictor, everything, predictor_from_files

FORMAT_VERSION = 1

Confidence = Literal["high", "medium", "low"]

CONFIDENCE_LIMITS = (0.25, 0.6)
"""Standard deviation of the log-odds up to which a score is of high and of medium confidence.

At a risk of 10 %, 0.25 means a 90 % range of about 7 to 14 %, and 0.6 one of about 4 to 23 %.
"""

RANGE_DEVIATIONS = 1.6448536269514722
"""Half-width of the shown range in standard deviations: 90 %."""


@dataclass(frozen=True)
class Calibration:
    """Served log-odds are ``slope · raw + intercept``.

    Attributes
    ----------
    slope, intercept : float
        The affine map in log-odds.
    covariance : tuple of three floats
        Var(slope), Cov(slope, intercept), Var(intercept).
    rule : str
        ``affine``, ``intercept`` or ``identity``.
    n_events : int
        Events it was fitted on.
    """

    slope: float = 1.0
    intercept: float = 0.0
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rule: str = "identity"
    n_events: int = 0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return calibrated log-odds."""
        return self.slope * raw + self.intercept

    def spread(self, raw: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the calibrated log-odds: model and calibration."""
        var_slope, cov, var_intercept = self.covariance
        calibration = raw**2 * var_slope + 2.0 * raw * cov + var_intercept
        total: np.ndarray = np.sqrt(np.maximum((self.slope * deviation) ** 2 + calibration, 0.0))
        return total


@dataclass(frozen=True)
class Scores:
    """Scores of some rows.

    Attributes
    ----------
    p : numpy.ndarray
        Probability, in (0, 1).
    logit : numpy.ndarray
        The same as calibrated log-odds.
    spread : numpy.ndarray
        Standard deviation of `logit`: disagreement of the members, uncertainty of calibration.
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
        """Confidence of the model in each row: high, medium or low, by `CONFIDENCE_LIMITS`."""
        return self.confidence_at(CONFIDENCE_LIMITS)

    def confidence_at(self, limits: Sequence[float]) -> list[Confidence]:
        """Return the confidence in each row, by the limits that the release froze."""
        words: tuple[Confidence, ...] = ("high", "medium", "low")
        return [words[i] for i in np.searchsorted(np.asarray(limits), self.spread)]


@dataclass(frozen=True)
class Contributions:
    """What each feature adds, on the calibrated log-odds: base + sum(values) = logit(p).

    Attributes
    ----------
    base : float
        Log-odds of the model before it looks at the row.
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
    """A model with everything needed to serve, explain and replay it.

    Attributes
    ----------
    manifest : mapping
        Plain JSON content; see `training.candidates.train` for what is written.
    predictor : Predictor
        The fitted model.
    """

    manifest: Mapping[str, Any]
    predictor: Predictor

    @cached_property
    def encoder(self) -> Encoder:
        """Columns to matrix."""
        return Encoder.from_dict(self.manifest["encoder"])

    @cached_property
    def info(self) -> tuple[FeatureInfo, ...]:
        """The features in matrix order."""
        return tuple(FeatureInfo(**item) for item in self.manifest["features"])

    @cached_property
    def calibration(self) -> Calibration:
        """The affine map to served log-odds."""
        plain = self.manifest["calibration"]
        return Calibration(**(plain | {"covariance": tuple(plain["covariance"])}))

    @property
    def target(self) -> str:
        """Name of the target."""
        return str(self.manifest["target"])

    @property
    def outcome(self) -> str:
        """``churn``, ``contraction`` or ``expansion``."""
        return str(self.manifest["outcome"])

    @property
    def verdict(self) -> str:
        """``promotable``, ``provisional`` or ``no_signal``."""
        return str(self.manifest["verdict"])

    @property
    def base_rate(self) -> float:
        """Share of positives among all training rows; what is served where there is no signal."""
        return float(self.manifest["base_rate"])

    @property
    def rung(self) -> str:
        """Step of the small-data ladder the model stands on; empty in bundles that do not say."""
        return str(self.manifest.get("rung", {}).get("name", ""))

    @property
    def evidence(self) -> str:
        """Why it stands there and, where evidence is thin, what is missing and until when."""
        return str(self.manifest.get("evidence", ""))

    @property
    def has_reasons(self) -> bool:
        """False where the base rate is served: there is nothing to explain."""
        return self.verdict != "no_signal"

    def encode(self, columns: Columns) -> Encoded:
        """Return the matrix of named feature columns."""
        return self.encoder.encode(columns)

    def predict(self, matrix: np.ndarray) -> Scores:
        """Score encoded rows."""
        self._check(matrix)
        return self._scores(*self.predictor.raw_and_spread(matrix))

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Return the probabilities of encoded rows alone: `predict` says how sure they are too."""
        self._check(matrix)
        return sigmoid(self.calibration(self.predictor.raw(matrix)))

    def explain(self, matrix: np.ndarray) -> Contributions:
        """Split the calibrated log-odds of encoded rows over features."""
        self._check(matrix)
        return self._split(*self.predictor.contributions(matrix))

    def predict_and_explain(self, matrix: np.ndarray) -> tuple[Scores, Contributions]:
        """Return what `predict` and `explain` return, for little more than one of them."""
        self._check(matrix)
        found = everything(self.predictor, matrix)
        return self._scores(found.raw, found.deviation), self._split(found.base, found.values)

    def _scores(self, raw: np.ndarray, deviation: np.ndarray) -> Scores:
        logit = self.calibration(raw)
        return Scores(sigmoid(logit), logit, self.calibration.spread(raw, deviation))

    def _split(self, base: float, values: np.ndarray) -> Contributions:
        slope, intercept = self.calibration.slope, self.calibration.intercept
        return Contributions(slope * base + intercept, slope * values)

    def change_spread(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the standard deviation of how far the log-odds of encoded rows moved.

        Like `Scores.spread`, of the difference: what all members and any calibration agree on
        cancels.
        """
        calibration = self.calibration
        moved = self.predictor.raw(after) - self.predictor.raw(before)
        deviation = calibration.slope * self.predictor.change_spread(before, after)
        total: np.ndarray = np.sqrt(deviation**2 + moved**2 * calibration.covariance[0])
        return total

    def warm(self) -> None:
        """Make explanations fast, in the background; it answers as well before that is done."""
        if self.has_reasons:
            self.predictor.warm()

    def _check(self, matrix: np.ndarray) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != len(self.encoder.names):
            raise ModelError(
                f"the model takes {len(self.encoder.names)} features, the rows have shape "
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
    """Return the log-odds of probabilities, which are kept `edge` away from 0 and 1."""
    inside = np.clip(np.asarray(p, dtype=np.float64), edge, 1.0 - edge)
    odds: np.ndarray = np.log(inside) - np.log1p(-inside)
    return odds


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sealed_manifest(bundle: Bundle) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the manifest as written, with the checksum of every file, and the files."""
    files = bundle.predictor.files()
    checksums = {name: _sha(text.encode()) for name, text in sorted(files.items())}
    sealed = {
        **bundle.manifest,
        "format_version": FORMAT_VERSION,
        "kind": bundle.predictor.kind,
        "files": checksums,
    }
    return sealed, files


def bundle_identity(bundle: Bundle) -> str:
    """Return the sha under which a bundle would be saved."""
    return _sha((canonical_json(sealed_manifest(bundle)[0]) + "\n").encode())


def save(bundle: Bundle, root: Path) -> str:
    """Write the bundle into ``root/<sha>/`` and return its sha; the same bundle, the same bytes."""
    manifest, files = sealed_manifest(bundle)
    sha = bundle_identity(bundle)
    folder = root / sha
    if _is_intact(folder, sha):
        return sha
    with new_folder(folder, manifest) as aside:
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
        When there is no manifest.
    """
    try:
        return _sha((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise ModelError(
            "there is no bundle here", where=str(folder), fix="bellwether train"
        ) from error


def load(folder: Path, expected_sha: str | None = None) -> Bundle:
    """Read a bundle and verify every byte.

    Parameters
    ----------
    folder : Path
        The bundle's folder.
    expected_sha : str, optional
        Its identity as the release or the ledger knows it.

    Raises
    ------
    ModelError
        When it is absent, changed, or written in a newer format.
    """
    sha = bundle_sha(folder)
    if expected_sha is not None and sha != expected_sha:
        raise _damaged(folder, f"its checksum is {sha[:12]}…, expected {expected_sha[:12]}…")
    manifest = _read_manifest(folder)
    files = {name: _read_file(folder, name, known) for name, known in manifest["files"].items()}
    try:
        seeds = [int(seed) for seed in manifest["seeds"]]
        predictor = predictor_from_files(manifest["kind"], files, seeds)
    except ModelError as error:
        raise ModelError(error.what, where=str(folder), fix=error.fix) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, f"the manifest misses {error}") from error
    return Bundle(manifest, predictor)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"the manifest cannot be read: {error}") from error
    if version != FORMAT_VERSION:
        raise ModelError(
            f"the bundle has format {version}, this version reads {FORMAT_VERSION}",
            where=str(folder),
            fix="train again, or use the version of Bellwether that wrote it",
        )
    if not isinstance(manifest.get("files"), dict):
        raise _damaged(folder, "the manifest lists no files")
    return dict(manifest)


def _read_file(folder: Path, name: str, known: str) -> str:
    if Path(name).name != name:
        raise _damaged(folder, f"the file name {name!r} leaves the folder")
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
