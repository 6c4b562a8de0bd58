"""The portfolio: where the recurring revenue and the risk lie, by group, and by family of accounts.

Everything is added up from the canonical rows of the published book. Sums of revenue and of
expected loss, never averages of risks: a group's rate is its expected loss over its revenue.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.snapshots.statuses import NOT_CUSTOMERS
from serving.online.server_state import CurrentBook
from training.model.expected_loss import Frames, shares_by

DIMENSIONS = {
    "segment": "Segment",
    "owner_id": "Owner",
    "region": "Region",
    "product": "Product",
    "plan": "Plan",
    "industry": "Industry",
    "renewal_quarter": "Renewal quarter",
}
"""What the book is divided by, each when the company knows it."""

READ = [
    *(name for name in DIMENSIONS if name not in ("renewal_quarter", "product")),
    "account_id",
    "name",
    "parent_account_id",
    "owner",
    "products",
    "product_shares",
    "renews_on",
    "status",
    "risk_band",
    "churn_risk",
    "arr",
    "expected_arr_lost",
    "expansion_band",
    "churn_asks_about",
    "churn_until",
    "expansion_until",
    "as_of",
]
"""Columns that are needed for it: rows are wide."""

COLUMNS = (
    "dimension",
    "key",
    "name",
    "n",
    "n_scored",
    "n_high",
    "arr",
    "arr_scored",
    "arr_high",
    "lost",
    "rate",
    "n_growth",
    "n_closed",
    "lost_91d",
    "lost_91d_on",
    "lost_year",
    "lost_year_on",
    "lost_until",
    "rate_91d",
)
"""Columns of the CSV twin."""

UNKNOWN_GROUP = ""
"""Key of the accounts of which a dimension is not known."""

SMALLEST_SHARE = 1e-9
"""What is left of a whole when its parts were taken off counts for nothing below this."""

FAMILIES = 20
"""Families that are shown."""

MAP_POINTS = 400
MAP_WIDTH, MAP_HEIGHT = 720, 320
MAP_LEFT, MAP_BOTTOM = 64, 32
RISK_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Columns of the table behind the map."""


@dataclass(frozen=True)
class Group:
    """Some accounts of the book, added up.

    Attributes
    ----------
    key, name : str
        Value of the dimension, and how people call it.
    n, n_scored, n_high : int
        Accounts that are customers, those with a risk, those at high risk.
    arr, arr_scored, arr_high, lost : float
        A year, in the reporting currency: of all customers, of those with a risk, of those at high
        risk, and risk times revenue summed, of each account up to the day its risk looks to.
    n_growth : int
        Accounts whose chance of growth is high or elevated.
    n_closed : int
        Accounts that have left; in no other number.
    lost_91d, lost_year : float
        What of `lost` falls within 91 days of as_of, and by the end of the calendar year.
    lost_91d_on, lost_year_on, lost_until : str or None
        Those days, and the last day that `lost` looks to, ISO 8601.
    """

    key: str
    name: str
    n: int
    n_scored: int
    n_high: int
    arr: float
    arr_scored: float
    arr_high: float
    lost: float
    n_growth: int
    n_closed: int
    lost_91d: float
    lost_year: float
    lost_91d_on: str | None
    lost_year_on: str | None
    lost_until: str | None

    @property
    def rate(self) -> float | None:
        """Expected loss up to `lost_until` over the revenue of scored accounts, 0 to 1; or None."""
        return self.lost / self.arr_scored if self.arr_scored > 0 else None

    @property
    def rate_91d(self) -> float | None:
        """Expected loss within 91 days over revenue, 0 to 1; None without revenue."""
        return self.lost_91d / self.arr_scored if self.arr_scored > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**vars(self), "rate": self.rate, "rate_91d": self.rate_91d}


def view(book: CurrentBook) -> dict[str, Any]:
    """Return what the template of the portfolio takes."""
    table = book.table.select(READ)
    found = summary(table)
    return {
        "run": book.run,
        "growth_until": growth_until(table),
        "map": risk_map(table),
        "cells": map_cells(table),
        "risk_edges": RISK_EDGES,
        "top_rates": {
            name: max((group.rate_91d or 0.0 for group in parts), default=0.0) or 1.0
            for name, parts in found["groups"].items()
        },
        "dimensions": DIMENSIONS,
        "quarters": {
            group.key: days_of_quarter(group.key)
            for group in found["groups"].get("renewal_quarter", ())
            if group.key
        },
        "most_families": FAMILIES,
        **found,
    }


