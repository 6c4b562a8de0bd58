"""Training pipeline of a company: frames, models, stored evidence, tracking server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import DataError, StateError, UnavailableError
from configs.runtime.hashing import digest, file_digest
from configs.runtime.state_directory import (
    new_folder,
    read_json,
    read_manifest,
    write_json_atomically,
)
from configs.runtime.stopwatch import Stopwatch
from configs.schema.company import Company
from configs.schema.rules import shipped as shipped_rules
from configs.schema.workspace import Workspace
from features.feast_store import training_service
from features.pipeline import FeatureBuild
from features.quality.modelling_hazards import require_all_accounts
from training.candidates.build_manifest import built_with
from training.candidates.gates import GateResultJson
from training.candidates.train import PlanJson, TrainingResult, train
from training.checks.context import Evidence
from training.checks.source_evidence import gather_evidence
from training.data.dataset import training_frame
from training.data.frame_contract import check_frame
from training.data.training_frame import TrainingFrame
from training.evaluation.parts import EvaluationJson
from training.evaluation.sampling import MODEL
from training.fitting.fit import TrainingConfig
from training.forecast.past_predictions import scored_earlier
from training.model import bundle as bundles
from training.model import rule_model
from training.model.manifest_parts import CheckResult
from training.registry.figures import event_study_svg, folds_svg, reliability_svg
from training.registry.mlflow_model import example_rows
from training.registry.mlflow_registry import TrainingRecord, flat_metrics, log_training
from training.registry.model_card import FIGURES, model_card
from training.registry.releases import check_bundle, read_current

Progress = Callable[[str], None]

CODE = ("training.pipeline", "training.train_table")
"""Modules whose code, with their imports, is part of the identity of a training."""

EVIDENCE = (
    "evaluation.json",
    "judgement.json",
    "checks.json",
    "contract.json",
    "inputs.json",
    "folds.parquet",
    "earlier.parquet",
    "card.md",
    f"{FIGURES}/folds.svg",
)
"""Files of a training, besides its predictions."""


@dataclass(frozen=True)
class TrainedCandidate:
    """Latest training of one target in the state directory.

    Attributes
    ----------
    target : str
        Name of the target.
    sha : str
        SHA-256 of its bundle.
    verdict : str
        ``promotable``, ``provisional`` or ``no_signal``.
    folder : Path
        ``training/<target>``: evaluation, gate_result, checks, predictions, trials, card.
    is_new : bool
        False if nothing changed since the last training.
    """

    target: str
    sha: str
    verdict: str
    folder: Path
    is_new: bool = False

    @property
    def evaluation(self) -> EvaluationJson:
        """Out-of-time measures (`training.evaluation.evaluate.Evaluation`)."""
        return read_json(self.folder / "evaluation.json")

    @property
    def gate_result(self) -> GateResultJson:
        """Verdict and gates."""
        return read_json(self.folder / "judgement.json")

    @property
    def checks(self) -> list[CheckResult]:
        """Results of the methodological checks."""
        return [CheckResult(**item) for item in read_json(self.folder / "checks.json")]

    @property
    def contract(self) -> dict[str, Any]:
        """The label contract with its counts."""
        return read_json(self.folder / "contract.json")

    @property
    def predictions(self) -> pd.DataFrame:
        """Out-of-time predictions, see `training.candidates.train.out_of_time`."""
        return pq.read_table(self.folder / "predictions.parquet").to_pandas()

    @property
    def forecasts(self) -> pd.DataFrame:
        """Predictions including earlier as_of, for the backtest of the forecast.

        See `training.forecast.past_predictions`.
        """
        before = pq.read_table(self.folder / "earlier.parquet").to_pandas()
        parts = [part for part in (before, self.predictions) if len(part)]
        return pd.concat(parts, ignore_index=True)


def train_targets(
    workspace: Workspace,
    built: FeatureBuild,
    progress: Progress = lambda _: None,
    *,
    targets: Sequence[str] = (),
) -> dict[str, TrainedCandidate]:
    """Train each target whose rows, configuration or code changed.

    A target that cannot be trained (no events, one account) is reported and left out; it is an
    error if no target can be trained. `targets` are all targets of the company by default.

    Returns
    -------
    dict
        Candidate by target.
    """
    require_all_accounts(workspace.company, built.loaded)
    candidates, refused = {}, []
    evidence = cache(partial(gather_evidence, workspace, built, progress))
    for name in targets or workspace.company.targets:
        try:
            candidates[name] = train_target(workspace, built, name, progress, evidence)
        except DataError as error:
            refused.append(error)
            progress(f"{name}: not trained: {error.what}")
    if not candidates:
        raise refused[0]
    return candidates


def train_target(
    workspace: Workspace,
    built: FeatureBuild,
    name: str,
    progress: Progress = lambda _: None,
    evidence: Callable[[], Evidence] | None = None,
) -> TrainedCandidate:
    """Train one target, store the evidence, and log it.

    `evidence` returns the source data of the checks and is only called if the target is trained.
    """
    return train_frame(
        workspace,
        frame_of(workspace.company, built, name),
        built.labels[name].contract,
        progress,
        evidence or partial(gather_evidence, workspace, built, progress),
        {"feature_service": training_service(name), "feature_set": built.features.hash},
    )


def frame_of(company: Company, built: FeatureBuild, name: str) -> TrainingFrame:
    """Join the rows of a target from the feature store."""
    return training_frame(
        built.labels[name],
        built.snapshots,
        built.loaded,
        built.store,
        built.features.info,
        company.exclude_features,
    )


def train_frame(
    workspace: Workspace,
    frame: TrainingFrame,
    contract: dict[str, Any],
    progress: Progress = lambda _: None,
    evidence: Callable[[], Evidence] | None = None,
    origin: Mapping[str, str] | None = None,
) -> TrainedCandidate:
    """Train on a typed frame unless nothing changed, store the evidence, and log it.

    Without `evidence`, checks of source data are skipped. `origin` describes the source of the
    features for the tracking server.
    """
    name = frame.target
    identity = _identity(workspace, frame, contract)
    previous = latest(workspace, name)
    if previous is not None and (read_manifest(previous.folder) or {}).get("identity") == identity:
        progress(f"{name}: nothing changed since the last training")
        return previous
    check_frame(frame)
    workspace.state.training.mkdir(parents=True, exist_ok=True)
    embedded = f"sqlite:///{workspace.state.training.resolve() / 'optuna.db'}"
    published = champion_bundle(workspace, name)
    champion = config_of(published, workspace.company)
    watch = Stopwatch()
    began_at = watch.clock()
    trained = train(
        frame,
        workspace.company,
        storage_url=workspace.places.optuna_url or embedded,
        progress=lambda words: progress(f"{name}: {words}"),
        champion=champion,
        published=published,
        evidence=evidence() if evidence else None,
        stopwatch=watch,
    )
    ended_at = watch.clock()
    sha = bundles.save(trained.bundle, workspace.state.bundles)
    progress(f"{name}: earlier predictions for the backtest of the forecast")
    before = scored_earlier(frame, workspace.company, trained.folds["cutoff"].min())
    candidate = store_candidate(
        workspace, name, sha, identity, trained, before, contract, published
    )
    record = _record(workspace, candidate, trained, frame, origin or {})
    _log(
        workspace,
        replace(
            record,
            baselines=_baselines(trained, watch),
            began_at=began_at.isoformat(),
            ended_at=ended_at.isoformat(),
        ),
        progress,
    )
    return candidate


def champion_bundle(workspace: Workspace, target: str) -> bundles.Bundle | None:
    """Return the published model of a target, to compare the challenger with.

    None without a published model, or if the base rate is published.
    """
    release = read_current(workspace.state.releases)
    part = release.bundles.get(target) if release else None
    if part is None or part["verdict"] == "no_signal":
        return None
    return bundles.load(workspace.state.bundles / part["sha"], part["sha"])


def config_of(published: bundles.Bundle | None, company: Company) -> TrainingConfig | None:
    """Return the settings of a published model, to refit it next to the challenger."""
    recipe = published.manifest.recipe if published else None
    if recipe is None:
        return None
    return TrainingConfig.from_recipe(recipe, threads=company.training.threads)


def latest(workspace: Workspace, target: str) -> TrainedCandidate | None:
    """Return the latest complete training of a target, if there is one."""
    folder = workspace.state.training / target
    manifest = read_manifest(folder)
    if manifest is None or not (workspace.state.bundles / manifest["sha"]).is_dir():
        return None
    if not all((folder / name).is_file() for name in EVIDENCE):
        return None  # trained by an earlier version, with fewer files
    check_bundle(workspace.state.bundles / manifest["sha"], manifest["sha"])
    return TrainedCandidate(target, manifest["sha"], manifest["verdict"], folder)


def candidates(workspace: Workspace) -> dict[str, TrainedCandidate]:
    """Return the latest training of every target.

    Raises
    ------
    StateError
        No target was trained yet.
    """
    found = {name: latest(workspace, name) for name in workspace.company.targets}
    trained = {name: item for name, item in found.items() if item is not None}
    if not trained:
        raise StateError(
            "no trained model yet",
            where=str(workspace.state.training),
            fix="bellwether train COMPANY",
        )
    return trained


def _identity(workspace: Workspace, frame: TrainingFrame, contract: dict[str, Any]) -> str:
    return digest(
        frame.fingerprint(),
        workspace.company.config_hash,
        contract,
        rule_model.rules_to_json(shipped_rules()),
        code_digest(*CODE),
        built_with(),
    )


class InputsJson(TypedDict):
    """Content of ``inputs.json``."""

    company: dict[str, Any]
    plan: PlanJson
    published: str | None
    over: str
    notes: list[str]


def _inputs(
    company: Company, trained: TrainingResult, published: bundles.Bundle | None
) -> InputsJson:
    """Return the inputs and the plan of a training, for `training.reproduce`."""
    return {
        "company": company.model_dump(mode="json", by_alias=True),
        "plan": trained.plan.as_dict(),
        "published": bundles.bundle_identity(published) if published else None,
        "over": trained.evaluation.over,
        "notes": trained.evaluation.notes,
    }


def store_candidate(
    workspace: Workspace,
    name: str,
    sha: str,
    identity: str,
    trained: TrainingResult,
    before: pd.DataFrame,
    contract: dict[str, Any],
    published: bundles.Bundle | None = None,
) -> TrainedCandidate:
    """Store a training in ``training/<target>``, with all inputs of its numbers."""
    manifest: dict[str, Any] = {
        "identity": identity,
        "sha": sha,
        "verdict": trained.gate_result.verdict,
    }
    evaluation, gate_result = trained.evaluation.as_dict(), trained.gate_result.as_dict()
    sealed, _ = bundles.sealed_manifest(trained.bundle)
    card = model_card(name, sealed, evaluation)
    folder = workspace.state.training / name
    with new_folder(folder, manifest) as aside:
        write_json_atomically(aside / "evaluation.json", evaluation)
        write_json_atomically(aside / "judgement.json", gate_result)
        write_json_atomically(aside / "checks.json", [item.as_dict() for item in trained.checks])
        write_json_atomically(aside / "contract.json", contract)
        write_json_atomically(aside / "inputs.json", _inputs(workspace.company, trained, published))
        pq.write_table(pa.Table.from_pandas(trained.folds), aside / "folds.parquet")
        pq.write_table(pa.Table.from_pandas(trained.predictions), aside / "predictions.parquet")
        pq.write_table(pa.Table.from_pandas(before), aside / "earlier.parquet")
        pq.write_table(pa.Table.from_pandas(trained.trials), aside / "trials.parquet")
        (aside / "card.md").write_text(card, encoding="utf-8")
        (aside / FIGURES).mkdir()
        for figure, svg in _figures(trained).items():
            (aside / FIGURES / figure).write_text(svg, encoding="utf-8")
        manifest["files"] = {
            path.relative_to(aside).as_posix(): file_digest(path)
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        }
    return TrainedCandidate(name, sha, trained.gate_result.verdict, folder, is_new=True)


def _figures(trained: TrainingResult) -> dict[str, str]:
    """Return the figures of the model card by file name, as SVG."""
    evaluation, study = trained.evaluation, trained.bundle.manifest.event_study
    return {
        "reliability.svg": reliability_svg(evaluation.reliability),
        "folds.svg": folds_svg(evaluation.folds),
        **({"aligned.svg": event_study_svg(study.rows)} if study else {}),
    }


def _record(
    workspace: Workspace,
    candidate: TrainedCandidate,
    trained: TrainingResult,
    frame: TrainingFrame,
    origin: Mapping[str, str],
) -> TrainingRecord:
    """Return the record of a training for the tracking server."""
    evaluation = trained.evaluation.as_dict()
    table = workspace.company.table
    source = origin.get("feature_service")
    return TrainingRecord(
        target=candidate.target,
        sha=candidate.sha,
        bundle=workspace.state.bundles / candidate.sha,
        verdict=candidate.verdict,
        fingerprint=frame.fingerprint(),
        config_hash=workspace.company.config_hash,
        params={**trained.config.as_dict(), "model_tier": trained.tier.name, **origin},
        metrics=flat_metrics(trained.evaluation.summary()),
        folds=evaluation["folds"],
        trials=[
            {str(k): v for k, v in trial.items()} for trial in trained.trials.to_dict("records")
        ],
        label_contract=candidate.contract,
        evaluation=evaluation,
        gates=trained.gate_result.as_dict()["gates"],
        checks=[item.as_dict() for item in trained.checks],
        figures=_figures(trained),
        card=(candidate.folder / "card.md").read_text(encoding="utf-8"),
        rows=example_rows(
            frame,
            source=f"Feast feature service {source}" if source else "ready-made table",
            as_of=table.as_of if table else None,
            currency=workspace.company.reporting_currency,
        ),
    )


def _baselines(trained: TrainingResult, watch: Stopwatch) -> list[dict[str, Any]]:
    """Return every baseline with its measures, start and duration."""
    measured = trained.evaluation.models
    return [
        {
            "name": name,
            "began_at": part.began_at.isoformat(),
            "seconds": part.seconds,
            "metrics": measured[name],
        }
        for name, part in watch.parts.items()
        if name != MODEL
    ]


def _log(workspace: Workspace, record: TrainingRecord, progress: Progress) -> None:
    """Log to the tracking server; if it is unavailable, the record is queued."""
    try:
        run = log_training(workspace, record)
        progress(f"{record.target}: registered as {run.model_name} version {run.version}")
    except UnavailableError as error:
        progress(f"{record.target}: {error.what}; `bellwether relog` sends it later")
