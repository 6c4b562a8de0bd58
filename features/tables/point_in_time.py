"""Point-in-time rules: the rows and values visible at each as_of.

Signals read source tables only through this module. A row is visible at an as_of only if it
happened *and* was known by then, and each mutable value is null until its own time of visibility.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from features.revenue.terms import one_state
from features.tables.daily_tables import LATEST_BY, version_key, visibility

STATE = {"subscription_id", "ended_day", "end_reason", "renews_day"}
"""Columns needed to close terms that later ones replace."""


def as_known(table: str, daily: ir.Table, grid: ir.Table, *, history: bool = False) -> ir.Table:
    """Return the rows of one table visible at each (entity, as_of).

    Parameters
    ----------
    table : str
        Name of the source table.
    daily : ibis.Table
        The table on whole days (`features.tables.daily_tables.to_daily`).
    grid : ibis.Table
        One row per ``entity_id`` and ``as_of_day``, with ``tenure_days``.
    history : bool
        The table keeps every version of its rows: the latest known version per key counts.

    Returns
    -------
    ibis.Table
        The grid's columns, the daily columns, and ``age`` = as_of_day − day, in days, ≥ 0.
        Subscription terms that later ones replace have ended (`features.revenue.terms.one_state`).
    """
    joined = grid.join(
        daily,
        [
            grid.entity_id == daily.entity_id,
            daily.day <= grid.as_of_day,
            daily.known_day <= grid.as_of_day,
        ],
    ).drop("entity_id_right")
    rows = joined.mutate(age=joined.as_of_day - joined.day)
    hidden = {
        name: ibis.ifelse(rows[since] <= rows.as_of_day, rows[name], ibis.null(rows[name].type()))
        for name, since in visibility(table).items()
        if name in rows.columns and since in rows.columns
    }
    unknowable = [name for name in visibility(table) if name in rows.columns and name not in hidden]
    rows = rows.mutate(**hidden).drop(*unknowable)
    rows = latest_versions(table, rows, ["as_of_day"], history=history)
    if table == "subscriptions" and set(rows.columns) >= STATE:
        return one_state(rows, ["as_of_day"])
    return rows


def latest_versions(
    table: str, rows: ir.Table, within: Sequence[str] = (), *, history: bool
) -> ir.Table:
    """Return the latest row per key and `within` of rows that replace each other.

    For tables of states (`LATEST_BY`) the latest row is the one that happened last, independent of
    the time it was known; for versions of one row it is the one known last.
    """
    keys = version_key(table, history=history)
    if not keys:
        return rows
    order = ["day", "known_day"] if table in LATEST_BY else ["known_day", "day"]
    newest_first = ibis.window(
        group_by=[*within, *keys], order_by=[ibis.desc(name) for name in order]
    )
    ranked = rows.mutate(_rank=ibis.row_number().over(newest_first))
    return ranked.filter(ranked._rank == 0).drop("_rank")
