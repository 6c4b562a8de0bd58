"""Reproduction of a training: every number of the model card, and the model itself.

Without a refit, calibration, evaluation, gates and card are recomputed from the stored out-of-time
predictions, folds and configuration. With a refit, the rows are joined from the feature store
again, the recorded settings are fitted at every cut-off, and the bundle must be identical.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from configs.runtime.errors import BellwetherError, ModelError, StateError
from configs.runtime.hashing import file_digest
from configs.runtime.state_directory import HAS_FORGOTTEN, read_json, read_manifest
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.pipeline import build_features
from training.candidates.gates import GateResult, apply_checks, evaluate_gates
from training.candidates.train import (
    TrainingPlan,
    calibrated_forward,
    evaluate_predictions,
    pooled_calibration,
    train,
)
from training.checks.context import Evidence
from training.checks.source_evidence import gather_evidence
from training.data.training_frame import TrainingFrame
from training.evaluation.evaluate import Evaluation
from training.evaluation.sampling import MODEL, MODEL_RAW
from training.model.bundle import Bundle, bundle_identity, load, sigmoid
from training.model.manifest_parts import CheckResult, ModelTier
from training.pipeline import InputsJson, TrainedCandidate, config_of, frame_of
from training.registry.model_card import model_card
from training.registry.releases import plain_json
from training.tabular.table_frame import build_table_frame

Json = Any
"""JSON content."""

SHOWN = 20
"""Number of differences listed in an error; the others are counted."""


Rows = Callable[[str, Company], tuple[TrainingFrame, Evidence | None]]
"""Function that rebuilds the rows of a target and the evidence for its checks."""


@dataclass(frozen=True)
class Difference:
    """A value that was not reproduced."""

    what: str
    stored: Json
    found: Json

    def __str__(self) -> str:
        return f"{self.what}: stored {_short(self.stored)}, recomputed {_short(self.found)}"


@dataclass
class ReproductionResult:
    """Result of a reproduction.

    Attributes
    ----------
    target : str
        Name of the target.
    n_compared : int
        Recomputed values, compared for exact equality.
    differences : list of Difference
        Values that are not equal.
    """

    target: str
    n_compared: int = 0
    differences: list[Difference] = field(default_factory=list)

    def compare(self, what: str, stored: Json, found: Json) -> None:
        """Compare two plain JSON values, leaf by leaf."""
        for path, left, right in _leaves(what, stored, found):
            self.n_compared += 1
            if left != right:
                self.differences.append(Difference(path, left, right))

    def require(self) -> None:
        """Raise if any value differs.

        Raises
        ------
        ModelError
            With the stored and the recomputed value of each difference.
        """
        if not self.differences:
            return
        lines = [f"  {item}" for item in self.differences[:SHOWN]]
        more = len(self.differences) - SHOWN
        raise ModelError(
            f"{self.target}: {len(self.differences)} of {self.n_compared:,} values were not "
            "reproduced:\n" + "\n".join(lines) + (f"\n  and {more} more" if more > 0 else ""),
            where=f"training/{self.target}",
            fix="restore the folder from a copy, or train again",
        )


@dataclass(frozen=True)
class StoredRun:
    """Stored training with its bundle and inputs.

    Attributes
    ----------
    candidate : TrainedCandidate
        The training.
    bundle : Bundle
        Its model.
    company : Company
        Configuration of the training, which can differ from the present one.
    plan : TrainingPlan
        Settings per cut-off.
    inputs : mapping
        Content of ``inputs.json``.
    """

    candidate: TrainedCandidate
    bundle: Bundle
    company: Company
    plan: TrainingPlan
    inputs: InputsJson

    @property
    def folds(self) -> pd.DataFrame:
        """One row per fold (`training.data.splits.describe`)."""
        return pq.read_table(self.candidate.folder / "folds.parquet").to_pandas()

    @property
    def tier(self) -> ModelTier:
        """Model tier of the target."""
        assert self.bundle.manifest.tier is not None
        return self.bundle.manifest.tier

    @property
    def checks(self) -> list[CheckResult]:
        """Results of the methodological checks."""
        return self.candidate.checks


def read_stored_run(workspace: Workspace, candidate: TrainedCandidate) -> StoredRun:
    """Read a stored training and its inputs.

    Raises
    ------
    StateError
        It was trained by an earlier version, without its inputs.
    ModelError
        Its bundle is damaged.
    """
    try:
        inputs = read_json(candidate.folder / "inputs.json")
    except FileNotFoundError as error:
        raise StateError(
            "the inputs of this training were not stored",
            where=str(candidate.folder),
            fix="bellwether train COMPANY",
        ) from error
    bundle = load(workspace.state.bundles / candidate.sha, candidate.sha)
    company = Company.model_validate(inputs["company"])
    plan = TrainingPlan.from_dict(inputs["plan"], threads=company.training.threads)
    return StoredRun(candidate, bundle, company, plan, inputs)


def verify(workspace: Workspace, candidate: TrainedCandidate) -> ReproductionResult:
    """Recompute a training from its stored predictions and compare it with the stored results.

    Compared are the checksums of the files, the calibration, the probabilities, all numbers of the
    evaluation, the gates and verdict, their copies in the bundle, and the lines of the card. After
    `bellwether forget` replaced the id of an account in the predictions: the checksums, the
    calibration, the probabilities and the headline measures, without their intervals.
    """
    stored, result = read_stored_run(workspace, candidate), ReproductionResult(candidate.target)
    _compare_files(result, candidate)
    predictions = candidate.predictions
    _compare_probabilities(result, stored, predictions)
    evaluation = evaluate_predictions(
        predictions,
        stored.folds,
        stored.company,
        target=candidate.target,
        over=stored.inputs["over"],
        notes=stored.inputs["notes"],
        tuning=stored.plan.note,
    )
    _compare_evidence(result, stored, evaluation)
    return result


def verify_refit(
    workspace: Workspace, candidate: TrainedCandidate, rows: Rows
) -> ReproductionResult:
    """Join the rows, refit the recorded settings, and compare for identical bytes.

    Raises
    ------
    StateError
        Data, features or labels changed since the training.
    """
    stored, result = read_stored_run(workspace, candidate), ReproductionResult(candidate.target)
    frame, evidence = rows(candidate.target, stored.company)
    known, found = stored.bundle.manifest.training_fingerprint, frame.fingerprint()
    if known != found:
        raise StateError(
            f"the rows differ from the training rows of the {candidate.target} model "
            f"({found}, not {known})",
            where=str(workspace.state.root),
            fix="bellwether train COMPANY   trains on the present data",
        )
    sha = stored.inputs["published"]
    published = load(workspace.state.bundles / sha, sha) if sha else None
    again = train(
        frame,
        stored.company,
        storage_url="",
        champion=config_of(published, stored.company),
        published=published,
        evidence=evidence,
        plan=stored.plan,
    )
    _compare_frames(result, candidate.predictions, again.predictions)
    result.compare("evaluation", candidate.evaluation, plain_json(again.evaluation.as_dict()))
    result.compare("judgement", candidate.gate_result, plain_json(again.gate_result.as_dict()))
    result.compare("bundle.sha", candidate.sha, bundle_identity(again.bundle))
    return result


def rebuilt_rows(
    workspace: Workspace, now: datetime, progress: Callable[[str], None] = lambda _: None
) -> Rows:
    """Return a function that rebuilds the rows of any target from its sources."""
    if workspace.company.table is not None:
        table = build_table_frame(workspace, now)
        return lambda _target, _company: (table.frame, None)
    built = build_features(workspace, now, progress)
    evidence = gather_evidence(workspace, built, progress)
    return lambda target, company: (frame_of(company, built, target), evidence)


def _compare_files(result: ReproductionResult, candidate: TrainedCandidate) -> None:
    manifest = read_manifest(candidate.folder) or {}
    for name, known in sorted(manifest.get("files", {}).items()):
        path = candidate.folder / name
        result.compare(
            f"checksum of {name}", known, file_digest(path) if path.is_file() else "no file"
        )


def _compare_probabilities(
    result: ReproductionResult, stored: StoredRun, predictions: pd.DataFrame
) -> None:
    """Recompute calibration and probabilities from the stored log-odds and outcomes."""
    raw = sigmoid(predictions["raw"].to_numpy())
    _compare_column(result, f"p_{MODEL_RAW}", predictions, raw)
    if stored.inputs["over"] != "time":
        return  # calibrated on each fold's training rows, which need a refit
    cutoffs = list(zip(stored.folds["fold"], stored.folds["cutoff"], strict=True))
    pairs = {f"p_{MODEL}": "raw", "p_champion": "raw_champion"}
    for name, column in pairs.items():
        if column in predictions:
            p = calibrated_forward(predictions, cutoffs, column)
            _compare_column(result, name, predictions, p)
    if stored.bundle.has_reasons:
        found, known = pooled_calibration(predictions), stored.bundle.calibration
        for part in ("slope", "intercept", "rule", "n_events", "covariance"):
            result.compare(f"calibration.{part}", getattr(known, part), getattr(found, part))


def _compare_column(
    result: ReproductionResult, name: str, predictions: pd.DataFrame, found: np.ndarray
) -> None:
    known = predictions[name].to_numpy(dtype=np.float64)
    result.n_compared += len(known)
    wrong = np.flatnonzero((known != found) & ~(np.isnan(known) & np.isnan(found)))
    for row in wrong[:SHOWN]:
        entity, fold = predictions["entity_id"].iloc[row], predictions["fold"].iloc[row]
        what = f"predictions.{name} of {entity} in fold {fold}"
        result.differences.append(Difference(what, float(known[row]), float(found[row])))


def _compare_frames(result: ReproductionResult, known: pd.DataFrame, found: pd.DataFrame) -> None:
    result.compare("predictions.rows", len(known), len(found))
    result.compare("predictions.columns", sorted(known), sorted(found))
    if len(known) != len(found):
        return
    for name in map(str, known.select_dtypes("number")):
        if name in found:
            _compare_column(result, name, known, found[name].to_numpy(dtype=np.float64))


def _without_intervals(value: Any) -> Any:
    """Return plain JSON without ends of intervals and standard errors."""
    if isinstance(value, Mapping):
        return {
            key: _without_intervals(item)
            for key, item in value.items()
            if key not in ("low", "high", "se")
        }
    if isinstance(value, list):
        return [_without_intervals(item) for item in value]
    return value


def _compare_evidence(
    result: ReproductionResult, stored: StoredRun, evaluation: Evaluation
) -> None:
    """Compare evaluation, gates, their copies in the bundle, and the card."""
    candidate, manifest = stored.candidate, stored.bundle.manifest
    recorded = manifest.to_dict()
    plain = plain_json(evaluation.as_dict())
    if (read_manifest(candidate.folder) or {}).get(HAS_FORGOTTEN):
        # Intervals and ties depend on the order of the account ids, which a pseudonym changes.
        pair = (recorded["metrics"], plain_json(evaluation.summary()))
        known, found = map(_without_intervals, pair)
        result.compare("bundle.metrics", known, found)
        return
    gate_result = _gate_result(stored, evaluation)
    recomputed = plain_json(gate_result.as_dict())
    result.compare("evaluation", candidate.evaluation, plain)
    result.compare("judgement", candidate.gate_result, recomputed)
    result.compare("bundle.metrics", recorded["metrics"], plain_json(evaluation.summary()))
    result.compare("bundle.gates", recorded["gates"], recomputed["gates"])
    result.compare("bundle.verdict", recorded["verdict"], gate_result.verdict)
    result.compare(
        "bundle.checks", recorded["checks"], [item.as_dict() for item in candidate.checks]
    )
    result.compare("bundle.config_hash", recorded["config_hash"], stored.company.config_hash)
    card = model_card(candidate.target, manifest.changed(gates=gate_result.gates), plain)
    written = (candidate.folder / "card.md").read_text(encoding="utf-8")
    result.compare("card", _lines(written), _lines(card))


def _gate_result(stored: StoredRun, evaluation: Evaluation) -> GateResult:
    return apply_checks(
        evaluate_gates(evaluation, stored.tier, stored.company.gates), stored.checks
    )


def _lines(text: str) -> dict[str, str]:
    return {f"line {number}": line for number, line in enumerate(text.splitlines(), start=1)}


def _leaves(path: str, stored: Json, found: Json) -> Iterator[tuple[str, Json, Json]]:
    """Yield the leaves of two JSON values in pairs; a missing leaf is None.

    >>> list(_leaves("a", {"b": [1, 2]}, {"b": [1]}))
    [('a.b[0]', 1, 1), ('a.b[1]', 2, None)]
    """
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*stored, *found]):
            yield from _leaves(f"{path}.{key}", stored.get(key), found.get(key))
    elif isinstance(stored, list | tuple) and isinstance(found, list | tuple):
        for place in range(max(len(stored), len(found))):
            pair = [side[place] if place < len(side) else None for side in (stored, found)]
            yield from _leaves(f"{path}[{place}]", *pair)
    else:
        yield path, stored, found


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:159]}…"


def verify_all(
    workspace: Workspace, candidates: Mapping[str, TrainedCandidate], rows: Rows | None = None
) -> list[ReproductionResult]:
    """Verify several trainings, with a refit if `rows` are given; raise after all of them.

    Raises
    ------
    ModelError
        With the differences of each.
    """
    results = [verify(workspace, item) for item in candidates.values()]
    if rows is not None:
        results += [verify_refit(workspace, item, rows) for item in candidates.values()]
    errors: list[BellwetherError] = []
    for item in results:
        try:
            item.require()
        except ModelError as error:
            errors.append(error)
    if errors:
        raise ModelError(
            "\n".join(item.what for item in errors), where=errors[0].where, fix=errors[0].fix
        )
    return results
