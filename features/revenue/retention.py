"""Recurring revenue over time: levels and movements per account, quarters, GRR and NRR.

Days are whole days since 1970-01-01 as in `features.tables.daily_tables`: terms that start or end
on a date count from the next midnight, so a quarter is ``(first midnight, first midnight of the
next]``. Money is in the reporting currency. Terms are converted at the rate of the terms that
continue them, so changing currency rates cause no movement, and today's ARR equals that of the
scores.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import Literal

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from configs.runtime.errors import DataError
from features.days import day_index, index_day
from features.revenue.terms import COMEBACK_DAYS, announced_end, one_state, resolve_terms

Kind = Literal["new", "reactivation", "expansion", "contraction", "churn", "merged"]

KINDS: dict[Kind, str] = {
    "new": "ARR of an account that never paid before",
    "reactivation": "ARR of an account that had left",
    "expansion": "additional ARR of an existing account, signed uplifts included",
    "contraction": "lost ARR of an account that stays",
    "churn": "ARR of an account that left",
    "merged": "ARR that moved to or from another account: neither loss nor growth",
}

DEFINITIONS = {
    "ARR": "Annual recurring revenue of the terms that hold, in the reporting currency at the rate "
    "of the day they began; earlier terms of the same contract are converted at the same rate.",
    "GRR": "Gross revenue retention of a quarter: of the ARR at its start, the share that is still "
    "there at its end, each account counted up to its ARR at the start. It cannot "
    "exceed 100 %. ARR that moved between accounts counts with the account it moved to.",
    "NRR": "Net revenue retention: ARR at the end of the quarter of the accounts there at its "
    "start, over their ARR at the start. New and returning accounts are left out.",
    "Interruption": f"Terms that continue within {COMEBACK_DAYS} days of their end count as "
    f"uninterrupted.",
}

TERM_COLUMNS = {
    "entity_id": "the account",
    "subscription_id": "the subscription",
    "day": "midnight after the first day of the terms",
    "known_day": "midnight from which the row is known",
    "ended_day": "midnight after the first day without them, NaN while they hold",
    "end_reason": "reason of the end, None while they hold",
    "renews_day": "day of the contractual renewal, NaN without",
    "notice_day": "midnight after notice was given, NaN without",
    "notice_period_days": "NaN without",
    "escalator": "signed uplift at the renewal, share",
    "arr": "annual value in the reporting currency, at the rate of the day the terms began; NaN "
    "unknown",
    "product": "the product, None without",
    "currency": "the currency of the terms, None for the reporting currency",
    "currency_rate": "reporting currency per unit of it, on the day the terms began",
}

_TYPES = {
    **{name: "int64" for name in TERM_COLUMNS if name.endswith("_day") or name == "day"},
    **dict.fromkeys(("entity_id", "subscription_id", "product"), "string"),
    **dict.fromkeys(("end_reason", "currency"), "string"),
    "notice_period_days": "float64",
    "escalator": "float64",
    "arr": "float64",
    "currency_rate": "float64",
}  # fmt: skip


def known_terms(terms: pd.DataFrame, at: int) -> pd.DataFrame:
    """Return the paid terms known at a midnight, each in its latest version.

    Parameters
    ----------
    terms : pandas.DataFrame
        One row per terms and version, columns of `TERM_COLUMNS`.
    at : int
        Day index; later events and later known rows are left out.

    Returns
    -------
    pandas.DataFrame
        Columns of `TERM_COLUMNS`, and fate, stops_day, next_id, next_day and moved_arr of
        `features.revenue.terms.resolve_terms`; announced_day of
        `features.revenue.terms.announced_end`, NaN without; arr at the rate of the terms that
        continue them; arr_own in their own currency.

    Raises
    ------
    DataError
        A negative ARR.
    """
    seen = terms[(terms["day"] <= at) & (terms["known_day"] <= at)]
    seen = seen.sort_values(["entity_id", "subscription_id", "day", "known_day"], kind="stable")
    seen = seen.drop_duplicates(["entity_id", "subscription_id", "day"], keep="last")
    _check_not_negative(seen)
    is_over = seen["ended_day"] <= at
    visible = seen.assign(
        ended_day=seen["ended_day"].where(is_over),
        end_reason=seen["end_reason"].where(is_over),
        notice_day=seen["notice_day"].where(seen["notice_day"] <= at),
    )
    resolved = _resolved(visible, at)
    return _at_last_rate(resolved.assign(arr_own=resolved["arr"] / resolved["currency_rate"]))


def _resolved(terms: pd.DataFrame, at: int) -> pd.DataFrame:
    columns = {
        name: pa.array(terms[name], pa.string() if kind == "string" else pa.from_numpy_dtype(kind),
                       from_pandas=True)
        for name, kind in _TYPES.items()
    }  # fmt: skip
    with duckdb.connect() as connection:
        connection.register("terms", pa.table(columns | {"at": pa.array([at] * len(terms))}))
        found: pd.DataFrame = connection.sql(_query()).df()
    days = [str(name) for name in found if str(name).endswith("_day")]
    text = [name for name, kind in _TYPES.items() if kind == "string"] + ["next_id", "fate"]
    typed = found.astype(dict.fromkeys(days, "float64"))
    for name in text:
        values = [None if pd.isna(value) else value for value in found[name]]
        typed[name] = pd.Series(values, index=found.index, dtype="object")
    return typed.drop(columns=["line", "at"]).astype({"day": "int64", "known_day": "int64"})


@cache
def _query() -> str:
    """Return the query that resolves a table ``terms``, compiled once for all instants."""
    table = ibis.table({**_TYPES, "at": "int64"}, name="terms")
    rows = resolve_terms(one_state(table), table["at"].max().as_scalar())
    rows = rows.mutate(announced_day=announced_end(rows, rows["at"]))
    return str(ibis.to_sql(rows.order_by("entity_id", "day", "subscription_id"), dialect="duckdb"))


def _at_last_rate(terms: pd.DataFrame) -> pd.DataFrame:
    """Convert terms at the rate of the terms that continue them in the same currency."""
    key = ["entity_id", "subscription_id", "day"]
    positions = {
        row: place for place, row in enumerate(terms[key].itertuples(index=False, name=None))
    }
    follows = terms[["entity_id", "next_id", "next_day"]].itertuples(index=False, name=None)
    after = [positions.get(row, place) for place, row in enumerate(follows)]
    currency, rate = terms["currency"].tolist(), terms["currency_rate"].to_numpy(dtype=float)
    order = np.argsort(terms["day"].to_numpy(), kind="stable")[::-1]
    last = rate.copy()
    for place in order:
        if currency[place] == currency[after[place]]:
            last[place] = last[after[place]]
    return terms.assign(arr=terms["arr"] * np.divide(last, rate, out=np.ones_like(rate),
                                                     where=rate > 0))  # fmt: skip


def _check_not_negative(terms: pd.DataFrame) -> None:
    negative = terms.loc[terms["arr"] < 0, "entity_id"]
    if len(negative):
        raise DataError(
            f"{len(negative)} terms have a negative ARR",
            where=f"subscriptions.arr, first of account {negative.iloc[0]}",
            fix="map credits as a lower arr of the terms they reduce",
        )


MOVEMENT_COLUMNS = {
    "account_id": "the account",
    "product": "the product; empty where terms name none",
    "on": "first day with the new ARR",
    "kind": "the account's movement on that day, a key of `KINDS`",
    "product_kind": "the same of the product alone",
    "currency": "currency of the terms",
    "change_own": "change of ARR in that currency",
    "change": "change of ARR in the reporting currency",
    "before": "ARR of the product before, in the reporting currency",
    "after": "ARR of the product after",
    "account_after": "ARR of the account after",
}


def product_movements(terms: pd.DataFrame, until: int, currency: str) -> pd.DataFrame:
    """Return every ARR movement by account and product, for reconciliation with finance.

    Parameters
    ----------
    terms : pandas.DataFrame
        From `known_terms` at `until`.
    until : int
        Day index of the last midnight included.
    currency : str
        The reporting currency, for terms without one.

    Returns
    -------
    pandas.DataFrame
        Columns of `MOVEMENT_COLUMNS`, by day, account and product. The changes of an account on a
        day add up to its movement in `movements`. A day on which one product replaces another at
        the same ARR has rows of both, and no kind: the account did not move.
    """
    named = terms.assign(
        product=terms["product"].fillna(""),
        currency=terms["currency"].fillna(currency),
        arr=terms["arr"].fillna(0.0),
        arr_own=terms["arr_own"].fillna(0.0),
    )
    key = ["entity_id", "product", "currency"]
    starts = named[[*key, "day"]].assign(change=named["arr"], change_own=named["arr_own"])
    stops = named[key].assign(
        day=named["stops_day"], change=-named["arr"], change_own=-named["arr_own"]
    )
    stops = stops[named["stops_day"] <= until].astype({"day": "int64"})
    rows = pd.concat([starts, stops]).groupby([*key, "day"], as_index=False).sum()
    rows = rows[rows["change"].round(2) != 0].sort_values(["entity_id", "day", "product"])
    of_product = rows.groupby(["entity_id", "product"])
    rows["after"] = of_product["change"].cumsum().round(2).clip(lower=0.0)
    rows["before"] = rows.groupby(["entity_id", "product"])["after"].shift(1, fill_value=0.0)
    rows["product_kind"] = kind_of(
        rows["before"].to_numpy(), rows["after"].to_numpy(), of_product.cumcount().to_numpy()
    )
    steps = levels(terms, until)
    of_account = movements(steps).drop_duplicates(["entity_id", "day"], keep="last")
    rows = rows.merge(of_account[["entity_id", "day", "kind"]], how="left", on=["entity_id", "day"])
    rows["account_after"] = rows.groupby("entity_id")["change"].cumsum().round(2)
    rows["account_after"] = rows.groupby(["entity_id", "day"])["account_after"].transform("last")
    rows["on"] = [str(index_day(int(day) - 1)) for day in rows["day"]]
    money = ["change", "change_own"]
    rows[money] = rows[money].round(2)
    found = rows.rename(columns={"entity_id": "account_id"})[list(MOVEMENT_COLUMNS)]
    return found.sort_values(["on", "account_id", "product"]).reset_index(drop=True)


def levels(terms: pd.DataFrame, until: int) -> pd.DataFrame:
    """Return each account's ARR as steps: one row per account and day on which it changed.

    Parameters
    ----------
    terms : pandas.DataFrame
        From `known_terms` at `until`.
    until : int
        Day index of the last midnight included.

    Returns
    -------
    pandas.DataFrame
        entity_id, day, before, after (to the cent), moved (of the change, ARR that came from or
        went to another account); sorted by account and day. ARR that is not known counts as 0.
    """
    arr = terms["arr"].fillna(0.0)
    went = arr.where(terms["fate"] == "moved", 0.0)
    starts = terms[["entity_id", "day"]].assign(change=arr, moved=terms["moved_arr"])
    stops = terms[["entity_id"]].assign(day=terms["stops_day"], change=-arr, moved=-went)
    stops = stops[terms["stops_day"] <= until].astype({"day": "int64"})
    steps = pd.concat([starts, stops]).groupby(["entity_id", "day"], as_index=False).sum()
    steps["after"] = steps.groupby("entity_id")["change"].cumsum().round(2).clip(lower=0.0)
    steps["before"] = steps.groupby("entity_id")["after"].shift(1, fill_value=0.0)
    steps = steps[(steps["after"] != steps["before"]) | (steps["moved"] != 0)]
    return steps[["entity_id", "day", "before", "after", "moved"]].reset_index(drop=True)


def kind_of(before: np.ndarray, after: np.ndarray, paid_earlier: np.ndarray) -> np.ndarray:
    """Return the kind of each movement, None where nothing moved.

    >>> kind_of(np.array([0.0, 5, 5, 5]), np.array([5.0, 0, 9, 5]), np.zeros(4)).tolist()
    ['new', 'churn', 'expansion', None]
    """
    begins, ends = (before == 0) & (after > 0), (before > 0) & (after == 0)
    cases = [begins & (paid_earlier > 0), begins, ends, after > before, after < before]
    names = ["reactivation", "new", "churn", "expansion", "contraction"]
    found = np.full(len(before), None, dtype=object)
    for case, name in reversed(list(zip(cases, names, strict=True))):
        found[case] = name
    return found


def movements(steps: pd.DataFrame) -> pd.DataFrame:
    """Return every movement: one row per account, day and kind, with its change of ARR.

    A day on which ARR moved to or from another account has a row ``merged`` for that part.
    """
    earlier = steps.groupby("entity_id").cumcount().to_numpy()
    after = steps["after"].to_numpy()
    before = _with_moved(steps["before"], steps["moved"]).to_numpy()
    own = steps.assign(kind=kind_of(before, after, earlier), change=(after - before).round(2))
    moved = steps.assign(kind="merged", change=(before - steps["before"]).round(2))
    both = pd.concat([moved, own])
    both = both[both["kind"].notna() & (both["change"] != 0)]
    return both.sort_values(["entity_id", "day"], kind="stable").reset_index(drop=True)


def _with_moved(before: pd.Series, moved: pd.Series) -> pd.Series:
    """Return ARR before a change, with transfers between accounts already applied."""
    return (before + moved).round(2).clip(lower=0.0)


def position(steps: pd.DataFrame, day: int) -> pd.Series:
    """Return the ARR of every account of the ledger at a midnight; 0 where it has none."""
    last = steps[steps["day"] <= day].drop_duplicates("entity_id", keep="last")
    held = last.set_index("entity_id")["after"]
    return held.reindex(steps["entity_id"].unique(), fill_value=0.0).sort_index()


def retained(steps: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """Return the net movement of each account over a period.

    Returns
    -------
    pandas.DataFrame
        Indexed by entity_id, accounts with ARR at either end: start, end, merged (moved in from
        other accounts, less moved out), kind (None: unchanged), change, base (start + merged, the
        reference of the rates), kept = min(base, end), is_cohort (base is above 0). ``start +
        merged + change = end`` for each account, so sums over any group reconcile.
    """
    first, last = position(steps, start), position(steps, end)
    earlier = steps[(steps["day"] <= start)].groupby("entity_id").size().reindex(first.index)
    inside = steps[(steps["day"] > start) & (steps["day"] <= end)]
    moved = inside.groupby("entity_id")["moved"].sum().reindex(first.index, fill_value=0.0)
    base = _with_moved(first, moved)
    kinds = kind_of(base.to_numpy(), last.to_numpy(), earlier.fillna(0).to_numpy())
    table = pd.DataFrame(
        {
            "start": first, "end": last, "merged": (base - first).round(2), "kind": kinds,
            "change": (last - base).round(2), "base": base, "kept": np.minimum(base, last),
            "is_cohort": base > 0,
        }
    )  # fmt: skip
    return table[(table["start"] > 0) | (table["end"] > 0)]


def retention(accounts: pd.DataFrame) -> dict[str, float | None]:
    """Return the ARR bridge of a period and its retention rates, from rows of `retained`.

    Returns
    -------
    dict
        start, one entry per kind (losses negative), end, accounts, lost_accounts, and grr, nrr,
        logo_retention in shares, None without a cohort. ``start`` and the kinds add up to ``end``.
    """
    cohort = accounts[accounts["is_cohort"]]
    base = float(cohort["base"].sum())
    bridge = {**accounts.groupby("kind")["change"].sum(), "merged": accounts["merged"].sum()}
    lost = int((cohort["end"] == 0).sum())
    return {
        "start": float(accounts["start"].sum()),
        **{kind: float(bridge.get(kind, 0.0)) for kind in KINDS},
        "end": float(accounts["end"].sum()),
        "accounts": len(cohort),
        "lost_accounts": lost,
        "grr": float(cohort["kept"].sum()) / base if base > 0 else None,
        "nrr": float(cohort["end"].sum()) / base if base > 0 else None,
        "logo_retention": 1.0 - lost / len(cohort) if len(cohort) else None,
    }


def first_years(steps: pd.DataFrame) -> pd.Series:
    """Return the cohort of every account: the year of its first payment, as text."""
    first = steps.drop_duplicates("entity_id").set_index("entity_id")["day"]
    return first.map(lambda day: str(index_day(int(day) - 1).year))


def quarter_of(day: int) -> tuple[int, int]:
    """Return the first midnights of the quarter of a day and of the next quarter.

    >>> [index_day(d).isoformat() for d in quarter_of(day_index(date(2026, 5, 9)))]
    ['2026-04-01', '2026-07-01']
    """
    inside = index_day(day)
    start = date(inside.year, 3 * ((inside.month - 1) // 3) + 1, 1)
    year, month = divmod(12 * start.year + start.month - 1 + 3, 12)
    return day_index(start), day_index(date(year, month + 1, 1))


def quarter_name(day: int) -> str:
    """Return a quarter's name.

    >>> quarter_name(day_index(date(2026, 5, 9)))
    '2026 Q2'
    """
    inside = index_day(day)
    return f"{inside.year} Q{(inside.month - 1) // 3 + 1}"


def quarters(first: int, until: int) -> list[tuple[int, int]]:
    """Return the complete quarters between two days, oldest first."""
    start, end = quarter_of(first)
    if start < first:
        start, end = quarter_of(end)
    found = []
    while end <= until:
        found.append((start, end))
        start, end = quarter_of(end)
    return found
