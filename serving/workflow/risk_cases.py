"""Risk cases: the stages of a risk, derived from dated events.

Events are only appended; the stage of a risk follows from its events. Recorded events never change
a score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal, get_args

from configs.runtime.errors import DataError
from configs.schema.plays import Opening, Plays, Trigger
from serving.scoring.export_columns import ExportRow
from serving.scoring.playbooks import within_days

Stage = Literal["open", "plan", "saving", "recovered", "lost"]
Kind = Literal["opened", "moved", "snoozed", "fact", "touch", "escalated"]

STAGES: tuple[Stage, ...] = get_args(Stage)
KINDS: tuple[Kind, ...] = get_args(Kind)
ENDED: tuple[Stage, ...] = ("recovered", "lost")

STAGE_WORDS: dict[Stage, str] = {
    "open": "no plan yet",
    "plan": "play planned",
    "saving": "in progress",
    "recovered": "closed, account safe",
    "lost": "closed, account lost",
}

MOVES: dict[Stage, tuple[Stage, ...]] = {
    "open": ("plan", "saving", "recovered", "lost"),
    "plan": ("open", "saving", "recovered", "lost"),
    "saving": ("plan", "recovered", "lost"),
    "recovered": (),
    "lost": (),
}
"""Possible next stages. A closed risk stays closed; a new risk is opened instead."""

SYSTEM = "bellwether"
"""Author of the risks that a score run opens."""


@dataclass(frozen=True)
class Event:
    """Event of the risk of an account.

    Attributes
    ----------
    event_id : str
        Unique; a repeated event is ignored.
    entity_id : str
        The account.
    at : datetime
        Time of recording, UTC.
    who : str
        Author.
    kind : Kind
        ``opened``, ``moved`` to a stage, ``snoozed`` until a day, a dated ``fact`` such as
        "champion left", a ``touch`` (a contact or play), ``escalated`` by a trigger.
    stage : Stage or None
        New stage, for ``opened`` and ``moved``.
    on : date or None
        Day of the fact or touch; due day of a plan; end of a snooze.
    play, text : str
        Play, and note.
    trigger : str
        Trigger, for ``escalated``.
    """

    event_id: str
    entity_id: str
    at: datetime
    who: str
    kind: Kind
    stage: Stage | None = None
    on: date | None = None
    play: str = ""
    text: str = ""
    trigger: str = ""


@dataclass(frozen=True)
class Risk:
    """Current state of the risk of an account.

    Attributes
    ----------
    entity_id : str
        The account.
    stage : Stage
        Current stage.
    opened_at, stage_since : datetime
        Time of opening, and of the last change of the stage.
    play, due_on : str, date or None
        Planned play and its due day.
    snoozed_until : date or None
        First day on which it is listed again.
    escalated : frozenset of str
        Triggers that have fired for it.
    events : tuple of Event
        All of this risk, oldest first.
    """

    entity_id: str
    stage: Stage
    opened_at: datetime
    stage_since: datetime
    play: str = ""
    due_on: date | None = None
    snoozed_until: date | None = None
    escalated: frozenset[str] = field(default_factory=frozenset)
    events: tuple[Event, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether it is closed."""
        return self.stage in ENDED

    def days_in_stage(self, now: datetime) -> int:
        """Return the whole days in the current stage."""
        return max((now - self.stage_since).days, 0)

    def overdue_days(self, today: date) -> int | None:
        """Return the days that the plan is overdue; None if it is not, or without a plan."""
        if self.has_ended or self.due_on is None or self.due_on >= today:
            return None
        return (today - self.due_on).days

    def is_snoozed(self, today: date) -> bool:
        """Return whether the risk is snoozed on a day."""
        return self.snoozed_until is not None and today < self.snoozed_until


def lives(events: Iterable[Event]) -> list[Risk]:
    """Return every risk of an account, oldest first; facts and touches do not open one.

    Parameters
    ----------
    events : iterable of Event
        Events of one account, in the order of recording.

    Examples
    --------
    >>> from datetime import UTC
    >>> day = datetime(2026, 3, 2, tzinfo=UTC)
    >>> one = lives([
    ...     Event("1", "A", day, "bellwether", "opened", "open"),
    ...     Event("2", "A", day, "Ada", "moved", "plan", on=date(2026, 3, 9), play="call")])
    >>> [(risk.stage, risk.play, str(risk.due_on)) for risk in one]
    [('plan', 'call', '2026-03-09')]
    """
    found: list[Risk] = []
    for event in events:
        if event.kind == "opened":
            if not found or found[-1].has_ended:
                stage = event.stage or "open"
                found.append(Risk(event.entity_id, stage, event.at, event.at, events=(event,)))
        elif found and not found[-1].has_ended:
            found[-1] = _after(found[-1], event)
    return found


Histories = Mapping[str, Sequence[Event]]
"""All recorded events, by account."""


def open_risks(histories: Histories) -> dict[str, Risk]:
    """Return the open risk of each account that has one."""
    return {
        entity: found[-1]
        for entity, events in histories.items()
        if (found := lives(events)) and not found[-1].has_ended
    }


