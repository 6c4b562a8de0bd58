"""The answer for one account: the dictionary that the scorer builds and OpenAPI documents.

Every class is a plain dictionary at run time. mypy checks the keys where an answer is built, and
pydantic derives the JSON schema of the API from the same classes.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic reads this one before Python 3.12

from serving.http.problems import Problem
from training.model.bundle import Confidence
from training.model.reasons import Fact, Reason
from training.model.rule_model import Flag

CONTRACT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Settings of every type in the API contract: no undeclared keys, no infinite numbers."""

Outcome = Literal["churn", "contraction", "expansion"]
Measure = Literal["churn_risk", "contraction_risk", "expansion_propensity"]
Verdict = Literal["promotable", "provisional", "no_signal"]
Question = Literal["renewal", "horizon"]
GrowthKind = Literal["seats", "tier", "product", "usage"]
Probability = Annotated[float, Field(ge=0, le=1)]


@with_config(CONTRACT)
class StatusText(TypedDict):
    """Status of an account with its text."""

    status: str
    status_text: str


@with_config(CONTRACT)
class Gap(TypedDict):
    """Missing values of one theme."""

    theme: str
    text: str
    n_missing: int
    n_features: int


@with_config(CONTRACT)
class Data(TypedDict):
    """Quality of the data behind an answer."""

    through: Annotated[
        str, Field(description="the answer uses what was known at this time, ISO 8601")
    ]
    is_stale: bool
    confidence: Confidence
    notes: Annotated[list[str], Field(description="limitations of the data, as text")]
    gaps: list[Gap]


@with_config(CONTRACT)
class PeerGroup(TypedDict):
    """Group of similar accounts that an account is compared with."""

    text: str | None
    n_accounts: int | None


@with_config(CONTRACT)
class Renewal(TypedDict):
    """Next renewal of the contract; days are counted from the day of scoring."""

    renews_on: str
    days_to_renewal: int
    notice_on: str | None
    days_to_notice: int | None


@with_config(CONTRACT)
class HeldProduct(TypedDict):
    """Product that an account holds."""

    product: str
    share: Annotated[float, Field(ge=0, le=1, description="share of the ARR of its products")]


@with_config(CONTRACT)
class ScoreBody(TypedDict):
    """Score for one target before the ledger gives it an id."""

    target: str
    outcome: Outcome
    measure: Measure
    probability: Probability
    low: Annotated[
        float,
        Field(ge=0, le=1, description="lower end of the 90 % range of the rate of such accounts"),
    ]
    high: Annotated[float, Field(ge=0, le=1, description="upper end of the 90 % range")]
    logit: Annotated[float, Field(description="the probability as calibrated log-odds")]
    text: Annotated[str, Field(description="the estimate as a sentence")]
    asks_about: Question
    until: Annotated[str, Field(description="last day of the prediction window, ISO 8601")]
    horizon_days: int
    lead_time_days: int
    base: Annotated[float, Field(description="estimate for the average account")]
    percentile: Annotated[
        float | None,
        Field(
            description="share of the accounts in the latest published scores that answer the same "
            "question (`asks_about`) and have a lower probability, 0 to 100; null without "
            "published scores"
        ),
    ]
    percentile_of: Annotated[
        str | None, Field(description="accounts that the percentile compares with, as text")
    ]
    band: Annotated[str, Field(description="low, elevated or high: thresholds frozen at release")]
    confidence: Annotated[Confidence, Field(description="confidence of the model in this score")]
    verdict: Verdict
    is_provisional: Annotated[bool, Field(description="the model did not pass every check")]
    rung: Annotated[
        str,
        Field(description="model tier, by number of events: rates, linear, trees or tuned trees"),
    ]
    evidence: Annotated[
        str,
        Field(
            description="why this tier was used and, where events are few, how many are missing "
            "and about when they will be there"
        ),
    ]
    raises: Annotated[
        list[Reason], Field(description="strongest first; empty when no reason is clear")
    ]
    lowers: list[Reason]
    circumstances: Annotated[
        list[Fact], Field(description="facts that cannot be acted on: age, size, calendar")
    ]
    rules: Annotated[
        list[Flag],
        Field(
            description="on the tier `rates` only, where events are too few to measure reasons: "
            "expert rules that apply, as declared. They order accounts and do not change the "
            "probability"
        ),
    ]
    themes: Annotated[dict[str, float], Field(description="points of probability by theme")]
    context: Annotated[float, Field(description="points of probability of circumstances")]
    unknown: Annotated[float, Field(description="points of probability of missing values")]
    bundle_sha: Annotated[str, Field(description="identity of the model")]


@with_config(CONTRACT)
class Score(ScoreBody):
    """Score for one target. base + sum(themes) + context + unknown = probability."""

    score_id: Annotated[str, Field(description="id of this score in the ledger, for replay")]


@with_config(CONTRACT)
class Withheld(TypedDict):
    """Reason why one target is not predicted for an account that has other scores."""

    status: Literal["no_room_to_grow"]
    status_text: str


@with_config(CONTRACT)
class AddedArr(TypedDict):
    """ARR that an expansion of this kind adds if it happens, in `currency`."""

    p10: Annotated[float, Field(description="10 % of past expansions of this kind added less")]
    p50: float
    p90: Annotated[float, Field(description="10 % added more")]


