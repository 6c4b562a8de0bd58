"""Known-time correctness, written once: what was visible of each row at each as_of.

Signals never see a source table; they see the rows this module lets through. A row appears at an
as_of only if it happened *and* was known by then, and each mutable value is null until its own
moment has come.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.contracts import TABLES
from features.daily import visibility

LATEST_BY: dict[str, tuple[str, ...]] = {
    "opportunities": ("opportunity_id",),
    "entitlements": ("product",),
}
"""Tables whose rows replace each other: only the latest known one per key counts at an as_of."""


def as_known(table: str, daily: ir.Table, grid: ir.Table, *, history: bool = False) -> ir.Table:
    """Return the rows of one table visible at each (entity, as_of).

    Parameters
    ----------
    table : str
        Name of the source table.
    daily : ibis.Table
        The table on whole days (`features.daily.to_daily`).
    grid : ibis.Table
        One row per ``entity_id`` and ``as_of_day``, with ``tenure_days``.
    history : bool
        The table keeps every version of its rows: the latest known version per key counts.

    Returns
    -------
    ibis.Table
        The grid's columns, the daily columns, and ``age`` = as_of_day − day, in days, ≥ 0.
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
    unknowable = [
        name
        for name, since in visibility(table).items()
        if name in rows.columns and since not in rows.columns
    ]
    rows = rows.mutate(**hidden).drop(*unknowable)
    keys = _version_key(table, history=history)
    return _latest(rows, keys) if keys else rows


def _version_key(table: str, *, history: bool) -> tuple[str, ...]:
    if table in LATEST_BY:
        return LATEST_BY[table]
    return TABLES[table].key if history else ()


def _latest(rows: ir.Table, keys: tuple[str, ...]) -> ir.Table:
    names = ["entity_id", "as_of_day", *(key for key in keys if key in rows.columns)]
    newest_first = ibis.window(
        group_by=list(dict.fromkeys(names)),
        order_by=[ibis.desc("known_day"), ibis.desc("day")],
    )
    ranked = rows.mutate(_rank=ibis.row_number().over(newest_first))
    return ranked.filter(ranked._rank == 0).drop("_rank")
