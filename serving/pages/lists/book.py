"""My book: the accounts of the published scores, filtered and sorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends, Query, Request
from starlette.responses import Response

from serving.auth.permissions import caller_of
from serving.batch.filters import (
    ANY,
    BANDS,
    CURRENT,
    SORTS,
    WORTH,
    Chosen,
    Filters,
    choices,
    is_notice_due,
    page_of,
)
from serving.http.score_text import STATUS_WORDS
from serving.online.current_state import Live
from serving.online.server_state import CurrentBook
from serving.pages.common import (
    Book,
    PageRouter,
    as_csv,
    as_xlsx,
    common,
    json_with_rows,
    rows_of,
)
from serving.pages.context import Context
from serving.pages.lists.chips import NOTICE_DAYS, Members, Special, chips, chosen_rows
from serving.pages.portfolio.sums import growth_until, whole
from serving.pages.templating import page
from serving.scoring.expansion_offer import KIND_WORDS
from serving.scoring.export_columns import COLUMNS, ExportRow
from serving.scoring.export_rows import csv_lines
from serving.scoring.playbooks import AT_RISK
from serving.scoring.workbook import workbook
from serving.workflow.next_steps import next_step, with_plan
from serving.workflow.risk_cases import Histories

PAGE_ROWS = 100

NEWS = 5
"""Updates shown next to the list; all of them are on the page of changes."""

SCALES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Possible right ends of the axis of the risk ranges."""

USUAL = Filters(sort=WORTH, status=CURRENT)
"""Default filters and order of the page: closed accounts are not listed."""

HALVES = (30, 90, 180, 365)
"""Choices for the number of days after which a future loss counts half."""

SORT_WORDS = {
    "worth": "priority",
    "loss": "expected loss",
    "risk": "risk",
    "arr": "ARR",
    "notice": "notice deadline",
    "renewal": "renewal",
    "upsell": "expansion propensity",
    "growth": "expected added ARR",
    "name": "name",
}

FIELDS = (
    "q",
    "band",
    "owner",
    "segment",
    "region",
    "product",
    "expansion",
    "status",
    "sort",
    "half_days",
)
"""Filters with a field in the form; the others are kept as hidden fields."""

OFFER_WORDS = {
    "ready": "likely, can be made now",
    "eligible": "can be made now",
    "blocked": "blocked",
    "any": "any",
}

TOTAL_COLUMNS = [
    "status",
    "risk_band",
    "days_to_notice",
    "arr",
    "expected_arr_lost",
    "expansion_band",
    "churn_asks_about",
    "churn_until",
    "churn_verdict",
    "churn_rung",
    "currency",
    "as_of",
]

router = PageRouter()


def page_filters(filters: Chosen, request: Request) -> Filters:
    """Return the filters of a request, with the defaults of the page for order and status."""
    given = request.query_params
    missing = {name: getattr(USUAL, name) for name in ("sort", "status") if not given.get(name)}
    return replace(filters, **missing)


PageFilters = Annotated[Filters, Depends(page_filters)]
Show = Annotated[Special, Query(description="`up`: clear rise in a week; `unplanned`: no plan")]
PageNumber = Annotated[int, Query(alias="page", ge=1, le=100_000)]


@router.page("/")
def my_book(
    request: Request,
    live: Live,
    book: Book,
    context: Context,
    filters: PageFilters,
    page_number: PageNumber = 1,
    show: Show = "",
) -> Response:
    """Return the page of the book."""
    assert live.book is not None  # otherwise `Book` has refused the request
    aside = context.book_context(book, live.book, caller_of(request).name)
    today = live.clock().date()
    lists = special_lists(book.table, aside["rising"], aside["histories"], today)
    shown = view(book, filters, page_number, show, lists, is_stale=live.is_stale())
    histories = aside["histories"] or {}
    steps = {
        row["account_id"]: next_step(
            row, histories.get(row["account_id"], ()), context.plays, today
        )
        for row in shown["rows"]
    }
    return page("book.html", **common(live, "book"), **shown, **aside, steps=steps, n_news=NEWS)


