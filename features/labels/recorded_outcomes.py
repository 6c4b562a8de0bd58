"""Outcomes a company records itself: its outcomes table, or its own labels."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.days import KEY
from features.labels.request import UNDATED, LabelRequest


def recorded_outcomes(request: LabelRequest) -> ir.Table:
    """Return the first recorded outcome after as_of of every window."""
    table = request.table("outcomes")
    rows = table.filter(table.outcome == request.target.outcome)
    effective = rows.effective_day if "effective_day" in rows.columns else rows.day
    # One row per day: the earliest effective of several, independent of their order in the file.
    rows = rows.group_by("entity_id", "day").agg(
        effective_day=ibis.greatest(ibis.coalesce(effective, rows.day), rows.day).min(),
        reason=(rows.reason if "reason" in rows.columns else ibis.null("string")).min(),
    )
    pairs = request.windows.join(rows, "entity_id")
    # A loss decided before as_of and effective after it excludes the row from prediction.
    until = pairs.effective_day if request.target.outcome == "churn" else pairs.day
    ahead = pairs.filter(until > pairs.as_of_day)
    first = ahead.group_by([*KEY, "opens_day", "closes_day"]).agg(
        decision_day=ahead.day.min(),
        effective_day=ahead.effective_day.argmin(ahead.day),
        reason=ahead.reason.argmin(ahead.day),
    )
    return first.mutate(
        happened=(first.decision_day > first.opens_day) & (first.decision_day <= first.closes_day)
    ).drop("opens_day", "closes_day")


def given_labels(request: LabelRequest) -> ir.Table:
    """Return the labels of the labels table at their own as_of."""
    table = request.table("labels")
    rows = table.filter(table.target == request.name)
    # Daily tables move date-only facts to the next midnight. Here the date itself is the as_of, and
    # a label recorded on a date is known at the next midnight.
    known = rows.label_known_day + 1 if "label_known_day" in rows.columns else ibis.null("int64")
    rows = rows.select(
        "entity_id", as_of_day=rows.day - 1, happened=rows.label, given_known_day=known
    )
    return rows.mutate(**UNDATED)
