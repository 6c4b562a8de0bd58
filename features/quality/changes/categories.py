"""Values of a column that are renamed, vanish or appear overnight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from features.quality.changes.daily import (
    MAX_LEVELS,
    DailyCounts,
    daily_counts,
    dispersion,
    usual_counts,
)
from features.quality.context import QualityContext
from features.sources.files.sql import ident, literal
from features.tables.source_tables import ROW, TABLES

MAX_GAP_DAYS = 7
"""Maximum number of days between the last row of an old and the first row of a new value."""

WINDOW_DAYS, LEAST_DAYS = 28, 7
"""Days on each side of a change that are compared, and the minimum."""

EVIDENCE = 20.0
"""Usual rows of a value from which its absence, or presence, is no chance."""

SAME_VOLUME = 1.6
"""Largest ratio of the volumes before and after a renaming."""

SAME_ACCOUNTS = 0.5
"""Minimum share of the accounts of the new value that had the old one."""

LARGE_SHARE = 0.1
"""Share of the rows from which a new or vanished value is large."""


@dataclass(frozen=True)
class ValueChange:
    """A value that changed.

    Attributes
    ----------
    table, column : str
        Its column.
    old, new : str
        The value before and after; empty where there is none.
    day : date
        First day of the new value, or first day without the old one.
    rows : int
        Rows of the new value since, or of the old one before.
    whole : int
        Rows of the table on these days.
    """

    table: str
    column: str
    old: str
    new: str
    day: date
    rows: int
    whole: int

    @property
    def rows_where(self) -> str:
        """SQL condition of the rows."""
        return f"{ident(self.column)} = {literal(self.new or self.old)}"


@dataclass(frozen=True)
class _Span:
    row: int
    first: int
    last: int


def value_changes(context: QualityContext, table: str) -> Iterator[ValueChange]:
    """Yield the changes of every categorical column of a table."""
    for name in _categories(context, table):
        daily = daily_counts(context, table, f"t.{ident(name)}")
        if daily is not None and len(daily.levels) > 1:
            yield from _changes(context, daily, name)


def _categories(context: QualityContext, table: str) -> list[str]:
    """Return the text columns of a table with few values."""
    names = [
        name
        for name in context.loaded.tables[table].columns
        if (column := TABLES[table].columns.get(name)) is not None
        and (column.kind, column.visible_from, column.values) == ("text", ROW, ())
    ]
    if not names:
        return []
    counts = ", ".join(f"approx_count_distinct({ident(name)}) AS {ident(name)}" for name in names)
    found = context.query_row(f"SELECT {counts} FROM {table}")
    return [name for name in names if 1 < found[name] <= MAX_LEVELS]


def _changes(context: QualityContext, daily: DailyCounts, column: str) -> Iterator[ValueChange]:
    spans = [
        _Span(row, int(days[0]), int(days[-1]))
        for row in range(len(daily.levels))
        if len(days := np.flatnonzero(daily.counts[row]))
    ]
    varies = dispersion(daily.counts, usual_counts(daily.counts))
    ended = [item for item in spans if _has_ended(daily, item, float(varies[item.row]))]
    begun = [item for item in spans if _has_begun(daily, item, float(varies[item.row]))]
    paired: set[int] = set()
    for old, new in _pairs(context, daily, column, ended, begun):
        paired |= {old.row, new.row}
        yield _change(daily, column, old, new)
    for item in ended:
        if item.row not in paired and _share(daily, item.row, item.last + 1, -1) >= LARGE_SHARE:
            yield _change(daily, column, item, None)
    for item in begun:
        if item.row not in paired and _share(daily, item.row, item.first, 1) >= LARGE_SHARE:
            yield _change(daily, column, None, item)


def _has_ended(daily: DailyCounts, item: _Span, varies: float) -> bool:
    """Whether a value has been absent for too long to be chance, after regular presence."""
    stop = item.last + 1
    if item.last - item.first < WINDOW_DAYS or daily.n_days - stop < LEAST_DAYS:
        return False
    usual = _share(daily, item.row, stop, -1)
    rows = daily.counts[:, stop : stop + WINDOW_DAYS].sum()
    return bool(usual * rows >= EVIDENCE * varies)


def _has_begun(daily: DailyCounts, item: _Span, varies: float) -> bool:
    """Whether a value was absent for too long to be chance, before regular presence."""
    if item.first < WINDOW_DAYS or daily.n_days - item.first < LEAST_DAYS:
        return False
    usual = _share(daily, item.row, item.first, 1)
    rows = daily.counts[:, max(0, item.first - WINDOW_DAYS) : item.first].sum()
    return bool(usual * rows >= EVIDENCE * varies)


def _pairs(
    context: QualityContext,
    daily: DailyCounts,
    column: str,
    ended: list[_Span],
    begun: list[_Span],
) -> Iterator[tuple[_Span, _Span]]:
    """Yield old and new values of equal volume and mostly equal accounts, the nearest first."""
    fits = sorted(
        (distance, old.row, new.row, old, new)
        for old in ended
        for new in begun
        if 0 < new.first - old.last <= MAX_GAP_DAYS
        and (distance := _distance(daily, old, new)) <= np.log(SAME_VOLUME)
    )
    used: set[int] = set()
    for _, _, _, old, new in fits:
        if used & {old.row, new.row} or not _same_accounts(context, daily, column, old, new):
            continue
        used |= {old.row, new.row}
        yield old, new


def _distance(daily: DailyCounts, old: _Span, new: _Span) -> float:
    """Return the absolute log ratio of the volumes, relative to all other values."""
    length = min(WINDOW_DAYS, daily.n_days - new.first, old.last + 1)
    before = slice(old.last + 1 - length, old.last + 1)
    after = slice(new.first, new.first + length)
    rest = np.ones(len(daily.levels), dtype=bool)
    rest[[old.row, new.row]] = False
    growth = (daily.counts[rest, after].sum() + 1) / (daily.counts[rest, before].sum() + 1)
    ratio = daily.counts[new.row, after].sum() / daily.counts[old.row, before].sum()
    return float(abs(np.log(ratio / growth)))


def _same_accounts(
    context: QualityContext, daily: DailyCounts, column: str, old: _Span, new: _Span
) -> bool:
    if "account_id" not in TABLES[daily.table].columns:
        return True
    found = context.query_row(
        f"WITH o AS (SELECT DISTINCT account_id FROM {daily.table} WHERE {ident(column)} = $1), "
        f"n AS (SELECT DISTINCT account_id FROM {daily.table} WHERE {ident(column)} = $2) "
        f"SELECT (SELECT count(*) FROM n) AS whole, "
        f"(SELECT count(*) FROM n SEMI JOIN o USING (account_id)) AS same",
        daily.levels[old.row],
        daily.levels[new.row],
    )
    return bool(found["same"] >= SAME_ACCOUNTS * found["whole"])


def _share(daily: DailyCounts, row: int, day: int, side: int) -> float:
    """Return the share of a value in the rows of the window after (1) or before (-1) a day."""
    part = slice(day, day + WINDOW_DAYS) if side > 0 else slice(max(0, day - WINDOW_DAYS), day)
    whole = daily.counts[:, part].sum()
    return float(daily.counts[row, part].sum() / whole) if whole else 0.0


def _change(daily: DailyCounts, column: str, old: _Span | None, new: _Span | None) -> ValueChange:
    day = new.first if new is not None else (old.last + 1 if old is not None else 0)
    part = slice(day, None) if new is not None else slice(0, day)
    row = new.row if new is not None else (old.row if old is not None else 0)
    return ValueChange(
        daily.table,
        column,
        daily.levels[old.row] if old is not None else "",
        daily.levels[new.row] if new is not None else "",
        daily.day(day),
        int(daily.counts[row, part].sum()),
        int(daily.counts[:, part].sum()),
    )
