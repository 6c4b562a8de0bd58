"""A ready-made table from the command line: check, train, promote, score, roll back."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import bellwether
from configs.runtime.state_directory import State
from configs.schema.company import load_company
from serving.scoring.export_rows import fact_texts
from training.data.splits import NOT_OUT_OF_TIME
from training.model import bundle as bundles
from training.registry.mlflow_registry import tracking_uri
from training.registry.releases import read_current

TRAINING = {
    "folds": 2,
    "repeats": 1,
    "model_seeds": 1,
    "bootstrap_draws": 100,
    "tuning": {"trials": 0},
}


def table(n: int = 500, seed: int = 1) -> pd.DataFrame:
    """One row per account; the last fifty have no label yet."""
    rng = np.random.default_rng(seed)
    tenure, tickets = rng.integers(1, 72, n), rng.poisson(2, n)
    plan = rng.choice(["basic", "pro", "enterprise"], n, p=[0.5, 0.3, 0.2])
    logit = -0.3 - 0.06 * tenure + 0.5 * tickets + 0.9 * (plan == "basic")
    left = np.where(rng.random(n) < 1 / (1 + np.exp(-logit)), "Yes", "No").astype(object)
    left[-50:] = ""
    wide = {f"wide_{i}": rng.normal(size=n).round(3) for i in range(210)}
    return pd.DataFrame(
        {
            "customer": [f"=C-{i:04d}" for i in range(n)],
            "tenure": tenure,
            "tickets": tickets,
            "plan": plan,
            "city": [f"city {i}" for i in rng.integers(0, 10_000, n)],
            **wide,
            "nothing": "",
            "churned": left,
        }
    )


def run(*words) -> SimpleNamespace:
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, sys.argv = sys.argv, ["bellwether", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            bellwether.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    return SimpleNamespace(code=code, out=out.getvalue(), err=" ".join(err.getvalue().split()))


def configure(folder: Path, *exclude) -> None:
    keys = {"file": "table.csv", "id": "customer", "label": "churned", "segment": "plan"}
    raw = {
        "name": "ready",
        "now": "2024-07-01T00:00:00Z",
        "table": keys,
        "training": TRAINING,
        "exclude_features": ["wide_20?", *exclude],
    }
    (folder / "company.yaml").write_text(yaml.safe_dump(raw))


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> SimpleNamespace:
    """A company whose table was trained on and published, and its 50 open rows scored."""
    folder = tmp_path_factory.mktemp("ready")
    table().to_csv(folder / "table.csv", index=False)
    said = run("init", folder, "--table", folder / "table.csv")
    assert said.code == 0, said
    guessed = yaml.safe_load((folder / "company.yaml").read_text())
    raw = guessed | {"name": "ready", "now": "2024-07-01T00:00:00Z", "training": TRAINING}
    raw["exclude_features"] = ["wide_20?"]
    (folder / "company.yaml").write_text(yaml.safe_dump(raw))
    options = (str(folder), "--state", str(folder / "state"))
    done = run("run", *options)
    assert done.code == 0, done
    state = State(folder / "state")
    release = read_current(state.releases)
    assert release is not None
    sha = release.bundles["churn"]["sha"]
    return SimpleNamespace(
        folder=folder, options=options, state=state, release=release,
        scored=next(state.scores.glob("*/manifest.json")).parent,
        bundle=bundles.load(state.bundles / sha, sha), guessed=guessed, said=said.out,
    )  # fmt: skip


def test_the_columns_of_a_table_are_guessed_and_the_guesses_said(ready, tmp_path):
    keys = {"file": "table.csv", "id": "customer", "label": "churned", "segment": "plan"}
    assert ready.guessed["table"] == keys
    assert ready.guessed["data"] == "."
    assert "guessed, to be checked" in ready.said
    again = run("init", ready.folder, "--table", ready.folder / "table.csv")
    assert again.code != 0
    assert "nothing was written" in again.err
    elsewhere = run("init", tmp_path / "other", "--table", ready.folder / "table.csv")
    assert elsewhere.code == 0
    company = load_company(tmp_path / "other")
    assert (company.data, company.table.file) == (str(ready.folder), "table.csv")
    text = (tmp_path / "other" / "company.yaml").read_text()
    assert "# guessed from its name, and two values" in text
    assert "#health_score:" in text


def test_it_is_published_as_provisional_and_says_why_everywhere(ready):
    assert ready.release.bundles["churn"]["verdict"] == "provisional"
    card = (ready.state.training / "churn" / "card.md").read_text()
    assert NOT_OUT_OF_TIME in card
    assert "Out of fold, but not out of time" in card
    gates = {gate["code"]: gate for gate in ready.release.evidence["churn"]["gates"]}
    assert not gates["folds"]["passed"]
    assert gates["folds"]["words"] == NOT_OUT_OF_TIME


def test_a_wide_table_with_every_kind_of_column_is_learned_from(ready):
    contract = ready.release.label_contracts["churn"]
    assert contract["used_rows"] == 450
    assert contract["excluded"] == {"no label given": 50}
    left_out = contract["columns_left_out"]
    assert left_out["nothing"] == "no value is known"
    assert "an identifier" in left_out["city"]
    assert left_out["wide_200"] == "excluded by the configuration"
    assert len(ready.bundle.info) == 3 + 200
    assert ready.bundle.manifest.metrics["auc"]["value"] > 0.7


def test_open_rows_are_scored_with_reasons_that_add_up(ready):
    folder = ready.scored
    scores = pq.read_table(folder / "scores.parquet").to_pandas()
    assert len(scores) == 50
    assert scores["churn_risk"].is_monotonic_decreasing
    assert set(scores["account_id"]) == {f"=C-{i:04d}" for i in range(450, 500)}
    points = pq.read_table(folder / "points.parquet").to_pandas().set_index("entity_id")
    total = points.drop(columns="as_of").sum(axis=1)
    by_id = scores.set_index("account_id")["churn_risk"]
    np.testing.assert_allclose(total[by_id.index], by_id, atol=1e-9)
    first = scores.iloc[0]
    assert any("typical" in reason for reason in first["reasons"])
    assert first["reason_codes"][0].startswith("churn.column:")
    assert first["verdict"] == "provisional"
    text = (folder / "scores.csv").read_text()
    assert "'=C-0450" in text, "a spreadsheet must not take an id for a formula"


def test_new_rows_are_scored_like_the_same_rows_in_the_table(ready, tmp_path):
    rows = table().iloc[-50:].drop(columns=["churned", "nothing"])
    rows.sample(frac=1, random_state=1)[rows.columns[::-1]].to_parquet(tmp_path / "new.parquet")
    done = run("score", *ready.options, "--rows", tmp_path / "new.parquet", "--out",
               tmp_path / "out" / "scores.csv")  # fmt: skip
    assert done.code == 0, done
    known = pq.read_table(ready.scored / "scores.parquet").to_pandas()
    written = pd.read_csv(tmp_path / "out" / "scores.csv", float_precision="round_trip")
    np.testing.assert_array_equal(written["churn_risk"], known["churn_risk"])
    assert [item.lstrip("'") for item in written["account_id"]] == known["account_id"].tolist()


def test_values_never_seen_and_unreadable_count_as_missing_and_are_told(ready, tmp_path):
    rows = table().iloc[:5].astype(object)
    rows.loc[0, "plan"], rows.loc[1, "tenure"], rows.loc[2, "tickets"] = "gold", "long", "inf"
    rows.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "scores.parquet"
    done = run("score", *ready.options, "--rows", tmp_path / "new.csv", "--out", out)
    assert done.code == 0, done
    assert "plan: 1 of 5 values were not learned from and count as missing" in done.out
    assert "tenure: 1 of 5 values cannot be read and count as missing" in done.out
    assert pq.read_table(out)["churn_risk"].null_count == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.rename(columns={"tenure": "tenur"}), 'tenure did you mean "tenur"?'),
        (lambda t: t.drop(columns="customer"), "1 of 204 columns the model needs are not there"),
        (lambda t: t.iloc[:0], "there is no row to score"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(ready, tmp_path, change, words):
    change(table().iloc[:5]).to_csv(tmp_path / "new.csv", index=False)
    done = run("score", *ready.options, "--rows", tmp_path / "new.csv")
    assert done.code == 4
    assert words in done.err


def test_a_second_run_makes_nothing_again_and_a_retrain_can_be_taken_back(ready):
    again = run("run", *ready.options)
    assert "nothing changed since the last training" in again.out
    assert f"release {ready.release.release_id} is current already" in again.out
    configure(ready.folder, "wide_*")
    try:
        assert run("train", *ready.options).code == 0
        assert run("promote", *ready.options, "--note", "narrower").code == 0
        assert read_current(ready.state.releases).release_id != ready.release.release_id
        assert "narrower" in run("releases", *ready.options).out
        assert run("rollback", *ready.options).code == 0
    finally:
        configure(ready.folder)
    assert read_current(ready.state.releases).release_id == ready.release.release_id


def test_it_is_registered(ready):
    from mlflow import MlflowClient

    workspace = bellwether.workspace_of(str(ready.folder), str(ready.folder / "state"), None)
    client = MlflowClient(tracking_uri(workspace), registry_uri=tracking_uri(workspace))
    version = client.get_model_version_by_alias("ready-churn", "champion")
    assert version.tags["sha"] == ready.release.bundles["churn"]["sha"]


def test_the_registered_model_takes_the_rows_of_the_file_and_answers_as_score_does(ready):
    import mlflow

    workspace = bellwether.workspace_of(str(ready.folder), str(ready.folder / "state"), None)
    mlflow.set_tracking_uri(tracking_uri(workspace))
    try:
        model = mlflow.pyfunc.load_model("models:/ready-churn@champion")
    finally:
        mlflow.set_tracking_uri(None)
    raw = pd.read_csv(ready.folder / "table.csv").iloc[-50:].set_index("customer")
    found = model.predict(raw.drop(columns="churned"))
    scores = pq.read_table(ready.scored / "scores.parquet").to_pandas().set_index("account_id")
    scores = scores.loc[found.index]
    assert found["probability"].tolist() == scores["churn_risk"].tolist()
    for name in ("low", "high", "confidence", "base"):
        assert found[name].tolist() == scores[name].tolist()
    shown = [
        fact_texts(reason for reason in reasons if reason["direction"] == "raises")
        for reasons in found["reasons"]
    ]
    assert shown == [list(item) for item in scores["reasons"]]
    assert any(shown)


def test_check_tells_how_every_column_is_read(ready, tmp_path):
    (tmp_path / "table.csv").write_text("customer,plan,empty,churned\na,x,,1\nb,y,,0\nc,y,,\n")
    configure(tmp_path)
    text = run("check", tmp_path, "--state", tmp_path / "state").out
    assert "no value is known" in text
    assert "1 of 2 rows; left out: 1 no label given" in " ".join(text.split())
    told = json.loads(run("check", *ready.options, "--json").out)
    read = {column["name"]: column for column in told["columns"]}
    assert (read["plan"]["part"], read["plan"]["kind"]) == ("feature, segment", "category")
    assert read["customer"]["part"] == "id"


@pytest.mark.parametrize("command", ["features", "report", "refresh", "serve"])
def test_what_needs_sources_is_refused_in_words(ready, command):
    done = run(command, *ready.options)
    assert done.code == 2
    assert "ready is a ready-made table" in done.err
    assert "bellwether score COMPANY --rows FILE" in done.err


def test_new_rows_are_asked_for_when_every_row_has_a_label(ready, tmp_path):
    configure(tmp_path)
    known = table()
    known[known["churned"] != ""].to_csv(tmp_path / "table.csv", index=False)
    done = run("score", tmp_path, "--state", ready.folder / "state")
    assert done.code == 4
    assert "--rows FILE" in done.err
    assert run("score", "simulated", "--rows", "x.csv", "--state", tmp_path).code == 2


def test_the_example_loads_and_says_what_it_is():
    company = load_company(Path(bellwether.__file__).parent / "configs" / "companies" / "telco")
    assert company.table is not None
    assert company.table.as_of is None
    assert company.training.folds == 5
