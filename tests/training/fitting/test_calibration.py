import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from training.fitting.calibration import AFFINE_EVENTS, MIN_EVENTS, fit_calibration
from training.model.bundle import sigmoid


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


def test_the_level_is_that_of_rows_though_votes_weigh_early_leavers_more():
    """Half of the leavers leave at once, with one row; everybody else has three."""
    label = np.concatenate([np.ones(100), np.repeat(np.ones(100), 3), np.zeros(2700)])
    votes = np.concatenate([np.ones(100), np.full(3000, 1 / 3)])
    raw = np.random.default_rng(2).normal(-2.0, 1.0, len(label)) + label
    found = fit_calibration(raw, label, votes)
    assert found.rule == "affine"
    assert sigmoid(found(raw)).mean() == pytest.approx(label.mean())
    assert np.average(label, weights=votes) > 1.2 * label.mean()


def test_early_periods_count_less_and_their_level_widens_the_range():
    raw = np.full(4000, -2.0)
    age = np.repeat([1.0, 0.0], 2000)
    label = (np.arange(4000) % 2000 < np.where(age == 1.0, 800, 300)).astype(float)
    pooled, aged = fit_calibration(raw, label), fit_calibration(raw, label, None, age)
    assert sigmoid(pooled(raw))[0] == pytest.approx(0.275)
    assert sigmoid(aged(raw))[0] == pytest.approx((300 + 0.5 * 800) / 3000, rel=0.01)
    assert aged.covariance[2] > 20 * pooled.covariance[2]


def periods(rates, n):
    """Rows of four test periods, oldest first, predicted at a tenth; events exactly as told."""
    label = np.concatenate([np.arange(n) < round(rate * n) for rate in rates]).astype(float)
    return np.full(len(label), np.log(1 / 9)), label, np.repeat([3.0, 2.0, 1.0, 0.0], n)


@pytest.mark.parametrize(
    ("rates", "n", "served"),
    [
        ((0.12, 0.13, 0.11, 0.12), 300, 0.1),  # within chance
        ((0.12, 0.13, 0.11, 0.12), 30_000, 0.12),  # the same, of so many that it is none
        ((0.20, 0.20, 0.20, 0.20), 300, 0.198),  # all alike, and far off
        ((0.05, 0.10, 0.15, 0.20), 3_000, 0.17),  # it moves
    ],
)
def test_of_a_moved_level_only_what_is_beyond_chance_is_served(rates, n, served):
    raw, label, age = periods(rates, n)
    found = fit_calibration(raw, label, None, age)
    assert sigmoid(found(raw))[0] == pytest.approx(served, abs=0.008)
