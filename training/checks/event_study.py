"""Features aligned on the day of the decision: leavers against those who stayed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from training.data.training_frame import TrainingFrame
from training.evaluation.sampling import MIN_SLICE_EVENTS
from training.model.manifest_parts import EventStudyRow, EventStudySummary

STEP_DAYS, BACK_DAYS = 30, 120
"""Length of a step, and how far back before the decision is looked."""


@dataclass(frozen=True)
class EventStudy:
    """Average features before a decision, against accounts that stayed.

    Attributes
    ----------
    names : tuple of str
        Number features with values on both sides.
    from_days : tuple of int
        Start of each step, in days before the decision; the last step ends with it.
    gap, error : numpy.ndarray
        (features, steps): mean of leavers minus mean of those who stayed at the same moments, in
        standard deviations of those who stayed, and its standard error.
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

    An account counts once per decision and step. Every value is measured from the mean of those
    who stayed at the same as_of, so that a season moves nothing.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    by_rank : bool
        Take each value's normal score among all accounts of its as_of instead of the value: where
        a few large accounts make up the spread, the others' fall shows only so.

    Returns
    -------
    Aligned or None
        None where a step holds fewer than `MIN_SLICE_EVENTS` decisions.

    Notes
    -----
    gap = mean over decisions of (x − m(as_of)) / s, with m and s the mean of those who stayed at
    that as_of and their standard deviation over all moments (that of all rows where those who
    stayed are all alike); its error is that of a mean.
    """
    rows = frame.rows
    lead = (rows["decision_at"] - rows["as_of"]).dt.total_seconds().to_numpy() / 86_400.0
    numbers = frame.features.select_dtypes("number")
    stayed = (rows["label"] == 0).to_numpy()
    edges = np.arange(0, BACK_DAYS + 1, STEP_DAYS)
    steps = [
        _once(rows, (rows["label"] == 1).to_numpy() & (lead >= low) & (lead < low + STEP_DAYS))
        for low in edges[:-1]
    ][::-1]
    if stayed.sum() < MIN_SLICE_EVENTS or min(map(len, steps)) < MIN_SLICE_EVENTS:
        return None
    values = _normal_scores(numbers, rows["as_of"]) if by_rank else numbers
    apart, names = _apart(values, rows["as_of"], stayed)
    gap, error = (
        np.stack(part, axis=1) for part in zip(*(_mean(apart[here]) for here in steps), strict=True)
    )
    n_events = len(rows.iloc[np.concatenate(steps)][["entity_id", "decision_at"]].drop_duplicates())
    starts = tuple(int(low) + STEP_DAYS for low in edges[:-1])[::-1]
    return EventStudy(names, starts, gap, error, n_events)


def _normal_scores(numbers: pd.DataFrame, as_of: pd.Series) -> pd.DataFrame:
    """Return the normal score of each value's rank at its moment (Blom, 1958); ties share one."""
    groups = numbers.groupby(as_of)
    rank, n = groups.rank(), groups.transform("count")
    scores = norm.ppf((rank - 0.375) / (n + 0.25))
    return pd.DataFrame(scores, index=numbers.index, columns=numbers.columns)


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each column's known values and its standard error; NaN where none is."""
    known = ~np.isnan(values)
    n = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    mean = np.where(known, values, 0.0).sum(axis=0) / n
    spread = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / n
    return mean, np.sqrt(spread / n)


def _once(rows: pd.DataFrame, chosen: np.ndarray) -> np.ndarray:
    """Return positions of chosen rows, the last of each decision."""
    here = np.flatnonzero(chosen)
    again = rows.iloc[here][["entity_id", "decision_at"]].duplicated(keep="last").to_numpy()
    return here[~again]


def _apart(
    numbers: pd.DataFrame, as_of: pd.Series, stayed: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return each value's distance from those who stayed at its moment, in their deviations."""
    known = numbers.replace([np.inf, -np.inf], np.nan)
    usual = known[stayed].groupby(as_of[stayed]).mean().reindex(as_of)
    distance = known.to_numpy(dtype=np.float64) - usual.to_numpy(dtype=np.float64)
    is_known = (~np.isnan(distance)).mean(axis=0) > MIN_KNOWN
    names = [str(name) for name, here in zip(known, is_known, strict=True) if here]
    distance = distance[:, is_known]
    width = np.nanstd(distance[stayed], axis=0, ddof=1)
    # What never happens to those who stayed (an off-boarding export) is measured by all rows.
    width = np.where(width > 1e-9, width, np.nanstd(distance, axis=0, ddof=1))
    varies = width > 1e-9
    whole: np.ndarray = np.clip(distance[:, varies] / width[varies], -FARTHEST, FARTHEST)
    return whole, tuple(name for name, here in zip(names, varies, strict=True) if here)


FARTHEST = 10.0
"""Deviations at which a value is cut: one wild value is not a jump of many accounts."""

MIN_KNOWN = 0.3
"""Share of rows in which a feature must be known to be averaged."""
