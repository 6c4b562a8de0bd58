"""Training of one target: from a typed frame to an evaluated, serialisable model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pandas as pd

from configs.runtime.errors import ConfigError, DataError, did_you_mean
from configs.runtime.stopwatch import Stopwatch
from configs.schema.company import Company, Target
from configs.schema.rules import active_rules
from features.signals import feature_catalogue
from training.candidates.build_manifest import TrainingEvidence, build_manifest
from training.candidates.gates import GateResult, apply_checks, evaluate_gates
from training.checks.context import CheckContext, Evidence
from training.checks.registry import refuse_unknown_checks, run_checks
from training.data.splits import Fold, Folds, count_events, describe, make_folds
from training.data.training_frame import TrainingFrame
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.sampling import CHAMPION_ITSELF, MODEL, MODEL_RAW, Drawing
from training.fitting import nested_cv as nested
from training.fitting.baselines import baselines_for
from training.fitting.calibration import fit_calibration
from training.fitting.expansion_size import growth_kinds
from training.fitting.fit import (
    TREES_EVENTS,
    ConfigJson,
    FittedModel,
    TrainingConfig,
    choose_tier,
    constant_rate,
    fit,
    fit_encoder,
    starting_trees,
    with_draws,
)
from training.fitting.sufficiency import sufficiency
from training.fitting.tune import Search, choose_strength, search, space_for
from training.model.bundle import Bundle, sigmoid
from training.model.manifest_parts import Calibration, CheckResult, ModelTier
from training.model.predictors import Predictor
from training.model.rule_model import AppliedRules, numeric_names
from training.model.rule_model import refuse_unknown_features as refuse_unknown_features

Progress = Callable[[str], None]


class PlanJson(TypedDict):
    """JSON content of a `TrainingPlan`."""

    final: ConfigJson
    early: ConfigJson
    searched_at: int | None
    note: str
    nested: list[ConfigJson]


@dataclass(frozen=True)
class TrainingPlan:
    """Training settings per cut-off: searched settings only where the search saw no later row.

    Attributes
    ----------
    final : TrainingConfig
        Of the published model and of every fold from `searched_at` on.
    early : TrainingConfig
        Of the folds before it.
    searched_at : int or None
        Position of the fold whose training rows were searched; None without a search.
    trials : pandas.DataFrame
        Trials of the search; empty without one.
    note : str
        Gain from tuning, or the reason for no search; empty where there is nothing to tune.
    nested : tuple of TrainingConfig
        One per fold over accounts, each chosen only on the training rows of its fold.
    """

    final: TrainingConfig
    early: TrainingConfig
    searched_at: int | None
    trials: pd.DataFrame
    note: str = ""
    nested: tuple[TrainingConfig, ...] = ()

    def at(self, position: int) -> TrainingConfig:
        """Return the settings of the fold at `position`."""
        if self.nested:
            return self.nested[position]
        late = self.searched_at is not None and position >= self.searched_at
        return self.final if late else self.early

    def as_dict(self) -> PlanJson:
        """Return plain JSON content, without the trials: an input of every refit."""
        return {
            "final": self.final.as_dict(),
            "early": self.early.as_dict(),
            "searched_at": self.searched_at,
            "note": self.note,
            "nested": [item.as_dict() for item in self.nested],
        }

    @classmethod
    def from_dict(cls, plain: PlanJson, *, threads: int = 0) -> TrainingPlan:
        """Read what `as_dict` returned, for a refit without a search."""
        return cls(
            TrainingConfig.from_dict(plain["final"], threads=threads),
            TrainingConfig.from_dict(plain["early"], threads=threads),
            plain["searched_at"],
            pd.DataFrame(),
            plain["note"],
            tuple(TrainingConfig.from_dict(item, threads=threads) for item in plain["nested"]),
        )


@dataclass(frozen=True)
class TrainingResult:
    """Result of one training run.

    Attributes
    ----------
    bundle : Bundle
        The model to publish; not yet written.
    evaluation : Evaluation
        Out-of-time measures.
    gate_result : GateResult
        Verdict and gates.
    folds : pandas.DataFrame
        One row per fold, from `training.data.splits.describe`.
    trials : pandas.DataFrame
        One row per trial of the search; empty without one.
    predictions : pandas.DataFrame
        Out-of-time predictions, see `out_of_time`; with ``p_model`` (calibrated on earlier folds
        only), ``p_model_raw`` and ``p_<baseline>``.
    config : TrainingConfig
        Settings of the published model.
    tier : ModelTier
        Model tier of the target.
    checks : tuple of CheckResult
        Results of the methodological checks.
    plan : TrainingPlan
        Settings per cut-off, as searched or as given.
    """

    bundle: Bundle
    evaluation: Evaluation
    gate_result: GateResult
    folds: pd.DataFrame
    trials: pd.DataFrame
    predictions: pd.DataFrame
    config: TrainingConfig
    tier: ModelTier
    checks: tuple[CheckResult, ...]
    plan: TrainingPlan


def train(
    frame: TrainingFrame,
    company: Company,
    *,
    storage_url: str,
    progress: Progress | None = None,
    champion: TrainingConfig | None = None,
    evidence: Evidence | None = None,
    plan: TrainingPlan | None = None,
    published: Bundle | None = None,
    stopwatch: Stopwatch | None = None,
) -> TrainingResult:
    """Train one target.

    The rows are split into folds; settings are searched on the rows known at the earliest usable
    cut-off; the model is refitted at every cut-off and scores the later rows; the pooled
    out-of-time predictions are evaluated, checked and held against the gates, and calibrate the
    final model, which is refitted on all resolved rows.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    company : Company
        Configuration; `frame.target` is one of its targets.
    storage_url : str
        SQLAlchemy URL of Optuna's storage.
    progress : callable, optional
        Called with one line per step.
    champion : TrainingConfig, optional
        Settings of the champion, refitted on the same folds as a baseline.
    evidence : Evidence, optional
        Source data for the checks that need it; without it, those checks are skipped.
    plan : TrainingPlan, optional
        Plan of an earlier training: replaces the search, and the same rows then give an identical
        bundle.
    published : Bundle, optional
        The champion itself, compared on cohorts after its own cut-off.
    stopwatch : Stopwatch, optional
        Measures the model's fits on the folds (``model``) and every baseline by its name.

    Raises
    ------
    DataError
        Too few rows or events to train or test; the message gives the month they are expected in.
    """
    report = progress or (lambda _words: None)
    target = _target(company, frame.target)
    refuse_unknown_checks(company)
    rules = applied_rules_for(frame, company, target.outcome)
    frame = with_rules(frame, rules)
    folds = folds_of(frame, company)
    tier = choose_tier(count_events(frame.rows))
    report(f"{len(frame):,} rows, {tier.n_events} events, {len(folds)} folds: {tier.name}")
    if plan is None:
        plan = make_plan(
            frame, folds, tier, target, company, storage_url=storage_url, report=report
        )
    predictions = scored_forward(
        frame, folds, plan, champion=champion, report=report, stopwatch=stopwatch
    )
    if published is not None:
        predictions[CHAMPION_ITSELF] = published_since(frame, predictions, published)
    report("measuring")
    table = describe(frame, folds.first)
    evaluation = evaluate_predictions(
        predictions,
        table,
        company,
        target=frame.target,
        over=folds.over,
        notes=folds.notes,
        tuning=plan.note,
    )
    report("checking the method")
    checks = run_checks(
        CheckContext(frame, folds.first, plan.final, predictions, evaluation, company, evidence)
    )
    gate_result = apply_checks(evaluate_gates(evaluation, tier, company.gates), checks)
    report(f"verdict: {gate_result.verdict}")
    fitted, calibration = _final(frame, plan.final, predictions, gate_result)
    growth = None
    if target.outcome == "expansion":
        verdict = gate_result.verdict
        growth = growth_kinds(frame, predictions, folds, company.growth, verdict)
    recorded = TrainingEvidence(plan.final, tier, rules, evaluation, gate_result, checks)
    manifest = build_manifest(frame, company, target, recorded, fitted, calibration, growth)
    return TrainingResult(
        Bundle(manifest, fitted.predictor),
        evaluation,
        gate_result,
        table,
        plan.trials,
        predictions,
        plan.final,
        tier,
        tuple(checks),
        plan,
    )


def published_since(
    frame: TrainingFrame, predictions: pd.DataFrame, published: Bundle
) -> np.ndarray:
    """Return the published model's probabilities of rows that are not in its training data.

    Returns
    -------
    numpy.ndarray
        One per prediction; NaN where as_of is before the last label it was fitted on was known,
        and everywhere when the rows lack one of its features.
    """
    p = np.full(len(predictions), np.nan)
    cutoff = pd.Timestamp(published.manifest.labels_known_to)
    later = (predictions["as_of"] >= cutoff).to_numpy()
    if later.any() and set(published.encoder.names) <= set(frame.features.columns):
        rows = frame.features.iloc[predictions.loc[later, "position"].to_numpy()]
        p[later] = published.predict(published.encode(rows).matrix).p
    return p


def evaluate_predictions(
    predictions: pd.DataFrame,
    folds: pd.DataFrame,
    company: Company,
    *,
    target: str,
    over: str,
    notes: Sequence[str],
    tuning: str,
) -> Evaluation:
    """Evaluate out-of-time predictions with the company's settings."""
    settings = company.training
    drawing = Drawing(
        settings.bootstrap_draws,
        settings.seed,
        company.serving.capacity_per_month,
        settings.fold_days,
    )
    return evaluate(
        predictions, folds, drawing, target=target, over=over, notes=notes, tuning=tuning
    )


