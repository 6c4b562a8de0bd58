"""What out-of-time predictions are worth, beside the baselines, with intervals, as plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from training.metrics import (
    MEASURES,
    Measure,
    Sample,
    auc,
    average_precision,
    bootstrap,
    capture,
    estimate,
    flag_top,
    log_loss,
    none_if_nan,
    observed_to_expected,
    reliability,
)
from training.splits import count_events, entity_codes

MODEL, MODEL_RAW = "model", "model_raw"
"""The calibrated model, and the same before calibration."""

LEAD_DAYS = ((0, 30), (30, 60), (60, 90), (90, 120), (120, 180))
"""Bands ``(low, high]`` of decision_at − as_of; the first includes 0."""

LEAD_MODELS = (MODEL, "calendar", "health_score")
"""Whose AUC is shown by lead time."""

MIN_SLICE_EVENTS = 10
"""Events a slice needs before its measures are shown."""

DAYS_PER_MONTH = 30.4375

_SLICE: Mapping[str, Measure] = {
    "auc": auc,
    "average_precision": average_precision,
    "observed_to_expected": observed_to_expected,
    "capture_at_capacity": capture,
}
_PAIRED: Mapping[str, Measure] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "capture_at_capacity": capture,
}

Plain = dict[str, Any]


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
        Per band of days before the decision: positives in it against all who stayed.
    segments, contracts, newcomers : list of dict
        Slices of the headline rows; newcomers had no row among the training rows.
    reliability : list of dict
        Observed against expected rates in bins.
    notes : list of str
        What could not be had.
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


@dataclass(frozen=True)
class Drawing:
    """How intervals are drawn and what the team can work.

    Attributes
    ----------
    draws, seed : int
        Of the bootstrap.
    capacity_per_month : int
        Accounts the team can work in a month.
    fold_days : int
        Length of a test period, in days.
    """

    draws: int
    seed: int
    capacity_per_month: int
    fold_days: int

    @property
    def capacity_per_fold(self) -> float:
        """Accounts the team can work in a test period."""
        return self.capacity_per_month * self.fold_days / DAYS_PER_MONTH


def evaluate(
    predictions: pd.DataFrame,
    folds: pd.DataFrame,
    drawing: Drawing,
    *,
    target: str,
    over: str,
    notes: Iterable[str] = (),
) -> Evaluation:
    """Measure out-of-time predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per fold and test row, from `training.recipe.out_of_time`: entity_id, as_of, fold,
        is_headline, is_newcomer, label, decision_at, arr, segment, is_under_contract, and one
        column of probabilities per model, named ``p_<model>``.
    folds : pandas.DataFrame
        From `training.splits.describe`.
    drawing : Drawing
        Bootstrap and capacity.
    target : str
        Name of the target.
    over : str
        What the folds hold out: ``time`` or ``accounts``.
    notes : iterable of str
        Kept with the result.
    """
    headline = predictions[predictions["is_headline"]].reset_index(drop=True)
    columns = [str(name) for name in predictions]
    names = [name.removeprefix("p_") for name in columns if name.startswith("p_")]
    samples = {name: sample_of(headline, name, drawing.capacity_per_fold) for name in names}
    drawn = {
        name: bootstrap(sample, _measures(name), draws=drawing.draws, seed=drawing.seed)
        for name, sample in samples.items()
    }
    model = samples[MODEL]
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
        models={name: _estimates(values) for name, values in drawn.items()},
        differences={name: _difference(drawn[MODEL], drawn[name]) for name in baselines},
        folds=_per_fold(headline, model, folds),
        over=over,
        lead_times=_lead_times(
            predictions, headline, model, [name for name in LEAD_MODELS if name in names], drawing
        ),
        segments=_slices(headline["segment"].fillna("unknown"), model, drawing),
        contracts=_slices(_contract_words(headline), model, drawing),
        newcomers=_slices(_newcomer_words(headline), model, drawing),
        reliability=reliability(model.label, model.p),
        notes=list(notes),
    )


def _measures(name: str) -> Mapping[str, Measure]:
    """Return all measures for our model; baselines are not asked for a calibration curve."""
    if name in (MODEL, MODEL_RAW):
        return MEASURES
    return {key: measure for key, measure in MEASURES.items() if "calibration" not in key}


def sample_of(rows: pd.DataFrame, name: str, capacity: float) -> Sample:
    """Return the rows with the probabilities of a model; each fold's top `capacity` are flagged."""
    p = rows[f"p_{name}"].to_numpy(dtype=np.float64)
    flagged = np.zeros(len(rows))
    for number in rows["fold"].unique():
        here = (rows["fold"] == number).to_numpy()
        flagged[here] = flag_top(p[here], capacity)
    return Sample(
        rows["label"].to_numpy(dtype=np.float64),
        p,
        flagged,
        rows["arr"].to_numpy(dtype=np.float64),
        entity_codes(rows),
        rows["fold"].to_numpy(),
    )


