"""Charges and billing cycles, for companies whose only record of revenue is invoices."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from features.revenue.invoice_statuses import NOT_BILLED

CYCLES = ((7, 1), (14, 2), (30, 3), (61, 4), (91, 5), (182, 8), (365, 15))
"""Billing cycles in days, and their tolerance around the median gap between charges."""

LONGEST_CYCLE = 365

REGULAR_SHARE = 0.75
"""Minimum share of gaps close to the median gap in regular billing."""

COMMON_SHARE = 0.2
"""Minimum share of the regularly billed accounts that makes a cycle a common one."""


def is_charge(invoices: ir.Table) -> ir.BooleanValue:
    """Whether a row is a charge; credit notes, refunds and charges of 0 are none.

    Failed charges have no amount in daily tables (`features.tables.daily_tables`).
    """
    if "amount" not in invoices.columns:
        return ibis.literal(True)
    return (invoices.amount > 0).fill_null(False)


def is_sale(invoices: ir.Table) -> ir.BooleanValue:
    """Whether a row is a charge or a credit, not a draft or a voided invoice."""
    is_valid = ibis.literal(True)
    if "status" in invoices.columns:
        status = invoices.status.strip().lower().fill_null("")
        is_valid = ~status.isin(NOT_BILLED)
    return is_valid


def billing_cycles(invoices: ir.Table, within: Sequence[str] = ()) -> ir.Table:
    """Return the billing cycle of accounts that are billed regularly.

    An account with one charge so far has the longest common cycle of the company: a customer
    who has paid for the first of many years is no lost one.

    Parameters
    ----------
    invoices : ibis.Table
        The daily table, or the rows known at each of several as_ofs.
    within : sequence of str
        Keys that separate several readings, such as as_of_day.

    Returns
    -------
    ibis.Table
        One row per entity_id (× `within`) with charges: last_day, the day of the last one, and
        cycle_days, a length of `CYCLES`, null where gaps are irregular, or fewer than two and of
        no common length.
    """
    keys = [*within, "entity_id"]
    days = invoices.filter(is_charge(invoices)).select(*keys, "day").distinct()
    order = ibis.window(group_by=keys, order_by="day")
    gaps = days.mutate(gap=days.day - days.day.lag().over(order))
    gaps = gaps.mutate(usual=gaps.gap.median().over(ibis.window(group_by=keys)))
    tolerance = ibis.greatest(gaps.usual * 0.15, 3.0)
    sums = gaps.group_by(keys).agg(
        last_day=gaps.day.max(),
        usual=gaps.usual.max(),
        n_gaps=gaps.gap.count(),
        n_usual=gaps.gap.count(where=(gaps.gap - gaps.usual).abs() <= tolerance),
    )
    near = [((sums.usual - length).abs() <= slack, length) for length, slack in CYCLES]
    sums = sums.mutate(
        length=ibis.cases(*near, else_=ibis.null("int64")).cast("int64"),
        is_regular=(sums.n_usual >= REGULAR_SHARE * sums.n_gaps) & (sums.n_gaps >= 1),
    )
    sums = _with_common_cycles(sums, within)
    enough = (sums.n_gaps >= 2) | (sums.length == LONGEST_CYCLE) | sums.is_common
    cycle = ibis.cases(
        (sums.n_gaps == 0, sums.longest_common),
        (sums.is_regular & enough, sums.length),
        else_=ibis.null("int64"),
    )
    return sums.select(*keys, "last_day", cycle_days=cycle)


def _with_common_cycles(sums: ir.Table, within: Sequence[str]) -> ir.Table:
    """Add is_common, whether the company bills that cycle, and its longest_common cycle."""
    company = ibis.window(group_by=list(within))
    counts = (sums.is_regular & sums.length.notnull()).cast("int64")
    n_alike = counts.sum().over(ibis.window(group_by=[*within, sums.length]))
    is_common = (counts == 1) & (n_alike >= COMMON_SHARE * counts.sum().over(company))
    sums = sums.mutate(is_common=is_common)
    return sums.mutate(longest_common=sums.length.max(where=sums.is_common).over(company))


def usual_days(cycle_days: ir.Value) -> ir.Value:
    """Return the length of the window of an account's usual spend: a year of charges."""
    is_yearly = (cycle_days == LONGEST_CYCLE).fill_null(False)
    return is_yearly.ifelse(LONGEST_CYCLE + CYCLES[-1][1], 364)


def expected_charges(cycle_days: ir.Value, horizon_days: int) -> ir.Value:
    """Return the minimum number of charges of a cycle within a horizon, late ones included."""
    days = cycle_days.cast("float64")
    return ((horizon_days - days / 2.0) / days).floor()
