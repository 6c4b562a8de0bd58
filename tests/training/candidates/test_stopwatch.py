"""When the parts of a training began and how long they took: what the nested runs show."""

from __future__ import annotations

from datetime import UTC, datetime

import optuna
import pytest

from configs.runtime.stopwatch import Stopwatch
from training.candidates.train import train
from training.fitting.optuna_study import TRIAL_COLUMNS, open_study, trials_table


def test_a_training_measures_its_model_and_every_baseline(small, frame):
    began, watch = datetime.now(UTC), Stopwatch()
    found = train(frame, small.company(folds=2), storage_url="sqlite:///:memory:", stopwatch=watch)
    ended = datetime.now(UTC)
    baselines = set(found.evaluation.models) - {"model_raw"}
    assert set(watch.parts) == baselines >= {"model", "constant", "logistic"}
    for part in watch.parts.values():
        assert began <= part.began_at <= ended
        assert part.seconds > 0
    total = sum(part.seconds for part in watch.parts.values())
    assert total < (ended - began).total_seconds()
    assert watch.parts["model"].seconds > watch.parts["constant"].seconds


def test_a_part_that_fails_is_measured_too():
    ticks = iter([1.0, 4.0])
    watch = Stopwatch(ticks=lambda: next(ticks))
    with pytest.raises(ValueError, match="broken"), watch.part("logistic"):
        raise ValueError("broken")
    assert watch.parts["logistic"].seconds == 3.0


def test_trials_say_when_they_began_in_utc_and_how_long_they_took(tmp_path):
    began = datetime.now(UTC)
    with open_study(f"sqlite:///{tmp_path / 'optuna.db'}", "x", seed=1) as study:
        study.optimize(lambda trial: trial.suggest_float("rate", 0.0, 1.0), n_trials=2)
        study.enqueue_trial({"rate": 0.5})  # waits, and has not begun
        table = trials_table(study)
    assert list(table.columns) == [*TRIAL_COLUMNS, "rate"]
    done = table[table["state"] == optuna.trial.TrialState.COMPLETE.name.lower()]
    assert len(done) == 2
    for row in done.to_dict("records"):
        moment = datetime.fromisoformat(row["began_at"])
        assert began <= moment <= datetime.now(UTC)
        assert moment.utcoffset().total_seconds() == 0
        assert row["seconds"] > 0
    assert table["began_at"].isna().tolist() == [False, False, True]
