"""Event study: features before the decision, compared with accounts without the event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from training.data.training_frame import TrainingFrame
from training.evaluation.sampling import MIN_SLICE_EVENTS
from training.model.manifest_parts import EventStudyRow, EventStudySummary

STEP_DAYS, BACK_DAYS = 30, 120
"""Length of a step, and of the period before the decision."""


@dataclass(frozen=True)
class EventStudy:
    """Mean features before a decision, compared with accounts without the event.

    Attributes
    ----------
    names : tuple of str
        Numeric features with values for both groups.
    from_days : tuple of int
        Start of each step, in days before the decision; the last step ends with it.
    gap, error : numpy.ndarray
        (features, steps): mean of accounts with the event minus mean of accounts without it at the
        same as_of, in standard deviations of the latter, and its standard error.
    n_events : int
        Distinct decisions.
    """

    names: tuple[str, ...]
    from_days: tuple[int, ...]
    gap: np.ndarray
    error: np.ndarray
    n_events: int

    def summary(self, n_features: int = 12) -> EventStudySummary:
        """Return the `n_features` features with the largest last difference."""
        order = np.argsort(-np.abs(self.gap[:, -1]), kind="stable")[:n_features]
        return EventStudySummary(
            n_events=self.n_events,
            n_features=len(self.names),
            step_days=STEP_DAYS,
            rows=tuple(
                EventStudyRow(
                    feature=self.names[i],
                    from_days=start,
                    gap=float(self.gap[i, j]),
                    error=float(self.error[i, j]),
                )
                for i in order
                for j, start in enumerate(self.from_days)
            ),
        )


def event_study(frame: TrainingFrame, *, by_rank: bool = False) -> EventStudy | None:
    """Return the features of a frame aligned on the decision.

    An account counts once per decision and step. Every value is measured from the mean of accounts
    without the event at the same as_of, which removes seasons.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    by_rank : bool
        Use the normal score of each value among all accounts of its as_of: with a few large
        accounts, changes of small ones are visible only in ranks.

    Returns
    -------
    EventStudy or None
        None where a step has fewer than `MIN_SLICE_EVENTS` decisions.

    Notes
    -----
    gap = mean over decisions of (x − m(as_of)) / s, with m the mean and s the standard deviation of
    accounts without the event, m at that as_of and s over all as_of (of all rows where the former
    do not vary); its error is that of a mean.
    """
    rows = frame.rows
    lead = (rows["decision_at"] - rows["as_of"]).dt.total_seconds().to_numpy() / 86_400.0
    numbers = frame.features.select_dtypes("number")
    stayed = (rows["label"] == 0).to_numpy()
    edges = np.arange(0, BACK_DAYS + 1, STEP_DAYS)
    steps = [
        _last_per_decision(
            rows, (rows["label"] == 1).to_numpy() & (lead >= low) & (lead < low + STEP_DAYS)
        )
        for low in edges[:-1]
    ][::-1]
    if stayed.sum() < MIN_SLICE_EVENTS or min(map(len, steps)) < MIN_SLICE_EVENTS:
        return None
    values = _normal_scores(numbers, rows["as_of"]) if by_rank else numbers
    distances, names = _distances(values, rows["as_of"], stayed)
    gap, error = (
        np.stack(part, axis=1)
        for part in zip(*(_mean(distances[here]) for here in steps), strict=True)
    )
    n_events = len(rows.iloc[np.concatenate(steps)][["entity_id", "decision_at"]].drop_duplicates())
    starts = tuple(int(low) + STEP_DAYS for low in edges[:-1])[::-1]
    return EventStudy(names, starts, gap, error, n_events)


def _normal_scores(numbers: pd.DataFrame, as_of: pd.Series) -> pd.DataFrame:
    """Return the normal score of each value's rank at its as_of (Blom, 1958); ties share one."""
    groups = numbers.groupby(as_of)
    rank, n = groups.rank(), groups.transform("count")
    scores = norm.ppf((rank - 0.375) / (n + 0.25))
    return pd.DataFrame(scores, index=numbers.index, columns=numbers.columns)


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each column's known values and its standard error; NaN without any."""
    known = ~np.isnan(values)
    n = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    mean = np.where(known, values, 0.0).sum(axis=0) / n
    spread = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / n
    return mean, np.sqrt(spread / n)


def _last_per_decision(rows: pd.DataFrame, chosen: np.ndarray) -> np.ndarray:
    """Return positions of chosen rows, the last of each decision."""
    here = np.flatnonzero(chosen)
    is_repeated = rows.iloc[here][["entity_id", "decision_at"]].duplicated(keep="last").to_numpy()
    return here[~is_repeated]


def _distances(
    numbers: pd.DataFrame, as_of: pd.Series, stayed: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return each value's distance from accounts without the event, in their deviations."""
    known = numbers.replace([np.inf, -np.inf], np.nan)
    usual = known[stayed].groupby(as_of[stayed]).mean().reindex(as_of)
    distance = known.to_numpy(dtype=np.float64) - usual.to_numpy(dtype=np.float64)
    is_known = (~np.isnan(distance)).mean(axis=0) > MIN_KNOWN
    names = [str(name) for name, here in zip(known, is_known, strict=True) if here]
    distance = distance[:, is_known]
    width = np.nanstd(distance[stayed], axis=0, ddof=1)
    # Features that do not vary without the event (an off-boarding export) use all rows.
    width = np.where(width > 1e-9, width, np.nanstd(distance, axis=0, ddof=1))
    varies = width > 1e-9
    whole: np.ndarray = np.clip(
        distance[:, varies] / width[varies], -MAX_DEVIATIONS, MAX_DEVIATIONS
    )
    return whole, tuple(name for name, here in zip(names, varies, strict=True) if here)


MAX_DEVIATIONS = 10.0
"""Limit of a value in deviations, so that one outlier is no jump of many accounts."""

MIN_KNOWN = 0.3
"""Smallest share of rows with a known value."""
