"""Without a history one begins today; what was seen once is known for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pandas as pd
import pytest

from configs.runtime import formatting
from configs.runtime.errors import StateError
from training.health_audit.score_log import seen_scores

HEAVY = ("feast", "mlflow", "bentoml", "lightgbm", "optuna", "sklearn", "shap", "numba", "ibis",
         "fastapi", "sqlalchemy", "pandera")  # fmt: skip


def one_day(made, accounts=200):
    scores, outcomes = made.company(accounts=accounts)
    last = scores[scores["scored_on"] == scores["scored_on"].max()]
    return last.drop(columns="scored_on"), outcomes


def test_names_the_date_of_a_verdict(made, tmp_path):
    today, outcomes = one_day(made)
    done = made.run(tmp_path, today, outcomes)
    assert done.content is None
    said = " ".join(done.lines)
    assert "no evaluation yet" in said
    assert f"first possible verdict on {formatting.day(done.wait.first_on)}" in said
    days = (outcomes["decided_on"].max() - outcomes["decided_on"].min()).days
    per_year = len(outcomes) / days * 365.25
    assert done.wait.losses_per_year == pytest.approx(per_year)
    assert done.wait.first_on > made.NOW + timedelta(days=91)
    assert done.wait.full_on > done.wait.first_on
    assert done.as_dict()["first_verdict_on"] == f"{done.wait.first_on:%Y-%m-%d}"


def test_without_outcomes_a_rate_is_assumed(made, tmp_path):
    done = made.run(tmp_path, one_day(made)[0], None)
    assert "assumed loss of 10\xa0% of accounts a year" in " ".join(done.lines)


def test_is_append_only_and_tells_changes(made, tmp_path):
    today, outcomes = one_day(made)
    first = made.run(tmp_path, today, outcomes)
    kept = sorted((tmp_path / "out" / "recorded").glob("*/scores.parquet"))
    assert first.recorded.n_new == len(today)
    again = made.run(tmp_path, today, outcomes)
    assert (again.recorded.n_new, again.recorded.n_changed) == (0, 0)
    later = today.assign(health_score=today["health_score"] - 1, band="red")
    third = made.run(tmp_path, later, outcomes)
    assert third.recorded.n_changed == len(today)
    before = [path.read_bytes() for path in kept]
    assert [path.read_bytes() for path in kept] == before
    assert len(seen_scores(tmp_path / "out" / "recorded")) == 2 * len(today)


def test_recordings_become_the_history(made, tmp_path):
    scores, outcomes = made.company(accounts=250)
    days = sorted(scores["scored_on"].unique())[::3]
    for day in days:
        now = pd.Timestamp(day, tz="UTC").to_pydatetime() + timedelta(hours=8)
        today = scores[scores["scored_on"] == day].drop(columns="scored_on")
        done = made.run(tmp_path, today, None, now=now)
    done = made.run(tmp_path, today, outcomes, now=made.NOW)
    found = done.content["targets"]["churn"]
    assert found["test"]["events"] >= 20
    assert found["models"][0]["auc"]["value"] > 0.7
    late = next(item for item in found["checks"] if item["code"] == "written_late")
    assert late["passed"] is True


def test_damage_is_named(made, tmp_path):
    made.run(tmp_path, one_day(made)[0], None)
    part = next((tmp_path / "out" / "recorded").glob("*/scores.parquet"))
    part.write_bytes(b"x")
    with pytest.raises(StateError, match="a recording is damaged"):
        made.run(tmp_path, one_day(made)[0], None)


def test_light_imports(made, tmp_path):
    """The command runs with nothing but the light dependencies importable."""
    scores, outcomes = made.company(accounts=120)
    scores.to_csv(tmp_path / "scores.csv", index=False)
    outcomes.to_csv(tmp_path / "outcomes.csv", index=False)
    program = (
        "import sys\n"
        f"heavy = {HEAVY!r}\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in heavy: raise ImportError('heavy: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import bellwether\n"
        "sys.argv = ['bellwether', '--debug', 'audit', 'scores.csv', 'outcomes.csv', '--json',\n"
        "            '--draws', '100', '--today', '2026-01-05']\n"
        "try:\n"
        "    bellwether.main()\n"
        "finally:\n"
        "    assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["targets"]["churn"]["verdict"]["word"]
    assert (tmp_path / "audit" / "audit.html").is_file()