def _estimates(drawn: Mapping[str, np.ndarray]) -> Plain:
    return {name: estimate(values).as_dict() for name, values in drawn.items()}


def _difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> Plain:
    return _estimates({name: ours[name] - theirs[name] for name in _PAIRED})


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


def _slices(words: pd.Series, sample: Sample, drawing: Drawing) -> list[Plain]:
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
                **_measured(part, drawing),
            }
        )
    return table


def _measured(sample: Sample, drawing: Drawing) -> Plain:
    events = sample.label.sum()
    if min(events, len(sample.label) - events) < MIN_SLICE_EVENTS:
        return {}
    return _estimates(bootstrap(sample, _SLICE, draws=drawing.draws, seed=drawing.seed))


def _contract_words(rows: pd.DataFrame) -> pd.Series:
    under = rows["is_under_contract"].astype(bool)
    return under.map({True: "under contract", False: "no contract"})


def _newcomer_words(rows: pd.DataFrame) -> pd.Series:
    return rows["is_newcomer"].map({True: "new to the model", False: "known from training"})


def _lead_times(
    predictions: pd.DataFrame,
    headline: pd.DataFrame,
    model: Sample,
    names: Sequence[str],
    drawing: Drawing,
) -> list[Plain]:
    """Return, per band of lead time, positives decided in it against all headline negatives.

    An entity counts once per fold and band, at its first as_of in the band.
    """
    lead = (predictions["decision_at"] - predictions["as_of"]).dt.total_seconds() / 86_400.0
    edges = _edges(headline, model)
    stayed = headline[headline["label"] == 0]
    table = []
    for low, high in LEAD_DAYS:
        inside = (predictions["label"] == 1) & (lead <= high) & ((lead > low) | (low == 0))
        decided = predictions[inside].drop_duplicates(["entity_id", "fold"])
        rows = pd.concat([decided, stayed], ignore_index=True)
        entry: Plain = {"from_days": low, "to_days": high, "events": len(decided)}
        if min(len(decided), len(stayed)) >= MIN_SLICE_EVENTS:
            entry["capture_at_capacity"] = _caught(decided, edges)
            entry["auc"] = {name: _auc(rows, name, drawing) for name in names}
        table.append(entry)
    return table


def _edges(headline: pd.DataFrame, model: Sample) -> dict[int, float]:
    """Return per fold the lowest probability the team's capacity still reaches."""
    worked = pd.Series(np.where(model.flagged > 0, model.p, np.inf))
    return {int(str(fold)): float(p) for fold, p in worked.groupby(headline["fold"]).min().items()}


def _caught(decided: pd.DataFrame, edges: Mapping[int, float]) -> float:
    return float((decided[f"p_{MODEL}"] >= decided["fold"].map(edges)).mean())


def _auc(rows: pd.DataFrame, name: str, drawing: Drawing) -> Plain:
    sample = sample_of(rows, name, drawing.capacity_per_fold)
    values = bootstrap(sample, {"auc": auc}, draws=drawing.draws, seed=drawing.seed)
    return estimate(values["auc"]).as_dict()
