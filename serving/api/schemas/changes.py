"""Types of the route that explains the change of a score."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from serving.scoring.answer import CONTRACT, Measure, Outcome, Probability


@with_config(CONTRACT)
class ChangeEnd(TypedDict):
    """One of the two scores that are compared."""

    score_id: str
    as_of: str
    served_at: str
    probability: Probability
    band: str
    release_id: str
    bundle_sha: str


@with_config(CONTRACT)
class ChangeFact(TypedDict):
    """One value that moved a score."""

    feature: str
    label: str
    unit: str
    window_days: int | None
    before: Annotated[float | str | None, Field(description="null: not known")]
    after: float | str | None
    points: Annotated[float, Field(description="effect on the probability, -1 to 1")]
    text: str


@with_config(CONTRACT)
class ChangePart(TypedDict):
    """One part of a change, as text."""

    printed: Annotated[
        float,
        Field(
            description="displayed points of probability, 0 to 100, rounded so that all parts add "
            "up to the displayed difference"
        ),
    ]
    kind: Literal["theme", "circumstances", "unknown", "time", "model", "calibration"]
    theme: str | None
    points: float
    text: str
    facts: list[ChangeFact]


@with_config(CONTRACT)
class Change(TypedDict):
    """Change since the previous score of another as_of or another model.

    sum(themes) + circumstances + unknown + time + model + calibration = difference.
    """

    target: str
    outcome: Outcome
    measure: Measure
    before: Annotated[
        ChangeEnd | None,
        Field(
            description="null where no comparison is possible: this is the first score, or the "
            "previous one answered another question"
        ),
    ]
    after: ChangeEnd
    is_comparable: Annotated[
        bool | None,
        Field(
            description="both scores answer the same question; false after a renewal, where "
            "`text` states the new question; null for the first score"
        ),
    ]
    text: Annotated[str, Field(description="the change as a sentence")]
    difference: NotRequired[Annotated[float | None, Field(description="after − before, -1 to 1")]]
    low: NotRequired[Annotated[float | None, Field(description="lower end of its 90 % range")]]
    high: NotRequired[Annotated[float | None, Field(description="upper end of its 90 % range")]]
    is_clear: NotRequired[
        Annotated[
            bool | None,
            Field(description="larger than its uncertainty, and at least half a percentage point"),
        ]
    ]
    themes: NotRequired[
        Annotated[dict[str, float] | None, Field(description="effect of new values, by theme")]
    ]
    circumstances: NotRequired[
        Annotated[float | None, Field(description="effect of size, contract and age")]
    ]
    unknown: NotRequired[
        Annotated[float | None, Field(description="effect of values that appeared or went missing")]
    ]
    time: NotRequired[Annotated[float | None, Field(description="effect of the calendar alone")]]
    model: NotRequired[Annotated[float | None, Field(description="effect of a new model")]]
    calibration: NotRequired[
        Annotated[float | None, Field(description="effect of a new calibration")]
    ]
    parts: NotRequired[
        Annotated[list[ChangePart] | None, Field(description="largest parts, as text")]
    ]
    notes: NotRequired[
        Annotated[list[str] | None, Field(description="limitations of the comparison")]
    ]


@with_config(CONTRACT)
class ChangesAnswer(TypedDict):
    """Changes of the scores of one account by target."""

    account_id: str
    status: str
    status_text: str
    as_of: str | None
    changes: Annotated[
        dict[str, Change], Field(description="by target; empty when it is not predicted")
    ]