def folds_of(frame: TrainingFrame, company: Company) -> Folds:
    """Return the folds of a training; an error gives the month by which folds are expected."""
    settings = company.training
    try:
        return make_folds(
            frame,
            folds=settings.folds,
            fold_days=settings.fold_days,
            seed=settings.seed,
            repeats=settings.repeats,
        )
    except DataError as error:
        has_too_few_events = len(frame) and choose_tier(count_events(frame.rows)).kind != "lightgbm"
        words = sufficiency(frame, company).words if has_too_few_events else ""
        raise DataError(
            f"{error.what}; {words}" if words else error.what, where=error.where, fix=error.fix
        ) from error


def applied_rules_for(frame: TrainingFrame, company: Company, outcome: str) -> AppliedRules:
    """Return the company's rules for an outcome whose features the rows have.

    Raises
    ------
    ConfigError
        A rule names a feature that is neither in the catalogue nor a column of the rows.
    """
    known = [*(item.name for item in frame.info), *(item.name for item in feature_catalogue())]
    refuse_unknown_features(company.rules.own, known)
    levels = fit_encoder(frame).levels
    numbers = numeric_names([item.name for item in frame.info], levels)
    return AppliedRules.to(active_rules(company.rules, outcome), numbers)


def with_rules(frame: TrainingFrame, rules: AppliedRules) -> TrainingFrame:
    """Return the rows with ``n_rules``, the number of rules that hold; labels are not used."""
    matrix = fit_encoder(frame).encode(frame.features).matrix
    return replace(frame, rows=frame.rows.assign(n_rules=rules.matches(matrix).sum(axis=1)))