def chosen_table(
    live: Live, book: Book, context: Context, filters: PageFilters, show: Show = ""
) -> pa.Table:
    """Return the rows of the list that a request asks for, in its order."""
    assert live.book is not None  # otherwise `Book` has refused the request
    lists: Members = {}
    if show:
        today = live.clock().date()
        lists = special_lists(book.table, context.rising(live.book), context.histories(), today)
    return book.table.take(chosen_rows(book.table, filters, show, lists))


ChosenTable = Annotated[pa.Table, Depends(chosen_table)]


@router.get("/book.json")
def book_json(book: Book, table: ChosenTable) -> Response:
    """Return the filtered rows and their totals as JSON."""
    head = {
        "book_id": book.run.run_id,
        "release_id": book.run.release_id,
        "as_of": book.run.as_of,
        "totals": totals(table.select(TOTAL_COLUMNS)),
    }
    return json_with_rows(head, rows_of(table))


@router.get("/book.csv")
def book_csv(book: Book, table: ChosenTable) -> Response:
    """Return the filtered rows as CSV."""
    return as_csv(f"book-{book.run.run_id}", csv_lines(rows_of(table)))


@router.get("/book.xlsx")
def book_xlsx(book: Book, table: ChosenTable) -> Response:
    """Return the filtered rows as a workbook with typed cells."""
    return as_xlsx(f"book-{book.run.run_id}", workbook("My book", list(COLUMNS), rows_of(table)))


def special_lists(
    table: pa.Table, rising: Sequence[str] | None, histories: Histories | None, today: date
) -> dict[str, Sequence[str]]:
    """Return the accounts of each special list; a list that could not be read is missing.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows that the reader may see.
    rising : sequence of str, optional
        Accounts whose risk rose clearly in a week.
    histories : mapping of str to sequence of Event, optional
        All recorded events, by account.
    today : date
        A risk snoozed on this day counts as planned.
    """
    lists: dict[str, Sequence[str]] = {}
    if rising is not None:
        lists["up"] = rising
    if histories is not None:
        planned = pa.array(with_plan(histories, today), pa.string())
        at_risk = pc.is_in(table["risk_band"], pa.array(AT_RISK, pa.string()))
        is_open = pc.and_(at_risk, pc.invert(pc.is_in(table["account_id"], planned)))
        scored = pc.equal(table["status"], "scored")
        lists["unplanned"] = table["account_id"].filter(pc.and_(is_open, scored)).to_pylist()
    return lists


