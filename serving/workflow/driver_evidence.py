"""Evidence for the reasons of one account: its tickets, survey answers, invoices and terms.

Read from the source tables of the features, so that a number can be traced to its rows. Only rows
and values known at the as_of of the score are shown; later values are blank. Free texts are cut to
snippets of 200 characters with personal data masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from features.text import TEXT_COLUMNS
from features.text.masking import snippet
from serving.workflow.source_rows import SourceRows

PEOPLE = ("Contact",)
"""Headings of cells with the id of a person."""

WEEKS = 13
ROWS = 12
"""Maximum number of rows per listing."""


@dataclass(frozen=True)
class Listing:
    """Rows of one table behind the reasons of a theme.

    Attributes
    ----------
    theme : str
        A key of `features.tables.catalog.THEMES`.
    title : str
        Kind of rows and period.
    columns : tuple of str
        Headings.
    rows : tuple of tuple
        Cells as text, newest first; dates as ISO 8601; empty where not known.
    n : int
        Total number of rows; may be more than `rows`.
    """

    theme: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n: int


@dataclass(frozen=True)
class _Query:
    """Query for one kind of rows: `moment` in the last `days` before as_of.

    `cells` are the column headings with their SQL; without the column `needs` there is no listing.
    """

    theme: str
    table: str
    moment: str
    title: str
    days: int
    cells: tuple[tuple[str, str], ...]
    needs: str | None = None


def _since(moment: str, value: str | None = None) -> str:
    """Return the SQL of a value that became known at a moment: blank before it."""
    return f"CASE WHEN {moment} <= $now THEN {value or moment} END"


QUERIES = (
    _Query(
        "support",
        "support_tickets",
        "opened_at",
        "Tickets of the last 13 weeks",
        7 * WEEKS,
        (
            ("Opened", "opened_at"),
            ("Ticket", "ticket_id"),
            ("Priority", "priority"),
            ("About", "category"),
            ("Resolved", _since("resolved_at")),
            ("Text", "text"),
        ),
    ),
    _Query(
        "sentiment",
        "support_tickets",
        "opened_at",
        "What tickets of the last 26 weeks say",
        182,
        (("Opened", "opened_at"), ("Ticket", "ticket_id"), ("Text", "text")),
        needs="text",
    ),
    _Query(
        "sentiment",
        "survey_responses",
        "responded_at",
        "Survey answers of the last year",
        364,
        (
            ("Answered", "responded_at"),
            ("Kind", "kind"),
            ("Score", "score"),
            ("Comment", "comment"),
        ),
    ),
    _Query(
        "payments",
        "invoices",
        "issued_on",
        "Invoices of the last 6 months",
        182,
        (
            ("Issued", "issued_on"),
            ("Invoice", "invoice_id"),
            ("Due", "due_on"),
            ("Paid", _since("paid_on")),
            ("Amount", "amount"),
            ("Currency", "currency"),
        ),
    ),
    _Query(
        "relationship",
        "touches",
        "touched_at",
        "Contacts of the last 13 weeks",
        7 * WEEKS,
        (
            ("Date", "touched_at"),
            ("Kind", "kind"),
            ("Initiated by", "initiated_by"),
            ("Play", "play"),
            ("Note", "text"),
        ),
    ),
    _Query(
        "relationship",
        "contacts",
        "left_at",
        "Contacts who left in the last year",
        364,
        (("Left", "left_at"), ("Contact", "contact_id")),
    ),
    _Query(
        "commercial",
        "subscriptions",
        "started_on",
        "Contract terms of the last 2 years",
        728,
        (
            ("Start", "started_on"),
            ("Product", "product"),
            ("Renews", "renews_on"),
            ("Seats", "seats"),
            ("ARR", "arr"),
            ("Currency", "currency"),
        ),
    ),
    _Query(
        "journey",
        "milestones",
        "occurred_on",
        "Onboarding milestones",
        3_650,
        (
            ("Milestone", "milestone"),
            ("Due", "due_on"),
            ("Reached", _since("reached_on")),
        ),
    ),
)


class DriverEvidence:
    """Reader of the evidence of a company; thread-safe.

    Parameters
    ----------
    rows : SourceRows
        Reader of the source tables.
    """

    def __init__(self, rows: SourceRows) -> None:
        self._rows = rows

    def listings(self, entity_id: str, as_of: date, themes: Sequence[str]) -> list[Listing]:
        """Return the rows behind some themes of an account, in the order of the themes.

        Parameters
        ----------
        entity_id : str
            The account.
        as_of : date
            The prediction moment, 00:00 UTC of that day.
        themes : sequence of str
            Themes of the reasons; themes without rows are left out.

        Raises
        ------
        UnavailableError
            A source table cannot be read.
        """
        wanted = [q for theme in dict.fromkeys(themes) for q in QUERIES if q.theme == theme]
        # Tickets belong to two themes and are listed once.
        first = {query.table: query for query in reversed(wanted)}
        found = [
            self._listing(query, entity_id, as_of)
            for query in wanted
            if first[query.table] is query
        ]
        return [listing for listing in found if listing is not None]

    def _listing(self, query: _Query, entity_id: str, as_of: date) -> Listing | None:
        rows = self._rows.account_rows(
            query.table, query.moment, [sql for _, sql in query.cells],
            entity_id, as_of, query.days,
        )  # fmt: skip
        if not rows or (query.needs is not None and query.needs not in rows[0]):
            return None
        cells = [(name, sql) for name, sql in query.cells if sql in rows[0]]
        text = TEXT_COLUMNS.get(query.table)
        shown = tuple(
            tuple(snippet(row[sql]) if sql == text else _text(row[sql]) for _, sql in cells)
            for row in rows[:ROWS]
        )
        return Listing(query.theme, query.title, tuple(name for name, _ in cells), shown, len(rows))


def _text(value: Any) -> str:
    """Return the text of a cell; timestamps as days.

    >>> _text(datetime(2026, 3, 2, 23, 59)), _text(1234.5), _text(7.0), _text(None)
    ('2026-03-02', '1,234.50', '7', '')
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.2f}"
    return str(value)
