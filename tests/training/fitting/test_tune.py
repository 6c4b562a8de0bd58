import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import optuna
import pytest
from pydantic import ValidationError
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.metrics import log_loss
from sqlalchemy import create_engine, make_url, text

from configs.runtime.errors import ConfigError, UnavailableError
from configs.schema.company import Tuning
from training.data.splits import make_folds
from training.fitting.fit import DEFAULT_TREES, TrainingConfig, choose_tier
from training.fitting.tune import (
    SPACE,
    STRENGTHS,
    TrialTask,
    _learning_curve,
    _Runner,
    _subset,
    choose_strength,
    compare_trials,
    search,
    space_for,
    study_name,
)

RECIPE = TrainingConfig("lightgbm", "churn", seeds=(1,), threads=1)


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
    if found.trees == DEFAULT_TREES:
        assert found.rounds in {RECIPE.rounds, first["rounds"]}
    else:
        assert found.trees == {name: best[name] for name in SPACE}
        assert found.rounds == best["rounds"]
        assert found.note.startswith("tuning lowered log-loss from 0.")
    assert capfd.readouterr() == ("", "")


def test_a_second_call_goes_on_where_the_first_stopped(frame, folds, url):
    search(RECIPE, frame, folds, Tuning(trials=2), storage_url=url)
    longer = search(RECIPE, frame, folds, Tuning(trials=4), storage_url=url)
    again = search(RECIPE, frame, folds, Tuning(trials=4), storage_url=url)
    assert len(longer.trials) == len(again.trials) == 4
    assert longer.trees == again.trees


def test_a_search_that_was_stopped_comes_to_the_same_trials(frame, folds, tmp_path):
    urls = [f"sqlite:///{tmp_path / name}" for name in ("stopped.db", "through.db")]
    for trials in (2, 4):
        stopped = search(RECIPE, frame, folds, Tuning(trials=trials), storage_url=urls[0])
    through = search(RECIPE, frame, folds, Tuning(trials=4), storage_url=urls[1])
    settings = ["number", "value", *SPACE]
    assert stopped.trials[settings].equals(through.trials[settings])


def test_the_same_search_in_a_new_storage_finds_the_same(frame, folds, tmp_path):
    urls = [f"sqlite:///{tmp_path / name}" for name in ("one.db", "two.db")]
    one, two = (search(RECIPE, frame, folds, Tuning(trials=3), storage_url=u) for u in urls)
    assert (one.trees, one.rounds) == (two.trees, two.rounds)


def test_other_data_or_another_recipe_is_another_study(frame, folds, small):
    name = study_name(RECIPE, frame, folds)
    other = small.make_frame(seed=2)
    assert name == study_name(RECIPE, frame, folds)
    assert name != study_name(RECIPE, other, folds)
    assert name != study_name(TrainingConfig("lightgbm", "expansion", seeds=(1,)), frame, folds)
    assert name == study_name(
        TrainingConfig("lightgbm", "churn", seeds=(1,), threads=2), frame, folds
    )


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


def test_time_that_is_up_ends_a_trial_half_way_and_costs_nothing(frame, folds, url, monkeypatch):
    with monkeypatch.context() as patch:
        clock = iter(range(0, 10_000_000, 3))
        patch.setattr("training.fitting.tune.time.monotonic", lambda: float(next(clock)))
        short = search(RECIPE, frame, folds, Tuning(trials=9, timeout_seconds=30), storage_url=url)
    assert list(short.trials["state"]) == ["pruned"]
    assert (short.trees, short.rounds) == (dict(RECIPE.trees), RECIPE.rounds)
    assert "no trial finished" in short.note
    longer = search(RECIPE, frame, folds, Tuning(trials=3), storage_url=url)
    default = longer.trials[longer.trials["state"] == "complete"].iloc[0]
    assert {name: default[name] for name in DEFAULT_TREES} == DEFAULT_TREES, "tried again"


def test_the_default_is_first_given_the_rounds_it_asks_for(frame, folds, url):
    short = replace(RECIPE, rounds=2)
    found = search(short, frame, folds, Tuning(trials=1), storage_url=url)
    (only,) = found.trials.itertuples()
    assert found.trees == DEFAULT_TREES
    assert found.rounds == only.rounds > 2
    long = search(
        replace(RECIPE, rounds=found.rounds), frame, folds, Tuning(trials=4), storage_url=url
    )
    assert long.rounds == found.rounds or long.trees != DEFAULT_TREES


