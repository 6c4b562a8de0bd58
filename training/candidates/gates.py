"""The gates between a fitted model and its promotion. Pure: an evaluation in, a verdict out.

A gate has to open or close, so it goes by the value, or by the limit of the interval that it names.
Where the interval of a value reaches both sides of the mark, the gate's words say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from configs.schema.company import Gates
from training.checks.base import CheckResult
from training.data.splits import NOT_OUT_OF_TIME
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import AUC_WITHIN
from training.evaluation.sampling import MODEL
from training.fitting.fit import ModelTier

Verdict = Literal["promotable", "provisional", "no_signal"]


@dataclass(frozen=True)
class Gate:
    """One requirement and whether it was met.

    Attributes
    ----------
    code : str
        Stable name.
    title : str
        What is asked.
    value : float or None
        What was found; None where it could not be measured, which fails.
    threshold : str
        What was required, in words.
    passed : bool
        Met or not.
    words : str
        The finding in one sentence.
    """

    code: str
    title: str
    value: float | None
    threshold: str
    passed: bool
    words: str


@dataclass(frozen=True)
class GateResult:
    """The verdict and every gate behind it.

    Attributes
    ----------
    verdict : str
        ``promotable``; ``provisional``: may be published, and every score says so; ``no_signal``:
        the base rate is published without reasons.
    gates : tuple of Gate
        All gates, met or not.
    """

    verdict: Verdict
    gates: tuple[Gate, ...]

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that were not met."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON content."""
        return {"verdict": self.verdict, "gates": [asdict(gate) for gate in self.gates]}


