"""Types of the what-if route."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, with_config
from typing_extensions import TypedDict

from serving.api.schemas.base import AccountId, RequestBody
from serving.scoring.answer import CONTRACT, Measure, Outcome, Probability, Verdict
from training.model.reasons import Reason


class WhatIfRequest(RequestBody):
    """Feature values to assume, and the account that provides all other values."""

    account_id: AccountId | None = Field(
        None, description="without it, all other features are missing"
    )
    features: dict[str, float | None] = Field(
        min_length=1, max_length=500, description="value by feature name; null: missing"
    )


@with_config(CONTRACT)
class ChangedFeature(TypedDict):
    """Feature with an assumed value."""

    feature: str
    label: str
    unit: str
    before: Annotated[float | None, Field(description="null: missing")]
    value: float | None


@with_config(CONTRACT)
class UnusualFeature(TypedDict):
    """Value outside the range seen in training; predictions there repeat those at the limit."""

    feature: str
    value: float
    low: float
    high: float


@with_config(CONTRACT)
class WhatIfScore(TypedDict):
    """Score for the assumed values."""

    target: str
    outcome: Outcome
    measure: Measure
    probability: Probability
    low: Probability
    high: Probability
    before: Annotated[
        float | None, Field(description="current score of the account; null without an account")
    ]
    difference: Annotated[float | None, Field(ge=-1, le=1)]
    text: str
    band: str
    verdict: Verdict
    raises: list[Reason]
    lowers: list[Reason]


@with_config(CONTRACT)
class WhatIfAnswer(TypedDict):
    """Scores for assumed values. They are not scores of the account and not in the ledger."""

    account_id: str | None
    release_id: str
    as_of: str | None
    note: Annotated[str, Field(description="meaning and limits of the result")]
    ignored: Annotated[
        list[str],
        Field(description="features that this release does not use; they change no score"),
    ]
    changed: list[ChangedFeature]
    out_of_range: list[UnusualFeature]
    missing: Annotated[list[str], Field(description="features without a value")]
    scores: Annotated[dict[str, WhatIfScore], Field(description="by target")]
