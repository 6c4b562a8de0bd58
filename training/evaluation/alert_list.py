"""Alert list of the team, reconstructed from out-of-time scores: lead of alerts and workload.

An account is alerted when it first enters the list of a team that works at its capacity: at every
as_of the list takes the highest scores that were not listed before in the same test period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from configs.schema.team_capacity import DAYS_PER_MONTH, workable
from training.data.splits import entity_codes
from training.evaluation.metrics import entity_weights, estimate, none_if_nan
from training.evaluation.parts import EstimateJson, FirstAlertsJson, WorkloadJson
from training.evaluation.sampling import (
    MIN_SLICE_EVENTS,
    MODEL,
    Drawing,
    lead_days,
    step_days,
)

WARNED_DAYS = (30, 60, 90)
"""Days before the decision at which the share of alerted events is reported."""

BUSY = 0.9
"""Quantile of a CSM's monthly alerts that is reported as a busy month."""


def first_alerts(
    predictions: pd.DataFrame, names: Sequence[str], drawing: Drawing
) -> FirstAlertsJson:
    """Return the days from an account's first place on the team's list to the decision.

    Only events with a dated decision count, and only alerts within the label window and the test
    period, which limit the days that can be found.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Out-of-time rows, every as_of of the test periods.
    names : sequence of str
        Scores, each with its own list; must include ``model``.
    drawing : Drawing
        Capacity; bootstrap of entities with all their events.

    Returns
    -------
    dict
        See `summarize_leads`.
    """
    dated = predictions[(predictions["label"] == 1) & predictions["decision_at"].notna()]
    events = dated[["entity_id", "decision_at"]].drop_duplicates().reset_index(drop=True)
    leads = {name: _first_alert(predictions, events, name, drawing) for name in names}
    longest = none_if_nan(lead_days(dated).max()) if len(dated) else None
    found = summarize_leads(leads, events, drawing)
    found["longest_days"] = longest
    return found


def summarize_leads(
    leads: Mapping[str, np.ndarray], events: pd.DataFrame, drawing: Drawing
) -> FirstAlertsJson:
    """Return the distribution of days of warning, per score.

    Parameters
    ----------
    leads : mapping of str to numpy.ndarray
        Per score and event, days from the first alert to the decision; NaN without one.
    events : pandas.DataFrame
        One row per event: entity_id.
    drawing : Drawing
        Of the intervals: entities are drawn with all their events.

    Returns
    -------
    dict
        events; models: per name caught (listed events), share, median_days and quartiles of listed
        events, mean_days of all events with 0 for unlisted ones, and warned: per number of days the
        share of all events listed at least that long before; difference: the model's mean minus the
        calendar's, in days. Medians are not compared, because a random list has few events but
        early ones.
    """
    weights = _weights_of(events, drawing)
    means = {name: _mean(np.nan_to_num(days), weights) for name, days in leads.items()}
    return {
        "events": len(events),
        "models": {
            name: {
                "caught": int(np.isfinite(days).sum()),
                "share": none_if_nan(np.isfinite(days).mean()) if len(days) else None,
                "first_quartile_days": _quantile(days, weights, 0.25),
                "median_days": _quantile(days, weights, 0.5),
                "third_quartile_days": _quantile(days, weights, 0.75),
                "mean_days": estimate(means[name]).as_json(),
                "warned": {
                    str(least): estimate(_mean(days >= least, weights)).as_json()
                    for least in WARNED_DAYS
                },
            }
            for name, days in leads.items()
        },
        "difference": (
            estimate(means[MODEL] - means["calendar"]).as_json() if "calendar" in means else None
        ),
    }


def _weights_of(events: pd.DataFrame, drawing: Drawing) -> np.ndarray:
    """Return (1 + draws, events) weights: ones, then the number of times its entity was drawn."""
    if events.empty:
        return np.ones((1 + drawing.draws, 0))
    drawn = entity_weights(entity_codes(events), drawing.draws, drawing.seed)
    return np.vstack([np.ones((1, len(events))), drawn])


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean per draw, NaN without events."""
    total = weights.sum(axis=1)
    mean: np.ndarray = np.divide(
        weights @ values.astype(np.float64), total, out=np.full(len(total), np.nan), where=total > 0
    )
    return mean


def _quantile(days: np.ndarray, weights: np.ndarray, share: float) -> EstimateJson:
    """Return a quantile over listed events, undefined where too few were listed."""
    listed = np.isfinite(days)
    drawn = np.where(
        weights[:, listed].sum(axis=1, keepdims=True) >= MIN_SLICE_EVENTS, weights[:, listed], 0.0
    )
    return estimate(weighted_quantile(days[listed], drawn, share)).as_json()


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Return a quantile of weighted values.

    Parameters
    ----------
    values : numpy.ndarray
        (n,), finite.
    weights : numpy.ndarray
        (draws, n), weight of each value.
    share : float
        In (0, 1); 0.5 is the median, the mean of the middle two where there are two.

    Returns
    -------
    numpy.ndarray
        (draws,); NaN where all weights are 0.

    Examples
    --------
    >>> weighted_quantile(np.array([10.0, 40.0, 20.0]), np.array([[1.0, 1.0, 2.0]]), 0.5).tolist()
    [20.0]
    """
    if len(values) == 0:
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    counted = np.cumsum(weights[:, order], axis=1)
    wanted, ranked = share * counted[:, -1:], values[order]
    lower = (counted < wanted - 1e-9).sum(axis=1)
    upper = np.minimum((counted <= wanted + 1e-9).sum(axis=1), len(values) - 1)
    middle = (ranked[lower] + ranked[upper]) / 2.0
    found: np.ndarray = np.where(counted[:, -1] > 0, middle, np.nan)
    return found