def judge(evaluation: Evaluation, rung: ModelTier, gates: Gates) -> GateResult:
    """Hold an evaluation against the gates.

    Parameters
    ----------
    evaluation : Evaluation
        Out-of-time measures. With a baseline ``champion`` among its differences, the challenger is
        also held against the champion's recipe.
    rung : Rung
        Where the target stands on the ladder.
    gates : Gates
        The company's thresholds.
    """
    signal = _signal(evaluation, gates)
    others = (
        _events(evaluation, gates),
        _folds(evaluation, gates),
        _rung(rung),
        _discrimination(evaluation, gates),
        _calendar(evaluation),
        _near_one(
            "calibration_level",
            "the level is right: observed over expected events",
            evaluation.models[MODEL]["observed_to_expected"],
            gates,
        ),
        _near_one(
            "calibration_slope",
            "the spread is right: slope of recalibration",
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


def hold_to_checks(judgement: GateResult, checks: Sequence[CheckResult]) -> GateResult:
    """Add the gate that no check blocks: a promotable model with an issue becomes provisional."""
    blocking = [check for check in checks if check.is_blocking]
    gate = Gate(
        "checks",
        "no methodological check found a fault",
        float(len(blocking)),
        "0 blocking issues",
        not blocking,
        "; ".join(f"{check.code} {check.words}" for check in blocking)
        or f"{sum(check.outcome in ('passed', 'tip') for check in checks)} checks found none",
    )
    is_lowered = bool(blocking) and judgement.verdict == "promotable"
    return GateResult("provisional" if is_lowered else judgement.verdict, (*judgement.gates, gate))


def _value(evaluation: Evaluation, measure: str, part: str = "value") -> float | None:
    found: float | None = evaluation.models[MODEL][measure][part]
    return found


def _shown(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.3f}"


def _signal(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    low = _value(evaluation, "auc", "low")
    loss: float | None = evaluation.differences["constant"]["log_loss"]["high"]
    return (
        Gate(
            "signal_ranking",
            "the ranking is better than chance",
            low,
            f"> {gates.no_signal_auc_lower}",
            low is not None and low > gates.no_signal_auc_lower,
            f"lower 95 % limit of {AUC_WITHIN} {_shown(low)}",
        ),
        Gate(
            "signal_probability",
            "the probabilities are better than the same rate for everybody",
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
        "enough events were predicted out of time",
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


def _rung(rung: ModelTier) -> Gate:
    return Gate(
        "rung",
        "enough resolved events for a model of its own",
        float(rung.n_events),
        "a fitted model, not pooled rates",
        rung.kind != "rates",
        rung.reason,
    )


def _discrimination(evaluation: Evaluation, gates: Gates) -> Gate:
    low = _value(evaluation, "auc", "low")
    return Gate(
        "discrimination",
        "it tells accounts apart well enough",
        low,
        f"> {gates.min_auc_lower}",
        low is not None and low > gates.min_auc_lower,
        f"lower 95 % limit of {AUC_WITHIN} {_shown(low)}",
    )


def _calendar(evaluation: Evaluation) -> Gate:
    found: Mapping[str, Any] = evaluation.differences["calendar"]["auc"]
    gain: float | None = found["value"]
    return Gate(
        "calendar",
        "it knows more than the calendar",
        gain,
        "> 0",
        gain is not None and gain > 0,
        f"{AUC_WITHIN}, above that of days to renewal by segment: {_against(found, 0.0)}",
    )


def _near_one(code: str, title: str, found: Mapping[str, Any], gates: Gates) -> Gate:
    most = gates.max_calibration_ratio
    value: float | None = found["value"]
    return Gate(
        code,
        title,
        value,
        f"{1.0 / most:.2f} to {most:.2f}",
        value is not None and 1.0 / most <= value <= most,
        f"{_against(found, 1.0 / most, most)}, ideal 1",
    )


def _too_good(evaluation: Evaluation, gates: Gates) -> Gate:
    found: Mapping[str, Any] = evaluation.models[MODEL]["auc"]
    value: float | None = found["value"]
    passed = value is not None and value <= gates.max_auc
    return Gate(
        "too_good",
        "it is not too good to be true",
        value,
        f"<= {gates.max_auc}",
        passed,
        f"{AUC_WITHIN} {_against(found, gates.max_auc)}"
        + ("" if passed else ": suspected leak, a feature may know the outcome"),
    )


def _lead_time(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    """Ask for early warning: the nearest lead time of at least `lead_days` that was measured.

    Before a notice deadline, where there are any: a cohort of accounts that all face one is the
    harder and the fairer test. A target whose horizon ends before has no such gate.
    """
    far = [
        item for item in evaluation.lead_times if item["days"] >= gates.lead_days and "auc" in item
    ]
    if not far:
        return ()
    item = min(far, key=lambda item: (item["days"], item["counted_from"] != "notice deadline"))
    found: Mapping[str, Any] = item["auc"][MODEL]
    value = found["value"]
    return (
        Gate(
            "lead_time",
            f"it sees coming what is {item['days']} days ahead",
            value,
            f">= {gates.min_lead_auc}",
            value is not None and value >= gates.min_lead_auc,
            f"{AUC_WITHIN} {_against(found, gates.min_lead_auc)} {item['days']} days before the "
            f"{item['counted_from']}, {item['events']:,} events among {item['n']:,} rows",
        ),
    )


def _segments(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    """Ask that no part of the book falls apart: only what is certain counts against it.

    With few events per segment its interval is wide, and a value alone would accuse at random.
    """
    parts = [
        item
        for item in (*evaluation.segments, *evaluation.contracts)
        if "auc" in item and item["n"] < evaluation.n_rows
    ]
    if not parts:
        return ()
    worst = min(parts, key=lambda item: _or(item["auc"]["value"], 1.0))
    apart = [words for item in parts for words in _falls_apart(item, gates)]
    return (
        Gate(
            "segments",
            "no segment falls apart",
            worst["auc"]["value"],
            f"{AUC_WITHIN} not surely below {gates.min_segment_auc}, observed/expected not surely "
            f"outside {1.0 / gates.max_segment_ratio:.2f} to {gates.max_segment_ratio:.2f}",
            not apart,
            "; ".join(apart)
            or f"the weakest of {len(parts)} is {worst['slice']}: {AUC_WITHIN} "
            f"{_interval(worst['auc'])}",
        ),
    )


def _falls_apart(item: Mapping[str, Any], gates: Gates) -> list[str]:
    """Return what is certainly wrong with one segment, in words."""
    ranking, level = item["auc"], item["observed_to_expected"]
    most = gates.max_segment_ratio
    wrong = []
    if _or(ranking["high"], 1.0) < gates.min_segment_auc:
        wrong.append(f"{item['slice']}: {AUC_WITHIN} {_interval(ranking)}")
    if _or(level["low"], 0.0) > most or _or(level["high"], most) < 1.0 / most:
        wrong.append(f"{item['slice']}: observed/expected {_interval(level)}")
    return wrong


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _interval(found: Mapping[str, Any]) -> str:
    """Return an estimate with its interval.

    >>> _interval({"value": 0.7, "low": 0.62, "high": None})
    '0.700 (0.620 to not measurable)'
    """
    return f"{_shown(found['value'])} ({_shown(found['low'])} to {_shown(found['high'])})"


def _against(found: Mapping[str, Any], *marks: float) -> str:
    """Return an estimate with its interval, and whether the interval leaves a mark undecided.

    >>> _against({"value": 1.22, "low": 0.96, "high": 1.52}, 0.75, 1.33)
    '1.220 (0.960 to 1.520, on both sides of 1.33)'
    """
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return _interval(found)
    crossed = [f"{mark:.3g}" for mark in marks if low < mark < high]
    sides = f", on both sides of {' and '.join(crossed)}" if crossed else ""
    return f"{_interval(found)[:-1]}{sides})"


def _champion(evaluation: Evaluation, gates: Gates) -> tuple[Gate, ...]:
    """Compare with the champion, draw by draw on the same rows: its recipe, and the model itself.

    The recipe is refitted at every cut-off beside the challenger's. The published model knows the
    labels up to its own making, so it is asked only about cohorts after that.
    """
    found = []
    recipe = evaluation.differences.get("champion")
    if recipe is not None:
        found.append(
            _no_worse(
                "champion",
                "it is no worse than the champion's recipe on the same folds",
                recipe["log_loss"],
                gates,
                "the champion's recipe",
            )
        )
    later = evaluation.champion_since
    if later.get("difference"):
        found.append(
            _no_worse(
                "champion_since",
                "it is no worse than the published model on cohorts after that one's cut-off",
                later["difference"]["log_loss"],
                gates,
                f"the published model on {later['n_events']} events since {later['since'][:10]}",
            )
        )
    return tuple(found)


def _no_worse(code: str, title: str, loss: Mapping[str, Any], gates: Gates, rival: str) -> Gate:
    value: float | None = loss["value"]
    return Gate(
        code,
        title,
        value,
        f"<= {gates.champion_tolerance}",
        value is not None and value <= gates.champion_tolerance,
        f"log-loss against {rival} {_against(loss, gates.champion_tolerance)} (negative is better)",
    )
