"""Predictions at quarter starts before the first test period, for the backtest of the forecast.

The test periods of a training run cover one year; ARR records go back further. At each earlier
quarter start a model is fitted on the data known on that day, with the model tier and default
settings for that number of events. Settings tuned later are not used.
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
    """Score all accounts at every quarter start before a date, each with a model of that day.

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
        One row per account and date: the columns of `training.data.training_frame.ROW_COLUMNS`,
        fold (0 and below, newest last), raw (log-odds), ``p_constant`` and ``p_model``, calibrated
        on earlier dates only. Dates with too few known events for any model are left out.
    """
    parts, cutoffs = [], []
    # A ready-made table has no ARR records to forecast.
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
    """Return the grid dates that count as quarter starts, oldest first."""
    grid = as_of[as_of < before].drop_duplicates().sort_values()
    moments = {day_index(moment.date()): moment for moment in grid}
    starts = dict.fromkeys(quarter_of(day)[0] for day in moments)
    found = [moment_of(list(moments), start) for start in starts]
    return [moments[day] for day in found if day is not None]


def _recipe(known: TrainingFrame, company: Company) -> TrainingConfig | None:
    """Return the training configuration for the known events; None if only smoothed rates fit."""
    label, settings = known.label, company.training
    accounts = [known.rows.loc[label == outcome, "entity_id"].nunique() for outcome in (0, 1)]
    rung = choose_tier(count_events(known.rows))
    if rung.kind == "rates" or min(accounts) < MIN_CLASS_ACCOUNTS:
        return None
    seeds = tuple(range(settings.seed, settings.seed + settings.model_seeds))
    outcome = company.targets[known.target].outcome
    return TrainingConfig(rung.kind, outcome, seeds, threads=settings.threads)
