"""Search from every page: an account by name or id, also a closed one."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from fastapi import Query
from starlette.responses import RedirectResponse, Response

from serving.batch.filters import ANY, Filters, positions
from serving.http.addresses import account_url
from serving.pages.common import Book, PageRouter, as_json
from serving.pages.templating import query

SUGGESTIONS = 8
"""Most accounts suggested while a reader types."""

Words = Annotated[str, Query(alias="q", description="part of the name or the id", max_length=200)]

router = PageRouter()


class Found(TypedDict):
    """Account that matches a search."""

    account_id: str
    name: str | None
    status: str


def found(book: Book, words: str, most: int = SUGGESTIONS) -> list[Found]:
    """Return matching accounts: exact ids and names first, then those that begin with the words.

    Accounts of the same kind come in the order of the book.
    """
    text = words.strip()
    if not text:
        return []
    chosen = positions(book.table, Filters(q=text, status=ANY))
    rows: list[Found] = book.table.select(list(Found.__annotations__)).take(chosen).to_pylist()
    return sorted(rows, key=lambda row: _place(row, text.lower()))[:most]


def _place(row: Found, words: str) -> int:
    names = [row["account_id"].lower(), (row["name"] or "").lower()]
    if words in names:
        return 0
    return 1 if any(name.startswith(words) for name in names) else 2


@router.page("/search")
def search(book: Book, words: Words = "") -> Response:
    """Lead to the one account that is meant, otherwise to the list of those that match."""
    rows = found(book, words, 2)
    exact = [row for row in rows if _place(row, words.strip().lower()) == 0]
    meant = exact if len(exact) == 1 else rows
    if len(meant) == 1:
        return RedirectResponse(account_url(meant[0]["account_id"]), status_code=303)
    return RedirectResponse(f"/{query({'q': words.strip(), 'status': ANY})}", status_code=303)


@router.get("/search.json")
def search_json(book: Book, words: Words = "") -> Response:
    """Return a few matching accounts with their addresses."""
    rows: list[dict[str, Any]] = [
        {
            "account_id": row["account_id"],
            "name": row["name"] or row["account_id"],
            "status": row["status"],
            "address": account_url(row["account_id"]),
        }
        for row in found(book, words)
    ]
    return as_json({"rows": rows})
