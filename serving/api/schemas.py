"""The /v1 contract in types: what is documented in OpenAPI and checked by tests.

Answers are plain dictionaries on the hot path and never pass through these models; a test holds
the two together.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, create_model

from serving.batch.filters import CURSOR
from serving.scoring.export_rows import COLUMNS

MAX_BATCH = 1_000
MAX_ID_LENGTH = 200

Level = Literal["high", "medium", "low"]
Verdict = Literal["promotable", "provisional", "no_signal"]


class Contract(BaseModel):
    """Base: nothing undeclared, no infinities."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FactSchema(Contract):
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


class ReasonSchema(Contract):
    """One theme that moves the score in one direction."""

    code: str = Field(description="stable; see GET /v1/reasons")
    theme: str
    direction: Literal["raises", "lowers"]
    points: float = Field(description="what it adds to the probability, -1 to 1")
    text: str
    facts: list[FactSchema]


class RuleSchema(Contract):
    """A plain rule that holds: judgement of what to look at, measured by nobody."""

    rule: str = Field(description="its name in the configuration")
    theme: str
    text: str = Field(description="what is the case")
    facts: list[FactSchema] = Field(
        description="the values behind it; a rule moves nothing: 0 points"
    )


class Score(Contract):
    """The answer of one target. base + sum(themes) + context + unknown = probability."""

    score_id: str = Field(description="under which the ledger holds this score, for replay")
    target: str
    outcome: Literal["churn", "contraction", "expansion"]
    measure: Literal["churn_risk", "contraction_risk", "expansion_propensity"]
    probability: float = Field(ge=0, le=1)
    low: float = Field(
        ge=0,
        le=1,
        description="lower end of the 90 % range of the rate among such accounts",
    )
    high: float = Field(ge=0, le=1, description="upper end of the 90 % range")
    logit: float = Field(description="the probability as calibrated log-odds")
    text: str = Field(description="the estimate as a sentence")
    asks_about: Literal["renewal", "horizon"]
    until: str = Field(description="day up to which the estimate looks, ISO 8601")
    horizon_days: int
    lead_time_days: int
    base: float = Field(description="what the model says before it looks at the account")
    percentile: float | None = Field(
        description="share of the accounts of the last published book that were asked the same "
        "kind of question (`asks_about`) and lie below, 0 to 100; null before there is one"
    )
    percentile_of: str | None = Field(None, description="among which accounts, in words")
    band: str = Field(description="low, elevated or high: cuts frozen at release")
    confidence: Level = Field(description="of the model in this account")
    verdict: Verdict
    is_provisional: bool = Field(description="the model has not passed every check")
    rung: str = Field(
        description="of the small-data ladder, by events seen: rates, linear, trees, tuned trees"
    )
    evidence: str = Field(
        description="why that rung and, where evidence is thin, what is missing and about when it "
        "will be there"
    )
    raises: list[ReasonSchema] = Field(description="strongest first; empty when nothing stands out")
    lowers: list[ReasonSchema]
    circumstances: list[FactSchema] = Field(
        description="what nobody can act on: age, size, calendar"
    )
    rules: list[RuleSchema] = Field(
        description="on the rung `rates` alone, where too few events were seen to measure reasons: "
        "plain rules that hold, as declared. They order accounts and move no probability"
    )
    themes: dict[str, float] = Field(description="points of probability by theme")
    context: float = Field(description="points of probability of circumstances")
    unknown: float = Field(description="points of probability of values that are not known")
    bundle_sha: str = Field(description="identity of the model")


class Withheld(Contract):
    """Why one target is not asked of an account that is predicted otherwise."""

    status: Literal["no_room_to_grow"]
    status_text: str


class AddedArr(Contract):
    """Revenue a year that a growth of this kind adds, should it happen, in `currency`."""

    p10: float = Field(description="one in ten past growths of the kind added less")
    p50: float
    p90: float = Field(description="one in ten added more")


class Contact(Contract):
    """Whom to ask there."""

    contact_id: str
    role: str | None
    is_champion: bool = Field(description="an advocate of ours, as the source says")
    last_active_on: str | None = Field(
        description="day last seen in the product or answering, ISO 8601; null: not in a year"
    )


class Timing(Contract):
    """When to ask."""

    by_on: str = Field(description="ISO 8601 day")
    text: str


