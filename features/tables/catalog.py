"""What a feature is, in words: name, meaning, unit, window, theme, expected signs.

The catalogue is derived from the signal families (`features.signals`); nothing is kept beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

Sign = Literal[-1, 0, 1]
Unit = Literal["count", "days", "hours", "share", "money", "score", "ratio", "log_ratio", "flag"]

THEMES: dict[str, str] = {
    "adoption": "usage",
    "breadth": "feature breadth",
    "support": "support",
    "sentiment": "sentiment",
    "relationship": "relationship",
    "commercial": "contract",
    "payments": "payments",
    "journey": "onboarding",
    "context": "context",
}
"""Display name of each theme; explanations group correlated features by theme."""


@dataclass(frozen=True)
class FeatureInfo:
    """One feature, as declared by its family.

    Attributes
    ----------
    name : str
        Unique; ends in its window (``_28d``) where it has one.
    family : str
        The signal family (one file) that declares it.
    label : str
        A short noun phrase for people: "active users", no unit, no window.
    meaning : str
        One sentence: what is counted, over what.
    unit : Unit
        ``count`` things · ``days`` · ``hours`` · ``share`` 0–1 · ``money`` reporting currency ·
        ``score`` · ``ratio`` quotient · ``log_ratio`` natural log of a quotient · ``flag`` 0/1.
    window_days : int or None
        Length of the window ``(as_of − w, as_of]``; None for a state at as_of.
    theme : str
        A key of `THEMES`.
    churn_sign, expansion_sign : Sign
        Where a higher value should move the outcome, all else equal: 1 up, −1 down, 0 left free.
    is_actionable : bool
        False for context nobody can act on.
    per_day : Sign
        What the calendar alone does to the value with each day that passes: 1 and −1 add and take
        away a day, 0 leaves it. A silence that grows is news, so it is 0.
    """

    name: str
    family: str
    label: str
    meaning: str
    unit: Unit
    window_days: int | None
    theme: str
    churn_sign: Sign = 0
    expansion_sign: Sign = 0
    is_actionable: bool = True
    per_day: Sign = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping kept in bundles and shown by the printed catalogue."""
        return asdict(self)


def is_kept(name: str, exclude: Iterable[str]) -> bool:
    """Say whether a feature may be trained on, given shell patterns of those that may not.

    >>> is_kept("arr_change_91d", ["arr*"]), is_kept("seats", ["arr*"])
    (False, True)
    """
    return not any(fnmatchcase(name, shape) for shape in exclude)
