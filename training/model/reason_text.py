"""Texts of reasons: numbers with units, facts, and the catalogue of reason codes.

Reasons describe associations with a score, neither causes nor recommendations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

from configs.runtime.errors import ConfigError, did_you_mean
from configs.runtime.formatting import count, money_in_full, percent, plain
from configs.runtime.hashing import digest
from features.tables.catalog import THEMES, FeatureInfo

Direction = Literal["raises", "lowers"]

# fmt: off
_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six",
    "seven", "eight", "nine", "ten", "eleven", "twelve",
]
# fmt: on

_EFFECTS: dict[str, dict[Direction, str]] = {
    "churn": {
        "raises": "a higher risk of leaving",
        "lowers": "a lower risk of leaving",
    },
    "contraction": {
        "raises": "a higher risk of shrinking",
        "lowers": "a lower risk of shrinking",
    },
    "expansion": {
        "raises": "a higher chance of growth",
        "lowers": "a lower chance of growth",
    },
}


@dataclass(frozen=True)
class ReasonCode:
    """One possible reason: a theme that moves an outcome in a direction.

    Attributes
    ----------
    code : str
        ``<outcome>.<theme>.<direction>``, stable across releases.
    outcome, theme, direction : str
        Parts of the code.
    sentence : str
        Displayed text.
    """

    code: str
    outcome: str
    theme: str
    direction: Direction
    sentence: str


@lru_cache(maxsize=1)
def reason_catalogue() -> tuple[ReasonCode, ...]:
    """Return every reason code, in a fixed order."""
    return tuple(
        ReasonCode(
            f"{outcome}.{theme}.{direction}",
            outcome,
            theme,
            direction,
            f"{capitalize(THEMES[theme])}: associated with {effect}",
        )
        for outcome, effects in _EFFECTS.items()
        for theme in THEMES
        for direction, effect in effects.items()
    )


@lru_cache(maxsize=1)
def catalogue_version() -> str:
    """Return the version of the catalogue, which changes with any code or text."""
    return digest([asdict(item) for item in reason_catalogue()])


@lru_cache(maxsize=1)
def _by_code() -> dict[str, ReasonCode]:
    return {item.code: item for item in reason_catalogue()}


def reason_code(outcome: str, theme: str, direction: Direction) -> ReasonCode:
    """Return the reason code of a theme and direction for an outcome.

    >>> reason_code("churn", "adoption", "raises").sentence
    'Usage: associated with a higher risk of leaving'
    """
    code = f"{outcome}.{theme}.{direction}"
    try:
        return _by_code()[code]
    except KeyError as error:
        raise ConfigError(
            f"there is no reason code {code}", fix=did_you_mean(code, _by_code())
        ) from error


def column_reason(outcome: str, theme: str, direction: Direction, label: str) -> ReasonCode:
    """Return the reason code of a column that is its own theme, with the name `label`.

    >>> column_reason("churn", "column:tenure", "lowers", "tenure").sentence
    'Tenure: associated with a lower risk of leaving'
    """
    sentence = f"{capitalize(label)}: associated with {_EFFECTS[outcome][direction]}"
    return ReasonCode(f"{outcome}.{theme}.{direction}", outcome, theme, direction, sentence)


def capitalize(phrase: str) -> str:
    """Return `phrase` with its first letter in upper case, the rest as it is.

    >>> capitalize("NPS of users")
    'NPS of users'
    """
    return phrase[:1].upper() + phrase[1:]


def uncapitalize(phrase: str) -> str:
    """Return a text with a lower-case first letter.

    >>> uncapitalize("Active users 4")
    'active users 4'
    """
    return phrase[:1].lower() + phrase[1:]


def number(value: float) -> str:
    """Return a number with at most three significant digits below 100.

    >>> [number(x) for x in (4.0, 4.02, 3.14159, 0.0123, 1234567.8, -0.0, -2.5)]
    ['4', '4', '3.1', '0.012', '1,234,568', '0', '−2.5']
    """
    size = abs(value)
    if size >= 100 or value == round(value):
        return count(value)
    return plain(float(f"{value:.1f}" if size >= 1 else f"{value:.2g}"))


def amount(value: float, unit: str, currency: str = "") -> str:
    r"""Return a value with its unit.

    Parameters
    ----------
    value : float
        In the unit of the feature; NaN if unknown.
    unit : str
        A `features.tables.catalog.Unit`.
    currency : str
        The reporting currency, for money.

    Examples
    --------
    >>> amount(0.352, "share"), amount(1.0, "days"), amount(12400.0, "money", currency="EUR")
    ('35\xa0%', '1 day', '€12,400')
    >>> amount(-0.51, "log_ratio"), amount(1.0, "flag"), amount(float("nan"), "count")
    ('down 40\xa0%', 'yes', 'not known')
    >>> amount(7.4, "log_ratio"), amount(-7.4, "log_ratio")
    ('up more than tenfold', 'down to almost nothing')
    """
    if math.isnan(value):
        return "not known"
    if unit in ("share", "ratio"):
        return percent(value)
    if unit in ("days", "hours"):
        return f"{number(value)} {unit if number(value) != '1' else unit[:-1]}"
    if unit == "money":
        return money_in_full(value, currency)
    if unit == "flag":
        return "yes" if value >= 0.5 else "no"
    return _log_ratio(value) if unit == "log_ratio" else number(value)


def _log_ratio(value: float) -> str:
    """Return a change in words; without percents beyond a factor of ten."""
    change = round(100.0 * math.expm1(min(value, 20.0)))
    if change > 900:
        return "up more than tenfold"
    if change == -100:
        return "down to almost nothing"
    if change == 0:
        return "unchanged"
    return f"{'up' if change > 0 else 'down'} {percent(abs(change) / 100.0, 0)}"


@lru_cache(maxsize=64)
def earlier(days: int) -> str:
    """Return a lag in words.

    >>> earlier(84), earlier(364), earlier(10)
    ('twelve weeks earlier', '52 weeks earlier', 'ten days earlier')
    """
    count, thing = (days // 7, "week") if days % 7 == 0 else (days, "day")
    word = _SMALL[count] if count < len(_SMALL) else str(count)
    return f"{word} {thing}{'s' if count != 1 else ''} earlier"


KEPT_AMOUNTS = 512
"""Size of the cache of amounts in words per feature, which repeat often."""

Phrase = Callable[[float | str | None, float | str | None, float | str | None], str]
"""Function from value, past value and peer value (number, level name or None) to a text."""


def phrase(
    info: FeatureInfo,
    past_days: int = 84,
    peers: str = "at similar accounts",
    currency: str = "",
) -> Phrase:
    """Return a function that renders a feature's values as text.

    Parameters
    ----------
    info : FeatureInfo
        The feature.
    past_days : int
        Age of the past value in days.
    peers : str
        Description of the peers.
    currency : str
        The reporting currency, for money.

    Examples
    --------
    >>> users = FeatureInfo("users_28d", "usage", "active users", "", "count", 28, "adoption")
    >>> phrase(users)(4.0, 16.0, 11.0)
    'Active users 4 in the last 28 days (16 twelve weeks earlier; 11 at similar accounts)'
    >>> phrase(users)(4.0, 4.02, 11.0)
    'Active users 4 in the last 28 days (11 at similar accounts)'
    """
    unit, lead = info.unit, capitalize(info.label)
    window = f" in the last {info.window_days} days" if info.window_days else ""
    with_colon = f"{lead}: "
    bare = with_colon if unit in ("flag", "log_ratio") else f"{lead} "
    before, of_peers = f" {earlier(past_days)}", f" {peers}"

    @lru_cache(maxsize=KEPT_AMOUNTS)
    def words(value: float | str) -> str:
        return value if isinstance(value, str) else amount(value, unit, currency)

    def render(
        value: float | str | None, past: float | str | None, peer: float | str | None
    ) -> str:
        shown = (value is not None and words(value)) or "not known"
        text = f"{bare if shown[:1].isdigit() else with_colon}{shown}{window}"
        # A comparison with the same text is left out.
        compared = [
            f"{other}{whose}"
            for given, whose in ((past, before), (peer, of_peers))
            if given is not None and (other := words(given)) != shown
        ]
        return f"{text} ({'; '.join(compared)})" if compared else text

    return render


_WINDOW = re.compile(r" in the last \d+ days")

SHORT = 60
"""Most characters of a short reason (`shorten`)."""


def shorten(text: str, most: int = SHORT) -> str:
    """Return the text of a fact in few characters: first without its comparisons and its window.

    >>> shorten("Active users 2 in the last 28 days (5 twelve weeks earlier; 3 at peers' accounts)")
    'Active users 2 in the last 28 days (5 twelve weeks earlier)'
    >>> shorten("Use against similar accounts: down 38 % in the last 28 days (unchanged before)")
    'Use against similar accounts: down 38 % (unchanged before)'
    >>> shorten("Only " + "words " * 20)
    'Only words words words words words words words words words…'
    """
    one = re.sub(r";[^)]*\)$", ")", text)
    none = re.sub(r" \([^)]*\)$", "", text)
    versions = (text, one, _WINDOW.sub("", one), none, _WINDOW.sub("", none))
    fitting = (version for version in versions if len(version) <= most)
    return next(fitting, none[:most].rsplit(" ", 1)[0].rstrip(" ,;:(") + "…")
