"""Sums of ARR and risk by group of accounts and by family of accounts.

Computed from the canonical rows of the published scores. Rates are expected loss over ARR of the
group, never averages of risks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.snapshots.statuses import NOT_CUSTOMERS
from serving.scoring.export_columns import ExportRow
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
"""Dimensions of the portfolio; those without data are left out."""

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
"""Columns of the canonical rows that the sums need."""

UNKNOWN_GROUP = ""
"""Key of the accounts without a value of a dimension."""

SMALLEST_SHARE = 1e-9
"""Smaller remainders of a share are rounding errors."""

FAMILIES = 20
"""Maximum number of families."""


@dataclass(frozen=True)
class Group:
    """Sums over a group of accounts.

    Attributes
    ----------
    key, name : str
        Value of the dimension, and its display name.
    n, n_scored, n_high : int
        Current customers, those with a risk, those at high risk.
    arr, arr_scored, arr_high, lost : float
        ARR in the reporting currency: of all customers, of those with a risk, of those at high
        risk; and the expected loss, of each account until the end of its prediction window.
    n_growth : int
        Accounts with a high or elevated expansion propensity.
    n_closed : int
        Accounts that have left; not part of any other number.
    lost_91d, lost_year : float
        Part of `lost` within 91 days of as_of, and by the end of the calendar year.
    lost_91d_on, lost_year_on, lost_until : str or None
        Those days, and the last day of the prediction windows, ISO 8601.
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
        """Expected loss until `lost_until` over ARR, 0 to 1; None without ARR."""
        return self.lost / self.arr_scored if self.arr_scored > 0 else None

    @property
    def rate_91d(self) -> float | None:
        """Expected loss within 91 days over ARR, 0 to 1; None without ARR."""
        return self.lost_91d / self.arr_scored if self.arr_scored > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """Return the sums and rates as plain JSON."""
        return {**vars(self), "rate": self.rate, "rate_91d": self.rate_91d}


class Member(TypedDict):
    """Account of a family, or mark on the map."""

    account_id: str
    name: str | None
    churn_risk: float | None
    risk_band: str | None
    arr: float | None


@dataclass(frozen=True)
class Summary:
    """Sums of the portfolio.

    Attributes
    ----------
    total : Group
        All accounts.
    groups : dict of str to list of Group
        Groups by dimension.
    families : list of dict
        Sums of each family as in `Group`, and its `riskiest` account.
    """

    total: Group
    groups: dict[str, list[Group]]
    families: list[dict[str, Any]]


def summary(table: pa.Table) -> Summary:
    """Return the sums of all accounts, of each group and of each family.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows with at least the columns `READ`.
    """
    sums = _Sums(table)
    return Summary(
        total=sums.total(),
        groups={
            name: found
            for name in DIMENSIONS
            if len(found := groups(table, name, sums)) > 1 or (found and found[0].key)
        },
        families=families(table, sums),
    )


def quarter(day: date) -> str:
    """Return the calendar quarter of a day.

    >>> quarter(date(2026, 3, 31)), quarter(date(2026, 4, 1))
    ('2026 Q1', '2026 Q2')
    """
    return f"{day.year} Q{(day.month + 2) // 3}"


@dataclass(frozen=True)
class _Parts:
    """Membership of rows in groups, with the share of their ARR.

    Attributes
    ----------
    keys : list of str
        One per group.
    group, row : numpy.ndarray of int
        One per membership: index in `keys` and in the table.
    share : numpy.ndarray or None
        One per membership: share of the ARR of the row; None for 1.
    """

    keys: list[str]
    group: np.ndarray
    row: np.ndarray
    share: np.ndarray | None = None


def whole(table: pa.Table) -> Group:
    """Return the sums over all rows; they need the columns that `_Sums` reads."""
    return _Sums(table).total()


def growth_until(table: pa.Table) -> str | None:
    """Return the last day of the prediction windows of expansion, ISO 8601."""
    found: str | None = pc.max(table["expansion_until"]).as_py()
    return found


