"""Support signals: number, urgency and duration of tickets, and silence after a spike."""

from __future__ import annotations

import ibis.expr.types as ir

from features.signals.declare import (
    Aggregate,
    Derived,
    Family,
    Feature,
    Intermediate,
    log_ratio,
    ratio,
    versus_peers,
    weeks_observed,
)

TICKETS = "support_tickets"

CANCELLATION_CATEGORIES = ("cancel", "cancellation", "offboarding", "data_export", "termination")
"""Categories of tickets about cancellation. They express the decision and are never counted."""

MONEY_CATEGORIES = (
    "billing", "billing_question", "contract", "discount", "invoice", "invoices", "invoicing",
    "payment", "price", "prices", "pricing", "quote",
)  # fmt: skip
"""Categories of tickets about price and billing, an early sign of budget pressure."""

URGENT = ("urgent", "high", "critical", "p1", "p2")


def is_counted(rows: ir.Table) -> ir.BooleanValue:
    """Whether a ticket counts as a signal: all except those about cancellation."""
    return ~rows.category.lower().isin(CANCELLATION_CATEGORIES) | rows.category.isnull()


def _is_about_money(rows: ir.Table) -> ir.BooleanValue:
    return rows.category.lower().isin(MONEY_CATEGORIES)


def _is_urgent(rows: ir.Table) -> ir.BooleanValue:
    return rows.priority.lower().isin(URGENT)


def _is_open(rows: ir.Table) -> ir.BooleanValue:
    return rows.resolved_day.isnull()


def _days_until(rows: ir.Table, moment: str) -> ir.Value:
    # A ticket with an opening date only counts from the end of that day; its answer may be earlier.
    return (rows[moment] - rows.day).clip(lower=0).cast("float64")