def _target(company: Company, name: str) -> Target:
    if name not in company.targets:
        raise ConfigError(
            f"the company has no target {name!r}",
            where="targets",
            fix=did_you_mean(name, company.targets),
        )
    return company.targets[name]


def make_plan(
    frame: TrainingFrame,
    folds: Folds,
    tier: ModelTier,
    target: Target,
    company: Company,
    *,
    storage_url: str,
    report: Progress,
) -> TrainingPlan:
    """Choose settings on the rows known at the earliest usable cut-off."""
    settings = company.training
    seeds = tuple(range(settings.seed, settings.seed + settings.model_seeds))
    trees = dict(starting_trees(tier, len(frame)))
    default = TrainingConfig(tier.kind, target.outcome, seeds, trees, threads=settings.threads)
    no_trials = pd.DataFrame()
    if tier.kind == "rates" or settings.tuning.trials == 0:
        return TrainingPlan(default, default, None, no_trials)
    if folds.over == "accounts":
        report(f"choosing settings within each of {len(folds)} folds, then on all rows")
        final, trials, note = nested.choose_config(default, frame, settings, storage_url)
        per_fold = nested.choose_per_fold(default, frame, folds, settings, storage_url)
        return TrainingPlan(final, default, None, trials, note, per_fold)
    needed = TREES_EVENTS if tier.kind == "lightgbm" else 0
    found = _earliest_searchable(frame, folds, company, needed)
    if found is None:
        note = "settings were not searched: no cut-off had enough events and history"
        return TrainingPlan(default, default, None, no_trials, note)
    position, known, inner = found
    if tier.kind == "linear":
        chosen = replace(default, strength=choose_strength(default, known, inner))
        return TrainingPlan(chosen, default, position, no_trials)
    report(f"searching settings: {settings.tuning.trials} trials on {len(known):,} rows")
    result: Search = search(
        default,
        known,
        inner,
        settings.tuning,
        storage_url=storage_url,
        space=space_for(tier, settings.tuning),
    )
    best = replace(default, trees=result.trees, rounds=result.rounds)
    return TrainingPlan(best, default, position, result.trials, result.note)


