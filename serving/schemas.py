"""The /v1 contract in types: what is documented in OpenAPI and checked by tests.

Answers are plain dictionaries on the hot path and never pass through these models; a test holds
the two together.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_BATCH = 1_000
MAX_ID_LENGTH = 200

Level = Literal["high", "medium", "low"]
Verdict = Literal["promotable", "provisional", "no_signal"]


class Contract(BaseModel):
    """Base: nothing undeclared, no infinities."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Fact(Contract):
    """One value behind a reason, beside its own past and its peers."""

    feature: str
    label: str = Field(description="short noun phrase for people")
    unit: str
    window_days: int | None
    value: float | str | None = Field(description="null: not known")
    own_past: float | str | None = Field(description="twelve weeks earlier")
    peer: float | str | None = Field(description="median of similar accounts")
    points: float = Field(description="what it adds to the probability, -1 to 1")
    text: str = Field(description="the fact in plain words")


class Reason(Contract):
    """One theme that moves the score in one direction."""

    code: str = Field(description="stable; see GET /v1/reasons")
    theme: str
    direction: Literal["raises", "lowers"]
    points: float = Field(description="what it adds to the probability, -1 to 1")
    text: str
    facts: list[Fact]


class Score(Contract):
    """The answer of one target. base + sum(themes) + context = probability."""

    score_id: str = Field(description="under which the ledger holds this score, for replay")
    target: str
    outcome: Literal["churn", "contraction", "expansion"]
    measure: Literal["churn_risk", "contraction_risk", "expansion_propensity"]
    probability: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1, description="lower end of the 90 % range")
    high: float = Field(ge=0, le=1, description="upper end of the 90 % range")
    logit: float = Field(description="the probability as calibrated log-odds")
    text: str = Field(description="the estimate as a sentence")
    asks_about: Literal["renewal", "horizon"]
    until: str = Field(description="day up to which the estimate looks, ISO 8601")
    horizon_days: int
    lead_time_days: int
    base: float = Field(description="what the model says before it looks at the account")
    percentile: float | None = Field(
        description="share of the last published book below, 0 to 100; null before there is one"
    )
    band: str = Field(description="low, elevated or high: cuts frozen at release")
    confidence: Level = Field(description="of the model in this account")
    verdict: Verdict
    is_provisional: bool = Field(description="the model has not passed every check")
    raises: list[Reason] = Field(description="strongest first; empty when nothing stands out")
    lowers: list[Reason]
    circumstances: list[Fact] = Field(description="what nobody can act on: age, size, calendar")
    themes: dict[str, float] = Field(description="points of probability by theme")
    context: float = Field(description="points of probability of circumstances")
    bundle_sha: str = Field(description="identity of the model")


class Renewal(Contract):
    """The contract's next decision; days are counted from now."""

    renews_on: str
    days_to_renewal: int
    notice_on: str | None
    days_to_notice: int | None


class Gap(Contract):
    """What is not known of one theme."""

    theme: str
    text: str
    n_missing: int
    n_features: int


class Data(Contract):
    """How far the data behind an answer can be trusted."""

    through: str = Field(description="the answer rests on what was known by this instant")
    is_stale: bool
    confidence: Level
    notes: list[str] = Field(description="what weakens it, in words")
    gaps: list[Gap]


class Peers(Contract):
    """Whom the account is compared with."""

    text: str | None
    n_accounts: int | None


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[dict[str, str]] | None = None


class Answer(Contract):
    """One account. Accounts that are not predicted have a status and no `scores`."""

    account_id: str
    status: str = Field(
        description="`scored`; `too_new`, `notice_given`, `pending_renewal`, "
        "`insufficient_data`, `closed`: known but not predicted; `unknown_account`, "
        "`invalid_account_id`, `score_failed`: see `problem`"
    )
    status_text: str
    problem: Problem | None = Field(None, description="only in a batch")
    name: str | None = None
    segment: str | None = None
    plan: str | None = None
    industry: str | None = None
    region: str | None = None
    parent_account_id: str | None = None
    owner_id: str | None = None
    owner: str | None = None
    arr: float | None = Field(None, description="annual recurring revenue in `currency`")
    currency: str | None = None
    tenure_days: float | None = None
    last_active_days: float | None = None
    renewal: Renewal | None = None
    as_of: str | None = Field(None, description="the prediction moment, UTC")
    churn_risk: float | None = Field(None, ge=0, le=1)
    risk_band: str | None = None
    contraction_risk: float | None = Field(None, ge=0, le=1)
    expansion_propensity: float | None = Field(None, ge=0, le=1)
    expected_arr_lost: float | None = Field(None, description="churn_risk × arr")
    data: Data | None = None
    peers: Peers | None = None
    scores: dict[str, Score] | None = Field(None, description="by target")
    release_id: str | None = None
    config_hash: str | None = None


class BatchRequest(Contract):
    """Accounts to score."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"account_ids": ["A-0001", "A-0002"]}]}
    )
    account_ids: list[str] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        description="in any order, repeats allowed; answered in this order",
    )


class BatchAnswer(Contract):
    """One answer per account asked, in the order asked; all of one release."""

    request_id: str
    release_id: str
    counts: dict[str, int] = Field(description="accounts by status")
    results: list[Answer]


class BookPage(Contract):
    """A page of the last published book: canonical rows, most at stake first."""

    book_id: str
    release_id: str
    as_of: str
    total: int = Field(description="rows that match the filters")
    results: list[dict[str, Any]] = Field(description="see GET /v1/columns for what they hold")
    next_cursor: str | None = Field(description="`cursor` of the next page; null at the end")


class ReleaseAnswer(Contract):
    """What answers at present."""

    release_id: str
    created_at: str
    targets: dict[str, dict[str, Any]] = Field(
        description="per target: bundle, verdict, bands, what is predicted"
    )
    feature_set: dict[str, Any]
    reason_catalogue_version: str
    config_hash: str
    note: str


class Health(Contract):
    """What is well and what is not."""

    status: Literal["ok", "degraded", "not_ready"]
    is_ready: bool
    company: str
    release_id: str | None
    feature_set: str | None
    online_store: bool
    ledger: bool
    book_id: str | None
    data_through: str | None
    is_stale: bool | None
    notes: dict[str, str] = Field(description="what is missing, by part")
