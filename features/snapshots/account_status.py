"""Account status at as_of: status, ARR and next renewal.

Every entity has a status. The point-in-time rules of features apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import and_

import ibis
import ibis.expr.types as ir

from configs.runtime.errors import ConfigError
from configs.schema.company import Cohort, GrowthRoom
from features.days import KEY
from features.revenue.terms import attach, paid, resolve_terms
from features.revenue.usual_spend import LONGEST_CYCLE, billing_cycles, is_charge
from features.signals.commercial import is_live, term_days
from features.snapshots.statuses import STATUSES, Status
from features.tables.point_in_time import as_known
from features.tables.source_tables import TABLES

SHORT_TERM_DAYS = 45
"""Length below which terms are month to month and predicted over the horizon."""

ACTIVITY = tuple(name for name, spec in TABLES.items() if spec.activity)

COLUMNS = {
    "entity_id": "the entity",
    "as_of_day": "day index of as_of",
    "status": "a key of STATUSES",
    "tenure_days": "days since the start of the account",
    "arr": "annual value in the reporting currency, to the cent, null without live terms; "
    "without contracts the spend of the last 364 days",
    "is_under_contract": "a renewal date lies ahead",
    "renews_day": "day index of the renewal of the largest contract, null without",
    "notice_day": "day index of the last day on which notice counts, null without",
    "last_active_days": "days since any activity, null when never",
    "has_room": "True when the account has room to grow (`room` in company.yaml)",
}


def activity_table(tables: Mapping[str, object]) -> str | None:
    """Return the activity table of a company: usage, if present."""
    return next((name for name in ACTIVITY if name in tables), None)


def activity_rows(name: str, daily: ir.Table) -> ir.Table:
    """Return the rows of an activity table that count as activity.

    Credit notes, refunds, failed charges and charges of 0 do not count; events with a quantity of
    zero are already left out of daily tables.
    """
    return daily.filter(is_charge(daily)) if name == "invoices" else daily


def account_status_table(
    daily: Mapping[str, ir.Table],
    grid: ir.Table,
    cohort: Cohort,
    history: Mapping[str, bool],
    room: GrowthRoom | None = None,
) -> ir.Table:
    """Return one row per grid row with the columns of `COLUMNS`.

    Raises
    ------
    ConfigError
        `room` needs a column that is not mapped.
    """
    result = _with_activity(grid, daily)
    if "subscriptions" in daily:
        rows = as_known(
            "subscriptions",
            daily["subscriptions"],
            grid,
            history=history.get("subscriptions", False),
        )
        result = _with_room(_with_terms(result, rows, cohort), rows, room or GrowthRoom())
    else:
        result = _with_spend(result, daily, cohort).mutate(has_room=ibis.literal(True))
    return result.select(*COLUMNS)


def grace_days(term_days: ir.Value, cohort: Cohort) -> ir.Value:
    """Return the days a renewal may be late before it counts as lost."""
    is_short = term_days.fill_null(365) < SHORT_TERM_DAYS
    return is_short.ifelse(cohort.monthly_grace_days, cohort.grace_days)


def _with_activity(grid: ir.Table, daily: Mapping[str, ir.Table]) -> ir.Table:
    table = activity_table(daily)
    if table is None:
        return grid.mutate(last_active_days=ibis.null("int64"))
    days = activity_rows(table, daily[table]).select("entity_id", "day", "known_day").distinct()
    rows = as_known(table, days, grid)
    last = rows.group_by(KEY).agg(last_active_days=rows.age.min())
    joined = grid.left_join(last, KEY)
    return joined.select(*(joined[name] for name in grid.columns), "last_active_days")


def _with_terms(result: ir.Table, rows: ir.Table, cohort: Cohort) -> ir.Table:
    rows = rows if "arr" in rows.columns else rows.mutate(arr=ibis.null("float64"))
    terms = _with_fates(rows)
    held = terms.fate == "held"
    largest_first = ibis.window(
        group_by=KEY,
        order_by=[
            ibis.desc(held),
            ibis.desc(ibis.coalesce(terms.arr, 0.0)),
            terms.renews_day,
            terms.subscription_id,
            terms.day,
        ],
    )
    ranked = terms.mutate(_rank=ibis.row_number().over(largest_first))
    main = (ranked._rank == 0) & (ranked.fate == "held")
    counts = ranked.fate.isin(("held", "awaits"))
    is_unknown = ranked.arr.isnull().any(where=counts).fill_null(False)
    facts = ranked.group_by(KEY).agg(
        # One unknown amount makes the sum unknown.
        arr=is_unknown.ifelse(ibis.null("float64"), ranked.arr.sum(where=counts)),
        n_live=ranked.count(where=ranked.fate == "held"),
        _renews=ranked.renews_day.max(where=main),
        _notice_period=ranked.notice_period_days.max(where=main).cast("int64"),
        _term=term_days(ranked).max(where=main),
        _notice_given=(ranked.notice_day <= ranked.as_of_day).fill_null(False).any(where=main),
        _awaits=(ranked.fate == "awaits").any(),
    )
    joined = attach(result, facts, KEY, *(name for name in facts.columns if name not in KEY))
    ahead = joined._renews >= joined.as_of_day
    under = (ahead & (joined._term >= SHORT_TERM_DAYS)).fill_null(False)
    late_days = joined.as_of_day - joined._renews
    is_late = (late_days > 0) & (late_days <= grace_days(joined._term, cohort))
    status = ibis.cases(
        (joined.n_live.isnull(), "insufficient_data"),
        ((joined.n_live == 0) & joined._awaits.fill_null(False), "pending_renewal"),
        (joined.n_live == 0, "closed"),
        (joined._notice_given.fill_null(False), "notice_given"),
        (is_late.fill_null(False), "pending_renewal"),
        (joined.tenure_days < cohort.min_tenure_days, "too_new"),
        else_="scored",
    )
    renews = under.ifelse(joined._renews, ibis.null("int64"))
    return joined.mutate(
        status=status,
        arr=_in_cents(joined.arr),
        is_under_contract=under,
        renews_day=renews,
        notice_day=renews - joined._notice_period.fill_null(0),
    )


def _with_fates(rows: ir.Table) -> ir.Table:
    """Return all terms with their fate; unpaid terms hold until they end and are never lost."""
    columns = [*rows.columns, "fate"]
    resolved = resolve_terms(rows, rows.as_of_day, ["as_of_day"]).select(*columns)
    free = rows.filter(~paid(rows))
    fate = free.ended_day.isnull().ifelse("held", "continued")
    return ibis.union(resolved, free.mutate(fate=fate).select(*columns))


def _with_room(result: ir.Table, rows: ir.Table, room: GrowthRoom) -> ir.Table:
    """Add has_room: False for accounts whose live terms are all full and that lack no product."""
    _check_room_columns(rows, room)
    checks = []
    if "max_seats" in rows.columns and "seats" in rows.columns:
        checks.append(rows.seats >= rows.max_seats)
    if room.top_plans:
        checks.append(rows.plan.lower().isin([name.lower() for name in room.top_plans]))
    if not checks:
        return result.mutate(has_room=ibis.literal(True))
    is_full = reduce(and_, checks).fill_null(False)
    live = is_live(rows)
    facts = {"_n_terms": rows.count(where=live), "_n_full": rows.count(where=live & is_full)}
    if room.products:
        held = live & rows["product"].isin(room.products)
        facts["_n_products"] = rows["product"].nunique(where=held)
    found = rows.group_by(KEY).agg(**facts)
    joined = result.left_join(found, KEY)
    none_left = (joined["_n_terms"] > 0) & (joined["_n_full"] == joined["_n_terms"])
    if room.products:
        none_left &= joined["_n_products"] == len(set(room.products))
    return joined.select(
        *(joined[name] for name in result.columns), has_room=~none_left.fill_null(False)
    )


def _check_room_columns(rows: ir.Table, room: GrowthRoom) -> None:
    wanted = {"plan": room.top_plans, "product": room.products}
    for column, names in wanted.items():
        if names and column not in rows.columns:
            raise ConfigError(
                f"room names {', '.join(names)}, but subscriptions has no {column}",
                where=f"room.{'top_plans' if column == 'plan' else 'products'}",
                fix=f"map tables.subscriptions.columns.{column}, or leave it out",
            )


def _in_cents(money: ir.Value) -> ir.Value:
    """Round an amount to cents."""
    return money.cast("float64").round(2)


def _with_spend(result: ir.Table, daily: Mapping[str, ir.Table], cohort: Cohort) -> ir.Table:
    """Add the status of accounts without contracts: active or inactive, ARR from their spend."""
    result = result.mutate(arr=ibis.null("float64"), _inactive_days=cohort.active_within_days)
    if "invoices" in daily and "amount" in daily["invoices"].columns:
        rows = as_known("invoices", daily["invoices"], result.select("entity_id", "as_of_day"))
        result = _with_billing(
            result, rows, cohort, is_activity=activity_table(daily) == "invoices"
        )
    status = ibis.cases(
        (result.last_active_days.isnull(), "insufficient_data"),
        (result.last_active_days > result._inactive_days, "closed"),
        (result.tenure_days < cohort.min_tenure_days, "too_new"),
        else_="scored",
    )
    return result.mutate(
        status=status,
        is_under_contract=ibis.literal(False),
        renews_day=ibis.null("int64"),
        notice_day=ibis.null("int64"),
    )


def _with_billing(
    result: ir.Table, rows: ir.Table, cohort: Cohort, *, is_activity: bool
) -> ir.Table:
    """Add the spend of a year, and the allowed inactivity of regularly billed accounts.

    A yearly charge counts until the next one is overdue, a few days longer than the 364 days of
    other charges.
    """
    cycles = billing_cycles(rows, ["as_of_day"])
    due = attach(rows, cycles, KEY, "cycle_days", "last_day")
    late = due.cycle_days + grace_days(due.cycle_days, cohort)
    is_yearly = (due.cycle_days == LONGEST_CYCLE).fill_null(False)
    counts = is_yearly.ifelse(
        (due.as_of_day - due.last_day <= late) & (due.last_day - due.day < LONGEST_CYCLE // 2),
        due.age < 364,
    )
    facts = due.group_by(KEY).agg(spent=due.amount.sum(where=counts), _late=late.max())
    joined = attach(result, facts, KEY, "spent", "_late")
    # Accounts without invoices have 0; credits beyond the charges do not count.
    spend = ibis.coalesce(joined.spent, 0.0).clip(lower=0.0)
    allowed_days = ibis.greatest(joined._late.fill_null(0), cohort.active_within_days)
    return joined.mutate(
        arr=_in_cents(spend), _inactive_days=allowed_days if is_activity else joined._inactive_days
    )


__all__ = [
    "COLUMNS",
    "STATUSES",
    "Status",
    "activity_rows",
    "activity_table",
    "grace_days",
    "account_status_table",
]
