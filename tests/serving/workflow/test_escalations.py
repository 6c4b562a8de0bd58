"""Escalations: what a named role should hear, on a page, as its twins, and to other systems."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.pages.context import AccountContext
from serving.pages.lists.escalations import view
from serving.workflow.escalations import COLUMNS, escalated
from serving.workflow.risk_cases import Event
from serving.workflow.risk_store import RiskStore, new_event_id

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LATE = "A-0080"


@pytest.fixture(scope="module")
def plays(world):
    return AccountContext(world.workspace).plays


@pytest.fixture(scope="module")
def casebook(world, plays):
    made = RiskStore.open(world.workspace, plays)
    yield made
    made.close()


@pytest.fixture(scope="module")
def told(casebook, plays, live):
    """One plan of a high risk that is ten days late: what is escalated of it."""
    then = NOW - timedelta(days=24)
    row = next(row for row in live.book.table.to_pylist() if row["account_id"] == LATE)
    casebook.record(Event(new_event_id(), LATE, then, "Ada", "opened", "open", text="x"))
    casebook.record(
        Event(new_event_id(), LATE, then, "Ada", "moved", "plan", on=(then.date()), play="check_in")
    )
    fired = casebook.escalate([row], NOW)
    assert [(entity, trigger.id) for entity, trigger in fired] == [(LATE, "overdue")]
    managers = {row["owner_id"]: "boss"}
    yield escalated(live.book.table, casebook.escalated_risks(), plays, managers, NOW)
    casebook.record(Event(new_event_id(), LATE, NOW, "Ada", "moved", "recovered"))
    assert LATE not in casebook.escalated_risks()


def test_what_is_told_names_role_owner_manager_and_where_the_risk_stands(told, live):
    (item,) = told
    assert (item.account_id, item.trigger, item.to) == (LATE, "overdue", "manager")
    assert (item.manager_id, item.manager) == ("boss", "boss")
    assert (item.stage, item.overdue_days, item.is_snoozed) == ("plan", 24, False)
    row = next(row for row in live.book.table.to_pylist() if row["account_id"] == LATE)
    for name in ("owner", "churn_risk", "risk_band", "arr", "expected_arr_lost"):
        assert getattr(item, name) == row[name]
    assert set(asdict(item)) == set(COLUMNS)


def test_the_page_and_its_twins_say_the_same(told, client):
    page = " ".join(client.get("/escalations").text.split())
    assert "1 open risk, highest expected loss first" in page
    assert "For the manager" in page
    assert told[0].title in page
    assert "24 days late" in page
    (item,) = client.get("/escalations.json").json()["escalations"]
    assert (item["event_id"], item["to"]) == (told[0].event_id, "manager")
    (line,) = csv.DictReader(io.StringIO(client.get("/escalations.csv").text))
    assert line == {name: line[name] for name in COLUMNS}
    assert (line["account_id"], line["title"]) == (LATE, told[0].title)
    assert "1 open escalation" in " ".join(client.get("/").text.replace("</a>", "").split())


def test_only_those_for_a_role_are_listed_when_asked(told, client):
    assert client.get("/escalations.json", params={"to": "manager"}).json()["escalations"]
    assert client.get("/escalations.json", params={"to": "leader"}).json()["escalations"] == []
    text = " ".join(client.get("/escalations", params={"to": "leader"}).text.split())
    assert "No escalations for the leader" in text
    assert client.get("/escalations", params={"to": "<b>"}).status_code == 422


def test_what_is_for_the_reader_comes_first(told, live):
    other = replace(told[0], to="leader")
    mine = view(live.book, [*told, other], to="", role="leader")
    assert [role for role, _ in mine["roles"]] == ["leader", "manager"]


def test_nobody_hears_of_accounts_they_do_not_see(told, live, casebook, plays):
    risks = casebook.escalated_risks()
    for owners, n in (({told[0].owner_id}, 1), ({"somebody else"}, 0)):
        seen = live.book.seen_by(frozenset(owners)).table
        assert len(escalated(seen, risks, plays, {}, NOW)) == n