FAMILY = Family(
    "support",
    lookback_days=364,
    shorter={"usage_events": 84},
    columns=[
        Feature(
            "tickets_28d",
            Aggregate(TICKETS, lambda r: r.count(where=(r.age < 28) & is_counted(r))),
            "tickets opened",
            "Tickets opened in the last 28 days, those about leaving not counted.",
            "count",
            "support",
            28,
        ),
        Feature(
            "tickets_84d",
            Aggregate(TICKETS, lambda r: r.count(where=(r.age < 84) & is_counted(r))),
            "tickets opened",
            "Tickets opened in the last 84 days, those about leaving not counted.",
            "count",
            "support",
            84,
        ),
        Intermediate(
            "_tickets_before_84d",
            Aggregate(
                TICKETS, lambda r: r.count(where=(r.age >= 84) & (r.age < 168) & is_counted(r))
            ),
        ),
        Intermediate("_use_84d", Aggregate("usage_events", lambda r: r.count(where=r.age < 84))),
        Intermediate("_tickets_364d", Aggregate(TICKETS, lambda r: r.count(where=is_counted(r)))),
        Feature(
            "tickets_change_84d",
            Derived(
                lambda o: (o.tenure_days >= 112).ifelse(
                    log_ratio(o.tickets_84d, o["_tickets_before_84d"], 1.0), None
                )
            ),
            "change in tickets",
            "Tickets in the last 84 days against the 84 days before.",
            "log_ratio",
            "support",
            84,
        ),
        Feature(
            "tickets_per_month_364d",
            Derived(lambda o: o["_tickets_364d"] / weeks_observed(o, 364) * 4.0),
            "tickets per four weeks",
            "Tickets per four weeks over the last 364 days, or over the account's life if shorter.",
            "count",
            "support",
            364,
        ),
        Feature(
            "tickets_versus_peers_84d",
            versus_peers("tickets_84d", 1.0, lambda o: o["_use_84d"] > 0),
            "tickets against similar accounts",
            "Tickets over 84 days against the median of accounts of like age on that day.",
            "log_ratio",
            "support",
            84,
        ),
        Feature(
            "tickets_fell_silent_28d",
            Derived(
                lambda o: ((o.tickets_28d == 0) & (o["_tickets_before_84d"] >= 3)).cast("float64")
            ),
            "silence after many tickets",
            "1 when no ticket came in the last 28 days after three or more 84 to 168 days ago.",
            "flag",
            "support",
            28,
        ),
        Feature(
            "urgent_tickets_84d",
            Aggregate(
                TICKETS, lambda r: r.count(where=(r.age < 84) & _is_urgent(r) & is_counted(r))
            ),
            "urgent tickets",
            "Tickets of high or urgent priority opened in the last 84 days.",
            "count",
            "support",
            84,
            churn_sign=1,
        ),
        Feature(
            "urgent_share_364d",
            Aggregate(
                TICKETS,
                lambda r: _is_urgent(r).cast("float64").mean(where=is_counted(r)),
                empty=None,
            ),
            "share of urgent tickets",
            "Share of tickets of the last 364 days that were of high or urgent priority.",
            "share",
            "support",
            364,
            churn_sign=1,
        ),
        Feature(
            "tickets_open",
            Aggregate(TICKETS, lambda r: r.count(where=_is_open(r) & is_counted(r))),
            "open tickets",
            "Tickets opened in the last 364 days and not resolved by now.",
            "count",
            "support",
            churn_sign=1,
        ),
        Feature(
            "oldest_open_ticket_days",
            Aggregate(
                TICKETS, lambda r: r.age.max(where=_is_open(r) & is_counted(r)).cast("float64")
            ),
            "age of the oldest open ticket",
            "Days the oldest unresolved ticket has been open; 0 when none is.",
            "days",
            "support",
            churn_sign=1,
        ),
        Feature(
            "resolution_days_84d",
            Aggregate(
                TICKETS,
                lambda r: _days_until(r, "resolved_day").mean(
                    where=((r.as_of_day - r.resolved_day) < 84) & is_counted(r)
                ),
                empty=None,
            ),
            "days to resolve",
            "Mean days from opening to resolution of tickets resolved in the last 84 days.",
            "days",
            "support",
            84,
            churn_sign=1,
        ),
        Feature(
            "first_response_days_84d",
            Aggregate(
                TICKETS,
                lambda r: _days_until(r, "first_response_day").mean(
                    where=(r.age < 84) & is_counted(r)
                ),
                empty=None,
            ),
            "days to first answer",
            "Mean whole days from opening to first answer, tickets of the last 84 days.",
            "days",
            "support",
            84,
            churn_sign=1,
        ),
        Feature(
            "reopened_share_364d",
            Aggregate(
                TICKETS,
                lambda r: r.reopened.cast("float64").mean(where=is_counted(r)),
                empty=None,
            ),
            "share of tickets reopened",
            "Share of the resolved tickets of the last 364 days that were opened again.",
            "share",
            "support",
            364,
            churn_sign=1,
        ),
        Feature(
            "ticket_csat_84d",
            Aggregate(
                TICKETS, lambda r: r.csat.mean(where=(r.age < 84) & is_counted(r)), empty=None
            ),
            "satisfaction with tickets",
            "Mean satisfaction (1 to 5) of tickets opened in the last 84 days and resolved.",
            "score",
            "sentiment",
            84,
            churn_sign=-1,
        ),
        Feature(
            "money_tickets_share_364d",
            Aggregate(
                TICKETS,
                lambda r: _is_about_money(r).cast("float64").mean(where=is_counted(r)),
                empty=None,
            ),
            "share of tickets about price and bills",
            "Share of the tickets of the last 364 days whose category is about price or bills.",
            "share",
            "commercial",
            364,
            churn_sign=1,
        ),
        Feature(
            "days_since_last_ticket",
            Aggregate(
                TICKETS, lambda r: r.age.min(where=is_counted(r)).cast("float64"), empty=None
            ),
            "days since last ticket",
            "Days since a ticket was opened; unknown when none in the last 364 days.",
            "days",
            "support",
        ),
        Intermediate(
            "_users_84d", Aggregate("usage_events", lambda r: r.user_id.nunique(where=r.age < 84))
        ),
        Feature(
            "tickets_per_user_84d",
            Derived(lambda o: ratio(o.tickets_84d, o["_users_84d"] + 1.0)),
            "tickets per active user",
            "Tickets of the last 84 days over active users of the same days, plus one.",
            "ratio",
            "support",
            84,
            churn_sign=1,
        ),
    ],
)
