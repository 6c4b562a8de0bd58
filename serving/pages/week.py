"""The week: what each CSM can work on now, what has to wait, and what somebody else should hear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema.plays import Plays
from configs.schema.team_capacity import weekly_slots
from serving.online.server_state import CurrentBook
from serving.scoring.playbooks import suggest
from serving.workflow.risk_cases import Event, Risk, lives, queue, tried
from training.model.expected_loss import expected_loss

NOBODY = ""
"""Key of the accounts without an owner."""


@dataclass(frozen=True)
class OwnerWeek:
    """The week of one owner.

    Attributes
    ----------
    owner_id, name : str
        Who; `NOBODY` for pooled accounts.
    capacity : int
        Accounts they can work this week (`configs.schema.team_capacity.weekly_slots`).
    now, waiting : tuple of mapping
        Work of this week, and what has to wait; in order (`serving.workflow.risk_cases.queue`).
    n_overdue, n_snoozed : int
        Plans that are late, and risks that sleep.
    lost : float
        Expected loss in all their open risks, a year, each up to the day its risk looks to.
    loss : mapping
        The same with its frames of time, see `training.model.expected_loss.ExpectedLoss.as_dict`.
    """

    owner_id: str
    name: str
    capacity: int
    now: tuple[Mapping[str, Any], ...]
    waiting: tuple[Mapping[str, Any], ...]
    n_overdue: int
    n_snoozed: int
    lost: float
    loss: Mapping[str, Any]


def view(
    book: CurrentBook,
    histories: Mapping[str, list[Event]],
    plays: Plays,
    slots: Mapping[str, int],
    now: datetime,
    owner: str | None = None,
) -> dict[str, Any]:
    """Return what the template of the week takes.

    Parameters
    ----------
    book : Book
        What the reader sees of the last book.
    histories : mapping of str to list of Event
        Everything recorded, by account.
    plays : Plays
        What can be done.
    slots : mapping of str to int
        Accounts each owner can work this week (`slots_of`).
    now : datetime
        The clock.
    owner : str, optional
        Only this owner's week; None for all of them.
    """
    risks = open_risks(histories)
    at_risk = pc.is_in(book.table["account_id"], pa.array(risks, pa.string()))
    rows = book.table.filter(at_risk).to_pylist()
    by_owner: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_owner.setdefault(row["owner_id"] or NOBODY, []).append(row)
    as_of = date.fromisoformat(book.run.as_of[:10])
    shown = [row for row in rows if owner is None or (row["owner_id"] or NOBODY) == owner]
    names = {row["owner_id"] or NOBODY: row["owner"] or row["owner_id"] or "" for row in rows}
    desks = [
        _desk(key, names[key], mine, risks, histories, plays, slots, now, as_of)
        for key, mine in by_owner.items()
        if owner is None or key == owner
    ]
    desks.sort(key=lambda desk: (-desk.n_overdue, -desk.lost, desk.owner_id))
    return {
        "run": book.run,
        "desks": desks,
        "n_open": sum(len(mine) for mine in by_owner.values()),
        "is_one": len(desks) == 1,
        "team": _together(desks, _loss(shown, as_of)),
        "owner": owner,
        "per_week": sum(slots.values()),
        "today": now.date(),
    }


def open_risks(histories: Mapping[str, list[Event]]) -> dict[str, Risk]:
    """Return the open risk of each account that has one."""
    return {
        entity: found[-1]
        for entity, events in histories.items()
        if (found := lives(events)) and not found[-1].has_ended
    }


def slots_of(
    table: pa.Table,
    histories: Mapping[str, list[Event]],
    capacities: Mapping[str, float],
    per_month: float,
    today: date,
) -> dict[str, int]:
    """Return how many accounts each owner can work this week; together, what the team can.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows of the whole book, whoever reads the page.
    histories : mapping of str to list of Event
        Everything recorded, by account.
    capacities : mapping of str to float
        Of `serving.auth.permissions.read_capacities`. Owners the owners table does not have, and
        accounts without an owner, share like the mean of those.
    per_month : float
        Accounts the team can work in a month.
    today : date
        Risks that sleep today are no reason to get more of the week.
    """
    risks = open_risks(histories)
    usual = sum(capacities.values()) / len(capacities) if capacities else 1.0
    rows = table.select(["account_id", "owner_id", "expected_arr_lost", "status"]).to_pylist()
    weights, stakes = dict(capacities), dict[str, float]()
    for row in rows:
        owner, risk = row["owner_id"] or NOBODY, risks.get(row["account_id"])
        if row["status"] != "closed" or risk is not None:
            weights.setdefault(owner, usual)
        if risk is not None and not risk.is_snoozed(today):
            # One open risk of unknown worth still goes before none.
            stakes[owner] = stakes.get(owner, 0.0) + (row["expected_arr_lost"] or 0.0) + 1e-9
    return weekly_slots(per_month, weights, stakes)


def _together(desks: Sequence[OwnerWeek], loss: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all owners shown can do and have to do; capacity left over helps nobody else."""
    return {
        "n": sum(len(desk.now) + len(desk.waiting) + desk.n_snoozed for desk in desks),
        "capacity": sum(desk.capacity for desk in desks),
        "waiting": sum(len(desk.waiting) for desk in desks),
        "n_overdue": sum(desk.n_overdue for desk in desks),
        "n_snoozed": sum(desk.n_snoozed for desk in desks),
        "lost": sum(desk.lost for desk in desks),
        "loss": loss,
    }


