"""Types of the parts of an evaluation as JSON content; `Evaluation` describes their meaning.

Measures that need events are absent where too few were observed.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

CountedFrom = Literal["notice deadline", "decision"]
"""Date from which a lead time is counted back."""


class EstimateJson(TypedDict):
    """A value with its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


Measures = dict[str, EstimateJson]
"""Estimates by measure, see `training.evaluation.metrics.MEASURES`."""


class CapacityJson(TypedDict):
    """Accounts the team can work per month and per test period."""

    per_month: int
    per_fold: float


class LeadTimeJson(TypedDict):
    """Performance at one lead time, see `training.evaluation.lead_time.by_lead_time`."""

    counted_from: CountedFrom
    days: int
    within_days: float
    n: int
    entities: int
    events: int
    days_found: NotRequired[float]
    measures: NotRequired[Measures]
    auc: NotRequired[Measures]


class SliceMeasures(TypedDict, total=False):
    """Measures of a slice or a test period."""

    auc: EstimateJson
    average_precision: EstimateJson
    observed_to_expected: EstimateJson
    capture_at_capacity: EstimateJson
    lift_at_capacity: EstimateJson
    arr_capture_at_capacity: EstimateJson
    brier: EstimateJson
    brier_skill: EstimateJson


class SliceJson(SliceMeasures):
    """Performance on a part of the headline rows; rates are 0–1."""

    slice: str
    n: int
    events: int
    rate: float
    mean_p: float


class FoldJson(TypedDict, total=False):
    """One fold: training and test rows (`training.data.splits.describe`) and point measures."""

    fold: int
    repeat: int
    cutoff: str
    test_until: str
    train_from: str
    n_train: int
    n_train_events: int
    n_test: int
    n_headline: int
    n_headline_events: int
    auc: float | None
    average_precision: float | None
    observed_to_expected: float | None
    capture_at_capacity: float | None
    lift_at_capacity: float | None
    arr_capture_at_capacity: float | None
    brier: float | None
    brier_skill: float | None
    log_loss: float | None


class ReliabilityBin(TypedDict):
    """Observed and expected rate of one bin of probabilities, with a 95 % interval."""

    n: int
    events: int
    expected: float
    observed: float
    low: float
    high: float
    p_from: float
    p_to: float


class RepeatJson(TypedDict):
    """One measure over repeated assignments of accounts to folds."""

    values: list[float]
    mean: float
    deviation: float


class ChampionSinceJson(TypedDict, total=False):
    """Comparison with the published model on cohorts after its cut-off."""

    since: str
    n: int
    n_events: int
    difference: Measures


class ListedJson(TypedDict):
    """First alerts of one score; ``warned`` maps days to the share of events alerted by then."""

    caught: int
    share: float | None
    first_quartile_days: EstimateJson
    median_days: EstimateJson
    third_quartile_days: EstimateJson
    mean_days: EstimateJson
    warned: dict[str, EstimateJson]


class FirstAlertsJson(TypedDict, total=False):
    """Days from an account's first place on the team's list to the decision, per score."""

    events: int
    models: dict[str, ListedJson]
    difference: EstimateJson | None
    longest_days: float | None


class CsmMonths(TypedDict):
    """Alerts per CSM and month: mean, median, 90th percentile, maximum."""

    mean: float
    median: float
    busy: float
    most: int


class WorkloadJson(TypedDict, total=False):
    """Alerts per month for the team and per CSM, at the team's capacity."""

    alerts: int
    months: float
    per_month: float
    precision: EstimateJson
    csms: int | None
    per_csm_month: CsmMonths
    without_owner: float | None


PeriodJson = TypedDict(
    "PeriodJson",
    {
        "fold": int,
        "from": str,
        "until": str,
        "n": int,
        "events": int,
        "rate": float,
        "mean_p": float,
        "auc": NotRequired["PeriodEstimate"],
        "average_precision": NotRequired["PeriodEstimate"],
        "observed_to_expected": NotRequired["PeriodEstimate"],
        "capture_at_capacity": NotRequired["PeriodEstimate"],
        "lift_at_capacity": NotRequired["PeriodEstimate"],
        "arr_capture_at_capacity": NotRequired["PeriodEstimate"],
        "brier": NotRequired["PeriodEstimate"],
        "brier_skill": NotRequired["PeriodEstimate"],
    },
)
"""Performance in one test period."""


class PeriodEstimate(EstimateJson):
    """Estimate with its standard error; of a ratio that of its logarithm."""

    se: float | None


class RangeJson(TypedDict):
    """Lowest and highest value over test periods."""

    lowest: float
    highest: float


class SpreadJson(RangeJson):
    """Range with the p-value of equal periods; ``moved`` is ``yes``, ``perhaps`` or ``no``."""

    chance: float
    moved: str


class StabilityJson(TypedDict, total=False):
    """Spread of rate, AUC and level over test periods, in numbers and words."""

    periods: int
    rate: RangeJson
    auc: SpreadJson
    observed_to_expected: SpreadJson
    words: str


class EvaluationJson(TypedDict, total=False):
    """JSON content of `training.evaluation.evaluate.Evaluation`; ``evaluation.json``."""

    target: str
    n_rows: int
    n_entities: int
    n_events: int
    n_decisions: int
    base_rate: float
    capacity: CapacityJson
    models: dict[str, Measures]
    differences: dict[str, Measures]
    folds: list[FoldJson]
    over: str
    lead_times: list[LeadTimeJson]
    segments: list[SliceJson]
    contracts: list[SliceJson]
    newcomers: list[SliceJson]
    reliability: list[ReliabilityBin]
    notes: list[str]
    repeats: dict[str, RepeatJson]
    champion_since: ChampionSinceJson
    first_alerts: FirstAlertsJson
    workload: WorkloadJson
    periods: list[PeriodJson]
    stability: StabilityJson
    tuning: str
