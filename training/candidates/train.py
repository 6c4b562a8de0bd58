"""From a typed frame to a judged, serialisable model: the one function that runs it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from configs.runtime.errors import ConfigError, DataError, did_you_mean
from configs.runtime.stopwatch import Stopwatch
from configs.schema.company import Company, Target
from configs.schema.rules import active_rules
from features.signals import feature_catalogue
from training.candidates.gates import GateResult, hold_to_checks, judge
from training.checks.base import CheckResult
from training.checks.context import CheckContext, Evidence
from training.checks.event_study import aligned
from training.checks.registry import refuse_unknown_checks, run_checks
from training.data.splits import Fold, Folds, count_events, describe, make_folds
from training.data.training_frame import TrainingFrame
from training.evaluation.drift import histogram
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.metrics import none_if_nan
from training.evaluation.sampling import CHAMPION_ITSELF, MODEL, MODEL_RAW, Drawing
from training.fitting import nested_cv as nested
from training.fitting.baselines import baselines_for
from training.fitting.calibration import fit_calibration
from training.fitting.expansion_size import growth_part
from training.fitting.fit import (
    TREES_EVENTS,
    FittedModel,
    ModelTier,
    TrainingConfig,
    choose_tier,
    constant_rate,
    fit,
    fit_encoder,
    starting_trees,
    with_draws,
)
from training.fitting.sufficiency import evidence_words, sufficiency
from training.fitting.tune import Search, choose_strength, search, space_for
from training.model.bundle import Bundle, Calibration, sigmoid
from training.model.encoder import Encoder
from training.model.predictors import Predictor
from training.model.reason_text import catalogue_version
from training.model.rule_model import AppliedRules, as_kept, numeric_names
from training.model.rule_model import refuse_unknown_features as refuse_unknown_features

REFERENCE_QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Kept per feature, to tell later whether a value is unusual or a book has drifted."""

