"""Commercial signals: terms, renewals, seats, allowances and open deals."""

from __future__ import annotations

from collections.abc import Callable

import ibis
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
)

TERMS = "subscriptions"
ENTITLED = "entitlements"
DEALS = "opportunities"

CLOSED_STAGES = ("closed_won", "closed_lost", "won", "lost", "closed won", "closed lost")


def is_live(rows: ir.Table) -> ir.BooleanValue:
    """Whether terms hold at as_of, as known then."""
    return rows.ended_day.isnull()


def held(rows: ir.Table, days_ago: int) -> ir.BooleanValue:
    """Whether terms held `days_ago` days before as_of."""
    began = rows.age >= days_ago
    lasted = rows.ended_day.isnull() | ((rows.as_of_day - rows.ended_day) < days_ago)
    return began & lasted


def is_contract(rows: ir.Table) -> ir.BooleanValue:
    """Whether terms are live with a renewal date ahead."""
    return is_live(rows) & rows.renews_day.notnull() & (rows.renews_day >= rows.as_of_day)


def term_days(rows: ir.Table) -> ir.IntegerValue:
    """Return the days from the start of terms to their renewal."""
    # `day` is the midnight after the first day; planned dates keep their own day.
    return rows.renews_day - rows.day + 1


def _is_open_deal(rows: ir.Table) -> ir.BooleanValue:
    return ~rows.stage.lower().isin(CLOSED_STAGES)


def _days_to_notice(rows: ir.Table) -> ir.Value:
    notice = ibis.coalesce(rows.notice_period_days, 0.0)
    return rows.renews_day.cast("float64") - notice - rows.as_of_day


def _seats(counts: Callable[[ir.Table], ir.BooleanValue]) -> NestedAggregate:
    """Return the seats of the largest product, as users of two products have a seat in each."""
    of_product = {"_of_product": lambda r: r.seats.sum(where=counts(r))}
    return NestedAggregate(TERMS, "line", of_product, lambda k: k["_of_product"].max())


