"""Issues of a load compared with the load before: schema and meaning that drift.

A table of events only grows, so the shares and quantiles of the whole table change little from one
load to the next. Large changes are therefore changes of the export, not of the accounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from features.quality.context import QualityContext, count_of
from features.quality.history.profile import ColumnProfile, TableProfile
from features.quality.report import Issue
from features.tables.source_tables import TABLES

LEAST_ROWS = 20
"""Minimum number of rows of a table in both loads."""

MISSING_RISE = 0.2
"""Rise of the share of missing values."""

SHRINK_SHARE = 0.05
"""Share of the rows of the load before that are gone."""

REWRITTEN_SHARE, SETTLED_DAYS = 0.05, 35
"""Change of the rows of past months, and age of a month from which it does not change."""

FACTOR = 3.0
"""Factor of the medians of a number between two loads."""

COMMON = 0.05
"""Share of rows of a common value."""

SNAPSHOTS = frozenset({"labels"})
"""Tables that are replaced as a whole by intention."""


def drift_issues(
    context: QualityContext, before: Mapping[str, TableProfile], now: Mapping[str, TableProfile]
) -> Iterator[Issue]:
    """Report what changed in each table since the load before.

    Parameters
    ----------
    context : QualityContext
        The loaded tables.
    before, now : dict of str to TableProfile
        Profiles of the load before, and of this one.
    """
    for name, old in before.items():
        if name in SNAPSHOTS or name not in TABLES:
            continue
        new = now.get(name)
        if new is None:
            detail = f"{old.rows:,} rows at the load before, none now"
            yield context.issue("table_gone", name, old.rows, old.rows, detail)
            continue
        yield from _columns(context, name, old, new)
        if min(old.rows, new.rows) and old.rows >= LEAST_ROWS:
            yield from _rows(context, name, old, new)


def _columns(
    context: QualityContext, name: str, old: TableProfile, new: TableProfile
) -> Iterator[Issue]:
    gone = [item for item in old.columns if item not in new.columns]
    added = [item for item in new.columns if item not in old.columns]
    if gone:
        detail = f"{', '.join(gone)}: present at the load before"
        yield context.issue("column_gone", name, len(gone), None, detail)
    if added:
        yield context.issue("column_new", name, len(added), None, ", ".join(added))
    for item, column in new.columns.items():
        if item in old.columns:
            yield from _column(context, name, item, old.columns[item], column, new.rows)


def _column(
    context: QualityContext,
    name: str,
    item: str,
    old: ColumnProfile,
    new: ColumnProfile,
    rows: int,
) -> Iterator[Issue]:
    if old.type and new.type and old.type != new.type:
        detail = f"{item}: {old.type} at the load before, {new.type} now"
        yield context.issue("type_changed", name, 1, None, detail)
    if rows < LEAST_ROWS:
        return
    if new.missing - old.missing >= MISSING_RISE:
        n = round(rows * (new.missing - old.missing))
        detail = (
            f"{item}: missing in {100 * old.missing:.0f} % of the rows at the load before, in "
            f"{100 * new.missing:.0f} % now"
        )
        yield context.issue("more_missing", name, n, rows, detail)
    ratio = _median_ratio(old, new)
    if ratio is not None and not 1 / FACTOR < ratio < FACTOR:
        detail = f"{item}: median {_middle(old):g} at the load before, {_middle(new):g} now"
        yield context.issue("values_moved", name, rows, rows, detail)
    yield from _values(context, name, item, old, new, rows)


def _values(
    context: QualityContext,
    name: str,
    item: str,
    old: ColumnProfile,
    new: ColumnProfile,
    rows: int,
) -> Iterator[Issue]:
    """Report common values that are gone from the whole table, past rows included."""
    if not old.top or not new.top:
        return
    gone = [v for v, share in old.top.items() if share >= COMMON and v not in new.top]
    added = [v for v, share in new.top.items() if share >= COMMON and v not in old.top]
    if gone:
        n = round(rows * sum(new.top[value] for value in added))
        words = f", new: {', '.join(added)}" if added else ""
        detail = f"{item}: {', '.join(gone)} had rows at the load before{words}"
        yield context.issue("values_replaced", name, n, rows, detail)


def _middle(column: ColumnProfile) -> float:
    return column.quantiles[2]


def _median_ratio(old: ColumnProfile, new: ColumnProfile) -> float | None:
    if len(old.quantiles) < 3 or len(new.quantiles) < 3 or old.kind not in {"number", "count"}:
        return None
    if _middle(old) <= 0 or _middle(new) <= 0:
        return None
    return _middle(new) / _middle(old)


def _rows(
    context: QualityContext, name: str, old: TableProfile, new: TableProfile
) -> Iterator[Issue]:
    lost = old.rows - new.rows
    if lost >= max(2, SHRINK_SHARE * old.rows):
        detail = f"{new.rows:,} rows now, {old.rows:,} at the load before"
        if old.accounts and new.accounts < old.accounts:
            detail += f"; {new.accounts:,} accounts instead of {old.accounts:,}"
        yield context.issue("table_shrank", name, lost, old.rows, detail)
        return
    months = _settled(old)
    before = sum(old.months[month] for month in months)
    moved = sum(abs(new.months.get(month, 0) - old.months[month]) for month in months)
    if before >= LEAST_ROWS and moved >= REWRITTEN_SHARE * before:
        worst = max(months, key=lambda month: abs(new.months.get(month, 0) - old.months[month]))
        detail = (
            f"{count_of(moved, before, 'rows of past months')} differ, most in {worst}: "
            f"{old.months[worst]:,} rows at the load before, {new.months.get(worst, 0):,} now"
        )
        yield context.issue("history_rewritten", name, moved, before, detail)


def _settled(old: TableProfile) -> list[str]:
    """Return the months that had ended long enough before the load; the oldest is left out.

    The oldest may be cut by a rolling export.
    """
    if old.last is None:
        return []
    limit = date.fromisoformat(old.last) - timedelta(days=SETTLED_DAYS)
    months = [month for month in old.months if month < f"{limit:%Y-%m}"]
    return months[1:]
