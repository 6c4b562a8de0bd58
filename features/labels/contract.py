"""Label contract: columns of a label frame, and a target's definition in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from configs.runtime.errors import DataError
from configs.schema.company import Company, Target

COLUMNS = {
    "entity_id": "the entity",
    "as_of": "prediction instant, UTC",
    "label": "1 it happened, 0 it did not, null excluded",
    "excluded": "reason the row is not used, null when it is used",
    "label_known_at": "instant from which the label is final, UTC: the end of the window, plus the "
    "days in which an account may come back where labels are read from terms",
    "decision_at": "time of the decision, UTC; null without an event or a date",
    "effective_at": "time the revenue moved, UTC; null likewise",
    "reason": "reason recorded in the source, where there is one",
}

_INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "entity_id": pa.string(),
        "as_of": _INSTANT,
        "label": pa.float64(),
        "excluded": pa.string(),
        "label_known_at": _INSTANT,
        "decision_at": _INSTANT,
        "effective_at": _INSTANT,
        "reason": pa.string(),
    }
)
"""Types of `COLUMNS`, also for columns without any value."""


@dataclass(frozen=True)
class Labels:
    """Labels of one target and their contract.

    Attributes
    ----------
    target : str
        Name of the target.
    frame : pandas.DataFrame
        One row per (entity_id, as_of) of the grid, columns of `COLUMNS`.
    contract : dict
        The definition in words and numbers, with counts of rows, events and exclusions.
    kinds : pandas.DataFrame or None
        Kind and size of growth, where it is observed in terms: one row per (entity_id, as_of)
        whose revenue rises in the window, with growth_kind and growth_uplift as in
        `features.revenue.revenue_growth.KIND_COLUMNS`.
    """

    target: str
    frame: pd.DataFrame
    contract: dict[str, Any]
    kinds: pd.DataFrame | None = None


def label_contract(name: str, target: Target, company: Company, table: pa.Table) -> dict[str, Any]:
    """Return the contract of a target: its definition and the counts of a label table."""
    frame = table.to_pandas()
    used = frame[frame["excluded"].isna()]
    events = used[used["label"] == 1]
    return {
        "target": name,
        **target.model_dump(),
        "grace_days": company.cohort.grace_days,
        "words": definition(target, company),
        "rows": len(frame),
        "used_rows": len(used),
        "entities": int(used["entity_id"].nunique()),
        "event_rows": len(events),
        "event_entities": int(events["entity_id"].nunique()),
        "reasons": {
            str(reason): int(n)
            for reason, n in events.fillna({"reason": "not stated"})
            .drop_duplicates(["entity_id", "effective_at"])["reason"]
            .value_counts()
            .sort_index()
            .items()
        },
        "excluded": {
            str(reason): int(count)
            for reason, count in frame["excluded"].value_counts().sort_index().items()
        },
    }


def definition(target: Target, company: Company) -> str:
    """Return the label contract as one sentence."""
    horizon = f"within {target.horizon_days} days"
    if target.lead_time_days:
        horizon += f", counted from {target.lead_time_days} days after the prediction"
    outcome = {
        ("churn", "activity"): f"no activity at all {horizon}",
        ("churn", "subscriptions"): f"the decision to leave falls {horizon}",
        ("expansion", "activity"): f"spend {horizon} at least {target.margin:.0%} above usual",
        ("contraction", "activity"): f"spend {horizon} at least {target.margin:.0%} below usual",
        ("expansion", "subscriptions"): f"recurring revenue rises {target.margin:.0%} {horizon}, "
        "signed uplifts and currency apart",
        ("contraction", "subscriptions"): f"recurring revenue falls {target.margin:.0%} {horizon} "
        "while the account stays",
    }.get(
        (target.outcome, target.observed_in),
        f"a {target.outcome} is recorded {horizon}"
        if target.observed_in == "outcomes"
        else "as given in the labels table",
    )
    asks_renewal = target.outcome == "churn" and target.observed_in == "subscriptions"
    if asks_renewal and len(target.end_reasons) == 1:
        outcome += f", by the reason {target.end_reasons[0]}"
    if asks_renewal and target.until_renewal:
        outcome += (
            "; for an account under contract, by the renewal date plus "
            f"{company.cohort.grace_days} days of grace"
        )
    return f"{target.outcome}: {outcome}"


def require_events(labels: Labels) -> None:
    """Require events and non-events among the usable rows.

    Raises
    ------
    DataError
        All usable rows have the same label, or there are none.
    """
    used, events = labels.contract["used_rows"], labels.contract["event_rows"]
    if used == 0 or events in {0, used}:
        raise DataError(
            f"target {labels.target} has {events} events in {used} usable rows: "
            "a model needs both outcomes",
            where=f"labels of {labels.target}; {excluded_text(labels.contract['excluded'])}",
            fix="check the table the target is observed in with `bellwether check`, "
            "or shorten horizon_days",
        )


def excluded_text(excluded: Mapping[str, int]) -> str:
    """Return the reasons for which rows are not used, as text.

    >>> excluded_text({"closed": 1200, "too_new": 3})
    'not used: 1,200 rows closed, 3 rows too new'
    """
    parts = [f"{count:,} rows {reason.replace('_', ' ')}" for reason, count in excluded.items()]
    return f"not used: {', '.join(parts)}" if parts else "every row is used"
