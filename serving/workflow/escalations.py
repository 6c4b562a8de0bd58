"""Escalations: open risks that a trigger reports to a role, for pages and webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema.plays import Plays
from serving.http.score_text import to_second
from serving.workflow.risk_cases import Risk

_SHOWN = (
    "account_id",
    "name",
    "owner_id",
    "owner",
    "churn_risk",
    "risk_band",
    "arr",
    "expected_arr_lost",
    "churn_asks_about",
    "churn_until",
    "days_to_notice",
)


@dataclass(frozen=True)
class Escalation:
    """Trigger that fired for an open risk.

    Attributes
    ----------
    event_id : str
        Identity of the escalation, the same in every channel.
    trigger, title, to : str
        Id and title of the trigger, and the role to notify; the role is empty if the trigger no
        longer exists.
    manager_id, manager : str or None
        Manager of the owner of the account.
    escalated_at : str
        Time of the escalation, ISO 8601.
    stage, days_in_stage, due_on, overdue_days, is_snoozed
        State of the risk.
    account_id, name, owner_id, owner, churn_risk, risk_band, arr, expected_arr_lost, days_to_notice
        As in the canonical row, with churn_asks_about and churn_until.
    """

    event_id: str
    trigger: str
    title: str
    to: str
    account_id: str
    name: str | None
    owner_id: str | None
    owner: str | None
    manager_id: str | None
    manager: str | None
    escalated_at: str
    stage: str
    days_in_stage: int
    due_on: str | None
    overdue_days: int | None
    is_snoozed: bool
    churn_risk: float | None
    risk_band: str | None
    arr: float | None
    expected_arr_lost: float | None
    churn_asks_about: str | None
    churn_until: str | None
    days_to_notice: int | None


COLUMNS = tuple(item.name for item in fields(Escalation))
"""Columns of the CSV version."""


def escalated(
    table: pa.Table,
    risks: Mapping[str, Risk],
    plays: Plays,
    managers: Mapping[str, str],
    now: datetime,
) -> list[Escalation]:
    """Return the escalations of open risks, highest expected loss first.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows of the visible accounts.
    risks : mapping of str to Risk
        Open risks by account (`RiskStore.escalated_risks`).
    plays : Plays
        The triggers.
    managers : mapping of str to str
        Manager by owner.
    now : datetime
        The current time.
    """
    kept = table.filter(pc.is_in(table["account_id"], pa.array(risks, pa.string())))
    names = dict(zip(table["owner_id"].to_pylist(), table["owner"].to_pylist(), strict=True))
    triggers = {trigger.id: trigger for trigger in plays.escalations}
    found = []
    for row in kept.select(_SHOWN).to_pylist():
        risk = risks[row["account_id"]]
        manager = managers.get(row["owner_id"] or "")
        for event in risk.events:
            if event.kind == "escalated":
                trigger = triggers.get(event.trigger)
                found.append(
                    Escalation(
                        event_id=event.event_id,
                        trigger=event.trigger,
                        title=trigger.title if trigger else event.text,
                        to=trigger.to if trigger else "",
                        manager_id=manager,
                        manager=(names.get(manager) or manager) if manager else None,
                        escalated_at=to_second(event.at),
                        stage=risk.stage,
                        days_in_stage=risk.days_in_stage(now),
                        due_on=risk.due_on.isoformat() if risk.due_on else None,
                        overdue_days=risk.overdue_days(now.date()),
                        is_snoozed=risk.is_snoozed(now.date()),
                        **row,
                    )
                )
    return sorted(
        found, key=lambda item: (-(item.expected_arr_lost or 0.0), item.account_id, item.trigger)
    )