def lines(desks: Iterable[OwnerWeek]) -> Iterator[dict[str, Any]]:
    """Return the work of some weeks as flat lines, for CSV; in order, what has to wait last."""
    for desk in desks:
        for when, works in (("now", desk.now), ("waiting", desk.waiting)):
            for work in works:
                due = work["due_on"].isoformat() if work["due_on"] else None
                yield {"owner_id": desk.owner_id, "when": when, **work, "due_on": due}


def _desk(
    key: str,
    name: str,
    mine: list[Mapping[str, Any]],
    risks: Mapping[str, Risk],
    histories: Mapping[str, list[Event]],
    plays: Plays,
    slots: Mapping[str, int],
    now: datetime,
    as_of: date,
) -> OwnerWeek:
    today = now.date()
    capacity = slots.get(key, 0)
    first, later = queue(mine, risks, capacity, today)
    by_id = {row["account_id"]: row for row in mine}
    own = [risks[row["account_id"]] for row in mine]

    def work(entity: str) -> dict[str, Any]:
        return _work(by_id[entity], risks[entity], histories[entity], plays, now)

    return OwnerWeek(
        owner_id=key,
        name=name,
        capacity=capacity,
        now=tuple(work(entity) for entity in first),
        waiting=tuple(work(entity) for entity in later),
        n_overdue=sum(risk.overdue_days(today) is not None for risk in own),
        n_snoozed=sum(risk.is_snoozed(today) for risk in own),
        lost=sum(row["expected_arr_lost"] or 0.0 for row in mine),
        loss=_loss(mine, as_of),
    )


def _loss(rows: Sequence[Mapping[str, Any]], as_of: date) -> dict[str, Any]:
    """Return what is expected to be lost in some rows, with its frames of time."""
    asked = [row for row in rows if row["expected_arr_lost"] is not None]
    return expected_loss(
        np.array([row["expected_arr_lost"] for row in asked], dtype=np.float64),
        as_of,
        [date.fromisoformat(row["churn_until"]) for row in asked],
        [row["churn_asks_about"] == "renewal" for row in asked],
    ).as_dict()


def _work(
    row: Mapping[str, Any], risk: Risk, events: list[Event], plays: Plays, now: datetime
) -> dict[str, Any]:
    """Return one line of work: the account, where its risk stands, and what is next."""
    found = suggest(plays, row, tried=tried(events), today=now.date(), has_open_risk=True)
    titles = {play.id: play.title for play in plays.plays}
    planned = titles.get(risk.play)
    return {
        **{name: row[name] for name in _SHOWN},
        "stage": risk.stage,
        "days_in_stage": risk.days_in_stage(now),
        "overdue_days": risk.overdue_days(now.date()),
        "due_on": (risk.due_on or (found[0].due_on if found else None)),
        "next": planned or (found[0].play.title if found else None),
        "is_planned": planned is not None,
        "is_escalated": bool(risk.escalated),
    }


_SHOWN = (
    "account_id",
    "name",
    "churn_risk",
    "risk_band",
    "arr",
    "expected_arr_lost",
    "churn_asks_about",
    "churn_until",
    "days_to_notice",
    "top_reason",
)

COLUMNS = (
    "owner_id",
    "when",
    *_SHOWN,
    "stage",
    "days_in_stage",
    "next",
    "is_planned",
    "due_on",
    "overdue_days",
    "is_escalated",
)
"""Columns of the CSV twin; ``when`` is ``now`` or ``waiting``."""
