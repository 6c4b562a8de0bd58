"""Texts shared by the report and the audit: outcomes, models, and estimates with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from configs.runtime.formatting import (
    NOTHING,
    count,
    fixed,
    percent,
    percent_points,
    signed,
    times,
)


@dataclass(frozen=True)
class OutcomeText:
    """Words for one outcome in sentences.

    Attributes
    ----------
    noun, did, did_not, doing : str
        "churn", "left", "stayed", "leaving".
    chance : str
        Name of the score: "risk", or "chance of growth".
    """

    noun: str
    did: str
    did_not: str
    doing: str
    chance: str

    @property
    def is_growth(self) -> bool:
        """Whether the outcome is growth, so that a high score is good news."""
        return self.noun == "expansion"


OUTCOMES: Mapping[str, OutcomeText] = {
    "churn": OutcomeText("churn", "left", "stayed", "leaving", "risk"),
    "contraction": OutcomeText("contraction", "shrank", "did not shrink", "shrinking", "risk"),
    "expansion": OutcomeText("expansion", "grew", "did not grow", "growing", "chance of growth"),
}

MODELS: Mapping[str, str] = {
    "model": "Bellwether model",
    "logistic": "Logistic regression",
    "best_feature": "Best single signal",
    "rules": "Simple rules",
    "health_score": "Health score in use",
    "calendar": "Calendar only",
    "constant": "Same rate for all",
    "champion": "Published configuration",
    "model_raw": "Model before calibration",
}
"""Every model and baseline by its name in an evaluation, in the order they are shown."""

MODEL_NOTES: Mapping[str, str] = {
    "model": "the model in production",
    "logistic": "all signals in a linear model",
    "best_feature": "the single signal with the best fit before each test",
    "rules": "number of common warning rules that apply, all with equal weight",
    "health_score": "the company's own score at that time; accounts without a score get the "
    "average rate of such accounts",
    "calendar": "only days to renewal and segment",
    "constant": "the average rate known at the start of each test",
    "champion": "the configuration of the model in use, fitted again",
}

SERVED: Mapping[str, str] = {
    "promotable": "passed every gate",
    "provisional": "missed at least one gate and is published as provisional; every score is "
    "marked provisional",
    "no_signal": "found no signal, so every account gets the average rate, without reasons",
}


def outcome_of(name: Any) -> OutcomeText:
    """Return the words for an outcome."""
    return OUTCOMES[str(name)]


FORMATS: Mapping[str, Callable[..., str]] = {
    "fixed": fixed,
    "signed": signed,
    "signed_finely": partial(signed, digits=3),
    "percent": percent,
    "times": times,
    "count": count,
    "days": partial(signed, digits=0),
}
"""Formats of an estimate by kind."""


def interval(estimate: Mapping[str, Any] | None, kind: str = "fixed") -> str:
    r"""Return the interval of an estimate.

    >>> interval({"value": 0.74, "low": 0.7, "high": 0.781})
    '0.70 to 0.78'
    >>> interval({"value": 0.4, "low": 0.31, "high": 0.5}, "percent")
    '31 to 50\xa0%'
    """
    if estimate is None or estimate["low"] is None or estimate["high"] is None:
        return ""
    low, high = estimate["low"], estimate["high"]
    if kind == "percent":
        return f"{percent_points(low)} to {percent(high)}"
    if kind == "times":
        return f"{fixed(low, 1)} to {fixed(high, 1)}"
    write, digits = FORMATS[kind], _signed_digits(estimate, kind)
    return f"{write(low, *digits)} to {write(high, *digits)}"


def estimated(estimate: Mapping[str, Any] | None, kind: str = "fixed") -> str:
    r"""Return a value followed by its 95 % interval.

    >>> estimated({"value": 0.74, "low": 0.7, "high": 0.781})
    '0.74 (0.70 to 0.78)'
    >>> estimated({"value": 0.08, "low": 0.004, "high": 0.156}, "signed")
    '+0.080 (+0.004 to +0.156)'
    >>> estimated({"value": 0.4, "low": None, "high": None}, "percent")
    '40\xa0%'
    """
    if estimate is None or estimate["value"] is None:
        return NOTHING
    value = FORMATS[kind](estimate["value"], *_signed_digits(estimate, kind))
    span = interval(estimate, kind)
    return f"{value} ({span})" if span else value


def _signed_digits(estimate: Mapping[str, Any], kind: str) -> list[int]:
    """Return three decimals for a difference with a limit that two would round to 0."""
    limits = (estimate["low"], estimate["high"])
    return [3] if kind == "signed" and any(x and abs(x) < 0.005 for x in limits) else []


def pairs(estimate: Mapping[str, Any]) -> str:
    r"""Return an AUC as the share of pairs of accounts in the right order.

    >>> pairs({"value": 0.64, "low": 0.6, "high": 0.684})
    '64\xa0% of pairs (60 to 68\xa0%)'
    """
    if estimate["value"] is None:
        return f"{NOTHING} of pairs"
    text = f"{percent(estimate['value'], 0)} of pairs"
    if estimate["low"] is None:
        return text
    return f"{text} ({fixed(100.0 * estimate['low'], 0)} to {percent(estimate['high'], 0)})"


def points(estimate: Mapping[str, Any]) -> str:
    """Return the difference of two AUC in percentage points.

    >>> points({"value": 0.1, "low": -0.036, "high": 0.156})
    '+10 percentage points (−4 to +16)'
    """
    shown = {
        name: None if value is None else signed(100.0 * value, 0)
        for name, value in estimate.items()
    }
    text = f"{shown['value'] or NOTHING} percentage points"
    return text if shown["low"] is None else f"{text} ({shown['low']} to {shown['high']})"


def p_words(p_value: float | None) -> str:
    """Return a p-value with its sign of comparison.

    >>> p_words(0.0004), p_words(0.0312), p_words(None)
    ('< 0.001', '= 0.031', '–')
    """
    if p_value is None:
        return NOTHING
    return "< 0.001" if p_value < 0.001 else f"= {fixed(p_value, 3)}"


def combined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two mappings merged into one."""
    return {**first, **second}


def lower_first(text: str) -> str:
    """Return a text with a small first letter, for the middle of a sentence.

    >>> lower_first("The score"), lower_first("Bellwether model")
    ('the score', 'Bellwether model')
    """
    return text if text.startswith("Bellwether") else text[:1].lower() + text[1:]
