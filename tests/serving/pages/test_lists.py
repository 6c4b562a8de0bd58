"""Home: ready-made lists, next steps, and the page of changes."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime

import openpyxl
import pyarrow as pa
import pytest

from configs.schema.plays import parse_plays
from serving.batch.filters import ANY, CURRENT, Filters, positions
from serving.pages.lists.book import USUAL, special_lists, view
from serving.pages.lists.changes import grouped
from serving.pages.lists.chips import NOTICE_DAYS, chips, chosen_rows
from serving.scoring.workbook import workbook
from serving.workflow.next_steps import NextStep, next_step, with_plan
from serving.workflow.risk_cases import Event
from serving.workflow.updates import GROUPS, news
from tests.serving.pages.test_pages import Reader

DAY = date(2026, 3, 2)
AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


def opened(entity: str) -> Event:
    return Event(f"{entity}-1", entity, AT, "bellwether", "opened", "open")


def moved(entity: str, stage: str, **rest) -> Event:
    return Event(f"{entity}-{stage}", entity, AT, "Ada", "moved", stage, **rest)


def rows_of(client, **asked) -> list[dict]:
    return client.get("/book.json", params=asked).json()["rows"]


def counted(client, **asked) -> dict[str, int]:
    words = Reader(client.get("/", params=asked).text).text
    names = ("All", f"Notice in {NOTICE_DAYS} days", "Up this week", "High risk",
             "Ready to grow", "Nothing planned")  # fmt: skip
    return {name: int(words.split(f"{name} ", 1)[1].split()[0].replace(",", "")) for name in names}


def test_closed_accounts_are_one_click_away_and_in_no_count(client):
    everything = rows_of(client, status=ANY)
    current = [row for row in everything if row["status"] != "closed"]
    assert 0 < len(current) < len(everything)
    assert {row["account_id"] for row in rows_of(client)} == {row["account_id"] for row in current}
    page = Reader(client.get("/").text)
    assert f"{len(current)} accounts, ordered by priority" in page.text
    assert "/?status=closed" in page.addresses
    assert {row["status"] for row in rows_of(client, status="closed")} == {"closed"}
    assert len(rows_of(client, status="closed")) == len(everything) - len(current)


def test_each_chip_holds_as_many_accounts_as_its_list(client):
    rows, counts = rows_of(client), counted(client)
    due = [row for row in rows if 0 <= (row["days_to_notice"] or -1) <= NOTICE_DAYS]
    today = [row for row in rows if row["days_to_notice"] == 0]
    assert counts["All"] == len(rows)
    assert counts[f"Notice in {NOTICE_DAYS} days"] == len({r["account_id"] for r in due + today})
    assert counts["High risk"] == sum(row["risk_band"] == "high" for row in rows)
    ready = [
        row
        for row in rows
        if row["expansion_is_eligible"] and row["expansion_band"] in ("high", "elevated")
    ]
    assert counts["Ready to grow"] == len(ready) > 0
    assert counts["Nothing planned"] == len(rows_of(client, show="unplanned"))
    assert counts["Up this week"] == len(rows_of(client, show="up"))
    own = counted(client, owner="csm-1")
    assert own["All"] == sum(row["owner_id"] == "csm-1" for row in rows) < counts["All"]


def test_a_list_is_the_same_on_the_page_and_as_csv_and_json(client):
    for asked in ({"show": "unplanned"}, {"notice_within": 30}, {"expansion": "eligible"}, {}):
        json_rows = rows_of(client, **asked)
        lines = list(csv.DictReader(io.StringIO(client.get("/book.csv", params=asked).text)))
        assert [row["account_id"] for row in lines] == [row["account_id"] for row in json_rows]
        shown = [path for path in Reader(client.get("/", params=asked).text).addresses
                 if path.startswith("/accounts/")]  # fmt: skip
        first = [f"/accounts/{row['account_id']}" for row in json_rows[:100]]
        assert [path for path in shown if path in set(first)][: len(first)] == first


def test_an_account_is_unplanned_until_a_person_plans_snoozes_or_starts(live):
    table = live.book.table
    risky = [
        row["account_id"]
        for row in table.to_pylist()
        if row["status"] == "scored" and row["risk_band"] in ("high", "elevated")
    ]
    a, b, c, d = risky[:4]
    histories = {
        a: [opened(a)],
        b: [opened(b), moved(b, "plan", on=date(2026, 3, 9), play="")],
        c: [opened(c), Event("c-2", c, AT, "Ada", "snoozed", on=date(2026, 3, 3))],
        d: [opened(d), moved(d, "saving"), moved(d, "recovered")],
    }
    assert sorted(with_plan(histories, DAY)) == sorted([b, c])
    lists = special_lists(table, [], histories, DAY)
    assert set(lists["unplanned"]) == set(risky) - {b, c}
    assert c in special_lists(table, [], histories, date(2026, 3, 3))["unplanned"]
    assert special_lists(table, None, None, DAY) == {}


def test_a_chip_without_its_data_is_left_out(live):
    made = chips(live.book.table, USUAL, "", {}, USUAL)
    assert [chip.label for chip in made if chip.is_on] == ["All"]
    assert "Nothing planned" not in {chip.label for chip in made}
    assert len(chosen_rows(live.book.table, USUAL, "up", {})) == 0


def test_an_empty_book_has_empty_lists(live):
    empty = replace(live.book, table=live.book.table.slice(0, 0))
    lists = special_lists(empty.table, [], {}, DAY)
    shown = view(empty, USUAL, 1, "", lists, is_stale=False)
    assert shown["rows"] == []
    assert {chip.n for chip in shown["chips"]} == {0}
    assert shown["totals"]["arr"] == 0


def test_notice_within_counts_today_and_the_last_day():
    table = pa.table({
        "account_id": list("abcde"),
        "rank": [1, 2, 3, 4, 5],
        "days_to_notice": pa.array([0, 30, 31, -1, None], pa.int64()),
        "status": ["scored"] * 4 + ["closed"],
        "name": list("abcde"),
    })  # fmt: skip
    found = positions(table, Filters(sort="name", notice_within=30))
    assert found.to_pylist() == [0, 1]
    assert positions(table, Filters(sort="name", status=CURRENT)).to_pylist() == [0, 1, 2, 3]
    assert positions(table, Filters(sort="name", status=ANY)).to_pylist() == [0, 1, 2, 3, 4]
    with pytest.raises(TypeError):
        Filters().as_query()  # the defaults depend on the page
    assert replace(USUAL, band="high").as_query(USUAL) == {"band": "high"}


PLAYS = parse_plays(
    {
        "plays": [
            {"id": "call", "title": "Call them", "steps": ["Call"], "when": {"bands": ["high"]}},
            {"id": "visit", "title": "Visit them", "steps": ["Go"]},
        ]
    },
    where="test",
)


@pytest.fixture
def row(live) -> dict:
    row = next(row for row in live.book.table.to_pylist() if row["status"] == "scored")
    return row | {"risk_band": "high", "churn_verdict": "promotable", "days_to_notice": 60}


def test_the_next_step_is_the_plan_or_else_the_suggestion(row):
    entity = row["account_id"]
    suggested = NextStep("Call them", date(2026, 3, 9))
    assert next_step(row, [], PLAYS, DAY) == suggested
    assert next_step(row, [opened(entity)], PLAYS, DAY) == suggested
    plan = [opened(entity), moved(entity, "plan", on=date(2026, 3, 5), play="visit")]
    assert next_step(row, plan, PLAYS, DAY) == NextStep("Visit them", date(2026, 3, 5), True)
    assert next_step(row, plan, PLAYS, date(2026, 3, 8)).overdue_days == 3
    plain = [opened(entity), moved(entity, "plan", on=date(2026, 3, 5))]
    assert next_step(row, plain, PLAYS, DAY).text == "Play planned"
    snoozed = [*plan, Event("s", entity, AT, "Ada", "snoozed", on=date(2026, 4, 1))]
    assert next_step(row, snoozed, PLAYS, DAY).snoozed_until == date(2026, 4, 1)
    over = [*plan, moved(entity, "recovered")]
    assert next_step(row, over, PLAYS, DAY).is_planned is False
    assert next_step(row | {"status": "too_new"}, [], PLAYS, DAY) == NextStep()


def test_changes_are_grouped_and_none_is_lost(client, live):
    present = live.book.table
    rows = present.to_pylist()
    scored = [row for row in rows if row["status"] == "scored"]
    before = [dict(row) for row in rows if row is not scored[0]]
    for row in before:
        if row["account_id"] == scored[1]["account_id"]:
            row["churn_risk"], row["risk_band"] = 0.0, "low"
        elif row["status"] in ("notice_given", "closed"):
            row["status"] = "scored"
    found = news(pa.Table.from_pylist(before, present.schema), present)
    groups = dict(grouped({"since": "2026-02-23", "items": found}))
    assert sum(len(items) for items in groups.values()) == len(found)
    assert {kind for _, kinds in GROUPS for kind in kinds} >= {item.kind for item in found}
    closed = {row["account_id"] for row in rows if row["status"] == "closed"}
    assert {item.account_id for item in groups["Closed"]} == closed
    assert [item.account_id for item in groups["New"]] == [scored[0]["account_id"]]
    assert scored[1]["account_id"] in {item.account_id for item in groups["Risk rose"]}


def test_the_changes_page_and_its_downloads_agree(client):
    for since in ("visit", "week"):
        body = client.get("/changes.json", params={"since": since}).json()
        lines = list(
            csv.DictReader(io.StringIO(client.get("/changes.csv", params={"since": since}).text))
        )
        assert lines == body["rows"]
        assert client.get("/changes", params={"since": since}).status_code == 200
    assert client.get("/changes", params={"since": "year"}).status_code == 422


def test_the_workbook_holds_the_same_rows_with_typed_cells(client):
    answer = client.get("/book.xlsx", params={"band": "elevated"})
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).active
    head, *cells = sheet.iter_rows(values_only=True)
    rows = rows_of(client, band="elevated")
    assert len(cells) == len(rows) > 10
    for line, row in zip(cells, rows, strict=True):
        told = dict(zip(head, line, strict=True))
        assert told["account_id"] == row["account_id"]
        assert told["churn_risk"] == pytest.approx(row["churn_risk"], rel=1e-14)
        assert told["arr"] == row["arr"]
        assert told["is_stale"] is row["is_stale"]
        if row["renews_on"]:
            assert told["renews_on"] == datetime.fromisoformat(row["renews_on"])
    assert sheet.freeze_panes == "A2"


def test_a_text_is_no_formula_in_a_workbook():
    content = workbook("x", ["name", "url"], [{"name": "=1+1", "url": "http://example.org"}, {}])
    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    assert (sheet["A2"].value, sheet["A2"].data_type) == ("=1+1", "s")
    assert sheet["B2"].hyperlink is None
    assert openpyxl.load_workbook(io.BytesIO(workbook("x", ["a"], []))).active["A1"].value == "a"


def test_search_leads_to_the_account_or_to_the_list(client):
    def go(words: str) -> str:
        return client.request("GET", "/search", params={"q": words}).headers["location"]

    rows = rows_of(client, status=ANY)
    closed = next(row for row in rows if row["status"] == "closed")
    assert go(closed["account_id"]) == f"/accounts/{closed['account_id']}"
    assert go("Company 201") == "/accounts/A-0201"
    assert go("company") == "/?q=company&status=any"
    assert go("no such name") == "/?q=no+such+name&status=any"
    assert go("  ") == "/?status=any"
    told = client.get("/search.json", params={"q": "company 20"}).json()["rows"]
    assert told[0] == {
        "account_id": "A-0020", "name": "Company 20", "status": told[0]["status"],
        "address": "/accounts/A-0020",
    }  # fmt: skip
    assert len(told) == 8
    assert client.get("/search.json").json() == {"rows": []}
