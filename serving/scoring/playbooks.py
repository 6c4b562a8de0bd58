"""Suggests plays for an account: conditions of `configs.schema.plays` against its canonical row.

A suggestion names the conditions that matched and claims no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from configs.runtime.formatting import count
from configs.schema.plays import Play, Plays, When
from serving.scoring.export_columns import ExportRow

AT_RISK = ("high", "elevated")

FLOOR_POINTS, FLOOR_SHARE = 0.005, 0.2
"""Smallest effect of a reason that triggers a play: a probability, and a share of the largest."""


@dataclass(frozen=True)
class Suggestion:
    """Suggested play for an account.

    Attributes
    ----------
    play : Play
        The play.
    why : str
        Conditions that matched, as text.
    due_on : date
        Due day: `Play.due_days` from today, or the notice deadline if that is earlier.
    """

    play: Play
    why: str
    due_on: date

    def as_dict(self) -> dict[str, Any]:
        """Return the suggestion as plain JSON."""
        return {
            "play": self.play.id,
            "title": self.play.title,
            "outcome": self.play.outcome,
            "why": self.why,
            "steps": list(self.play.steps),
            "owner_role": self.play.owner,
            "due_on": self.due_on.isoformat(),
        }


def suggest(
    plays: Plays,
    row: ExportRow,
    *,
    tried: Mapping[str, date],
    today: date,
    has_open_risk: bool = False,
) -> tuple[Suggestion, ...]:
    """Return the plays that fit an account: those for its strongest reasons first.

    Plays of a theme come in the order of the points of that theme, above a floor; the others follow
    in the order of the file.

    Parameters
    ----------
    plays : Plays
        Among plays for the same theme, and among those for none, in order of preference.
    row : mapping
        Canonical row of the account.
    tried : mapping of str to date
        Play to the day it was last recorded for this account.
    today : date
        Current day.
    has_open_risk : bool
        The account has an open risk, whatever its current estimate.

    Notes
    -----
    Without a signal (``no_signal``) no play is suggested. Expansion plays wait until the risk of
    the account is low and closed (see `has_conflict`) and until there are no blockers, such as an
    overdue invoice.
    """
    if row["status"] != "scored":
        return ()
    fitting = [
        play
        for play in plays.plays
        if _has_signal(play, row)
        and not (play.outcome == "expansion" and (has_open_risk or _must_wait(row)))
        and fits(play, row, tried, today)
    ]
    fitting.sort(key=lambda play: _place(play, row))
    return tuple(Suggestion(play, why(play, row), _due_on(play, row, today)) for play in fitting)


def _place(play: Play, row: ExportRow) -> int:
    """Return the rank of the reason that triggers a play; plays without a reason come last."""
    reasons = _raising(row, play.outcome)
    return next((i for i, reason in enumerate(reasons) if _triggers(reason, play.when)),
                len(reasons))  # fmt: skip


def _must_wait(row: ExportRow) -> bool:
    return row["risk_band"] in AT_RISK or row.get("expansion_is_eligible") is False


def has_conflict(row: ExportRow, *, has_open_risk: bool = False) -> bool:
    """Return whether an account is both at risk and likely to expand."""
    return (has_open_risk or row["risk_band"] in AT_RISK) and row["expansion_band"] in AT_RISK


def fits(play: Play, row: ExportRow, tried: Mapping[str, date], today: date) -> bool:
    """Return whether an account meets every condition of a play.

    >>> from configs.schema.plays import parse_plays
    >>> play = parse_plays({"plays": [{"id": "call", "title": "Call", "steps": ["Call"],
    ...     "when": {"bands": ["high"], "days_to_notice": [0, 30]}}]}, where="here").plays[0]
    >>> row = {"risk_band": "high", "days_to_notice": 12, "reason_codes": [], "arr": 1.0,
    ...     "segment": "smb"}
    >>> fits(play, row, {}, date(2026, 3, 2)), fits(play, row | {"days_to_notice": 31}, {},
    ...     date(2026, 3, 2))
    (True, False)
    """
    when = play.when
    last = tried.get(play.id)
    return (
        (not when.bands or row[_band(play)] in when.bands)
        and (
            not (when.themes or when.features)
            or any(_triggers(reason, when) for reason in _raising(row, play.outcome))
        )
        and (not when.segments or row["segment"] in when.segments)
        and (when.arr_at_least is None or (row["arr"] or 0.0) >= when.arr_at_least)
        and (when.days_to_notice is None or within_days(row["days_to_notice"], when.days_to_notice))
        and (not when.not_tried_days or not last or (today - last).days >= when.not_tried_days)
    )


def within_days(days: int | None, bounds: Sequence[int]) -> bool:
    """Return whether a number of days is in a range, both ends included; None is not."""
    return days is not None and bounds[0] <= days <= bounds[1]


def why(play: Play, row: ExportRow) -> str:
    """Return the conditions that matched, as text.

    >>> from configs.schema.plays import parse_plays
    >>> play = parse_plays({"plays": [{"id": "call", "title": "Call", "steps": ["Call"],
    ...     "when": {"bands": ["high"], "themes": ["support"], "days_to_notice": [0, 30]}}]},
    ...     where="here").plays[0]
    >>> why(play, {"risk_band": "high", "days_to_notice": 12, "arr": None,
    ...     "reason_codes": ["churn.support.raises"], "segment": None})
    'high risk; support among the reasons; notice deadline in 12 days'
    """
    when, parts = play.when, []
    subject = "risk" if play.outcome == "churn" else "expansion propensity"
    if when.bands:
        parts.append(f"{row[_band(play)]} {subject}")
    if themes := _shared_themes(when, row, play.outcome):
        parts.append(f"{' and '.join(themes)} among the reasons")
    if when.segments:
        parts.append(str(row["segment"]).replace("_", " "))
    if when.arr_at_least is not None:
        parts.append(f"ARR of at least {count(when.arr_at_least)}")
    if when.days_to_notice is not None:
        days = row["days_to_notice"]
        parts.append(f"notice deadline {'today' if days == 0 else f'in {days} days'}")
    return "; ".join(parts) or "for every account"


def _band(play: Play) -> Literal["risk_band", "expansion_band"]:
    return "risk_band" if play.outcome == "churn" else "expansion_band"


def _has_signal(play: Play, row: ExportRow) -> bool:
    verdict = row["churn_verdict" if play.outcome == "churn" else "expansion_verdict"]
    return verdict not in (None, "no_signal")


@dataclass(frozen=True)
class _RaisingReason:
    """Theme that raises an estimate, and the feature of its strongest fact."""

    theme: str
    feature: str


def _triggers(reason: _RaisingReason, when: When) -> bool:
    return (bool(when.themes) and reason.theme in when.themes) or (
        bool(when.features) and reason.feature in when.features
    )


def _shared_themes(when: When, row: ExportRow, outcome: str) -> list[str]:
    return [reason.theme for reason in _raising(row, outcome) if _triggers(reason, when)]


def _raising(row: ExportRow, outcome: str) -> list[_RaisingReason]:
    """Return the reasons that raise an estimate above the floor, strongest first.

    Points and features are not in the scores of earlier versions.
    """
    codes = row["reason_codes"] or ()
    points: Sequence[float | None] = row.get("reason_points") or [None] * len(codes)
    features = row.get("reason_features") or [""] * len(codes)
    floor = max(FLOOR_POINTS, FLOOR_SHARE * max((each or 0.0 for each in points), default=0.0))
    found: dict[str, _RaisingReason] = {}
    for code, size, feature in zip(codes, points, features, strict=True):
        about, theme, way = code.split(".")
        if about == outcome and way == "raises" and (size is None or size >= floor):
            found.setdefault(theme, _RaisingReason(theme, feature))
    return list(found.values())


def _due_on(play: Play, row: ExportRow, today: date) -> date:
    """Return the due day of a play; never after the next notice deadline."""
    due = today + timedelta(days=play.due_days)
    days = row["days_to_notice"]
    if play.outcome == "churn" and days is not None and 0 <= days < play.due_days:
        return today + timedelta(days=days)
    return due
