"""Folds over accounts: nothing about a fold is chosen by the rows it is tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import RepeatedStratifiedKFold

from training.candidates.train import TrainingPlan, pooled_calibration, scored_forward, train
from training.data.splits import NOT_OUT_OF_TIME, make_folds
from training.fitting import nested_cv
from training.fitting.fit import TrainingConfig
from training.model.bundle import sigmoid

LINEAR = TrainingConfig("linear", "churn")


@pytest.fixture(scope="module")
def snapshot(frame):
    """The last as_of alone: one row per account."""
    last = frame.rows["as_of"].max() - pd.Timedelta(days=180)
    moments = frame.rows["as_of"][frame.rows["as_of"] >= last]
    return frame.take((frame.rows["as_of"] == moments.min()).to_numpy())


def flipped(frame, positions):
    """The same rows with the labels of some turned round."""
    label = frame.rows["label"].to_numpy().copy()
    label[positions] = 1 - label[positions]
    return replace(frame, rows=frame.rows.assign(label=label))


def test_every_repeat_tests_each_account_once_and_events_are_spread(snapshot):
    folds = make_folds(snapshot, folds=4, fold_days=91, seed=3, repeats=3)
    assert [fold.repeat for fold in folds.folds] == [1] * 4 + [2] * 4 + [3] * 4
    events = []
    for repeat in (1, 2, 3):
        mine = [fold for fold in folds.folds if fold.repeat == repeat]
        tested = np.concatenate([fold.test for fold in mine])
        assert sorted(tested) == list(range(len(snapshot)))
        events += [int(snapshot.label[fold.test].sum()) for fold in mine]
    assert max(events) - min(events) <= 1  # as scikit-learn's stratified folds
    theirs = RepeatedStratifiedKFold(n_splits=4, n_repeats=3, random_state=0)
    n = [snapshot.label[test].sum() for _, test in theirs.split(snapshot.label, snapshot.label)]
    assert max(events) - min(events) <= max(n) - min(n)
    assert len(folds.first) == 4
    assert folds.notes == (NOT_OUT_OF_TIME,)


def test_what_a_fold_is_tested_on_chooses_nothing(snapshot, small):
    settings = small.company(folds=3).training
    folds = make_folds(snapshot, folds=3, fold_days=91, repeats=1)
    fold = folds.folds[0]
    turned = flipped(snapshot, fold.test)
    chosen = [
        nested_cv.choose_per_fold(LINEAR, one, folds, settings, "sqlite:///:memory:")[0]
        for one in (snapshot, turned)
    ]
    assert chosen[0] == chosen[1]
    raw = np.linspace(-3, 0, len(fold.test))
    inside = [
        nested_cv.inner_calibration(one.take(fold.train), LINEAR, seed=1)(raw)
        for one in (snapshot, turned)
    ]
    np.testing.assert_array_equal(inside[0], inside[1])


def test_each_fold_is_calibrated_by_its_own_training_rows(snapshot, small):
    folds = make_folds(snapshot, folds=3, fold_days=91, repeats=2)
    plan = TrainingPlan(LINEAR, LINEAR, None, pd.DataFrame())
    found = scored_forward(snapshot, folds, plan)
    for fold in folds.folds:
        here = (found["fold"] == fold.number).to_numpy()
        inside = nested_cv.inner_calibration(snapshot.take(fold.train), LINEAR, LINEAR.seeds[0])
        wanted = sigmoid(inside(found.loc[here, "raw"].to_numpy()))
        np.testing.assert_allclose(found.loc[here, "p_model"], wanted, rtol=1e-12)


def test_mean_and_spread_over_repeats_are_told_and_the_headline_counts_once(snapshot, small):
    found = train(snapshot, small.company(folds=3, repeats=3), storage_url="sqlite:///:memory:")
    evaluation = found.evaluation
    assert evaluation.n_rows == len(snapshot)
    assert len(evaluation.folds) == 3
    table = found.predictions
    briers = table.assign(e=(table["p_model"] - table["label"]) ** 2).groupby("repeat")["e"].mean()
    told = evaluation.repeats["brier"]
    np.testing.assert_allclose(told["values"], briers)
    assert told["mean"] == pytest.approx(briers.mean())
    assert told["deviation"] == pytest.approx(briers.std(ddof=1))
    assert found.gate_result.verdict != "promotable"
    assert any(gate.words == NOT_OUT_OF_TIME for gate in found.gate_result.failed)
    assert pooled_calibration(found.predictions).n_events == int(snapshot.label.sum())
