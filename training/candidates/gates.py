"""Gates: requirements a model must meet to be promoted, evaluated on its out-of-time measures.

A gate compares either the value or a named limit of its interval with a threshold. If the interval
of a value includes the threshold, the gate's text says so. Pure: no input or output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from configs.schema.company import Gates
from training.data.splits import NOT_OUT_OF_TIME
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import AUC_WITHIN
from training.evaluation.parts import EstimateJson, SliceJson
from training.evaluation.sampling import MODEL
from training.model.manifest_parts import CheckResult, Gate, GateJson, ModelTier

Verdict = Literal["promotable", "provisional", "no_signal"]


class GateResultJson(TypedDict):
    """JSON content of a `GateResult`."""

    verdict: Verdict
    gates: list[GateJson]


@dataclass(frozen=True)
class GateResult:
    """Verdict and the gates behind it.

    Attributes
    ----------
    verdict : str
        ``promotable``; ``provisional``: can be published with every score marked as provisional;
        ``no_signal``: the base rate is published, without reasons.
    gates : tuple of Gate
        All gates, met or not.
    """

    verdict: Verdict
    gates: tuple[Gate, ...]

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that were not met."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def as_dict(self) -> GateResultJson:
        """Return plain JSON content."""
        return {"verdict": self.verdict, "gates": [gate.as_dict() for gate in self.gates]}


def evaluate_gates(evaluation: Evaluation, tier: ModelTier, gates: Gates) -> GateResult:
    """Compare an evaluation with the gates.

    Parameters
    ----------
    evaluation : Evaluation
        Out-of-time measures. With a baseline ``champion`` among its differences, the challenger is
        also compared with the champion's settings.
    tier : ModelTier
        Model tier of the target.
    gates : Gates
        The company's thresholds.
    """
    signal = _signal(evaluation, gates)
    others = (
        _events(evaluation, gates),
        _folds(evaluation, gates),
        _tier(tier),
        _discrimination(evaluation, gates),
        _calendar(evaluation),
        _near_one(
            "calibration_level",
            "calibration level: observed over expected events",
            evaluation.models[MODEL]["observed_to_expected"],
            gates,
        ),
        _near_one(
            "calibration_slope",
            "calibration slope: slope of a recalibration",
            evaluation.models[MODEL]["calibration_slope"],
            gates,
        ),
        _too_good(evaluation, gates),
        *_lead_time(evaluation, gates),
        *_segments(evaluation, gates),
        *_champion(evaluation, gates),
    )
    every = signal + others
    if not all(gate.passed for gate in signal):
        return GateResult("no_signal", every)
    return GateResult("promotable" if all(gate.passed for gate in every) else "provisional", every)


def apply_checks(result: GateResult, checks: Sequence[CheckResult]) -> GateResult:
    """Add the gate for blocking checks: an issue makes a promotable model provisional."""
    blocking = [check for check in checks if check.is_blocking]
    gate = Gate(
        "checks",
        "no blocking issue in the methodological checks",
        float(len(blocking)),
        "0 blocking issues",
        not blocking,
        "; ".join(f"{check.code} {check.words}" for check in blocking)
        or f"{sum(check.outcome in ('passed', 'tip') for check in checks)} checks without an issue",
    )
    is_lowered = bool(blocking) and result.verdict == "promotable"
    return GateResult("provisional" if is_lowered else result.verdict, (*result.gates, gate))


def _shown(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3f}"


def _signal(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    low = evaluation.models[MODEL]["auc"]["low"]
    loss = evaluation.differences["constant"]["log_loss"]["high"]
    return (
        Gate(
            "signal_ranking",
            "ranking better than chance",
            low,
            f"> {gates.no_signal_auc_lower}",
            low is not None and low > gates.no_signal_auc_lower,
            f"lower 95 % limit of {AUC_WITHIN} {_shown(low)}",
        ),
        Gate(
            "signal_probability",
            "probabilities better than one rate for all accounts",
            loss,
            "< 0",
            loss is not None and loss < 0,
            f"upper 95 % limit of log-loss against a constant {_shown(loss)} (negative is better)",
        ),
    )


def _events(evaluation: Evaluation, gates: Gates) -> Gate:
    n = evaluation.n_decisions
    return Gate(
        "events",
        "enough events in the test periods",
        float(n),
        f">= {gates.min_events}",
        n >= gates.min_events,
        f"{n} events in the test periods",
    )


def _folds(evaluation: Evaluation, gates: Gates) -> Gate:
    n = len(evaluation.folds) if evaluation.over == "time" else 0
    return Gate(
        "folds",
        "enough test periods",
        float(n),
        f">= {gates.min_folds}",
        n >= gates.min_folds,
        f"{n} test periods" if evaluation.over == "time" else NOT_OUT_OF_TIME,
    )


def _tier(tier: ModelTier) -> Gate:
    return Gate(
        "model_tier",
        "enough resolved events for a fitted model",
        float(tier.n_events),
        "a fitted model, not pooled rates",
        tier.kind != "rates",
        tier.reason,
    )


def _discrimination(evaluation: Evaluation, gates: Gates) -> Gate:
    low = evaluation.models[MODEL]["auc"]["low"]
    return Gate(
        "discrimination",
        "sufficient discrimination between accounts",
        low,
        f"> {gates.min_auc_lower}",
        low is not None and low > gates.min_auc_lower,
        f"lower 95 % limit of {AUC_WITHIN} {_shown(low)}",
    )


def _calendar(evaluation: Evaluation) -> Gate:
    found = evaluation.differences["calendar"]["auc"]
    gain = found["value"]
    return Gate(
        "calendar",
        "better than the renewal calendar",
        gain,
        "> 0",
        gain is not None and gain > 0,
        f"{AUC_WITHIN}, above that of days to renewal by segment: {_with_thresholds(found, 0.0)}",
    )


def _near_one(code: str, title: str, found: EstimateJson, gates: Gates) -> Gate:
    most = gates.max_calibration_ratio
    value = found["value"]
    return Gate(
        code,
        title,
        value,
        f"{1.0 / most:.2f} to {most:.2f}",
        value is not None and 1.0 / most <= value <= most,
        f"{_with_thresholds(found, 1.0 / most, most)}, ideal 1",
    )


def _too_good(evaluation: Evaluation, gates: Gates) -> Gate:
    found = evaluation.models[MODEL]["auc"]
    value = found["value"]
    passed = value is not None and value <= gates.max_auc
    return Gate(
        "too_good",
        "AUC not suspiciously high",
        value,
        f"<= {gates.max_auc}",
        passed,
        f"{AUC_WITHIN} {_with_thresholds(found, gates.max_auc)}"
        + ("" if passed else ": suspected leakage of the outcome into a feature"),
    )


def _lead_time(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    """Return the gate for early warning: the nearest measured lead time of at least `lead_days`.

    Lead times before a notice deadline take precedence: in a cohort of accounts that all have one,
    ranking is harder. A target with a shorter horizon has no such gate.
    """
    far = [
        item for item in evaluation.lead_times if item["days"] >= gates.lead_days and "auc" in item
    ]
    if not far:
        return ()
    item = min(far, key=lambda item: (item["days"], item["counted_from"] != "notice deadline"))
    found = item["auc"][MODEL]
    value = found["value"]
    return (
        Gate(
            "lead_time",
            f"early warning {item['days']} days ahead",
            value,
            f">= {gates.min_lead_auc}",
            value is not None and value >= gates.min_lead_auc,
            f"{AUC_WITHIN} {_with_thresholds(found, gates.min_lead_auc)} {item['days']} days "
            f"before the {item['counted_from']}, {item['events']:,} events among {item['n']:,} "
            "rows",
        ),
    )


def _segments(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    """Return the gate for segments: it fails where the whole interval is beyond a threshold.

    With few events the interval of a segment is wide, and values alone would fail at random.
    """
    parts = [
        item
        for item in (*evaluation.segments, *evaluation.contracts)
        if "auc" in item and item["n"] < evaluation.n_rows
    ]
    if not parts:
        return ()
    worst = min(parts, key=lambda item: _value_or(item["auc"]["value"], 1.0))
    failures = [words for item in parts for words in _failures(item, gates)]
    return (
        Gate(
            "segments",
            "no segment with failing performance",
            worst["auc"]["value"],
            f"{AUC_WITHIN} not significantly below {gates.min_segment_auc}, observed/expected "
            f"not significantly outside {1.0 / gates.max_segment_ratio:.2f} to "
            f"{gates.max_segment_ratio:.2f}",
            not failures,
            "; ".join(failures)
            or f"the weakest of {len(parts)} is {worst['slice']}: {AUC_WITHIN} "
            f"{_interval(worst['auc'])}",
        ),
    )


def _failures(item: SliceJson, gates: Gates) -> list[str]:
    """Return the significant failures of one segment, in words."""
    ranking, level = item["auc"], item["observed_to_expected"]
    most = gates.max_segment_ratio
    failures = []
    if _value_or(ranking["high"], 1.0) < gates.min_segment_auc:
        failures.append(f"{item['slice']}: {AUC_WITHIN} {_interval(ranking)}")
    if _value_or(level["low"], 0.0) > most or _value_or(level["high"], most) < 1.0 / most:
        failures.append(f"{item['slice']}: observed/expected {_interval(level)}")
    return failures


def _value_or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _interval(found: EstimateJson) -> str:
    """Return an estimate with its interval.

    >>> _interval({"value": 0.7, "low": 0.62, "high": None})
    '0.700 (0.620 to not measurable)'
    """
    return f"{_shown(found['value'])} ({_shown(found['low'])} to {_shown(found['high'])})"


def _with_thresholds(found: EstimateJson, *thresholds: float) -> str:
    """Return an estimate with its interval, and the thresholds inside the interval.

    >>> _with_thresholds({"value": 1.22, "low": 0.96, "high": 1.52}, 0.75, 1.33)
    '1.220 (0.960 to 1.520, includes 1.33)'
    """
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return _interval(found)
    crossed = [f"{mark:.3g}" for mark in thresholds if low < mark < high]
    sides = f", includes {' and '.join(crossed)}" if crossed else ""
    return f"{_interval(found)[:-1]}{sides})"


def _champion(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    """Return the gates for the champion, on the same bootstrap draws: its settings and the model.

    The champion's settings are refitted at every cut-off. The published model was trained on labels
    up to its own cut-off, so it is compared only on later cohorts.
    """
    found = []
    refitted = evaluation.differences.get("champion")
    if refitted is not None:
        found.append(
            _no_worse(
                "champion",
                "no worse than the champion's settings on the same folds",
                refitted["log_loss"],
                gates,
                "the champion's settings",
            )
        )
    later = evaluation.champion_since
    if later.get("difference"):
        found.append(
            _no_worse(
                "champion_since",
                "no worse than the published model on cohorts after its cut-off",
                later["difference"]["log_loss"],
                gates,
                f"the published model on {later['n_events']} events since {later['since'][:10]}",
            )
        )
    return tuple(found)


def _no_worse(code: str, title: str, loss: EstimateJson, gates: Gates, rival: str) -> Gate:
    value = loss["value"]
    return Gate(
        code,
        title,
        value,
        f"<= {gates.champion_tolerance}",
        value is not None and value <= gates.champion_tolerance,
        f"log-loss against {rival} {_with_thresholds(loss, gates.champion_tolerance)} "
        "(negative is better)",
    )