def view(
    book: CurrentBook,
    filters: Filters,
    number: int,
    show: Special = "",
    lists: Members = MappingProxyType({}),
    *,
    is_stale: bool,
) -> dict[str, Any]:
    """Return the template values of the page.

    Parameters
    ----------
    book : CurrentBook
        Visible scores.
    filters : Filters
        Filters and order; `USUAL` are the defaults of the page.
    number : int
        Page number, from 1; a number beyond the last page shows the last one.
    show : Special
        Special list.
    lists : mapping of str to sequence of str
        Account ids of the special lists (`special_lists`).
    is_stale : bool
        The scores are older than the configured limit.
    """
    chosen = chosen_rows(book.table, filters, show, lists)
    last = max(1, -(-len(chosen) // PAGE_ROWS))
    number = min(max(number, 1), last)
    rows = page_of(book.table, chosen, (number - 1) * PAGE_ROWS, PAGE_ROWS)
    special = {"show": show} if show else {}
    return {
        "run": book.run,
        "is_stale": is_stale,
        "filters": filters,
        "rows": rows,
        "totals": totals(book.table.select(TOTAL_COLUMNS).take(chosen)),
        "book_totals": whole(book.table),
        "first": (number - 1) * PAGE_ROWS + 1,
        "number": number,
        "last": last,
        "query": filters.as_query(USUAL) | special,
        "links": {name: replace(filters, sort=name).as_query(USUAL) | special for name in SORTS},
        "sort_words": SORT_WORDS,
        "by_worth": filters.sort == WORTH,
        "chips": chips(book.table, filters, show, lists, USUAL),
        "kept": {
            name: value
            for name, value in (filters.as_query(USUAL) | special).items()
            if name not in FIELDS
        },
        "choices": _choices(book.table, filters),
        "growth_until": growth_until(book.table),
        "by_growth": bool(filters.expansion) or filters.sort in ("upsell", "growth"),
        "has_candidates": _is_known(book.table, "expansion_kind"),
        "kind_words": KIND_WORDS,
        "has_renewals": _is_known(book.table, "renews_on"),
        "scale": scale([row["churn_high"] for row in rows]),
        "notice_days": NOTICE_DAYS,
        "usual_confidence": _most_common(rows, "churn_confidence"),
    }


def _choices(table: pa.Table, filters: Filters) -> dict[str, Any]:
    """Return the options of each field of the form."""
    statuses = [(code, STATUS_WORDS.get(code, code)) for code in choices(table, "status")]
    return {
        "sort": list(SORT_WORDS.items()),
        "half_days": sorted({*HALVES, filters.half_days}),
        "region": choices(table, "region"),
        "product": products(table),
        "band": BANDS,
        "owner": owners(table),
        "segment": choices(table, "segment"),
        "status": [(CURRENT, "all but closed"), *statuses, (ANY, "all, closed ones included")],
        "expansion": list(OFFER_WORDS.items()),
    }


def _most_common(rows: Sequence[ExportRow], name: str) -> str | None:
    counts = Counter(value for row in rows if (value := row.get(name)))
    return str(counts.most_common(1)[0][0]) if counts else None


def scale(highs: list[float | None]) -> float:
    """Return the right end of an axis that contains every range.

    >>> scale([0.04, 0.21, None]), scale([])
    (0.25, 0.05)
    """
    highest = max((high for high in highs if high is not None), default=0.0)
    return next((end for end in SCALES if highest <= end), 1.0)


def totals(table: pa.Table) -> dict[str, Any]:
    """Return the sums shown above the table; it needs the columns `TOTAL_COLUMNS`.

    Closed accounts are rows of the table and counted separately.
    """
    scored = table.filter(pc.equal(table["status"], "scored"))
    due = scored.filter(
        pc.and_(is_notice_due(scored, NOTICE_DAYS), pc.not_equal(scored["risk_band"], "low"))
    )
    return {
        **whole(table).as_dict(),
        "n_rows": len(table),
        "n_due": len(due),
        "arr_due": _sum(due, "arr"),
        "is_provisional": "provisional" in choices(table, "churn_verdict"),
        "has_rates": "rates" in choices(table, "churn_rung"),
        "has_no_signal": "no_signal" in choices(table, "churn_verdict"),
        "currency": next(iter(choices(table, "currency")), ""),
    }


def owners(table: pa.Table) -> list[tuple[str, str]]:
    """Return each owner's id and name, by name."""
    pairs = table.select(["owner_id", "owner"]).group_by(["owner_id", "owner"]).aggregate([])
    found = {row["owner_id"]: row["owner"] or row["owner_id"] for row in pairs.to_pylist()}
    return sorted(((key, str(name)) for key, name in found.items() if key), key=lambda x: x[1])


def products(table: pa.Table) -> list[str]:
    """Return the names of all current products, sorted."""
    held = pc.list_flatten(table["products"])
    return sorted(pc.unique(held).drop_null().to_pylist())


def _is_known(table: pa.Table, column: str) -> bool:
    return bool(table[column].null_count < len(table))


def _sum(table: pa.Table, column: str) -> float:
    return float(pc.sum(table[column]).as_py() or 0.0)