RECENT_DAYS = 364

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TrainingPlan:
    """The recipe of each cut-off: searched settings only where the search saw nothing later.

    Attributes
    ----------
    final : Recipe
        Of the published model, and of every fold from the one the search stands for.
    early : Recipe
        Of the folds before it.
    searched_at : int or None
        Position of the fold whose training rows were searched; None without a search.
    trials : pandas.DataFrame
        The search's trials; empty without one.
    note : str
        What tuning gained, or why nothing was searched; empty where there is nothing to tune.
    nested : tuple of Recipe
        One per fold over accounts, each chosen on the training rows of its fold alone.
    """

    final: TrainingConfig
    early: TrainingConfig
    searched_at: int | None
    trials: pd.DataFrame
    note: str = ""
    nested: tuple[TrainingConfig, ...] = ()

    def at(self, position: int) -> TrainingConfig:
        """Return the recipe of the fold at `position`."""
        if self.nested:
            return self.nested[position]
        late = self.searched_at is not None and position >= self.searched_at
        return self.final if late else self.early

    def as_dict(self) -> dict[str, Any]:
        """Return what was decided, without the trials that led to it: an input of every refit."""
        return {
            "final": self.final.as_dict(),
            "early": self.early.as_dict(),
            "searched_at": self.searched_at,
            "note": self.note,
            "nested": [item.as_dict() for item in self.nested],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], *, threads: int = 0) -> TrainingPlan:
        """Read back what `as_dict` returned: nothing is searched again."""
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
    """Everything a training run found.

    Attributes
    ----------
    bundle : Bundle
        The model to publish; not yet written.
    evaluation : Evaluation
        Out-of-time measures.
    judgement : Judgement
        Verdict and gates.
    folds : pandas.DataFrame
        One row per fold, from `training.data.splits.describe`.
    trials : pandas.DataFrame
        One row per trial of the search; empty without one.
    predictions : pandas.DataFrame
        Out-of-time predictions, see `out_of_time`; with ``p_model`` (calibrated on earlier folds
        only), ``p_model_raw`` and ``p_<baseline>``.
    recipe : Recipe
        How the model was fitted.
    rung : Rung
        Where the target stands on the ladder.
    checks : tuple of CheckResult
        What every methodological check found.
    plan : Plan
        The recipe of each cut-off, as searched or as given.
    """

    bundle: Bundle
    evaluation: Evaluation
    judgement: GateResult
    folds: pd.DataFrame
    trials: pd.DataFrame
    predictions: pd.DataFrame
    recipe: TrainingConfig
    rung: ModelTier
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

    Folds are cut; settings are searched on what the earliest usable cut-off knew; the recipe is
    refitted at every cut-off and scores what came after; the pooled out-of-time predictions are
    measured, checked, judged, and calibrate the model that is refitted on everything resolved.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    company : Company
        Configuration; `frame.target` is one of its targets.
    storage_url : str
        SQLAlchemy URL of Optuna's storage.
    progress : callable, optional
        Told in words what happens.
    champion : Recipe, optional
        The champion's recipe, refitted on the same folds to compare with.
    evidence : Evidence, optional
        What the checks need from the sources; without it, those checks are skipped.
    plan : Plan, optional
        What an earlier training decided; nothing is searched then, and the same rows give the same
        bundle to the byte.
    published : Bundle, optional
        The champion itself, asked only about cohorts after its own cut-off.
    stopwatch : Stopwatch, optional
        Measures the model's fits on the folds (``model``) and every baseline by its name.

    Raises
    ------
    DataError
        When the rows cannot teach or test anything; it says what is missing and about when it will
        be there.
    """
    say = progress or (lambda _words: None)
    target = _target(company, frame.target)
    refuse_unknown_checks(company)
    rules = applied_rules_for(frame, company, target.outcome)
    frame = with_rules(frame, rules)
    folds = folds_of(frame, company)
    rung = choose_tier(count_events(frame.rows))
    say(f"{len(frame):,} rows, {rung.n_events} events, {len(folds)} folds: {rung.name}")
    if plan is None:
        plan = make_plan(frame, folds, rung, target, company, storage_url=storage_url, say=say)
    predictions = scored_forward(
        frame, folds, plan, champion=champion, say=say, stopwatch=stopwatch
    )
    if published is not None:
        predictions[CHAMPION_ITSELF] = published_since(frame, predictions, published)
    say("measuring")
    table = describe(frame, folds.first)
    evaluation = evaluated(
        predictions,
        table,
        company,
        target=frame.target,
        over=folds.over,
        notes=folds.notes,
        tuning=plan.note,
    )
    say("checking the method")
    checks = run_checks(
        CheckContext(frame, folds.first, plan.final, predictions, evaluation, company, evidence)
    )
    judgement = hold_to_checks(judge(evaluation, rung, company.gates), checks)
    say(f"verdict: {judgement.verdict}")
    fitted, calibration = _final(frame, plan.final, predictions, judgement)
    manifest = _manifest(frame, company, target, plan.final, rung, evaluation, judgement)
    manifest |= _evidence_part(frame, company, rung)
    if rung.kind == "rates":
        manifest |= {"rules": as_kept(rules.rules), "rules_without_data": list(rules.without)}
    manifest |= {"checks": [check.as_dict() for check in checks]}
    manifest |= _aligned_part(frame)
    manifest |= _fitted_part(frame, fitted, calibration)
    if target.outcome == "expansion":
        verdict = judgement.verdict
        manifest |= {"growth": growth_part(frame, predictions, folds, company.growth, verdict)}
    return TrainingResult(
        Bundle(manifest, fitted.predictor),
        evaluation,
        judgement,
        table,
        plan.trials,
        predictions,
        plan.final,
        rung,
        tuple(checks),
        plan,
    )


def published_since(
    frame: TrainingFrame, predictions: pd.DataFrame, published: Bundle
) -> np.ndarray:
    """Return the published model's probabilities of the rows it cannot have learned from.

    Returns
    -------
    numpy.ndarray
        One per prediction; NaN where as_of lies before the last label it was fitted on was known,
        and everywhere when it needs features that are not there.
    """
    p = np.full(len(predictions), np.nan)
    cutoff = pd.Timestamp(published.manifest["labels_known_to"])
    later = (predictions["as_of"] >= cutoff).to_numpy()
    if later.any() and set(published.encoder.names) <= set(frame.features.columns):
        asked = frame.features.iloc[predictions.loc[later, "position"].to_numpy()]
        p[later] = published.predict(published.encode(asked).matrix).p
    return p


def evaluated(
    predictions: pd.DataFrame,
    folds: pd.DataFrame,
    company: Company,
    *,
    target: str,
    over: str,
    notes: Sequence[str],
    tuning: str,
) -> Evaluation:
    """Evaluate out-of-time predictions with the settings of the company."""
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
    """Return the folds of a training; a refusal says about when there will be enough for them."""
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
        is_thin = len(frame) and choose_tier(count_events(frame.rows)).kind != "lightgbm"
        words = sufficiency(frame, company).words if is_thin else ""
        raise DataError(
            f"{error.what}; {words}" if words else error.what, where=error.where, fix=error.fix
        ) from error


def applied_rules_for(frame: TrainingFrame, company: Company, outcome: str) -> AppliedRules:
    """Return the company's rules for an outcome, those whose features these rows have.

    Raises
    ------
    ConfigError
        A rule of the company asks for a feature that is in no catalogue and no column.
    """
    known = [*(item.name for item in frame.info), *(item.name for item in feature_catalogue())]
    refuse_unknown_features(company.rules.own, known)
    levels = fit_encoder(frame).levels
    numbers = numeric_names([item.name for item in frame.info], levels)
    return AppliedRules.to(active_rules(company.rules, outcome), numbers)


def with_rules(frame: TrainingFrame, rules: AppliedRules) -> TrainingFrame:
    """Return the rows with ``n_rules``: how many rules hold. No outcome is looked at."""
    matrix = fit_encoder(frame).encode(frame.features).matrix
    return replace(frame, rows=frame.rows.assign(n_rules=rules.held(matrix).sum(axis=1)))


def _evidence_part(frame: TrainingFrame, company: Company, rung: ModelTier) -> dict[str, Any]:
    """Return how much there was to learn from, and what is missing."""
    found = sufficiency(frame, company)
    return {"outlook": found.as_dict(), "evidence": evidence_words(rung, found)}


def _aligned_part(frame: TrainingFrame) -> dict[str, Any]:
    """Return how features moved before the decision; nothing where too few decisions are dated."""
    found = aligned(frame)
    return {} if found is None else {"aligned": found.as_dict()}


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
    rung: ModelTier,
    target: Target,
    company: Company,
    *,
    storage_url: str,
    say: Progress,
) -> TrainingPlan:
    """Choose settings on the rows the earliest usable cut-off knew."""
    settings = company.training
    seeds = tuple(range(settings.seed, settings.seed + settings.model_seeds))
    trees = dict(starting_trees(rung, len(frame)))
    default = TrainingConfig(rung.kind, target.outcome, seeds, trees, threads=settings.threads)
    nothing = pd.DataFrame()
    if rung.kind == "rates" or settings.tuning.trials == 0:
        return TrainingPlan(default, default, None, nothing)
    if folds.over == "accounts":
        say(f"choosing settings inside each of {len(folds)} folds, then on all rows")
        final, trials, note = nested.choose_config(default, frame, settings, storage_url)
        inside = nested.choose_inside(default, frame, folds, settings, storage_url)
        return TrainingPlan(final, default, None, trials, note, inside)
    needed = TREES_EVENTS if rung.kind == "lightgbm" else 0
    found = _earliest_searchable(frame, folds, company, needed)
    if found is None:
        note = "settings were not searched: no cut-off knew enough events and history"
        return TrainingPlan(default, default, None, nothing, note)
    position, known, inner = found
    if rung.kind == "linear":
        chosen = replace(default, strength=choose_strength(default, known, inner))
        return TrainingPlan(chosen, default, position, nothing)
    say(f"searching settings: {settings.tuning.trials} trials on {len(known):,} rows")
    result: Search = search(
        default,
        known,
        inner,
        settings.tuning,
        storage_url=storage_url,
        space=space_for(rung, settings.tuning),
    )
    best = replace(default, trees=result.trees, rounds=result.rounds)
    return TrainingPlan(best, default, position, result.trials, result.note)


def _earliest_searchable(
    frame: TrainingFrame, folds: Folds, company: Company, needed: int
) -> tuple[int, TrainingFrame, Folds] | None:
    """Return the first fold whose training rows hold enough events and two inner folds.

    Where none holds two, the first with one.
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
            continue  # too short a history before this cut-off; the next knows more
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
    say: Progress = lambda _words: None,
    stopwatch: Stopwatch | None = None,
) -> pd.DataFrame:
    """Return out-of-time predictions of the plan and the baselines, calibrated forward in time."""
    parts = []
    for position, fold in enumerate(folds.folds):
        cut = f": cut-off {fold.cutoff:%Y-%m-%d}" if folds.over == "time" else ""
        say(f"fold {fold.number} of {len(folds)}{cut}")
        recipe = plan.at(position)
        parts.append(out_of_time(frame, fold, recipe, champion=champion, stopwatch=stopwatch))
    predictions = pd.concat(parts, ignore_index=True)
    predictions[f"p_{MODEL_RAW}"] = sigmoid(predictions["raw"].to_numpy())
    recipes = [plan.at(position) for position in range(len(folds))]
    predictions[f"p_{MODEL}"] = _calibrated(frame, folds, recipes, predictions, "raw")
    if champion is not None:
        again = [champion] * len(folds)
        predictions["p_champion"] = _calibrated(frame, folds, again, predictions, "raw_champion")
    return predictions


