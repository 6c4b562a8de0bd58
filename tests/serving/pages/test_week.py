"""Work on risks through the pages: forms, the week, news since the last look, past books."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.state_directory import new_folder
from serving.batch.score_book import SCORES
from serving.pages.context import AccountContext
from serving.pages.history.charts import HistoryCharts, sparkline
from serving.workflow.risk_cases import Event
from serving.workflow.risk_store import RiskStore, new_event_id
from serving.workflow.updates import news

ORIGIN = {"origin": "http://127.0.0.1"}
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TODAY = NOW.date()


def send(client, account, headers=ORIGIN, **fields):
    form = {"event_id": new_event_id(), **fields}
    return client.post(f"/accounts/{account}/events", data=form, headers=headers)


@pytest.fixture(scope="module")
def casebook(world):
    made = RiskStore.open(world.workspace, AccountContext(world.workspace).plays)
    yield made
    made.close()


def test_a_risk_lives_through_the_forms(client, casebook):
    opened = send(client, "A-0050", kind="opened", text="they told us on the phone")
    assert opened.status_code == 303
    assert opened.headers["location"] == "/accounts/A-0050#call"
    due = (TODAY + timedelta(days=4)).isoformat()
    assert send(
        client, "A-0050", kind="moved", stage="plan", play="check_in", on=due, text=""
    ).is_redirect
    page = " ".join(client.get("/accounts/A-0050").text.split())
    assert "Check in, due 6 Mar 2026" in page
    assert "they told us on the phone" in page
    assert send(client, "A-0050", kind="touch", on="2026-03-01", play="check_in", text="called")
    assert send(client, "A-0050", kind="moved", stage="recovered", text="").is_redirect
    assert casebook.risk("A-0050").stage == "recovered"
    assert [event.who for event in casebook.events("A-0050")] == ["local"] * 4


def test_a_form_sent_twice_counts_once(client, casebook):
    fields = {
        "event_id": new_event_id(),
        "kind": "fact",
        "on": "2026-03-01",
        "text": "moved office",
    }
    for _ in range(2):
        assert send(client, "A-0051", **fields).status_code == 303
    assert len(casebook.events("A-0051")) == 1


def test_what_a_page_was_loaded_before_is_a_conflict(client, casebook):
    send(client, "A-0052", kind="opened", text="x")
    seen = casebook.events("A-0052")[-1].event_id
    send(client, "A-0052", kind="moved", stage="saving", after=seen)
    late = send(client, "A-0052", kind="moved", stage="recovered", after=seen)
    assert late.status_code == 409
    assert "changed this account in the meantime" in late.text
    assert casebook.risk("A-0052").stage == "saving"


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"kind": "moved", "stage": "plan", "on": "2026-03-09"}, 422, "no risk of A-0053 is open"),
        ({"kind": "fact", "on": "yesterday", "text": "x"}, 422, "is not a day"),
        ({"kind": "fact", "on": "2026-03-03", "text": "x"}, 422, "today at the latest"),
        ({"kind": "escalated"}, 422, "one of"),
        ({"kind": "moved", "stage": "away"}, 422, "one of"),
        ({"kind": "fact", "on": "2026-03-01", "text": "x", "score": "0"}, 422, "unknown field"),
        ({"kind": "fact", "event_id": "1", "text": "x"}, 422, "load the page again"),
    ],
)
def test_a_wrong_form_is_told_and_keeps_nothing(client, casebook, fields, status, words):
    answer = send(client, "A-0053", **fields)
    assert answer.status_code == status
    assert words.lower() in answer.text.lower()
    assert casebook.events("A-0053") == []


def test_forms_of_other_sites_and_other_kinds_are_refused(client):
    fields = {"kind": "fact", "on": "2026-03-01", "text": "x"}
    for headers in ({}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert send(client, "A-0054", headers=headers, **fields).status_code == 403
    answer = client.post("/accounts/A-0054/events", json=fields, headers=ORIGIN)
    assert answer.status_code == 415
    assert send(client, "nobody", **fields).status_code == 404


def test_the_week_shows_what_is_open_by_owner(client, casebook, world):
    for i in (60, 61, 64, 68):
        send(client, f"A-{i:04d}", kind="opened", text="x")
    body = client.get("/week.json", params={"owner": "csm-0"}).json()
    (mine,) = body["owners"]
    shown = [work["account_id"] for work in (*mine["now"], *mine["waiting"])]
    assert {"A-0060", "A-0064", "A-0068"} <= set(shown)
    page = client.get("/week", params={"owner": "csm-0"}).text
    assert all(work["name"] in page for work in mine["now"])
    assert "Capacity this week:" in page
    text = client.get("/week.csv", params={"owner": "csm-0"}).text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["account_id"], line["when"]) for line in lines] == [
        (work["account_id"], when) for when in ("now", "waiting") for work in mine[when]
    ]
    body = client.get("/week.json").json()
    assert body["team"]["n"] == body["n_open"]
    assert body["team"]["waiting"] == sum(len(owner["waiting"]) for owner in body["owners"])
    assert body["team"]["capacity"] == sum(owner["capacity"] for owner in body["owners"])
    # One capacity: all owners together work the week's part of what the whole team works a month.
    per_month = world.workspace.company.serving.capacity_per_month
    assert 0 < body["team"]["capacity"] <= round(per_month * 7 / 30.4375)
    again = next(owner for owner in body["owners"] if owner["owner_id"] == "csm-0")
    assert again["capacity"] == mine["capacity"], "whoever reads it"
    everybody = client.get("/week").text
    assert everybody.count("/week?owner=") >= 1
    assert "No open risk" in client.get("/week", params={"owner": "nobody"}).text


def test_news_are_what_is_not_as_it_was(live):
    present = live.book.table
    earlier = present.to_pylist()
    scored = [row for row in earlier if row["status"] == "scored" and row["arr"]]
    worse = next(row for row in scored if row["risk_band"] == "elevated")
    gone, same = [row for row in scored if row is not worse][:2]
    worse["churn_risk"], worse["risk_band"] = worse["churn_risk"] / 3, "low"
    same["churn_risk"] += 0.001
    notice = next(row for row in earlier if row["status"] == "notice_given")
    notice["status"] = "scored"
    before = pa.Table.from_pylist([row for row in earlier if row is not gone], present.schema)
    told = {item.account_id: item for item in news(before, present)}
    assert told[gone["account_id"]].text == "is new"
    assert told[notice["account_id"]].kind == "notice"
    assert told[worse["account_id"]].kind == "worse"
    assert re.match(
        r"risk from [\d.]+\s% to [\d.]+\s%, now elevated", told[worse["account_id"]].text
    )
    assert same["account_id"] not in told
    assert news(present, present) == []


def earlier_book(state, live, run_id: str, as_of: str) -> None:
    """A book with all risks at nothing, published before the present one."""
    calm = {"churn_risk": 0.0, "risk_band": "low"}
    rows = live.book.table.to_pylist()
    before = [row | calm if row["status"] == "scored" else row for row in rows]
    manifest = {name: value for name, value in vars(live.book.run).items() if name != "folder"}
    manifest |= {"run_id": run_id, "as_of": as_of, "served_at": as_of}
    with new_folder(state.scores / run_id, manifest) as aside:
        pq.write_table(pa.Table.from_pylist(before, live.book.table.schema), aside / SCORES)


def test_who_looks_for_the_first_time_is_told_what_a_week_brought(fresh, live):
    last = datetime.fromisoformat(live.book.run.as_of)

    def told(who: str, seen: str = "") -> dict | None:
        desk = AccountContext(fresh)  # which books are older is found once
        if seen:
            desk.risks.look(who, seen)
        found = desk.book_context(live.book, live.book, who)["news"]
        desk.risks.close()
        return found

    assert told("ada") is None, "there is one book only"
    for days in (1, 5):
        earlier_book(fresh.state, live, f"{days}-days", (last - timedelta(days=days)).isoformat())
    assert told("ben")["since"] == (last - timedelta(days=5)).isoformat(), "the oldest there is"
    for days in (7, 14):
        earlier_book(fresh.state, live, f"{days}-days", (last - timedelta(days=days)).isoformat())
    first = told("cyd")
    assert first["since"] == (last - timedelta(days=7)).isoformat()
    assert first["items"]
    his = told("dan", "1-days")
    assert his["since"] == (last - timedelta(days=1)).isoformat(), "what he saw himself"


def test_news_are_of_the_accounts_somebody_sees(fresh, live):
    """The book Ada saw before had all risks at nothing; she sees the accounts of csm-1 alone."""
    run, rows = live.book.run, live.book.table.to_pylist()
    earlier_book(fresh.state, live, "before", run.as_of)
    desk = AccountContext(fresh)
    desk.risks.look("ada", "before")
    hers = live.book.seen_by(frozenset({"csm-1"}))
    told = desk.book_context(hers, live.book, "ada")["news"]
    everybody = desk.book_context(live.book, live.book, "ada")["news"]
    assert 0 < len(told["items"]) < len(everybody["items"])
    owner = {row["account_id"]: row["owner_id"] for row in rows}
    assert {owner[item.account_id] for item in told["items"]} == {"csm-1"}
    desk.risks.close()


def test_a_look_remembers_the_book_before(casebook):
    assert casebook.look("ada", "book-1") == ""
    assert casebook.look("ada", "book-1") == ""
    assert casebook.look("ada", "book-2") == "book-1"
    assert casebook.look("ada", "book-2") == "book-1"
    assert casebook.look("ben", "book-2") == ""


def test_one_book_draws_no_line(world, book):
    assert HistoryCharts(world.workspace.state).of(book) == {}
    assert sparkline([(TODAY, 0.2)]) is None


def test_the_book_page_says_what_is_new_to_the_reader(client):
    text = client.get("/").text
    assert not re.search("New since", text), "there is one book only"


def test_what_people_record_moves_no_score(client, casebook):
    before = client.get("/v1/accounts/A-0070/score").json()["churn_risk"]
    casebook.record(
        Event(new_event_id(), "A-0070", NOW, "Ada", "fact", on=TODAY, text="champion left")
    )
    assert client.get("/v1/accounts/A-0070/score").json()["churn_risk"] == before
