"""Chances as they could be had at the starts of quarters before the first test period.

The test periods of a training reach back a year; a ledger reaches further. For the backtest of the
forecast alone, a model is fitted anew at each earlier start of a quarter on what was known on that
day: the rung and the default settings that so many events allow, for nothing that was searched
later may be used.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from configs.schema.company import Company
from features.days import day_index
from features.revenue.retention import quarter_of
from training.candidates.train import calibrated_forward
from training.data.splits import MIN_CLASS_ACCOUNTS, count_events
from training.data.training_frame import ROW_COLUMNS, TrainingFrame
from training.evaluation.sampling import MODEL
from training.fitting.baselines import fit_constant
from training.fitting.fit import TrainingConfig, choose_tier, fit
from training.forecast.backtest import moment_of


def scored_earlier(frame: TrainingFrame, company: Company, before: pd.Timestamp) -> pd.DataFrame:
    """Score the book at every start of a quarter before a moment, each as a model of that day.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    company : Company
        Seeds and threads.
    before : pandas.Timestamp
        Cut-off of the first test period, UTC.

    Returns
    -------
    pandas.DataFrame
        One row per account and moment: the columns of `training.data.training_frame.ROW_COLUMNS`,
        fold (0 and below, newest last), raw (log-odds), ``p_constant`` and ``p_model``, calibrated
        on earlier moments only. Moments at which too few events were known for any model are left
        out.
    """
    parts, cutoffs = [], []
    # A ready-made table has no ledger that could be forecast.
    moments = [] if company.table is not None else _starts(frame.rows["as_of"], before)
    for number, cutoff in enumerate(moments, start=1 - len(moments)):
        known = frame.take((frame.rows["label_known_at"] <= cutoff).to_numpy())
        recipe = _recipe(known, company)
        if recipe is None:
            continue
        here = frame.take((frame.rows["as_of"] == cutoff).to_numpy())
        rows = here.rows[list(ROW_COLUMNS)].assign(fold=number)
        rows["raw"] = fit(recipe, known).raw(here)
        rows["p_constant"] = fit_constant(known)(here)
        parts.append(rows)
        cutoffs.append((number, cutoff))
    if not parts:
        return frame.rows.iloc[:0][list(ROW_COLUMNS)].assign(
            fold=0, raw=np.nan, p_constant=np.nan, **{f"p_{MODEL}": np.nan}
        )
    scored = pd.concat(parts, ignore_index=True)
    scored[f"p_{MODEL}"] = calibrated_forward(scored, cutoffs, "raw")
    return scored


def _starts(as_of: pd.Series, before: pd.Timestamp) -> list[pd.Timestamp]:
    """Return the moments of the grid that stand for the start of a quarter, oldest first."""
    grid = as_of[as_of < before].drop_duplicates().sort_values()
    moments = {day_index(moment.date()): moment for moment in grid}
    starts = dict.fromkeys(quarter_of(day)[0] for day in moments)
    found = [moment_of(list(moments), start) for start in starts]
    return [moments[day] for day in found if day is not None]


def _recipe(known: TrainingFrame, company: Company) -> TrainingConfig | None:
    """Return how to fit on what was known; None where that allows pooled rates only."""
    label, settings = known.label, company.training
    accounts = [known.rows.loc[label == outcome, "entity_id"].nunique() for outcome in (0, 1)]
    rung = choose_tier(count_events(known.rows))
    if rung.kind == "rates" or min(accounts) < MIN_CLASS_ACCOUNTS:
        return None
    seeds = tuple(range(settings.seed, settings.seed + settings.model_seeds))
    outcome = company.targets[known.target].outcome
    return TrainingConfig(rung.kind, outcome, seeds, threads=settings.threads)
