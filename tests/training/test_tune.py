import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import pytest

from configs.company import Tuning
from training.fit import DEFAULT_TREES, Recipe
from training.splits import make_folds
from training.tune import SPACE, STRENGTHS, choose_strength, search, study_name

RECIPE = Recipe("lightgbm", "churn", seeds=(1,), threads=1)


@pytest.fixture(scope="module")
def folds(frame):
    return make_folds(frame, folds=2, fold_days=91)


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def test_it_finds_bounded_settings_and_tells_its_trials(frame, folds, url, capfd):
    found = search(RECIPE, frame, folds, Tuning(trials=8), storage_url=url)
    assert set(found.trees) == set(SPACE)
    assert 4 <= found.trees["num_leaves"] <= 15
    assert found.trees["max_depth"] <= 6
    assert 1 <= found.rounds <= 400
    assert set(found.trials["state"]) <= {"complete", "pruned"}
    assert len(found.trials) == 8
    first = found.trials.iloc[0]
    assert {name: first[name] for name in DEFAULT_TREES} == DEFAULT_TREES
    best = found.trials.loc[found.trials["value"].idxmin()]
    assert {name: best[name] for name in SPACE} == found.trees
    assert best["rounds"] == found.rounds
    assert capfd.readouterr() == ("", "")


def test_a_second_call_goes_on_where_the_first_stopped(frame, folds, url):
    search(RECIPE, frame, folds, Tuning(trials=2), storage_url=url)
    longer = search(RECIPE, frame, folds, Tuning(trials=4), storage_url=url)
    again = search(RECIPE, frame, folds, Tuning(trials=4), storage_url=url)
    assert len(longer.trials) == len(again.trials) == 4
    assert longer.trees == again.trees


def test_the_same_search_in_a_new_storage_finds_the_same(frame, folds, tmp_path):
    urls = [f"sqlite:///{tmp_path / name}" for name in ("one.db", "two.db")]
    one, two = (search(RECIPE, frame, folds, Tuning(trials=3), storage_url=u) for u in urls)
    assert (one.trees, one.rounds) == (two.trees, two.rounds)


def test_other_data_or_another_recipe_is_another_study(frame, folds, small):
    name = study_name(RECIPE, frame, folds)
    other = small.make_frame(seed=2)
    assert name == study_name(RECIPE, frame, folds)
    assert name != study_name(RECIPE, other, folds)
    assert name != study_name(Recipe("lightgbm", "expansion", seeds=(1,)), frame, folds)
    assert name == study_name(Recipe("lightgbm", "churn", seeds=(1,), threads=2), frame, folds)


def test_logging_is_left_as_it_was(frame, folds, url):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        search(RECIPE, frame, folds, Tuning(trials=1), storage_url=url)
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


def test_a_time_limit_is_kept(frame, folds, url):
    found = search(RECIPE, frame, folds, Tuning(trials=10_000, timeout_seconds=2), storage_url=url)
    assert 1 <= len(found.trials) < 1000


SEARCH = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("world", {world!r})
    world = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world)
    from configs.company import Tuning
    from training.fit import Recipe
    from training.splits import make_folds
    from training.tune import search
    frame = world.make_frame()
    folds = make_folds(frame, folds=2, fold_days=91)
    recipe = Recipe("lightgbm", "churn", seeds=(1,), threads=1)
    search(recipe, frame, folds, Tuning(trials=10_000), storage_url={url!r})
"""


def finished(path: Path) -> int:
    """Trials that ended, read past Optuna, which would make the tables if it came first."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'trials'"
        if not connection.execute(tables).fetchone()[0]:
            return 0
        ended = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
        return connection.execute(ended).fetchone()[0]


@pytest.mark.slow
def test_a_killed_search_loses_nothing(frame, folds, url, tmp_path):
    world = Path(__file__).with_name("conftest.py")
    code = textwrap.dedent(SEARCH).format(world=str(world), url=url)
    name = study_name(RECIPE, frame, folds)
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    try:
        deadline = time.monotonic() + 120
        while finished(tmp_path / "optuna.db") < 3:
            assert process.poll() is None, "the search ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = finished(tmp_path / "optuna.db")
    study = optuna.load_study(study_name=name, storage=url)
    kept = {trial.number: trial.value for trial in study.trials if trial.state.is_finished()}
    resumed = search(RECIPE, frame, folds, Tuning(trials=done + 2), storage_url=url)
    table = resumed.trials.set_index("number")
    assert table["state"].isin(["complete", "pruned"]).sum() == done + 2
    for number, value in kept.items():
        assert table.loc[number, "value"] == value or value is None


def test_strength_is_one_of_those_tried(frame, folds):
    recipe = Recipe("linear", "churn")
    assert choose_strength(recipe, frame, folds) in STRENGTHS


def test_noise_asks_for_a_tight_prior(frame, folds, small):
    rng = np.random.default_rng(0)
    shuffled = small.with_columns(frame, rows={"label": rng.permutation(frame.rows["label"])})
    recipe = Recipe("linear", "churn")
    assert choose_strength(recipe, shuffled, folds) == STRENGTHS[0]
