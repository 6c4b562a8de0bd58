"""Golden values come from scikit-learn and SciPy."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss
from statsmodels.stats.proportion import proportion_confint

from training.evaluation.metrics import (
    MEASURES,
    Sample,
    arr_capture,
    auc,
    average_precision,
    bootstrap,
    brier,
    brier_skill,
    calibration_intercept,
    calibration_slope,
    capture,
    clustered_wilson,
    design_effect,
    entity_weights,
    estimate,
    flag_top,
    level_shift,
    lift,
    log_loss,
    logistic_fit,
    observed_to_expected,
    reliability,
    wilson,
)


def make_sample(n=600, seed=0, digits=2, capacity=60) -> Sample:
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.5, 1.2, n)
    p = np.clip(np.round(1 / (1 + np.exp(-logit)), digits), 0.01, 0.99)
    label = (rng.random(n) < 1 / (1 + np.exp(-(0.3 + 0.8 * logit)))).astype(float)
    arr = rng.lognormal(9, 1, n)
    arr[::7] = np.nan
    return Sample(label, p, flag_top(p, capacity), arr, rng.integers(0, n // 3, n))


def drawn_weights(sample: Sample, seed=3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (3, len(sample.label))).astype(float)


@pytest.mark.parametrize(
    ("measure", "golden"),
    [
        (auc, roc_auc_score),
        (average_precision, average_precision_score),
        (log_loss, sklearn_log_loss),
        (brier, brier_score_loss),
    ],
)
@pytest.mark.parametrize("digits", [1, 2, 9])
def test_measures_equal_scikit_learn_under_weights_and_ties(measure, golden, digits):
    sample = make_sample(digits=digits)
    weights = drawn_weights(sample)
    expected = [golden(sample.label, sample.p, sample_weight=w) for w in weights]
    np.testing.assert_allclose(measure(sample, weights), expected, rtol=1e-10)


def test_recalibration_equals_an_unpenalised_logistic_regression():
    sample = make_sample()
    weights = drawn_weights(sample)
    logit = np.log(sample.p / (1 - sample.p))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    for weight, intercept, slope in zip(
        weights,
        calibration_intercept(sample, weights),
        calibration_slope(sample, weights),
        strict=True,
    ):
        model.fit(logit[:, None], sample.label, sample_weight=weight)
        assert slope == pytest.approx(model.coef_[0, 0], rel=1e-6)
        assert intercept == pytest.approx(model.intercept_[0], rel=1e-6)


def test_information_is_the_hessian_of_the_log_likelihood():
    sample = make_sample()
    score = np.log(sample.p / (1 - sample.p))
    weights = np.ones((1, len(score)))
    intercept, slope, information = logistic_fit(score, sample.label, weights)

    def loss(a, b):
        return np.sum(np.logaddexp(0, a + b * score) - sample.label * (a + b * score))

    h, a, b = 1e-3, intercept[0], slope[0]
    second_a = (loss(a + h, b) - 2 * loss(a, b) + loss(a - h, b)) / h**2
    second_b = (loss(a, b + h) - 2 * loss(a, b) + loss(a, b - h)) / h**2
    corners = [loss(a + s * h, b + t * h) * s * t for s in (-1, 1) for t in (-1, 1)]
    np.testing.assert_allclose(
        information[0], [second_a, sum(corners) / (4 * h**2), second_b], rtol=1e-4
    )


def test_separated_classes_have_no_slope():
    label = np.array([0.0, 0.0, 1.0, 1.0])
    sample = Sample(label, np.array([0.1, 0.2, 0.8, 0.9]), label, label, np.arange(4))
    assert np.isnan(calibration_slope(sample, np.ones((1, 4)))).all()


def test_a_constant_score_ranks_nothing_and_has_no_slope():
    sample = make_sample()
    flat = Sample(
        sample.label, np.full(600, 0.2), flag_top(np.full(600, 0.2), 60), sample.arr, sample.entity
    )
    equal = np.ones((1, 600))
    assert auc(flat, equal)[0] == 0.5
    assert capture(flat, equal)[0] == pytest.approx(0.1)
    assert lift(flat, equal)[0] == pytest.approx(1.0)
    assert np.isnan(calibration_slope(flat, equal)[0])


def test_capacity_measures_by_hand():
    label = np.array([1.0, 0.0, 1.0, 0.0])
    p = np.array([0.9, 0.8, 0.3, 0.1])
    sample = Sample(label, p, flag_top(p, 2), np.array([100.0, 50.0, 300.0, np.nan]), np.arange(4))
    equal = np.ones((1, 4))
    assert capture(sample, equal)[0] == 0.5
    assert lift(sample, equal)[0] == 1.0
    assert arr_capture(sample, equal)[0] == 0.25
    assert observed_to_expected(sample, equal)[0] == pytest.approx(2 / 2.1)
    assert brier_skill(sample, equal)[0] == pytest.approx(1 - brier(sample, equal)[0] / 0.25)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=30), st.floats(1, 40))
def test_flags_use_the_capacity_exactly_and_the_highest_first(p, capacity):
    p = np.array(p)
    flagged = flag_top(p, capacity)
    assert flagged.sum() == pytest.approx(min(capacity, len(p)))
    assert ((flagged >= 0) & (flagged <= 1)).all()
    order = np.argsort(-p)
    assert (np.diff(flagged[order]) <= 1e-12).all()


def test_weights_keep_the_rows_of_an_entity_together():
    entity = np.array([0, 1, 0, 2, 1])
    weights = entity_weights(entity, 50, seed=1)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)


def test_repeated_rows_widen_the_interval():
    sample = make_sample(n=300)
    once = Sample(sample.label, sample.p, sample.flagged, sample.arr, np.arange(300))
    many = np.repeat(np.arange(300), 5)
    clustered = Sample(
        *(getattr(once, f)[many] for f in ("label", "p", "flagged", "arr", "entity"))
    )
    naive = Sample(clustered.label, clustered.p, clustered.flagged, clustered.arr, np.arange(1500))

    def width(of):
        found = estimate(bootstrap(of, {"auc": auc}, draws=400, seed=1)["auc"])
        return found.high - found.low

    assert width(clustered) == pytest.approx(width(once), rel=0.1)
    assert width(naive) < 0.6 * width(clustered)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    rng = np.random.default_rng(0)
    for seed in range(60):
        score = rng.normal(size=400)
        label = (rng.random(400) < 0.3).astype(float)
        score += label  # two unit normals one apart: AUC = Φ(1/√2) = 0.7602
        p = 1 / (1 + np.exp(-score))
        sample = Sample(label, p, p, p, np.arange(400))
        found = estimate(bootstrap(sample, {"auc": auc}, draws=200, seed=seed)["auc"])
        held += found.low <= 0.7602 <= found.high
    assert 51 <= held <= 60


def test_a_bootstrap_in_chunks_repeats_and_is_paired(monkeypatch):
    sample = make_sample()
    first = bootstrap(sample, MEASURES, draws=20, seed=5)
    again = bootstrap(sample, MEASURES, draws=20, seed=5)
    for name in MEASURES:
        np.testing.assert_array_equal(first[name], again[name])
        assert first[name].shape == (21,)
    monkeypatch.setattr("training.evaluation.metrics._CHUNK_ELEMENTS", 3 * 600)
    assert bootstrap(sample, {"auc": auc}, draws=20, seed=5)["auc"].shape == (21,)


def test_an_undefined_estimate_is_none():
    found = estimate(np.full(10, np.nan))
    assert found.as_dict() == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize(("events", "n"), [(0, 10), (3, 40), (40, 40), (100, 1234)])
def test_wilson_equals_scipy(events, n):
    expected = binomtest(events, n).proportion_ci(0.95, method="wilson")
    assert wilson(events, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def repeated(seed: int, entities: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Rows of entities seen one to four times, each row of one with the same chance of 10 %."""
    rng = np.random.default_rng(seed)
    entity = np.repeat(np.arange(entities), rng.integers(1, 5, entities))
    same, alone = rng.random(entities) < 0.1, rng.random(len(entity)) < 0.1
    label = np.where(rng.random(entities)[entity] < 0.7, same[entity], alone)
    return label.astype(float), entity


