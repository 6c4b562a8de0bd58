"""Every number of a model card again, from what was kept; and the model itself, from the data.

Without a refit, the kept out-of-time predictions, folds and configuration give calibration,
evaluation, gates and card anew. With one, the rows are joined from the feature store again, the
recorded recipes are fitted again at every cut-off, and the bundle must come out to the byte.
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
from configs.runtime.state_directory import read_json, read_manifest
from configs.schema.company import Company
from configs.schema.workspace import Workspace
from features.pipeline import build_features
from training.candidates.gates import GateResult, apply_checks, evaluate_gates
from training.candidates.train import (
    TrainingPlan,
    calibrated_forward,
    evaluated,
    pooled_calibration,
    train,
)
from training.checks.context import Evidence
from training.checks.source_evidence import gather
from training.data.training_frame import TrainingFrame
from training.evaluation.evaluate import Evaluation
from training.evaluation.sampling import MODEL, MODEL_RAW
from training.model.bundle import Bundle, bundle_identity, load, sigmoid
from training.model.manifest_parts import CheckResult, ModelTier
from training.pipeline import TrainedCandidate, frame_of, recipe_of
from training.registry.model_card import model_card
from training.registry.releases import plain_json
from training.tabular.table_frame import build_table_frame

SHOWN = 20
"""Differences named in an error; the rest are counted."""


Rows = Callable[[str, Company], tuple[TrainingFrame, Evidence | None]]
"""Makes the rows of a target again, and what its checks ask of the sources."""


@dataclass(frozen=True)
class Difference:
    """One number that did not come out again."""

    what: str
    kept: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.what}: kept {_short(self.kept)}, recomputed {_short(self.found)}"


@dataclass
class ReproductionResult:
    """What was compared.

    Attributes
    ----------
    target : str
        Of the training.
    n_compared : int
        Values that were recomputed and compared, each for exact equality.
    differences : list of Difference
        Those that are not equal.
    """

    target: str
    n_compared: int = 0
    differences: list[Difference] = field(default_factory=list)

    def compare(self, what: str, kept: Any, found: Any) -> None:
        """Compare two plain JSON values, leaf by leaf."""
        for path, left, right in _leaves(what, kept, found):
            self.n_compared += 1
            if left != right:
                self.differences.append(Difference(path, left, right))

    def require(self) -> None:
        """Raise when anything differs.

        Raises
        ------
        ModelError
            Naming the numbers, the kept and the recomputed value of each.
        """
        if not self.differences:
            return
        lines = [f"  {item}" for item in self.differences[:SHOWN]]
        more = len(self.differences) - SHOWN
        raise ModelError(
            f"{self.target}: {len(self.differences)} of {self.n_compared:,} values did not come "
            "out again:\n" + "\n".join(lines) + (f"\n  and {more} more" if more > 0 else ""),
            where=f"training/{self.target}",
            fix="restore the folder from a copy, or train again",
        )


@dataclass(frozen=True)
class StoredRun:
    """A training as it lies in the state directory.

    Attributes
    ----------
    candidate : Candidate
        The training.
    bundle : Bundle
        Its model.
    company : Company
        The configuration it was made with, which may not be the present one.
    plan : Plan
        The recipes it decided on.
    inputs : mapping
        The rest of ``inputs.json``.
    """

    candidate: TrainedCandidate
    bundle: Bundle
    company: Company
    plan: TrainingPlan
    inputs: Mapping[str, Any]

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


def read_kept(workspace: Workspace, candidate: TrainedCandidate) -> StoredRun:
    """Read a training and what it was made from.

    Raises
    ------
    StateError
        It was made by an earlier version, which kept less.
    ModelError
        Its bundle is damaged.
    """
    try:
        inputs = read_json(candidate.folder / "inputs.json")
    except FileNotFoundError as error:
        raise StateError(
            "this training did not keep what it was made from",
            where=str(candidate.folder),
            fix="bellwether train COMPANY",
        ) from error
    bundle = load(workspace.state.bundles / candidate.sha, candidate.sha)
    company = Company.model_validate(inputs["company"])
    plan = TrainingPlan.from_dict(inputs["plan"], threads=company.training.threads)
    return StoredRun(candidate, bundle, company, plan, inputs)


def verify(workspace: Workspace, candidate: TrainedCandidate) -> ReproductionResult:
    """Recompute what the kept predictions give, and compare it with what was kept.

    Compared are the checksums of the files, the calibration, the probabilities, every number of the
    evaluation, the gates and verdict, what the bundle says of them, and the card line by line.
    """
    kept, result = read_kept(workspace, candidate), ReproductionResult(candidate.target)
    _compare_files(result, candidate)
    predictions = candidate.predictions
    _compare_probabilities(result, kept, predictions)
    evaluation = evaluated(
        predictions,
        kept.folds,
        kept.company,
        target=candidate.target,
        over=kept.inputs["over"],
        notes=kept.inputs["notes"],
        tuning=kept.plan.note,
    )
    _compare_evidence(result, kept, evaluation)
    return result


def verify_refit(
    workspace: Workspace, candidate: TrainedCandidate, rows: Rows
) -> ReproductionResult:
    """Join the rows again, fit the recorded recipes again, and compare to the byte.

    Raises
    ------
    StateError
        The rows are not those of the training: the data, the features or the labels changed.
    """
    kept, result = read_kept(workspace, candidate), ReproductionResult(candidate.target)
    frame, evidence = rows(candidate.target, kept.company)
    known, found = kept.bundle.manifest.training_fingerprint, frame.fingerprint()
    if known != found:
        raise StateError(
            f"the rows are others than those the {candidate.target} model was fitted on "
            f"({found}, not {known})",
            where=str(workspace.state.root),
            fix="bellwether train COMPANY   trains on what is there now",
        )
    sha = kept.inputs["published"]
    published = load(workspace.state.bundles / sha, sha) if sha else None
    again = train(
        frame,
        kept.company,
        storage_url="",
        champion=recipe_of(published, kept.company),
        published=published,
        evidence=evidence,
        plan=kept.plan,
    )
    _compare_frames(result, candidate.predictions, again.predictions)
    result.compare("evaluation", candidate.evaluation, plain_json(again.evaluation.as_dict()))
    result.compare("judgement", candidate.gate_result, plain_json(again.gate_result.as_dict()))
    result.compare("bundle.sha", candidate.sha, bundle_identity(again.bundle))
    return result


def rows_again(
    workspace: Workspace, now: datetime, progress: Callable[[str], None] = lambda _: None
) -> Rows:
    """Return what makes the rows of any target again, from its sources."""
    if workspace.company.table is not None:
        table = build_table_frame(workspace, now)
        return lambda _target, _company: (table.frame, None)
    built = build_features(workspace, now, progress)
    evidence = gather(workspace, built, progress)
    return lambda target, company: (frame_of(company, built, target), evidence)


def _compare_files(result: ReproductionResult, candidate: TrainedCandidate) -> None:
    manifest = read_manifest(candidate.folder) or {}
    for name, known in sorted(manifest.get("files", {}).items()):
        path = candidate.folder / name
        result.compare(
            f"checksum of {name}", known, file_digest(path) if path.is_file() else "no file"
        )


def _compare_probabilities(
    result: ReproductionResult, kept: StoredRun, predictions: pd.DataFrame
) -> None:
    """Recompute calibration and probabilities from the kept log-odds and outcomes."""
    raw = sigmoid(predictions["raw"].to_numpy())
    _compare_column(result, f"p_{MODEL_RAW}", predictions, raw)
    if kept.inputs["over"] != "time":
        return  # calibrated inside each fold's training rows, which only a refit sees
    cutoffs = list(zip(kept.folds["fold"], kept.folds["cutoff"], strict=True))
    pairs = {f"p_{MODEL}": "raw", "p_champion": "raw_champion"}
    for name, column in pairs.items():
        if column in predictions:
            p = calibrated_forward(predictions, cutoffs, column)
            _compare_column(result, name, predictions, p)
    if kept.bundle.has_reasons:
        found, known = pooled_calibration(predictions), kept.bundle.calibration
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


def _compare_evidence(result: ReproductionResult, kept: StoredRun, evaluation: Evaluation) -> None:
    """Compare evaluation, gates, what the bundle says of them, and the card."""
    candidate, manifest = kept.candidate, kept.bundle.manifest
    recorded = manifest.to_dict()
    plain = plain_json(evaluation.as_dict())
    judgement = _judgement(kept, evaluation)
    told = plain_json(judgement.as_dict())
    result.compare("evaluation", candidate.evaluation, plain)
    result.compare("judgement", candidate.gate_result, told)
    result.compare("bundle.metrics", recorded["metrics"], plain_json(evaluation.summary()))
    result.compare("bundle.gates", recorded["gates"], told["gates"])
    result.compare("bundle.verdict", recorded["verdict"], judgement.verdict)
    result.compare(
        "bundle.checks", recorded["checks"], [item.as_dict() for item in candidate.checks]
    )
    result.compare("bundle.config_hash", recorded["config_hash"], kept.company.config_hash)
    card = model_card(candidate.target, manifest.changed(gates=judgement.gates), plain)
    written = (candidate.folder / "card.md").read_text(encoding="utf-8")
    result.compare("card", _lines(written), _lines(card))


def _judgement(kept: StoredRun, evaluation: Evaluation) -> GateResult:
    return apply_checks(evaluate_gates(evaluation, kept.tier, kept.company.gates), kept.checks)


def _lines(text: str) -> dict[str, str]:
    return {f"line {number}": line for number, line in enumerate(text.splitlines(), start=1)}


def _leaves(path: str, kept: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the leaves of two plain values beside each other; what one lacks is None.

    >>> list(_leaves("a", {"b": [1, 2]}, {"b": [1]}))
    [('a.b[0]', 1, 1), ('a.b[1]', 2, None)]
    """
    if isinstance(kept, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*kept, *found]):
            yield from _leaves(f"{path}.{key}", kept.get(key), found.get(key))
    elif isinstance(kept, list | tuple) and isinstance(found, list | tuple):
        for place in range(max(len(kept), len(found))):
            pair = [side[place] if place < len(side) else None for side in (kept, found)]
            yield from _leaves(f"{path}[{place}]", *pair)
    else:
        yield path, kept, found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:159]}…"


def verify_all(
    workspace: Workspace, candidates: Mapping[str, TrainedCandidate], rows: Rows | None = None
) -> list[ReproductionResult]:
    """Verify several trainings, with a refit when `rows` are given; all before any is refused.

    Raises
    ------
    ModelError
        With what differs in each.
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
