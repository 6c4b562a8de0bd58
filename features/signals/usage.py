"""Usage signals: amount, users, breadth and their changes."""

from __future__ import annotations

from collections.abc import Callable

import ibis.expr.types as ir

from features.signals.declare import (
    Aggregate,
    Derived,
    Family,
    Feature,
    Intermediate,
    NestedAggregate,
    log_ratio,
    ratio,
    versus_peers,
    weeks_observed,
)

EVENTS = "usage_events"

# Distinct users, days and features are counted by grouping first: one pass for all windows.
PER_USER = {
    "days": lambda r: r.day.nunique(where=r.age < 28),
    "recent": lambda r: r.quantity.sum(where=r.age < 28),
    "last": lambda r: r.age.min(),
    "is_before": lambda r: ((r.age >= 28) & (r.age < 84)).any(),
    "is_earlier": lambda r: ((r.age >= 84) & (r.age < 168)).any(),
}
PER_DAY = {"at": lambda r: r.age.min()}
PER_FEATURE = {
    "last": lambda r: r.age.min(),
    "is_earlier": lambda r: ((r.age >= 84) & (r.age < 168)).any(),
    "recent": lambda r: r.quantity.sum(where=r.age < 84),
}


def _users(
    which: Callable[[ir.Table], ir.BooleanValue], empty: float | None = 0.0
) -> NestedAggregate:
    return NestedAggregate(
        EVENTS, "user_id", PER_USER, lambda u: u.user_id.count(where=which(u)), empty
    )


def _days(which: Callable[[ir.Table], ir.BooleanValue]) -> NestedAggregate:
    return NestedAggregate(EVENTS, "day", PER_DAY, lambda d: d.count(where=which(d)))


def _features(which: Callable[[ir.Table], ir.BooleanValue]) -> NestedAggregate:
    return NestedAggregate(
        EVENTS, "feature", PER_FEATURE, lambda f: f.feature.count(where=which(f))
    )


def _still_used(own: ir.Table) -> ir.BooleanValue:
    return own["_total_84d"] > 0