FAMILY = Family(
    "commercial",
    shorter={"usage_events": 84},
    columns=[
        Feature(
            "arr",
            Aggregate(TERMS, lambda r: r.arr.sum(where=is_live(r))),
            "annual recurring revenue",
            "Annual recurring revenue of the terms that hold, in the reporting currency.",
            "money",
            "context",
            is_actionable=False,
        ),
        # Both ends of a change use one rate, so currency movements do not count.
        Intermediate("_arr_now", Aggregate(TERMS, lambda r: r.arr_constant.sum(where=is_live(r)))),
        Intermediate(
            "_arr_before", Aggregate(TERMS, lambda r: r.arr_constant.sum(where=held(r, 364)))
        ),
        Intermediate(
            "_arr_quarter", Aggregate(TERMS, lambda r: r.arr_constant.sum(where=held(r, 91)))
        ),
        Feature(
            "arr_change_364d",
            Derived(
                lambda o: (o.tenure_days > 364).ifelse(
                    log_ratio(o["_arr_now"], o["_arr_before"], 100.0), None
                )
            ),
            "change in recurring revenue",
            "Recurring revenue against 364 days ago, both at one currency rate.",
            "log_ratio",
            "commercial",
            364,
        ),
        Feature(
            "arr_change_91d",
            Derived(
                lambda o: (o.tenure_days > 91).ifelse(
                    log_ratio(o["_arr_now"], o["_arr_quarter"], 100.0), None
                )
            ),
            "change in recurring revenue",
            "Recurring revenue against 91 days ago, both at one currency rate.",
            "log_ratio",
            "commercial",
            91,
        ),
        Feature(
            "products_subscribed",
            Aggregate(TERMS, lambda r: r.product.nunique(where=is_live(r))),
            "products subscribed",
            "Different products under terms that hold.",
            "count",
            "commercial",
            churn_sign=-1,
        ),
        Feature(
            "is_under_contract",
            Aggregate(TERMS, lambda r: is_contract(r).any().cast("float64")),
            "under contract",
            "1 when a renewal date lies ahead, 0 when month to month.",
            "flag",
            "context",
            is_actionable=False,
        ),
        Feature(
            "days_to_renewal",
            Aggregate(
                TERMS,
                lambda r: (r.renews_day - r.as_of_day).min(where=is_contract(r)).cast("float64"),
                empty=None,
            ),
            "days to renewal",
            "Days to the next contractual renewal.",
            "days",
            "context",
            is_actionable=False,
            per_day=-1,
        ),
        Feature(
            "days_to_notice_deadline",
            Aggregate(TERMS, lambda r: _days_to_notice(r).min(where=is_contract(r)), empty=None),
            "days to the notice deadline",
            "Days to the last day on which notice counts; negative once it has passed.",
            "days",
            "context",
            is_actionable=False,
            per_day=-1,
        ),
        Feature(
            "term_length_days",
            Aggregate(
                TERMS,
                lambda r: term_days(r).max(where=is_contract(r)).cast("float64"),
                empty=None,
            ),
            "length of the term",
            "Days from the start of the current terms to renewal, longest of them.",
            "days",
            "context",
            is_actionable=False,
        ),
        Feature(
            "notice_period_days",
            Aggregate(TERMS, lambda r: r.notice_period_days.max(where=is_live(r)), empty=None),
            "notice period",
            "Days of notice the current terms ask for, longest of them.",
            "days",
            "context",
            is_actionable=False,
        ),
        Feature(
            "renewals_so_far",
            Aggregate(TERMS, lambda r: r.count(where=r.end_reason == "renewed")),
            "renewals so far",
            "Terms that ended by being renewed.",
            "count",
            "context",
            churn_sign=-1,
            is_actionable=False,
        ),
        Feature(
            "terms_changed_182d",
            Aggregate(
                TERMS,
                lambda r: r.count(
                    where=(r.end_reason == "changed") & ((r.as_of_day - r.ended_day) < 182)
                ),
            ),
            "changes of terms",
            "Times terms changed within a term in the last 182 days.",
            "count",
            "commercial",
            182,
        ),
        Feature(
            "subscriptions_lost_364d",
            Aggregate(
                TERMS,
                lambda r: r.count(
                    where=r.end_reason.isin(("churned", "payment_failure"))
                    & ((r.as_of_day - r.ended_day) < 364)
                ),
            ),
            "subscriptions lost",
            "Subscriptions that ended for good in the last 364 days while others went on.",
            "count",
            "commercial",
            364,
            churn_sign=1,
        ),
        Feature(
            "discount",
            Aggregate(TERMS, lambda r: r.discount.max(where=is_live(r)), empty=None),
            "discount",
            "Largest discount off the list price in the current terms.",
            "share",
            "commercial",
        ),
        Feature(
            "signed_uplift",
            Aggregate(TERMS, lambda r: r.escalator.max(where=is_live(r)), empty=None),
            "uplift signed for the renewal",
            "Largest price uplift already signed for the renewal.",
            "share",
            "commercial",
        ),
        Feature(
            "auto_renews",
            Aggregate(
                TERMS, lambda r: r.auto_renew.cast("float64").min(where=is_live(r)), empty=None
            ),
            "renews by itself",
            "1 when every current subscription renews by itself.",
            "flag",
            "commercial",
            churn_sign=-1,
        ),
        Feature(
            "seats",
            _seats(is_live),
            "seats",
            "Seats bought under the current terms; of several products, of the one with most.",
            "count",
            "context",
            is_actionable=False,
        ),
        Intermediate("_seats_before", _seats(lambda r: held(r, 182))),
        Feature(
            "seats_change_182d",
            Derived(
                lambda o: (o.tenure_days > 182).ifelse(
                    log_ratio(o.seats, o["_seats_before"], 1.0), None
                )
            ),
            "change in seats",
            "Seats against 182 days ago.",
            "log_ratio",
            "commercial",
            182,
        ),
        Intermediate(
            "_users_28d", Aggregate("usage_events", lambda r: r.user_id.nunique(where=r.age < 28))
        ),
        Intermediate(
            "_use_84d", Aggregate("usage_events", lambda r: r.quantity.sum(where=r.age < 84))
        ),
        Feature(
            "seat_use_28d",
            Derived(lambda o: ratio(o["_users_28d"], o.seats)),
            "share of seats with an active user",
            "People who used any product in the last 28 days over seats bought.",
            "ratio",
            "adoption",
            28,
            churn_sign=-1,
            expansion_sign=1,
        ),
        Feature(
            "cost_per_use_84d",
            Derived(lambda o: o.arr * 84.0 / 364.0 / (o["_use_84d"] + 1.0)),
            "price per use",
            "Recurring revenue of the last 84 days over the quantity used in them, plus one.",
            "money",
            "adoption",
            84,
            churn_sign=1,
        ),
        Feature(
            "entitlement_used",
            Aggregate(ENTITLED, lambda r: ratio(r.used.sum(), r["limit"].sum()), empty=None),
            "share of the allowance used",
            "Units used over units included, all products, latest month known.",
            "ratio",
            "adoption",
            churn_sign=-1,
            expansion_sign=1,
        ),
        Feature(
            "entitlement_fullest",
            Aggregate(ENTITLED, lambda r: ratio(r.used, r["limit"]).max(), empty=None),
            "fullest product",
            "Largest share of the allowance used in any product, latest month known.",
            "ratio",
            "commercial",
            expansion_sign=1,
        ),
        Feature(
            "entitlements_nearly_full",
            Aggregate(ENTITLED, lambda r: r.count(where=ratio(r.used, r["limit"]) >= 0.85)),
            "products nearly full",
            "Products with 85 % or more of the allowance used.",
            "count",
            "commercial",
            expansion_sign=1,
        ),
        Feature(
            "expansion_deals_open",
            Aggregate(DEALS, lambda r: r.count(where=(r.kind == "expansion") & _is_open_deal(r))),
            "open expansion deals",
            "Expansion opportunities open as last known.",
            "count",
            "commercial",
            expansion_sign=1,
        ),
        Feature(
            "expansion_deals_lost_364d",
            Aggregate(
                DEALS,
                lambda r: r.count(
                    where=(r.kind == "expansion")
                    & r.stage.lower().isin(("closed_lost", "lost", "closed lost"))
                    & (r.age < 364)
                ),
            ),
            "expansion deals lost",
            "Expansion opportunities lost in the last 364 days.",
            "count",
            "commercial",
            364,
        ),
    ],
)