class Blocker(Contract):
    """What stands in the way of selling."""

    code: Literal["no_room", "overdue", "open_opportunity", "at_risk", "notice_window"]
    text: str


class OtherKind(Contract):
    """Another kind of growth that is open to the account and measured."""

    kind: Literal["seats", "tier", "product", "usage"]
    kind_text: str
    product: str | None
    probability: float = Field(ge=0, le=1)
    expected_added_arr: float | None
    evidence: list[str]


class OfferSchema(Contract):
    """What could be sold to the account, and whether it may be asked now."""

    kind: Literal["seats", "tier", "product", "usage"] | None = Field(
        description="the kind its own use speaks for (an allowance that is nearly full or soon "
        "will be), else the one that past growths of accounts in such a state tell; null: not "
        "known, or no room for any (`basis`)"
    )
    kind_text: str | None
    product: str | None = Field(description="of what; null where the terms do not say")
    basis: Literal["measured", "rules", "unknown", "none"] = Field(
        description="measured: chance and amount are backtested for this kind; rules: too few past "
        "growths, so a plain rule names the kind and there is no chance or amount; unknown: likely "
        "to grow, and nothing tells how: chance and amount are those of any growth"
    )
    basis_text: str
    n_events: int = Field(description="past growths of the kind at this company")
    probability: float | None = Field(
        ge=0,
        le=1,
        description="of a growth of this kind: expansion_propensity × share of the kind among past "
        "growths of accounts in such a state",
    )
    added_arr: AddedArr | None
    expected_added_arr: float | None = Field(description="probability × mean amount")
    evidence: list[str] = Field(description="what is known of it at as_of")
    others: list[OtherKind] = Field(description="the other kinds that are open, likeliest first")
    contact: Contact | None
    timing: Timing | None
    is_eligible: bool = Field(description="nothing stands in the way")
    blockers: list[Blocker]


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


class PeersSchema(Contract):
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
    retry_after: int | None = Field(None, ge=1, description="seconds, as in Retry-After")


class HeldProduct(Contract):
    """A product an account holds."""

    product: str
    share: float = Field(ge=0, le=1, description="of the revenue of its products")


