import numpy as np
import pytest

from training.data.splits import make_folds
from training.evaluation.metrics import Sample, auc
from training.fitting.baselines import BASELINES, SHRINK_ROWS, baselines_for, fit_best_feature


def area(label, p):
    rows = np.arange(len(label))
    return auc(Sample(label, p, p, p, rows), np.ones((1, len(label))))[0]


@pytest.fixture(scope="module")
def halves(frame, small):
    quiet, pestered = frame.features["users_28d"] < 10, frame.features["tickets_28d"] > 6
    frame = small.with_columns(frame, rows={"n_rules": quiet.astype(int) + pestered.astype(int)})
    fold = make_folds(frame, folds=1, fold_days=182).folds[0]
    return frame.take(fold.train), frame.take(fold.test)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_probabilities_near_the_rate(name, halves):
    train, test = halves
    p = BASELINES[name](train)(test)
    assert p.shape == (len(test),)
    assert ((p > 0) & (p < 1)).all()
    assert p.mean() == pytest.approx(train.label.mean(), abs=0.03)


def test_they_stand_in_the_order_of_what_they_know(halves):
    train, test = halves
    areas = {name: area(test.label, fit(train)(test)) for name, fit in BASELINES.items()}
    assert areas["constant"] == 0.5
    assert areas["constant"] < areas["health_score"] < areas["best_feature"] < areas["logistic"]
    assert areas["constant"] < areas["rules"] < areas["logistic"]


def test_the_best_feature_is_the_strongest_and_chosen_on_training_rows_alone(halves, small):
    train, test = halves
    score = fit_best_feature(train)
    others = [item.name for item in test.info if item.name != "users_28d"]
    emptied = small.with_columns(test, features=dict.fromkeys(others, np.nan))
    np.testing.assert_array_equal(score(emptied), score(test))


def test_a_cell_is_shrunk_by_fifty_rows_and_the_unseen_get_the_rate(small, frame):
    segment = np.where(np.arange(len(frame)) < 10, "tiny", "rest")
    label = np.where(np.arange(len(frame)) < 10, 1, frame.rows["label"])
    columns = {
        "segment": segment, "label": label, "is_under_contract": False, "days_to_renewal": np.nan,
    }  # fmt: skip
    rows = small.with_columns(frame, rows=columns)
    score = BASELINES["calendar"](rows)
    rate = rows.label.mean()
    assert score(rows)[0] == pytest.approx((10 + SHRINK_ROWS * rate) / (10 + SHRINK_ROWS))
    assert score(small.with_columns(rows, rows={"segment": "new"}))[0] == pytest.approx(rate)


def test_without_a_health_score_there_is_no_such_baseline(frame, small):
    assert "health_score" in baselines_for(frame)
    without = small.with_columns(frame, rows={"health_score": np.nan})
    assert "health_score" not in baselines_for(without)


def test_without_a_rule_that_tells_rows_apart_there_is_no_such_baseline(halves, frame, small):
    assert "rules" in baselines_for(halves[0])
    assert "rules" not in baselines_for(frame)
    assert "rules" not in baselines_for(small.with_columns(frame, rows={"n_rules": 0}))


def test_a_health_score_that_began_after_the_training_rows_says_nothing(frame, small):
    without = small.with_columns(frame, rows={"health_score": np.nan})
    p = BASELINES["health_score"](without)(frame)
    np.testing.assert_allclose(p, without.label.mean())


def test_rows_without_a_health_score_get_their_own_rate(frame, small):
    gone = np.where(frame.label == 1, np.nan, frame.rows["health_score"])
    gone[:200] = np.nan
    rows = small.with_columns(frame, rows={"health_score": gone})
    p = BASELINES["health_score"](rows)(rows)
    assert p[np.isnan(gone)].min() > p[~np.isnan(gone)].max()


def raw_and_fitted(small, frame, score, *, is_growth):
    """AUC of a score as it stood and of its fitted curve, on rows the curve was not fitted on."""
    rows = small.with_columns(frame, rows={"health_score": score})
    fold = make_folds(rows, folds=1, fold_days=182).folds[0]
    train, test = rows.take(fold.train), rows.take(fold.test)
    p = baselines_for(train, is_growth=is_growth)["health_score"](train)(test)
    assert np.isfinite(p).all()
    assert ((p > 0) & (p < 1)).all()
    known = test.rows["health_score"].notna().to_numpy()
    value = test.rows["health_score"].to_numpy()[known]
    raw = value if is_growth else -value
    return area(test.label[known], raw), area(test.label[known], p[known])


@pytest.mark.parametrize("is_growth", [False, True])
@pytest.mark.parametrize("kind", ["fair", "turned round", "overwritten", "whole", "with gaps"])
def test_the_fitted_curve_ranks_as_the_score_itself(frame, small, kind, is_growth):
    fair = frame.rows["health_score"].to_numpy()
    score = {
        "fair": fair,
        "turned round": -fair,
        "overwritten": np.where(frame.label == 1, fair / 10.0, 90.0 + fair / 10.0),
        "whole": np.round(fair / 20.0),
        "with gaps": np.where(np.arange(len(frame)) % 3 == 0, np.nan, fair),
    }[kind]
    raw, fitted = raw_and_fitted(small, frame, score, is_growth=is_growth)
    assert fitted == raw
