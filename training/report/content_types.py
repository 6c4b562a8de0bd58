"""Types of the report's content: the page is rendered from these keys, and report.json has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from training.reporting.chart_types import Estimated
from training.validation.content_types import CurrentAccounts

JsonContent = Mapping[str, Any]
"""Content that another package defines and the report passes on unchanged."""


class CohortStep(TypedDict):
    """One line of the way from all rows to the rows used."""

    step: str
    words: str
    rows: int


TestContent = TypedDict(
    "TestContent",
    {
        "rows": int,
        "entities": int,
        "event_rows": int,
        "events": int,
        "base_rate": float,
        "capacity": JsonContent,
        "over": str,
        "folds": int,
        "from": str,
        "until": str,
    },
)
"""Size and time of the test periods."""


class ModelRow(TypedDict):
    """Measures of the model or one baseline, with intervals."""

    name: str
    title: str
    difference: Estimated | None
    auc: Estimated
    auc_pooled: Estimated
    lift_at_capacity: Estimated
    capture_at_capacity: Estimated
    arr_capture_at_capacity: Estimated
    brier_skill: Estimated
    log_loss: Estimated


class FailedGate(TypedDict):
    """One gate that the published model missed."""

    title: str
    threshold: str
    words: str


class ServedContent(TypedDict):
    """Gates of the published model."""

    verdict: str
    failed: list[FailedGate]
    gates: int


class TargetContent(TypedDict):
    """Evidence on one target."""

    target: str
    outcome: str
    verdict: JsonContent
    criteria: Sequence[JsonContent]
    served: ServedContent
    contract: JsonContent
    cohort: list[CohortStep]
    test: TestContent
    models: list[ModelRow]
    folds: Sequence[JsonContent]
    lead_times: Sequence[JsonContent]
    timed: list[str]
    workload: JsonContent | None
    stability: JsonContent
    slices: Mapping[str, Sequence[JsonContent]]
    calibration: JsonContent
    cuts: dict[str, float]
    missed: Sequence[JsonContent]
    notes: list[str]
    tuning: str
    bands: JsonContent
    lead: JsonContent
    calendar: JsonContent
    health: JsonContent
    sides: JsonContent | None
    warned: JsonContent | None
    worth: JsonContent
    parts: JsonContent | None


class BandPair(TypedDict):
    """Current accounts in one pair of risk band and growth band."""

    risk: str
    growth: str
    accounts: int
    arr: float


class JointContent(TypedDict):
    """Risk and growth combined."""

    targets: list[str]
    tested: Sequence[JsonContent]
    now: list[BandPair]
    agreement: float | None


class MissingTable(TypedDict):
    """One missing source table and its effect."""

    table: str
    words: str


class TableRows(TypedDict):
    """Row counts of one source table."""

    table: str
    rows_read: int
    rows: int
    rows_quarantined: int
    rows_duplicate: int


class QualityContent(TypedDict):
    """Grade and worst issues of the data."""

    grade: str
    n_issues: int
    issues: Sequence[JsonContent]
    gaps: list[MissingTable]
    tables: list[TableRows]


class GlossaryItem(TypedDict):
    """One term of the glossary."""

    word: str
    meaning: str


class VersionsContent(TypedDict):
    """Versions of release, models, features and configuration."""

    release_id: str
    created_at: str
    bundles: dict[str, str]
    feature_set: str
    n_features: int
    reason_catalogue: str
    config_hash: str
    bootstrap_draws: int
    seed: int


class ReportContent(TypedDict):
    """The whole report."""

    company: str
    title: str
    about: str
    entity: str
    currency: str
    capacity_per_month: int
    now: str
    as_of: str
    data_through: str | None
    order: list[str]
    targets: dict[str, TargetContent]
    book: CurrentAccounts
    joint: JointContent | None
    names: dict[str, str]
    quality: QualityContent
    sections: dict[str, JsonContent]
    limits: list[str]
    glossary: list[GlossaryItem]
    versions: VersionsContent
