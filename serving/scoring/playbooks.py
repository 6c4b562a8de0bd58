"""Which play for which account: conditions of `configs.schema.plays` against one row of the book.

A suggestion is work for a person. It says which conditions brought it up, and it claims no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from configs.runtime.formatting import count
from configs.schema.plays import Play, Plays, When

AT_RISK = ("high", "elevated")

Row = Mapping[str, Any]
"""A canonical row of the book, see `serving.scoring.export_rows.COLUMNS`."""


@dataclass(frozen=True)
class Suggestion:
    """A play for an account.

    Attributes
    ----------
    play : Play
        What to do.
    why : str
        The conditions it was chosen by, in words.
    due_on : date
        When it should be done: `Play.due_days` from today, the notice deadline when that is nearer.
    """

    play: Play
    why: str
    due_on: date

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
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
    row: Row,
    *,
    tried: Mapping[str, date],
    today: date,
    has_open_risk: bool = False,
) -> tuple[Suggestion, ...]:
    """Return the plays whose conditions an account fits, most preferred first.

    Parameters
    ----------
    plays : Plays
        In order of preference.
    row : mapping
        Canonical row of the account.
    tried : mapping of str to date
        Play to the day it was last recorded for this account.
    today : date
        The day of asking.
    has_open_risk : bool
        Somebody works on a risk of the account, whatever its estimate is by now.

    Notes
    -----
    Where nothing can be told (``no_signal``) nothing is suggested. An account at risk is not asked
    to grow: plays for growth wait until its risk is low and closed (`has_conflict` tells of it),
    and until nothing stands in the way of selling, such as an overdue invoice.
    """
    if row["status"] != "scored":
        return ()
    return tuple(
        Suggestion(play, why(play, row), _due_on(play, row, today))
        for play in plays.plays
        if _is_told(play, row)
        and not (play.outcome == "expansion" and (has_open_risk or _must_wait(row)))
        and fits(play, row, tried, today)
    )


def _must_wait(row: Row) -> bool:
    return row["risk_band"] in AT_RISK or row.get("expansion_is_eligible") is False


def has_conflict(row: Row, *, has_open_risk: bool = False) -> bool:
    """Say whether an account is both at risk and ready to grow: the risk comes first."""
    return (has_open_risk or row["risk_band"] in AT_RISK) and row["expansion_band"] in AT_RISK


def fits(play: Play, row: Row, tried: Mapping[str, date], today: date) -> bool:
    """Say whether an account fits every condition of a play.

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
        and (not when.themes or bool(_shared_themes(when, row, play.outcome)))
        and (not when.segments or row["segment"] in when.segments)
        and (when.arr_at_least is None or (row["arr"] or 0.0) >= when.arr_at_least)
        and (when.days_to_notice is None or within_days(row["days_to_notice"], when.days_to_notice))
        and (not when.not_tried_days or not last or (today - last).days >= when.not_tried_days)
    )


def within_days(days: int | None, bounds: Sequence[int]) -> bool:
    """Say whether days lie in a range, both ends included; what is not known does not."""
    return days is not None and bounds[0] <= days <= bounds[1]


def why(play: Play, row: Row) -> str:
    """Return the conditions that brought a play up, in words.

    >>> from configs.schema.plays import parse_plays
    >>> play = parse_plays({"plays": [{"id": "call", "title": "Call", "steps": ["Call"],
    ...     "when": {"bands": ["high"], "themes": ["support"], "days_to_notice": [0, 30]}}]},
    ...     where="here").plays[0]
    >>> why(play, {"risk_band": "high", "days_to_notice": 12, "arr": None,
    ...     "reason_codes": ["churn.support.raises"], "segment": None})
    'high risk; support among its reasons; notice deadline in 12 days'
    """
    when, parts = play.when, []
    subject = "risk" if play.outcome == "churn" else "chance of growth"
    if when.bands:
        parts.append(f"{row[_band(play)]} {subject}")
    if themes := _shared_themes(when, row, play.outcome):
        parts.append(f"{' and '.join(themes)} among its reasons")
    if when.segments:
        parts.append(str(row["segment"]).replace("_", " "))
    if when.arr_at_least is not None:
        parts.append(f"ARR of at least {count(when.arr_at_least)}")
    if when.days_to_notice is not None:
        days = row["days_to_notice"]
        parts.append(f"notice deadline {'today' if days == 0 else f'in {days} days'}")
    return "; ".join(parts) or "for every account"


def _band(play: Play) -> str:
    return "risk_band" if play.outcome == "churn" else "expansion_band"


def _is_told(play: Play, row: Row) -> bool:
    verdict = row["churn_verdict" if play.outcome == "churn" else "expansion_verdict"]
    return verdict not in (None, "no_signal")


def _shared_themes(when: When, row: Row, outcome: str) -> list[str]:
    parts = (code.split(".") for code in row["reason_codes"] or ())
    named = [theme for about, theme, way in parts if about == outcome and way == "raises"]
    return [theme for theme in dict.fromkeys(named) if theme in when.themes]


def _due_on(play: Play, row: Row, today: date) -> date:
    """Return when a play should be done; a notice deadline ahead is never missed for it."""
    due = today + timedelta(days=play.due_days)
    days = row["days_to_notice"]
    if play.outcome == "churn" and days is not None and 0 <= days < play.due_days:
        return today + timedelta(days=days)
    return due
