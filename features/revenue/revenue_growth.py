"""Kind of expansion behind each past rise of revenue, where the terms show it.

The kinds are *seats* (more people), *tier* (a higher plan), *product* (a new product of the
account) and *usage* (more units, or units beyond the allowance). Other rises, such as a higher
price alone, are *unknown*.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.days import KEY
from features.revenue.growth_kinds import UNKNOWN_KIND

SETTLES_DAYS = 62
"""Days after the start of terms within which their new allowance appears."""

MOVE_FACTS = ("kind", "product")
"""Columns that classify a rise of revenue."""

KIND_COLUMNS = {
    "entity_id": "the entity",
    "as_of_day": "day index of as_of",
    "growth_kind": "kind of the largest rise in the label window: one of `KINDS`, or unknown",
    "growth_uplift": "revenue gained in the window over the revenue at as_of",
}


def allowances(daily: ir.Table) -> ir.Table:
    """Return the latest version of each allowance state: entity_id, product, day, limit, used.

    Parameters
    ----------
    daily : ibis.Table
        Daily entitlements, already filtered by the time they were known.
    """
    absent = {n: ibis.null("float64") for n in ("limit", "used") if n not in daily.columns}
    daily = daily.mutate(**absent)
    newest = ibis.window(
        group_by=["entity_id", "product", "day"], order_by=ibis.desc(daily.known_day)
    )
    ranked = daily.mutate(_rank=ibis.row_number().over(newest))
    return ranked.filter(ranked._rank == 0).select("entity_id", "product", "day", "limit", "used")


def with_kinds(rises: ir.Table, units: ir.Table | None) -> ir.Table:
    """Add the kind of expansion to each start of terms.

    Parameters
    ----------
    rises : ibis.Table
        One row per start of terms after others: entity_id, day, change, owed (revenue of the
        replaced terms with signed uplifts), is_new (no earlier terms of this subscription),
        reason_before (their end reason), and, where the source has them, product, first_of_product,
        seats, seats_before, plan, plan_before.
    units : ibis.Table, optional
        From `allowances`.

    Returns
    -------
    ibis.Table
        The same rows with kind and product; both null where revenue did not rise.
    """
    rows = _with_units(_filled(rises), units)
    by_seats = rows.owed * (rows.seats / rows.seats_before - 1.0)
    has_product = rows["product"].notnull()
    kind = ibis.cases(
        (~(rows.change > 0), ibis.null("string")),
        (rows.is_new & has_product & (rows.first_of_product == rows.day), "product"),
        (rows.is_new & has_product & (rows.seats > 0), "seats"),
        (rows.is_new, UNKNOWN_KIND),
        ((2.0 * by_seats >= rows.change).fill_null(False), "seats"),
        ((rows.plan != rows.plan_before).fill_null(False), "tier"),
        (rows.is_metered.fill_null(False), "usage"),
        else_=UNKNOWN_KIND,
    )
    rows = rows.mutate(kind=kind)
    return rows.mutate(product=rows.kind.notnull().ifelse(rows["product"], ibis.null("string")))


def _filled(rises: ir.Table) -> ir.Table:
    """Add columns the source does not have, as nulls."""
    types = {
        "product": "string",
        "first_of_product": "int64",
        "seats": "float64",
        "seats_before": "float64",
        "plan": "string",
        "plan_before": "string",
    }
    absent = {n: ibis.null(kind) for n, kind in types.items() if n not in rises.columns}
    return rises.mutate(**absent)


def _with_units(rises: ir.Table, units: ir.Table | None) -> ir.Table:
    """Add is_metered: the allowance was exceeded before the terms began, or grew with them."""
    if units is None:
        return rises.mutate(is_metered=ibis.null("boolean"))
    keys = ["entity_id", "product", "day"]
    starts = rises.select(*keys).distinct()
    pairs = starts.join(
        units.rename(at="day"),
        [starts.entity_id == units.entity_id, starts["product"] == units["product"]],
    )
    is_before = pairs["at"] <= pairs.day
    is_after = ~is_before & (pairs["at"] <= pairs.day + SETTLES_DAYS)
    found = pairs.group_by(keys).agg(
        _limit=pairs["limit"].argmax(pairs["at"], where=is_before),
        _used=pairs.used.argmax(pairs["at"], where=is_before),
        _later=pairs["limit"].argmin(pairs["at"], where=is_after),
    )
    joined = rises.left_join(found, keys)
    # At a renewal the seller raises the price; within a term, use beyond the allowance does.
    is_renewed = (joined.reason_before == "renewed").fill_null(False)
    beyond = (joined._used > joined._limit).fill_null(False) & ~is_renewed
    more = (joined._later > joined._limit).fill_null(False)
    return joined.select(*(joined[name] for name in rises.columns), is_metered=beyond | more)


def kinds_of_rows(windows: ir.Table, moves: ir.Table) -> ir.Table:
    """Return kind and size of the expansion in each label window in which revenue rises.

    Parameters
    ----------
    windows : ibis.Table
        One row per (entity_id, as_of_day): opens_day, closes_day, arr.
    moves : ibis.Table
        Changes of revenue: entity_id, day, change, kind.

    Returns
    -------
    ibis.Table
        Columns of `KIND_COLUMNS`. A window with several rises has the kind of the largest.
    """
    pairs = windows.join(moves, "entity_id")
    inside = pairs.filter(pairs.day > pairs.opens_day, pairs.day <= pairs.closes_day)
    sums = inside.group_by([*KEY, "arr"]).agg(
        growth_kind=inside.kind.argmax(inside.change, where=inside.change > 0),
        _moved=inside.change.sum(),
    )
    return sums.filter(sums._moved > 0).select(
        *KEY, "growth_kind", growth_uplift=sums._moved / sums.arr.nullif(0.0)
    )
