"""Append-only store of risk events, in the database of the ledger (SQLite or PostgreSQL)."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from configs.runtime.database import reading, writing
from configs.runtime.errors import DataError, StateError
from configs.runtime.hashing import digest
from configs.runtime.migrate import open_engine
from configs.runtime.tables import RISK_TABLES, events_table, looks_table
from configs.schema.plays import Plays, Trigger
from configs.schema.workspace import Workspace
from serving.scoring.export_columns import ExportRow
from serving.workflow.risk_cases import (
    SYSTEM,
    Event,
    Risk,
    check_event,
    fired,
    lives,
    open_risks,
    opens,
)

TEXT_LIMIT = 2_000
"""Maximum length of a stored note."""

COOL_DOWN_DAYS = 28
"""Days before a closed risk can be opened again by a score run."""


def new_event_id() -> str:
    """Return a new unique identity."""
    return secrets.token_hex(16)


class RiskStore:
    """The risks of a company, as their events say.

    Parameters
    ----------
    url : str or None
        SQLAlchemy URL of SQLite or PostgreSQL; None for SQLite in `file`.
    file : Path
        The embedded database.
    company : str
        Whose risks; several companies may share a server.
    plays : Plays
        What may be planned.
    """

    def __init__(self, url: str | None, file: Path, company: str, plays: Plays) -> None:
        self.company = company
        self.plays = plays
        self.engine = open_engine(url, file, RISK_TABLES)

    @classmethod
    def open(cls, workspace: Workspace, plays: Plays) -> RiskStore:
        """Open the casebook of a company, where its ledger is."""
        file = workspace.state.ledger / "risks.db"
        return cls(workspace.places.ledger_url, file, workspace.company.name, plays)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def record(self, event: Event, *, after: str | None = None) -> None:
        """Append one event if it is possible in the current stage, in one transaction.

        Parameters
        ----------
        event : Event
            The event. A repeated event is ignored.
        after : str, optional
            ``event_id`` of the last event that the author saw; a newer event is a conflict.

        Raises
        ------
        DataError
            The event is not possible (`serving.workflow.risk_cases.check_event`).
        StateError
            A newer event exists, or the event_id belongs to another event.
        """
        with writing(self.engine) as connection:
            events = self._read(connection, events_table.c.entity_id == event.entity_id)
            known = next((item for item in events if item.event_id == event.event_id), None)
            if known is not None:
                if _content(known) != _content(event):
                    raise StateError("the event_id belongs to another event")
                return
            if after is not None and events and events[-1].event_id != after:
                raise StateError(
                    f"{events[-1].who} changed this account in the meantime",
                    fix="reload the page, then decide",
                )
            risk = _last(events)
            check_event(event, risk, self.plays, event.at.date())
            connection.execute(insert(events_table).values(self._as_row(event)))

    def events(self, entity_id: str) -> list[Event]:
        """Return all events of an account, oldest first."""
        with reading(self.engine) as connection:
            return self._read(connection, events_table.c.entity_id == entity_id)

    def risk(self, entity_id: str) -> Risk | None:
        """Return the latest risk of an account, open or closed."""
        return _last(self.events(entity_id))

    def histories(self) -> dict[str, list[Event]]:
        """Return all events by account, oldest first."""
        found: dict[str, list[Event]] = defaultdict(list)
        with reading(self.engine) as connection:
            for event in self._read(connection):
                found[event.entity_id].append(event)
        return dict(found)

    def open_risks(self) -> dict[str, Risk]:
        """Return the open risk of every account that has one."""
        return open_risks(self.histories())

    def escalated_risks(self) -> dict[str, Risk]:
        """Return every open risk that was escalated, by account."""
        table = events_table
        fired_for = select(table.c.entity_id).where(
            table.c.company == self.company, table.c.kind == "escalated"
        )
        found: dict[str, list[Event]] = defaultdict(list)
        with reading(self.engine) as connection:
            for event in self._read(connection, table.c.entity_id.in_(fired_for)):
                found[event.entity_id].append(event)
        return {entity: risk for entity, risk in open_risks(found).items() if risk.escalated}

    def touches(self) -> list[Event]:
        """Return all recorded contacts and plays, oldest first."""
        with reading(self.engine) as connection:
            return self._read(connection, events_table.c.kind == "touch")

    def look(self, who: str, book_id: str) -> str:
        """Record that a reader sees a score run, and return the id of the run they saw before.

        Repeated views of the same run change nothing, so updates stay visible until the next run.
        Empty for a new reader.
        """
        table, name = looks_table, who[:200]
        mine = (table.c.company == self.company, table.c.who == name)
        with reading(self.engine) as connection:
            row = connection.execute(select(table).where(*mine)).mappings().first()
        if row is not None and row["book_id"] == book_id:
            return str(row["book_before"])
        before = str(row["book_id"]) if row is not None else ""
        values = {"book_id": book_id, "book_before": before}
        try:
            with writing(self.engine) as connection:
                if row is not None:
                    connection.execute(update(table).where(*mine).values(**values))
                else:
                    key = {"company": self.company, "who": name}
                    connection.execute(insert(table).values(**key, **values))
        except IntegrityError:
            return ""  # the first view of the same reader, in two windows at once
        return before

    def open_from(self, rows: Iterable[ExportRow], book_id: str, now: datetime) -> list[str]:
        """Open the risks of a score run; a repeated run opens none.

        A closed risk is opened again after `COOL_DOWN_DAYS` at the earliest.

        Returns
        -------
        list of str
            Accounts with a new risk.
        """
        histories = self.histories()
        opened = []
        for row in rows:
            entity = str(row["account_id"])
            risk = _last(histories.get(entity, []))
            if not opens(row, self.plays.opening) or (risk and not _may_come_back(risk, now)):
                continue
            identity = digest("opened", book_id, entity, length=32)
            event = Event(identity, entity, now, SYSTEM, "opened", "open", text=_why(row))
            if self._add_quietly(event):
                opened.append(entity)
        return opened

    def escalate(self, rows: Iterable[ExportRow], now: datetime) -> list[tuple[str, Trigger]]:
        """Record the triggers that fire now; each fires once per risk.

        Returns
        -------
        list of (str, Trigger)
            Account and trigger, for notifications.
        """
        risks = self.open_risks()
        told = []
        for row in rows:
            entity = str(row["account_id"])
            if entity not in risks:
                continue
            risk = risks[entity]
            for trigger in fired(self.plays.escalations, risk, row, now):
                opened = risk.events[0].event_id
                identity = digest("escalated", opened, trigger.id, length=32)
                words = f"{trigger.title}; for the {trigger.to}"
                event = Event(
                    identity, entity, now, SYSTEM, "escalated", text=words, trigger=trigger.id
                )
                if self._add_quietly(event):
                    told.append((entity, trigger))
        return told

    def _add_quietly(self, event: Event) -> bool:
        """Append an event of the system; False if another process was first."""
        try:
            with writing(self.engine) as connection:
                connection.execute(insert(events_table).values(self._as_row(event)))
        except IntegrityError:
            return False
        return True

    def _as_row(self, event: Event) -> dict[str, Any]:
        if "\x00" in f"{event.entity_id}{event.text}{event.who}":
            raise DataError("a note contains a zero byte", fix="remove it")
        return {
            "company": self.company,
            "event_id": event.event_id,
            "entity_id": event.entity_id,
            "at": event.at,
            "who": event.who,
            "kind": event.kind,
            "stage": event.stage,
            "on_day": event.on.isoformat() if event.on else None,
            "play": event.play,
            "text": event.text[:TEXT_LIMIT],
            "trigger": event.trigger,
        }

    def _read(self, connection: Any, *where: Any) -> list[Event]:
        table = events_table
        query = select(table).where(table.c.company == self.company, *where).order_by(table.c.row)
        return [_event(row) for row in connection.execute(query).mappings()]


def _may_come_back(risk: Risk, now: datetime) -> bool:
    return risk.has_ended and (now - risk.stage_since).days >= COOL_DOWN_DAYS


def _last(events: Sequence[Event]) -> Risk | None:
    found = lives(events)
    return found[-1] if found else None


def _why(row: ExportRow) -> str:
    return f"{row['risk_band']} risk in the scores of {str(row['as_of'])[:10]}"


def _content(event: Event) -> tuple[Any, ...]:
    return (event.entity_id, event.kind, event.stage, event.on, event.play, event.text)


def _event(row: Mapping[str, Any]) -> Event:
    return Event(
        event_id=row["event_id"],
        entity_id=row["entity_id"],
        at=row["at"].astimezone(UTC),
        who=row["who"],
        kind=row["kind"],
        stage=row["stage"],
        on=date.fromisoformat(row["on_day"]) if row["on_day"] else None,
        play=row["play"],
        text=row["text"],
        trigger=row["trigger"],
    )
