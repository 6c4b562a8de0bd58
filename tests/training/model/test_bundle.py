import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.runtime.errors import ModelError
from training.fitting.fit import TrainingConfig, fit
from training.model.bundle import (
    Bundle,
    Scores,
    bundle_sha,
    load,
    logit_of,
    save,
    sigmoid,
)
from training.model.manifest import ModelManifest
from training.model.manifest_parts import Calibration

KINDS = ("lightgbm", "linear", "rates")


def bundle_of(frame, kind: str) -> Bundle:
    fitted = fit(TrainingConfig(kind, "churn", seeds=(1, 2), rounds=40, threads=1), frame)
    calibration = Calibration(0.8, -0.3, (0.01, -0.002, 0.005), "affine", 300)
    manifest = {
        "target": "churn",
        "outcome": "churn",
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "calibration": {**asdict(calibration), "covariance": list(calibration.covariance)},
        "seeds": [1, 2],
        "verdict": "promotable",
        "base_rate": 0.1,
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, frame) -> Bundle:
    return bundle_of(frame, request.param)


def test_contributions_add_up_to_the_served_probability(bundle, frame):
    matrix = bundle.encode(frame.features.iloc[:500]).matrix
    matrix[:5] = np.nan
    scores, contributions = bundle.predict(matrix), bundle.explain(matrix)
    np.testing.assert_allclose(contributions.logit, scores.logit, atol=1e-9)
    np.testing.assert_allclose(sigmoid(contributions.logit), scores.p, atol=1e-9)
    np.testing.assert_allclose(logit_of(scores.p), scores.logit, atol=1e-9)


def test_the_range_holds_the_probability_and_confidence_follows_it(bundle, frame):
    scores = bundle.predict(bundle.encode(frame.features.iloc[:300]).matrix)
    assert (scores.low <= scores.p).all()
    assert (scores.p <= scores.high).all()
    order = {"high": 0, "medium": 1, "low": 2}
    ranks = [order[word] for word in scores.confidence]
    by_spread = [ranks[i] for i in np.argsort(scores.spread)]
    assert by_spread == sorted(by_spread)


def test_confidence_limits():
    spread = np.array([0.0, 0.25, 0.26, 0.6, 0.61])
    scores = Scores(np.full(5, 0.5), np.zeros(5), spread)
    assert scores.confidence == ["high", "high", "medium", "medium", "low"]


def test_a_saved_bundle_scores_the_same_bits(bundle, frame, tmp_path):
    sha = save(bundle, tmp_path)
    again = load(tmp_path / sha, expected_sha=sha)
    matrix = bundle.encode(frame.features).matrix
    np.testing.assert_array_equal(again.encode(frame.features).matrix, matrix)
    np.testing.assert_array_equal(again.predict(matrix).p, bundle.predict(matrix).p)
    np.testing.assert_array_equal(again.predict(matrix).spread, bundle.predict(matrix).spread)
    np.testing.assert_array_equal(again.explain(matrix).values, bundle.explain(matrix).values)
    assert again.info == frame.info
    assert bundle_sha(tmp_path / sha) == sha
    assert save(again, tmp_path / "elsewhere") == sha


def test_the_same_training_gives_the_same_bytes(frame, tmp_path):
    shas = {save(bundle_of(frame, "lightgbm"), tmp_path / name) for name in ("one", "two")}
    assert len(shas) == 1


def test_only_text_lies_in_a_bundle(bundle, tmp_path):
    folder = tmp_path / save(bundle, tmp_path)
    for path in folder.iterdir():
        assert path.suffix in {".json", ".txt"}
        path.read_text(encoding="utf-8")


def test_every_changed_byte_is_noticed(bundle, tmp_path):
    sha = save(bundle, tmp_path)
    for path in sorted((tmp_path / sha).iterdir()):
        before = path.read_bytes()
        path.write_bytes(before[:-2] + b" \n")
        with pytest.raises(ModelError, match="damaged"):
            load(tmp_path / sha, expected_sha=sha)
        path.write_bytes(before)
    load(tmp_path / sha, expected_sha=sha)


def test_saving_again_mends_a_damaged_folder(bundle, tmp_path):
    sha = save(bundle, tmp_path)
    next(path for path in (tmp_path / sha).iterdir() if path.name != "manifest.json").unlink()
    with pytest.raises(ModelError, match="missing"):
        load(tmp_path / sha)
    save(bundle, tmp_path)
    load(tmp_path / sha, expected_sha=sha)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "format 99"),
        ({"files": {"../secret": "00"}}, "outside the folder"),
        ({"files": []}, "lists no files"),
        ({"kind": "forest"}, "forest"),
    ],
)
def test_a_manifest_that_asks_for_something_else_is_refused(frame, tmp_path, change, words):
    folder = tmp_path / save(bundle_of(frame, "rates"), tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ModelError, match=words):
        load(folder)


def test_no_bundle_and_no_json_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="no bundle in this folder"):
        load(tmp_path / "nothing")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)


def test_a_matrix_of_another_width_is_refused(bundle):
    with pytest.raises(ModelError, match="has 8 features"):
        bundle.predict(np.zeros((3, 9)))


def test_no_rows_are_no_scores(bundle):
    matrix = np.zeros((0, 8))
    assert len(bundle.predict(matrix).p) == 0
    assert bundle.explain(matrix).values.shape == (0, 8)
    assert bundle.explain(matrix).base == bundle.explain(np.zeros((1, 8))).base


def test_without_a_signal_there_are_no_reasons(bundle):
    assert bundle.has_reasons
    silent = Bundle(bundle.manifest.changed(verdict="no_signal"), bundle.predictor)
    assert not silent.has_reasons


@given(st.floats(-30, 20))
def test_log_odds_and_probabilities_undo_each_other(x):
    p = sigmoid(np.array([x]))
    np.testing.assert_allclose(logit_of(p, edge=1e-300), [x], rtol=1e-6, atol=1e-6)


def test_the_serving_half_does_not_import_the_training_stack():
    modules = ", ".join(
        f"training.model.{name}" for name in ("bundle", "reasons", "reason_text", "encoder")
    )
    code = (
        f"import sys, {modules}\n"
        "heavy = {'pandas', 'sklearn', 'lightgbm', 'scipy', 'optuna', 'mlflow', 'shap', 'duckdb'}\n"
        "found = sorted(heavy & set(sys.modules))\n"
        "sys.exit(','.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
