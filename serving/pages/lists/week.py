"""Week page: the open risks that each owner can work on now, and those that have to wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends
from starlette.responses import Response

from configs.schema.plays import Plays
from configs.schema.team_capacity import weekly_slots
from serving.online.current_state import Live
from serving.online.server_state import CurrentBook
from serving.pages.common import Book, Owner, PageRouter, as_csv, as_json, common, csv_of
from serving.pages.context import Context
from serving.pages.templating import page
from serving.scoring.export_columns import ExportRow
from serving.workflow.next_steps import next_step
from serving.workflow.risk_cases import Event, Histories, Risk, open_risks, queue
from training.model.expected_loss import expected_loss

NO_OWNER = ""
"""Key of the accounts without an owner."""


class Work(TypedDict):
    """One open risk of the week: the account, its stage and the next step."""

    account_id: str
    name: str | None
    churn_risk: float | None
    risk_band: str | None
    arr: float | None
    expected_arr_lost: float | None
    churn_asks_about: str | None
    churn_until: str | None
    days_to_notice: int | None
    top_reason: str | None
    stage: str
    days_in_stage: int
    overdue_days: int | None
    due_on: date | None
    next: str | None
    is_planned: bool
    is_escalated: bool


COLUMNS = (
    "owner_id",
    "when",
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
    "stage",
    "days_in_stage",
    "next",
    "is_planned",
    "due_on",
    "overdue_days",
    "is_escalated",
)
"""Columns of the CSV version; ``when`` is ``now`` or ``waiting``."""


class Loss(TypedDict):
    """Expected loss of ARR by time frame (`training.model.expected_loss.ExpectedLoss.as_dict`)."""

    total: float
    until: str | None
    within_91_days: float
    within_91_days_on: str
    by_year_end: float
    year_end_on: str


class TeamTotals(TypedDict):
    """Totals over all owners shown."""

    n: int
    capacity: int
    waiting: int
    n_overdue: int
    n_snoozed: int
    lost: float
    loss: Loss


@dataclass(frozen=True)
class OwnerWeek:
    """Week of one owner.

    Attributes
    ----------
    owner_id, name : str
        The owner; `NO_OWNER` for pooled accounts.
    capacity : int
        Accounts they can work on this week (`configs.schema.team_capacity.weekly_slots`).
    now, waiting : tuple of Work
        Risks of this week and risks that have to wait, in order
        (`serving.workflow.risk_cases.queue`).
    n_overdue, n_snoozed : int
        Overdue plans, and snoozed risks.
    lost : float
        Expected loss of all their open risks, a year, each until the end of its prediction window.
    loss : Loss
        The same by time frame.
    """

    owner_id: str
    name: str
    capacity: int
    now: tuple[Work, ...]
    waiting: tuple[Work, ...]
    n_overdue: int
    n_snoozed: int
    lost: float
    loss: Loss


router = PageRouter()


def week_values(live: Live, book: Book, context: Context, owner: Owner = None) -> dict[str, Any]:
    """Return the template values of the week that a request asks for."""
    assert live.book is not None  # otherwise `Book` has refused the request
    histories, now = context.risks.histories(), live.clock()
    per_month = live.workspace.company.serving.capacity_per_month
    slots = slots_of(live.book.table, histories, live.capacities, per_month, now.date())
    shown = view(book, histories, context.plays, slots, now, owner)
    return {**shown, "per_month": per_month}


WeekValues = Annotated[dict[str, Any], Depends(week_values)]


@router.page("/week")
def week_page(live: Live, found: WeekValues) -> Response:
    """Return the page of the week."""
    return page("week.html", **common(live, "week"), **found)


@router.get("/week.json")
def week_json(found: WeekValues) -> Response:
    """Return the week of every owner as JSON."""
    return as_json(
        {
            "book_id": found["run"].run_id,
            "as_of": found["run"].as_of,
            "n_open": found["n_open"],
            "team": found["team"],
            "owners": [vars(item) for item in found["desks"]],
        }
    )


@router.get("/week.csv")
def week_csv(found: WeekValues) -> Response:
    """Return the open risks as CSV."""
    name = f"week-{found['today'].isoformat()}"
    return as_csv(name, csv_of(COLUMNS, lines(found["desks"])))


def view(
    book: CurrentBook,
    histories: Histories,
    plays: Plays,
    slots: Mapping[str, int],
    now: datetime,
    owner: str | None = None,
) -> dict[str, Any]:
    """Return the template values of the page.

    Parameters
    ----------
    book : CurrentBook
        Visible scores.
    histories : mapping of str to list of Event
        All recorded events, by account.
    plays : Plays
        The company's plays.
    slots : mapping of str to int
        Accounts that each owner can work on this week (`slots_of`).
    now : datetime
        The current time.
    owner : str, optional
        Owner to show; None for all.
    """
    risks = open_risks(histories)
    at_risk = pc.is_in(book.table["account_id"], pa.array(risks, pa.string()))
    rows: list[ExportRow] = book.table.filter(at_risk).to_pylist()
    by_owner: dict[str, list[ExportRow]] = {}
    for row in rows:
        by_owner.setdefault(row["owner_id"] or NO_OWNER, []).append(row)
    as_of = date.fromisoformat(book.run.as_of[:10])
    shown = [row for row in rows if owner is None or (row["owner_id"] or NO_OWNER) == owner]
    names = {row["owner_id"] or NO_OWNER: row["owner"] or row["owner_id"] or "" for row in rows}
    weeks = [
        _owner_week(key, names[key], own, risks, histories, plays, slots, now, as_of)
        for key, own in by_owner.items()
        if owner is None or key == owner
    ]
    weeks.sort(key=lambda item: (-item.n_overdue, -item.lost, item.owner_id))
    return {
        "run": book.run,
        "desks": weeks,
        "n_open": len(rows),
        "is_one": len(weeks) == 1,
        "team": _team_totals(weeks, _loss(shown, as_of)),
        "owner": owner,
        "per_week": sum(slots.values()),
        "today": now.date(),
    }


def slots_of(
    table: pa.Table,
    histories: Histories,
    capacities: Mapping[str, float],
    per_month: float,
    today: date,
) -> dict[str, int]:
    """Return how many accounts each owner can work on this week; the sum is the team's capacity.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows of all accounts, also of those that the reader cannot see.
    histories : mapping of str to list of Event
        All recorded events, by account.
    capacities : mapping of str to float
        Capacity by owner (`serving.auth.permissions.read_capacities`). Owners without a value, and
        accounts without an owner, count like the mean.
    per_month : float
        Accounts that the team can work on in a month.
    today : date
        Risks snoozed on this day do not increase the share of their owner.
    """
    risks = open_risks(histories)
    usual = sum(capacities.values()) / len(capacities) if capacities else 1.0
    rows = table.select(["account_id", "owner_id", "expected_arr_lost", "status"]).to_pylist()
    weights, stakes = dict(capacities), dict[str, float]()
    for row in rows:
        owner, risk = row["owner_id"] or NO_OWNER, risks.get(row["account_id"])
        if row["status"] != "closed" or risk is not None:
            weights.setdefault(owner, usual)
        if risk is not None and not risk.is_snoozed(today):
            # An open risk of unknown value still counts more than none.
            stakes[owner] = stakes.get(owner, 0.0) + (row["expected_arr_lost"] or 0.0) + 1e-9
    return weekly_slots(per_month, weights, stakes)


def _team_totals(weeks: Sequence[OwnerWeek], loss: Loss) -> TeamTotals:
    """Return the totals of all owners shown; unused capacity is not moved between owners."""
    return {
        "n": sum(len(item.now) + len(item.waiting) + item.n_snoozed for item in weeks),
        "capacity": sum(item.capacity for item in weeks),
        "waiting": sum(len(item.waiting) for item in weeks),
        "n_overdue": sum(item.n_overdue for item in weeks),
        "n_snoozed": sum(item.n_snoozed for item in weeks),
        "lost": sum(item.lost for item in weeks),
        "loss": loss,
    }


def lines(weeks: Iterable[OwnerWeek]) -> Iterator[dict[str, Any]]:
    """Return the work of some weeks as flat rows for CSV, in order; waiting work comes last."""
    for item in weeks:
        for when, works in (("now", item.now), ("waiting", item.waiting)):
            for work in works:
                due = work["due_on"].isoformat() if work["due_on"] else None
                yield {"owner_id": item.owner_id, "when": when, **work, "due_on": due}


def _owner_week(
    key: str,
    name: str,
    rows: list[ExportRow],
    risks: Mapping[str, Risk],
    histories: Histories,
    plays: Plays,
    slots: Mapping[str, int],
    now: datetime,
    as_of: date,
) -> OwnerWeek:
    today = now.date()
    capacity = slots.get(key, 0)
    first, later = queue(rows, risks, capacity, today)
    by_id = {row["account_id"]: row for row in rows}
    own = [risks[row["account_id"]] for row in rows]

    def work(entity: str) -> Work:
        return _work(by_id[entity], risks[entity], histories[entity], plays, now)

    return OwnerWeek(
        owner_id=key,
        name=name,
        capacity=capacity,
        now=tuple(work(entity) for entity in first),
        waiting=tuple(work(entity) for entity in later),
        n_overdue=sum(risk.overdue_days(today) is not None for risk in own),
        n_snoozed=sum(risk.is_snoozed(today) for risk in own),
        lost=sum(row["expected_arr_lost"] or 0.0 for row in rows),
        loss=_loss(rows, as_of),
    )


def _loss(rows: Sequence[ExportRow], as_of: date) -> Loss:
    """Return the expected loss of some rows by time frame."""
    known = [
        (lost, date.fromisoformat(until), row["churn_asks_about"] == "renewal")
        for row in rows
        if (lost := row["expected_arr_lost"]) is not None and (until := row["churn_until"])
    ]
    found: Loss = expected_loss(  # type: ignore[assignment]  # declared as a plain dictionary
        np.array([lost for lost, _, _ in known], dtype=np.float64),
        as_of,
        [until for _, until, _ in known],
        [is_renewal for _, _, is_renewal in known],
    ).as_dict()
    return found


def _work(row: ExportRow, risk: Risk, events: Sequence[Event], plays: Plays, now: datetime) -> Work:
    step = next_step(row, events, plays, now.date())
    return {
        "account_id": row["account_id"],
        "name": row["name"],
        "churn_risk": row["churn_risk"],
        "risk_band": row["risk_band"],
        "arr": row["arr"],
        "expected_arr_lost": row["expected_arr_lost"],
        "churn_asks_about": row["churn_asks_about"],
        "churn_until": row["churn_until"],
        "days_to_notice": row["days_to_notice"],
        "top_reason": row["top_reason"],
        "stage": risk.stage,
        "days_in_stage": risk.days_in_stage(now),
        "overdue_days": step.overdue_days,
        "due_on": step.due_on,
        "next": step.text,
        "is_planned": step.is_planned,
        "is_escalated": bool(risk.escalated),
    }
