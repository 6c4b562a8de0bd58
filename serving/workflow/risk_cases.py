"""The life of a risk: opened, planned, worked on, recovered or lost, as dated events by people.

Nothing is ever changed: what happened is appended, and where a risk stands is what its events add
up to. What people record never moves a score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, get_args

from configs.runtime.errors import DataError
from configs.schema.plays import Opening, Plays, Trigger
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
"""Where a risk may go from each stage. An ended one stays ended; a new one is opened instead."""

SYSTEM = "bellwether"
"""Who opened a risk that a published book opened."""


@dataclass(frozen=True)
class Event:
    """Something that happened to the risk of an account.

    Attributes
    ----------
    event_id : str
        Unique; recording the same event twice is harmless.
    entity_id : str
        The account.
    at : datetime
        When it was recorded, UTC.
    who : str
        Who recorded it.
    kind : Kind
        ``opened``, ``moved`` to a stage, ``snoozed`` until a day, a dated ``fact`` such as "their
        champion left", a ``touch`` (a contact or play), ``escalated`` by a trigger.
    stage : Stage or None
        Of ``opened`` and ``moved``.
    on : date or None
        Day the fact or touch happened; the day a plan is due; the day a snooze ends.
    play, text : str
        Play it is about; what was said.
    trigger : str
        Of ``escalated``.
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
    """Where the risk of an account stands.

    Attributes
    ----------
    entity_id : str
        The account.
    stage : Stage
        Where it stands.
    opened_at, stage_since : datetime
        When it was opened, and since when it is in its stage.
    play, due_on : str, date or None
        What is planned, and by when.
    snoozed_until : date or None
        Not shown in the queue before that day.
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
        """Return whole days since it came into its stage."""
        return max((now - self.stage_since).days, 0)

    def overdue_days(self, today: date) -> int | None:
        """Return how many days late the plan is; None when it is not, or nothing is planned."""
        if self.has_ended or self.due_on is None or self.due_on >= today:
            return None
        return (today - self.due_on).days

    def is_snoozed(self, today: date) -> bool:
        """Say whether it sleeps today."""
        return self.snoozed_until is not None and today < self.snoozed_until


def lives(events: Iterable[Event]) -> list[Risk]:
    """Return every risk in a history of events, oldest first; facts and touches do not open one.

    Parameters
    ----------
    events : iterable of Event
        Of one account, in the order recorded.

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
    """Refuse an event that makes no sense where the risk stands.

    Raises
    ------
    DataError
        Saying what is wrong and what is possible instead.
    """
    if event.kind == "opened":
        if risk is not None and not risk.has_ended:
            raise DataError(f"the risk of {event.entity_id} is open already: {risk.stage}")
        return
    if event.kind in ("fact", "touch"):
        _check_note(event, today)
        return
    if risk is None or risk.has_ended:
        raise DataError(
            f"no risk of {event.entity_id} is open", fix="open one first; ended ones stay ended"
        )
    if event.kind == "moved":
        _check_move(event, risk, plays, today)
    if event.kind == "snoozed" and (event.on is None or event.on <= today):
        raise DataError("a risk is snoozed until a day ahead", fix="name a later day")


def _check_note(event: Event, today: date) -> None:
    if not event.text.strip() and not event.play:
        raise DataError(f"a {event.kind} says what it is", fix="write a few words")
    if event.on is None or event.on > today:
        raise DataError(
            f"a {event.kind} has the day it happened, today at the latest", fix="correct the day"
        )


def _check_move(event: Event, risk: Risk, plays: Plays, today: date) -> None:
    allowed = MOVES[risk.stage]
    if event.stage not in allowed and event.stage != risk.stage:
        raise DataError(
            f"a risk does not go from {risk.stage} to {event.stage}",
            fix=f"from {risk.stage} it goes to {', '.join(allowed)}",
        )
    if event.stage == "plan":
        if event.on is None or event.on < today:
            raise DataError("a plan has a day by which it is due, today at the earliest")
        if event.play:
            plays.play(event.play)


def opens(row: Mapping[str, Any], opening: Opening) -> bool:
    """Say whether a row of a published book opens a risk: its band, or its band and revenue."""
    if row["status"] != "scored" or row["churn_verdict"] == "no_signal":
        return False
    if row["risk_band"] in opening.bands:
        return True
    limit = opening.or_arr_at_least
    return limit is not None and row["risk_band"] == "elevated" and (row["arr"] or 0.0) >= limit


def fired(
    triggers: Sequence[Trigger], risk: Risk, row: Mapping[str, Any], now: datetime
) -> list[Trigger]:
    """Return the triggers a risk fires today and has not fired before."""
    if risk.has_ended or risk.is_snoozed(now.date()):
        return []
    return [
        trigger
        for trigger in triggers
        if trigger.id not in risk.escalated and _fires(trigger, risk, row, now)
    ]


def _fires(trigger: Trigger, risk: Risk, row: Mapping[str, Any], now: datetime) -> bool:
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
    """Return each play with the day it was last recorded for an account."""
    found: dict[str, date] = {}
    for event in events:
        if event.kind == "touch" and event.play and event.on is not None:
            found[event.play] = max(event.on, found.get(event.play, event.on))
    return found


def queue(
    rows: Sequence[Mapping[str, Any]],
    risks: Mapping[str, Risk],
    capacity: int,
    today: date,
    days: int = 7,
) -> tuple[list[str], list[str]]:
    """Return what one CSM works on in the coming week, and what has to wait.

    Parameters
    ----------
    rows : sequence of mapping
        Canonical rows of the CSM's accounts.
    risks : mapping of str to Risk
        Open risks by account.
    capacity : int
        Accounts workable in a week.
    today : date
        The day of asking.
    days : int
        What is due, or has its notice deadline, within so many days comes first.

    Returns
    -------
    tuple of list of str
        Accounts of this week, at most `capacity`, and the others; both in order: overdue or due
        this week, then notice deadline this week, then by expected loss.
    """
    week = today + timedelta(days=days)

    def place(row: Mapping[str, Any]) -> tuple[int, float, str]:
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
