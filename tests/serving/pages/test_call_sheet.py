"""Call sheet: its facts against the files, its words, its buttons."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from statistics import median

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.formatting import day, money, percent
from configs.runtime.state_directory import State
from serving.pages.account.call_sheet import chart_of, family_of, reasons_of, sheet, words_of
from serving.pages.context import AccountContext
from serving.workflow.call_facts import (
    WEEKS,
    CallFacts,
    CallFactsReader,
    Mark,
    OpenTickets,
    OverdueInvoices,
    Person,
    UsageWeeks,
    Voice,
    masked_facts,
)
from serving.workflow.risk_store import RiskStore, new_event_id
from serving.workflow.source_rows import SourceRows
from tests.serving.pages.test_pages import Reader
from tests.serving.pages.test_week import send

AS_OF = date(2026, 3, 2)
NOW = datetime(2026, 3, 2)
NOTHING = CallFacts((), (), 0, None, None, None, ())


def ago(days: int, hour: int = 9) -> datetime:
    return NOW - timedelta(days=days) + timedelta(hours=hour)


def write(state: State, table: str, rows: list[dict]) -> None:
    folder = state.sources / table
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")


@pytest.fixture
def reader(tmp_path):
    """One account with texts, people, open and closed matters; some rows are known too late."""
    state = State(tmp_path)
    write(state, "support_tickets", [
        {"account_id": "A", "ticket_id": "T1", "opened_at": ago(40), "known_at": ago(40),
         "resolved_at": None, "text": "Export fails again"},
        {"account_id": "A", "ticket_id": "T2", "opened_at": ago(30), "known_at": ago(30),
         "resolved_at": ago(10), "text": "Solved by now"},
        {"account_id": "A", "ticket_id": "T3", "opened_at": ago(5), "known_at": NOW
         + timedelta(hours=1), "resolved_at": None, "text": "not known yet"},
        {"account_id": "B", "ticket_id": "T4", "opened_at": ago(3), "known_at": ago(3),
         "resolved_at": None, "text": "of another account"},
    ])  # fmt: skip
    write(state, "survey_responses", [
        {"account_id": "A", "respondent_id": "ann@acme.example", "responded_at": ago(20),
         "known_at": ago(20), "kind": "nps", "score": 3.0, "comment": "Too slow for us"},
        {"account_id": "A", "respondent_id": "bob", "responded_at": ago(400),
         "known_at": ago(400), "kind": "nps", "score": 9.0, "comment": "long ago"},
    ])  # fmt: skip
    write(state, "touches", [
        {"account_id": "A", "touched_at": ago(days), "known_at": ago(days), "kind": "call",
         "initiated_by": who, "text": text}
        for days, who, text in ((25, "account", "They ask for a discount"), (1, "us", "Our note"))
    ])  # fmt: skip
    write(state, "contacts", [
        {"account_id": "A", "contact_id": name, "known_at": ago(300), "role": role,
         "is_champion": champion, "left_at": left}
        for name, role, champion, left in (
            ("ann@acme.example", "admin", False, None),
            ("cyd", "sponsor", True, None),
            ("dan", "user", False, ago(60)),
        )
    ])  # fmt: skip
    write(state, "invoices", [
        {"account_id": "A", "invoice_id": number, "issued_on": ago(60), "known_at": ago(60),
         "due_on": due, "paid_on": paid, "amount": amount, "currency": "EUR", "status": status,
         "is_failed_charge": number == "I6"}
        for number, due, paid, amount, status in (
            ("I1", ago(30, 0), None, 100.0, "open"),
            ("I2", ago(12, 0), None, 50.0, "open"),
            ("I3", ago(30, 0), ago(20, 0), 70.0, "paid"),
            ("I4", ago(30, 0), None, 80.0, "Void"),
            ("I5", NOW + timedelta(days=3), None, 90.0, "open"),
            ("I6", ago(30, 0), None, 60.0, "open"),
        )
    ])  # fmt: skip
    use = [("A", "ann@acme.example", 3), ("A", "bob", 3), ("A", "bob", 9)]
    use += [
        (name, f"{name}{n}", 2) for name in "BCD" for n in range({"B": 1, "C": 2, "D": 6}[name])
    ]
    write(state, "usage_events", [
        {"account_id": account, "user_id": user, "occurred_at": ago(days), "known_at": ago(days)}
        for account, user, days in use
    ])  # fmt: skip
    rows = SourceRows(state)
    yield CallFactsReader(rows)
    rows.close()


def test_only_what_was_known_is_told(reader):
    facts = reader.facts("A", AS_OF)
    assert [(voice.kind, voice.text) for voice in facts.voices] == [
        ("NPS 3", "Too slow for us"), ("call", "They ask for a discount"),
        ("ticket T2", "Solved by now"),
    ]  # fmt: skip
    assert facts.tickets == OpenTickets(1, "T1", ago(40).date())
    assert facts.invoices == OverdueInvoices(2, 150.0, "EUR", 30)
    assert reader.facts("A", AS_OF + timedelta(days=1)).tickets.n == 2
    assert reader.facts("A-404", AS_OF).voices == ()


def test_amounts_in_several_currencies_are_not_added_up(tmp_path):
    state = State(tmp_path)
    write(state, "invoices", [
        {"account_id": "A", "invoice_id": currency, "issued_on": ago(60), "known_at": ago(60),
         "due_on": ago(30, 0), "amount": 100.0, "currency": currency}
        for currency in ("EUR", "USD", "GBP")
    ])  # fmt: skip
    rows = SourceRows(state)
    facts = CallFactsReader(rows).facts("A", AS_OF)
    rows.close()
    assert facts.invoices == OverdueInvoices(3, None, "", 30)
    words = words_of({"account_id": "A"}, None, facts)
    assert words["invoices"] == "3 overdue invoices (30 days late)"


def test_people_who_left_are_not_named_and_champions_come_first(reader):
    facts = reader.facts("A", AS_OF)
    assert facts.people == (
        Person("cyd", "sponsor", True, None),
        Person("ann@acme.example", "admin", False, ago(3).date()),
    )
    assert facts.n_people == 2
    hidden = masked_facts(facts)
    assert [person.contact_id for person in hidden.people] == ["c…", "a…@acme.example"]
    assert hidden.voices[0].who == "a…@acme.example"


def test_the_line_of_similar_accounts_is_their_median(reader):
    usage = reader.facts("A", AS_OF, ["B", "C", "D"]).usage
    assert usage.values[-2:] == (1, 2)
    assert sum(usage.values) == 3
    assert usage.peers[-1] == 2.0
    assert len(usage.values) == len(usage.peers) == WEEKS
    assert reader.facts("A", AS_OF, ["B", "C"]).usage.peers[-1] == 1.5


def test_events_stand_in_their_week(reader):
    marks = {(mark.kind, mark.text): mark.week for mark in reader.facts("A", AS_OF).marks}
    assert marks["survey", "NPS 3"] == WEEKS - 1 - 19 // 7
    assert marks["ticket", "ticket T1"] == WEEKS - 1 - 39 // 7
    assert ("invoice", "invoice I1 due") in marks
    assert ("ticket", "ticket T3") not in marks
    assert not any(text == "NPS 9" for _, text in marks)


def test_weeks_and_peers_of_the_served_company_come_from_its_file(client, world, live):
    account = next(row for row in live.book.table.to_pylist() if row["status"] == "scored")
    rows = duckdb.connect().execute(
        "SELECT account_id, occurred_at::DATE, user_id FROM"
        f" read_csv('{world.workspace.data}/usage_events.csv')"
    ).fetchall()  # fmt: skip
    last = AS_OF - timedelta(days=1)

    def users(name: str, until: date = last) -> int:
        since = until - timedelta(days=6)
        return len({who for of, when, who in rows if of == name and since <= when <= until})

    alike = [
        row["account_id"] for row in live.book.table.to_pylist()
        if row["segment"] == account["segment"] and row["status"] == "scored"
    ]  # fmt: skip
    facts = CallFactsReader(SourceRows(world.workspace.state)).facts(
        account["account_id"], AS_OF, alike
    )
    assert facts.usage.values == tuple(
        users(account["account_id"], until) for until in facts.usage.ends_on
    )
    assert facts.usage.peers[-1] == median(users(name) for name in alike)
    page = Reader(client.get(f"/accounts/{account['account_id']}").text).text
    assert f"week to 1 Mar 2026: {facts.usage.values[-1]}" in page


def test_the_chart_has_one_bar_per_week_in_proportion():
    usage = UsageWeeks((AS_OF,) * WEEKS, (*range(WEEKS - 1), 40), (20.0,) * WEEKS, "active users")
    marks = [
        Mark(3, "ticket", AS_OF, ""),
        Mark(3, "ticket", AS_OF, ""),
        Mark(9, "survey", AS_OF, ""),
    ]
    chart = chart_of(usage, marks)
    heights = [height for _, _, _, height in chart.bars]
    assert chart.top == 40
    assert heights[20] == pytest.approx(heights[10] * 2)
    assert [(mark.kind, mark.n) for mark in chart.marks] == [("ticket", 2), ("survey", 1)]
    assert chart.kinds == ["ticket", "survey"]
    assert len(chart.peers.split()) == WEEKS


def test_steps_quote_what_is_known():
    facts = CallFacts(
        (Voice(AS_OF, "NPS 3", "ann", "slow"),),
        (Person("cyd", "sponsor", True, None),), 1,
        OpenTickets(3, "T1", date(2026, 2, 1)), OverdueInvoices(1, 4500.0, "EUR", 32), None, (),
    )  # fmt: skip
    words = words_of({"account_id": "A", "renewal": {"renews_on": "2026-05-13"}}, None, facts)
    assert words == {
        "renewal": "the renewal on 13 May 2026",
        "tickets": "3 open tickets (oldest T1 of 1 Feb 2026)",
        "invoices": "1 overdue invoice, €4.5k (32 days late)",
        "survey": "NPS 3 of 2 Mar 2026",
        "person": "cyd (sponsor)",
    }
    assert words_of({"account_id": "A"}, None, NOTHING) == {}


def test_each_reason_is_a_sentence_with_its_points(client, live):
    row = next(row for row in live.book.table.to_pylist() if row["reason_codes"])
    score = client.get(f"/v1/accounts/{row['account_id']}/score").json()
    risk = next(part for part in score["scores"].values() if part["outcome"] == "churn")
    told = reasons_of(risk)
    assert len(told) == min(len(risk["raises"]), 3) > 0
    for text, reason in zip(told, risk["raises"], strict=False):
        assert f"(+{100 * reason['points']:.1f}\N{NO-BREAK SPACE}points): " in text
    assert row["reason_points"] == [reason["points"] for reason in risk["raises"]]


def test_the_headline_names_the_outcome_and_the_days(client, live):
    row = next(row for row in live.book.table.to_pylist() if row["churn_asks_about"] == "renewal")
    answer = client.get(f"/v1/accounts/{row['account_id']}/score").json()
    risk = next(part for part in answer["scores"].values() if part["outcome"] == "churn")

    def numbers(**changes) -> str:
        made = sheet(answer, risk | changes, None, None, currency="GBP", today=AS_OF)
        return ", ".join(made["headline"]["numbers"])

    chance, ends = percent(risk["probability"]), day(row["renews_on"])
    worth = f"{money(row['arr'], 'GBP')} ARR"
    assert numbers().startswith(f"{chance} likely to leave at the renewal on {ends}, {worth}")
    assert numbers(outcome="contraction").startswith(f"{chance} likely to shrink")
    assert numbers(verdict="no_signal").startswith(f"{chance} on average")
    assert numbers(asks_about="horizon").startswith(
        f"{chance} likely to leave by {day(risk['until'])}"
    )


def test_the_family_is_the_parent_and_all_below_it():
    table = pa.table({
        "account_id": ["P", "a", "b", "c", "x"],
        "parent_account_id": [None, "P", "P", "P", None],
        "arr": [None, 5.0, 9.0, 1.0, 100.0],
    })  # fmt: skip
    names = [row["account_id"] for row in family_of(table, "a", "P")]
    assert names == ["b", "c", "P"]
    assert [row["account_id"] for row in family_of(table, "P", None)] == ["b", "a", "c"]
    assert family_of(table, "x", None) == []


def test_plan_opens_a_risk_and_done_makes_room_for_the_next_play(client, world):
    account = "A-0060"
    risks = RiskStore.open(world.workspace, AccountContext(world.workspace).plays)
    plan = {"kind": "plan", "on": "2026-03-10", "play": "check_in", "event_id": new_event_id()}
    for _ in range(2):  # the button is pressed twice
        assert send(client, account, **plan).headers["location"] == f"/accounts/{account}#call"
    assert "Check in by 10 Mar 2026" in Reader(client.get(f"/accounts/{account}").text).text
    assert [(event.kind, event.stage) for event in risks.events(account)] == [
        ("opened", "open"), ("moved", "plan"),
    ]  # fmt: skip
    done = {"kind": "done", "play": "check_in", "event_id": new_event_id()}
    for _ in range(2):
        assert send(client, account, **done).status_code == 303
    assert [event.kind for event in risks.events(account)] == ["opened", "moved", "touch", "moved"]
    assert risks.risk(account).stage == "open"
    assert "Check in by 10 Mar 2026" not in Reader(client.get(f"/accounts/{account}").text).text
    assert send(client, account, kind="moved", stage="recovered", text="").is_redirect
    risks.close()
