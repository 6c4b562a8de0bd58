"""Outages of a group of accounts or of a part of the product, with sharp edges.

Falling usage declines over weeks, account by account, and others of the same group keep it up. In
an outage the rows of a whole group (a region, a plan, a product) stop on one day while the rest of
the company continues, and they return together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from features.quality.changes.daily import (
    DailyCounts,
    Floats,
    Run,
    daily_counts,
    dispersion,
    empty_runs,
    happened_day,
    usual_counts,
)
from features.quality.context import QualityContext
from features.sources.files.sql import ident, text_list

ACCOUNT_GROUPS = ("region", "segment", "plan", "industry", "owner_id")
"""Columns of accounts that can share a tracker, a data centre or an export."""

TABLE_GROUPS = ("product", "feature", "category", "kind")
"""Columns of a table that can have a tracker of their own."""

EDGE_DAYS, BEFORE_SHARE, AFTER_SHARE = 7, 0.5, 0.4
"""Days before and after an outage, and the minimum share of the usual rows in them."""

ONGOING_DAYS = 28
"""Maximum length of an outage that has not ended; longer ones are a part that was retired."""

LEAST_DAYS, LEAST_ACCOUNTS = 2, 5
"""Minimum number of days and of active accounts of a group."""


@dataclass(frozen=True)
class GroupOutage:
    """An outage of one or more levels of a column.

    Attributes
    ----------
    table, column : str
        The table, and the column that its levels are of.
    is_of_account : bool
        The column belongs to the accounts table.
    levels : tuple of str
        Levels without rows.
    first, last : date
        Days of the outage.
    missing : float
        Usual rows of these days.
    has_ended : bool
        The rows returned.
    """

    table: str
    column: str
    is_of_account: bool
    levels: tuple[str, ...]
    first: date
    last: date
    missing: float
    has_ended: bool

    def overlaps(self, other: GroupOutage) -> bool:
        """Whether two outages share a day."""
        return self.first <= other.last and other.first <= self.last


def group_outages(context: QualityContext, table: str) -> list[GroupOutage]:
    """Return the outages of groups of a table, one per period: the widest explanation of each."""
    found = [item for column in _columns(context, table) for item in _of(context, table, *column)]
    chosen: list[GroupOutage] = []
    for item in sorted(found, key=lambda one: (-one.missing, one.column)):
        if not any(item.overlaps(other) for other in chosen):
            chosen.append(item)
    return sorted(chosen, key=lambda one: one.first)


def _columns(context: QualityContext, table: str) -> Iterator[tuple[str, bool]]:
    for name in ACCOUNT_GROUPS:
        if context.has("accounts", name):
            yield name, True
    for name in TABLE_GROUPS:
        if context.has(table, name):
            yield name, False


def accounts_join(column: str) -> str:
    """Return SQL that joins the present value of a column of accounts to a table ``t``."""
    return (
        f"JOIN (SELECT account_id AS owner_of_row, "
        f"last({ident(column)} ORDER BY known_at) AS level FROM accounts GROUP BY 1) g "
        f"ON g.owner_of_row = t.account_id"
    )


def _of(context: QualityContext, table: str, column: str, is_of_account: bool) -> list[GroupOutage]:
    """Return the outages of the levels of a column; levels of the same days are one outage."""
    daily = daily_counts(
        context,
        table,
        "g.level" if is_of_account else f"t.{ident(column)}",
        accounts_join(column) if is_of_account else "",
    )
    if daily is None or len(daily.levels) < 2:
        return []
    single = [
        GroupOutage(
            table,
            column,
            is_of_account,
            (daily.levels[row],),
            daily.day(run.start),
            daily.day(run.stop - 1),
            run.usual - run.rows,
            run.stop < daily.n_days,
        )
        for row, run in _outage_runs(daily)
    ]
    made = [_joined(group) for group in _same_days(single)]
    return [item for item in made if _n_accounts(context, item) >= LEAST_ACCOUNTS]


def _outage_runs(daily: DailyCounts) -> Iterator[tuple[int, Run]]:
    counts = daily.counts
    usual = usual_counts(counts)
    rest = _rest_factor(counts, usual)
    expected = usual * rest
    varies = dispersion(counts, expected)
    for row, seen in enumerate(counts):
        for run in empty_runs(seen, expected[row], float(varies[row])):
            if run.stop - run.start >= LEAST_DAYS and _has_sharp_edges(seen, usual[row], run):
                yield row, run


def _rest_factor(counts: Floats, usual: Floats) -> Floats:
    """Return the share of their usual rows that all other levels have on each day, at most 1.

    The others include further levels in an outage at the same time: levels with next to no rows
    are left out, unless all are.
    """
    is_out = (counts <= 0.1 * usual) & (usual > 0)
    seen = np.where(is_out, 0.0, counts)
    expected = np.where(is_out, 0.0, usual)
    others = expected.sum(axis=0, keepdims=True) - expected
    ratio = np.divide(
        seen.sum(axis=0, keepdims=True) - seen,
        others,
        out=np.zeros_like(counts),
        where=others > 0,
    )
    return np.clip(ratio, 0.0, 1.0)


def _has_sharp_edges(seen: Floats, usual: Floats, run: Run) -> bool:
    """Whether the rows were as usual just before, and are again just after unless it goes on."""
    before = slice(max(0, run.start - EDGE_DAYS), run.start)
    if seen[before].sum() < BEFORE_SHARE * usual[before].sum():
        return False
    after = seen[run.stop : run.stop + 2 * EDGE_DAYS]
    if not len(after):
        return run.stop - run.start <= ONGOING_DAYS
    per_day = usual[run.start : run.stop].mean()
    return bool(after.mean() >= AFTER_SHARE * per_day)


def _same_days(found: list[GroupOutage]) -> list[list[GroupOutage]]:
    groups: list[list[GroupOutage]] = []
    for item in sorted(found, key=lambda one: (one.first, one.last)):
        near = next(
            (
                group
                for group in groups
                if abs((group[0].first - item.first).days) <= 1
                and abs((group[0].last - item.last).days) <= 1
            ),
            None,
        )
        if near is None:
            groups.append([item])
        else:
            near.append(item)
    return groups


def _joined(group: list[GroupOutage]) -> GroupOutage:
    first = group[0]
    return GroupOutage(
        first.table,
        first.column,
        first.is_of_account,
        tuple(sorted(level for item in group for level in item.levels)),
        min(item.first for item in group),
        max(item.last for item in group),
        sum(item.missing for item in group),
        all(item.has_ended for item in group),
    )


def outage_accounts(context: QualityContext, outage: GroupOutage) -> list[str]:
    """Return the accounts of an outage: those with rows of its levels in the four weeks before."""
    return _active(context, outage)[0]


def active_accounts(context: QualityContext, outage: GroupOutage) -> int:
    """Return the number of accounts with rows in the four weeks before an outage."""
    return _active(context, outage)[1]


def _n_accounts(context: QualityContext, outage: GroupOutage) -> int:
    return len(outage_accounts(context, outage))


def _active(context: QualityContext, outage: GroupOutage) -> tuple[list[str], int]:
    level = "g.level" if outage.is_of_account else f"t.{ident(outage.column)}"
    joined = accounts_join(outage.column) if outage.is_of_account else ""
    day = happened_day(outage.table, "t")
    found = context.query_row(
        f"SELECT coalesce(list(DISTINCT t.account_id ORDER BY t.account_id) "
        f"FILTER (list_contains({text_list(outage.levels)}, {level})), []) AS ids, "
        f"count(DISTINCT t.account_id) AS whole FROM {outage.table} t {joined} "
        f"WHERE {day} >= $1 - INTERVAL 28 DAY AND {day} < $1",
        outage.first,
    )
    return list(found["ids"]), int(found["whole"])