def _after(risk: Risk, event: Event) -> Risk:
    risk = replace(risk, events=(*risk.events, event))
    if event.kind == "moved" and event.stage is not None:
        since = event.at if event.stage != risk.stage else risk.stage_since
        plan = (event.play, event.on) if event.stage == "plan" else (risk.play, risk.due_on)
        play, due = ("", None) if event.stage == "open" else plan
        return replace(risk, stage=event.stage, stage_since=since, play=play, due_on=due)
    if event.kind == "snoozed":
        return replace(risk, snoozed_until=event.on)
    if event.kind == "escalated":
        return replace(risk, escalated=risk.escalated | {event.trigger})
    return risk


def check_event(event: Event, risk: Risk | None, plays: Plays, today: date) -> None:
    """Refuse an event that is not possible in the current stage.

    Raises
    ------
    DataError
        Names the error and the possible stages.
    """
    if event.kind == "opened":
        if risk is not None and not risk.has_ended:
            raise DataError(f"the risk of {event.entity_id} is already open: {risk.stage}")
        return
    if event.kind in ("fact", "touch"):
        _check_note(event, today)
        return
    if risk is None or risk.has_ended:
        raise DataError(
            f"no risk of {event.entity_id} is open",
            fix="open a risk first; closed risks stay closed",
        )
    if event.kind == "moved":
        _check_move(event, risk, plays, today)
    if event.kind == "snoozed" and (event.on is None or event.on <= today):
        raise DataError("a risk can only be snoozed until a future day", fix="choose a later day")


def _check_note(event: Event, today: date) -> None:
    if not event.text.strip() and not event.play:
        raise DataError(f"a {event.kind} needs a description", fix="write a few words")
    if event.on is None or event.on > today:
        raise DataError(f"a {event.kind} needs its day, today at the latest", fix="correct the day")


def _check_move(event: Event, risk: Risk, plays: Plays, today: date) -> None:
    allowed = MOVES[risk.stage]
    if event.stage not in allowed and event.stage != risk.stage:
        raise DataError(
            f"a risk cannot move from {risk.stage} to {event.stage}",
            fix=f"possible stages: {', '.join(allowed)}",
        )
    if event.stage == "plan":
        if event.on is None or event.on < today:
            raise DataError("a plan needs a due day, today at the earliest")
        if event.play:
            plays.play(event.play)


def opens(row: ExportRow, opening: Opening) -> bool:
    """Return whether a canonical row opens a risk, by its band or by band and ARR."""
    if row["status"] != "scored" or row["churn_verdict"] == "no_signal":
        return False
    if row["risk_band"] in opening.bands:
        return True
    limit = opening.or_arr_at_least
    return limit is not None and row["risk_band"] == "elevated" and (row["arr"] or 0.0) >= limit


def fired(triggers: Sequence[Trigger], risk: Risk, row: ExportRow, now: datetime) -> list[Trigger]:
    """Return the triggers that fire today for the first time for a risk."""
    if risk.has_ended or risk.is_snoozed(now.date()):
        return []
    return [
        trigger
        for trigger in triggers
        if trigger.id not in risk.escalated and _fires(trigger, risk, row, now)
    ]


def _fires(trigger: Trigger, risk: Risk, row: ExportRow, now: datetime) -> bool:
    late = risk.overdue_days(now.date())
    return (
        (not trigger.bands or row["risk_band"] in trigger.bands)
        and (trigger.arr_at_least is None or (row["arr"] or 0.0) >= trigger.arr_at_least)
        and (
            trigger.days_to_notice is None
            or within_days(row["days_to_notice"], trigger.days_to_notice)
        )
        and (trigger.overdue_days is None or (late is not None and late >= trigger.overdue_days))
        and (
            trigger.days_without_plan is None
            or (risk.stage == "open" and risk.days_in_stage(now) >= trigger.days_without_plan)
        )
    )


def tried(events: Iterable[Event]) -> dict[str, date]:
    """Return the last recorded day of each play of an account."""
    found: dict[str, date] = {}
    for event in events:
        if event.kind == "touch" and event.play and event.on is not None:
            found[event.play] = max(event.on, found.get(event.play, event.on))
    return found


def queue(
    rows: Sequence[ExportRow],
    risks: Mapping[str, Risk],
    capacity: int,
    today: date,
    days: int = 7,
) -> tuple[list[str], list[str]]:
    """Return the accounts that an owner works on this week, and those that have to wait.

    Parameters
    ----------
    rows : sequence of mapping
        Canonical rows of the accounts of the owner.
    risks : mapping of str to Risk
        Open risks by account.
    capacity : int
        Accounts that the owner can work on in a week.
    today : date
        Current day.
    days : int
        Plans and notice deadlines within this number of days come first.

    Returns
    -------
    tuple of list of str
        Accounts of this week, at most `capacity`, and the others; both in order: overdue or due
        this week, then notice deadline this week, then by expected loss.
    """
    week = today + timedelta(days=days)

    def place(row: ExportRow) -> tuple[int, float, str]:
        risk, notice = risks[row["account_id"]], row["days_to_notice"]
        is_due = risk.due_on is not None and risk.due_on <= week
        is_near = notice is not None and 0 <= notice <= days
        urgency = 0 if is_due else 1 if is_near else 2
        return urgency, -(row["expected_arr_lost"] or 0.0), row["account_id"]

    waiting = [
        row
        for row in rows
        if (risk := risks.get(row["account_id"])) is not None
        and not risk.has_ended
        and not risk.is_snoozed(today)
    ]
    ordered = [row["account_id"] for row in sorted(waiting, key=place)]
    return ordered[:capacity], ordered[capacity:]
