"""The ledger of recurring revenue: what each account paid when, and how it moved.

Days are whole days since 1970-01-01 as in `features.daily`: terms that start or end on a date
count from the next midnight, so a quarter is ``(first midnight, first midnight of the next]``.
Money is in one currency at one constant rate per currency: a rate that moves is no movement.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

import numpy as np
import pandas as pd

from configs.errors import DataError
from features.labels import COMEBACK_DAYS
from features.snapshots import day_index, index_day

Kind = Literal["new", "reactivation", "expansion", "contraction", "churn", "merged"]

KINDS: dict[Kind, str] = {
    "new": "ARR of an account that never paid before",
    "reactivation": "ARR of an account that had left",
    "expansion": "more ARR of an account that was there, signed uplifts included",
    "contraction": "less ARR of an account that stays",
    "churn": "ARR of an account that left",
    "merged": "ARR moved into another account: no loss, and out of the cohort",
}

DEFINITIONS = {
    "ARR": "Annual recurring revenue of the terms that hold, in the reporting currency, at one "
    "constant rate per currency.",
    "GRR": "Gross revenue retention of a quarter: of the ARR at its start, the share that is still "
    "there at its end, each account counted at most with what it paid at the start. It cannot "
    "exceed 100 %.",
    "NRR": "Net revenue retention: ARR at the end of the quarter of the accounts there at its "
    "start, over their ARR at the start. New and returning accounts are left out.",
    "Interruption": f"Terms that go on within {COMEBACK_DAYS} days of their end never stopped.",
}

PENDING = ("renewed", "changed")
"""Reasons of an end after which terms are expected to go on."""

TERM_COLUMNS = {
    "entity_id": "the account",
    "subscription_id": "the subscription",
    "day": "midnight after the first day of the terms",
    "known_day": "midnight from which the row is known",
    "ended_day": "midnight after the first day without them, NaN while they hold",
    "end_reason": "why they ended, None while they hold",
    "renews_day": "day of the contractual renewal, NaN without",
    "notice_day": "midnight after notice was given, NaN without",
    "notice_period_days": "NaN without",
    "escalator": "signed uplift at the renewal, share",
    "arr": "annual value at the constant rate",
}


def known_terms(terms: pd.DataFrame, at: int) -> pd.DataFrame:
    """Return the terms as they were known at a midnight, the latest version of each.

    Parameters
    ----------
    terms : pandas.DataFrame
        One row per terms and version, columns of `TERM_COLUMNS`.
    at : int
        Day index; nothing that happened or became known later shows.
    """
    seen = terms[(terms["day"] <= at) & (terms["known_day"] <= at)]
    seen = seen.sort_values(["entity_id", "subscription_id", "day", "known_day"], kind="stable")
    seen = seen.drop_duplicates(["entity_id", "subscription_id", "day"], keep="last")
    is_over = seen["ended_day"] <= at
    return seen.assign(
        ended_day=seen["ended_day"].where(is_over),
        end_reason=seen["end_reason"].where(is_over),
        notice_day=seen["notice_day"].where(seen["notice_day"] <= at),
    ).reset_index(drop=True)


def levels(terms: pd.DataFrame, until: int) -> pd.DataFrame:
    """Return each account's ARR as steps: one row per account and day on which it changed.

    Parameters
    ----------
    terms : pandas.DataFrame
        From `known_terms` at `until`.
    until : int
        Day index of the last midnight looked at.

    Returns
    -------
    pandas.DataFrame
        entity_id, day, before, after (to the cent), is_merged; sorted by account and day.

    Raises
    ------
    DataError
        A negative ARR.
    """
    _refuse_negative(terms)
    rows = terms.assign(arr=terms["arr"].fillna(0.0), ended_day=_lasting(terms, until))
    ends = rows[rows["ended_day"] <= until]
    changes = pd.concat(
        [
            rows[["entity_id", "day", "arr"]].assign(merged=0.0),
            pd.DataFrame(
                {
                    "entity_id": ends["entity_id"],
                    "day": ends["ended_day"].astype("int64"),
                    "arr": -ends["arr"],
                    "merged": ends["arr"].where(ends["end_reason"] == "merged", 0.0),
                }
            ),
        ]
    )
    steps = changes.groupby(["entity_id", "day"], as_index=False).sum()
    steps["after"] = steps.groupby("entity_id")["arr"].cumsum().round(2).abs()
    return _without_interruptions(steps)


def _refuse_negative(terms: pd.DataFrame) -> None:
    negative = terms.loc[terms["arr"] < 0, "entity_id"]
    if len(negative):
        raise DataError(
            f"{len(negative)} terms have a negative ARR",
            where=f"subscriptions.arr, first of account {negative.iloc[0]}",
            fix="map credits as a lower arr of the terms they reduce",
        )


def _lasting(terms: pd.DataFrame, until: int) -> pd.Series:
    """Return when terms ended, moved to the start of those that go on soon after."""
    follows = terms.groupby(["entity_id", "subscription_id"])["day"].shift(-1)
    ended = terms["ended_day"]
    goes_on = (follows > ended) & (follows <= ended + COMEBACK_DAYS)
    awaits = follows.isna() & terms["end_reason"].isin(PENDING) & (until <= ended + COMEBACK_DAYS)
    return ended.mask(goes_on, follows).mask(awaits)


def _without_interruptions(steps: pd.DataFrame) -> pd.DataFrame:
    """Drop the days on which nothing changed, and absences too short to be one."""
    account = steps.groupby("entity_id")
    back_soon = (account["day"].shift(-1) - steps["day"]) <= COMEBACK_DAYS
    had = account["after"].shift(1, fill_value=0.0) > 0
    steps = steps[~((steps["after"] == 0) & back_soon & had)]
    before = steps.groupby("entity_id")["after"].shift(1, fill_value=0.0)
    steps = steps.assign(before=before, is_merged=steps["merged"] > 0)
    steps = steps[steps["after"] != steps["before"]]
    return steps[["entity_id", "day", "before", "after", "is_merged"]].reset_index(drop=True)


def kind_of(
    before: np.ndarray, after: np.ndarray, paid_earlier: np.ndarray, is_merged: np.ndarray
) -> np.ndarray:
    """Return the kind of each movement, None where nothing moved.

    >>> kind_of(np.array([0.0, 5, 5, 5]), np.array([5.0, 0, 9, 5]), *np.zeros((2, 4))).tolist()
    ['new', 'churn', 'expansion', None]
    """
    begins, ends = (before == 0) & (after > 0), (before > 0) & (after == 0)
    cases = [
        begins & (paid_earlier > 0),
        begins,
        ends & (is_merged > 0),
        ends,
        after > before,
        after < before,
    ]
    names = ["reactivation", "new", "merged", "churn", "expansion", "contraction"]
    found = np.full(len(before), None, dtype=object)
    for case, name in reversed(list(zip(cases, names, strict=True))):
        found[case] = name
    return found


def movements(steps: pd.DataFrame) -> pd.DataFrame:
    """Return every movement: one row per account and day, with its kind and change of ARR."""
    earlier = steps.groupby("entity_id").cumcount().to_numpy()
    kinds = kind_of(
        steps["before"].to_numpy(),
        steps["after"].to_numpy(),
        earlier,
        steps["is_merged"].to_numpy(),
    )
    return steps.assign(kind=kinds, change=(steps["after"] - steps["before"]).round(2))


def position(steps: pd.DataFrame, day: int) -> pd.Series:
    """Return the ARR of every account of the ledger at a midnight; 0 for those not there."""
    last = steps[steps["day"] <= day].drop_duplicates("entity_id", keep="last")
    held = last.set_index("entity_id")["after"]
    return held.reindex(steps["entity_id"].unique(), fill_value=0.0).sort_index()


def retained(steps: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """Return how each account came through a period: its one net movement.

    Returns
    -------
    pandas.DataFrame
        Indexed by entity_id, accounts with ARR at either end: start, end, kind (None: unchanged),
        change, kept = min(start, end), is_cohort (paid at the start and was not merged away).
        ``start + change = end`` for each account, so sums over any group reconcile.
    """
    first, last = position(steps, start), position(steps, end)
    earlier = steps[(steps["day"] <= start)].groupby("entity_id").size().reindex(first.index)
    inside = steps[(steps["day"] > start) & (steps["day"] <= end)]
    merged = inside.groupby("entity_id")["is_merged"].last().reindex(first.index)
    table = pd.DataFrame({"start": first, "end": last})
    table["kind"] = kind_of(
        first.to_numpy(),
        last.to_numpy(),
        earlier.fillna(0).to_numpy(),
        merged.eq(True).to_numpy(),
    )
    table = table.assign(
        change=(last - first).round(2),
        kept=np.minimum(first, last),
        is_cohort=(first > 0) & (table["kind"] != "merged"),
    )
    return table[(table["start"] > 0) | (table["end"] > 0)]


def retention(accounts: pd.DataFrame) -> dict[str, float | None]:
    """Return a period's bridge from start to end and its rates, from rows of `retained`.

    Returns
    -------
    dict
        start, one entry per kind (losses negative), end, accounts, lost_accounts, and grr, nrr,
        logo_retention in shares, None without a cohort. ``start`` and the kinds add up to ``end``.
    """
    cohort = accounts[accounts["is_cohort"]]
    base = float(cohort["start"].sum())
    bridge = accounts.groupby("kind")["change"].sum()
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
    """Return the cohort of every account: the year in which it first paid, as text."""
    first = steps.drop_duplicates("entity_id").set_index("entity_id")["day"]
    return first.map(lambda day: str(index_day(int(day) - 1).year))


def quarter_of(day: int) -> tuple[int, int]:
    """Return the first midnight of the quarter a midnight opens or lies in, and that of the next.

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
    """Return the whole quarters from a day on that are over at another, oldest first."""
    start, end = quarter_of(first)
    if start < first:
        start, end = quarter_of(end)
    found = []
    while end <= until:
        found.append((start, end))
        start, end = quarter_of(end)
    return found
