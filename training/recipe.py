"""From a typed frame to a judged, serialisable model: the one function that runs it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from configs.company import Company, Target
from configs.errors import ConfigError, DataError, did_you_mean
from training.baselines import baselines_for
from training.bundle import Bundle, Calibration, sigmoid
from training.calibrate import fit_calibration
from training.checks.check import CheckResult
from training.checks.context import Context, Evidence
from training.checks.registry import refuse_unknown, run_checks
from training.encode import Encoder
from training.evaluate import MODEL, MODEL_RAW, Drawing, Evaluation, evaluate
from training.fit import (
    TREES_EVENTS,
    Fitted,
    Recipe,
    Rung,
    choose_rung,
    constant_rate,
    fit,
)
from training.frame import TrainingFrame
from training.gates import Judgement, hold_to_checks, judge
from training.metrics import none_if_nan
from training.models import Predictor
from training.splits import Fold, Folds, count_events, describe, make_folds
from training.tune import Search, choose_strength, search
from training.words import catalogue_version

REFERENCE_QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Kept per feature, to tell later whether a value is unusual or a book has drifted."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
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
        What could not be searched and why; empty otherwise.
    """

    final: Recipe
    early: Recipe
    searched_at: int | None
    trials: pd.DataFrame
    note: str = ""

    def at(self, position: int) -> Recipe:
        """Return the recipe of the fold at `position`."""
        late = self.searched_at is not None and position >= self.searched_at
        return self.final if late else self.early


@dataclass(frozen=True)
class Trained:
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
        One row per fold, from `training.splits.describe`.
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
    """

    bundle: Bundle
    evaluation: Evaluation
    judgement: Judgement
    folds: pd.DataFrame
    trials: pd.DataFrame
    predictions: pd.DataFrame
    recipe: Recipe
    rung: Rung
    checks: tuple[CheckResult, ...]


def train(
    frame: TrainingFrame,
    company: Company,
    *,
    storage_url: str,
    progress: Progress | None = None,
    champion: Recipe | None = None,
    evidence: Evidence | None = None,
) -> Trained:
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

    Raises
    ------
    DataError
        When the rows cannot teach or test anything.
    """
    say = progress or (lambda _words: None)
    target = _target(company, frame.target)
    settings = company.training
    refuse_unknown(company)
    folds = make_folds(
        frame, folds=settings.folds, fold_days=settings.fold_days, seed=settings.seed
    )
    rung = choose_rung(count_events(frame.rows))
    say(f"{len(frame):,} rows, {rung.n_events} events, {len(folds)} folds: {rung.name}")
    plan = make_plan(frame, folds, rung, target, company, storage_url=storage_url, say=say)
    predictions = scored_forward(frame, folds, plan, champion=champion, say=say)
    say("measuring")
    table = describe(frame, folds)
    evaluation = evaluate(
        predictions,
        table,
        Drawing(
            settings.bootstrap_draws,
            settings.seed,
            company.serving.capacity_per_month,
            settings.fold_days,
        ),
        target=frame.target,
        over=folds.over,
        notes=[*folds.notes, *([plan.note] if plan.note else [])],
    )
    say("checking the method")
    checks = run_checks(
        Context(frame, folds, plan.final, predictions, evaluation, company, evidence)
    )
    judgement = hold_to_checks(judge(evaluation, rung, company.gates), checks)
    say(f"verdict: {judgement.verdict}")
    fitted, calibration = _final(frame, plan.final, predictions, judgement)
    manifest = _manifest(frame, company, target, plan.final, rung, evaluation, judgement)
    manifest |= {"checks": [check.as_dict() for check in checks]}
    manifest |= _fitted_part(frame, fitted, calibration)
    return Trained(
        Bundle(manifest, fitted.predictor),
        evaluation,
        judgement,
        table,
        plan.trials,
        predictions,
        plan.final,
        rung,
        tuple(checks),
    )


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
    rung: Rung,
    target: Target,
    company: Company,
    *,
    storage_url: str,
    say: Progress,
) -> Plan:
    """Choose settings on the rows the earliest usable cut-off knew."""
    settings = company.training
    seeds = tuple(range(settings.seed, settings.seed + settings.model_seeds))
    default = Recipe(rung.kind, target.outcome, seeds, threads=settings.threads)
    nothing = pd.DataFrame()
    if rung.kind == "rates" or settings.tuning.trials == 0:
        return Plan(default, default, None, nothing)
    needed = TREES_EVENTS if rung.kind == "lightgbm" else 0
    found = _earliest_searchable(frame, folds, company, needed)
    if found is None:
        note = "settings were not searched: no cut-off knew enough events and history"
        return Plan(default, default, None, nothing, note)
    position, known, inner = found
    if rung.kind == "linear":
        chosen = replace(default, strength=choose_strength(default, known, inner))
        return Plan(chosen, default, position, nothing)
    say(f"searching settings: {settings.tuning.trials} trials on {len(known):,} rows")
    result: Search = search(default, known, inner, settings.tuning, storage_url=storage_url)
    best = replace(default, trees=result.trees, rounds=result.rounds)
    return Plan(best, default, position, result.trials, result.note)


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
    plan: Plan,
    *,
    champion: Recipe | None = None,
    say: Progress = lambda _words: None,
) -> pd.DataFrame:
    """Return out-of-time predictions of the plan and the baselines, calibrated forward in time."""
    parts = []
    for position, fold in enumerate(folds.folds):
        say(f"fold {fold.number} of {len(folds)}: cut-off {fold.cutoff:%Y-%m-%d}")
        parts.append(out_of_time(frame, fold, plan.at(position), champion=champion))
    predictions = pd.concat(parts, ignore_index=True)
    predictions[f"p_{MODEL_RAW}"] = sigmoid(predictions["raw"].to_numpy())
    predictions[f"p_{MODEL}"] = calibrated_forward(predictions, folds, "raw")
    if champion is not None:
        predictions["p_champion"] = calibrated_forward(predictions, folds, "raw_champion")
    return predictions


