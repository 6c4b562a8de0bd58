"""Feature catalogue: name, meaning, unit, window, theme and expected signs.

The catalogue is derived from the signal families (`features.signals`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

Sign = Literal[-1, 0, 1]
Unit = Literal["count", "days", "hours", "share", "money", "score", "ratio", "log_ratio", "flag"]

THEMES: dict[str, str] = {
    "adoption": "amount of usage and number of users",
    "breadth": "breadth of product features in use",
    "support": "number, urgency and duration of tickets",
    "sentiment": "survey answers and complaints",
    "relationship": "known contacts and frequency of contact",
    "commercial": "terms, seats, plan and allowances",
    "payments": "invoices, overdue and failed payments",
    "journey": "progress of onboarding",
    "context": "circumstances without an action: age, size, calendar",
}
"""Themes group correlated features; reasons are aggregated by theme."""


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
        Display name, a noun phrase without unit and window: "active users".
    meaning : str
        Definition in one sentence.
    unit : Unit
        ``count`` things · ``days`` · ``hours`` · ``share`` 0–1 · ``money`` reporting currency ·
        ``score`` · ``ratio`` quotient · ``log_ratio`` natural log of a quotient · ``flag`` 0/1.
    window_days : int or None
        Length of the window ``(as_of − w, as_of]``; None for a state at as_of.
    theme : str
        A key of `THEMES`.
    churn_sign, expansion_sign : Sign
        Expected effect of a higher value on the outcome: 1 up, −1 down, 0 unconstrained.
    is_actionable : bool
        False for context without an action.
    per_day : Sign
        Daily change of the value by the calendar alone: 1 or −1 for a day more or less, else 0.
        Growing inactivity is information, so its features have 0.
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
        """Return the entry as stored in bundles and printed by the catalogue."""
        return asdict(self)


def is_kept(name: str, exclude: Iterable[str]) -> bool:
    """Whether a feature may be trained on, given shell patterns of excluded ones.

    >>> is_kept("arr_change_91d", ["arr*"]), is_kept("seats", ["arr*"])
    (False, True)
    """
    return not any(fnmatchcase(name, shape) for shape in exclude)
