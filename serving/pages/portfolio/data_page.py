"""Data page: readiness, grade, freshness of each table, issues, and what other tables would add."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, TypedDict

from fastapi import Depends
from starlette.responses import Response

from configs.runtime.state_directory import State, read_json
from serving.monitoring.refresh_records import STATUS_WORDS, RefreshRecords
from serving.online.current_state import Live
from serving.pages.common import PageRouter, as_csv, as_json, common, csv_of
from serving.pages.portfolio.reports import require_whole_company
from serving.pages.templating import page

LISTED = 8
"""Most affected accounts named per issue."""

LEVELS = {"ready": "ready", "degraded": "degraded", "not_ready": "not ready"}

COLUMNS = (
    "severity", "grade", "table", "code", "title", "detail", "rows", "share", "affects", "to_do",
)  # fmt: skip
"""Columns of the CSV version: one row per issue."""


class TableRow(TypedDict):
    """Freshness and completeness of one table.

    ``days_old`` is the days from the last known row to the as_of of the report, ``aside`` the rows
    that could not be used, ``problem`` the reason why a prediction is degraded or not ready.
    """

    table: str
    read: int
    kept: int
    aside: int
    copies: int
    last_on: str | None
    known_on: str | None
    days_old: int | None
    problem: str


router = PageRouter(dependencies=[Depends(require_whole_company)])


def data_values(live: Live) -> dict[str, Any]:
    """Return the template values of the page."""
    return view(live.workspace.state)


Values = Annotated[dict[str, Any], Depends(data_values)]


@router.page("/data")
def data_page(live: Live, found: Values) -> Response:
    """Return the page of the data."""
    return page("data.html", **common(live, "data"), **found)


@router.get("/data.json")
def data_json(found: Values) -> Response:
    """Return the quality report and the readiness as JSON."""
    return as_json(found)


@router.get("/data.csv")
def data_csv(found: Values) -> Response:
    """Return the issues as CSV, worst first."""
    return as_csv("data-issues", csv_of(COLUMNS, found["issues"]))


def view(state: State) -> dict[str, Any]:
    """Return the template values of the page; ``grade`` is empty before the first load.

    Raises
    ------
    StateError
        A file is damaged.
    """
    path = state.quality_report
    report: dict[str, Any] = read_json(path) if path.is_file() else {}
    last = RefreshRecords(state).latest()
    readiness = report.get("readiness", [])
    problems: dict[str, str] = {}
    for item in readiness:
        for reason in item["reasons"]:
            problems.setdefault(reason["table"], reason["words"])
    now = report.get("now", "")
    return {
        "grade": report.get("grade", ""),
        "checked_at": now,
        "readiness": [{**item, "words": LEVELS.get(item["status"], item["status"])}
                      for item in readiness],
        "tables": [
            _table(name, facts, now, problems.get(name, ""))
            for name, facts in report.get("tables", {}).items()
        ],
        "issues": report.get("issues", []),
        "gaps": [
            {"table": name, "words": words, "measured": report["gap_values"].get(name, "")}
            for name, words in report.get("gaps", {}).items()
        ],
        "refresh": {"status": STATUS_WORDS[last.status], "at": last.started_at,
                    "reason": last.reason, "to_do": last.to_do} if last else None,
        "most_accounts": LISTED,
    }  # fmt: skip


def _table(name: str, facts: Mapping[str, Any], now: str, problem: str) -> TableRow:
    known = (facts.get("last_known") or "")[:10] or None
    days = (date.fromisoformat(now[:10]) - date.fromisoformat(known)).days if known else None
    return {
        "table": name,
        "read": facts["rows_read"],
        "kept": facts["rows"],
        "aside": facts["rows_quarantined"],
        "copies": facts["rows_duplicate"],
        "last_on": (facts["last_happened"] or "")[:10] or None,
        "known_on": known,
        "days_old": days,
        "problem": problem,
    }