class _Sums:
    """Columns of a table to sum, as arrays.

    Parameters
    ----------
    table : pyarrow.Table
        Canonical rows with at least the columns `READ`.
    """

    def __init__(self, table: pa.Table) -> None:
        scored = _is(table["status"], "scored")
        high = scored & _is(table["risk_band"], "high")
        arr = numbers(table["arr"])
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
        lost = scored * numbers(table["expected_arr_lost"])
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
        """Return the part of each expected loss within 91 days, and by the end of the year."""
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
        """Return the sums over all rows."""
        whole = _Parts([""], np.zeros(self.n, dtype=np.intp), np.arange(self.n))
        return replace(self.of(whole)[0], name="All accounts")

    def of(self, parts: _Parts) -> list[Group]:
        """Return the sums of every group."""
        share = 1.0 if parts.share is None else parts.share
        weighed = {name: values[parts.row] for name, values in self._counts.items()}
        weighed |= {name: values[parts.row] * share for name, values in self._money.items()}
        n = len(parts.keys)
        sums = {name: np.bincount(parts.group, w, n) for name, w in weighed.items()}
        last = np.full(n, "", dtype=object)
        np.maximum.at(last, parts.group, self._until[parts.row])
        found = []
        for i, key in enumerate(parts.keys):
            values: dict[str, Any] = {name: int(sums[name][i]) for name in self._counts}
            values |= {name: float(sums[name][i]) for name in self._money}
            values |= self._days
            found.append(Group(key=key, name=key, lost_until=last[i] or None, **values))
        return found


def groups(table: pa.Table, dimension: str, sums: _Sums | None = None) -> list[Group]:
    """Return the groups of one dimension: quarters in order, others by expected loss.

    Accounts without a value of the dimension form the last group. An account counts in each of its
    products; its ARR is divided among them by their shares.
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
    """Return memberships by product; ARR without a named product is in the unknown group."""
    held = table["products"].combine_chunks()
    rows = pc.list_parent_indices(held).to_numpy(zero_copy_only=False).astype(np.intp)
    shares = numbers(pc.list_flatten(table["product_shares"].combine_chunks()))
    left = 1.0 - np.bincount(rows, shares, len(table))
    others = np.flatnonzero(left > SMALLEST_SHARE)
    names = pa.concat_arrays([pc.list_flatten(held), pa.array([""] * len(others), pa.string())])
    parts = _by_value(pa.chunked_array([names]))
    share = np.concatenate([shares, left[others]])
    return replace(parts, row=np.concatenate([rows, others]), share=share)


def families(table: pa.Table, sums: _Sums | None = None) -> list[dict[str, Any]]:
    """Return parent accounts with their children, by the expected loss of the family.

    A family is every customer with the same parent, and the parent itself. ARR and expected loss
    are summed; the account with the highest risk is named. Chains of parents are not followed.
    """
    parts = _by_parent(table)
    sums = sums or _Sums(table)
    added = sums.of(parts)
    sizes = [group.n for group in added]
    chosen = [i for i in range(len(added)) if sizes[i] > 1]
    chosen.sort(key=lambda i: (-added[i].lost, added[i].key))
    names = dict(zip(table["account_id"].to_pylist(), table["name"].to_pylist(), strict=True))
    risks = numbers(table["churn_risk"], unknown=-1.0)
    found = []
    for i in chosen[:FAMILIES]:
        members = parts.row[(parts.group == i) & ~sums.is_closed[parts.row]]
        riskiest = table.slice(int(members[np.argmax(risks[members])]), 1).to_pylist()[0]
        family = replace(added[i], name=names.get(added[i].key) or added[i].key)
        found.append({**family.as_dict(), "riskiest": member_of(riskiest)})
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


def member_of(row: ExportRow) -> Member:
    """Return the fields of an account that families and the map show."""
    return {
        "account_id": row["account_id"],
        "name": row["name"],
        "churn_risk": row["churn_risk"],
        "risk_band": row["risk_band"],
        "arr": row["arr"],
    }


def _is(column: pa.ChunkedArray, value: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.equal(column, value), False), dtype=bool)


def numbers(column: pa.ChunkedArray | pa.Array, unknown: float = 0.0) -> np.ndarray:
    """Return a column as floats, with a replacement for missing values."""
    found: np.ndarray = np.asarray(pc.fill_null(column, unknown), dtype=np.float64)
    return found
