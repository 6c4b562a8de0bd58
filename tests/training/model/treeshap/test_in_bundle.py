"""The explainer where it is used: boosters averaged over seeds, and a bundle."""

from dataclasses import replace

import numpy as np
import pytest

from training.fitting.fit import TrainingConfig, fit
from training.model.bundle import Bundle
from training.model.manifest import ModelManifest


@pytest.fixture(scope="module")
def fitted(frame):
    return fit(TrainingConfig("lightgbm", "churn", seeds=(1, 2, 3), rounds=40, threads=1), frame)


@pytest.fixture(scope="module")
def matrix(fitted, frame):
    return fitted.encoder.encode(frame.features.iloc[:300]).matrix


def bundle_of(fitted, verdict="promotable"):
    manifest = {
        "encoder": fitted.encoder.as_dict(),
        "calibration": {"slope": 0.8, "intercept": -0.3, "covariance": [0, 0, 0]},
        "target": "churn",
        "verdict": verdict,
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


def test_mean_and_deviation_come_from_one_run_of_each_booster(fitted, matrix):
    raw, spread = fitted.predictor.raw_and_spread(matrix)
    np.testing.assert_array_equal(raw, fitted.predictor.raw(matrix))
    np.testing.assert_array_equal(spread, fitted.predictor.spread(matrix))
    assert (spread > 0).all()


def test_warm_and_cold_explanations_agree_and_add_up_to_what_is_served(fitted, matrix):
    bundle = bundle_of(fitted)
    before = bundle.explain(matrix)
    assert fitted.predictor.explainer.warm()
    after = bundle.explain(matrix)
    np.testing.assert_allclose(after.values, before.values, rtol=0, atol=1e-12)
    assert after.base == pytest.approx(before.base, abs=1e-12)
    np.testing.assert_allclose(after.logit, bundle.predict(matrix).logit, rtol=0, atol=1e-12)


def test_one_pass_predicts_what_the_boosters_predict(fitted, matrix):
    found = fitted.predictor.explainer
    found.warm()
    members = [booster.predict(matrix, raw_score=True) for booster in fitted.predictor.handles]
    np.testing.assert_array_equal(found.explain_and_predict(matrix).raw, members)
    np.testing.assert_array_equal(fitted.predictor.members(matrix), members)


def test_warming_leaves_every_number_as_it_was(fitted, matrix):
    drawn = replace(fitted.predictor, draws=fitted.predictor.texts[::-1])
    before = drawn.raw_and_spread(matrix)
    thread = drawn.warm()
    assert not thread.daemon, "the interpreter may end inside numpy, which aborts the process"
    thread.join()
    assert drawn.explainer.is_fast
    assert drawn.spread_explainer.is_fast
    np.testing.assert_array_equal(drawn.raw_and_spread(matrix), before)


def test_a_bundle_without_reasons_has_nothing_to_warm(fitted, monkeypatch):
    asked = []
    monkeypatch.setattr(type(fitted.predictor), "warm", lambda self: asked.append(self))
    bundle_of(fitted, "no_signal").warm()
    assert asked == []
    bundle_of(fitted).warm()
    assert asked == [fitted.predictor]
