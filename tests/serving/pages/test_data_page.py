"""Data page: the numbers of the quality report, freshness, and who may see it."""

from __future__ import annotations

import csv
import io
import json
from datetime import date

import duckdb
import pytest

from configs.runtime.state_directory import State
from features.quality import check_and_keep
from features.sources.load import load_sources
from serving.pages.portfolio.data_page import view
from tests.serving.pages.test_pages import Reader


@pytest.fixture(scope="module")
def report(world):
    """The report of the served company, kept as a run keeps it."""
    workspace = world.workspace
    now = workspace.company.clock()
    return check_and_keep(workspace, load_sources(workspace, now, lambda _: None), now)


def test_before_the_first_load_the_page_says_so(tmp_path):
    found = view(State(tmp_path))
    assert (found["grade"], found["tables"], found["refresh"]) == ("", [], None)


def test_tables_show_the_rows_and_days_of_their_files(client, report, world):
    body = client.get("/data.json").json()
    assert body["grade"] == report.grade
    told = {row["table"]: row for row in body["tables"]}
    for name in ("usage_events", "support_tickets"):
        moment = {"usage_events": "occurred_at", "support_tickets": "opened_at"}[name]
        n, last = duckdb.connect().execute(
            f"SELECT count(*), max({moment})::DATE"
            f" FROM read_csv('{world.workspace.data}/{name}.csv')"
        ).fetchone()  # fmt: skip
        row = told[name]
        assert row["read"] == n == row["kept"] + row["aside"] + row["copies"]
        assert row["last_on"] == last.isoformat()
        as_of = date.fromisoformat(report.now[:10])
        assert row["days_old"] == (as_of - date.fromisoformat(row["known_on"])).days


def test_every_issue_is_listed_with_what_to_do(client, report):
    lines = list(csv.DictReader(io.StringIO(client.get("/data.csv").text)))
    assert [line["code"] for line in lines] == [issue.code for issue in report.issues]
    page = Reader(client.get("/data").text).text
    for issue in report.issues:
        assert " ".join(issue.to_do.split()) in page
    for table, words in report.gaps.items():
        assert table in page
        assert words[1:] in page


def test_readiness_names_the_reason_next_to_its_table(client, report, world):
    path = world.workspace.state.quality_report
    kept = path.read_text()
    broken = json.loads(kept)
    broken["readiness"][0] |= {
        "status": "not_ready",
        "reasons": [{"code": "late", "table": "usage_events", "words": "no rows for 9 days",
                     "to_do": "check the export", "stops": True}],
    }  # fmt: skip
    try:
        path.write_text(json.dumps(broken))
        page = Reader(client.get("/data").text).text
        rows = client.get("/data.json").json()["tables"]
        problem = {row["table"]: row["problem"] for row in rows}
    finally:
        path.write_text(kept)
    assert "not ready usage_events: no rows for 9 days check the export" in page
    assert problem["usage_events"] == "no rows for 9 days"


def test_only_readers_of_the_whole_company_see_it(live, client_for, monkeypatch):
    monkeypatch.setattr(
        "serving.pages.portfolio.reports.visible_owners", lambda *_: frozenset({"csm-1"})
    )
    answer = client_for(live).get("/data.json")
    assert answer.status_code == 403
