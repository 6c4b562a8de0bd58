"""Totals that must agree: between scores, pages, forecast, revenue ledger and raw files.

Checked at every run. What does not agree is an error in the quality report and a banner on the
pages; the numbers themselves are shown as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from features.days import day_index
from features.quality import Issue, Understanding
from features.revenue.retention import quarter_name
from features.snapshots.statuses import NOT_CUSTOMERS
from features.sources import Loaded
from serving.pages.portfolio.sums import Summary

CODE = "totals_disagree"
CENTS = 0.05
"""Amounts may differ by rounding alone: this much per account."""

Plain = Mapping[str, Any]


def disagreements(
    rows: Sequence[Plain], forecast: Plain, understood: Understanding | None, loaded: Loaded
) -> list[str]:
    """Return every total that does not agree with another, in words; empty when all do.

    Parameters
    ----------
    rows : sequence of mapping
        The answers of all accounts, as served.
    forecast : mapping
        Content of the forecast (`training.forecast.company.company_forecast`).
    understood : Understood or None
        What `bellwether check` shows.
    loaded : Loaded
        The tables, for the lines that were read.
    """
    found = [*_lines(loaded), *_answers(rows)]
    if understood is not None and understood.arr is not None:
        found += _pair("ARR today", "the revenue ledger", understood.arr, "the scores", _arr(rows))
    if forecast.get("kind") == "recurring":
        found += _forecast(rows, forecast)
    return found


def disagreement_issue(found: Sequence[str]) -> Issue:
    """Return the disagreements as one issue of the quality report."""
    return Issue(CODE, "", len(found), None, "; ".join(found), ("every total",))


def _arr(rows: Iterable[Plain]) -> float:
    return float(sum(row.get("arr") or 0.0 for row in rows))


def _pair(what: str, one: str, a: float, other: str, b: float, n: int = 100) -> Iterator[str]:
    if abs(a - b) > CENTS * max(n, 1):
        yield f"{what} is {a:,.2f} in {one} and {b:,.2f} in {other}"


def _lines(loaded: Loaded) -> Iterator[str]:
    """Rows read are kept, set aside or copies; none is missing."""
    for name, info in loaded.tables.items():
        told = info.rows + info.rows_quarantined + info.rows_duplicate
        if told != info.rows_read:
            yield f"{name}: {info.rows_read:,} rows were read, {told:,} are accounted for"


def _answers(rows: Sequence[Plain]) -> Iterator[str]:
    names = {row["account_id"] for row in rows}
    if len(names) != len(rows):
        yield f"{len(rows):,} answers for {len(names):,} accounts"
    worth = [row for row in rows if row["status"] in NOT_CUSTOMERS and (row.get("arr") or 0.0) > 0]
    if worth and any((row.get("renewal") or {}).get("renews_on") for row in worth):
        yield f"{len(worth):,} closed accounts have ARR under contract"


def _forecast(rows: Sequence[Plain], forecast: Plain) -> Iterator[str]:
    n = int(forecast["accounts"])
    yield from _pair("ARR today", "the forecast", forecast["arr"], "the scores", _arr(rows), n)
    paying = sum((row.get("arr") or 0.0) > 0 for row in rows)
    if paying != n:
        yield f"the forecast holds {n:,} accounts with ARR, the scores {paying:,}"
    yield from _renewals(rows, forecast)
    for period in forecast["periods"]:
        for kind in ("segment", "owner"):
            parts = [group["base"] for group in period["groups"] if group["kind"] == kind]
            if parts:
                whole = period["base"]
                what = f"ARR at the start of {period['name']}"
                yield from _pair(what, "all", whole, f"the sum by {kind}", sum(parts), n)


def portfolio_disagreements(found: Summary, rows: Sequence[Plain]) -> list[str]:
    """Return what the portfolio page adds up differently, in words.

    Parameters
    ----------
    found : Summary
        Sums of the same scores.
    rows : sequence of mapping
        The answers of all accounts, as served.
    """
    whole = found.total
    worth = _arr(row for row in rows if row["status"] not in NOT_CUSTOMERS)
    told = [*_pair("ARR today", "the portfolio", whole.arr, "the scores", worth, len(rows))]
    for dimension, parts in found.groups.items():
        for name in ("arr", "arr_high", "lost", "lost_91d"):
            added = sum(getattr(part, name) for part in parts)
            what = f"{name} of the portfolio"
            told += _pair(what, "all", getattr(whole, name), f"the sum by {dimension}", added,
                          len(rows))  # fmt: skip
    return told


def _renewals(rows: Sequence[Plain], forecast: Plain) -> Iterator[str]:
    """Renewals due per quarter: the forecast against the scores. Late ones have no date there."""
    by_quarter: dict[str, list[float]] = {}
    for row in rows:
        renewal = row.get("renewal") or {}
        if renewal.get("renews_on") and (row.get("arr") or 0.0) > 0:
            name = quarter_name(_day(renewal["renews_on"]))
            by_quarter.setdefault(name, []).append(float(row["arr"]))
    for due in forecast["renewals"]:
        own = by_quarter.get(due["quarter"], [])
        late = int(due.get("late_accounts", 0))
        if due["accounts"] - late != len(own):
            yield (
                f"renewals due in {due['quarter']}: {due['accounts'] - late:,} accounts in the "
                f"forecast, {len(own):,} in the scores"
            )
        arr = due["arr"] - due.get("late_arr", 0.0)
        what = f"ARR that renews in {due['quarter']}"
        yield from _pair(what, "the forecast", arr, "the scores", sum(own), len(own))


def _day(text: str) -> int:
    return day_index(date.fromisoformat(text[:10]))