@pytest.mark.parametrize("seed", range(3))
def test_the_design_effect_is_the_clustered_variance_of_statsmodels(seed):
    label, entity = repeated(seed)
    fit = sm.OLS(label, np.ones(len(label)))
    clusters = {"groups": entity, "use_correction": False}
    dependent = fit.fit(cov_type="cluster", cov_kwds=clusters).cov_params()[0, 0]
    rate = label.mean()
    expected = dependent / (rate * (1 - rate) / len(label))
    assert design_effect(label, entity) == pytest.approx(expected)
    assert design_effect(label, np.arange(len(label))) == pytest.approx(1.0)
    low, high = clustered_wilson(label, entity)
    n = len(label) / expected
    assert (low, high) == pytest.approx(proportion_confint(rate * n, n, method="wilson"))


def test_without_variation_an_entity_counts_once():
    assert clustered_wilson(np.zeros(60), np.arange(60) // 3) == wilson(0, 20)


def test_intervals_of_repeated_rows_hold_the_truth_about_as_often_as_they_say():
    """1,000 companies: 95 % is seen as 93.6 % to 96.4 %; for rows as if independent, far less."""
    held = {"clustered": 0, "plain": 0}
    for seed in range(1000):
        label, entity = repeated(seed)
        limits = {
            "clustered": clustered_wilson(label, entity),
            "plain": wilson(label.sum(), len(label)),
        }
        for name, (low, high) in limits.items():
            held[name] += low <= 0.1 <= high
    assert 930 <= held["clustered"] <= 970
    assert held["plain"] < 900


@pytest.mark.parametrize("p", [np.full(50, 0.3), np.linspace(0.01, 0.99, 50)])
def test_reliability_loses_no_row(p):
    label = (np.arange(50) % 3 == 0).astype(float)
    table = reliability(label, p, np.arange(50))
    assert sum(row["n"] for row in table) == 50
    assert sum(row["events"] for row in table) == label.sum()
    assert all(row["low"] <= row["observed"] <= row["high"] for row in table)
    assert all(row["p_from"] <= row["expected"] <= row["p_to"] + 1e-12 for row in table)


def test_reliability_is_the_calibration_curve_of_scikit_learn():
    sample = make_sample(digits=9)
    table = reliability(sample.label, sample.p, sample.entity)
    observed, expected = calibration_curve(sample.label, sample.p, n_bins=10, strategy="quantile")
    assert [row["observed"] for row in table] == pytest.approx(observed.tolist())
    assert [row["expected"] for row in table] == pytest.approx(expected.tolist())


def test_within_test_periods_rankings_are_those_of_scikit_learn_by_period():
    """AUC weighs each period by its pairs, average precision by its events."""
    sample = make_sample()
    period = np.random.default_rng(8).integers(0, 3, len(sample.label))
    apart = replace(sample, cohort=period)
    equal = np.ones((1, len(period)))
    parts = [(sample.label[period == k], sample.p[period == k]) for k in range(3)]
    pairs = [label.sum() * (1 - label).sum() for label, _ in parts]
    areas = [roc_auc_score(label, p) for label, p in parts]
    assert auc(apart, equal)[0] == pytest.approx(np.average(areas, weights=pairs))
    precision = [average_precision_score(label, p) for label, p in parts]
    events = [label.sum() for label, _ in parts]
    assert average_precision(apart, equal)[0] == pytest.approx(
        np.average(precision, weights=events)
    )


def test_a_bootstrap_draw_is_scikit_learn_on_the_rows_drawn():
    """The short ways (counts per entity) give what repeating the rows of drawn entities gives."""
    sample = make_sample(n=200)
    names = ("auc", "average_precision", "brier", "brier_skill", "log_loss", "lift_at_capacity")
    found = bootstrap(sample, {name: MEASURES[name] for name in names}, draws=4, seed=5)
    for draw, weights in enumerate(entity_weights(sample.entity, 4, 5), start=1):
        rows = np.repeat(np.arange(200), weights.astype(int))
        label, p, flagged = sample.label[rows], sample.p[rows], sample.flagged[rows]
        score = brier_score_loss(label, p)
        expected = {
            "auc": roc_auc_score(label, p),
            "average_precision": average_precision_score(label, p),
            "brier": score,
            "brier_skill": 1 - score / brier_score_loss(label, np.full(len(rows), label.mean())),
            "log_loss": sklearn_log_loss(label, p),
            "lift_at_capacity": np.average(label, weights=flagged) / label.mean(),
        }
        assert {name: found[name][draw] for name in names} == pytest.approx(expected)


def test_the_level_is_the_root_that_scipy_finds():
    sample = make_sample()
    raw = np.log(sample.p / (1 - sample.p))
    root = brentq(lambda shift: expit(raw + shift).sum() - sample.label.sum(), -5, 5, xtol=1e-14)
    assert level_shift(raw, sample.label) == pytest.approx(root, abs=1e-9)
