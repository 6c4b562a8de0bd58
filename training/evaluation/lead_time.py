"""Performance at lead times of 30, 60, 90, 120 and 180 days, each measured separately.

Days are counted back from one of two dates, which are never mixed:

``notice deadline``
    For accounts under contract: the renewal minus the notice period. One row per entity and
    deadline: the one scored nearest that many days before it, whatever the later decision. This is
    a cohort as a CSM sees it, so every measure applies. Only rows whose label window reaches the
    deadline count: a label of 91 days has no information about a deadline 180 days ahead.
``decision``
    For every event with a dated decision, under contract or not: the row scored nearest that many
    days before it, against the rows of the same test period without the event, each entity once.
    Such a sample has no event rate, so only ranking and the share of captured events are measured.

Nearest means within half a step of the grid of as_of: a lead time that the data do not contain (a
horizon of 91 days has no row 120 days before a decision) has no rows, visible in its count. Rows at
or above the alert threshold are ``flagged``: the lowest probability that the team's capacity
reaches among the headline rows of the test period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from training.evaluation.metrics import MEASURES, Measure, arr_capture, auc, bootstrap, capture
from training.evaluation.parts import CountedFrom, LeadTimeJson
from training.evaluation.sampling import (
    MODEL,
    Drawing,
    estimates,
    first_repeat,
    has_too_few_events,
    lead_days,
    measure_sample,
    sample_above,
    sample_of,
    step_days,
)

LEADS = (30, 60, 90, 120, 180)
"""Days ahead at which scores are measured."""

_WITHOUT_RATE: Mapping[str, Measure] = {
    "auc": auc,
    "capture_at_capacity": capture,
    "arr_capture_at_capacity": arr_capture,
}
"""Measures of a sample without an event rate."""


def by_lead_time(
    predictions: pd.DataFrame,
    names: Sequence[str],
    drawing: Drawing,
    measures: Mapping[str, Measure] = MEASURES,
) -> list[LeadTimeJson]:
    """Return the performance of every score at each lead time, with intervals over entities.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per fold and test row (`training.candidates.train.out_of_time`). Without
        ``days_to_notice`` and ``label_known_at`` there are no notice deadlines.
    names : sequence of str
        Scores whose ranking is compared; must include ``model``.
    drawing : Drawing
        Bootstrap and capacity.
    measures : mapping of str to Measure
        Measures of the model.

    Returns
    -------
    list of dict
        Per date counted from and lead time: counted_from, days, within_days (half a step), n,
        entities, events, and with enough of both outcomes: days_found (median), measures (of the
        model) and auc (per score).
    """
    rows = first_repeat(predictions)
    headline = rows[rows["is_headline"].astype(bool)].reset_index(drop=True)
    thresholds = {name: alert_thresholds(headline, name, drawing) for name in names}
    stayed = headline[headline["label"] == 0]
    within = step_days(rows) / 2.0
    table: list[LeadTimeJson] = []
    due = _due(rows)
    if len(due):
        for days in LEADS:
            here = nearest(due, due["_ahead"].to_numpy(), days, within)
            entry = _entry("notice deadline", days, within, here)
            table.append(_with_measures(entry, here, names, thresholds, drawing, measures))
    decided = rows[(rows["label"] == 1) & rows["decision_at"].notna()]
    decided = decided.assign(_until=decided["decision_at"])
    for days in LEADS if len(decided) else ():
        events = nearest(decided, lead_days(decided), days, within)
        here = pd.concat([events, stayed], ignore_index=True)
        entry = _entry("decision", days, within, here, events)
        applicable = {name: one for name, one in _WITHOUT_RATE.items() if name in measures}
        table.append(_with_measures(entry, here, names, thresholds, drawing, applicable))
    return table


def _due(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows before a notice deadline within their label window."""
    if "days_to_notice" not in rows or "label_known_at" not in rows:
        return rows.iloc[:0].assign(_ahead=0.0)
    ahead = rows["days_to_notice"].to_numpy(dtype=np.float64)
    # pandas converts arbitrary memory where a number of days is NaN, which can overflow
    due = rows.assign(_ahead=ahead)[ahead > 0]
    due["_until"] = due["as_of"] + pd.to_timedelta(due["_ahead"], unit="D")
    return due[due["_until"] <= due["label_known_at"]].reset_index(drop=True)


def nearest(rows: pd.DataFrame, ahead: np.ndarray, days: float, within: float) -> pd.DataFrame:
    """Return one row per entity and date counted from: the one nearest `days` before it.

    Parameters
    ----------
    rows : pandas.DataFrame
        entity_id and ``_until``, the date counted from.
    ahead : numpy.ndarray
        Days from as_of to that date.
    days, within : float
        Rows further than `within` from `days` are left out; of equally near ones, the first counts.
    """
    off = np.abs(ahead - days)
    near = rows.assign(_ahead=ahead, _off=off)[off <= within]
    near = near.sort_values(["_off", "as_of", "entity_id"], kind="stable")
    return near.drop_duplicates(["entity_id", "_until"]).sort_values(
        ["as_of", "entity_id"], ignore_index=True
    )


def _entry(
    counted_from: CountedFrom,
    days: int,
    within: float,
    rows: pd.DataFrame,
    events: pd.DataFrame | None = None,
) -> LeadTimeJson:
    """Return the counts of a lead time."""
    found: LeadTimeJson = {
        "counted_from": counted_from,
        "days": days,
        "within_days": within,
        "n": len(rows),
        "entities": int(rows["entity_id"].nunique()),
        "events": int(rows["label"].sum()),
    }
    timed = rows if events is None else events
    if len(timed):
        found["days_found"] = float(timed["_ahead"].median())
    return found


def _with_measures(
    entry: LeadTimeJson,
    rows: pd.DataFrame,
    names: Sequence[str],
    thresholds: Mapping[str, Mapping[int, float]],
    drawing: Drawing,
    measures: Mapping[str, Measure],
) -> LeadTimeJson:
    if has_too_few_events(rows["label"].to_numpy()):
        return entry
    samples = {
        name: sample_above(rows, name, _flagged(rows, name, thresholds[name])) for name in names
    }
    ranked = {
        name: bootstrap(sample, {"auc": auc}, draws=drawing.draws, seed=drawing.seed)
        for name, sample in samples.items()
    }
    return {
        **entry,
        "measures": measure_sample(samples[MODEL], drawing, measures),
        "auc": {name: estimates(values)["auc"] for name, values in ranked.items()},
    }


def _flagged(rows: pd.DataFrame, name: str, threshold: Mapping[int, float]) -> np.ndarray:
    flagged: np.ndarray = (rows[f"p_{name}"] >= rows["fold"].map(threshold)).to_numpy(
        dtype=np.float64
    )
    return flagged


def alert_thresholds(headline: pd.DataFrame, name: str, drawing: Drawing) -> dict[int, float]:
    """Return per fold the lowest probability within the team's capacity."""
    sample = sample_of(headline, name, drawing.capacity_per_fold)
    worked = pd.Series(np.where(sample.flagged > 0, sample.p, np.inf))
    return {int(str(fold)): float(p) for fold, p in worked.groupby(headline["fold"]).min().items()}