def test_a_trial_learns_from_whole_accounts_of_a_part_that_is_always_the_same(frame):
    most = len(frame) // 3
    part, again = _subset(frame, most), _subset(frame.take(np.arange(len(frame))), most)
    assert 0.2 * len(frame) < len(part) < 0.5 * len(frame)
    assert part.rows.equals(again.rows)
    rows = frame.rows["entity_id"].value_counts()
    assert part.rows["entity_id"].value_counts().to_dict().items() <= rows.to_dict().items()
    assert _subset(frame, len(frame)) is frame


@pytest.fixture
def runner(frame, folds) -> _Runner:
    return _Runner(TrialTask(RECIPE, frame, folds, Tuning(), SPACE, ""), 0.0)


def loss_of_log_odds(booster, fold, rounds: int) -> float:
    """Log-loss of the margins after the shift that makes their mean the observed rate."""
    raw = booster.predict(fold.matrix, raw_score=True, num_iteration=rounds)
    rate = fold.label.mean()
    shift = brentq(lambda by: expit(raw + by).mean() - rate, -20.0, 20.0, xtol=1e-13)
    return log_loss(fold.label, expit(raw + shift))


def test_the_learning_curve_is_the_loss_of_the_log_odds(runner):
    for fold in runner.folds:
        curve, booster = _learning_curve(RECIPE, fold, math.inf)
        for rounds in (1, int(curve.argmin()) + 1, len(curve)):
            wanted = loss_of_log_odds(booster, fold, rounds)
            assert curve[rounds - 1] == pytest.approx(wanted, abs=1e-8)
        assert booster.best_iteration == curve.argmin() + 1


def test_what_is_recorded_of_a_trial_is_the_loss_of_its_boosters(frame, folds, url, runner):
    found = search(RECIPE, frame, folds, Tuning(trials=6), storage_url=url)
    finished = found.trials[found.trials["state"] == "complete"]
    assert len(finished) > 1
    for trial in finished.to_dict("records"):
        settings = {name: trial[name] for name in SPACE} | {
            name: int(trial[name]) for name in SPACE if SPACE[name][0].startswith("int")
        }
        rounds = int(trial["rounds"])
        losses = [
            loss_of_log_odds(
                lightgbm.train(
                    {**fold.train.params, **settings, "seed": RECIPE.seeds[0]},
                    fold.train,
                    num_boost_round=rounds,
                ),
                fold,
                rounds,
            )
            for fold in runner.folds
        ]
        assert trial["value"] == pytest.approx(np.mean(losses), abs=1e-8)


@pytest.mark.parametrize("rounds", [25, 399])
def test_boosters_that_are_there_lose_what_boosters_grown_for_it_lose(runner, rounds):
    boosters = [_learning_curve(RECIPE, fold, math.inf)[1] for fold in runner.folds]
    assert max(booster.current_iteration() for booster in boosters) < 399
    default = replace(RECIPE, rounds=rounds)
    found = replace(RECIPE, trees={**DEFAULT_TREES, "num_leaves": 6}, rounds=20)
    there = {tuple(sorted(RECIPE.trees.items())): boosters}
    again = compare_trials(default, found, runner.folds, {})
    assert compare_trials(default, found, runner.folds, there) == again


def test_both_sides_are_compared_on_the_same_rows(runner):
    other = replace(RECIPE, trees={**DEFAULT_TREES, "num_leaves": 6}, rounds=20)
    there, back = (
        compare_trials(*pair, runner.folds, {}) for pair in ((RECIPE, other), (other, RECIPE))
    )
    assert (there.before, there.after, there.error) == (back.after, back.before, back.error)
    same = compare_trials(other, other, runner.folds, {})
    assert same.gain == same.error == 0.0
    assert not same.is_clear


def test_settings_that_are_clearly_better_are_taken(frame, folds, url):
    """From a default that cannot learn, so that the search must win."""
    blunt = replace(RECIPE, trees={**DEFAULT_TREES, "lambda_l2": 1e6, "learning_rate": 1e-4})
    found = search(blunt, frame, folds, Tuning(trials=6), storage_url=url)
    best = found.trials.loc[found.trials["value"].idxmin()]
    assert found.trees == {name: best[name] for name in SPACE}
    told = re.fullmatch(
        r"tuning lowered log-loss from (0\.\d{4}) to (0\.\d{4}) on the test rows of the search "
        r"\(standard error of the difference 0\.\d{4}\)",
        found.note,
    )
    assert float(told[1]) > float(told[2])