def _earliest_searchable(
    frame: TrainingFrame, folds: Folds, company: Company, needed: int
) -> tuple[int, TrainingFrame, Folds] | None:
    """Return the first fold whose training rows have enough events and two inner folds.

    Where none has two, the first with one.
    """
    settings = company.training
    only_one = None
    for position, fold in enumerate(folds.folds):
        known = frame.take(fold.train)
        if count_events(known.rows) < needed:
            continue
        try:
            inner = make_folds(
                known,
                folds=settings.tuning.inner_folds,
                fold_days=settings.fold_days,
                seed=settings.seed,
            )
        except DataError:
            continue  # too short a history before this cut-off; later ones have more
        if len(inner) >= min(2, settings.tuning.inner_folds):
            return position, known, inner
        only_one = only_one or (position, known, inner)
    return only_one


def scored_forward(
    frame: TrainingFrame,
    folds: Folds,
    plan: TrainingPlan,
    *,
    champion: TrainingConfig | None = None,
    report: Progress = lambda _words: None,
    stopwatch: Stopwatch | None = None,
) -> pd.DataFrame:
    """Return out-of-time predictions of the model and the baselines, calibrated forward in time."""
    parts = []
    for position, fold in enumerate(folds.folds):
        cut = f": cut-off {fold.cutoff:%Y-%m-%d}" if folds.over == "time" else ""
        report(f"fold {fold.number} of {len(folds)}{cut}")
        config = plan.at(position)
        parts.append(out_of_time(frame, fold, config, champion=champion, stopwatch=stopwatch))
    predictions = pd.concat(parts, ignore_index=True)
    predictions[f"p_{MODEL_RAW}"] = sigmoid(predictions["raw"].to_numpy())
    configs = [plan.at(position) for position in range(len(folds))]
    predictions[f"p_{MODEL}"] = _calibrated(frame, folds, configs, predictions, "raw")
    if champion is not None:
        champions = [champion] * len(folds)
        predictions["p_champion"] = _calibrated(
            frame, folds, champions, predictions, "raw_champion"
        )
    return predictions


def _calibrated(
    frame: TrainingFrame,
    folds: Folds,
    configs: Sequence[TrainingConfig],
    predictions: pd.DataFrame,
    column: str,
) -> np.ndarray:
    """Return probabilities, calibrated without the tested rows."""
    if folds.over == "time":
        return calibrated_forward(predictions, folds.cutoffs, column)
    raw = predictions[column].to_numpy(dtype=np.float64)
    return nested.calibrated(frame, folds, configs, raw, seed=configs[0].seeds[0])


