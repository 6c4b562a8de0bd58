"""Data summary: key figures for comparison with the company's own.

Printed before the issues: accounts and ARR today, ARR at past year ends, losses and expansion per
quarter, median term, billing cycle and activity, and the first and last day of each table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import Any, TypedDict

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from configs.runtime.errors import DataError
from features.days import day_index, index_day
from features.quality.context import QualityContext
from features.revenue.invoice_statuses import NOT_BILLED
from features.revenue.retention import (
    known_terms,
    levels,
    position,
    quarter_name,
    quarter_of,
    quarters,
    retained,
    retention,
)
from features.snapshots.account_status import activity_table
from features.snapshots.subscriptions import read_invoices, read_terms
from features.sources.files.sql import text_list
from features.tables.source_tables import TABLES

QUARTERS = 8
"""Number of past quarters shown."""

YEARS = 3
"""Number of past year ends shown."""


@dataclass(frozen=True)
class Quarter:
    """Retention of the accounts of one quarter.

    Attributes
    ----------
    quarter : str
        Name such as ``2026 Q2``; complete quarters only.
    start_arr, end_arr : float
        ARR at both ends, all accounts, in the reporting currency.
    lost, expanded, contracted, new, returned : int
        Accounts, each counted once by its net movement over the quarter. An account that came and
        left within the quarter counts as new and as lost, but not in the rates.
    lost_arr, expansion_arr, contraction_arr, new_arr, returned_arr, moved_arr : float
        Their ARR; losses are negative. ``start_arr`` and these add up to ``end_arr``.
    grr, nrr : float or None
        Retention rates; None without ARR at the start.
    """

    quarter: str
    start_arr: float
    end_arr: float
    lost: int
    expanded: int
    contracted: int
    new: int
    returned: int
    lost_arr: float
    expansion_arr: float
    contraction_arr: float
    new_arr: float
    returned_arr: float
    moved_arr: float
    grr: float | None
    nrr: float | None


class Activity(TypedDict, total=False):
    """Activity of accounts in the activity table; empty without one."""

    table: str
    active_28d: int
    active_91d: int
    median_per_28d: float


class TermFacts(TypedDict):
    """Counts of subscription terms."""

    terms: int
    live: int | None
    median_term_days: float | None


class BilledFacts(TypedDict):
    """Amount billed in the last 364 days, and the number of billed accounts."""

    billed: float | None
    billed_accounts: int | None


class RevenueFacts(TypedDict):
    """Figures from the revenue ledger."""

    paying: int
    unpriced: int
    arr: float
    arr_at: dict[str, float]
    quarters: tuple[Quarter, ...]
    so_far: Quarter | None


@dataclass(frozen=True)
class Understanding:
    """Key figures of a company at one as_of.

    Attributes
    ----------
    as_of, currency : str
        The day (00:00 UTC), and the reporting currency of all money.
    accounts : int
        All known accounts, without test accounts.
    live, paying : int or None
        Accounts with active terms, and those of them with ARR; None without subscriptions.
    unpriced : int
        Accounts with terms without ARR, left out of all sums of ARR.
    arr : float or None
        ARR today.
    billed : float or None
        Amount invoiced in the last 364 days, less credits; None without amounts.
    billed_accounts : int or None
        Invoiced accounts.
    arr_at : dict of str to float
        Day to ARR at past year ends; for the end of this year, ARR of terms that run at least
        until then.
    terms : int
        Rows of subscriptions.
    median_term_days, median_billing_days : float or None
        Median days from the start of terms to their renewal, and between charges of an account.
    activity : Activity
        table, median_per_28d (rows per account with any in the last 91 days), active_28d and
        active_91d (accounts), median_pause_days (between days of activity).
    spans : dict of str to tuple
        Table to its first and last day.
    quarters : tuple of Quarter
        Complete quarters, oldest first.
    so_far : Quarter or None
        The quarter that is still running; None on its first day.
    why_not : str
        Reason for a missing ARR; empty with ARR.
    """

    as_of: str
    currency: str
    accounts: int
    live: int | None = None
    paying: int | None = None
    unpriced: int = 0
    arr: float | None = None
    billed: float | None = None
    billed_accounts: int | None = None
    arr_at: Mapping[str, float] = field(default_factory=dict)
    terms: int = 0
    median_term_days: float | None = None
    median_billing_days: float | None = None
    activity: Activity = field(default_factory=Activity)
    spans: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    quarters: tuple[Quarter, ...] = ()
    so_far: Quarter | None = None
    why_not: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return asdict(self)

    def render(self, console: Console) -> None:
        """Print one screen."""
        console.print(Text(f"Data summary as of {self.as_of}", style="bold"))
        for line in self.lines():
            console.print(Text(line), soft_wrap=True)
        if self.quarters:
            console.print(self._quarters_view())
        console.print()

    def lines(self) -> list[str]:
        """Return the figures as sentences."""
        lines = [f"{self.accounts:,} accounts" + self._live_words()]
        if self.arr is not None:
            lines.append(f"ARR today {self.arr:,.0f} {self.currency}" + self._year_words())
        elif self.why_not:
            lines.append(f"No ARR: {self.why_not}")
        if self.billed is not None:
            lines.append(
                f"Billed in the last 364 days: {self.billed:,.0f} {self.currency}, to "
                f"{self.billed_accounts:,} accounts"
            )
        if self.unpriced:
            lines.append(
                f"{self.unpriced:,} accounts have terms without ARR; sums of ARR leave them out"
            )
        lines.append(self._rhythm_words())
        return [line for line in lines if line]

    def _live_words(self) -> str:
        if self.live is None:
            return ""
        return f", {self.live:,} with active terms, {self.paying:,} of them paying"

    def _year_words(self) -> str:
        past = [f"{value:,.0f} on {day}" for day, value in self.arr_at.items() if day <= self.as_of]
        ahead = [
            f"{value:,.0f} under terms beyond {day}"
            for day, value in self.arr_at.items()
            if day > self.as_of
        ]
        return "".join(f"; {words}" for words in [*past, *ahead])

    def _rhythm_words(self) -> str:
        parts = []
        if self.terms:
            parts.append(f"{self.terms:,} terms")
        if self.median_term_days is not None:
            parts.append(f"usual term {self.median_term_days:,.0f} days")
        if self.median_billing_days is not None:
            parts.append(f"usual billing cycle {self.median_billing_days:,.0f} days")
        if self.activity:
            found = self.activity
            parts.append(
                f"{found['table']}: {found['active_28d']:,} accounts active in 28 days, "
                f"{found['active_91d']:,} in 91; "
                f"usually {found['median_per_28d']:,.0f} rows per account in 28 days"
            )
        return "; ".join(parts)

    def _quarters_view(self) -> Table:
        view = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
        view.add_column("quarter", no_wrap=True)
        for heading in ("at start", "lost", "shrank", "grew", "new, back", "GRR", "NRR"):
            view.add_column(heading, justify="right", no_wrap=True)
        running = [] if self.so_far is None else [self.so_far]
        for item in [*self.quarters, *running]:
            view.add_row(
                item.quarter + (" so far" if item is self.so_far else ""),
                _short(item.start_arr),
                _moved(item.lost, item.lost_arr),
                _moved(item.contracted, item.contraction_arr),
                _moved(item.expanded, item.expansion_arr),
                _moved(item.new + item.returned, item.new_arr + item.returned_arr),
                "" if item.grr is None else f"{item.grr:.1%}",
                "" if item.nrr is None else f"{item.nrr:.1%}",
            )
        return view


def _moved(n: int, arr: float) -> str:
    sign = "+" if arr > 0 else ""
    return f"{n:,}: {sign}{_short(arr)}" if n else "0"


def _short(money: float) -> str:
    """Return an amount for a narrow column.

    >>> _short(14_210_900.0), _short(-499_293.0), _short(9_120.0)
    ('14.21m', '-499k', '9,120')
    """
    if abs(money) >= 1e6:
        return f"{money / 1e6:,.2f}m"
    return f"{money / 1e3:,.0f}k" if abs(money) >= 1e4 else f"{money:,.0f}"


@dataclass(frozen=True)
class RevenueTables:
    """Revenue ledger of a company today, for the summary and the issues.

    Attributes
    ----------
    terms : pandas.DataFrame
        From `known_terms`.
    steps : pandas.DataFrame
        From `levels`.
    unpriced : tuple of str
        Accounts left out.
    today : int
        Day index.
    """

    terms: pd.DataFrame
    steps: pd.DataFrame
    unpriced: tuple[str, ...]
    today: int


def read_ledger(context: QualityContext) -> RevenueTables | str:
    """Return the revenue ledger of a company, or the reason for its absence."""
    if "subscriptions" not in context.loaded.tables:
        return "there are no subscriptions"
    try:
        terms, unpriced = read_terms(context.loaded, context.workspace.company.reporting_currency)
        today = day_index(context.now.date())
        seen = known_terms(terms, today)
        return RevenueTables(seen, levels(seen, today), unpriced, today)
    except DataError as error:
        return error.what


def understand(context: QualityContext, ledger: RevenueTables | str) -> Understanding:
    """Return the key figures of a company.

    Parameters
    ----------
    context : QualityContext
        The loaded tables and the clock.
    ledger : RevenueTables or str
        From `read_ledger`.
    """
    company = context.workspace.company
    accounts = context.query_row("SELECT count(DISTINCT account_id) AS n FROM accounts")["n"]
    summary = Understanding(
        as_of=str(context.now.date()),
        currency=company.reporting_currency,
        accounts=accounts,
        median_billing_days=_billing_days(context),
        activity=_activity(context),
        spans=_spans(context),
    )
    if context.has("subscriptions"):
        summary = replace(summary, **_terms(context))
    if context.has("invoices", "amount"):
        summary = replace(summary, **_billed(context))
    if isinstance(ledger, str):
        return replace(summary, why_not=ledger)
    return replace(summary, **_revenue(ledger))


def _terms(context: QualityContext) -> TermFacts:
    renews = "renews_on" if context.has("subscriptions", "renews_on") else "NULL::DATE"
    ended = "ended_on" if context.has("subscriptions", "ended_on") else "NULL::DATE"
    row = context.query_row(
        f"SELECT count(*) AS terms, count(DISTINCT account_id) FILTER (started_on < $1 "
        f"AND ({ended} IS NULL OR {ended} >= $1)) AS live, "
        f"median(date_diff('day', started_on, {renews})) AS median_term_days FROM subscriptions",
        context.now.date(),
    )
    return {
        "terms": row["terms"],
        "live": row["live"],
        "median_term_days": row["median_term_days"],
    }


def _revenue(ledger: RevenueTables) -> RevenueFacts:
    steps, today = ledger.steps, ledger.today
    now = position(steps, today)
    ends = [date(index_day(today).year - back, 12, 31) for back in range(YEARS, 0, -1)]
    # The position at a midnight is that of the day before: 31 December is read on 1 January.
    arr_at = {str(end): float(position(steps, day_index(end) + 1).sum()) for end in ends}
    arr_at = {day: value for day, value in arr_at.items() if value}
    end = date(index_day(today).year, 12, 31)
    arr_at[str(end)] = _arr_beyond(ledger, day_index(end))
    return {
        "paying": int((now > 0).sum()),
        "unpriced": len(ledger.unpriced),
        "arr": float(now.sum()),
        "arr_at": arr_at,
        "quarters": tuple(_quarters(ledger)),
        "so_far": _so_far(ledger),
    }


def _arr_beyond(ledger: RevenueTables, day: int) -> float:
    """Return the ARR of active terms without a renewal by a day."""
    held = ledger.terms[ledger.terms["fate"] == "held"]
    return float(held.loc[held["renews_day"] > day, "arr"].sum())


def _quarters(ledger: RevenueTables) -> list[Quarter]:
    if ledger.steps.empty:
        return []
    first = int(ledger.steps["day"].min())
    spans = quarters(first, ledger.today)[-QUARTERS:]
    return [_quarter(ledger.steps, start, end) for start, end in spans]


def _so_far(ledger: RevenueTables) -> Quarter | None:
    start, _ = quarter_of(ledger.today)
    if ledger.steps.empty or start >= ledger.today:
        return None
    return _quarter(ledger.steps, start, ledger.today)


def _quarter(steps: pd.DataFrame, start: int, end: int) -> Quarter:
    accounts = retained(steps, start, end)
    sums = retention(accounts)
    counts = accounts["kind"].value_counts()
    passing, passing_arr = _came_and_left(steps, start, end)
    return Quarter(
        quarter=quarter_name(start),
        start_arr=float(sums["start"] or 0.0),
        end_arr=float(sums["end"] or 0.0),
        lost=int(counts.get("churn", 0)) + passing,
        expanded=int(counts.get("expansion", 0)),
        contracted=int(counts.get("contraction", 0)),
        new=int(counts.get("new", 0)) + passing,
        returned=int(counts.get("reactivation", 0)),
        lost_arr=float(sums["churn"] or 0.0) - passing_arr,
        expansion_arr=float(sums["expansion"] or 0.0),
        contraction_arr=float(sums["contraction"] or 0.0),
        new_arr=float(sums["new"] or 0.0) + passing_arr,
        returned_arr=float(sums["reactivation"] or 0.0),
        moved_arr=float(sums["merged"] or 0.0),
        grr=sums["grr"],
        nrr=sums["nrr"],
    )


def _came_and_left(steps: pd.DataFrame, start: int, end: int) -> tuple[int, float]:
    """Return accounts whose only ARR began and ended within a quarter, and their highest ARR."""
    inside = steps[(steps["day"] > start) & (steps["day"] <= end) & (steps["after"] > 0)]
    ends = position(steps, start).add(position(steps, end), fill_value=0.0)
    highest = inside.groupby("entity_id")["after"].max()
    passing = highest[ends.reindex(highest.index, fill_value=0.0) == 0]
    return len(passing), float(passing.sum())


def _billed(context: QualityContext) -> BilledFacts:
    """Return the amount billed in the last 364 days, at the rate of each invoice's day."""
    rows = read_invoices(context.loaded, context.workspace.company.reporting_currency)
    today = day_index(context.now.date())
    recent = rows[(rows["day"] <= today) & (rows["known_day"] <= today)]
    recent = recent[recent["day"] > today - 364]
    charged = recent[recent["amount"] > 0]
    return {
        "billed": float(recent["amount"].sum()),
        "billed_accounts": int(charged["entity_id"].nunique()),
    }


