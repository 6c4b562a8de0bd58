"""Journey signals: account age and onboarding progress."""

from __future__ import annotations

import ibis.expr.types as ir

from features.signals.declare import Aggregate, Derived, Family, Feature, Intermediate, ratio

STEPS = "milestones"


def _is_missed(rows: ir.Table) -> ir.BooleanValue:
    return rows.reached_day.isnull() & (rows.due_day < rows.as_of_day)


FAMILY = Family(
    "journey",
    columns=[
        Feature(
            "tenure_days",
            Derived(lambda o: o.tenure_days),
            "time with us",
            "Days since the account began.",
            "days",
            "context",
            is_actionable=False,
            per_day=1,
        ),
        Feature(
            "is_first_year",
            Derived(lambda o: (o.tenure_days < 364).cast("float64")),
            "in the first year",
            "1 in the first 364 days.",
            "flag",
            "context",
            is_actionable=False,
        ),
        Intermediate("_steps", Aggregate(STEPS, lambda r: r.count())),
        Intermediate("_reached", Aggregate(STEPS, lambda r: r.reached_day.count())),
        Feature(
            "steps_reached_share",
            Derived(lambda o: ratio(o["_reached"], o["_steps"])),
            "share of steps reached",
            "Share of the planned onboarding and journey steps that were reached.",
            "share",
            "journey",
            churn_sign=-1,
        ),
        Feature(
            "steps_missed",
            Aggregate(STEPS, lambda r: r.count(where=_is_missed(r))),
            "steps missed",
            "Planned steps past their due date and not reached.",
            "count",
            "journey",
            churn_sign=1,
        ),
        Feature(
            "days_step_missed",
            Aggregate(
                STEPS,
                lambda r: (r.as_of_day - r.due_day).max(where=_is_missed(r)).cast("float64"),
            ),
            "days a step is overdue",
            "Days the oldest missed step is past its due date; 0 when none is.",
            "days",
            "journey",
            churn_sign=1,
        ),
        Feature(
            "steps_days_late",
            Aggregate(
                STEPS,
                lambda r: (r.reached_day - 1 - r.due_day).clip(lower=0).cast("float64").mean(),
                empty=None,
            ),
            "days late on steps",
            "Mean days after the due date that steps were reached.",
            "days",
            "journey",
            churn_sign=1,
        ),
        Feature(
            "days_since_step",
            Aggregate(
                STEPS,
                lambda r: (r.as_of_day - r.reached_day).min().cast("float64"),
                empty=None,
            ),
            "days since the last step",
            "Days since a planned step was reached.",
            "days",
            "journey",
        ),
    ],
)
