"""The words and number formats of the report: one way to write each kind of number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

NBSP = "\u00a0"
NOTHING = "–"
MINUS = "−"

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@dataclass(frozen=True)
class OutcomeText:
    """How one outcome is spoken of.

    Attributes
    ----------
    noun, did, did_not, doing : str
        "churn", "left", "stayed", "leaving".
    chance : str
        What a score is: "risk", or "chance of growth".
    """

    noun: str
    did: str
    did_not: str
    doing: str
    chance: str

    @property
    def is_growth(self) -> bool:
        """Whether a high score is good news."""
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
    "rules": "Plain rules",
    "health_score": "Health score in use",
    "calendar": "Calendar only",
    "constant": "Same rate for all",
    "champion": "Published recipe",
    "model_raw": "Model before calibration",
}
"""Every model and baseline by its name in an evaluation, in the order they are shown."""

MODEL_NOTES: Mapping[str, str] = {
    "model": "what is served",
    "logistic": "every signal, weighed linearly",
    "best_feature": "the one signal that fitted best before each test",
    "rules": "how many of the rules hold that people would look at, none weighed",
    "health_score": "the company's own score, as it stood then; accounts without one at their rate",
    "calendar": "days to renewal and segment",
    "constant": "the rate known when each test began",
    "champion": "the recipe of the model in use, refitted",
}

SERVED: Mapping[str, str] = {
    "promotable": "passed every gate and is published as it is",
    "provisional": "missed a gate and is published as provisional; every score says so",
    "no_signal": "showed no signal, so everybody is given the base rate, without reasons",
}


def outcome_of(name: Any) -> OutcomeText:
    """Return how an outcome is spoken of."""
    return OUTCOMES[str(name)]


def fixed(value: float | None, digits: int = 2) -> str:
    """Return a measure with a fixed number of decimals.

    >>> fixed(0.7449), fixed(None), fixed(-0.001)
    ('0.74', '–', '0.00')
    """
    if value is None:
        return NOTHING
    shown = f"{value:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown.replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a difference with its sign.

    >>> signed(0.061), signed(-0.02), signed(0.0)
    ('+0.06', '−0.02', '0.00')
    """
    shown = fixed(value, digits)
    return f"+{shown}" if value is not None and float(f"{value:.{digits}f}") > 0 else shown


def share(value: float | None) -> str:
    r"""Return a share as a percentage: one decimal below ten.

    >>> share(0.4149), share(0.0432), share(0.0), share(1.0)
    ('41\xa0%', '4.3\xa0%', '0\xa0%', '100\xa0%')
    """
    if value is None:
        return NOTHING
    return f"{_percent(value)}{NBSP}%"


def _percent(value: float) -> str:
    points = 100.0 * value
    return fixed(points, 1 if 0 < abs(points) < 9.95 else 0)


def rate(value: float | None) -> str:
    r"""Return a retention rate as a percentage with one decimal, whatever its size.

    >>> rate(0.9366), rate(1.0), rate(None)
    ('93.7\xa0%', '100.0\xa0%', '–')
    """
    return NOTHING if value is None else f"{100.0 * value:.1f}{NBSP}%"


def times(value: float | None) -> str:
    """Return a multiple.

    >>> times(3.14)
    '3.1×'
    """
    return NOTHING if value is None else f"{value:.1f}×"


def count(value: float | None) -> str:
    """Return a number of things, with thousands separators.

    >>> count(12345), count(None)
    ('12,345', '–')
    """
    return NOTHING if value is None else f"{round(value):,}"


def money(value: float | None, currency: str = "") -> str:
    r"""Return an amount short enough to read, in the reporting currency.

    >>> money(12_400_000, "EUR"), money(842_300), money(-960), money(None)
    ('12.4\xa0M\xa0EUR', '842\xa0k', '−960', '–')
    """
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 999_500:
        number = value / 1e6
        shown = f"{number:,.1f}{NBSP}M" if abs(number) < 99.95 else f"{number:,.0f}{NBSP}M"
    else:
        shown = f"{value / 1e3:.0f}{NBSP}k" if size >= 1e3 else f"{value:.0f}"
    shown = shown.replace("-", MINUS)
    return f"{shown}{NBSP}{currency}" if currency else shown


def days(value: float | None) -> str:
    """Return a difference in whole days.

    >>> days(26.0), days(-0.2)
    ('+26', '0')
    """
    return signed(value, 0)


def signed_finely(value: float | None) -> str:
    """Return a difference with its sign, to three decimals."""
    return signed(value, 3)


