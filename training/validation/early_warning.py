"""Early warning: past losses with earlier scores, first alert and missed accounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from training.evaluation.metrics import none_if_nan

LEADS = (180, 90, 60, 30)
"""Days before the decision at which scores are shown."""

LAST_DAYS = 365
"""Days of losses that are listed: the last four quarters."""

WARNING_DAYS = 365
"""Alerts count as a warning up to this many days before the decision."""

Plain = dict[str, Any]

AsOf = Callable[[pd.DataFrame], pd.DataFrame]
"""Adds score columns to rows of (entity_id, as_of): the last scores known at as_of."""


def warned(
    events: pd.DataFrame,
    alerts: Mapping[str, pd.DataFrame],
    as_of: AsOf,
    columns: Sequence[str],
    *,
    until: pd.Timestamp,
    resolved_days: float,
) -> Plain:
    """Return every loss of the last four quarters with each score before it.

    Parameters
    ----------
    events : pandas.DataFrame
        One row per loss: entity_id, decision_at, arr.
    alerts : mapping of str to pandas.DataFrame
        Per score, the times an account was raised: entity_id, as_of (start of each alert).
    as_of : callable
        Returns the scores known at a time.
    columns : sequence of str
        Score columns that `as_of` adds.
    until : pandas.Timestamp
        End of the observed time.
    resolved_days : float
        Days after which an alert without a loss counts as false.

    Returns
    -------
    dict
        from, until; losses (largest ARR first: entity_id, decision_at, arr, at: lead to scores,
        first_alert_days per score); and per score: warned (losses with an alert before them),
        missed, arr_missed, alerts (accounts alerted in this time and resolved), true_alerts,
        false_alarms (entity_id, alerted_at), and median_days.
    """
    start = until - pd.Timedelta(days=LAST_DAYS)
    recent = events[(events["decision_at"] > start) & (events["decision_at"] <= until)]
    recent = recent.sort_values(["decision_at", "entity_id"], ignore_index=True)
    at = _scores_before(recent, as_of, columns)
    first = {name: first_alert_days(recent, raised) for name, raised in alerts.items()}
    return {
        "from": start,
        "until": until,
        "leads": list(LEADS),
        "columns": list(columns),
        "order": list(alerts),
        "losses": _named(recent, at, first),
        "scores": {
            name: _summary(recent, events, raised, first[name], start, until, resolved_days)
            for name, raised in alerts.items()
        },
    }


def _scores_before(
    events: pd.DataFrame, as_of: AsOf, columns: Sequence[str]
) -> dict[int, pd.DataFrame]:
    found = {}
    for lead in LEADS:
        asked = events[["entity_id"]].assign(as_of=events["decision_at"] - pd.Timedelta(days=lead))
        found[lead] = as_of(asked)[list(columns)]
    return found


def first_alert_days(
    events: pd.DataFrame, alerts: pd.DataFrame, within: float = WARNING_DAYS
) -> np.ndarray:
    """Return per event the days from the first alert to the decision; NaN without an alert.

    Alerts more than `within` days before the decision do not count.
    """
    joined = events.reset_index(names="_event")[["_event", "entity_id", "decision_at"]].merge(
        alerts[["entity_id", "as_of"]], on="entity_id"
    )
    days = (joined["decision_at"] - joined["as_of"]).dt.total_seconds() / 86_400.0
    joined = joined.assign(days=days)[(days > 0) & (days <= within)]
    first = joined.groupby("_event")["days"].max().reindex(range(len(events)))
    return first.to_numpy(dtype=np.float64)


def _named(
    events: pd.DataFrame, at: Mapping[int, pd.DataFrame], first: Mapping[str, np.ndarray]
) -> list[Plain]:
    table = [
        {
            "entity_id": str(event["entity_id"]),
            "decision_at": event["decision_at"],
            "arr": none_if_nan(event["arr"]),
            "at": {str(lead): _cells(scores.iloc[place]) for lead, scores in at.items()},
            "first_alert_days": {name: none_if_nan(days[place]) for name, days in first.items()},
        }
        for place, event in enumerate(events.to_dict(orient="records"))
    ]
    return sorted(
        table, key=lambda row: (-(row["arr"] or 0.0), row["decision_at"], row["entity_id"])
    )


def _cells(scores: pd.Series) -> Plain:
    return {str(name): _cell(value) for name, value in scores.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return None if value is None or not np.isfinite(value) else float(value)


def _summary(
    recent: pd.DataFrame,
    events: pd.DataFrame,
    alerts: pd.DataFrame,
    days: np.ndarray,
    start: pd.Timestamp,
    until: pd.Timestamp,
    resolved_days: float,
) -> Plain:
    missed = ~np.isfinite(days)
    arr = np.nan_to_num(recent["arr"].to_numpy(dtype=np.float64))
    false, n_alerts = _false_alarms(alerts, events, start, until, resolved_days)
    return {
        "losses": len(recent),
        "warned": int((~missed).sum()),
        "missed": int(missed.sum()),
        "arr_lost": float(arr.sum()),
        "arr_missed": float(arr[missed].sum()),
        "median_days": none_if_nan(np.nanmedian(days)) if (~missed).any() else None,
        "alerts": n_alerts,
        "true_alerts": n_alerts - len(false),
        "false_alarms": false,
    }


def _false_alarms(
    alerts: pd.DataFrame,
    events: pd.DataFrame,
    start: pd.Timestamp,
    until: pd.Timestamp,
    resolved_days: float,
) -> tuple[list[Plain], int]:
    """Return alerted accounts that did not leave afterwards, and the number of alerted accounts."""
    window = pd.Timedelta(days=resolved_days)
    inside = alerts[(alerts["as_of"] > start - window) & (alerts["as_of"] <= until - window)]
    first = inside.sort_values("as_of").drop_duplicates("entity_id")
    left = events.groupby("entity_id")["decision_at"].max()
    gone = first["entity_id"].map(left)
    false = first[~(gone > first["as_of"])]
    table = [
        {"entity_id": str(row["entity_id"]), "alerted_at": row["as_of"],
         "arr": none_if_nan(row["arr"])}
        for row in false.to_dict(orient="records")
    ]  # fmt: skip
    ordered = sorted(table, key=lambda row: (-(row["arr"] or 0.0), row["entity_id"]))
    return ordered, len(first)


def starts_of_alerts(rows: pd.DataFrame, raised: np.ndarray) -> pd.DataFrame:
    """Return the start of each alert: the first of consecutive rows in a raised band.

    Parameters
    ----------
    rows : pandas.DataFrame
        entity_id, as_of, arr; one row per account and moment.
    raised : numpy.ndarray
        Whether the account is in a raised band at that row.
    """
    ordered = rows[["entity_id", "as_of", "arr"]].assign(_raised=raised)
    ordered = ordered.sort_values(["entity_id", "as_of"], ignore_index=True)
    before = ordered["_raised"].shift(fill_value=False)
    same = ordered["entity_id"] == ordered["entity_id"].shift()
    return ordered[ordered["_raised"] & ~(before & same)].drop(columns="_raised")
