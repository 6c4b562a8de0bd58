"""Parts of a model manifest: calibration, model tier, gates, checks, evidence, references.

Parts without behaviour in JSON (`ManifestPart`) remember which keys they were read with, so that a
manifest of an earlier version is written back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypedDict

import numpy as np
from pydantic import BaseModel, ConfigDict

Kind = Literal["lightgbm", "linear", "rates"]
"""Kinds of models: boosted trees, logistic regression, pooled rates."""

Severity = Literal["blocking", "advisory"]
Outcome = Literal["issue", "tip", "passed", "not applicable", "skipped", "ignored"]


class ManifestPart(BaseModel):
    """Frozen JSON object with declared keys; keys of other versions are kept."""

    model_config = ConfigDict(
        frozen=True, extra="allow", populate_by_name=True, protected_namespaces=()
    )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read JSON content.

        Raises
        ------
        pydantic.ValidationError
            A value has the wrong type.
        """
        return cls.model_validate(plain)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON content under the keys on disk: exactly the keys that were given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)


@dataclass(frozen=True)
class Calibration:
    """Affine map from raw to served log-odds: ``slope · raw + intercept``.

    Attributes
    ----------
    slope, intercept : float
        The map in log-odds.
    covariance : tuple of three floats
        Var(slope), Cov(slope, intercept), Var(intercept).
    rule : str
        ``affine``, ``intercept`` or ``identity``.
    n_events : int
        Events it was fitted on.
    """

    slope: float = 1.0
    intercept: float = 0.0
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rule: str = "identity"
    n_events: int = 0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return calibrated log-odds."""
        return self.slope * raw + self.intercept

    def spread(self, raw: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Return the standard deviation of the calibrated log-odds: model and calibration."""
        var_slope, cov, var_intercept = self.covariance
        calibration = raw**2 * var_slope + 2.0 * raw * cov + var_intercept
        total: np.ndarray = np.sqrt(np.maximum((self.slope * deviation) ** 2 + calibration, 0.0))
        return total


@dataclass(frozen=True)
class ModelTier:
    """Model tier of a target: the kind of model that its number of events supports.

    Attributes
    ----------
    name : str
        ``rates``, ``linear``, ``trees`` or ``tuned trees``.
    kind : str
        Kind of model.
    n_events : int
        Distinct resolved events.
    reason : str
        Reason for the tier, in words.
    """

    name: str
    kind: Kind
    n_events: int
    reason: str


class GateJson(TypedDict):
    """JSON content of a `Gate`."""

    code: str
    title: str
    value: float | None
    threshold: str
    passed: bool
    words: str


@dataclass(frozen=True)
class Gate:
    """One requirement for promotion, with its result.

    Attributes
    ----------
    code : str
        Stable name.
    title : str
        The requirement.
    value : float or None
        Measured value; None where it could not be measured, which fails the gate.
    threshold : str
        Required value, in words.
    passed : bool
        Whether the requirement is met.
    words : str
        Result in one sentence.
    """

    code: str
    title: str
    value: float | None
    threshold: str
    passed: bool
    words: str

    def as_dict(self) -> GateJson:
        """Return plain JSON content."""
        return {
            "code": self.code,
            "title": self.title,
            "value": self.value,
            "threshold": self.threshold,
            "passed": self.passed,
            "words": self.words,
        }


@dataclass(frozen=True)
class CheckResult:
    """Result of a methodological check on one training run.

    Attributes
    ----------
    code, title, severity : str
        Of the check.
    outcome : str
        A key of `training.checks.base.OUTCOMES`.
    words : str
        Finding in one sentence; the company's reason when ignored.
    to_do : str
        Advice; empty unless there is an issue or a tip.
    section : str
        ``leakage``, ``sufficiency`` or ``stability``.
    link : str
        Documentation of the check.
    """

    code: str
    title: str
    severity: Severity
    outcome: Outcome
    words: str
    to_do: str
    section: str
    link: str

    @property
    def is_blocking(self) -> bool:
        """Whether the model can only be published as provisional."""
        return self.outcome == "issue" and self.severity == "blocking"

    def as_dict(self) -> dict[str, str]:
        """Return plain JSON content."""
        return asdict(self)


@dataclass(frozen=True)
class DueEvents:
    """A use of events that needs more of them than are known.

    Attributes
    ----------
    what : str
        The use, in words.
    needed, missing : int
        Events in all, and events still missing.
    about_on, early_on, late_on : str or None
        Months (``YYYY-MM``) in which they are expected at the past rate, with the 80 % interval;
        None beyond ten years.
    """

    what: str
    needed: int
    missing: int
    about_on: str | None
    early_on: str | None
    late_on: str | None


@dataclass(frozen=True)
class Sufficiency:
    """Number of events of one target, and dates by which further model tiers are expected.

    Attributes
    ----------
    n_events : int
        Distinct resolved events.
    resolved_from, resolved_to : str
        First and last day on which a label became known, ISO 8601.
    events_per_month, low, high : float
        Rate of events, with its 80 % interval.
    tested_events : float
        Events expected in the configured test periods at that rate.
    due : tuple of DueEvents
        Uses that need more events, nearest first; empty when none is missing.
    words : str
        Summary in one or two sentences; empty when nothing is missing.
    """

    n_events: int
    resolved_from: str
    resolved_to: str
    events_per_month: float
    low: float
    high: float
    tested_events: float
    due: tuple[DueEvents, ...]
    words: str


