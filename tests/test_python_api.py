"""The Python API on a simulated company: every example of its documentation, and its results."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest

import bellwether
from configs.runtime.errors import ConfigError, DataError, StateError

matplotlib.use("Agg")

ROOT = Path(bellwether.__file__).parent
QUICK = {
    "folds": 3,
    "fold_days": 91,
    "model_seeds": 1,
    "bootstrap_draws": 100,
    "threads": 1,
    "tuning": {"trials": 0},
}


@dataclass(frozen=True)
class Opened:
    """A company that was trained, published and scored through the API alone."""

    company: bellwether.Company
    folder: Path
    data: Path
    said: list[str]


@pytest.fixture(scope="module")
def opened(simulated_company, tmp_path_factory) -> Opened:
    root = tmp_path_factory.mktemp("api")
    config = {**simulated_company.config(), "training": QUICK}
    del config["targets"]["expansion"]
    simulated_company.copy_into(root, config)
    data, said = simulated_company.data, []
    company = bellwether.open(root, data=data, state=root / "state", progress=said.append)
    company.train()
    company.promote("first")
    company.score()
    return Opened(company, root, data, said)


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    yield from finder.find(bellwether, "bellwether")
    for item in (bellwether.open, bellwether.simulate, bellwether.audit):
        yield from finder.find(item, f"bellwether.{item.__name__}")
    yield from doctest.DocTestFinder().find(bellwether.Company, "Company")


EXAMPLES = [example for example in examples() if example.examples]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_of_the_documentation_runs(opened, tmp_path, example):
    data, state = opened.data, opened.folder / "state"
    example.globs = {
        "bellwether": bellwether,
        "company": opened.company,
        "data": data,
        "state": state,
        "new_folder": tmp_path / "new",
        "health_scores": pd.read_parquet(data / "health_scores.parquet"),
        "outcomes": decided(opened),
    }
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=options)
    runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)


def decided(opened: Opened) -> pd.DataFrame:
    """Losses of the company, with the day of each decision."""
    frame = opened.company.labels("churn").frame
    lost = frame[frame["label"] == 1].drop_duplicates("entity_id", keep="last")
    return pd.DataFrame(
        {
            "account_id": lost["entity_id"],
            "decided_on": lost["decision_at"].dt.date,
            "outcome": "churn",
        }
    )


def test_every_method_has_an_example_or_says_what_it_returns():
    documented = {example.name.split(".")[-1] for example in EXAMPLES}
    named = {"check", "revenue", "features", "train", "score", "scores", "explain", "report"}
    assert named <= documented
    assert {"open", "simulate", "audit"} <= documented


def drawn(result: Any, **options) -> str:
    import matplotlib.pyplot as plt

    axes = result.plot(**options)
    text = axes.get_title()
    assert axes.has_data()
    plt.close(axes.figure)
    return text


@pytest.mark.slow
def test_results_show_themselves_as_html_and_as_a_chart(opened):
    company = opened.company
    account = company.scores().frame["account_id"].iloc[0]
    results = {
        "Data quality": company.check(),
        "Revenue retention": company.revenue(),
        "AUC by target": company.trained(),
        "churn: AUC": company.trained()["churn"],
        "Churn risk": company.scores(),
        f"{account}: parts": company.explain(account),
        "Drift": company.monitor(),
    }
    for words, result in results.items():
        assert "<table" in result._repr_html_()
        assert drawn(result).startswith(words)


@pytest.mark.slow
def test_names_of_accounts_are_escaped_in_html(opened):
    scores = opened.company.scores()
    frame = scores.frame.assign(name="<script>alert(1)</script>")
    html = replace(scores, frame=frame)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.slow
def test_scores_are_the_rows_that_are_exported(opened):
    scores = opened.company.scores()
    exported = pd.read_csv(scores.run.folder / "scores.csv", float_precision="round_trip")
    assert len(scores) == len(exported)
    assert scores.frame["churn_risk"].tolist() == pytest.approx(
        exported["churn_risk"].tolist(), nan_ok=True, abs=0
    )
    assert scores.as_of == date(2026, 6, 29)
    assert opened.company.scores("2026-06-29").run == scores.run
    with pytest.raises(StateError, match="as of 2020-01-01 or earlier"):
        opened.company.scores("2020-01-01")


@pytest.mark.slow
def test_an_explanation_is_the_score_that_is_served_and_adds_up(opened):
    company = opened.company
    frame = company.scores().frame.set_index("account_id")
    for account in frame.index[frame["status"] == "scored"][:5]:
        explanation = company.explain(account)
        assert explanation.probability == frame.loc[account, "churn_risk"]
        assert explanation.low <= explanation.probability <= explanation.high
        assert explanation.parts.sum() == pytest.approx(explanation.probability, abs=1e-9)
        assert set(explanation.reasons["direction"]) <= {"raises", "lowers"}


@pytest.mark.slow
def test_shap_values_add_up_to_the_served_log_odds(opened):
    account = opened.company.scores().frame["account_id"].iloc[0]
    made = opened.company.shap_values("churn", [account])
    served = opened.company.explain(account).score["logit"]
    assert made.values[0].sum() + made.base_values[0] == pytest.approx(served, abs=1e-9)


@pytest.mark.slow
def test_features_of_a_past_day_are_the_last_snapshot_up_to_it(opened):
    latest = opened.company.features()
    past = opened.company.features("2026-02-17")
    assert latest.attrs["as_of"] == date(2026, 6, 29)
    assert past.attrs["as_of"] <= date(2026, 2, 17)
    assert latest.index.is_unique
    assert set(latest.columns) == set(opened.company.catalogue().index)
    with pytest.raises(DataError, match="no features as of 2001-01-01"):
        opened.company.features("2001-01-01")


@pytest.mark.slow
def test_a_challenger_is_compared_and_not_kept(opened):
    company = opened.company
    before = sorted(path.name for path in company.workspace.state.bundles.iterdir())
    config = company.training_config("churn")
    found = company.challenge("churn", replace(config, rounds=5))
    assert 0 <= found.auc <= 1
    assert "champion" in found.differences.index.get_level_values("rival")
    assert sorted(path.name for path in company.workspace.state.bundles.iterdir()) == before


@pytest.mark.slow
def test_progress_is_reported_to_the_callable_alone(opened, capsys):
    opened.company.check()
    assert any("churn: verdict" in line for line in opened.said)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_mistakes_name_the_closest_known_word(opened):
    with pytest.raises(DataError, match="no account 'A-0000'") as refused:
        opened.company.explain("A-0000")
    assert "did you mean" in refused.value.fix
    with pytest.raises(ConfigError, match="no trained target 'chrn'") as refused:
        opened.company.trained()["chrn"]
    assert refused.value.fix == 'did you mean "churn"?'


@pytest.mark.slow
def test_an_audit_of_frames_is_the_audit_of_their_files(opened, tmp_path):
    scores, outcomes = opened.data / "health_scores.parquet", decided(opened)
    outcomes.to_csv(tmp_path / "outcomes.csv", index=False)
    now = opened.company.now
    of_files = bellwether.audit(scores, tmp_path / "outcomes.csv", draws=100, now=now)
    of_frames = bellwether.audit(pd.read_parquet(scores), outcomes, draws=100, now=now)
    pd.testing.assert_frame_equal(of_files.verdicts, of_frames.verdicts)
    assert of_frames.html == of_frames.save(tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "<html" in of_frames.html
    assert "<table" in of_frames._repr_html_()
    assert "AUC" in of_frames.plot().get_xlabel()


HEAVY = ("pandas", "feast", "mlflow", "bentoml", "matplotlib", "shap", "typer", "pydantic")


def test_importing_the_api_imports_no_library():
    code = (
        "import sys, bellwether\n"
        "from bellwether import Company, Scores, audit\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_imports_neither_pandas_nor_a_model():
    code = (
        "import sys, bellwether\n"
        "sys.argv = ['bellwether', '--help']\n"
        "try:\n    bellwether.main()\nexcept SystemExit:\n    pass\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules and name != 'typer']\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
