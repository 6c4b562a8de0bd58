"""Builds the manifest of a trained model: training data, evidence, encoding, references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pandas as pd

from configs.schema.company import Company, Target
from training.candidates.gates import GateResult
from training.checks.event_study import event_study
from training.data.training_frame import TrainingFrame
from training.evaluation.drift import histogram
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import none_if_nan
from training.fitting.fit import FittedModel, TrainingConfig, constant_rate
from training.fitting.sufficiency import evidence_words, sufficiency
from training.model.bundle import sigmoid
from training.model.encoder import Encoder
from training.model.manifest import ModelManifest
from training.model.manifest_parts import (
    Calibration,
    CheckResult,
    FeatureReference,
    GrowthKinds,
    ModelTier,
    Recipe,
)
from training.model.reason_text import catalogue_version
from training.model.rule_model import AppliedRules, rules_from_json, rules_to_json

REFERENCE_QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Quantiles stored per feature, to detect unusual values and drift."""

RECENT_DAYS = 364
"""Training rows of this many days are the reference for drift."""


@dataclass(frozen=True)
class TrainingEvidence:
    """Results of one training run that the manifest records.

    Attributes
    ----------
    config : TrainingConfig
        Settings of the published model.
    tier : ModelTier
        Model tier of the target.
    rules : AppliedRules
        Rules that apply to the training rows.
    evaluation : Evaluation
        Out-of-time measures.
    gates : GateResult
        Verdict and gates.
    checks : sequence of CheckResult
        Methodological checks.
    """

    config: TrainingConfig
    tier: ModelTier
    rules: AppliedRules
    evaluation: Evaluation
    gates: GateResult
    checks: Sequence[CheckResult]


def build_manifest(
    frame: TrainingFrame,
    company: Company,
    target: Target,
    evidence: TrainingEvidence,
    fitted: FittedModel,
    calibration: Calibration,
    growth: GrowthKinds | None,
) -> ModelManifest:
    """Return the manifest of a model.

    Optional parts are set only where they exist, so that their keys are absent otherwise.
    """
    rows = frame.rows
    found = sufficiency(frame, company)
    manifest = ModelManifest(
        target=frame.target,
        outcome=target.outcome,
        entity=company.entity,
        label_contract=dict(frame.contract) or target.model_dump(mode="json"),
        config_hash=company.config_hash,
        training_fingerprint=frame.fingerprint(),
        n_rows=len(frame),
        n_entities=int(rows["entity_id"].nunique()),
        trained_from=rows["as_of"].min().isoformat(),
        trained_to=rows["as_of"].max().isoformat(),
        labels_known_to=rows["label_known_at"].max().isoformat(),
        recipe=Recipe.from_dict(evidence.config.as_dict()),
        seeds=evidence.config.seeds,
        tier=evidence.tier,
        sufficiency=found,
        evidence=evidence_words(evidence.tier, found),
        verdict=evidence.gates.verdict,
        is_provisional=evidence.gates.verdict == "provisional",
        gates=evidence.gates.gates,
        checks=tuple(evidence.checks),
        metrics=evidence.evaluation.summary(),
        catalogue_version=catalogue_version(),
        built_with=built_with(),
        features=frame.info,
        encoder=fitted.encoder,
        calibration=calibration,
        base_rate=float(sigmoid(np.asarray(constant_rate(frame, fitted.encoder).base))),
    )
    return _with_optional_parts(
        _with_reference(manifest, frame, fitted.encoder), frame, evidence, growth
    )


def built_with() -> dict[str, str]:
    """Return the versions of the libraries that decide the fit."""
    return {name: version(name) for name in ("lightgbm", "numpy", "scikit-learn")}


def _with_reference(
    manifest: ModelManifest, frame: TrainingFrame, encoder: Encoder
) -> ModelManifest:
    matrix, recent = encoder.encode(frame.features).matrix, _recent(frame)
    return manifest.changed(
        reference=reference(encoder, matrix, recent),
        reference_entities=int(frame.rows["entity_id"][recent].nunique()),
    )


def _with_optional_parts(
    manifest: ModelManifest,
    frame: TrainingFrame,
    evidence: TrainingEvidence,
    growth: GrowthKinds | None,
) -> ModelManifest:
    if evidence.tier.kind == "rates":
        manifest = manifest.changed(
            rules=rules_from_json(rules_to_json(evidence.rules.rules)),
            rules_without_data=evidence.rules.without,
        )
    study = event_study(frame)
    if study is not None:
        manifest = manifest.changed(event_study=study.summary())
    if frame.reading:
        manifest = manifest.changed(column_kinds=dict(frame.reading))
    return manifest if growth is None else manifest.changed(growth=growth)


def _recent(frame: TrainingFrame) -> np.ndarray:
    """Return which rows are the reference for drift: those of the last `RECENT_DAYS`.

    Older rows have less history, because records begin at some date; that is not drift.
    """
    as_of = frame.rows["as_of"]
    recent: np.ndarray = (as_of > as_of.max() - pd.Timedelta(days=RECENT_DAYS)).to_numpy()
    return recent


def reference(
    encoder: Encoder, matrix: np.ndarray, recent: np.ndarray | None = None
) -> dict[str, FeatureReference]:
    """Return the distribution of each feature in training.

    Parameters
    ----------
    encoder : Encoder
        Names and levels.
    matrix : numpy.ndarray
        (rows, features) of all training rows.
    recent : numpy.ndarray, optional
        (rows,) bool: rows of the histograms that later scores are compared with; all by default.
    """
    chosen = np.ones(len(matrix), dtype=bool) if recent is None else recent
    return {
        name: _category(column, len(encoder.levels[name]), chosen)
        if name in encoder.levels
        else _distribution(column, chosen)
        for name, column in zip(encoder.names, matrix.T, strict=True)
    }


def _category(column: np.ndarray, n_levels: int, recent: np.ndarray) -> FeatureReference:
    bins = histogram(column[recent], [float(code) for code in range(n_levels - 1)])
    return FeatureReference(
        missing=float(np.isnan(column).mean()),
        shares=tuple(float(np.mean(column == code)) for code in range(n_levels)),
        edges=bins.edges,
        counts=bins.counts,
    )


def _distribution(column: np.ndarray, recent: np.ndarray) -> FeatureReference:
    known = column[~np.isnan(column)]
    quantiles = np.quantile(known, REFERENCE_QUANTILES) if len(known) else np.zeros(0)
    bins = histogram(column[recent], quantiles)
    return FeatureReference(
        missing=float(np.isnan(column).mean()),
        low=none_if_nan(known.min()) if len(known) else None,
        high=none_if_nan(known.max()) if len(known) else None,
        quantiles=tuple(float(value) for value in quantiles),
        edges=bins.edges,
        counts=bins.counts,
    )
