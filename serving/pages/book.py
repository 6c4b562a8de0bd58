"""My book: what its page shows, from the canonical rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from serving.batch.filters import BANDS, SORTS, WORTH, Filters, choices, page_of, positions
from serving.http.score_text import STATUS_WORDS
from serving.online.server_state import CurrentBook
from serving.pages.portfolio import growth_until, whole
from serving.scoring.expansion_offer import KIND_WORDS

PAGE_ROWS = 100
NOTICE_DAYS = 30
"""Notice deadlines this near are pointed out."""

SCALES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Right ends of the scale of the risk ranges."""

SORT = WORTH
"""The order of the page when nobody asks for another."""

HALVES = (30, 90, 180, 365)
"""How soon a loss ahead counts half: what is offered."""

SORT_WORDS = {
    "worth": "what is worth your time",
    "loss": "expected loss",
    "risk": "risk",
    "arr": "ARR",
    "notice": "notice deadline",
    "renewal": "renewal",
    "upsell": "chance of growth",
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
"""Filters with a field in the form; others stay as they came, hidden."""

CANDIDATE_WORDS = {
    "eligible": "may be asked now",
    "blocked": "something stands in the way",
    "any": "either",
}


TOTALLED = [
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


def view(book: CurrentBook, filters: Filters, number: int, *, is_stale: bool) -> dict[str, Any]:
    """Return what the template of the book takes.

    Parameters
    ----------
    book : Book
        The last published book.
    filters : Filters
        What is wanted, `Filters.sort` as the page has it (`SORT` by default).
    number : int
        Page, 1 first; beyond the last one it is the last.
    is_stale : bool
        The book is older than the company allows.
    """
    chosen = positions(book.table, filters)
    last = max(1, -(-len(chosen) // PAGE_ROWS))
    number = min(max(number, 1), last)
    rows = page_of(book.table, chosen, (number - 1) * PAGE_ROWS, PAGE_ROWS)
    return {
        "run": book.run,
        "is_stale": is_stale,
        "filters": filters,
        "rows": rows,
        "totals": totals(book.table.select(TOTALLED).take(chosen)),
        "book_totals": whole(book.table),
        "first": (number - 1) * PAGE_ROWS + 1,
        "number": number,
        "last": last,
        "query": filters.as_query(sort=SORT),
        "links": {name: replace(filters, sort=name).as_query(sort=SORT) for name in SORTS},
        "sort_words": SORT_WORDS,
        "by_worth": filters.sort == WORTH,
        "kept": {
            name: value for name, value in filters.as_query(sort=SORT).items() if name not in FIELDS
        },
        "choices": {
            "sort": list(SORT_WORDS.items()),
            "half_days": sorted({*HALVES, filters.half_days}),
            "region": choices(book.table, "region"),
            "product": products(book.table),
            "band": BANDS,
            "owner": owners(book.table),
            "segment": choices(book.table, "segment"),
            "status": [
                (code, STATUS_WORDS.get(code, code)) for code in choices(book.table, "status")
            ],
            "expansion": list(CANDIDATE_WORDS.items()),
        },
        "growth_until": growth_until(book.table),
        "has_upsell": _is_known(book.table, "expansion_propensity"),
        "has_candidates": _is_known(book.table, "expansion_kind"),
        "kind_words": KIND_WORDS,
        "has_renewals": _is_known(book.table, "renews_on"),
        "scale": scale([row["churn_high"] for row in rows]),
        "notice_days": NOTICE_DAYS,
    }


def scale(highs: list[float | None]) -> float:
    """Return the right end of a scale that holds every range.

    >>> scale([0.04, 0.21, None]), scale([])
    (0.25, 0.05)
    """
    highest = max((high for high in highs if high is not None), default=0.0)
    return next((end for end in SCALES if highest <= end), 1.0)


def totals(table: pa.Table) -> dict[str, Any]:
    """Return the sums shown above the table; it needs the columns `TOTALLED`.

    Closed accounts are rows of the table, and in no count but their own.
    """
    scored = table.filter(pc.equal(table["status"], "scored"))
    due = scored.filter(
        pc.and_(
            pc.and_(
                pc.greater_equal(scored["days_to_notice"], 0),
                pc.less_equal(scored["days_to_notice"], NOTICE_DAYS),
            ),
            pc.not_equal(scored["risk_band"], "low"),
        )
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
    """Return the products that are held, sorted."""
    held = pc.list_flatten(table["products"])
    return sorted(pc.unique(held).drop_null().to_pylist())


def _is_known(table: pa.Table, column: str) -> bool:
    return bool(table[column].null_count < len(table))


def _sum(table: pa.Table, column: str) -> float:
    return float(pc.sum(table[column]).as_py() or 0.0)
