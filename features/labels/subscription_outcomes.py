"""Outcomes in subscription terms: the decision to leave, and movements of recurring revenue."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from configs.schema.company import Target
from features.days import KEY
from features.labels.request import LabelRequest
from features.revenue.revenue_changes import revenue_changes
from features.revenue.terms import departures


def churn_in_terms(request: LabelRequest) -> ir.Table:
    """Return the first departure after as_of of every window, by its day of decision."""
    terms = request.table("subscriptions")
    departed = departures(terms)
    pairs = request.windows.join(departed, "entity_id")
    ahead = pairs.filter(pairs.effective_day > pairs.as_of_day)
    first = ahead.group_by([*KEY, "opens_day", "closes_day"]).agg(
        decision_day=ahead.decision_day.argmin(ahead.effective_day),
        reason=ahead.reason.argmin(ahead.effective_day),
        effective_day=ahead.effective_day.min(),
    )
    return first.select(
        *KEY,
        "decision_day",
        "effective_day",
        "reason",
        happened=(first.decision_day > first.opens_day) & (first.decision_day <= first.closes_day),
        is_other=~first.reason.fill_null("churned").isin(request.target.end_reasons),
    )


def movement_in_terms(request: LabelRequest) -> ir.Table:
    """Return whether recurring revenue moved by the target's margin, for accounts that stay."""
    terms = request.table("subscriptions", "arr")
    sign = 1.0 if request.target.outcome == "expansion" else -1.0
    pairs = request.windows.join(revenue_changes(terms), "entity_id")
    ahead = pairs.filter(pairs.day > pairs.as_of_day, pairs.day <= pairs.closes_day)
    ahead = ahead.mutate(moved=ahead.change * sign, is_inside=ahead.day > ahead.opens_day)
    sums = ahead.group_by([*KEY, "closes_day", "arr"]).agg(
        moved=ahead.moved.sum(where=ahead.is_inside),
        moved_early=ahead.moved.sum(where=~ahead.is_inside),
        day=ahead.day.min(where=ahead.is_inside & (ahead.moved > 0)),
        day_early=ahead.day.min(where=~ahead.is_inside & (ahead.moved > 0)),
    )
    departed = departures(terms)
    leavers = sums.semi_join(
        departed,
        [
            sums.entity_id == departed.entity_id,
            departed.decision_day <= sums.closes_day,
            departed.effective_day > sums.as_of_day,
        ],
    ).select(*KEY, leaves=ibis.literal(True))
    joined = sums.left_join(leavers, KEY)
    decided = _reaches_margin(joined.moved_early, joined.arr, request.target).ifelse(
        joined.day_early, joined.day
    )
    return joined.select(
        *(joined[key] for key in KEY),
        decision_day=decided,
        effective_day=decided,
        reason=ibis.null("string"),
        happened=_reaches_margin(joined.moved, joined.arr, request.target) & joined.leaves.isnull(),
    )


def _reaches_margin(moved: ir.Value, arr: ir.Value, target: Target) -> ir.BooleanValue:
    """Whether revenue moved by the margin, compared in cents to avoid floating-point errors."""
    moved = ibis.coalesce(moved, 0.0).round(2)
    return ((moved >= (arr * target.margin).round(2)) & (moved > 0)).fill_null(False)