def _billing_days(context: QualityContext) -> float | None:
    if not context.has("invoices", "amount"):
        return None
    usual = usual_pauses(context, "invoices")
    days = context.query_row(f"SELECT median(pause) AS days FROM ({usual})")["days"]
    return None if days is None else float(days)


def usual_pauses(context: QualityContext, table: str) -> str:
    """Return SQL of the median gap between activity days: account_id, pause (days)."""
    return (
        f"SELECT account_id, median(gap) AS pause FROM (SELECT account_id, date_diff('day', "
        f"lag(day) OVER (PARTITION BY account_id ORDER BY day), day) AS gap "
        f"FROM ({activity_days(context, table)})) WHERE gap IS NOT NULL GROUP BY 1"
    )


def _activity(context: QualityContext) -> Activity:
    """Return the activity of accounts in the activity table."""
    table = activity_table(context.loaded.tables)
    if table is None:
        return {}
    days = activity_days(context, table)
    found = context.query_row(
        f"WITH days AS ({days}), "
        f"recent AS (SELECT account_id, sum(n) FILTER (day >= $1) AS n28, sum(n) AS n91 "
        f"FROM days WHERE day >= $2 GROUP BY 1) "
        f"SELECT (SELECT count(*) FROM recent WHERE n28 > 0) AS active_28d, "
        f"(SELECT count(*) FROM recent) AS active_91d, "
        f"(SELECT median(coalesce(n28, 0)) FROM recent) AS median_per_28d",
        context.now.date() - timedelta(days=28),
        context.now.date() - timedelta(days=91),
    )
    return {
        "table": table,
        "active_28d": found["active_28d"],
        "active_91d": found["active_91d"],
        "median_per_28d": float(found["median_per_28d"] or 0.0),
    }


def activity_days(context: QualityContext, table: str) -> str:
    """Return SQL of the activity days of accounts: account_id, day, n (rows)."""
    moment = TABLES[table].happened
    real = "true"
    if table == "usage_events" and context.has(table, "quantity"):
        real = "coalesce(quantity, 1) > 0"
    elif table == "invoices" and context.has(table, "amount"):
        real = "amount > 0"
        if context.has(table, "is_failed_charge"):
            real += " AND NOT coalesce(is_failed_charge, false)"
        if context.has(table, "status"):
            real += f" AND NOT coalesce({is_unbilled('status')}, false)"
    return (
        f"SELECT account_id, CAST({moment} AS DATE) AS day, count(*) AS n FROM {table} "
        f"WHERE {real} GROUP BY ALL"
    )


def is_unbilled(column: str) -> str:
    """Return SQL for: an invoice status without a payment obligation."""
    return f"lower(trim({column})) IN (SELECT unnest({text_list(NOT_BILLED)}))"


def _spans(context: QualityContext) -> dict[str, tuple[str, str]]:
    return {
        name: (str(info.first_happened)[:10], str(info.last_happened)[:10])
        for name, info in context.loaded.tables.items()
        if info.first_happened and info.last_happened
    }
