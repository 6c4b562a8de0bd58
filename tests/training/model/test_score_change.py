"""The parts of a change add up to what is shown, whatever changed between two scores."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.fitting.fit import TrainingConfig, fit
from training.model.bundle import Bundle, sigmoid
from training.model.manifest import ModelManifest
from training.model.manifest_parts import Calibration
from training.model.reasons import secant
from training.model.score_change import EarlierScore, explain_change

KINDS = ("lightgbm", "linear", "rates")
CLOCKED = "noise_0"
"""Stands for a feature the calendar moves."""


def bundle_of(frame, kind="lightgbm", calibration=None, rounds=40) -> Bundle:
    fitted = fit(TrainingConfig(kind, "churn", seeds=(1, 2, 3), rounds=rounds, threads=1), frame)
    used = calibration or Calibration(0.8, -0.3, (0.01, -0.002, 0.005), "affine", 300)
    info = [replace(item, per_day=int(item.name == CLOCKED)) for item in frame.info]
    manifest = {
        "target": "churn",
        "features": [item.as_dict() for item in info],
        "encoder": fitted.encoder.as_dict(),
        "calibration": {**asdict(used), "covariance": list(used.covariance)},
        "verdict": "promotable",
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


@pytest.fixture(scope="module")
def bundles(frame):
    """The same rows in three kinds, and a retrain on other rows that lacks one column."""
    later = frame.take(np.arange(len(frame) // 2, len(frame)))
    narrow = replace(later, features=later.features.drop(columns="nps"), info=_without_nps(later))
    made = {kind: bundle_of(frame, kind) for kind in KINDS}
    return made | {"retrained": bundle_of(narrow, rounds=25, calibration=Calibration(1.1, 0.2))}


def _without_nps(frame):
    return tuple(item for item in frame.info if item.name != "nps")


def encoded(bundle, frame, rows):
    return bundle.encode(frame.features.iloc[rows]).matrix


def changes_between(bundles, frame, old, new, before, after, days=30.0):
    """Score rows `before` with the bundle `old` and rows `after` with `new`, and compare."""
    old, new = bundles[old], bundles[new]
    was, seen = encoded(old, frame, before), encoded(new, frame, before)
    now = encoded(new, frame, after)
    is_same = old is new
    lacking = [] if "nps" in old.encoder.names or "nps" not in new.encoder.names else [2]
    earlier = EarlierScore(
        logit=old.predict(was).logit,
        seen=seen,
        days=np.full(len(before), days),
        bundle=None if is_same else old,
        matrix=None if is_same else was,
        lacking=lacking,
    )
    return explain_change(new, now, new.predict(now).logit, earlier)


def total(changes):
    themes, circumstances, unknown = changes.happened_by_theme
    versions = changes.model + changes.calibration
    return themes.sum(axis=1) + circumstances + unknown + changes.time + versions


PAIRS = [(kind, kind) for kind in KINDS] + [
    ("lightgbm", "retrained"),
    ("retrained", "lightgbm"),
    ("rates", "linear"),
    ("linear", "lightgbm"),
]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_parts_add_up_across_accounts_and_retrains(bundles, frame, old, new):
    before, after = np.arange(0, 200), np.arange(1000, 1200)
    changes = changes_between(bundles, frame, old, new, before, after)
    np.testing.assert_allclose(total(changes), changes.after - changes.before, atol=1e-12)
    assert np.abs(changes.difference).max() > 0.001 or new == "rates"


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (2, 4, 8), elements=st.floats(-50, 50) | st.just(float("nan"))),
    st.floats(0, 400),
)
def test_the_parts_add_up_for_any_values(bundles, values, days):
    for new, is_same in (("lightgbm", True), ("lightgbm", False), ("linear", True)):
        bundle = bundles[new]
        before, after = np.floor(values[0]), np.floor(values[1])
        old = bundle if is_same else bundles["linear"]
        earlier = EarlierScore(
            old.predict(before).logit,
            before,
            np.full(len(before), days),
            None if is_same else old,
            None if is_same else before,
        )
        changes = explain_change(bundle, after, bundle.predict(after).logit, earlier)
        np.testing.assert_allclose(total(changes), changes.difference, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changed_is_nothing(bundles, frame, kind):
    rows = np.arange(50)
    changes = changes_between(bundles, frame, kind, kind, rows, rows, days=0.0)
    assert not changes.happened.any()
    assert not changes.time.any()
    assert not changes.model.any()
    assert not changes.calibration.any()
    assert not changes.is_clear.any()


def test_only_the_calendar_is_time_passing(bundles, frame):
    bundle, rows = bundles["linear"], np.arange(50)
    seen = encoded(bundle, frame, rows)
    waited = seen.copy()
    waited[:, bundle.encoder.names.index(CLOCKED)] += 60
    earlier = EarlierScore(bundle.predict(seen).logit, seen, np.full(50, 60.0))
    changes = explain_change(bundle, waited, bundle.predict(waited).logit, earlier)
    np.testing.assert_allclose(changes.time, changes.difference, atol=1e-12)
    np.testing.assert_allclose(changes.happened, 0.0, atol=1e-12)
    assert np.abs(changes.time).min() > 0


def test_another_calibration_of_the_same_model_is_calibration_alone(bundles, frame):
    old, rows = bundles["lightgbm"], np.arange(80)
    manifest = {**old.manifest.to_dict(), "calibration": asdict(Calibration(1.2, 0.1))}
    new = Bundle(ModelManifest.from_dict(manifest), old.predictor)
    pair = {"old": old, "new": new}
    changes = changes_between(pair, frame, "old", "new", rows, rows, days=0.0)
    np.testing.assert_allclose(changes.model, 0.0, atol=1e-12)
    np.testing.assert_allclose(changes.calibration, changes.difference, atol=1e-12)


def test_another_model_of_the_same_values_is_no_change_of_the_account(bundles, frame):
    rows = np.arange(80)
    changes = changes_between(bundles, frame, "lightgbm", "retrained", rows, rows, days=0.0)
    assert not changes.happened.any()
    versions = changes.model + changes.calibration
    np.testing.assert_allclose(versions, changes.difference, atol=1e-12)


def test_a_column_that_is_new_belongs_to_the_model(bundles, frame):
    new, rows = bundles["lightgbm"], np.arange(200)
    changes = changes_between(bundles, frame, "retrained", "lightgbm", rows, rows, days=0.0)
    assert not changes.happened[:, new.encoder.names.index("nps")].any()


def test_time_does_not_pass_twice_for_a_column_that_is_new(bundles, frame):
    bundle, rows = bundles["linear"], np.arange(50)
    seen = encoded(bundle, frame, rows)
    clocked = bundle.encoder.names.index(CLOCKED)
    earlier = EarlierScore(
        bundle.predict(seen).logit, seen, np.full(50, 60.0), bundle, seen, lacking=[clocked]
    )
    changes = explain_change(bundle, seen, bundle.predict(seen).logit, earlier)
    assert not changes.time.any()
    assert not changes.happened.any()


def test_one_model_is_surer_of_a_move_than_of_a_level(bundles, frame):
    """Members that disagree on the level of an account agree better on how it moved."""
    bundle, rows = bundles["linear"], np.arange(200)
    seen = encoded(bundle, frame, rows)
    now = seen.copy()
    now[:, 0] += 1.0
    earlier = EarlierScore(bundle.predict(seen).logit, seen, np.zeros(200))
    logit = bundle.predict(now).logit
    changes = explain_change(bundle, now, logit, earlier)
    level = bundle.predict(now).spread * secant(logit, earlier.logit)
    assert (changes.spread > 0).all()
    assert np.median(changes.spread / level) < 0.5


def test_a_move_inside_its_uncertainty_is_not_clear(bundles, frame):
    unsure = Calibration(0.8, -0.3, (4.0, 0.0, 0.0), "affine", 30)
    bundle = bundles["lightgbm"]
    manifest = {**bundle.manifest.to_dict(), "calibration": asdict(unsure)}
    pair = {"unsure": Bundle(ModelManifest.from_dict(manifest), bundle.predictor), "sure": bundle}
    before, after = np.arange(0, 300), np.arange(1000, 1300)
    sure = changes_between(pair, frame, "sure", "sure", before, after)
    shaky = changes_between(pair, frame, "unsure", "unsure", before, after)
    np.testing.assert_allclose(sure.difference, shaky.difference)
    assert sure.is_clear.mean() > 0.3
    assert not shaky.is_clear.any()
    assert (np.abs(sure.difference[sure.is_clear]) >= 0.005).all()


def test_the_shown_probabilities_are_the_served_ones(bundles, frame):
    changes = changes_between(
        bundles, frame, "linear", "retrained", np.arange(9), np.arange(20, 29)
    )
    new, old = bundles["retrained"], bundles["linear"]
    served = new.predict(encoded(new, frame, np.arange(20, 29)))
    before = old.predict(encoded(old, frame, np.arange(9)))
    np.testing.assert_array_equal(changes.after, sigmoid(served.logit))
    np.testing.assert_array_equal(changes.before, before.p)
