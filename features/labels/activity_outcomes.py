"""Outcomes without contracts: no activity in the window, and movements of spend."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from configs.runtime.errors import ConfigError
from features.days import KEY
from features.labels.request import UNDATED, LabelRequest
from features.revenue.terms import attach
from features.revenue.usual_spend import billing_cycles, expected_charges, is_charge, usual_days
from features.snapshots.account_status import activity_rows, activity_table, grace_days


def inactivity(request: LabelRequest) -> ir.Table:
    """Return whether the account has no activity at all in the window."""
    table = activity_table(request.tables)
    if table is None:
        raise ConfigError(
            f"target {request.name} is observed in activity, and no activity table is mapped",
            where=f"targets.{request.name}.observed_in",
        )
    days = activity_rows(table, request.tables[table]).select("entity_id", "day").distinct()
    pairs = request.windows.join(days, "entity_id")
    active = pairs.filter(pairs.day > pairs.opens_day, pairs.day <= pairs.closes_day)
    seen = active.select(*KEY).distinct()
    if table == "invoices":
        seen = seen.union(_paid_ahead(request, days), distinct=True)
    joined = attach(request.windows, seen.mutate(is_seen=ibis.literal(True)), KEY, "is_seen")
    # Inactivity has no date of decision: the whole window is the outcome.
    return joined.select(*KEY, **UNDATED, happened=joined.is_seen.isnull())


def _paid_ahead(request: LabelRequest, charges: ir.Table) -> ir.Table:
    """Return the windows that end before the account's next charge is overdue."""
    cycles = billing_cycles(request.tables["invoices"])
    cycles = cycles.filter(cycles.cycle_days.notnull()).select("entity_id", "cycle_days")
    pairs = request.windows.join(charges, "entity_id")
    before = pairs.filter(pairs.day <= pairs.opens_day)
    last = before.group_by([*KEY, "closes_day"]).agg(last_day=before.day.max())
    joined = last.join(cycles, "entity_id")
    late = grace_days(joined.cycle_days, request.cohort)
    return joined.filter(joined.last_day + joined.cycle_days + late >= joined.closes_day).select(
        *KEY
    )


def spend_movement(request: LabelRequest) -> ir.Table:
    """Compare the spend in the window with the usual spend of as many days.

    The usual spend is that of the last 364 days, or since the first charge. Accounts billed in a
    regular cycle are compared per charge, so one bill more or less in a window is no movement, and
    a window without a charge is none either. Accounts with less than `horizon_days` of charges have
    no usual spend: ``happened`` is null.
    """
    sums = _spend_around(request)
    horizon, margin = request.target.horizon_days, request.target.margin
    fewest = ibis.greatest(expected_charges(sums.cycle_days, horizon), 1)
    is_regular = sums.cycle_days.notnull()
    spent = is_regular.ifelse(sums.spent / ibis.greatest(sums.n_after, fewest), sums.spent)
    usual = is_regular.ifelse(
        sums.usual / ibis.greatest(sums.n_before, 1),
        sums.usual * horizon / ibis.greatest(sums.billed_days, 1),
    )
    up = spent.round(2) >= (usual * (1 + margin)).round(2)
    down = (spent.round(2) <= (usual * (1 - margin)).round(2)) & (spent > 0)
    moved = (up if request.target.outcome == "expansion" else down) & (usual > 0)
    is_usual = sums.billed_days >= horizon
    return sums.select(*KEY, **UNDATED, happened=is_usual.ifelse(moved, ibis.null("boolean")))


def _spend_around(request: LabelRequest) -> ir.Table:
    """Return per window: spent, usual (both sums), n_after, n_before (charges), billed_days."""
    rows = request.table("invoices", "amount").filter(lambda t: t.amount.notnull())
    cycles = billing_cycles(rows).select("entity_id", "cycle_days")
    first = rows.filter(is_charge(rows)).group_by("entity_id").agg(first_day=lambda t: t.day.min())
    rows = rows.select("entity_id", "day", "amount", is_charge=is_charge(rows))
    rows = attach(attach(rows, cycles, ["entity_id"], "cycle_days"), first, ["entity_id"],
                  "first_day")  # fmt: skip
    pairs = request.windows.join(rows, "entity_id")
    after = (pairs.day > pairs.opens_day) & (pairs.day <= pairs.closes_day)
    back = usual_days(pairs.cycle_days)
    before = (pairs.day <= pairs.as_of_day) & (pairs.day > pairs.as_of_day - back)
    return pairs.group_by(KEY).agg(
        spent=pairs.amount.sum(where=after).fill_null(0.0),
        usual=pairs.amount.sum(where=before).fill_null(0.0),
        n_after=pairs.day.nunique(where=after & pairs.is_charge),
        n_before=pairs.day.nunique(where=before & pairs.is_charge),
        cycle_days=pairs.cycle_days.max(),
        billed_days=ibis.least(pairs.as_of_day.max() - pairs.first_day.max() + 1, 364),
    )
