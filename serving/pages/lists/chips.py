"""Chips above the book: ready-made lists, each with the number of accounts in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from serving.batch.filters import Filters, matching, positions

Special = Literal["", "up", "unplanned"]
"""Lists that need more than the published scores: a clear rise in a week, and no plan."""

SPECIALS: tuple[Special, ...] = get_args(Special)

NOTICE_DAYS = 30
"""Days before a notice deadline from which it is urgent."""

Members = Mapping[str, Sequence[str]]
"""Account ids of each special list; a list that could not be read is missing."""


@dataclass(frozen=True)
class Chip:
    """Ready-made list.

    Attributes
    ----------
    label : str
        Name of the list.
    query : dict
        Its query parameters.
    n : int
        Accounts in it.
    is_on : bool
        It is the list shown.
    """

    label: str
    query: dict[str, str]
    n: int
    is_on: bool


def chosen_rows(table: pa.Table, filters: Filters, show: Special, members: Members) -> pa.Array:
    """Return the indices of the rows of a list, in the order of the filters."""
    found = positions(table, filters)
    return (
        found.filter(_members_of(table["account_id"].take(found), show, members)) if show else found
    )


def _members_of(accounts: pa.ChunkedArray, show: Special, members: Members) -> pa.ChunkedArray:
    return pc.is_in(accounts, pa.array(members.get(show, ()), pa.string()))


def _count(table: pa.Table, filters: Filters, show: Special, members: Members) -> int:
    kept = matching(table, filters)
    if show:
        kept &= _members_of(table["account_id"], show, members).to_numpy()
    return int(kept.sum())


def chips(
    table: pa.Table, filters: Filters, show: Special, members: Members, usual: Filters
) -> list[Chip]:
    """Return the chips of a page.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows that the reader may see.
    filters : Filters
        Filters of the page; a chip keeps its owner and order.
    show : Special
        Special list of the page.
    members : mapping of str to sequence of str
        Account ids of the special lists.
    usual : Filters
        Default filters of the page.
    """
    every = replace(usual, owner=filters.owner, sort=filters.sort, half_days=filters.half_days)
    made: list[tuple[str, Filters, Special]] = [
        ("All", every, ""),
        (f"Notice in {NOTICE_DAYS} days", replace(every, notice_within=NOTICE_DAYS), ""),
        ("Up this week", every, "up"),
        ("High risk", replace(every, band="high"), ""),
        ("Ready to grow", replace(every, expansion="ready"), ""),
        ("Nothing planned", every, "unplanned"),
    ]
    return [
        Chip(
            label,
            own.as_query(usual) | ({"show": special} if special else {}),
            _count(table, own, special, members),
            own == filters and special == show,
        )
        for label, own, special in made
        if special == "" or special in members
    ]
