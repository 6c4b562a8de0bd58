"""Issues of revenue and activity records that would distort outcomes."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from features.days import index_day
from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.quality.understanding import RevenueTables, activity_days, is_unbilled, usual_pauses
from features.revenue.terms import GOES_ON
from features.snapshots.account_status import ACTIVITY, activity_table

MASS_SHARE, MASS_ACCOUNTS = 0.2, 5
"""Share and number of accounts lost on one day from which a technical cause is likely."""

SHOWN = 5
"""Maximum number of accounts named in an issue."""


def ledger_issues(context: QualityContext, ledger: RevenueTables | str) -> Iterator[Issue]:
    """Report implausible ends of terms."""
    if isinstance(ledger, str):
        return
    yield from _missing_renewals(context, ledger)
    yield from _lost_on_one_day(context, ledger)
    yield from _unknown_mergers(context, ledger)


def _missing_renewals(context: QualityContext, ledger: RevenueTables) -> Iterator[Issue]:
    terms = ledger.terms
    expected = terms[terms["end_reason"].isin(GOES_ON) & terms["ended_day"].notna()]
    lost = expected[expected["fate"] == "lost"]
    if len(lost):
        detail = (
            f"without following terms: {len(lost):,} of {len(expected):,} terms that "
            f"ended as renewed or changed, counted as losses ({_named(lost)})"
        )
        yield context.issue(
            "renewed_into_nothing", "subscriptions", len(lost), len(expected), detail
        )


def _lost_on_one_day(context: QualityContext, ledger: RevenueTables) -> Iterator[Issue]:
    steps = ledger.steps
    gone = steps[(steps["after"] == 0) & (steps["before"] > 0) & (steps["moved"] == 0)]
    if gone.empty:
        return
    day = int(gone["day"].value_counts().index[0])
    left = gone[gone["day"] == day]
    before = steps[steps["day"] < day].drop_duplicates("entity_id", keep="last")
    there = int((before["after"] > 0).sum())
    if len(left) < MASS_ACCOUNTS or len(left) < MASS_SHARE * there:
        return
    later = steps[(steps["day"] > day) & steps["entity_id"].isin(left["entity_id"])]
    back = later["entity_id"].nunique()
    detail = (
        f"{count_of(len(left), there, 'accounts with revenue')} are lost on {index_day(day - 1)}; "
        f"{back:,} of them return later"
    )
    yield context.issue("lost_on_one_day", "subscriptions", len(left), there, detail)


def _unknown_mergers(context: QualityContext, ledger: RevenueTables) -> Iterator[Issue]:
    terms = ledger.terms
    moved = terms[(terms["fate"] == "moved") & (terms["end_reason"] == "merged")]
    arrived = terms[terms["moved_arr"] > 0]["subscription_id"]
    unknown = moved[~moved["subscription_id"].isin(arrived)]
    if len(unknown):
        detail = (
            f"{count_of(len(unknown), len(moved), 'merged terms')}, "
            f"{unknown['arr'].sum():,.0f} {context.workspace.company.reporting_currency} a year"
        )
        yield context.issue("merged_into_unknown", "subscriptions", len(unknown), None, detail)


def _named(rows: pd.DataFrame) -> str:
    names = sorted(rows["entity_id"].astype(str).unique())
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def amount_issues(context: QualityContext) -> Iterator[Issue]:
    """Report terms without an amount, and accounts that never paid."""
    if not context.has("subscriptions", "arr"):
        return
    ended = "ended_on" if context.has("subscriptions", "ended_on") else "NULL::DATE"
    live = f"started_on < $1 AND ({ended} IS NULL OR {ended} >= $1)"
    found = context.query_row(
        f"SELECT count(*) FILTER ({live}) AS whole, "
        f"count(*) FILTER ({live} AND arr IS NULL) AS rows FROM subscriptions",
        context.now.date(),
    )
    if found["rows"]:
        detail = (
            f"live terms without arr: {found['rows']:,} of {found['whole']:,}; the ARR of their "
            "accounts is unknown"
        )
        yield context.issue(
            "live_terms_without_arr", "subscriptions", found["rows"], found["whole"], detail
        )
    free = context.query_row(
        "SELECT count(*) AS whole, count(*) FILTER (most = 0) AS rows FROM "
        "(SELECT account_id, max(coalesce(arr, 1)) AS most FROM subscriptions GROUP BY 1)"
    )
    if free["rows"]:
        detail = f"accounts whose only terms have arr 0: {free['rows']:,} of {free['whole']:,}"
        yield context.issue("unpaid_accounts", "subscriptions", free["rows"], free["whole"], detail)


def term_coverage_issues(context: QualityContext) -> Iterator[Issue]:
    """Report active accounts without subscription."""
    if not context.has("subscriptions"):
        return
    tables = [name for name in ACTIVITY if context.has(name)]
    seen = " UNION ".join(f"SELECT account_id FROM ({activity_days(context, t)})" for t in tables)
    if not tables:
        return
    found = context.query_row(
        f"SELECT count(DISTINCT account_id) AS whole, count(DISTINCT account_id) FILTER "
        f"(account_id NOT IN (SELECT account_id FROM subscriptions)) AS rows FROM ({seen})"
    )
    if found["rows"]:
        detail = (
            f"accounts with activity and without any term: {found['rows']:,} of "
            f"{found['whole']:,}; if these are former accounts, models learn from survivors only"
        )
        yield context.issue(
            "activity_without_terms", "subscriptions", found["rows"], found["whole"], detail
        )


def unfolded_issues(context: QualityContext) -> Iterator[Issue]:
    """Report subscriptions whose renewal date is overwritten, and other shapes of billing rows."""
    info = context.loaded.tables.get("subscriptions")
    done = info.unfolded if info else None
    if info is None or done is None or not done.subscriptions:
        return
    whole = max(info.rows, done.subscriptions)
    if done.shape:
        detail = (
            f"{done.subscriptions:,} rows, each {SHAPE_WORDS[done.shape]}, read as "
            f"{done.rows:,} terms"
        )
        yield context.issue("billing_rows", "subscriptions", done.subscriptions, whole, detail)
        if done.shape == "subscription":
            detail = "the export overwrites the amount, so past terms show the latest one"
            n = done.subscriptions
            yield context.issue("prices_overwritten", "subscriptions", n, whole, detail)
        return
    detail = (
        f"{count_of(done.subscriptions, info.rows)} span several billing periods, so their "
        f"renewal would be known years ahead; split into {done.rows:,} terms of one {done.period}"
    )
    code = "overwritten_terms" if done.is_guess else "unfolded_terms"
    yield context.issue(code, "subscriptions", done.subscriptions, info.rows, detail)


SHAPE_WORDS = {
    "term": "a contract term",
    "period": "a billing period",
    "subscription": "a subscription whose current period is overwritten",
    "change": "a change of the amount",
    "invoice_line": "an invoice line with a service period",
}
"""Shape of a billing export in words."""


def rhythm_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts whose usual gap between activity exceeds the horizon."""
    company = context.workspace.company
    targets = {n: t for n, t in company.targets.items() if t.observed_in == "activity"}
    table = activity_table(context.loaded.tables)
    if not targets or table is None:
        return
    horizon = min(target.horizon_days for target in targets.values())
    limit = min(horizon, company.cohort.active_within_days)
    found = context.query_row(
        f"WITH usual AS ({usual_pauses(context, table)}) SELECT count(*) AS whole, "
        f"count(*) FILTER (pause > {limit}) AS rows, "
        f"median(pause) FILTER (pause > {limit}) AS days FROM usual"
    )
    if found["rows"]:
        detail = (
            f"{count_of(found['rows'], found['whole'], 'accounts')} have a longer usual gap "
            f"({found['days']:.0f} days) than horizon_days ({horizon}) and active_within_days "
            f"({company.cohort.active_within_days})"
        )
        yield context.issue("silent_by_habit", table, found["rows"], found["whole"], detail)


def uncounted_issues(context: QualityContext) -> Iterator[Issue]:
    """Report rows that count neither as activity nor as revenue."""
    for table, column, condition, noun in (
        ("usage_events", "quantity", "quantity = 0", "events with a quantity of 0"),
        ("invoices", "is_failed_charge", "is_failed_charge", "failed charges"),
        ("invoices", "status", is_unbilled("status"), "drafts and voided invoices"),
    ):  # fmt: skip
        if not context.has(table, column):
            continue
        found = context.query_row(
            f"SELECT count(*) AS whole, count(*) FILTER ({condition}) AS rows FROM {table}"
        )
        if found["rows"]:
            detail = f"{count_of(found['rows'], found['whole'])}: {noun}"
            yield context.issue("not_counted", table, found["rows"], found["whole"], detail)
