"""Changes of recurring revenue, one row per account, product and day.

Labels read them with hindsight. A change leaves out what the account did not decide: uplifts signed
earlier, changing currency rates, and revenue transferred from another account.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.revenue.revenue_growth import MOVE_FACTS, with_kinds
from features.revenue.terms import attach

ROW = ["entity_id", "subscription_id", "day"]

CHANGE_COLUMNS = {
    "entity_id": "the account",
    "day": "day index of the first day with the new revenue",
    "change": "annual revenue gained (lost: negative), in the reporting currency at the rate of "
    "the terms that begin, or that end",
    "kind": "kind of expansion (`features.revenue.growth_kinds`); null unless revenue rose",
    "product": "the product that grew; null unless revenue rose",
}


def revenue_changes(resolved: ir.Table, units: ir.Table | None = None) -> ir.Table:
    """Return the changes of revenue of all accounts, columns of `CHANGE_COLUMNS`.

    Parameters
    ----------
    resolved : ibis.Table
        From `features.revenue.terms.resolve_terms`.
    units : ibis.Table, optional
        Allowances over time (`features.revenue.revenue_growth.allowances`), which show expansion by
        usage.

    Notes
    -----
    The change of new terms is their revenue less that of the terms they continue (with the uplift
    signed for a renewal), and less revenue transferred in. The first terms of an account are no
    change. Lost terms change revenue by their full amount.
    """
    first = resolved.day.min().over(ibis.window(group_by="entity_id"))
    rows = _filled(resolved).mutate(first_day=first)
    return ibis.union(_began(rows, units), _lost(rows))


def _filled(resolved: ir.Table) -> ir.Table:
    """Add columns the source does not have, as nulls."""
    types = {"seats": "float64", "plan": "string", "currency": "string", "escalator": "float64"}
    absent = {n: ibis.null(kind) for n, kind in types.items() if n not in resolved.columns}
    return resolved.mutate(**absent)


def _began(rows: ir.Table, units: ir.Table | None) -> ir.Table:
    before = _before(rows)
    began = attach(rows, before, ROW, *(name for name in before.columns if name not in ROW))
    first_of_subscription = ibis.window(group_by=["entity_id", "subscription_id"])
    follows = began.n_before.notnull()
    owed = follows.ifelse(began.owed, 0.0)
    began = began.mutate(
        is_new=~follows & (began.day == began.day.min().over(first_of_subscription)),
        owed=owed,
        change=began.arr - owed - began.moved_arr,
        first_of_product=_first_of_product(began),
    )
    counted = began.filter(follows | (began.day > began.first_day))
    return with_kinds(counted, units).select("entity_id", "day", "change", *MOVE_FACTS)


def _first_of_product(rows: ir.Table) -> ir.Value:
    if "product" not in rows.columns:
        return ibis.null("int64")
    return rows.day.min().over(ibis.window(group_by=["entity_id", "product"]))


def _before(rows: ir.Table) -> ir.Table:
    """Return revenue, seats, plan and end reason of the terms each row continues, summed up."""
    old = rows.filter(rows.fate == "continued")
    new = rows.select(
        "entity_id",
        next_id=rows.subscription_id,
        next_day=rows.day,
        new_rate=rows.currency_rate,
        new_currency=rows.currency,
    )
    pairs = old.join(new, ["entity_id", "next_id", "next_day"])
    is_same = (pairs.currency == pairs.new_currency).fill_null(False)
    rate = is_same.ifelse(pairs.new_rate / pairs.currency_rate, 1.0)
    uplift = ibis.ifelse(pairs.end_reason == "renewed", pairs.escalator.fill_null(0.0), 0.0)
    pairs = pairs.mutate(_owed=pairs.arr * rate * (1.0 + uplift))
    return pairs.group_by("entity_id", subscription_id=pairs.next_id, day=pairs.next_day).agg(
        n_before=pairs.count(),
        owed=pairs._owed.isnull().any().ifelse(ibis.null("float64"), pairs._owed.sum()),
        seats_before=pairs.seats.sum(),
        plan_before=pairs.plan.argmax(pairs._owed),
        reason_before=pairs.end_reason.argmax(pairs._owed),
    )


def _lost(rows: ir.Table) -> ir.Table:
    lost = rows.filter(rows.fate == "lost")
    no_kind = {name: ibis.null("string") for name in MOVE_FACTS}
    return lost.select("entity_id", day=lost.stops_day, change=-lost.arr, **no_kind)
