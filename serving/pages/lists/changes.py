"""Changes page: everything that is different from an earlier score run, in groups."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from starlette.responses import Response

from serving.auth.permissions import caller_of
from serving.online.current_state import Live
from serving.pages.common import Book, PageRouter, as_csv, as_json, common, csv_of
from serving.pages.context import Context, News
from serving.pages.templating import page
from serving.workflow.updates import GROUPS, Update

Since = Annotated[
    Literal["visit", "week"],
    Query(description="compare with the scores of the last visit, or of a week ago"),
]

COLUMNS = ("group", "account_id", "name", "kind", "text")
"""Columns of the CSV version."""

router = PageRouter()


def changes_values(
    request: Request, live: Live, book: Book, context: Context, since: Since = "visit"
) -> dict[str, Any]:
    """Return the template values of the page that a request asks for."""
    assert live.book is not None  # otherwise `Book` has refused the request
    who = caller_of(request).name
    found = context.news(book, live.book, who, of_week=since == "week")
    groups = grouped(found)
    return {
        "run": book.run,
        "since": since,
        "compared": found and found["since"],
        "groups": groups,
        "n": sum(len(items) for _, items in groups),
    }


Values = Annotated[dict[str, Any], Depends(changes_values)]


def grouped(found: News | None) -> list[tuple[str, list[Update]]]:
    """Return the updates in the groups of `GROUPS`, without empty ones."""
    items = found["items"] if found else []
    made = [(title, [item for item in items if item.kind in kinds]) for title, kinds in GROUPS]
    return [(title, own) for title, own in made if own]


@router.page("/changes")
def changes_page(live: Live, found: Values) -> Response:
    """Return the page of changes."""
    return page("changes.html", **common(live, "changes"), **found)


@router.get("/changes.json")
def changes_json(found: Values) -> Response:
    """Return the changes as JSON."""
    return as_json(
        {
            "book_id": found["run"].run_id,
            "as_of": found["run"].as_of,
            "compared_with": found["compared"],
            "rows": _rows(found),
        }
    )


@router.get("/changes.csv")
def changes_csv(found: Values) -> Response:
    """Return the changes as CSV."""
    return as_csv(f"changes-{found['run'].run_id}", csv_of(COLUMNS, _rows(found)))


def _rows(found: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "group": title,
            "account_id": item.account_id,
            "name": item.name,
            "kind": item.kind,
            "text": item.text,
        }
        for title, own in found["groups"]
        for item in own
    ]
