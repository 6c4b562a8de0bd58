"""Types of the routes of outcomes, feedback and score history."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from serving.api.schemas.base import MAX_BATCH, AccountId, FreeText, RequestBody
from serving.scoring.answer import CONTRACT, Probability, Question


class OutcomeItem(RequestBody):
    """Outcome of one account."""

    account_id: AccountId
    outcome: Literal["churned", "contracted", "expanded", "renewed"]
    decided_on: date = Field(description="day of the decision")
    effective_on: date | None = Field(None, description="day on which revenue stops or starts")
    reason: FreeText | None = Field(None, description="reason given by the account")


class OutcomesRequest(RequestBody):
    """Outcomes of accounts."""

    outcomes: list[OutcomeItem] = Field(min_length=1, max_length=MAX_BATCH)


class FeedbackItem(RequestBody):
    """Feedback on one reason, from a person who knows the account."""

    score_id: Annotated[str, Field(pattern="^[0-9a-f]{8,40}$")]
    reason_code: Annotated[str, Field(max_length=100, pattern=r"^[a-z_.]+$")]
    verdict: Literal["useful", "wrong", "known"] = Field(description="known: already known")
    note: FreeText | None = None


class FeedbackRequest(RequestBody):
    """Feedback on reasons."""

    feedback: list[FeedbackItem] = Field(min_length=1, max_length=MAX_BATCH)


@with_config(CONTRACT)
class IntakeResult(TypedDict):
    """Result for one item, in the order of the request."""

    index: int
    status: Literal[
        "recorded", "known", "conflict", "unknown_account", "unknown_score", "unknown_reason"
    ]


@with_config(CONTRACT)
class IntakeAnswer(TypedDict):
    """Results for all items."""

    counts: Annotated[dict[str, int], Field(description="number of items by status")]
    results: list[IntakeResult]


@with_config(CONTRACT)
class PastReason(TypedDict):
    """Reason as it was shown."""

    code: str
    points: float
    facts: list[str]


@with_config(CONTRACT)
class PastScore(TypedDict):
    """Score as it was served."""

    score_id: str
    served_at: str
    as_of: str
    release_id: str
    bundle_sha: str
    probability: Probability
    band: str
    verdict: str
    asks_about: Annotated[
        Question | None,
        Field(
            description="question of the score; only scores with the same question can be "
            "compared. Null where an earlier version did not record it"
        ),
    ]
    until: Annotated[
        str | None,
        Field(
            description="renewal date, or end of the horizon, ISO 8601; another renewal is another "
            "question"
        ),
    ]
    channel: Annotated[str, Field(description="source of the request: api, batch or book")]
    reasons: list[PastReason]


@with_config(CONTRACT)
class HistoryAnswer(TypedDict):
    """Past scores of an account by target, newest first."""

    account_id: str
    targets: dict[str, list[PastScore]]
