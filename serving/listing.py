"""Choosing from the published book: filters, order and pages, for the API and for people."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends, Query

from serving.problems import ProblemError

SORTS: dict[str, tuple[tuple[str, str], ...]] = {
    "loss": (("rank", "ascending"),),
    "risk": (("churn_risk", "descending"),),
    "arr": (("arr", "descending"),),
    "notice": (("notice_on", "ascending"),),
    "renewal": (("renews_on", "ascending"),),
    "upsell": (("expansion_propensity", "descending"),),
    "name": (("name", "ascending"),),
}
"""Orders by name; what is not known comes last, ties in the order of the book."""

BANDS = ("high", "elevated", "low")


@dataclass(frozen=True)
class Filters:
    """What of the book is wanted; empty means everything.

    Attributes
    ----------
    band : str
        One of `BANDS`.
    owner, segment, status : str
        Exact values: owner_id, segment, status.
    q : str
        Part of the name or the id, capitals ignored.
    sort : str
        A key of `SORTS`.
    """

    band: str = ""
    owner: str = ""
    segment: str = ""
    status: str = ""
    q: str = ""
    sort: str = "loss"

    def as_query(self) -> dict[str, str]:
        """Return what differs from the default, for links."""
        return {
            name: value
            for name, value in vars(self).items()
            if value and not (name == "sort" and value == "loss")
        }


def filters_of(
    band: Annotated[str, Query(description="low, elevated or high", max_length=40)] = "",
    owner: Annotated[str, Query(description="owner_id", max_length=200)] = "",
    segment: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[str, Query(max_length=40)] = "",
    q: Annotated[str, Query(description="part of the name or the id", max_length=200)] = "",
    sort: Annotated[str, Query(description=", ".join(SORTS), max_length=40)] = "loss",
) -> Filters:
    """Read the filters of a request."""
    return Filters(band, owner, segment, status, q, sort)


Chosen = Annotated[Filters, Depends(filters_of)]


def choose(table: pa.Table, filters: Filters) -> pa.Table:
    """Return the matching rows in the wanted order; an unknown order is a problem."""
    if filters.sort not in SORTS:
        raise ProblemError(
            "invalid-request",
            f"there is no order {filters.sort[:40]!r}; there are: {', '.join(SORTS)}",
            errors=[{"pointer": "sort", "message": "unknown order"}],
        )
    exact = {
        "risk_band": filters.band,
        "owner_id": filters.owner,
        "segment": filters.segment,
        "status": filters.status,
    }
    for column, value in exact.items():
        if value:
            table = table.filter(pc.equal(table[column], value))
    if filters.q:
        found = [
            pc.match_substring(pc.fill_null(table[name], ""), filters.q, ignore_case=True)
            for name in ("name", "account_id")
        ]
        table = table.filter(pc.or_(*found))
    keys = [*SORTS[filters.sort], ("rank", "ascending"), ("account_id", "ascending")]
    return table.sort_by(list(dict(keys).items()))


def choices(table: pa.Table, column: str) -> list[str]:
    """Return the different values of a column, sorted."""
    return sorted(value for value in pc.unique(table[column]).to_pylist() if value)


def encode_cursor(book_id: str, offset: int) -> str:
    """Return an opaque cursor: books do not change, so a place in one is enough."""
    return base64.urlsafe_b64encode(f"{book_id}:{offset}".encode()).decode()


def decode_cursor(cursor: str, book_id: str) -> int:
    """Return the place a cursor stands for.

    Raises
    ------
    ProblemError
        It is none, or of an earlier book.

    Examples
    --------
    >>> decode_cursor(encode_cursor("20260302-ab", 200), "20260302-ab")
    200
    """
    if not cursor:
        return 0
    try:
        book, _, offset = base64.urlsafe_b64decode(cursor.encode()).decode().rpartition(":")
        place = int(offset)
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise ProblemError(
            "invalid-request",
            "the cursor is not one of ours",
            errors=[{"pointer": "cursor", "message": "not a cursor"}],
        ) from error
    if book != book_id or place < 0:
        raise ProblemError("cursor-expired", f"the cursor is of book {book}, not of {book_id}")
    return place


def page_of(table: pa.Table, offset: int, limit: int) -> list[dict[str, Any]]:
    """Return some rows as plain mappings."""
    rows: list[dict[str, Any]] = table.slice(offset, limit).to_pylist()
    return rows