SEARCH = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("world", {world!r})
    world = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world)
    from configs.schema.company import Tuning
    from training.fitting.fit import TrainingConfig
    from training.data.splits import make_folds
    from training.fitting.tune import search
    frame = world.make_frame()
    folds = make_folds(frame, folds=2, fold_days=91)
    recipe = TrainingConfig("lightgbm", "churn", seeds=(1,), threads=1)
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
    world = Path(__file__).parents[1] / "conftest.py"
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


@pytest.mark.server
def test_processes_share_one_search_on_postgresql(small, scratch_database):
    """A training with a helper, joined by a third process: no trial runs twice, none is lost."""
    rows = small.make_frame(accounts=150, months=12)
    folds = make_folds(rows, folds=1, fold_days=91)
    code = SEARCH.replace("make_frame()", "make_frame(accounts=150, months=12)")
    code = code.replace("folds=2", "folds=1").replace("trials=10_000", "trials=40, workers=2")
    world = Path(__file__).parents[1] / "conftest.py"
    code = textwrap.dedent(code).format(world=str(world), url=scratch_database)
    other = subprocess.Popen([sys.executable, "-c", GUARDED.format(code=code)])
    deadline = time.monotonic() + 120
    while not begun(scratch_database):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    table = search(RECIPE, rows, folds, Tuning(trials=40), storage_url=scratch_database).trials
    assert other.wait(timeout=120) == 0
    finished = table["state"].isin(["complete", "pruned"])
    assert 40 <= finished.sum() <= 40 + 2
    assert table["number"].tolist() == list(range(len(table)))
    assert not table[finished].duplicated(list(SPACE)).any()
    assert table["worker"].nunique() >= 2


def begun(url: str) -> bool:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        there = connection.execute(text("SELECT to_regclass('trials') IS NOT NULL")).scalar_one()
        ended = "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"
        found = bool(there and connection.execute(text(ended)).scalar_one())
    engine.dispose()
    return found


GUARDED = """
if __name__ == "__main__":
    exec({code!r})
"""


def test_a_storage_that_is_not_there_is_told(frame, folds):
    url = "postgresql://nobody:secret@127.0.0.1:9/none"
    with pytest.raises(UnavailableError, match="search is unavailable") as told:
        search(RECIPE, frame, folds, Tuning(trials=1), storage_url=url)
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigError, match="invalid database URL"):
        search(RECIPE, frame, folds, Tuning(trials=1), storage_url="here")


def test_the_company_says_where_to_search(frame, folds, url):
    tuning = Tuning.model_validate({"trials": 3, "space": {"num_leaves": [5, 6]}})
    space = space_for(choose_tier(200), tuning)
    assert space["num_leaves"] == ("int", 5, 6)
    assert space["max_depth"] == ("int", 2, 4)
    found = search(RECIPE, frame, folds, tuning, storage_url=url, space=space)
    assert set(found.trials["num_leaves"]) <= {5, 6}
    for wrong in ({"num_leaves": [1, 8]}, {"max_depth": [3, 2]}, {"leaves": [2, 3]}):
        with pytest.raises(ValidationError):
            Tuning.model_validate({"space": wrong})


def test_strength_is_one_of_those_tried(frame, folds):
    recipe = TrainingConfig("linear", "churn")
    assert choose_strength(recipe, frame, folds) in STRENGTHS


def test_noise_asks_for_a_tight_prior(frame, folds, small):
    rng = np.random.default_rng(0)
    shuffled = small.with_columns(frame, rows={"label": rng.permutation(frame.rows["label"])})
    recipe = TrainingConfig("linear", "churn")
    assert choose_strength(recipe, shuffled, folds) == STRENGTHS[0]


def test_other_code_is_another_study(frame, folds, monkeypatch):
    """Trials that were measured another way are not taken up."""
    first = study_name(RECIPE, frame, folds)
    monkeypatch.setattr("training.fitting.tune.code_digest", lambda name: f"another {name}")
    assert study_name(RECIPE, frame, folds) != first
