"""Model manifest: the typed content of a bundle's ``manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from configs.schema.rules import Rule
from features.tables.catalog import FeatureInfo
from training.model.encoder import Encoder
from training.model.manifest_parts import (
    Calibration,
    CheckResult,
    EventStudySummary,
    FeatureReference,
    Gate,
    GrowthKinds,
    ManifestPart,
    ModelTier,
    Recipe,
    Sufficiency,
)

Metric = int | float | str | None | Mapping[str, float | None]
"""A headline number, or an estimate with its 95 % interval: value, low, high."""

REQUIRED = ("encoder", "features", "calibration", "seeds", "target", "outcome", "verdict")
"""Keys without which a bundle cannot be served."""


class ModelManifest(ManifestPart):
    """Everything about a model except its weights: identity, training data, evidence, encoding.

    Keys on disk that differ from the attribute are given in parentheses.

    Attributes
    ----------
    target, outcome, entity : str
        Name of the target; ``churn``, ``contraction`` or ``expansion``; what a row is (account).
    label_contract : mapping
        Definition of the label, as in the company's configuration, with its counts.
    config_hash, training_fingerprint : str
        Hash of the company's configuration; of the training rows.
    n_rows, n_entities : int or None
        Training rows (one per account and as_of); accounts.
    trained_from, trained_to : str
        First and last as_of of the training rows, ISO 8601.
    labels_known_to : str
        Time at which the last label became known, ISO 8601.
    recipe : Recipe or None
        Settings of the fit.
    seeds : tuple of int
        One per member of the ensemble.
    tier : ModelTier or None
        Model tier (``rung``).
    sufficiency : Sufficiency or None
        Number of events and what more would allow (``outlook``).
    evidence : str
        The tier's reason and what is missing, as every score shows it.
    verdict : str
        ``promotable``, ``provisional`` or ``no_signal``.
    is_provisional : bool
        Whether scores are marked as provisional.
    gates : tuple of Gate
        Every gate, met or not.
    checks : tuple of CheckResult
        Every methodological check.
    metrics : mapping of str to Metric
        Headline of the out-of-time evaluation.
    event_study : EventStudySummary or None
        Features before the decision (``aligned``); None with too few dated decisions.
    rules : mapping of str to Rule
        Rules shown instead of reasons in the lowest tier.
    rules_without_data : tuple of str
        Names of rules that need a feature the data lack.
    features : tuple of FeatureInfo
        In matrix order.
    column_kinds : mapping of str to str
        Per column of a ready-made table, how it is read (``reading``); empty otherwise.
    encoder : Encoder
        Columns to matrix.
    reference : mapping of str to FeatureReference
        Distribution of each feature in training.
    reference_entities : int
        Accounts behind the histograms of `reference`.
    calibration : Calibration
        Affine map to served log-odds.
    base_rate : float or None
        Share of positives among all training rows, 0–1.
    growth : GrowthKinds or None
        Kinds and amounts of growth; only for expansion.
    catalogue_version : str
        Version of the reason catalogue.
    built_with : mapping of str to str
        Versions of the libraries that decide the fit.
    format_version : int
        Format of the bundle.
    kind : str
        Kind of model, see `training.model.predictors`.
    files : mapping of str to str
        SHA-256 of every file of the bundle.
    """

    target: str = ""
    outcome: str = ""
    entity: str = ""
    label_contract: Mapping[str, Any] = {}
    config_hash: str = ""
    training_fingerprint: str = ""
    n_rows: int | None = None
    n_entities: int | None = None
    trained_from: str = ""
    trained_to: str = ""
    labels_known_to: str = ""
    recipe: Recipe | None = None
    seeds: tuple[int, ...] = ()
    tier: ModelTier | None = Field(None, alias="rung")
    sufficiency: Sufficiency | None = Field(None, alias="outlook")
    evidence: str = ""
    verdict: str = ""
    is_provisional: bool = False
    gates: tuple[Gate, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    metrics: Mapping[str, Metric] = {}
    event_study: EventStudySummary | None = Field(None, alias="aligned")
    rules: Mapping[str, Rule] = {}
    rules_without_data: tuple[str, ...] = ()
    features: tuple[FeatureInfo, ...] = ()
    column_kinds: Mapping[str, str] = Field({}, alias="reading")
    encoder: Encoder = Encoder((), {})
    reference: Mapping[str, FeatureReference] = {}
    reference_entities: int = 0
    calibration: Calibration = Calibration()
    base_rate: float | None = None
    growth: GrowthKinds | None = None
    catalogue_version: str = ""
    built_with: Mapping[str, str] = {}
    format_version: int | None = None
    kind: str = ""
    files: Mapping[str, str] = {}

    def changed(self, **values: Any) -> ModelManifest:
        """Return a copy with other values, by attribute or by key on disk."""
        new = ModelManifest(**values)
        return self.model_copy(update={name: getattr(new, name) for name in new.model_fields_set})
