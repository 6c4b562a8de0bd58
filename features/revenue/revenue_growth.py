"""What kind of growth: of past rises of revenue, as far as the terms tell it.

The kinds are *seats* (more people), *tier* (a dearer plan of the same), *product* (one the account
did not have) and *usage* (more units, or units beyond the allowance). What the terms do not tell is
*unknown*, and stays it: a dearer price alone names no kind.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.days import KEY
from features.revenue.growth_kinds import UNKNOWN_KIND

SETTLES_DAYS = 62
"""Days within which a new allowance shows after the terms that bring it."""

MOVE_FACTS = ("kind", "product")
"""Columns that tell a rise of revenue apart."""

KIND_COLUMNS = {
    "entity_id": "the entity",
    "as_of_day": "day index of as_of",
    "growth_kind": "of the largest rise inside the label window: one of `KINDS`, or unknown",
    "growth_uplift": "revenue gained inside the window over the revenue at as_of",
}


def allowances(daily: ir.Table) -> ir.Table:
    """Return each state of an allowance as known last: entity_id, product, day, limit, used.

    Parameters
    ----------
    daily : ibis.Table
        Entitlements on days, what was known too late for the reader already left out.
    """
    absent = {n: ibis.null("float64") for n in ("limit", "used") if n not in daily.columns}
    daily = daily.mutate(**absent)
    newest = ibis.window(
        group_by=["entity_id", "product", "day"], order_by=ibis.desc(daily.known_day)
    )
    ranked = daily.mutate(_rank=ibis.row_number().over(newest))
    return ranked.filter(ranked._rank == 0).select("entity_id", "product", "day", "limit", "used")


def with_kinds(rises: ir.Table, units: ir.Table | None) -> ir.Table:
    """Say of each start of terms what kind of growth it was, should it be one.

    Parameters
    ----------
    rises : ibis.Table
        One row per start of terms after others: entity_id, day, change, owed (revenue these terms
        replace, at its due), is_new (no earlier terms of this subscription), reason_before (why
        these ended), and, where the source has them, product, first_of_product, seats,
        seats_before, plan, plan_before.
    units : ibis.Table, optional
        Of `allowances`.

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
    told = rows.mutate(kind=kind)
    return told.mutate(product=told.kind.notnull().ifelse(told["product"], ibis.null("string")))


def _filled(rises: ir.Table) -> ir.Table:
    """Add what a source does not record, as unknown."""
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
    """Say where an allowance was used up before the terms began, or grew with them."""
    if units is None:
        return rises.mutate(is_metered=ibis.null("boolean"))
    keys = ["entity_id", "product", "day"]
    asked = rises.select(*keys).distinct()
    pairs = asked.join(
        units.rename(at="day"),
        [asked.entity_id == units.entity_id, asked["product"] == units["product"]],
    )
    is_before = pairs["at"] <= pairs.day
    is_after = ~is_before & (pairs["at"] <= pairs.day + SETTLES_DAYS)
    found = pairs.group_by(keys).agg(
        _limit=pairs["limit"].argmax(pairs["at"], where=is_before),
        _used=pairs.used.argmax(pairs["at"], where=is_before),
        _later=pairs["limit"].argmin(pairs["at"], where=is_after),
    )
    joined = rises.left_join(found, keys)
    # At a renewal a dearer price is the seller's; within a term, use beyond the allowance pays.
    is_renewed = (joined.reason_before == "renewed").fill_null(False)
    beyond = (joined._used > joined._limit).fill_null(False) & ~is_renewed
    more = (joined._later > joined._limit).fill_null(False)
    return joined.select(*(joined[name] for name in rises.columns), is_metered=beyond | more)


def kinds_of_rows(windows: ir.Table, moves: ir.Table) -> ir.Table:
    """Return the kind and size of the growth inside each label window that saw revenue rise.

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
