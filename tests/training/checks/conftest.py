"""One finished training as the checks see it, and ways to plant faults in it."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from configs.schema.company import Checks
from features.tables.catalog import FeatureInfo
from training.candidates.train import TrainingPlan, scored_forward
from training.checks import (
    CancellationCategories,
    CheckContext,
    Evidence,
    Visibility,
    check_catalogue,
    run_checks,
)
from training.data.splits import describe, make_folds
from training.data.training_frame import TrainingFrame
from training.evaluation.evaluate import evaluate
from training.evaluation.sampling import Drawing
from training.fitting.baselines import baselines_for
from training.fitting.fit import TrainingConfig


def context_of(frame, company, *, evidence=None) -> CheckContext:
    """Train as `training.candidates.train.train` does, with few rounds, up to the checks."""
    settings = company.training
    folds = make_folds(frame, folds=settings.folds, fold_days=settings.fold_days)
    recipe = TrainingConfig("lightgbm", "churn", (7,), rounds=60, threads=1)
    predictions = scored_forward(frame, folds, TrainingPlan(recipe, recipe, None, pd.DataFrame()))
    evaluation = evaluate(
        predictions,
        describe(frame, folds),
        Drawing(100, 7, 20, settings.fold_days),
        target=frame.target,
        over=folds.over,
    )
    return CheckContext(frame, folds, recipe, predictions, evaluation, company, evidence)


@pytest.fixture(scope="session")
def make_context(small):
    def make(frame, **training) -> CheckContext:
        return context_of(frame, small.company(**training))

    return make


@pytest.fixture(scope="session")
def clean(frame, make_context) -> CheckContext:
    """A training with a real signal and no fault. Not to be changed."""
    assert set(baselines_for(frame)) >= {"constant", "calendar"}
    return make_context(frame)


@pytest.fixture(scope="session")
def with_feature(make_context):
    """Train with one more column: `with_feature(frame, values)`."""

    def make(frame: TrainingFrame, values) -> CheckContext:
        return make_context(add_feature(frame, values))

    return make


def add_feature(frame: TrainingFrame, values) -> TrainingFrame:
    info = FeatureInfo("planted", "usage", "planted", "", "ratio", 28, "adoption")
    features = frame.features.assign(planted=values)
    return replace(frame, features=features, info=(*frame.info, info))


@pytest.fixture(scope="session")
def with_column():
    """Add a column to a frame without training anew: `with_column(frame, values)`."""
    return add_feature


@pytest.fixture(scope="session")
def find():
    """Run one check: `find("BW-L02", context)`."""
    by_code = {check.code: check for check in check_catalogue()}
    return lambda code, context: by_code[code].run(context)


@pytest.fixture(scope="session")
def evidence(frame) -> Evidence:
    """What a faultless company's sources say: the past is rebuilt as it was."""
    day = frame.rows["as_of"].unique()[6]
    here = (frame.rows["as_of"] == day).to_numpy()
    values = frame.features.drop(columns="plan")[here]
    values = values.set_axis(frame.rows.loc[here, "entity_id"], axis=0)
    last = (frame.rows["as_of"] == frame.rows["as_of"].max()).to_numpy()
    return Evidence(
        day=day,
        stored=values,
        rebuilt=values.copy(),
        leaving=CancellationCategories(12, values[["tickets_28d"]].copy()),
        sources={
            "usage_events": Visibility("column", 3, is_edited=False),
            "invoices": Visibility("delay", 2, is_edited=False),
            "rates": Visibility("default", 0, is_edited=False),
        },
        book=frame.features[last],
    )


@pytest.fixture(scope="session")
def with_evidence(clean, evidence):
    """The clean training with changed evidence: `with_evidence(book=...)`."""
    return lambda **changes: replace(clean, evidence=replace(evidence, **changes))


@pytest.fixture(scope="session")
def run_ignoring(clean):
    """Run every check with some ignored: `run_ignoring({"BW-L04": "why"})`."""

    def run(ignored):
        company = clean.company.model_copy(update={"checks": Checks(ignore=ignored)})
        return run_checks(replace(clean, company=company))

    return run