def out_of_time(
    frame: TrainingFrame,
    fold: Fold,
    config: TrainingConfig,
    *,
    champion: TrainingConfig | None = None,
    stopwatch: Stopwatch | None = None,
) -> pd.DataFrame:
    """Fit at one cut-off and score the later rows; `stopwatch` measures each fit.

    Returns
    -------
    pandas.DataFrame
        One row per test row: the columns of `training.data.training_frame.ROW_COLUMNS`, position
        (in the frame), fold, repeat, is_headline (of the first repeat), is_newcomer (no training
        row of the entity), raw (log-odds of the model), raw_champion with a champion, and
        ``p_<baseline>``.
    """
    watch = stopwatch or Stopwatch()
    train_rows, test_rows = frame.take(fold.train), frame.take(fold.test)
    scored = test_rows.rows.copy()
    scored["position"] = fold.test
    scored["fold"] = fold.number
    scored["repeat"] = fold.repeat
    scored["is_headline"] = np.isin(fold.test, fold.headline) & (fold.repeat == 1)
    scored["is_newcomer"] = ~scored["entity_id"].isin(train_rows.rows["entity_id"])
    with watch.part(MODEL):
        scored["raw"] = fit(config, train_rows).raw(test_rows)
    if champion is not None:
        scored["raw_champion"] = fit(champion, train_rows).raw(test_rows)
    is_growth = config.outcome == "expansion"
    baselines = baselines_for(frame, is_growth=is_growth) if fold.repeat == 1 else {}
    for name, fit_baseline in baselines.items():
        with watch.part(name):
            scored[f"p_{name}"] = fit_baseline(train_rows)(test_rows)
    return scored


def calibrated_forward(
    predictions: pd.DataFrame, cutoffs: Sequence[tuple[int, pd.Timestamp]], column: str
) -> np.ndarray:
    """Return probabilities, each fold calibrated on earlier folds' labels known at its cut-off."""
    raw = predictions[column].to_numpy()
    p = np.empty(len(raw))
    for number, cutoff in cutoffs:
        here = (predictions["fold"] == number).to_numpy()
        before = (predictions["fold"] < number).to_numpy()
        before &= (predictions["label_known_at"] <= cutoff).to_numpy()
        p[here] = sigmoid(pooled_calibration(predictions[before], column)(raw[here]))
    return p


def pooled_calibration(predictions: pd.DataFrame, column: str = "raw") -> Calibration:
    """Fit the calibration to out-of-time predictions, each entity weighted 1 per test period.

    Folds over accounts count as one period.
    """
    n_rows = predictions.groupby(["fold", "entity_id"], sort=False)["label"].transform("size")
    if "repeat" in predictions:
        n_rows = n_rows * predictions["repeat"].nunique()
    return fit_calibration(
        predictions[column].to_numpy(dtype=np.float64),
        predictions["label"].to_numpy(dtype=np.float64),
        1.0 / n_rows.to_numpy(dtype=np.float64),
        _age(predictions),
    )


def _age(predictions: pd.DataFrame) -> np.ndarray:
    """Return the age of each prediction in test periods, 0 for the newest."""
    began = predictions.groupby("fold", sort=False)["as_of"].transform("min")
    return began.rank(method="dense", ascending=False).to_numpy(dtype=np.float64) - 1.0


def _final(
    frame: TrainingFrame, config: TrainingConfig, predictions: pd.DataFrame, gate_result: GateResult
) -> tuple[FittedModel, Calibration]:
    """Refit on all resolved rows; without a signal, return the base rate."""
    fitted = fit(config, frame)
    if gate_result.verdict != "no_signal":
        return with_draws(config, fitted, frame), pooled_calibration(predictions)
    rate: Predictor = constant_rate(frame, fitted.encoder)
    return FittedModel(rate, fitted.encoder), Calibration()