def out_of_time(
    frame: TrainingFrame, fold: Fold, recipe: Recipe, *, champion: Recipe | None = None
) -> pd.DataFrame:
    """Fit at one cut-off and score what came after.

    Returns
    -------
    pandas.DataFrame
        One row per test row: the columns of `training.frame.ROW_COLUMNS`, position (in the frame),
        fold, is_headline, is_newcomer (no training row of the entity), raw (log-odds of the
        recipe), raw_champion where asked for, and ``p_<baseline>``.
    """
    train_rows, test_rows = frame.take(fold.train), frame.take(fold.test)
    scored = test_rows.rows.copy()
    scored["position"] = fold.test
    scored["fold"] = fold.number
    scored["is_headline"] = np.isin(fold.test, fold.headline)
    scored["is_newcomer"] = ~scored["entity_id"].isin(train_rows.rows["entity_id"])
    scored["raw"] = fit(recipe, train_rows).raw(test_rows)
    if champion is not None:
        scored["raw_champion"] = fit(champion, train_rows).raw(test_rows)
    for name, fit_baseline in baselines_for(frame).items():
        scored[f"p_{name}"] = fit_baseline(train_rows)(test_rows)
    return scored


def calibrated_forward(predictions: pd.DataFrame, folds: Folds, column: str) -> np.ndarray:
    """Return probabilities, each fold calibrated on earlier folds' labels known at its cut-off."""
    raw = predictions[column].to_numpy()
    p = np.empty(len(raw))
    for fold in folds.folds:
        here = (predictions["fold"] == fold.number).to_numpy()
        before = (predictions["fold"] < fold.number).to_numpy()
        if folds.over == "time":
            before &= (predictions["label_known_at"] <= fold.cutoff).to_numpy()
        p[here] = sigmoid(pooled_calibration(predictions[before], column)(raw[here]))
    return p


def pooled_calibration(predictions: pd.DataFrame, column: str = "raw") -> Calibration:
    """Fit the calibration to out-of-time predictions: one vote per entity and fold."""
    votes = predictions.groupby(["fold", "entity_id"], sort=False)["label"].transform("size")
    return fit_calibration(
        predictions[column].to_numpy(dtype=np.float64),
        predictions["label"].to_numpy(dtype=np.float64),
        1.0 / votes.to_numpy(dtype=np.float64),
    )


def _final(
    frame: TrainingFrame, recipe: Recipe, predictions: pd.DataFrame, judgement: Judgement
) -> tuple[Fitted, Calibration]:
    """Refit on everything resolved; without a signal, the base rate."""
    fitted = fit(recipe, frame)
    if judgement.verdict != "no_signal":
        return fitted, pooled_calibration(predictions)
    rate: Predictor = constant_rate(frame, fitted.encoder)
    return Fitted(rate, fitted.encoder), Calibration()


def _manifest(
    frame: TrainingFrame,
    company: Company,
    target: Target,
    recipe: Recipe,
    rung: Rung,
    evaluation: Evaluation,
    judgement: Judgement,
) -> dict[str, Any]:
    """Return what the bundle says about its making."""
    rows = frame.rows
    return {
        "target": frame.target,
        "outcome": target.outcome,
        "entity": company.entity,
        "label_contract": target.model_dump(mode="json"),
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
        "built_with": {name: version(name) for name in ("lightgbm", "numpy", "scikit-learn")},
    }


def _fitted_part(
    frame: TrainingFrame,
    fitted: Fitted,
    calibration: Calibration,
) -> dict[str, Any]:
    """Return what scoring needs beside the model's files."""
    return {
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "reference": reference(fitted.encoder, fitted.encoder.encode(frame.features).matrix),
        "calibration": {**asdict(calibration), "covariance": list(calibration.covariance)},
        "base_rate": float(sigmoid(np.asarray(constant_rate(frame, fitted.encoder).base))),
    }


def reference(encoder: Encoder, matrix: np.ndarray) -> dict[str, Mapping[str, Any]]:
    """Return, per feature, what its values looked like in training.

    Returns
    -------
    dict
        Numbers: missing (share), low, high, quantiles at `REFERENCE_QUANTILES`. Categories:
        missing (share, unseen levels included), shares per level.
    """
    return {
        name: _category(column, len(encoder.levels[name]))
        if name in encoder.levels
        else _distribution(column)
        for name, column in zip(encoder.names, matrix.T, strict=True)
    }


def _category(column: np.ndarray, n_levels: int) -> dict[str, Any]:
    shares = [float(np.mean(column == code)) for code in range(n_levels)]
    return {"missing": float(np.isnan(column).mean()), "shares": shares}


def _distribution(column: np.ndarray) -> dict[str, Any]:
    known = column[~np.isnan(column)]
    quantiles = np.quantile(known, REFERENCE_QUANTILES) if len(known) else []
    return {
        "missing": float(np.isnan(column).mean()),
        "low": none_if_nan(known.min()) if len(known) else None,
        "high": none_if_nan(known.max()) if len(known) else None,
        "quantiles": [float(value) for value in quantiles],
    }