@with_config(CONTRACT)
class Contact(TypedDict):
    """Person to ask at the account."""

    contact_id: str
    role: str | None
    is_champion: Annotated[bool, Field(description="an advocate of our product, by the source")]
    last_active_on: Annotated[
        str | None,
        Field(description="last day of product use or reply, ISO 8601; null: not in a year"),
    ]


@with_config(CONTRACT)
class Timing(TypedDict):
    """Time to ask."""

    by_on: Annotated[str, Field(description="ISO 8601 day")]
    text: str


@with_config(CONTRACT)
class Blocker(TypedDict):
    """Reason not to sell to an account now."""

    code: Literal["no_room", "overdue", "open_opportunity", "at_risk", "notice_window"]
    text: str


@with_config(CONTRACT)
class OtherKind(TypedDict):
    """Another kind of expansion that is open to the account and measured."""

    kind: GrowthKind
    kind_text: str
    product: str | None
    probability: Probability
    expected_added_arr: float | None
    evidence: list[str]


@with_config(CONTRACT)
class Offer(TypedDict):
    """Expansion offer for an account, and whether it can be made now."""

    kind: Annotated[
        GrowthKind | None,
        Field(
            description="kind of expansion that the account's own use suggests (an allowance that "
            "is nearly full or soon will be), otherwise the most frequent kind among past "
            "expansions of accounts in the same state; null: unknown, or no room for any (`basis`)"
        ),
    ]
    kind_text: str | None
    product: Annotated[
        str | None, Field(description="product to sell; null where the contract does not name one")
    ]
    basis: Annotated[
        Literal["measured", "rules", "unknown", "none"],
        Field(
            description="measured: probability and amount are backtested for this kind; rules: too "
            "few past expansions, so an expert rule names the kind without probability or amount; "
            "unknown: expansion is likely, its kind is not known; probability and amount are those "
            "of any expansion"
        ),
    ]
    basis_text: str
    n_events: Annotated[int, Field(description="past expansions of this kind at this company")]
    probability: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="probability of an expansion of this kind: expansion_propensity × share of "
            "the kind among past expansions of accounts in the same state",
        ),
    ]
    added_arr: AddedArr | None
    expected_added_arr: Annotated[float | None, Field(description="probability × mean amount")]
    evidence: Annotated[list[str], Field(description="facts known at as_of")]
    others: Annotated[
        list[OtherKind], Field(description="other kinds that are open, most likely first")
    ]
    contact: Contact | None
    timing: Timing | None
    is_eligible: Annotated[bool, Field(description="no blockers")]
    blockers: list[Blocker]


@with_config(CONTRACT)
class Answer(TypedDict):
    """One account. Accounts that are not predicted have a status and no `scores`."""

    account_id: str
    status: Annotated[
        str,
        Field(
            description="`scored`; `too_new`, `notice_given`, `pending_renewal`, "
            "`no_room_to_grow`, `insufficient_data`, `closed`: known but not predicted; "
            "`unknown_account`, `invalid_account_id`, `score_failed`: see `problem`"
        ),
    ]
    status_text: str
    problem: NotRequired[Annotated[Problem, Field(description="only in a batch")]]
    name: NotRequired[str | None]
    segment: NotRequired[str | None]
    plan: NotRequired[str | None]
    industry: NotRequired[str | None]
    region: NotRequired[str | None]
    parent_account_id: NotRequired[str | None]
    owner_id: NotRequired[str | None]
    owner: NotRequired[str | None]
    products: NotRequired[
        Annotated[list[HeldProduct], Field(description="current products, largest share first")]
    ]
    arr: NotRequired[
        Annotated[float | None, Field(description="annual recurring revenue in `currency`")]
    ]
    currency: NotRequired[str]
    tenure_days: NotRequired[float | None]
    last_active_days: NotRequired[float | None]
    renewal: NotRequired[Renewal | None]
    as_of: NotRequired[
        Annotated[str | None, Field(description="the prediction moment, ISO 8601, UTC")]
    ]
    release_id: NotRequired[str]
    config_hash: NotRequired[str]
    data: NotRequired[Data]
    peers: NotRequired[PeerGroup]
    scores: NotRequired[Annotated[dict[str, Score], Field(description="by target")]]
    withheld: NotRequired[
        Annotated[
            dict[str, Withheld],
            Field(description="targets that are not predicted for this account, with the reason"),
        ]
    ]
    churn_risk: NotRequired[Probability]
    risk_band: NotRequired[str]
    contraction_risk: NotRequired[Probability]
    expansion_propensity: NotRequired[Probability]
    expected_arr_lost: NotRequired[
        Annotated[
            float | None,
            Field(description="churn_risk × arr, a year; by `expected_arr_lost_by`"),
        ]
    ]
    expected_arr_lost_by: NotRequired[
        Annotated[
            str,
            Field(description="renewal date, or end of the horizon, ISO 8601 date"),
        ]
    ]
    expansion: NotRequired[
        Annotated[
            Offer | None,
            Field(
                description="expansion offer; null where expansion is not predicted or no kind is "
                "known"
            ),
        ]
    ]