class Recipe(ManifestPart):
    """Settings the model was fitted with (`training.fitting.fit.TrainingConfig`).

    Attributes
    ----------
    kind, outcome : str
        Kind of model; outcome that decides the expected signs.
    seeds : tuple of int
        One booster each.
    trees : mapping of str to number
        LightGBM settings.
    rounds : int
        Boosting rounds.
    strength : float
        Prior variance of linear weights.
    """

    kind: Kind
    outcome: str
    seeds: tuple[int, ...]
    trees: Mapping[str, int | float]
    rounds: int
    strength: float


class Histogram(ManifestPart):
    """Distribution of a column over bins ``(edge before, edge]``.

    Attributes
    ----------
    edges : tuple of float
        Increasing, in the unit of the column; category codes for categories.
    counts : tuple of int
        Rows per bin, one more than edges, and last the rows without a value.
    """

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class FeatureReference(Histogram):
    """Distribution of one feature in training.

    Attributes
    ----------
    missing : float
        Share of rows without a value, 0–1; for categories including unseen levels.
    low, high : float or None
        Smallest and largest value; None without a value and for categories.
    quantiles : tuple of float
        At `training.candidates.train.REFERENCE_QUANTILES`; empty for categories.
    shares : tuple of float or None
        Share of rows per level, 0–1; None for numbers.
    """

    missing: float = 0.0
    low: float | None = None
    high: float | None = None
    quantiles: tuple[float, ...] = ()
    shares: tuple[float, ...] | None = None

    @property
    def typical(self) -> float:
        """Median of a number, code of the most frequent level of a category; NaN without rows."""
        if self.shares is not None:
            return float(np.argmax(self.shares)) if self.shares else np.nan
        return self.quantiles[len(self.quantiles) // 2] if self.quantiles else np.nan


class EventStudyRow(ManifestPart):
    """Difference of one feature between accounts with and without the event, in one step.

    Attributes
    ----------
    feature : str
        Name of the feature.
    from_days : int
        Start of the step, in days before the decision.
    gap, error : float
        Difference of the means and its standard error, in standard deviations of accounts without
        the event.
    """

    feature: str
    from_days: int
    gap: float
    error: float


class EventStudySummary(ManifestPart):
    """Features that differ most before the decision (`training.checks.event_study`).

    Attributes
    ----------
    n_events, n_features : int
        Distinct dated decisions; features compared.
    step_days : int
        Length of a step in days.
    rows : tuple of EventStudyRow
        One per feature and step, the largest last difference first.
    """

    n_events: int = 0
    n_features: int = 0
    step_days: int = 0
    rows: tuple[EventStudyRow, ...] = ()


class GrowthBacktest(ManifestPart):
    """Out-of-time test of one kind of growth; each account counts once per test period.

    Attributes
    ----------
    n, events : int or None
        Accounts, and those that grew in this way.
    expected : float
        Sum of the predicted probabilities.
    observed_to_expected : float or None
        Quotient of the two; None without an expectation.
    brier, brier_flat : float or None
        Brier score, and that of one share for all accounts.
    beats_flat : bool or None
        Whether the first is lower with a 95 % limit above 0.
    auc : float or None
        AUC within test periods.
    n_amounts, n_inside : int
        Growths with a known amount, and those between P10 and P90 (80 % expected).
    inside_low, inside_high : float or None
        95 % interval of that share, 0–1.
    """

    n: int | None = None
    events: int | None = None
    expected: float | None = None
    observed_to_expected: float | None = None
    brier: float | None = None
    brier_flat: float | None = None
    beats_flat: bool | None = None
    auc: float | None = None
    n_amounts: int | None = None
    n_inside: int | None = None
    inside_low: float | None = None
    inside_high: float | None = None


class GrowthKind(ManifestPart):
    """One kind of growth.

    Attributes
    ----------
    basis : str
        ``measured``, or ``rules`` below the evidence floor.
    n_events : int
        Past growths of the kind.
    uplift : mapping of str to float or None
        ``p10``, ``p50``, ``p90`` and ``mean`` of the revenue gained over the revenue before.
    backtest : GrowthBacktest
        Out-of-time test.
    """

    basis: str = "rules"
    n_events: int = 0
    uplift: Mapping[str, float | None] = {}
    backtest: GrowthBacktest = GrowthBacktest()


class GrowthKinds(ManifestPart):
    """Kinds and amounts of growth, with their backtest (`training.fitting.expansion_size`).

    Attributes
    ----------
    status : str
        ``measured``, ``rules`` or ``not known``.
    words : str
        The same in a sentence.
    kinds : mapping of str to GrowthKind
        By kind.
    n_unknown : int
        Past growths of unknown kind.
    shares : tuple of tuple of float
        (states, kinds): share of each kind among growths from that state, 0–1.
    """

    status: str = ""
    words: str = ""
    kinds: Mapping[str, GrowthKind] = {}
    n_unknown: int = 0
    shares: tuple[tuple[float, ...], ...] = ()
