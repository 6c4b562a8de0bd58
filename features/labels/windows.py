"""Label windows, and the label or exclusion of every row."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from configs.schema.company import Company, Target
from features.days import KEY
from features.labels.contract import COLUMNS, SCHEMA
from features.revenue.terms import COMEBACK_DAYS
from features.snapshots.account_status import grace_days


def label_windows(status_rows: ir.Table, target: Target, company: Company) -> ir.Table:
    """Return the label window of every row: days after ``opens_day``, up to ``closes_day``."""
    opens = status_rows.as_of_day + target.lead_time_days
    horizon = opens + target.horizon_days
    grace = grace_days(ibis.null("int64"), company.cohort)
    asks_renewal = status_rows.is_under_contract & target.until_renewal
    if target.outcome != "churn":
        asks_renewal = ibis.literal(False)
    closes = asks_renewal.ifelse(status_rows.renews_day + grace, horizon)
    return status_rows.mutate(opens_day=opens, closes_day=closes, asks_renewal=asks_renewal)


def label_rows(windows: ir.Table, outcomes: ir.Table, today: int, target: Target) -> ir.Table:
    """Join windows and outcomes, and give every row its label or the reason of its exclusion."""
    joined = windows.left_join(outcomes, KEY)
    has_own_labels = target.observed_in == "labels"
    closes = joined.closes_day
    if has_own_labels:
        closes = ibis.coalesce(joined.given_known_day, ibis.least(closes, ibis.literal(today)))
    settles = closes
    if target.observed_in == "subscriptions":
        settles = joined.asks_renewal.ifelse(closes, closes + COMEBACK_DAYS)
    unlabelled = joined.happened.isnull() & has_own_labels
    inside_lead_time = (
        joined.decision_day.notnull()
        & (joined.decision_day <= joined.opens_day)
        & (joined.decision_day > joined.as_of_day)
    )
    is_decided = joined.decision_day.notnull() & (joined.decision_day <= joined.as_of_day)
    excluded = ibis.cases(
        (unlabelled, "no label given"),
        (joined.status != "scored", joined.status),
        (is_decided.fill_null(False) & (target.outcome == "churn"), "already decided"),
        (inside_lead_time.fill_null(False), "decided inside the lead time"),
        *_outside_cohort(joined, target),
        *_no_usual_spend(joined, target),
        *_other_reason(joined),
        (settles > today, "window not yet observed"),
        else_=ibis.null("string"),
    )
    label = excluded.isnull().ifelse(
        joined.happened.fill_null(False).cast("int8"), ibis.null("int8")
    )
    is_event = (label == 1).fill_null(False)
    no_day = ibis.null("int64")
    return joined.select(
        entity_id=joined.entity_id,
        as_of_day=joined.as_of_day,
        label=label,
        excluded=excluded,
        known_day=settles,
        decision_day=is_event.ifelse(joined.decision_day, no_day),
        effective_day=is_event.ifelse(joined.effective_day, no_day),
        reason=is_event.ifelse(joined.reason, ibis.null("string")),
    )


def _outside_cohort(rows: ir.Table, target: Target) -> list[tuple[ir.BooleanValue, str]]:
    """Return conditions under which a row cannot show a movement of revenue, with the reason."""
    cases = []
    if target.outcome == "expansion":
        cases.append((~rows.has_room, "no_room_to_grow"))
    if target.outcome != "churn" and target.observed_in == "subscriptions":
        cases.append((rows.arr.isnull(), "recurring revenue not known"))
    if target.observed_in == "subscriptions":
        cases.append(((rows.arr == 0).fill_null(False), "no paid terms"))
    return cases


def _no_usual_spend(rows: ir.Table, target: Target) -> list[tuple[ir.BooleanValue, str]]:
    """Return the condition for rows without a usual spend to compare with."""
    if target.observed_in == "activity" and target.outcome != "churn":
        return [(rows.happened.isnull(), "billed for too short a time")]
    return []


def _other_reason(rows: ir.Table) -> list[tuple[ir.BooleanValue, str]]:
    """Return the condition for losses with a reason outside the target's `end_reasons`."""
    if "is_other" not in rows.columns:
        return []
    return [((rows.is_other & rows.happened).fill_null(False), "left for another reason")]


def with_timestamps(rows: pa.Table) -> pa.Table:
    """Turn day indices into UTC timestamps."""
    frame = rows.to_pandas()
    for day, column in (
        ("as_of_day", "as_of"),
        ("known_day", "label_known_at"),
        ("decision_day", "decision_at"),
        ("effective_day", "effective_at"),
    ):
        frame[column] = utc_midnights(frame[day])
    return pa.Table.from_pandas(frame[list(COLUMNS)], schema=SCHEMA, preserve_index=False)


def utc_midnights(days: pd.Series) -> pd.Series:
    """Return 00:00 UTC of day indices, NaT for missing ones."""
    # Not pd.to_datetime: it multiplies the undefined bytes of missing values, which can overflow.
    is_present = days.notna()
    whole = days.where(is_present, 0).astype("int64").to_numpy()
    midnights = pd.Series(whole.astype("datetime64[D]").astype("datetime64[us]"), index=days.index)
    return midnights.where(is_present).dt.tz_localize("UTC")