def _first_alert(
    predictions: pd.DataFrame, events: pd.DataFrame, name: str, drawing: Drawing
) -> np.ndarray:
    """Return per event the days from the first listing to the decision; NaN when never listed."""
    listed = rows_on_list(predictions, name, drawing)
    listed = listed[listed["label"] == 1]
    first = listed.groupby(["entity_id", "decision_at"])["as_of"].min().rename("as_of")
    return lead_days(events.join(first, on=["entity_id", "decision_at"]))


def rows_on_list(predictions: pd.DataFrame, name: str, drawing: Drawing) -> pd.DataFrame:
    """Return the rows on the list of a team that works at its capacity."""
    size = list_size(predictions, drawing)
    return predictions[listed_rows(predictions, name, size, drawing.seed)]


def list_size(predictions: pd.DataFrame, drawing: Drawing) -> int:
    """Return the number of new accounts on the list at every as_of, at least one."""
    return max(1, round(workable(drawing.capacity_per_month, step_days(predictions))))


def listed_rows(predictions: pd.DataFrame, name: str, size: int, seed: int) -> np.ndarray:
    """Return which rows are on the team's list.

    At every as_of the list takes the `size` highest scores that were not listed before in the same
    test period; ties are broken at random, per entity.
    """
    codes = entity_codes(predictions)
    n_entities = int(codes.max()) + 1
    random_order = np.random.default_rng(seed).permutation(n_entities)[codes]
    order = np.lexsort((random_order, -predictions[f"p_{name}"].to_numpy(dtype=np.float64)))
    listed = np.zeros(len(predictions), dtype=bool)
    ranked = pd.DataFrame({
        "position": order,
        "fold": predictions["fold"].to_numpy()[order],
        "as_of": predictions["as_of"].to_numpy(dtype="datetime64[us]")[order],
    })  # fmt: skip
    for _, period in ranked.groupby("fold"):
        is_worked = np.zeros(n_entities, dtype=bool)
        for _, rows in period.groupby("as_of"):
            positions = rows["position"].to_numpy()
            chosen = positions[~is_worked[codes[positions]]][:size]
            listed[chosen] = is_worked[codes[chosen]] = True
    return listed


def workload(predictions: pd.DataFrame, drawing: Drawing) -> WorkloadJson:
    """Return the alerts per month of the team and of each CSM, at the team's capacity.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Out-of-time rows; ``owner_id``, where present, is the account's owner today, because owners
        have no history: numbers per CSM describe today's assignment.
    drawing : Drawing
        Capacity, and draws of entities.

    Returns
    -------
    dict
        alerts (accounts that came up on the model's list), months (tested), per_month, precision
        (share of alerts that the event followed, 95 %), csms (None where no owner is known);
        and with owners per_csm_month: mean, median, busy (the number nine in ten months of a CSM
        do not exceed) and most; without_owner (share of alerts).
    """
    raised = listed_rows(predictions, MODEL, list_size(predictions, drawing), drawing.seed)
    months = predictions["as_of"].nunique() * step_days(predictions) / DAYS_PER_MONTH
    listed = predictions[raised]
    found: WorkloadJson = {
        "alerts": len(listed),
        "months": months,
        "per_month": len(listed) / months,
        "precision": estimate(
            _mean(listed["label"].to_numpy(), _weights_of(listed, drawing))
        ).as_json(),
        "csms": None,
    }
    if "owner_id" not in predictions or predictions["owner_id"].isna().all():
        return found
    return {**found, **_by_owner(predictions, listed)}


def _by_owner(predictions: pd.DataFrame, listed: pd.DataFrame) -> WorkloadJson:
    """Return the alerts per CSM and tested calendar month."""
    owners = predictions["owner_id"].dropna().unique()
    when = listed["as_of"].dt.strftime("%Y-%m")
    tested = predictions["as_of"].dt.strftime("%Y-%m").unique()
    counted = pd.crosstab(listed["owner_id"], when).reindex(index=owners, columns=tested)
    table = counted.fillna(0.0).to_numpy()
    return {
        "csms": len(owners),
        "per_csm_month": {
            "mean": float(table.mean()),
            "median": float(np.median(table)),
            "busy": float(np.quantile(table, BUSY, method="inverted_cdf")),
            "most": int(table.max()),
        },
        "without_owner": float(listed["owner_id"].isna().mean()) if len(listed) else None,
    }
