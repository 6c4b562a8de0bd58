"""Evaluation of out-of-time predictions against baselines, with intervals, as plain JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypedDict, cast

import numpy as np
import pandas as pd

from training.data.splits import count_events
from training.evaluation.alert_list import first_alerts, workload
from training.evaluation.lead_time import by_lead_time
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
from training.evaluation.parts import (
    CapacityJson,
    ChampionSinceJson,
    EstimateJson,
    EvaluationJson,
    FirstAlertsJson,
    FoldJson,
    LeadTimeJson,
    Measures,
    PeriodJson,
    ReliabilityBin,
    RepeatJson,
    SliceJson,
    StabilityJson,
    WorkloadJson,
)
from training.evaluation.sampling import (
    CHAMPION_ITSELF,
    MODEL,
    MODEL_RAW,
    Drawing,
    estimates,
    has_too_few_events,
    measure_sample,
    sample_of,
)
from training.evaluation.stability import by_period, stability

WARNERS = (MODEL, "calendar", "health_score")
"""Scores whose first alerts are compared."""

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
        Distinct events: one decision can be positive in several test periods.
    n_rows, n_entities, n_events : int
        Headline rows, entities among them, positive headline rows.
    base_rate : float
        Share of positives among headline rows, 0–1.
    capacity : dict
        Accounts the team can work in a month and in a test period.
    models : dict
        Per model (``model``, ``model_raw``, each baseline): estimate by measure.
    differences : dict
        Per baseline: model minus baseline, on the same draws.
    folds : list of dict
        Per fold: training and test rows, and the model's measures.
    over : str
        ``time`` or ``accounts``: the unit the folds hold out.
    lead_times : list of dict
        Performance of every score 30 to 180 days ahead, see
        `training.evaluation.lead_time.by_lead_time`.
    segments, contracts, newcomers : list of dict
        Slices of the headline rows; newcomers had no row among the training rows.
    reliability : list of dict
        Observed against expected rates in bins.
    notes : list of str
        Restrictions of the evaluation.
    repeats : dict
        For repeated assignments of accounts to folds: values, mean and standard deviation per
        measure. Empty otherwise.
    champion_since : dict
        Comparison with the published model on cohorts after its cut-off: since, n, n_events and,
        with enough events, difference (model minus published). Empty without one.
    first_alerts : dict
        Days from an account's first place on the team's list to the decision, see
        `training.evaluation.alert_list.first_alerts`. Empty where folds hold out accounts.
    workload : dict
        Alerts a month, for the team and per CSM, see `training.evaluation.alert_list.workload`.
        Empty likewise.
    periods : list of dict
        Performance in each test period, with intervals, see
        `training.evaluation.stability.by_period`.
    stability : dict
        Spread over test periods, in numbers and words, see
        `training.evaluation.stability.stability`.
    tuning : str
        Gain from the search of settings, in words; empty without a search.
    """

    target: str
    n_rows: int
    n_entities: int
    n_events: int
    n_decisions: int
    base_rate: float
    capacity: CapacityJson
    models: dict[str, Measures]
    differences: dict[str, Measures]
    folds: list[FoldJson]
    over: str
    lead_times: list[LeadTimeJson]
    segments: list[SliceJson]
    contracts: list[SliceJson]
    newcomers: list[SliceJson]
    reliability: list[ReliabilityBin]
    notes: list[str]
    repeats: dict[str, RepeatJson] = field(default_factory=dict)
    champion_since: ChampionSinceJson = field(default_factory=ChampionSinceJson)
    first_alerts: FirstAlertsJson = field(default_factory=FirstAlertsJson)
    workload: WorkloadJson = field(default_factory=WorkloadJson)
    periods: list[PeriodJson] = field(default_factory=list)
    stability: StabilityJson = field(default_factory=StabilityJson)
    tuning: str = ""

    def as_dict(self) -> EvaluationJson:
        """Return plain JSON content."""
        return cast("EvaluationJson", asdict(self))

    def summary(self) -> dict[str, int | str | EstimateJson]:
        """Return the headline measures, as stored in the bundle."""
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
        Unit the folds hold out: ``time`` or ``accounts``.
    notes : iterable of str
        Stored with the result.
    tuning : str
        Stored with the result.
    measures : mapping of str to Measure
        Measures by name; must include ``auc``.
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
        lead_times=by_lead_time(predictions, [MODEL, *baselines], drawing, measures=measures),
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


