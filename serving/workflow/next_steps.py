"""Next step of an account: the planned play with its due day, otherwise the suggested one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from configs.schema.plays import Plays
from serving.scoring.export_columns import ExportRow
from serving.scoring.playbooks import suggest
from serving.workflow.risk_cases import (
    STAGE_WORDS,
    Event,
    Histories,
    lives,
    open_risks,
    tried,
)


@dataclass(frozen=True)
class NextStep:
    """Next step of an account.

    Attributes
    ----------
    text : str or None
        Title of the play; None where no play fits.
    due_on : date or None
        Due day of the plan, or of the suggestion.
    is_planned : bool
        A person planned it; otherwise it is a suggestion.
    overdue_days : int or None
        Days that the plan is overdue.
    snoozed_until : date or None
        Day on which a snoozed risk is listed again.
    """

    text: str | None = None
    due_on: date | None = None
    is_planned: bool = False
    overdue_days: int | None = None
    snoozed_until: date | None = None


def with_plan(histories: Histories, today: date) -> list[str]:
    """Return the accounts whose open risk has a plan, is being worked on or is snoozed."""
    return [
        entity
        for entity, risk in open_risks(histories).items()
        if risk.stage != "open" or risk.is_snoozed(today)
    ]


def next_step(row: ExportRow, events: Sequence[Event], plays: Plays, today: date) -> NextStep:
    """Return the next step of an account.

    Parameters
    ----------
    row : mapping
        Canonical row of the account.
    events : sequence of Event
        Its recorded events, oldest first.
    plays : Plays
        The company's plays.
    today : date
        Current day.
    """
    risks = lives(events)
    risk = risks[-1] if risks and not risks[-1].has_ended else None
    until = risk.snoozed_until if risk and risk.is_snoozed(today) else None
    if risk is not None and risk.stage != "open":
        titles = {play.id: play.title for play in plays.plays}
        text = titles.get(risk.play, STAGE_WORDS[risk.stage].capitalize())
        return NextStep(text, risk.due_on, True, risk.overdue_days(today), until)
    has_risk = risk is not None
    found = suggest(plays, row, tried=tried(events), today=today, has_open_risk=has_risk)
    if not found:
        return NextStep(snoozed_until=until)
    return NextStep(found[0].play.title, found[0].due_on, snoozed_until=until)
