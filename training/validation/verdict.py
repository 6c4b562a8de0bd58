"""Verdict on a score: criteria with thresholds fixed in advance, and one overall word.

Pure functions from numbers to words. A criterion is met only if the whole 95 % interval is on the
good side of its threshold, missed only if the whole interval is on the other side, and undecided
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from configs.runtime.formatting import NBSP, fixed, listing, percent, percent_range, plural
from training.evaluation.metrics import AUC_WITHIN
from training.reporting.chart_types import Estimated
from training.reporting.report_text import OutcomeText, estimated

Status = Literal["met", "missed", "undecided", "not measured", "does not apply"]
Word = Literal["PROVEN", "PROMISING", "NOT PROVEN", "INCONCLUSIVE", "SUSPECT"]

MIN_VERDICT_EVENTS = 20
GRADES = ((200, "A"), (100, "B"), (50, "C"), (MIN_VERDICT_EVENTS, "D"))
"""Smallest number of events for each sample grade; below the last one there is no verdict."""

RANDOM_AUC = 0.5


@dataclass(frozen=True)
class PassMarks:
    """Thresholds for a proven score, each to be met by the whole 95 % interval.

    Attributes
    ----------
    min_folds, min_events : int
        Test periods in time, and distinct events in them.
    min_auc : float
        Threshold of the AUC.
    min_lift : float
        Threshold of the lift at capacity.
    min_band_ratio : float
        Event rate of the highest band over that of the lowest.
    calibration : tuple of float
        Range of observed over expected and of the slope.
    min_lead_days : float
        Median days from first warning to decision, for accounts under contract.
    max_auc : float
        AUC above which a leak is suspected.
    """

    min_folds: int = 4
    min_events: int = 100
    min_auc: float = 0.60
    min_lift: float = 1.5
    min_band_ratio: float = 3.0
    calibration: tuple[float, float] = (0.8, 1.25)
    min_lead_days: float = 60.0
    max_auc: float = 0.95


@dataclass(frozen=True)
class Criterion:
    """One criterion: threshold and finding.

    Attributes
    ----------
    code : str
        Stable name.
    title : str
        The requirement, in words.
    found : str
        The finding with its interval.
    threshold : str
        The threshold, in words.
    status : str
        ``met``, ``missed``, ``undecided`` (the interval contains the threshold or is unknown),
        ``not measured``, or ``does not apply``.
    value, low, high : float or None
        The numbers behind `found`.
    mark : float or None
        The number behind `threshold`, where it is one.
    """

    code: str
    title: str
    found: str
    threshold: str
    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    mark: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """Overall word, sample grade, sentence, and the criteria not yet met."""

    word: Word
    grade: str | None
    sentence: str
    lacking: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping."""
        return asdict(self)


def sample_grade(n_events: float) -> str | None:
    """Return the sample grade by distinct events; None with too few for a verdict.

    >>> [sample_grade(n) for n in (200, 199, 50, 20, 19)]
    ['A', 'B', 'C', 'D', None]
    """
    return next((grade for least, grade in GRADES if n_events >= least), None)


Ask = Callable[[float, float], bool]
"""Test on the limits of an interval."""


