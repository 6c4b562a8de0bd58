"""Payment signals: invoiced amounts, unpaid and late invoices."""

from __future__ import annotations

import ibis
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

INVOICES = "invoices"


def _is_unpaid(rows: ir.Table) -> ir.BooleanValue:
    return rows.paid_day.isnull() & (rows.amount > 0)


def is_overdue(rows: ir.Table) -> ir.BooleanValue:
    """Whether an invoice is past its due day and not paid, as known then."""
    return _is_unpaid(rows) & (rows.due_day < rows.as_of_day)


def _days_late(rows: ir.Table) -> ir.Value:
    # paid_day is the midnight after the day of payment, due_day is the day itself.
    return (rows.paid_day - 1 - rows.due_day).clip(lower=0).cast("float64")


def _spend(window: int, skip: int = 0) -> Aggregate:
    return Aggregate(
        INVOICES, lambda r: r.amount.sum(where=(r.age >= skip) & (r.age < skip + window))
    )


FAMILY = Family(
    "payments",
    lookback_days=728,
    columns=[
        Intermediate("_spend_28d", _spend(28)),
        Intermediate("_spend_84d", _spend(84)),
        Intermediate("_spend_before_84d", _spend(84, 84)),
        Intermediate("_spend_364d", _spend(364)),
        Intermediate("_spend_year_ago_84d", _spend(84, 364)),
        Feature(
            "spend_per_week_84d",
            Derived(lambda o: o["_spend_84d"] / weeks_observed(o, 84)),
            "spend per week",
            "Amount invoiced per week over the last 84 days, credits taken off.",
            "money",
            "payments",
            84,
            churn_sign=-1,
        ),
        Feature(
            "spend_per_week_364d",
            Derived(lambda o: o["_spend_364d"] / weeks_observed(o, 364)),
            "spend per week",
            "Amount invoiced per week over the last 364 days, credits taken off.",
            "money",
            "payments",
            364,
            churn_sign=-1,
        ),
        Feature(
            "spend_change_84d",
            Derived(
                lambda o: (o.tenure_days >= 112).ifelse(
                    log_ratio(
                        ibis.greatest(o["_spend_84d"], 0.0),
                        ibis.greatest(o["_spend_before_84d"], 0.0),
                        50.0,
                    ),
                    None,
                )
            ),
            "change in spend",
            "Amount invoiced in the last 84 days against the 84 days before.",
            "log_ratio",
            "payments",
            84,
        ),
        Feature(
            "spend_change_year",
            Derived(
                lambda o: (o.tenure_days >= 448).ifelse(
                    log_ratio(
                        ibis.greatest(o["_spend_84d"], 0.0),
                        ibis.greatest(o["_spend_year_ago_84d"], 0.0),
                        50.0,
                    ),
                    None,
                )
            ),
            "change in spend on last year",
            "Amount invoiced in the last 84 days against the same days 364 days earlier.",
            "log_ratio",
            "payments",
            84,
        ),
        Feature(
            "spend_versus_peers_84d",
            versus_peers("spend_per_week_84d", 5.0, lambda o: o["_spend_364d"] > 0),
            "spend against similar accounts",
            "Spend per week over 84 days against the median of accounts of like age on that day.",
            "log_ratio",
            "payments",
            84,
        ),
        Feature(
            "invoices_84d",
            Aggregate(INVOICES, lambda r: r.count(where=(r.age < 84) & (r.amount > 0))),
            "invoices",
            "Invoices issued in the last 84 days.",
            "count",
            "payments",
            84,
            churn_sign=-1,
        ),
        Feature(
            "invoices_364d",
            Aggregate(INVOICES, lambda r: r.count(where=(r.age < 364) & (r.amount > 0))),
            "invoices",
            "Invoices issued in the last 364 days.",
            "count",
            "payments",
            364,
            churn_sign=-1,
        ),
        Feature(
            "days_since_last_invoice",
            Aggregate(
                INVOICES, lambda r: r.age.min(where=r.amount > 0).cast("float64"), empty=None
            ),
            "days since last invoice",
            "Days since an invoice was issued.",
            "days",
            "payments",
            churn_sign=1,
        ),
        Feature(
            "invoice_gap_ratio",
            Derived(
                lambda o: ratio(
                    o.days_since_last_invoice,
                    weeks_observed(o, 364) * 7.0 / (o.invoices_364d + 1.0),
                )
            ),
            "silence against own rhythm",
            "Days since the last invoice over the usual days between invoices in 364 days.",
            "ratio",
            "payments",
            364,
            churn_sign=1,
        ),
        Feature(
            "invoice_amount_364d",
            Aggregate(
                INVOICES,
                lambda r: r.amount.mean(where=(r.age < 364) & (r.amount > 0)),
                empty=None,
            ),
            "mean invoice",
            "Mean amount of the invoices of the last 364 days.",
            "money",
            "payments",
            364,
        ),
        Intermediate(
            "_credits_364d",
            Aggregate(INVOICES, lambda r: r.amount.sum(where=(r.age < 364) & (r.amount < 0))),
        ),
        Intermediate(
            "_charged_364d",
            Aggregate(INVOICES, lambda r: r.amount.sum(where=(r.age < 364) & (r.amount > 0))),
        ),
        Feature(
            "credit_share_364d",
            Derived(lambda o: ratio(-o["_credits_364d"], o["_charged_364d"])),
            "share credited",
            "Credits over charges in the last 364 days.",
            "share",
            "payments",
            364,
        ),
        Feature(
            "invoices_overdue",
            Aggregate(INVOICES, lambda r: r.count(where=is_overdue(r))),
            "overdue invoices",
            "Invoices unpaid after their due date, as known now.",
            "count",
            "payments",
            churn_sign=1,
            expansion_sign=-1,
        ),
        Feature(
            "days_overdue",
            Aggregate(
                INVOICES,
                lambda r: (r.as_of_day - r.due_day).max(where=is_overdue(r)).cast("float64"),
            ),
            "days overdue",
            "Days the oldest unpaid invoice is overdue; 0 when none is.",
            "days",
            "payments",
            churn_sign=1,
            expansion_sign=-1,
        ),
        Feature(
            "days_paid_late_364d",
            Aggregate(INVOICES, lambda r: _days_late(r).mean(where=r.age < 364), empty=None),
            "days paid late",
            "Mean days after the due date that the last 364 days' invoices were paid.",
            "days",
            "payments",
            364,
            churn_sign=1,
        ),
        Feature(
            "failed_charges_84d",
            Aggregate(
                INVOICES,
                lambda r: r.is_failed_charge.cast("int64").sum(where=r.age < 84),
            ),
            "failed charges",
            "Automatic charges that failed in the last 84 days.",
            "count",
            "payments",
            84,
            churn_sign=1,
        ),
    ],
)
