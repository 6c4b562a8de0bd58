"""What out-of-time predictions are worth, beside the baselines, with intervals, as plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from training.data.splits import count_events
from training.evaluation.alert_list import first_alerts, workload
from training.evaluation.lead_time import at_lead_times
from training.evaluation.metrics import (
    MEASURES,
    Measure,
    Sample,
    arr_capture,
    auc,
    average_precision,
    bootstrap,
    brier,
    brier_skill,
    capture,
    lift,
    log_loss,
    none_if_nan,
    observed_to_expected,
    reliability,
)
from training.evaluation.sampling import (
    CHAMPION_ITSELF,
    MODEL,
    MODEL_RAW,
    Drawing,
    Plain,
    estimates,
    is_thin,
    measured,
    sample_of,
)
from training.evaluation.stability import by_period, stability

WARNERS = (MODEL, "calendar", "health_score")
"""Whose first alerts are compared."""

_SLICE: Mapping[str, Measure] = {
    "auc": auc,
    "average_precision": average_precision,
    "observed_to_expected": observed_to_expected,
    "capture_at_capacity": capture,
    "lift_at_capacity": lift,
    "arr_capture_at_capacity": arr_capture,
    "brier": brier,
    "brier_skill": brier_skill,
}
_PAIRED: Mapping[str, Measure] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "capture_at_capacity": capture,
}


@dataclass(frozen=True)
class Evaluation:
    """Out-of-time measures of one target. Estimates are {value, low, high}, 95 %.

    Headline measures count each entity once per test period.

    Attributes
    ----------
    target : str
        Name of the target.
    n_decisions : int
        Distinct events: one decision can be seen coming from several test periods.
    n_rows, n_entities, n_events : int
        Headline rows, entities among them, positive headline rows.
    base_rate : float
        Positives among headline rows.
    capacity : dict
        per_month, and per_fold: accounts the team can work in a month and in a test period.
    models : dict
        Per model (``model``, ``model_raw``, each baseline): measure to estimate.
    differences : dict
        Per baseline: model minus baseline, on the same draws.
    folds : list of dict
        Per fold: what it trained and tested on, and the model's measures.
    over : str
        ``time`` or ``accounts``: what the folds hold out.
    lead_times : list of dict
        What every score is worth 30 to 180 days ahead, see
        `training.evaluation.lead_time.at_lead_times`.
    segments, contracts, newcomers : list of dict
        Slices of the headline rows; newcomers had no row among the training rows.
    reliability : list of dict
        Observed against expected rates in bins.
    notes : list of str
        What could not be had.
    repeats : dict
        For folds over accounts that were dealt more than once: per measure the values per repeat,
        their mean and their standard deviation. Empty otherwise.
    champion_since : dict
        The published model itself on the cohorts after its cut-off: since, n, n_events and, with
        enough events, difference (model minus it, on the same draws). Empty without one.
    first_alerts : dict
        How many days before the decision an account first came up on the team's list, see
        `training.evaluation.alert_list.first_alerts`. Empty where accounts are held out rather than
        time.
    workload : dict
        Alerts a month, for the team and per CSM, see `training.evaluation.alert_list.workload`.
        Empty likewise.
    periods : list of dict
        The model in each test period, with intervals, see
        `training.evaluation.stability.by_period`.
    stability : dict
        How far the periods lie apart, in numbers and words, see
        `training.evaluation.stability.stability`.
    tuning : str
        What the search of settings gained, in words; empty where there was nothing to tune.
    """

    target: str
    n_rows: int
    n_entities: int
    n_events: int
    n_decisions: int
    base_rate: float
    capacity: Plain
    models: dict[str, Plain]
    differences: dict[str, Plain]
    folds: list[Plain]
    over: str
    lead_times: list[Plain]
    segments: list[Plain]
    contracts: list[Plain]
    newcomers: list[Plain]
    reliability: list[Plain]
    notes: list[str]
    repeats: dict[str, Plain] = field(default_factory=dict)
    champion_since: Plain = field(default_factory=dict)
    first_alerts: Plain = field(default_factory=dict)
    workload: Plain = field(default_factory=dict)
    periods: list[Plain] = field(default_factory=list)
    stability: Plain = field(default_factory=dict)
    tuning: str = ""

    def as_dict(self) -> Plain:
        """Return plain JSON content."""
        return asdict(self)

    def summary(self) -> Plain:
        """Return the headline alone, as kept in the bundle."""
        return {
            "n_rows": self.n_rows,
            "n_entities": self.n_entities,
            "n_events": self.n_events,
            "n_decisions": self.n_decisions,
            "n_folds": len(self.folds),
            "folds_over": self.over,
            **self.models[MODEL],
        }


def evaluate(
    predictions: pd.DataFrame,
    folds: pd.DataFrame,
    drawing: Drawing,
    *,
    target: str,
    over: str,
    notes: Iterable[str] = (),
    tuning: str = "",
    measures: Mapping[str, Measure] = MEASURES,
) -> Evaluation:
    """Measure out-of-time predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per fold and test row, from `training.candidates.train.out_of_time`: entity_id,
        as_of, fold, repeat, is_headline, is_newcomer, label, decision_at, arr, segment,
        is_under_contract, and one column of probabilities per model, named ``p_<model>``.
    folds : pandas.DataFrame
        From `training.data.splits.describe`.
    drawing : Drawing
        Bootstrap and capacity.
    target : str
        Name of the target.
    over : str
        What the folds hold out: ``time`` or ``accounts``.
    notes : iterable of str
        Kept with the result.
    tuning : str
        Kept with the result.
    measures : mapping of str to Measure
        What to measure; ``auc`` among them.
    """
    headline = predictions[predictions["is_headline"]].reset_index(drop=True)
    columns = [str(name) for name in predictions]
    names = [name.removeprefix("p_") for name in columns if name.startswith("p_")]
    samples = {name: sample_of(headline, name, drawing.capacity_per_fold) for name in names}
    drawn = {
        name: bootstrap(sample, _measures(name, measures), draws=drawing.draws, seed=drawing.seed)
        for name, sample in samples.items()
    }
    model = samples[MODEL]
    sliced = {name: measure for name, measure in _SLICE.items() if name in measures}
    baselines = [name for name in names if name not in (MODEL, MODEL_RAW)]
    return Evaluation(
        target=target,
        n_rows=len(headline),
        n_entities=int(headline["entity_id"].nunique()),
        n_events=int(model.label.sum()),
        n_decisions=count_events(headline),
        base_rate=float(model.label.mean()),
        capacity={
            "per_month": drawing.capacity_per_month,
            "per_fold": drawing.capacity_per_fold,
        },
        models={name: estimates(values) for name, values in drawn.items()},
        differences={name: _difference(drawn[MODEL], drawn[name]) for name in baselines},
        folds=_per_fold(headline, model, folds),
        over=over,
        lead_times=at_lead_times(predictions, [MODEL, *baselines], drawing, measures=measures),
        segments=_slices(headline["segment"].fillna("unknown"), model, drawing, sliced),
        contracts=_slices(_contract_words(headline), model, drawing, sliced),
        newcomers=_slices(_newcomer_words(headline), model, drawing, sliced),
        reliability=reliability(model.label, model.p, model.entity),
        repeats=_repeats(predictions, drawing),
        notes=list(notes),
        tuning=tuning,
        champion_since=_champion_since(headline, drawing),
        **_in_time(predictions, headline, names, drawing, sliced, over),
    )


def _in_time(
    predictions: pd.DataFrame,
    headline: pd.DataFrame,
    names: Sequence[str],
    drawing: Drawing,
    measures: Mapping[str, Measure],
    over: str,
) -> dict[str, Any]:
    """Return what only periods of time can show: alerts as they would have come, and stability."""
    if over != "time":
        return {}
    periods = by_period(headline, drawing, measures)
    return {
        "first_alerts": first_alerts(
            predictions, [name for name in WARNERS if name in names], drawing
        ),
        "workload": workload(predictions, drawing),
        "periods": periods,
        "stability": stability(periods),
    }


def _champion_since(headline: pd.DataFrame, drawing: Drawing) -> Plain:
    """Compare with the published model where it could not know the answers: NaN elsewhere."""
    if CHAMPION_ITSELF not in headline:
        return {}
    rows = headline[headline[CHAMPION_ITSELF].notna()].reset_index(drop=True)
    if rows.empty:
        return {}
    rows = rows.assign(**{f"p_{CHAMPION_ITSELF}": rows[CHAMPION_ITSELF]})
    label = rows["label"]
    found: Plain = {
        "since": rows["as_of"].min().isoformat(),
        "n": len(rows),
        "n_events": int(label.sum()),
    }
    if is_thin(label.to_numpy()):
        return found
    ours, theirs = (
        bootstrap(
            sample_of(rows, name, drawing.capacity_per_fold),
            _PAIRED,
            draws=drawing.draws,
            seed=drawing.seed,
        )
        for name in (MODEL, CHAMPION_ITSELF)
    )
    return {**found, "difference": _difference(ours, theirs)}


_REPEATED: Mapping[str, Measure] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
}


def _repeats(predictions: pd.DataFrame, drawing: Drawing) -> dict[str, Plain]:
    """Return what dealing the accounts anew does to the measures."""
    if "repeat" not in predictions or predictions["repeat"].nunique() < 2:
        return {}
    samples = [
        sample_of(rows.reset_index(drop=True), MODEL, drawing.capacity_per_fold)
        for _, rows in predictions.groupby("repeat", sort=True)
    ]
    table = {}
    for name, measure in _REPEATED.items():
        values = [float(measure(one, np.ones((1, len(one.p))))[0]) for one in samples]
        table[name] = {
            "values": values,
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)),
        }
    return table


def _measures(name: str, measures: Mapping[str, Measure]) -> Mapping[str, Measure]:
    """Return all measures for our model; baselines are not asked for a calibration curve."""
    if name in (MODEL, MODEL_RAW):
        return measures
    return {key: measure for key, measure in measures.items() if "calibration" not in key}


def _difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> Plain:
    return estimates({name: ours[name] - theirs[name] for name in _PAIRED if name in ours})


def _per_fold(headline: pd.DataFrame, sample: Sample, folds: pd.DataFrame) -> list[Plain]:
    """Return the folds' table with the model's point measures on each."""
    table = []
    for record in folds.to_dict(orient="records"):
        here = np.flatnonzero((headline["fold"] == record["fold"]).to_numpy())
        part = sample.take(here)
        equal = np.ones((1, len(here)))
        measures = {
            name: none_if_nan(measure(part, equal)[0])
            for name, measure in {**_SLICE, "log_loss": log_loss}.items()
        }
        described = {
            str(key): value.isoformat() if isinstance(value, pd.Timestamp) else value
            for key, value in record.items()
        }
        table.append({**described, **measures})
    return table


def _slices(
    words: pd.Series, sample: Sample, drawing: Drawing, measures: Mapping[str, Measure]
) -> list[Plain]:
    """Return one entry per word, largest first, with measures where events suffice."""
    table = []
    for word, count in words.value_counts().items():
        positions = np.flatnonzero((words == word).to_numpy())
        part = sample.take(positions)
        table.append(
            {
                "slice": str(word),
                "n": int(count),
                "events": int(part.label.sum()),
                "rate": float(part.label.mean()),
                "mean_p": float(part.p.mean()),
                **measured(part, drawing, measures),
            }
        )
    return table


def _contract_words(rows: pd.DataFrame) -> pd.Series:
    under = rows["is_under_contract"].astype(bool)
    return under.map({True: "under contract", False: "no contract"})


def _newcomer_words(rows: pd.DataFrame) -> pd.Series:
    return rows["is_newcomer"].map({True: "new to the model", False: "known from training"})
