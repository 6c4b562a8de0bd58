"""Columns, labels and disks at their worst: a clear error or a clear result, nothing half-done."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError, StateError
from configs.runtime.state_directory import State
from configs.schema.workspace import Environment, Workspace
from features.tables.catalog import FeatureInfo
from training.candidates.train import train
from training.data.splits import make_folds
from training.data.training_frame import check_unique
from training.fitting.fit import TrainingConfig, fit
from training.model import bundle as bundles
from training.model.bundle import Bundle
from training.model.manifest import ModelManifest
from training.pipeline import candidates, latest, train_frame

AWFUL = ("constant", "empty", "infinite", "city")


@contextlib.contextmanager
def room_for(n_bytes: int):
    """Let this process write no file longer than this: the kernel refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def awful(frame):
    """The frame with a constant, an empty, an infinite and a column of 10,000 categories."""
    n, rng = len(frame), np.random.default_rng(5)
    features = frame.features.assign(
        constant=7.0,
        empty=np.nan,
        infinite=np.where(rng.random(n) < 0.5, np.inf, -np.inf),
        city=[f"city {i}" for i in rng.integers(0, 10_000, n)],
    )
    info = [FeatureInfo(name, "usage", name, "", "score", None, "adoption") for name in AWFUL]
    return replace(frame, features=features, info=(*frame.info, *info))


@pytest.mark.parametrize("kind", ["lightgbm", "linear", "rates"])
def test_columns_that_can_teach_nothing_teach_nothing(frame, kind):
    recipe = TrainingConfig(kind, "churn", (1,), rounds=40, threads=1)
    fitted = fit(recipe, awful(frame))
    matrix = fitted.encoder.encode(awful(frame).features)
    assert np.isfinite(fitted.predictor.raw(matrix.matrix)).all()
    assert dict(zip(fitted.encoder.names, matrix.n_infinite, strict=True))["infinite"] == len(frame)
    assert fitted.encoder.levels["city"] == (), "no city has twenty rows"
    where = [fitted.encoder.names.index(name) for name in AWFUL]
    contributions = Bundle(ModelManifest.from_dict(manifest_of(fitted)), fitted.predictor).explain(
        matrix.matrix
    )
    assert np.abs(contributions.values[:, where]).max() < 1e-9


def manifest_of(fitted):
    plain = {"slope": 1.0, "intercept": 0.0, "covariance": [0.0, 0.0, 0.0]}
    return {"encoder": fitted.encoder.as_dict(), "calibration": plain, "kind": "any"}


def test_a_training_on_awful_columns_ends_and_names_them(small):
    frame = awful(small.make_frame(accounts=150, months=12))
    found = train(frame, small.company(folds=2), storage_url="sqlite:///:memory:")
    told = {check.code: check for check in found.checks}["BW-S04"]
    assert told.outcome == "tip"
    assert "empty (always missing)" in told.words
    assert "constant (always 7.0)" in told.words


def test_a_test_period_with_one_class_is_left_out_and_said(frame):
    last = frame.rows["as_of"].max() - pd.Timedelta(days=80)
    quiet = frame.rows["label"].where(frame.rows["as_of"] < last, 0)
    one_class = replace(frame, rows=frame.rows.assign(label=quiet))
    folds = make_folds(one_class, folds=3, fold_days=91)
    assert len(folds) == 2
    assert "only one class on either side" in folds.notes[0]


def test_labels_that_contradict_themselves_are_refused(frame):
    rows = frame.rows[["entity_id", "as_of", "label"]]
    check_unique(rows, "here", fix="there")
    other = rows.iloc[:2].assign(label=1 - rows["label"].iloc[:2])
    with pytest.raises(DataError, match="contradictory labels: 2 accounts.*a00000, a00001"):
        check_unique(pd.concat([rows, other]), "here", fix="there")
    with pytest.raises(DataError, match="4 rows have the same account and as_of"):
        check_unique(pd.concat([rows, rows.iloc[:2]]), "here", fix="there")


@pytest.fixture
def workspace(tmp_path, small) -> Workspace:
    return Workspace(
        small.company(folds=2), tmp_path, tmp_path, State(tmp_path / "s"), Environment()
    )


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if ".tmp" in path.name or path.name[0] == "."]


def test_a_disk_that_fills_while_the_bundle_is_written_leaves_nothing(workspace, small):
    frame = small.make_frame(accounts=60, months=12)
    with room_for(256), pytest.raises(StateError, match="disk or quota is full") as caught:
        train_frame(workspace, frame, {"words": "x"})
    assert "free disk space" in caught.value.fix
    assert str(workspace.state.bundles) in caught.value.where
    assert list(workspace.state.bundles.iterdir()) == []
    with pytest.raises(StateError, match="no trained model yet"):
        candidates(workspace)
    assert not workspace.state.mlflow.exists(), "nothing is registered"


def test_a_disk_that_fills_while_the_evidence_is_kept_registers_nothing(workspace, small):
    frame = small.make_frame(accounts=60, months=12)
    trained = train(frame, workspace.company, storage_url="sqlite:///:memory:")
    sha = bundles.save(trained.bundle, workspace.state.bundles)  # whole, and not written again
    with room_for(256), pytest.raises(StateError, match="disk or quota is full"):
        train_frame(workspace, frame, {"words": "x"})
    assert latest(workspace, "churn") is None
    assert not workspace.state.mlflow.exists()
    assert leftovers(workspace.state.root) == []
    bundles.load(workspace.state.bundles / sha, sha)