def summary(table: pa.Table) -> dict[str, Any]:
    """Return the whole portfolio and its parts: what the page and its twins show.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows with at least the columns `READ`.
    """
    sums = _Sums(table)
    return {
        "total": sums.total(),
        "groups": {
            name: found
            for name in DIMENSIONS
            if len(found := groups(table, name, sums)) > 1 or (found and found[0].key)
        },
        "families": families(table, sums),
    }


def as_dict(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary as plain JSON."""
    return {
        "total": found["total"].as_dict(),
        "groups": {
            name: [group.as_dict() for group in parts] for name, parts in found["groups"].items()
        },
        "families": found["families"],
    }


def lines(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return a summary as flat lines, for CSV: the total, each group, each family."""
    yield {"dimension": "total", **found["total"].as_dict()}
    for name, parts in found["groups"].items():
        yield from ({"dimension": name, **group.as_dict()} for group in parts)
    for family in found["families"]:
        told = {name: value for name, value in family.items() if name != "riskiest"}
        yield {"dimension": "family", **told}


def quarter(day: date) -> str:
    """Return the calendar quarter of a day.

    >>> quarter(date(2026, 3, 31)), quarter(date(2026, 4, 1))
    ('2026 Q1', '2026 Q2')
    """
    return f"{day.year} Q{(day.month + 2) // 3}"


def days_of_quarter(name: str) -> tuple[str, str]:
    """Return the first and last day of a quarter, ISO 8601.

    >>> days_of_quarter("2026 Q1"), days_of_quarter("2026 Q4")
    (('2026-01-01', '2026-03-31'), ('2026-10-01', '2026-12-31'))
    """
    year, number = int(name[:4]), int(name[-1])
    after = date(year + number // 4, number * 3 % 12 + 1, 1)
    return date(year, 3 * number - 2, 1).isoformat(), (after - timedelta(days=1)).isoformat()


@dataclass(frozen=True)
class _Parts:
    """Which rows belong to which group, with what share of their money.

    Attributes
    ----------
    keys : list of str
        One per group.
    group, row : numpy.ndarray of int
        One per membership: places in `keys` and in the table.
    share : numpy.ndarray or None
        One per membership: the part of the row's money; None for all of it.
    """

    keys: list[str]
    group: np.ndarray
    row: np.ndarray
    share: np.ndarray | None = None


def whole(table: pa.Table) -> Group:
    """Return some rows added up; they need the columns that `_Sums` reads."""
    return _Sums(table).total()


def growth_until(table: pa.Table) -> str | None:
    """Return the last day that a chance of growth looks to, ISO 8601."""
    found: str | None = pc.max(table["expansion_until"]).as_py()
    return found


class _Sums:
    """What is added up of a table, as columns of numbers.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows with at least the columns `READ`.
    """

    def __init__(self, table: pa.Table) -> None:
        scored = _is(table["status"], "scored")
        high = scored & _is(table["risk_band"], "high")
        arr = _numbers(table["arr"])
        growth = np.asarray(
            pc.is_in(table["expansion_band"], pa.array(["high", "elevated"])), dtype=bool
        )
        self.n = len(table)
        self.is_closed = np.asarray(
            pc.is_in(table["status"], pa.array(NOT_CUSTOMERS, pa.string())), dtype=bool
        )
        self._counts = {
            "n": ~self.is_closed,
            "n_scored": scored,
            "n_high": high,
            "n_growth": scored & growth,
            "n_closed": self.is_closed,
        }
        lost = scored * _numbers(table["expected_arr_lost"])
        self._money = {
            "arr": ~self.is_closed * arr,
            "arr_scored": scored * arr,
            "arr_high": high * arr,
            "lost": lost,
        }
        self._days: dict[str, str | None] = {"lost_91d_on": None, "lost_year_on": None}
        self._until = np.array(
            [
                day if has and day else ""
                for day, has in zip(table["churn_until"].to_pylist(), scored, strict=True)
            ],
            dtype=object,
        )
        self._money |= self._in_frames(table, lost)

    def _in_frames(self, table: pa.Table, lost: np.ndarray) -> dict[str, np.ndarray]:
        """Return what of each loss falls within 91 days, and by the end of the year."""
        days = [day for day in table["as_of"].to_pylist() if day]
        if not days:
            return {"lost_91d": np.zeros(self.n), "lost_year": np.zeros(self.n)}
        as_of = date.fromisoformat(max(days)[:10])
        frames = Frames(as_of)
        self._days = {
            "lost_91d_on": frames.near_on.isoformat(),
            "lost_year_on": frames.year_end_on.isoformat(),
        }
        until = [date.fromisoformat(day) if day else None for day in self._until]
        renewal = _is(table["churn_asks_about"], "renewal").tolist()
        return {
            "lost_91d": lost * shares_by(frames.near_on, as_of, until, renewal),
            "lost_year": lost * shares_by(frames.year_end_on, as_of, until, renewal),
        }

    def total(self) -> Group:
        """Return all of it."""
        whole = _Parts([""], np.zeros(self.n, dtype=np.intp), np.arange(self.n))
        return replace(self.of(whole)[0], name="All accounts")

    def of(self, parts: _Parts) -> list[Group]:
        """Return every group added up."""
        share = 1.0 if parts.share is None else parts.share
        weighed = {name: values[parts.row] for name, values in self._counts.items()}
        weighed |= {name: values[parts.row] * share for name, values in self._money.items()}
        n = len(parts.keys)
        sums = {name: np.bincount(parts.group, w, n) for name, w in weighed.items()}
        last = np.full(n, "", dtype=object)
        np.maximum.at(last, parts.group, self._until[parts.row])
        found = []
        for i, key in enumerate(parts.keys):
            told: dict[str, Any] = {name: int(sums[name][i]) for name in self._counts}
            told |= {name: float(sums[name][i]) for name in self._money}
            told |= self._days
            found.append(Group(key=key, name=key, lost_until=last[i] or None, **told))
        return found


def groups(table: pa.Table, dimension: str, sums: _Sums | None = None) -> list[Group]:
    """Return the book by one dimension: quarters in order, others by what is expected to be lost.

    Accounts of which the dimension is not known form a group of their own, last. An account counts
    in each product it holds, and its money is shared among them as it pays for them.
    """
    parts = _by_product(table) if dimension == "product" else _by_value(_values(table, dimension))
    found = (sums or _Sums(table)).of(parts)
    if dimension == "owner_id":
        names = dict(zip(table["owner_id"].to_pylist(), table["owner"].to_pylist(), strict=True))
        found = [replace(group, name=names.get(group.key) or group.key) for group in found]
    is_time = dimension == "renewal_quarter"
    return sorted(
        found, key=lambda g: (not g.key, g.key if is_time else "", -g.lost, -g.arr, g.key)
    )


def _values(table: pa.Table, dimension: str) -> pa.ChunkedArray:
    if dimension != "renewal_quarter":
        return table[dimension]
    days = table["renews_on"].to_pylist()
    names = {day: quarter(date.fromisoformat(day[:10])) for day in set(days) if day}
    return pa.chunked_array([pa.array([names.get(day) for day in days], pa.string())])


def _by_value(column: pa.ChunkedArray) -> _Parts:
    found = pc.fill_null(column, UNKNOWN_GROUP).combine_chunks().dictionary_encode()
    codes = found.indices.to_numpy(zero_copy_only=False).astype(np.intp)
    return _Parts(found.dictionary.to_pylist(), codes, np.arange(len(codes)))


def _by_product(table: pa.Table) -> _Parts:
    """Return memberships by product; what no named product takes is of an unknown one."""
    held = table["products"].combine_chunks()
    rows = pc.list_parent_indices(held).to_numpy(zero_copy_only=False).astype(np.intp)
    shares = _numbers(pc.list_flatten(table["product_shares"].combine_chunks()))
    left = 1.0 - np.bincount(rows, shares, len(table))
    others = np.flatnonzero(left > SMALLEST_SHARE)
    names = pa.concat_arrays([pc.list_flatten(held), pa.array([""] * len(others), pa.string())])
    parts = _by_value(pa.chunked_array([names]))
    share = np.concatenate([shares, left[others]])
    return replace(parts, row=np.concatenate([rows, others]), share=share)


def families(table: pa.Table, sums: _Sums | None = None) -> list[dict[str, Any]]:
    """Return parents with their children, by what is expected to be lost in all of them.

    A family is every customer that names the same parent, and the parent itself. Revenue and
    expected loss are summed; the riskiest member is named. Chains of parents are not followed.
    """
    parts = _by_parent(table)
    sums = sums or _Sums(table)
    added = sums.of(parts)
    sizes = [group.n for group in added]
    chosen = [i for i in range(len(added)) if sizes[i] > 1]
    chosen.sort(key=lambda i: (-added[i].lost, added[i].key))
    names = dict(zip(table["account_id"].to_pylist(), table["name"].to_pylist(), strict=True))
    risks = _numbers(table["churn_risk"], unknown=-1.0)
    found = []
    for i in chosen[:FAMILIES]:
        members = parts.row[(parts.group == i) & ~sums.is_closed[parts.row]]
        riskiest = table.slice(int(members[np.argmax(risks[members])]), 1).to_pylist()[0]
        family = replace(added[i], name=names.get(added[i].key) or added[i].key)
        found.append({**family.as_dict(), "riskiest": _member(riskiest)})
    return found


def _by_parent(table: pa.Table) -> _Parts:
    named = table["parent_account_id"].combine_chunks()
    children = np.flatnonzero(np.asarray(pc.is_valid(named)))
    parts = _by_value(pa.chunked_array([named.take(pa.array(children))]))
    ids = table["account_id"].to_pylist()
    place = {parent: i for i, parent in enumerate(parts.keys)}
    own = set(zip(children.tolist(), parts.group.tolist(), strict=True))
    heads = [
        (row, place[entity])
        for row, entity in enumerate(ids)
        if entity in place and (row, place[entity]) not in own
    ]
    rows, codes = np.array(heads, dtype=np.intp).reshape(-1, 2).T
    return _Parts(
        parts.keys, np.concatenate([parts.group, codes]), np.concatenate([children, rows])
    )


def _member(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("account_id", "name", "churn_risk", "risk_band", "arr")}


def _is(column: pa.ChunkedArray, value: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.equal(column, value), False), dtype=bool)


def _numbers(column: pa.ChunkedArray | pa.Array, unknown: float = 0.0) -> np.ndarray:
    found: np.ndarray = np.asarray(pc.fill_null(column, unknown), dtype=np.float64)
    return found


def _with_risk_and_revenue(table: pa.Table) -> pa.Table:
    return table.filter(pc.and_(pc.is_valid(table["churn_risk"]), pc.greater(table["arr"], 0)))


def risk_map(table: pa.Table) -> dict[str, Any]:
    """Return the accounts with most at stake as marks: risk to the right, revenue upwards (log)."""
    known = _with_risk_and_revenue(table)
    rows = known.sort_by([("expected_arr_lost", "descending")]).slice(0, MAP_POINTS).to_pylist()
    right = _axis_end([row["churn_risk"] for row in rows])
    bottom, top = _decades([row["arr"] for row in rows])
    return {
        "points": [
            {
                **_member(row),
                "x": round(_across(row["churn_risk"], right), 1),
                "y": round(_upwards(row["arr"], bottom, top), 1),
            }
            for row in reversed(rows)  # what matters most is drawn last, on top
        ],
        "n_known": len(known),
        "x_ticks": [(share, round(_across(share, right), 1)) for share in _ticks(right)],
        "y_ticks": [
            (10.0**power, round(_upwards(10.0**power, bottom, top), 1))
            for power in range(bottom, top + 1)
        ],
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
        "left": MAP_LEFT,
        "floor": MAP_HEIGHT - MAP_BOTTOM,
    }


def map_cells(table: pa.Table) -> list[dict[str, Any]]:
    """Return the table behind the map: one row per decade of revenue, one cell per range of risk.

    Cells hold the number of accounts and their revenue; every account with a risk and revenue is
    in exactly one.
    """
    known = _with_risk_and_revenue(table)
    risks, arr = _numbers(known["churn_risk"]), _numbers(known["arr"])
    powers = np.floor(np.log10(arr)).astype(int)
    columns = np.searchsorted(RISK_EDGES[1:-1], risks, side="right")
    width = len(RISK_EDGES) - 1
    found = []
    for power in sorted(set(powers.tolist()), reverse=True):
        here = powers == power
        counts = np.bincount(columns[here], minlength=width)
        money = np.bincount(columns[here], arr[here], width)
        cells = [{"n": int(counts[i]), "arr": float(money[i])} for i in range(width)]
        found.append({"from": 10.0**power, "to": 10.0 ** (power + 1), "cells": cells})
    return found


def _axis_end(risks: Sequence[float]) -> float:
    highest = max(risks, default=0.0)
    return next((end for end in (0.1, 0.25, 0.5, 0.75) if highest <= end), 1.0)


def _ticks(right: float) -> list[float]:
    return [right * i / 5 for i in range(6)]


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten that hold all values.

    >>> _decades([1200.0, 84_000.0]), _decades([])
    ((3, 5), (3, 4))
    """
    if not values:
        return 3, 4
    bottom = math.floor(math.log10(min(values)))
    return bottom, max(math.ceil(math.log10(max(values))), bottom + 1)


def _across(share: float, right: float) -> float:
    return MAP_LEFT + (MAP_WIDTH - MAP_LEFT - 16) * share / right


def _upwards(arr: float, bottom: int, top: int) -> float:
    height = MAP_HEIGHT - MAP_BOTTOM - 16
    return 16 + height * (1 - (math.log10(arr) - bottom) / (top - bottom))
