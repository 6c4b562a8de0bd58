import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from training.bundle import sigmoid
from training.calibrate import AFFINE_EVENTS, MIN_EVENTS, fit_calibration


def drawn(n, slope, intercept, seed=0):
    rng = np.random.default_rng(seed)
    raw = rng.normal(-1.0, 1.0, n)
    return raw, (rng.random(n) < sigmoid(slope * raw + intercept)).astype(float)


def test_the_affine_map_equals_an_unpenalised_logistic_regression():
    raw, label = drawn(3000, 0.7, 0.4)
    found = fit_calibration(raw, label)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    model.fit(raw[:, None], label)
    assert found.rule == "affine"
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=1e-6)
    assert found.intercept == pytest.approx(model.intercept_[0], rel=1e-6)
    assert found.slope == pytest.approx(0.7, abs=3 * found.covariance[0] ** 0.5)


def test_few_events_move_only_the_level_and_fewer_nothing():
    raw, label = drawn(5000, 0.5, -0.5)
    events, others = np.flatnonzero(label == 1), np.flatnonzero(label == 0)

    def calibrated(n_events):
        rows = np.concatenate([events[:n_events], others])
        return fit_calibration(raw[rows], label[rows])

    level = calibrated(AFFINE_EVENTS - 1)
    assert (level.rule, level.slope) == ("intercept", 1.0)
    rows = np.concatenate([events[: AFFINE_EVENTS - 1], others])
    assert sigmoid(level(raw[rows])).sum() == pytest.approx(AFFINE_EVENTS - 1)
    nothing = calibrated(MIN_EVENTS - 1)
    assert (nothing.rule, nothing.slope, nothing.intercept) == ("identity", 1.0, 0.0)
    assert calibrated(AFFINE_EVENTS).rule == "affine"


def test_no_rows_leave_the_scores_as_they_are():
    assert fit_calibration(np.zeros(0), np.zeros(0)).rule == "identity"


def test_a_ranking_that_is_upside_down_is_not_turned_by_calibration():
    raw, label = drawn(4000, -1.0, -1.0)
    found = fit_calibration(raw, label)
    assert (found.rule, found.slope) == ("intercept", 1.0)


def test_a_constant_score_gets_the_level():
    label = np.repeat([0.0, 1.0], [900, 300])
    found = fit_calibration(np.full(1200, -3.0), label)
    assert sigmoid(found(np.array([-3.0])))[0] == pytest.approx(0.25)


def test_repeating_rows_with_shared_votes_changes_nothing():
    raw, label = drawn(2000, 0.8, 0.1)
    once = fit_calibration(raw, label)
    thrice = fit_calibration(np.repeat(raw, 3), np.repeat(label, 3), np.full(6000, 1 / 3))
    assert thrice.slope == pytest.approx(once.slope)
    assert thrice.covariance == pytest.approx(once.covariance)


def test_uncertainty_of_calibration_shrinks_with_data():
    few, many = (fit_calibration(*drawn(n, 1.0, 0.0)) for n in (1000, 16000))
    raw = np.array([-3.0, 0.0])
    ratio = few.spread(raw, np.zeros(2)) / many.spread(raw, np.zeros(2))
    assert ratio == pytest.approx(4.0, rel=0.25)