def _calibrated(
    frame: TrainingFrame,
    folds: Folds,
    recipes: Sequence[TrainingConfig],
    predictions: pd.DataFrame,
    column: str,
) -> np.ndarray:
    """Return probabilities, calibrated without the rows they are tested on."""
    if folds.over == "time":
        return calibrated_forward(predictions, folds.cutoffs, column)
    raw = predictions[column].to_numpy(dtype=np.float64)
    return nested.calibrated(frame, folds, recipes, raw, seed=recipes[0].seeds[0])


def out_of_time(
    frame: TrainingFrame,
    fold: Fold,
    recipe: TrainingConfig,
    *,
    champion: TrainingConfig | None = None,
    stopwatch: Stopwatch | None = None,
) -> pd.DataFrame:
    """Fit at one cut-off and score what came after; `stopwatch` measures each fit.

    Returns
    -------
    pandas.DataFrame
        One row per test row: the columns of `training.data.training_frame.ROW_COLUMNS`, position
        (in the frame), fold, repeat, is_headline (of the first repeat), is_newcomer (no training
        row of the entity), raw (log-odds of the recipe), raw_champion where asked for, and
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
        scored["raw"] = fit(recipe, train_rows).raw(test_rows)
    if champion is not None:
        scored["raw_champion"] = fit(champion, train_rows).raw(test_rows)
    is_growth = recipe.outcome == "expansion"
    wanted = baselines_for(frame, is_growth=is_growth) if fold.repeat == 1 else {}
    for name, fit_baseline in wanted.items():
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
    """Fit the calibration to out-of-time predictions: one vote per entity and test period.

    Folds over accounts are all of one period.
    """
    votes = predictions.groupby(["fold", "entity_id"], sort=False)["label"].transform("size")
    if "repeat" in predictions:
        votes = votes * predictions["repeat"].nunique()
    return fit_calibration(
        predictions[column].to_numpy(dtype=np.float64),
        predictions["label"].to_numpy(dtype=np.float64),
        1.0 / votes.to_numpy(dtype=np.float64),
        _age(predictions),
    )


def _age(predictions: pd.DataFrame) -> np.ndarray:
    """Return how many test periods ago each row was predicted, 0 the newest."""
    began = predictions.groupby("fold", sort=False)["as_of"].transform("min")
    return began.rank(method="dense", ascending=False).to_numpy(dtype=np.float64) - 1.0


def _final(
    frame: TrainingFrame, recipe: TrainingConfig, predictions: pd.DataFrame, judgement: GateResult
) -> tuple[FittedModel, Calibration]:
    """Refit on everything resolved; without a signal, the base rate."""
    fitted = fit(recipe, frame)
    if judgement.verdict != "no_signal":
        return with_draws(recipe, fitted, frame), pooled_calibration(predictions)
    rate: Predictor = constant_rate(frame, fitted.encoder)
    return FittedModel(rate, fitted.encoder), Calibration()


def _manifest(
    frame: TrainingFrame,
    company: Company,
    target: Target,
    recipe: TrainingConfig,
    rung: ModelTier,
    evaluation: Evaluation,
    judgement: GateResult,
) -> dict[str, Any]:
    """Return what the bundle says about its making."""
    rows = frame.rows
    return {
        "target": frame.target,
        "outcome": target.outcome,
        "entity": company.entity,
        "label_contract": dict(frame.contract) or target.model_dump(mode="json"),
        "config_hash": company.config_hash,
        "training_fingerprint": frame.fingerprint(),
        "n_rows": len(frame),
        "n_entities": int(rows["entity_id"].nunique()),
        "trained_from": rows["as_of"].min().isoformat(),
        "trained_to": rows["as_of"].max().isoformat(),
        "labels_known_to": rows["label_known_at"].max().isoformat(),
        "recipe": recipe.as_dict(),
        "seeds": list(recipe.seeds),
        "rung": rung.as_dict(),
        "verdict": judgement.verdict,
        "is_provisional": judgement.verdict == "provisional",
        "gates": judgement.as_dict()["gates"],
        "metrics": evaluation.summary(),
        "catalogue_version": catalogue_version(),
        "built_with": built_with(),
    }


def built_with() -> dict[str, str]:
    """Return the versions of the libraries that decide what is fitted."""
    return {name: version(name) for name in ("lightgbm", "numpy", "scikit-learn")}


def _fitted_part(
    frame: TrainingFrame,
    fitted: FittedModel,
    calibration: Calibration,
) -> dict[str, Any]:
    """Return what scoring needs beside the model's files."""
    matrix, recent = fitted.encoder.encode(frame.features).matrix, _recent(frame)
    return {
        "features": [item.as_dict() for item in frame.info],
        **({"reading": dict(frame.reading)} if frame.reading else {}),
        "encoder": fitted.encoder.as_dict(),
        "reference": reference(fitted.encoder, matrix, recent),
        "reference_entities": int(frame.rows["entity_id"][recent].nunique()),
        "calibration": {**asdict(calibration), "covariance": list(calibration.covariance)},
        "base_rate": float(sigmoid(np.asarray(constant_rate(frame, fitted.encoder).base))),
    }


