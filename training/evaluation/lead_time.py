"""How good a score is so many days ahead: 30, 60, 90, 120 and 180, each on its own.

Days are counted back from one of two moments, never mixed:

``notice deadline``
    For accounts under contract: the renewal less the notice period. One row per entity and
    deadline, the one scored nearest that many days before it, whatever was decided in the end. It
    is a cohort as a CSM meets it, so every measure means what it says. Only rows whose label
    window reaches the deadline count: a label of 91 days says nothing of a deadline 180 days off.
``decision``
    For every event with a dated decision, under contract or not: the row scored nearest that many
    days before it, against the rows of the same test period that stayed, each entity once. A
    sample of events of one lead and everybody else has no rate of its own, so only ranking and
    the share of events caught are measured.

Nearest means within half a step of the grid of as_of: a lead that the data does not hold (a horizon
of 91 days has no row 120 days before a decision) has no rows and says so by its count. ``flagged``
are the rows at or above the alert line: the lowest probability that the team's capacity still
reaches among the headline rows of the test period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from training.evaluation.metrics import MEASURES, Measure, arr_capture, auc, bootstrap, capture
from training.evaluation.sampling import (
    MODEL,
    Drawing,
    Plain,
    estimates,
    first_deal,
    is_thin,
    lead_days,
    measured,
    sample_above,
    sample_of,
    step_days,
)

LEADS = (30, 60, 90, 120, 180)
"""Days ahead at which scores are measured."""

CountedFrom = Literal["notice deadline", "decision"]

_CAUGHT: Mapping[str, Measure] = {
    "auc": auc,
    "capture_at_capacity": capture,
    "arr_capture_at_capacity": arr_capture,
}
"""What a sample without a rate of its own can be asked."""


def at_lead_times(
    predictions: pd.DataFrame,
    names: Sequence[str],
    drawing: Drawing,
    measures: Mapping[str, Measure] = MEASURES,
) -> list[Plain]:
    """Return what every score is worth at each lead time, with intervals over entities.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per fold and test row (`training.candidates.train.out_of_time`). Without
        ``days_to_notice`` and ``label_known_at`` nothing is counted from the notice deadline.
    names : sequence of str
        The scores whose ranking stands side by side; ``model`` among them.
    drawing : Drawing
        Bootstrap and capacity.
    measures : mapping of str to Measure
        What may be measured of the model.

    Returns
    -------
    list of dict
        Per moment counted from and lead: counted_from, days, within_days (half a step), n,
        entities, events, and with enough of both outcomes: days_found (median), measures (of the
        model) and auc (per score).
    """
    rows = first_deal(predictions)
    headline = rows[rows["is_headline"].astype(bool)].reset_index(drop=True)
    lines = {name: alert_lines(headline, name, drawing) for name in names}
    stayed = headline[headline["label"] == 0]
    within = step_days(rows) / 2.0
    table = []
    due = _due(rows)
    if len(due):
        for days in LEADS:
            here = nearest(due, due["_ahead"].to_numpy(), days, within)
            entry = _entry("notice deadline", days, within, here)
            table.append(entry | _worth(here, names, lines, drawing, measures))
    decided = rows[(rows["label"] == 1) & rows["decision_at"].notna()]
    decided = decided.assign(_until=decided["decision_at"])
    for days in LEADS if len(decided) else ():
        events = nearest(decided, lead_days(decided), days, within)
        here = pd.concat([events, stayed], ignore_index=True)
        entry = _entry("decision", days, within, here, events)
        asked = {name: one for name, one in _CAUGHT.items() if name in measures}
        table.append(entry | _worth(here, names, lines, drawing, asked))
    return table


def _due(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows before a notice deadline that their label window reaches."""
    if "days_to_notice" not in rows or "label_known_at" not in rows:
        return rows.iloc[:0].assign(_ahead=0.0)
    ahead = rows["days_to_notice"].to_numpy(dtype=np.float64)
    # pandas rounds whatever lies in memory where a number of days is NaN, which may overflow
    due = rows.assign(_ahead=ahead)[ahead > 0]
    due["_until"] = due["as_of"] + pd.to_timedelta(due["_ahead"], unit="D")
    return due[due["_until"] <= due["label_known_at"]].reset_index(drop=True)


def nearest(rows: pd.DataFrame, ahead: np.ndarray, days: float, within: float) -> pd.DataFrame:
    """Return one row per entity and moment counted from: the one nearest so many days before it.

    Parameters
    ----------
    rows : pandas.DataFrame
        entity_id and ``_until``, the moment counted from.
    ahead : numpy.ndarray
        Days from as_of to it.
    days, within : float
        Rows further than `within` from `days` do not count; of two as near, the earlier does.
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
) -> Plain:
    """Return what a lead time was measured on."""
    found: Plain = {
        "counted_from": counted_from,
        "days": days,
        "within_days": within,
        "n": len(rows),
        "entities": int(rows["entity_id"].nunique()),
        "events": int(rows["label"].sum()),
    }
    timed = rows if events is None else events
    return found | ({"days_found": float(timed["_ahead"].median())} if len(timed) else {})


def _worth(
    rows: pd.DataFrame,
    names: Sequence[str],
    lines: Mapping[str, Mapping[int, float]],
    drawing: Drawing,
    measures: Mapping[str, Measure],
) -> Plain:
    if is_thin(rows["label"].to_numpy()):
        return {}
    samples = {name: sample_above(rows, name, _flagged(rows, name, lines[name])) for name in names}
    ranked = {
        name: bootstrap(sample, {"auc": auc}, draws=drawing.draws, seed=drawing.seed)
        for name, sample in samples.items()
    }
    return {
        "measures": measured(samples[MODEL], drawing, measures),
        "auc": {name: estimates(values)["auc"] for name, values in ranked.items()},
    }


def _flagged(rows: pd.DataFrame, name: str, line: Mapping[int, float]) -> np.ndarray:
    flagged: np.ndarray = (rows[f"p_{name}"] >= rows["fold"].map(line)).to_numpy(dtype=np.float64)
    return flagged


def alert_lines(headline: pd.DataFrame, name: str, drawing: Drawing) -> dict[int, float]:
    """Return per fold the lowest probability the team's capacity still reaches."""
    sample = sample_of(headline, name, drawing.capacity_per_fold)
    worked = pd.Series(np.where(sample.flagged > 0, sample.p, np.inf))
    return {int(str(fold)): float(p) for fold, p in worked.groupby(headline["fold"]).min().items()}
