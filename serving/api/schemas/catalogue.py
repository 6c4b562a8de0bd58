"""Types of the routes that describe the service: release, reasons, columns, models, health."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from serving.scoring.answer import CONTRACT, Outcome, Probability, Verdict


@with_config(CONTRACT)
class ReleaseTarget(TypedDict):
    """One target of the published release."""

    bundle_sha: Annotated[str, Field(description="identity of the model")]
    verdict: Verdict
    outcome: Outcome
    bands: Annotated[dict[str, float], Field(description="lower probability limit of each band")]
    bands_sized_by: Annotated[
        dict[str, Any] | None,
        Field(
            description="capacity of the team and number of accounts per band at publication; null "
            "for releases without sized bands"
        ),
    ]
    predicts: Annotated[str | None, Field(description="the label definition as text")]
    horizon_days: int
    lead_time_days: int


@with_config(CONTRACT)
class FeatureSet(TypedDict):
    """Features of a release, in the order of the vector."""

    hash: str
    names: list[str]


@with_config(CONTRACT)
class ReleaseAnswer(TypedDict):
    """Published release."""

    release_id: str
    created_at: str
    targets: dict[str, ReleaseTarget]
    feature_set: FeatureSet
    reason_catalogue_version: str
    config_hash: str
    note: str


@with_config(CONTRACT)
class ReasonKind(TypedDict):
    """Reason code: one theme that moves an outcome in one direction."""

    code: str
    outcome: Outcome
    theme: str
    direction: Literal["raises", "lowers"]
    sentence: Annotated[str, Field(description="the displayed text")]


@with_config(CONTRACT)
class ReasonCatalogue(TypedDict):
    """All reason codes. Codes are stable; their text may change with the version."""

    version: str
    reasons: list[ReasonKind]


@with_config(CONTRACT)
class ColumnAbout(TypedDict):
    """Column of the canonical row."""

    name: str
    type: Annotated[str, Field(description="Arrow type")]
    about: str


@with_config(ConfigDict(extra="allow"))
class ModelCard(TypedDict):
    """Description of a model from its bundle. Some kinds of models add keys."""

    bundle_sha: str
    predicts: str | None
    target: str
    outcome: Outcome
    label_contract: dict[str, Any]
    verdict: Verdict
    base_rate: Probability
    metrics: Annotated[
        dict[str, Any],
        Field(
            description="out-of-time metrics with intervals; `auc` over pairs of accounts of the "
            "same test period, `auc_pooled` over pairs of all periods together"
        ),
    ]
    calibration: dict[str, Any]
    features: Annotated[list[dict[str, Any]], Field(description="features of the model as text")]
    config_hash: str
    kind: NotRequired[str]
    n_rows: NotRequired[int]
    n_entities: NotRequired[int]


@with_config(CONTRACT)
class Health(TypedDict):
    """State of the service and of its dependencies."""

    status: Literal["ok", "degraded", "not_ready"]
    is_ready: bool
    company: str
    access: Annotated[
        Literal["open", "closed"],
        Field(description="open: no API keys exist, so every local request is allowed"),
    ]
    release_id: str | None
    feature_set: str | None
    online_store: bool
    ledger: bool
    book_id: Annotated[str | None, Field(description="id of the latest score run")]
    data_through: str | None
    is_stale: bool | None
    notes: Annotated[dict[str, str], Field(description="missing parts and problems, by part")]