def _recent(frame: TrainingFrame) -> np.ndarray:
    """Return which rows a book is held against: those of the last year.

    Older ones know less, because records begin somewhere, which is no drift of today's accounts.
    """
    as_of = frame.rows["as_of"]
    recent: np.ndarray = (as_of > as_of.max() - pd.Timedelta(days=RECENT_DAYS)).to_numpy()
    return recent


def reference(
    encoder: Encoder, matrix: np.ndarray, recent: np.ndarray | None = None
) -> dict[str, Mapping[str, Any]]:
    """Return, per feature, what its values looked like in training.

    Parameters
    ----------
    encoder : Encoder
        Names and levels.
    matrix : numpy.ndarray
        (rows, features) of all training rows.
    recent : numpy.ndarray, optional
        (rows,) bool: the rows a later book is held against; all of them by default.

    Returns
    -------
    dict
        Numbers: missing (share), low, high, quantiles at `REFERENCE_QUANTILES`. Categories:
        missing (share, unseen levels included), shares per level. Both: edges and counts of the
        recent rows, see `training.evaluation.drift.histogram`.
    """
    chosen = np.ones(len(matrix), dtype=bool) if recent is None else recent
    return {
        name: _category(column, len(encoder.levels[name]), chosen)
        if name in encoder.levels
        else _distribution(column, chosen)
        for name, column in zip(encoder.names, matrix.T, strict=True)
    }


def _category(column: np.ndarray, n_levels: int, recent: np.ndarray) -> dict[str, Any]:
    shares = [float(np.mean(column == code)) for code in range(n_levels)]
    codes = [float(code) for code in range(n_levels - 1)]
    return {
        "missing": float(np.isnan(column).mean()),
        "shares": shares,
        **histogram(column[recent], codes),
    }


def _distribution(column: np.ndarray, recent: np.ndarray) -> dict[str, Any]:
    known = column[~np.isnan(column)]
    quantiles = np.quantile(known, REFERENCE_QUANTILES) if len(known) else []
    return {
        "missing": float(np.isnan(column).mean()),
        "low": none_if_nan(known.min()) if len(known) else None,
        "high": none_if_nan(known.max()) if len(known) else None,
        "quantiles": [float(value) for value in quantiles],
        **histogram(column[recent], quantiles),
    }
