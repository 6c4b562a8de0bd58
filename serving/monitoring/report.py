"""Types of the monitoring report: freshness, drift, expected and realised performance."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from serving.scoring.answer import CONTRACT, Outcome, Verdict


@with_config(CONTRACT)
class Estimated(TypedDict):
    """A measure with its 95 % interval over accounts."""

    value: float | None
    low: float | None
    high: float | None


@with_config(CONTRACT)
class Shift(TypedDict):
    """Distance of one distribution from its reference."""

    name: str
    psi: Annotated[
        float | None, Field(description="population stability index; null: too few accounts")
    ]
    usual: Annotated[
        float | None,
        Field(description="95th percentile of the index for samples of this size without drift"),
    ]
    p_value: float
    verdict: Literal["steady", "moved", "moved much", "too few to tell"]
    n: int
    missing: float
    missing_before: float


@with_config(CONTRACT)
class ScoreShift(Shift):
    """Drift of the scores since the first score run of the same model."""

    since: Annotated[str, Field(description="day of that score run, ISO 8601")]


@with_config(CONTRACT)
class InputShift(Shift):
    """Drift of one model input against the last year of training data."""

    label: str
    theme: str
    is_circumstance: bool


@with_config(CONTRACT)
class InputShifts(TypedDict):
    """Drift of every input, strongest first."""

    n_accounts: int
    n_reference: int
    n_features: int
    n_moved: int
    n_too_few_to_tell: int
    features: list[InputShift]


@with_config(CONTRACT)
class Expectation(TypedDict):
    """Performance implied by the probabilities of the latest scores, with 90 % ranges."""

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
    until: NotRequired[
        Annotated[str | None, Field(description="last day of the prediction windows, ISO 8601")]
    ]


Realised = TypedDict(  # one of its keys is a keyword
    "Realised",
    {
        "n": int,
        "n_accounts": int,
        "events": int,
        "from": Annotated[str | None, Field(description="first prediction moment")],
        "to": str | None,
        "auc": Annotated[
            Estimated | None, Field(description="over pairs of accounts of the same month")
        ],
        "auc_pooled": Annotated[
            Estimated | None, Field(description="over pairs of all months together")
        ],
        "brier": Estimated | None,
        "observed_to_expected": Estimated | None,
        "expected_auc": Annotated[
            float | None, Field(description="`auc` implied by the probabilities of these scores")
        ],
    },
)
"""Performance of past scores with a known outcome; null where events are too few."""


@with_config(CONTRACT)
class Agreement(TypedDict):
    """Agreement of a shadow release with the published one on the same accounts."""

    n: int
    mean_difference: float | None
    mean_size: float | None
    other_band_share: float | None


@with_config(CONTRACT)
class PairedMeasure(TypedDict):
    """One measure of both releases and their difference, on the same accounts."""

    shown: Estimated
    shadow: Estimated
    difference: Estimated


@with_config(CONTRACT)
class PairedOutcomes(TypedDict):
    """Performance of both releases on the same accounts; no measures where events are too few."""

    n: int
    events: int
    auc: NotRequired[PairedMeasure]
    brier: NotRequired[PairedMeasure]


@with_config(CONTRACT)
class Shadow(TypedDict):
    """Comparison of the shadow release with the published one."""

    release_id: str
    n_books: Annotated[int, Field(description="number of score runs")]
    agreement: NotRequired[Agreement]
    outcomes: PairedOutcomes


@with_config(CONTRACT)
class TargetReport(TypedDict):
    """Monitoring of the model of one target."""

    outcome: Outcome
    bundle_sha: str
    verdict: Verdict
    scores: Annotated[
        ScoreShift | None, Field(description="null in the first score run of this model")
    ]
    inputs: InputShifts | None
    expected: Expectation | None
    realised: Realised
    realised_of_this_model: Realised
    shadow: Annotated[
        Shadow | None,
        Field(description="the release scored in the shadow: agreement and outcomes"),
    ]
    words: Annotated[list[str], Field(description="summary in sentences; alarms begin with ALARM")]


@with_config(CONTRACT)
class Freshness(TypedDict):
    """Age of the features."""

    as_of: str
    age_days: int
    stale_after_days: int
    is_stale: bool
    n_accounts: int
    n_scored: int


@with_config(CONTRACT)
class Monitoring(TypedDict):
    """Latest monitoring report: freshness, drift and performance."""

    made_at: str
    release_id: str
    freshness: Freshness
    targets: dict[str, TargetReport]
