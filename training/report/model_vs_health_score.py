"""Comparison of the model with the health score in use: ranking, warnings, value, components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL, Drawing, sample_of
from training.report.decision_curve import decision_curve, profit_grid
from training.validation.early_warning import starts_of_alerts, warned
from training.validation.score_components import components_of
from training.validation.score_evidence import BANDS, band_of, same_sizes
from training.validation.side_by_side import side_by_side

COMPARED = (MODEL, "health_score", "best_feature", "calendar", "constant")
"""Scores of the comparison, in display order."""

HEALTH = "health_score"
PART = "part_"
"""Prefix of the columns of the health score's components."""

FRESH_DAYS = 45
"""Age in days up to which a score is valid."""

DAYS_PER_YEAR = 365.25

Plain = dict[str, Any]


def score_comparison(rows: pd.DataFrame, drawing: Drawing) -> Plain | None:
    """Return the comparison of scores on the rows where all scores are known.

    Parameters
    ----------
    rows : pandas.DataFrame
        Headline rows (`training.candidates.train.out_of_time`).
    drawing : Drawing
        Bootstrap and capacity.

    Returns
    -------
    dict or None
        See `training.validation.side_by_side.side_by_side`; None with too few events.
    """
    names = [name for name in COMPARED if f"p_{name}" in rows]
    if HEALTH in names:
        known = rows[rows["health_score"].notna()].reset_index(drop=True)
        if _enough(known):
            return side_by_side(known, names, drawing)
        names.remove(HEALTH)
    return side_by_side(rows, names, drawing) if _enough(rows) else None


def _enough(rows: pd.DataFrame) -> bool:
    events = int(rows["label"].sum())
    return min(events, len(rows) - events) >= MIN_SLICE_EVENTS


def early_warnings(
    predictions: pd.DataFrame, cuts: Mapping[str, float], horizon_days: float, *, is_growth: bool
) -> Plain | None:
    """Return every event of the last four quarters with earlier model and health scores.

    The model alerts on its elevated and high bands; the health score gets bands of the same sizes,
    so that both alert on the same number of accounts.

    Parameters
    ----------
    predictions : pandas.DataFrame
        All out-of-time rows.
    cuts : mapping of str to float
        Lower limit of each band.
    horizon_days : float
        Days after which an alert without the event counts as false.
    is_growth : bool
        Whether a healthier score means a likelier event.

    Returns
    -------
    dict or None
        See `training.validation.early_warning.warned`; None if no event has a date.
    """
    dated = predictions[(predictions["label"] == 1) & predictions["decision_at"].notna()]
    if dated.empty:
        return None
    events = dated.sort_values("as_of").drop_duplicates(["entity_id", "decision_at"], keep="last")
    bands = band_of(predictions[f"p_{MODEL}"].to_numpy(dtype=float), cuts)
    alerts = {MODEL: starts_of_alerts(predictions, bands != BANDS[0])}
    columns = [MODEL]
    known = predictions["health_score"].notna().to_numpy()
    if predictions["health_score"].nunique() > 1:
        theirs = predictions[known]
        score = theirs["health_score"].to_numpy(dtype=float)
        same = same_sizes(score if is_growth else -score, bands[known])
        alerts[HEALTH] = starts_of_alerts(theirs, same != BANDS[0])
        columns.append(HEALTH)
    until = predictions["label_known_at"].max()
    found = warned(
        events, alerts, _reader(predictions), columns, until=until, resolved_days=horizon_days
    )
    return found | {"raised": "the elevated and high bands"}


def _reader(predictions: pd.DataFrame) -> Any:
    """Return a reader of both scores at the last grid date before a time."""
    scored_rows = predictions[["entity_id", "as_of", f"p_{MODEL}", "health_score"]].rename(
        columns={f"p_{MODEL}": MODEL, "health_score": HEALTH}
    )
    scored_rows = scored_rows.sort_values("as_of").drop_duplicates(
        ["entity_id", "as_of"], keep="last"
    )

    def read(moments: pd.DataFrame) -> pd.DataFrame:
        order = moments.assign(
            _row=np.arange(len(moments)), as_of=moments["as_of"].astype(scored_rows["as_of"].dtype)
        ).sort_values("as_of", kind="stable")
        found = pd.merge_asof(
            order, scored_rows, on="as_of", by="entity_id", tolerance=pd.Timedelta(days=FRESH_DAYS)
        )
        return found.sort_values("_row", ignore_index=True)

    return read


def score_value(rows: pd.DataFrame, drawing: Drawing) -> Plain:
    """Return the value of the model's score over the test periods, by assumption."""
    sample = sample_of(rows, MODEL, drawing.capacity_per_fold)
    years = rows["fold"].nunique() * drawing.fold_days / DAYS_PER_YEAR
    return {
        "curve": decision_curve(sample.label, sample.p),
        "profit": profit_grid(sample, years, bool(rows["arr"].notna().any())),
    }


def health_score_components(
    rows: pd.DataFrame, parts: pd.DataFrame | None, drawing: Drawing, *, is_growth: bool
) -> Plain | None:
    """Return the evidence on each component of the health score in use.

    Parameters
    ----------
    rows : pandas.DataFrame
        Headline rows.
    parts : pandas.DataFrame or None
        Components by date: entity_id, known_at, and a column ``part_…`` per component.
    drawing : Drawing
        Bootstrap.
    is_growth : bool
        Whether a healthier score means a likelier event.

    Returns
    -------
    dict or None
        See `training.validation.score_components.components_of`; None without components or events.
    """
    if parts is None:
        return None
    names = [str(name) for name in parts if str(name).startswith(PART)]
    order = rows.sort_values("as_of", kind="stable")
    scored_rows = parts.assign(known_at=parts["known_at"].astype(order["as_of"].dtype))
    found = pd.merge_asof(
        order,
        scored_rows.sort_values("known_at"),
        left_on="as_of",
        right_on="known_at",
        by="entity_id",
    )
    here = found[found["health_score"].notna() & found[names].notna().any(axis=1)]
    here = here.reset_index(drop=True)
    if not names or not _enough(here):
        return None
    score = here["health_score"].to_numpy(dtype=float)
    span = float(np.ptp(score)) or 1.0
    risk = (score - score.min()) / span if is_growth else (score.max() - score) / span
    return components_of(here, [name.removeprefix(PART) for name in names], risk, drawing, PART)