FORMATS: Mapping[str, Callable[..., str]] = {
    "fixed": fixed,
    "signed": signed,
    "signed_finely": signed_finely,
    "share": share,
    "times": times,
    "count": count,
    "days": days,
}


def interval(estimate: Mapping[str, Any] | None, kind: str = "fixed") -> str:
    r"""Return only the interval of an estimate.

    >>> interval({"value": 0.74, "low": 0.7, "high": 0.781})
    '0.70 to 0.78'
    >>> interval({"value": 0.4, "low": 0.31, "high": 0.5}, "share")
    '31 to 50\xa0%'
    """
    if estimate is None or estimate["low"] is None or estimate["high"] is None:
        return ""
    if kind == "share":
        return f"{_percent(estimate['low'])} to {share(estimate['high'])}"
    if kind == "times":
        return f"{fixed(estimate['low'], 1)} to {fixed(estimate['high'], 1)}"
    write = FORMATS[kind]
    return f"{write(estimate['low'])} to {write(estimate['high'])}"


def estimated(estimate: Mapping[str, Any] | None, kind: str = "fixed") -> str:
    r"""Return a value with its 95 % interval behind it.

    >>> estimated({"value": 0.74, "low": 0.7, "high": 0.781})
    '0.74 (0.70 to 0.78)'
    >>> estimated({"value": 0.08, "low": 0.004, "high": 0.156}, "signed")
    '+0.080 (+0.004 to +0.156)'
    >>> estimated({"value": 0.4, "low": None, "high": None}, "share")
    '40\xa0%'
    """
    if estimate is None or estimate["value"] is None:
        return NOTHING
    if kind == "signed" and _hides_its_sign(estimate):
        kind = "signed_finely"
    value, span = FORMATS[kind](estimate["value"]), interval(estimate, kind)
    return f"{value} ({span})" if span else value


def pairs(estimate: Mapping[str, Any], kind: str = "fixed") -> str:
    """Return an AUC, or the difference of two, as pairs of accounts in a hundred.

    >>> pairs({"value": 0.64, "low": 0.6, "high": 0.684})
    '64 pairs in 100 (60 to 68)'
    >>> pairs({"value": 0.1, "low": -0.036, "high": 0.156}, "signed")
    '+10 pairs in 100 (−4 to +16)'
    """
    write = FORMATS[kind]
    of_hundred = {
        name: None if value is None else write(100.0 * value, 0) for name, value in estimate.items()
    }
    said = f"{of_hundred['value'] or NOTHING} pairs in 100"
    if of_hundred["low"] is None:
        return said
    return f"{said} ({of_hundred['low']} to {of_hundred['high']})"


def _hides_its_sign(estimate: Mapping[str, Any]) -> bool:
    """Return whether a limit of a difference would be rounded to 0 though it is not."""
    return any(limit and abs(limit) < 0.005 for limit in (estimate["low"], estimate["high"]))


def day(value: Any) -> str:
    r"""Return a date as people write it.

    >>> day("2026-11-03T00:00:00+00:00"), day(None)
    ('3\xa0Nov\xa02026', '–')
    """
    if value is None or value == "":
        return NOTHING
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert isinstance(when, date)
    return f"{when.day}{NBSP}{_MONTHS[when.month - 1]}{NBSP}{when.year}"


def month(value: Any) -> str:
    r"""Return the month of a date.

    >>> month("2026-11-03")
    'Nov\xa02026'
    """
    return day(value).split(NBSP, 1)[-1]


def plural(number: float, noun: str) -> str:
    """Return a count of things.

    >>> plural(1, "account"), plural(1200, "account"), plural(2, "company"), plural(2, "loss")
    ('1 account', '1,200 accounts', '2 companies', '2 losses')
    """
    if round(number) == 1:
        return f"1 {noun}"
    return f"{count(number)} {_many(noun)}"


def _many(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def p_words(p_value: float | None) -> str:
    """Return a p-value as people write it.

    >>> p_words(0.0004), p_words(0.0312), p_words(None)
    ('< 0.001', '= 0.031', '–')
    """
    if p_value is None:
        return NOTHING
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def combined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two mappings as one."""
    return {**first, **second}


def lower_first(words: str) -> str:
    """Return words as they stand inside a sentence.

    >>> lower_first("The score"), lower_first("Bellwether model")
    ('the score', 'Bellwether model')
    """
    return words if words.startswith("Bellwether") else words[:1].lower() + words[1:]


def listing(items: list[str]) -> str:
    """Return items as one phrase.

    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