class _TimeParts(TypedDict, total=False):
    first_alerts: FirstAlertsJson
    workload: WorkloadJson
    periods: list[PeriodJson]
    stability: StabilityJson


def _in_time(
    predictions: pd.DataFrame,
    headline: pd.DataFrame,
    names: Sequence[str],
    drawing: Drawing,
    measures: Mapping[str, Measure],
    over: str,
) -> _TimeParts:
    """Return the parts that need test periods: alerts, workload and stability."""
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


def _champion_since(headline: pd.DataFrame, drawing: Drawing) -> ChampionSinceJson:
    """Compare with the published model on rows after its cut-off; its column is NaN elsewhere."""
    if CHAMPION_ITSELF not in headline:
        return {}
    rows = headline[headline[CHAMPION_ITSELF].notna()].reset_index(drop=True)
    if rows.empty:
        return {}
    rows = rows.assign(**{f"p_{CHAMPION_ITSELF}": rows[CHAMPION_ITSELF]})
    label = rows["label"]
    found: ChampionSinceJson = {
        "since": rows["as_of"].min().isoformat(),
        "n": len(rows),
        "n_events": int(label.sum()),
    }
    if has_too_few_events(label.to_numpy()):
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
    found["difference"] = _difference(ours, theirs)
    return found


_REPEATED: Mapping[str, Measure] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
}


def _repeats(predictions: pd.DataFrame, drawing: Drawing) -> dict[str, RepeatJson]:
    """Return the spread of measures over repeated assignments of accounts to folds."""
    if "repeat" not in predictions or predictions["repeat"].nunique() < 2:
        return {}
    samples = [
        sample_of(rows.reset_index(drop=True), MODEL, drawing.capacity_per_fold)
        for _, rows in predictions.groupby("repeat", sort=True)
    ]
    table: dict[str, RepeatJson] = {}
    for name, measure in _REPEATED.items():
        values = [float(measure(one, np.ones((1, len(one.p))))[0]) for one in samples]
        table[name] = {
            "values": values,
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)),
        }
    return table


def _measures(name: str, measures: Mapping[str, Measure]) -> Mapping[str, Measure]:
    """Return all measures for the model, those without a calibration curve for baselines."""
    if name in (MODEL, MODEL_RAW):
        return measures
    return {key: measure for key, measure in measures.items() if "calibration" not in key}


def _difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> Measures:
    return estimates({name: ours[name] - theirs[name] for name in _PAIRED if name in ours})


def _per_fold(headline: pd.DataFrame, sample: Sample, folds: pd.DataFrame) -> list[FoldJson]:
    """Return the table of folds with the model's point measures on each."""
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
        table.append(cast("FoldJson", {**described, **measures}))
    return table


def _slices(
    words: pd.Series, sample: Sample, drawing: Drawing, measures: Mapping[str, Measure]
) -> list[SliceJson]:
    """Return one entry per slice, largest first, with measures where events suffice."""
    table = []
    for word, count in words.value_counts().items():
        positions = np.flatnonzero((words == word).to_numpy())
        part = sample.take(positions)
        counts = {
            "slice": str(word),
            "n": int(count),
            "events": int(part.label.sum()),
            "rate": float(part.label.mean()),
            "mean_p": float(part.p.mean()),
        }
        table.append(cast("SliceJson", {**counts, **measure_sample(part, drawing, measures)}))
    return table


def _contract_words(rows: pd.DataFrame) -> pd.Series:
    under = rows["is_under_contract"].astype(bool)
    return under.map({True: "under contract", False: "no contract"})


def _newcomer_words(rows: pd.DataFrame) -> pd.Series:
    return rows["is_newcomer"].map({True: "new to the model", False: "known from training"})
