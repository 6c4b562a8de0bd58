"""Escalations: open risks grouped by the role that is notified, the reader's own role first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.responses import Response

from serving.auth.permissions import caller_of
from serving.online.current_state import Live
from serving.online.server_state import CurrentBook
from serving.pages.common import Book, PageRouter, as_csv, as_json, common, csv_of
from serving.pages.context import Context
from serving.pages.templating import page
from serving.workflow.escalations import COLUMNS, Escalation, escalated

router = PageRouter()

To = Annotated[str, Query(description="role that is notified", pattern=r"^[a-z]{0,20}$")]


def current_escalations(live: Live, book: Book, context: Context) -> list[Escalation]:
    """Return the escalations of the visible accounts."""
    risks = context.risks.escalated_risks()
    return escalated(book.table, risks, context.plays, live.managers, live.clock())


Found = Annotated[list[Escalation], Depends(current_escalations)]


@router.page("/escalations")
def escalations_page(
    request: Request, live: Live, book: Book, found: Found, to: To = ""
) -> Response:
    """Return the page of escalations."""
    shown = view(book, found, to=to, role=caller_of(request).role)
    return page("escalations.html", **common(live, "escalations"), **shown)


@router.get("/escalations.json")
def escalations_json(book: Book, found: Found, to: To = "") -> Response:
    """Return the escalations as JSON."""
    return as_json(
        {
            "book_id": book.run.run_id,
            "as_of": book.run.as_of,
            "escalations": [vars(item) for item in _addressed(found, to)],
        }
    )


@router.get("/escalations.csv")
def escalations_csv(book: Book, found: Found, to: To = "") -> Response:
    """Return the escalations as CSV."""
    rows = (vars(item) for item in _addressed(found, to))
    return as_csv(f"escalations-{book.run.run_id}", csv_of(COLUMNS, rows))


def _addressed(found: Sequence[Escalation], to: str) -> list[Escalation]:
    return [item for item in found if not to or item.to == to]


def view(book: CurrentBook, found: Sequence[Escalation], *, to: str, role: str) -> dict[str, Any]:
    """Return the template values of the page.

    Parameters
    ----------
    book : CurrentBook
        Visible scores.
    found : sequence of Escalation
        All escalations of the visible accounts.
    to : str
        Role to show; empty for all roles.
    role : str
        Role of the reader; its escalations come first.
    """
    roles = sorted({item.to for item in found}, key=lambda name: (name != role, not name, name))
    items = _addressed(found, to)
    return {
        "run": book.run,
        "items": items,
        "roles": [(name, [item for item in items if item.to == name]) for name in roles],
        "n_accounts": len({item.account_id for item in items}),
        "to": to,
        "role": role,
    }