FAMILY = Family(
    "usage",
    lookback_days=392,
    columns=[
        Intermediate("_total_28d", Aggregate(EVENTS, lambda r: r.quantity.sum(where=r.age < 28))),
        Intermediate("_total_84d", Aggregate(EVENTS, lambda r: r.quantity.sum(where=r.age < 84))),
        Intermediate(
            "_before_28d",
            Aggregate(EVENTS, lambda r: r.quantity.sum(where=(r.age >= 28) & (r.age < 56))),
        ),
        Intermediate(
            "_before_84d",
            Aggregate(EVENTS, lambda r: r.quantity.sum(where=(r.age >= 28) & (r.age < 112))),
        ),
        Intermediate(
            "_year_ago_28d",
            Aggregate(EVENTS, lambda r: r.quantity.sum(where=(r.age >= 364) & (r.age < 392))),
        ),
        Intermediate(
            "_users_before_84d",
            _users(lambda u: u.is_earlier),
        ),
        Intermediate(
            "_features_before_84d",
            _features(lambda f: f.is_earlier),
        ),
        Intermediate(
            "_days_before_28d",
            _days(lambda d: (d["at"] >= 28) & (d["at"] < 56)),
        ),
        Feature(
            "usage_per_week_28d",
            Derived(lambda o: o["_total_28d"] / weeks_observed(o, 28)),
            "use per week",
            "Quantity used per week over the last 28 days, or over the account's life if shorter.",
            "count",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "usage_per_week_84d",
            Derived(lambda o: o["_total_84d"] / weeks_observed(o, 84)),
            "use per week",
            "Quantity used per week over the last 84 days, or over the account's life if shorter.",
            "count",
            "adoption",
            84,
            churn_sign=-1,
        ),
        Feature(
            "usage_change_28d",
            Derived(
                lambda o: (o.tenure_days >= 42).ifelse(
                    log_ratio(o["_total_28d"], o["_before_28d"], 5.0), None
                )
            ),
            "change in use",
            "Use in the last 28 days against the 28 days before.",
            "log_ratio",
            "adoption",
            28,
            churn_sign=-1,
            expansion_sign=1,
        ),
        Feature(
            "usage_change_84d",
            Derived(
                lambda o: (o.tenure_days >= 112).ifelse(
                    log_ratio(o["_total_28d"] * 3.0, o["_before_84d"], 15.0), None
                )
            ),
            "change in use",
            "Use in the last 28 days, times three, against the 84 days before them.",
            "log_ratio",
            "adoption",
            84,
            churn_sign=-1,
            expansion_sign=1,
        ),
        Feature(
            "usage_change_year",
            Derived(
                lambda o: (o.tenure_days >= 392).ifelse(
                    log_ratio(o["_total_28d"], o["_year_ago_28d"], 5.0), None
                )
            ),
            "change in use on last year",
            "Use in the last 28 days against the same days a year (364 days) earlier.",
            "log_ratio",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "usage_versus_peers_28d",
            versus_peers("usage_per_week_28d", 2.0, _still_used),
            "use against similar accounts",
            "Use per week over 28 days against the median of accounts of like age on that day.",
            "log_ratio",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "active_days_28d",
            _days(lambda d: d["at"] < 28),
            "days with use",
            "Days with any use in the last 28 days.",
            "days",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "active_days_84d",
            _days(lambda d: d["at"] < 84),
            "days with use",
            "Days with any use in the last 84 days.",
            "days",
            "adoption",
            84,
            churn_sign=-1,
        ),
        Feature(
            "active_days_change_28d",
            Derived(
                lambda o: (o.tenure_days >= 42).ifelse(
                    log_ratio(o.active_days_28d, o["_days_before_28d"], 2.0), None
                )
            ),
            "change in days with use",
            "Days with use in the last 28 days against the 28 days before.",
            "log_ratio",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "days_since_last_use",
            Aggregate(EVENTS, lambda r: r.age.min().cast("float64"), empty=None),
            "days since last use",
            "Days since anything was used; unknown when never in the last 392 days.",
            "days",
            "adoption",
            churn_sign=1,
        ),
        Feature(
            "usage_gap_ratio",
            Derived(lambda o: ratio(o.days_since_last_use + 1.0, 84.0 / (o.active_days_84d + 1.0))),
            "silence against own rhythm",
            "Days since last use, over the usual days between uses in the last 84 days.",
            "ratio",
            "adoption",
            84,
            churn_sign=1,
        ),
        Feature(
            "active_users_28d",
            _users(lambda u: u["last"] < 28),
            "active users",
            "Different users in the last 28 days.",
            "count",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "active_users_84d",
            _users(lambda u: u["last"] < 84),
            "active users",
            "Different users in the last 84 days.",
            "count",
            "adoption",
            84,
            churn_sign=-1,
        ),
        Feature(
            "active_users_change_84d",
            Derived(
                lambda o: (o.tenure_days >= 112).ifelse(
                    log_ratio(o.active_users_84d, o["_users_before_84d"], 1.0), None
                )
            ),
            "change in active users",
            "Different users in the last 84 days against the 84 days before.",
            "log_ratio",
            "adoption",
            84,
            churn_sign=-1,
            expansion_sign=1,
        ),
        Feature(
            "active_users_versus_peers_28d",
            versus_peers("active_users_28d", 1.0, _still_used),
            "active users against similar accounts",
            "Active users over 28 days against the median of accounts of like age on that day.",
            "log_ratio",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "stickiness_28d",
            NestedAggregate(
                EVENTS,
                "user_id",
                PER_USER,
                lambda u: ratio(u.days.sum(), u.count(where=u["last"] < 28) * 28),
                empty=None,
            ),
            "share of days a user is active",
            "Mean share of the last 28 days on which an active user did something.",
            "share",
            "adoption",
            28,
            churn_sign=-1,
        ),
        Feature(
            "top_user_share_28d",
            NestedAggregate(
                EVENTS,
                "user_id",
                PER_USER,
                lambda u: ratio(u.recent.max(), u.recent.sum()),
                empty=None,
            ),
            "share of the heaviest user",
            "Share of the last 28 days' use that came from one user.",
            "share",
            "breadth",
            28,
            churn_sign=1,
        ),
        Feature(
            "users_lost_84d",
            _users(lambda u: u.is_before & (u["last"] >= 28)),
            "users gone quiet",
            "Users active 28 to 84 days ago and silent in the last 28 days.",
            "count",
            "adoption",
            84,
        ),
        Feature(
            "users_new_84d",
            _users(lambda u: ~u.is_before & (u["last"] < 28)),
            "users who came back or began",
            "Users active in the last 28 days and not in the 56 days before.",
            "count",
            "adoption",
            84,
            expansion_sign=1,
        ),
        Feature(
            "features_used_28d",
            _features(lambda f: f["last"] < 28),
            "features in use",
            "Different features used in the last 28 days.",
            "count",
            "breadth",
            28,
            churn_sign=-1,
        ),
        Feature(
            "features_used_84d",
            _features(lambda f: f["last"] < 84),
            "features in use",
            "Different features used in the last 84 days.",
            "count",
            "breadth",
            84,
            churn_sign=-1,
        ),
        Feature(
            "features_used_change_84d",
            Derived(
                lambda o: (o.tenure_days >= 112).ifelse(
                    log_ratio(o.features_used_84d, o["_features_before_84d"], 1.0), None
                )
            ),
            "change in features in use",
            "Different features used in the last 84 days against the 84 days before.",
            "log_ratio",
            "breadth",
            84,
            churn_sign=-1,
            expansion_sign=1,
        ),
        # The number of features in use mostly reflects the amount of use. Its concentration does
        # not, and a poor fit shows in it first.
        Feature(
            "top_feature_share_84d",
            NestedAggregate(
                EVENTS,
                "feature",
                PER_FEATURE,
                lambda f: ratio(f.recent.max(), f.recent.sum()),
                empty=None,
            ),
            "share of the feature used most",
            "Share of the last 84 days' use that was of one feature.",
            "share",
            "breadth",
            84,
            churn_sign=1,
            expansion_sign=-1,
        ),
        Feature(
            "products_used_84d",
            Aggregate(EVENTS, lambda r: r.product.nunique(where=r.age < 84)),
            "products in use",
            "Different products used in the last 84 days.",
            "count",
            "breadth",
            84,
            churn_sign=-1,
        ),
    ],
)
