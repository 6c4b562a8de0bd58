"""Profile of a table: columns, types, missing values, quantiles, common values, rows per month."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from features.quality.changes.daily import MAX_LEVELS
from features.quality.context import QualityContext
from features.sources.files.sql import ident
from features.tables.source_tables import TABLES, Kind

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of numbers that are kept."""

TOP, MONTHS = 20, 60
"""Maximum number of common values per column, and of months."""


@dataclass(frozen=True)
class ColumnProfile:
    """Profile of one column.

    Attributes
    ----------
    kind : str
        Kind in the contract.
    type : str
        Type in the source; empty where it is not known.
    missing : float
        Share of rows without a value, 0 to 1.
    quantiles : tuple of float
        Values at `QUANTILES`; empty unless it is a number.
    top : dict of str to float
        Share of the rows with each common value; empty unless it is a category.
    """

    kind: Kind
    type: str
    missing: float
    quantiles: tuple[float, ...] = ()
    top: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TableProfile:
    """Profile of one table at one load.

    Attributes
    ----------
    identity : str
        Identity of input, mapping, contract and code.
    rows, accounts : int
        Rows known by the clock, and distinct accounts; 0 accounts in a table without them.
    columns : dict of str to ColumnProfile
        Profile of each column.
    months : dict of str to int
        Month such as ``2026-03`` → rows that happened in it, newest `MONTHS` only.
    last : str or None
        Last day on which a row happened.
    """

    identity: str
    rows: int
    accounts: int
    columns: dict[str, ColumnProfile]
    months: dict[str, int]
    last: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def profile_from(plain: dict[str, Any]) -> TableProfile:
    """Return the profile of JSON values."""
    columns = {
        name: ColumnProfile(**{**item, "quantiles": tuple(item["quantiles"])})
        for name, item in plain["columns"].items()
    }
    return TableProfile(**{**plain, "columns": columns})


def table_profiles(
    context: QualityContext, known: dict[str, TableProfile]
) -> dict[str, TableProfile]:
    """Return the profile of every table; unchanged tables keep the profile of the last load."""
    return {
        name: known[name]
        if name in known and known[name].identity == info.identity and not info.rows_after_now
        else table_profile(context, name)
        for name, info in context.loaded.tables.items()
    }


def table_profile(context: QualityContext, name: str) -> TableProfile:
    """Return the profile of one table."""
    info, spec = context.loaded.tables[name], TABLES[name]
    names = [item for item in info.columns if item in spec.columns]
    parts = [f"count({ident(item)}) AS {ident('n_' + item)}" for item in names]
    parts += [
        f"quantile_cont({ident(item)}, {list(QUANTILES)}) AS {ident('q_' + item)}"
        for item in names
        if spec.columns[item].kind in {"number", "count"}
    ]
    parts += [
        f"approx_count_distinct({ident(item)}) AS {ident('d_' + item)}"
        for item in names
        # common values of names and free texts would be personal data
        if spec.columns[item].kind == "text" and not spec.columns[item].personal
    ]
    own = "count(DISTINCT account_id)" if "account_id" in names else "0"
    found = context.query_row(
        f"SELECT count(*) AS rows, {own} AS accounts, {', '.join(parts)} FROM {name}"
    )
    rows = int(found["rows"])
    types = info.read.get("types", {})
    columns = {
        item: ColumnProfile(
            spec.columns[item].kind,
            types.get(item, ""),
            round(1 - int(found[f"n_{item}"]) / rows, 6) if rows else 1.0,
            tuple(float(value) for value in found.get(f"q_{item}") or ()),
            _top(context, name, item, rows) if 0 < found.get(f"d_{item}", 0) <= MAX_LEVELS else {},
        )
        for item in names
    }
    months, last = _months(context, name)
    return TableProfile(info.identity, rows, int(found["accounts"]), columns, months, last)


def _top(context: QualityContext, name: str, column: str, rows: int) -> dict[str, float]:
    found = context.connection.execute(
        f"SELECT {ident(column)}, count(*) AS n FROM {name} WHERE {ident(column)} IS NOT NULL "
        f"GROUP BY 1 ORDER BY n DESC, 1 LIMIT {TOP}"
    ).fetchall()
    return {str(value): round(n / rows, 6) for value, n in found}


def _months(context: QualityContext, name: str) -> tuple[dict[str, int], str | None]:
    happened = TABLES[name].happened
    if happened not in context.loaded.tables[name].columns:
        return {}, None
    found = context.connection.execute(
        f"SELECT strftime({ident(happened)}, '%Y-%m') AS month, count(*) AS n, "
        f"CAST(max(CAST({ident(happened)} AS DATE)) AS VARCHAR) FROM {name} "
        f"WHERE {ident(happened)} < $1 GROUP BY 1 ORDER BY 1 DESC LIMIT {MONTHS}",
        [context.now],
    ).fetchall()
    months = {str(month): int(n) for month, n, _ in reversed(found)}
    return months, found[0][2] if found else None