def _by_interval(estimate: Estimated, is_met: Ask, is_missed: Ask) -> Status:
    """Return the status of an interval; a value without an interval is undecided."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "not measured"
    if low is None or high is None:
        return "undecided"
    return "met" if is_met(low, high) else "missed" if is_missed(low, high) else "undecided"


def lower_above(estimate: Estimated, mark: float) -> Status:
    """Return whether the whole interval is above the threshold.

    >>> lower_above({"value": 0.7, "low": 0.62, "high": 0.78}, 0.6)
    'met'
    >>> lower_above({"value": 0.65, "low": 0.55, "high": 0.75}, 0.6)
    'undecided'
    """
    return _by_interval(estimate, lambda low, _: low > mark, lambda _, high: high <= mark)


def at_least(estimate: Estimated, mark: float) -> Status:
    """Return whether the whole interval is at or above the threshold.

    >>> at_least({"value": 4.0, "low": 0.7, "high": 7.3}, 3.0)
    'undecided'
    """
    return _by_interval(estimate, lambda low, _: low >= mark, lambda _, high: high < mark)


def at_most(estimate: Estimated, mark: float) -> Status:
    """Return whether the whole interval is at or below the threshold.

    >>> at_most({"value": 0.94, "low": 0.92, "high": 0.96}, 0.95)
    'undecided'
    """
    return _by_interval(estimate, lambda _, high: high <= mark, lambda low, _: low > mark)


def within(estimate: Estimated, marks: tuple[float, float]) -> Status:
    """Return whether the whole interval is within the range.

    >>> within({"value": 1.22, "low": 0.96, "high": 1.52}, (0.8, 1.25))
    'undecided'
    """
    least, most = marks
    return _by_interval(
        estimate,
        lambda low, high: least <= low and high <= most,
        lambda low, high: low > most or high < least,
    )


def criterion(
    code: str,
    title: str,
    estimate: Estimated | None,
    threshold: str,
    status: Status,
    kind: str = "fixed",
    suffix: str = "",
    mark: float | None = None,
) -> Criterion:
    """Return a criterion with its finding as text."""
    if estimate is None or estimate["value"] is None:
        return Criterion(code, title, "not measured", threshold, status)
    return Criterion(
        code,
        title,
        estimated(estimate, kind) + suffix,
        threshold,
        status,
        estimate["value"],
        estimate["low"],
        estimate["high"],
        mark,
    )


def sample_criteria(n_folds: int, n_events: int, marks: PassMarks) -> list[Criterion]:
    """Return the criteria on sample size."""
    return [
        Criterion(
            "folds",
            "enough test periods, each later than its training data",
            str(n_folds),
            f"at least {marks.min_folds}",
            "met" if n_folds >= marks.min_folds else "missed",
            float(n_folds),
        ),
        Criterion(
            "events",
            "enough distinct events in the test periods",
            f"{n_events:,}",
            f"at least {marks.min_events}",
            "met" if n_events >= marks.min_events else "missed",
            float(n_events),
        ),
    ]


def ranking_criteria(
    model: Mapping[str, Estimated], calendar: Mapping[str, Any], marks: PassMarks
) -> list[Criterion]:
    """Return the criteria on ranking: AUC, difference to the calendar and lift."""
    gain = calendar["difference"]
    return [
        criterion(
            "discrimination",
            f"ranks accounts well ({AUC_WITHIN})",
            model["auc"],
            f"lower limit above {fixed(marks.min_auc)}",
            lower_above(model["auc"], marks.min_auc),
            mark=marks.min_auc,
        ),
        criterion(
            "calendar",
            f"ranks better than the calendar, {calendar['at'].replace('days', 'days ahead')}",
            gain,
            f"difference in {AUC_WITHIN}, lower limit above 0",
            lower_above(gain, 0.0),
            "signed",
        ),
        criterion(
            "lift",
            "finds more events than a random selection (lift at capacity)",
            model["lift_at_capacity"],
            f"lower limit above {marks.min_lift}×",
            lower_above(model["lift_at_capacity"], marks.min_lift),
            "times",
        ),
    ]


def band_criteria(bands: Mapping[str, Any], marks: PassMarks) -> list[Criterion]:
    """Return the criteria on event rates by band."""
    inversions = bands["inversions"]
    several = len(bands["rows"]) > 1
    order = listing([f"{item['lower']} above {item['upper']}" for item in inversions])
    status: Status = "not measured" if not several else "missed" if inversions else "met"
    return [
        criterion(
            "band_ratio",
            "event rate of the highest band well above the lowest",
            bands["ratio"],
            f"at least {marks.min_band_ratio:.0f}×",
            at_least(bands["ratio"], marks.min_band_ratio),
            "times",
        ),
        Criterion(
            "band_order",
            "no band has significantly more events than a higher one",
            "not measured" if not several else order or "none",
            "none",
            status,
        ),
    ]


def calibration_criteria(model: Mapping[str, Estimated], marks: PassMarks) -> list[Criterion]:
    """Return the criteria on calibration."""
    span = f"{marks.calibration[0]} to {marks.calibration[1]}"
    level, slope, skill = (
        model[name] for name in ("observed_to_expected", "calibration_slope", "brier_skill")
    )
    return [
        criterion(
            "level",
            "number of events close to the sum of probabilities (observed over expected)",
            level,
            span,
            within(level, marks.calibration),
        ),
        criterion(
            "slope",
            "spread of probabilities neither too wide nor too narrow (slope)",
            slope,
            span,
            within(slope, marks.calibration),
        ),
        criterion(
            "brier_skill",
            "more accurate than the average rate for all (Brier skill)",
            skill,
            "above 0",
            lower_above(skill, 0.0),
        ),
    ]


def lead_criteria(
    lead: Mapping[str, Any], marks: PassMarks, *, applies: bool, why_not: str
) -> list[Criterion]:
    """Return the criteria on lead time."""
    titles = (
        "warns early (median days before the decision)",
        "warns earlier than the calendar (mean days, events without warning count as 0)",
    )
    thresholds = (f"at least {marks.min_lead_days:.0f} days", "difference, lower limit above 0")
    if not applies:
        return [
            Criterion(code, title, why_not, threshold, "does not apply")
            for code, title, threshold in zip(
                ("lead", "lead_calendar"), titles, thresholds, strict=True
            )
        ]
    median = lead["models"]["model"]["median_days"]
    gain = lead["difference"] or {"value": None, "low": None, "high": None}
    return [
        criterion(
            "lead",
            titles[0],
            median,
            thresholds[0],
            at_least(median, marks.min_lead_days),
            "count",
            " days",
        ),
        criterion(
            "lead_calendar",
            titles[1],
            gain,
            thresholds[1],
            lower_above(gain, 0.0),
            "days",
            " days",
        ),
    ]


def leakage_criteria(
    area: Estimated | None, checks: Sequence[Mapping[str, Any]], marks: PassMarks
) -> list[Criterion]:
    """Return the criteria on leakage: no sign that a feature contains the outcome.

    Parameters
    ----------
    area : Estimated or None
        AUC of the score; None leaves out the check on its size.
    checks : sequence of mapping
        Leakage checks with ``title``, ``passed`` (bool, or None when it could not run), ``words``.
    marks : PassMarks
        Provides ``max_auc``.
    """
    found = []
    if area is not None:
        found.append(
            criterion(
                "too_good",
                f"not suspiciously high ({AUC_WITHIN})",
                area,
                f"at most {marks.max_auc}",
                at_most(area, marks.max_auc),
                mark=marks.max_auc,
            )
        )
    failed = [check for check in checks if check["passed"] is False]
    ran = [check for check in checks if check["passed"] is not None]
    status: Status = "missed" if failed else "met" if ran else "not measured"
    words = listing([str(check["title"]) for check in failed])
    found.append(
        Criterion(
            "leakage",
            "every leakage check passes",
            f"failed: {words}" if failed else f"{len(ran)} passed" if ran else "not run",
            "all",
            status,
        )
    )
    return found


def verdict(criteria: Sequence[Criterion], outcome: OutcomeText) -> Verdict:
    """Return the verdict of a set of criteria.

    Parameters
    ----------
    criteria : sequence of Criterion
        With the codes ``events``, ``discrimination`` and ``calendar`` among them.
    outcome : OutcomeText
        For the sentence.

    Notes
    -----
    SUSPECT: a leakage check failed or the AUC is suspiciously high; a leak would invalidate every
    other criterion. INCONCLUSIVE: fewer than 20 events, or fewer events than required and an
    interval that contains both chance and the threshold. PROVEN: every criterion that applies is
    met; one undecided or unmeasured criterion prevents it. PROMISING: ranks better than chance,
    the AUC reaches its threshold and the calendar is not shown to do as well. NOT PROVEN: the
    rest.
    """
    by_code = {item.code: item for item in criteria}
    n_events = by_code["events"].value or 0.0
    word = _word(by_code, criteria, n_events)
    lacking = tuple(
        f"{item.title}: {item.status}"
        for item in criteria
        if item.status not in ("met", "does not apply")
    )
    sentence = _sentence(word, by_code, criteria, outcome)
    return Verdict(word, sample_grade(n_events), sentence, lacking)


def _word(by_code: Mapping[str, Criterion], criteria: Sequence[Criterion], n_events: float) -> Word:
    if _suspicions(criteria):
        return "SUSPECT"
    if sample_grade(n_events) is None or _is_undecided(by_code):
        return "INCONCLUSIVE"
    if all(item.status in ("met", "does not apply") for item in criteria):
        return "PROVEN"
    return "PROMISING" if _is_promising(by_code) else "NOT PROVEN"


def _suspicions(criteria: Sequence[Criterion]) -> list[Criterion]:
    return [item for item in criteria if _is_suspicious(item)]


def _is_suspicious(item: Criterion) -> bool:
    if item.code == "too_good" and item.value is not None and item.mark is not None:
        return item.value > item.mark
    return item.code == "leakage" and item.status == "missed"


def _is_undecided(by_code: Mapping[str, Criterion]) -> bool:
    ranking = by_code["discrimination"]
    holds_chance = ranking.low is None or ranking.low <= RANDOM_AUC
    return by_code["events"].status != "met" and holds_chance and ranking.status != "missed"


def _is_promising(by_code: Mapping[str, Criterion]) -> bool:
    ranking = by_code["discrimination"]
    if ranking.value is None or ranking.low is None or ranking.mark is None:
        return False
    is_good = ranking.low > RANDOM_AUC and ranking.value > ranking.mark
    return is_good and by_code["calendar"].status != "missed"


def _sentence(
    word: Word,
    by_code: Mapping[str, Criterion],
    criteria: Sequence[Criterion],
    outcome: OutcomeText,
) -> str:
    ranking = by_code["discrimination"]
    ranks = _ranks(ranking, outcome)
    n_events = by_code["events"].value or 0.0
    if word == "SUSPECT":
        asked = listing([f"“{item.title}” ({item.found})" for item in _suspicions(criteria)])
        return (
            f"A data leak is suspected: {asked}. A feature may contain the outcome. Do not use the "
            "scores until this is explained."
        )
    if word == "INCONCLUSIVE":
        few = f"{plural(n_events, 'event')} are too few to decide"
        if sample_grade(n_events) is None:
            return f"{few}: a verdict needs at least {MIN_VERDICT_EVENTS}."
        return f"{few}: {ranks}, but this may be chance."
    if word == "PROVEN":
        return f"{ranks[:1].upper()}{ranks[1:]}, and every criterion set in advance is met."
    marks = _marks(criteria)
    if word == "PROMISING":
        return f"{ranks[:1].upper()}{ranks[1:]}, better than chance; {marks}."
    return f"{ranks[:1].upper()}{ranks[1:]}, below the requirement; {marks}."


def _marks(criteria: Sequence[Criterion]) -> str:
    """Return the number of criteria met, missed and undecided, in words."""
    asked_for = [item.status for item in criteria if item.status != "does not apply"]
    met = asked_for.count("met")
    others = [
        f"{asked_for.count(status)} {status}"
        for status in ("missed", "undecided", "not measured")
        if status in asked_for
    ]
    return f"{met} of {len(asked_for)} criteria are met, {listing(others)}"


def _ranks(ranking: Criterion, outcome: OutcomeText) -> str:
    """Return an AUC in words."""
    if ranking.value is None:
        return "the ranking could not be measured"
    span = (
        f" (95{NBSP}% interval {percent_range(ranking.low, ranking.high)})"
        if ranking.low is not None and ranking.high is not None
        else ""
    )
    return (
        f"in {percent(ranking.value, 0)} of pairs{span} it ranked the account that {outcome.did} "
        f"above the one that {outcome.did_not}"
    )


def half_width(n_events: int, base_rate: float, area: float = 0.75) -> float | None:
    """Return the expected half-width of the 95 % interval of an AUC.

    Parameters
    ----------
    n_events : int
        Independent events.
    base_rate : float
        Share of events, in (0, 1).
    area : float
        The true AUC.

    Notes
    -----
    Hanley and McNeil, Radiology 143 (1982) 29.

    Examples
    --------
    >>> [round(half_width(n, 0.1), 3) for n in (30, 100, 200)]
    [0.104, 0.057, 0.04]
    """
    if n_events < 1 or not 0 < base_rate < 1:
        return None
    n_others = n_events * (1.0 - base_rate) / base_rate
    q1, q2 = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    variance = (
        area * (1.0 - area) + (n_events - 1.0) * (q1 - area**2) + (n_others - 1.0) * (q2 - area**2)
    ) / (n_events * n_others)
    return float(1.96 * variance**0.5)