class Answer(Contract):
    """One account. Accounts that are not predicted have a status and no `scores`."""

    account_id: str
    status: str = Field(
        description="`scored`; `too_new`, `notice_given`, `pending_renewal`, `no_room_to_grow`, "
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
    products: list[HeldProduct] = Field([], description="held now, the largest share first")
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
    expected_arr_lost: float | None = Field(
        None, description="churn_risk × arr, a year; by `expected_arr_lost_by`"
    )
    expected_arr_lost_by: str | None = Field(
        None, description="the renewal, or the end of the horizon, ISO 8601 date"
    )
    data: Data | None = None
    peers: PeersSchema | None = None
    scores: dict[str, Score] | None = Field(None, description="by target")
    withheld: dict[str, Withheld] | None = Field(
        None, description="by target: what is not asked of this account, and why"
    )
    expansion: OfferSchema | None = Field(
        None, description="what could be sold; null where growth is not predicted, or no kind shows"
    )
    release_id: str | None = None
    config_hash: str | None = None


class BatchRequest(Contract):
    """Accounts to score."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"account_ids": ["A-0001", "A-0002"]}]}
    )
    account_ids: list[Any] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        description="texts, in any order, repeats allowed; answered in this order. What is no "
        "account id is answered as `invalid_account_id` and fails nothing else",
    )


AccountId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00]+$")]
Words = Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")]


class WhatIfRequest(Contract):
    """Features to suppose, and the account whose other values stand."""

    account_id: AccountId | None = Field(None, description="left out: all others are not known")
    features: dict[str, float | None] = Field(
        min_length=1, max_length=500, description="by name; null: not known"
    )


class SupposedFeature(Contract):
    """One feature that is supposed to be different."""

    feature: str
    label: str
    unit: str
    before: float | None = Field(description="null: not known")
    value: float | None


class UnusualFeature(Contract):
    """A value outside of what the models saw in training; there they only repeat the edge."""

    feature: str
    value: float
    low: float
    high: float


class Supposition(Contract):
    """What a model says of the supposed features."""

    target: str
    outcome: Literal["churn", "contraction", "expansion"]
    measure: Literal["churn_risk", "contraction_risk", "expansion_propensity"]
    probability: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    before: float | None = Field(description="as the account stands; null without an account")
    difference: float | None = Field(ge=-1, le=1)
    text: str
    band: str
    verdict: Verdict
    raises: list[ReasonSchema]
    lowers: list[ReasonSchema]


class WhatIfAnswer(Contract):
    """A supposition. It is no score of the account and is not in the ledger."""

    account_id: str | None
    release_id: str
    as_of: str | None
    note: str = Field(description="what this says, and what not")
    ignored: list[str] = Field(
        description="features this release does not use: supposing them changes nothing"
    )
    changed: list[SupposedFeature]
    out_of_range: list[UnusualFeature]
    missing: list[str] = Field(description="features without a value")
    scores: dict[str, Supposition] = Field(description="by target")


class JobRequest(Contract):
    """What to score in the background."""

    account_ids: list[AccountId] | None = Field(
        None,
        min_length=1,
        max_length=100_000,
        description="left out: every account of the last published book",
    )


class JobAnswer(Contract):
    """Where a score job stands."""

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    n_accounts: int
    n_done: int
    release_id: str | None = Field(description="all its scores are of this release")
    created_at: str
    finished_at: str | None
    problem: str | None = Field(description="why it failed, or waits")


class JobList(Contract):
    """Score jobs, newest first."""

    results: list[JobAnswer]


class OutcomeItem(Contract):
    """What became of one account."""

    account_id: AccountId
    outcome: Literal["churned", "contracted", "expanded", "renewed"]
    decided_on: date = Field(description="when it was decided")
    effective_on: date | None = Field(None, description="when revenue stops or starts")
    reason: Words | None = Field(None, description="theirs, in their words")


class OutcomesRequest(Contract):
    """What became of accounts."""

    outcomes: list[OutcomeItem] = Field(min_length=1, max_length=MAX_BATCH)


class FeedbackItem(Contract):
    """What somebody who knows the account says of one reason."""

    score_id: Annotated[str, Field(pattern="^[0-9a-f]{8,40}$")]
    reason_code: Annotated[str, Field(max_length=100, pattern=r"^[a-z_.]+$")]
    verdict: Literal["useful", "wrong", "known"] = Field(description="known: they knew already")
    note: Words | None = None


class FeedbackRequest(Contract):
    """What people say of reasons."""

    feedback: list[FeedbackItem] = Field(min_length=1, max_length=MAX_BATCH)


class IntakeResult(Contract):
    """What became of one item, in the order told."""

    index: int
    status: Literal[
        "recorded", "known", "conflict", "unknown_account", "unknown_score", "unknown_reason"
    ]


class IntakeAnswer(Contract):
    """What was kept."""

    counts: dict[str, int] = Field(description="items by status")
    results: list[IntakeResult]


class PastReason(Contract):
    """A reason as it was shown."""

    code: str
    points: float
    facts: list[str]


class PastScore(Contract):
    """A score as it was served."""

    score_id: str
    served_at: str
    as_of: str
    release_id: str
    bundle_sha: str
    probability: float = Field(ge=0, le=1)
    band: str
    verdict: str
    asks_about: Literal["renewal", "horizon"] | None = Field(
        description="what was asked; compare scores of one question only. Null where an earlier "
        "version did not keep it"
    )
    until: str | None = Field(
        description="the renewal, or the end of the horizon, ISO 8601: another renewal is another "
        "question"
    )
    channel: str = Field(description="api, batch, or book: on what occasion")
    reasons: list[PastReason]


class HistoryAnswer(Contract):
    """The scores an account was given, by target, newest first."""

    account_id: str
    targets: dict[str, list[PastScore]]


class BatchAnswer(Contract):
    """One answer per account asked, in the order asked; all of one release."""

    request_id: str
    release_id: str
    counts: dict[str, int] = Field(description="accounts by status")
    results: list[Answer]


def _python_type(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return list[_python_type(kind.value_type)]  # type: ignore[misc]
    plain = {pa.string(): str, pa.float64(): float, pa.int64(): int, pa.bool_(): bool}
    return plain[kind]


_columns: dict[str, Any] = {
    name: (_python_type(kind) | None, Field(description=about))
    for name, (kind, about) in COLUMNS.items()
}
BookRow = create_model(
    "BookRow",
    __base__=Contract,
    __doc__="One account of the book as a flat row; the same columns as in the exports.",
    **_columns,
)


class ChangeEnd(Contract):
    """One of the two scores that are compared."""

    score_id: str
    as_of: str
    served_at: str
    probability: float = Field(ge=0, le=1)
    band: str
    release_id: str
    bundle_sha: str


class ChangeFact(Contract):
    """One value that moved a score."""

    feature: str
    label: str
    unit: str
    window_days: int | None
    before: float | str | None = Field(description="null: not known")
    after: float | str | None
    points: float = Field(description="what the move adds to the probability, -1 to 1")
    text: str


class ChangePart(Contract):
    """One part of a change, in words."""

    printed: float = Field(
        description="points out of 100 as they are printed: rounded once, so that all parts add up "
        "to the printed difference"
    )

    kind: Literal["theme", "circumstances", "unknown", "time", "model", "calibration"]
    theme: str | None
    points: float
    text: str
    facts: list[ChangeFact]


class Change(Contract):
    """What changed since the score shown before, of another moment or of another model.

    sum(themes) + circumstances + unknown + time + model + calibration = difference.
    """

    target: str
    outcome: Literal["churn", "contraction", "expansion"]
    measure: Literal["churn_risk", "contraction_risk", "expansion_propensity"]
    before: ChangeEnd | None = Field(
        description="null where there is nothing to compare with: this is the first score, or the "
        "one before was asked something else"
    )
    after: ChangeEnd
    is_comparable: bool | None = Field(
        description="both scores were asked the same question; false across a renewal, where "
        "`text` says what is asked now; null for the first score"
    )
    text: str = Field(description="the change as a sentence")
    difference: float | None = Field(None, description="after − before, -1 to 1")
    low: float | None = Field(None, description="lower end of the 90 % range of the difference")
    high: float | None = Field(None, description="upper end of it")
    is_clear: bool | None = Field(
        None, description="larger than its uncertainty, and at least half a percentage point"
    )
    themes: dict[str, float] | None = Field(None, description="other values, by theme")
    circumstances: float | None = Field(None, description="other size, terms, age")
    unknown: float | None = Field(None, description="values that became known, or are no longer")
    time: float | None = Field(None, description="the calendar alone")
    model: float | None = Field(None, description="another version of the model")
    calibration: float | None = Field(None, description="another calibration of it")
    parts: list[ChangePart] | None = Field(None, description="what is worth showing, in words")
    notes: list[str] | None = Field(None, description="what weakens the comparison")


class ChangesAnswer(Contract):
    """What changed for one account, by target."""

    account_id: str
    status: str
    status_text: str
    as_of: str | None
    changes: dict[str, Change] = Field(description="by target; empty when it is not predicted")


class BookPage(Contract):
    """A page of the last published book: canonical rows, most at stake first."""

    book_id: str
    release_id: str
    as_of: str
    total: int = Field(description="rows that match the filters")
    results: list[BookRow]
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null at the end", pattern=CURSOR
    )


class TargetAnswer(Contract):
    """One target of the published release."""

    bundle_sha: str = Field(description="identity of the model")
    verdict: Verdict
    outcome: Literal["churn", "contraction", "expansion"]
    bands: dict[str, float] = Field(description="probability from which each band holds")
    bands_sized_by: dict[str, Any] | None = Field(
        description="what the team could work and how many accounts each band held when the "
        "release was published; null for releases of before bands were sized"
    )
    predicts: str | None = Field(description="the label in words")
    horizon_days: int
    lead_time_days: int


class FeatureSetSchema(Contract):
    """The features a release takes, in vector order."""

    hash: str
    names: list[str]


class ReleaseAnswer(Contract):
    """What answers at present."""

    release_id: str
    created_at: str
    targets: dict[str, TargetAnswer]
    feature_set: FeatureSetSchema
    reason_catalogue_version: str
    config_hash: str
    note: str


class ReasonKind(Contract):
    """One reason code: a theme that moves an outcome in a direction."""

    code: str
    outcome: Literal["churn", "contraction", "expansion"]
    theme: str
    direction: Literal["raises", "lowers"]
    sentence: str = Field(description="the words shown to people")


class ReasonCatalogue(Contract):
    """Every reason code. A code is stable; its words may improve with the version."""

    version: str
    reasons: list[ReasonKind]


class ColumnAbout(Contract):
    """One column of the canonical row."""

    name: str
    type: str = Field(description="Arrow type")
    about: str


class ProblemKind(Contract):
    """One type of problem: what it means and what to do about it."""

    type: str
    status: int
    title: str
    about: str


class ModelCard(BaseModel):
    """What a bundle says of itself. Kinds of model add keys of their own."""

    model_config = ConfigDict(extra="allow")

    bundle_sha: str
    target: str
    outcome: Literal["churn", "contraction", "expansion"]
    predicts: str | None
    label_contract: dict[str, Any]
    verdict: Verdict
    base_rate: float = Field(ge=0, le=1)
    metrics: dict[str, Any] = Field(
        description="out of time, each with its interval; `auc` over pairs of accounts of the same "
        "test period, `auc_pooled` over pairs of all periods together"
    )
    calibration: dict[str, Any]
    features: list[dict[str, Any]] = Field(description="what the model looks at, in words")
    config_hash: str


class Estimated(Contract):
    """A measure with its 95 % interval over accounts."""

    value: float | None
    low: float | None
    high: float | None


class Shift(Contract):
    """How far one distribution lies from its reference."""

    name: str
    psi: float | None = Field(description="population stability index; null: too few accounts")
    usual: float | None = Field(
        description="what 95 % of books of this size stay below without any drift"
    )
    p_value: float
    verdict: Literal["steady", "moved", "moved much", "too few to tell"]
    n: int
    missing: float
    missing_before: float


class ScoreShift(Shift):
    """The same of the scores, against the first book of the same model."""

    since: str = Field(description="day of that book, ISO 8601")


class InputShift(Shift):
    """The same of one input of the model, against the rows of the last year it was trained on."""

    label: str
    theme: str
    is_circumstance: bool


class InputShifts(Contract):
    """Drift of every input, strongest first."""

    n_accounts: int
    n_reference: int
    n_features: int
    n_moved: int
    n_too_few_to_tell: int
    features: list[InputShift]


class Expectation(Contract):
    """Performance that the book's own probabilities imply, with 90 % ranges."""

    n: int
    events: float
    events_low: float
    events_high: float
    brier: float
    brier_low: float
    brier_high: float
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    assumption: str
    until: str | None = Field(None, description="the last day the estimates look to, ISO 8601")


class Realised(Contract):
    """Performance of past scores that have an outcome; null where events are too few."""

    n: int
    n_accounts: int
    events: int
    from_: str | None = Field(alias="from", description="first prediction moment")
    to: str | None
    auc: Estimated | None = Field(description="over pairs of accounts of the same month")
    auc_pooled: Estimated | None = Field(description="over pairs of all months together")
    brier: Estimated | None
    observed_to_expected: Estimated | None
    expected_auc: float | None = Field(
        description="`auc` that these scores' own probabilities imply"
    )


class TargetWatch(Contract):
    """How the model of one target fares."""

    outcome: Literal["churn", "contraction", "expansion"]
    bundle_sha: str
    verdict: Verdict
    scores: ScoreShift | None = Field(description="null: it is the first book of this model")
    inputs: InputShifts | None
    expected: Expectation | None
    realised: Realised
    realised_of_this_model: Realised
    shadow: dict[str, Any] | None = Field(
        description="the release scored next to this one and never shown: agreement, outcomes"
    )
    words: list[str] = Field(description="what is worth a sentence; alarms begin with ALARM")


class Freshness(Contract):
    """How old the features are."""

    as_of: str
    age_days: int
    stale_after_days: int
    is_stale: bool
    n_accounts: int
    n_scored: int


class Monitoring(Contract):
    """The last look at freshness, drift and performance."""

    made_at: str
    release_id: str
    freshness: Freshness
    targets: dict[str, TargetWatch]


class Health(Contract):
    """What is well and what is not."""

    status: Literal["ok", "degraded", "not_ready"]
    is_ready: bool
    company: str
    access: Literal["open", "closed"] = Field(
        description="open: no keys are made yet, so everybody on this machine may do everything"
    )
    release_id: str | None
    feature_set: str | None
    online_store: bool
    ledger: bool
    book_id: str | None
    data_through: str | None
    is_stale: bool | None
    notes: dict[str, str] = Field(description="what is missing, by part")


BODIES = (BatchRequest, WhatIfRequest, JobRequest, OutcomesRequest, FeedbackRequest)
"""What operations read as JSON."""
