"""The tracking server mirrors: it never decides, and nothing is lost when it is away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import training.registry.mlflow_registry as module
from configs.runtime.errors import DataError, ModelError, UnavailableError
from configs.runtime.state_directory import State
from configs.schema.company import Company, Target
from configs.schema.workspace import Environment, Workspace
from features.tables.catalog import FeatureInfo
from training.candidates.build_manifest import reference
from training.data.training_frame import TrainingFrame
from training.fitting.fit import TrainingConfig, constant_rate, fit, fit_encoder, with_draws
from training.model.bundle import Bundle, load, save, sigmoid
from training.model.manifest import ModelManifest
from training.model.reasons import explain_alone
from training.registry.mlflow_artifacts import artifact_path, artifact_repository
from training.registry.mlflow_model import example_rows
from training.registry.mlflow_registry import (
    TrainingRecord,
    log_training,
    model_name,
    relog,
    repair_aliases,
    tracking_uri,
)
from training.registry.pyfunc import _load_pyfunc
from training.registry.releases import (
    Release,
    current,
    history,
    new_release,
    open_store,
    read_current,
)
from training.registry.tracking_store import DATABASE


def workspace(root: Path, tracking_url: str | None = None, name: str = "acme") -> Workspace:
    company = Company(name=name, targets={"churn": Target(outcome="churn", observed_in="labels")})
    return Workspace(company, root, root, State(root), Environment(tracking_url=tracking_url))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database after its migrations, to copy: they take seconds."""
    root = tmp_path_factory.mktemp("mlflow")
    module._client(workspace(root))
    return State(root).mlflow / DATABASE


@pytest.fixture
def company(migrated: Path, tmp_path: Path) -> Workspace:
    """A company in a folder with a space, whose tracking database is migrated and empty."""
    opened = workspace(tmp_path / "state of acme")
    opened.state.mlflow.mkdir(parents=True)
    shutil.copy(migrated, opened.state.mlflow / DATABASE)
    return opened


@pytest.fixture
def client(company: Workspace) -> Any:
    return module._client(company)


@cache
def small_frame() -> TrainingFrame:
    """Rows of 300 accounts with numbers, unknown values and a category."""
    rng = np.random.default_rng(3)
    n = 600
    users, plan = rng.poisson(12, n).astype(float), rng.choice(["basic", "pro", "enterprise"], n)
    nps = np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 11, n).astype(float))
    chance = sigmoid(-0.15 * (users - 10) + 0.8 * (plan == "basic") - 0.8)
    as_of = pd.Series(pd.Timestamp("2025-01-01", tz="UTC"), range(n), dtype="datetime64[us, UTC]")
    rows = pd.DataFrame(
        {
            "entity_id": [f"a{i // 2:03d}" for i in range(n)],
            "as_of": as_of,
            "label": (rng.random(n) < chance).astype("int8"),
            "label_known_at": as_of + pd.Timedelta(days=105),
            "decision_at": pd.Series(pd.NaT, range(n), dtype="datetime64[us, UTC]"),
            "arr": 1_000.0,
            "segment": "all",
            "is_under_contract": False,
            "days_to_renewal": np.nan,
            "health_score": np.nan,
        }
    )
    info = (
        FeatureInfo("users_28d", "usage", "active users", "", "count", 28, "adoption", -1, 1),
        FeatureInfo("nps", "sentiment", "last NPS answer", "", "score", None, "sentiment", -1, 0),
        FeatureInfo("plan", "commercial", "plan", "", "score", None, "context"),
        FeatureInfo("tickets_28d", "support", "tickets", "", "count", 28, "support", 1, 0),
    )
    values = {"users_28d": users, "nps": nps, "plan": plan, "tickets_28d": rng.poisson(2.0, n)}
    features = pd.DataFrame(values).astype({"tickets_28d": "float64", "plan": "object"})
    return TrainingFrame("churn", rows, features, info)


@cache
def grown() -> Bundle:
    """Two boosters with draws, a category among their features."""
    frame, recipe = (
        small_frame(),
        TrainingConfig("lightgbm", "churn", seeds=(1, 2), rounds=150, threads=1),
    )
    fitted = with_draws(recipe, fit(recipe, frame), frame)
    matrix = fitted.encoder.encode(frame.features).matrix
    manifest = {
        "target": "churn",
        "outcome": "churn",
        "verdict": "promotable",
        "label_contract": {},
        "seeds": [1, 2],
        "base_rate": float(frame.label.mean()),
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "reference": reference(fitted.encoder, matrix),
        "calibration": {
            "slope": 0.9,
            "intercept": -0.1,
            "covariance": [0.01, 0.0, 0.02],
            "rule": "affine",
            "n_events": 90,
        },
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


WAITING = {"number": 3, "state": "waiting", "began_at": float("nan"), "seconds": float("nan")}
"""A trial that was queued and never begun: no run."""

CALIBRATION_NONE = {
    "slope": 1.0, "intercept": 0.0, "covariance": [0.0, 0.0, 0.0], "rule": "identity",
    "n_events": 0,
}  # fmt: skip


def trial(number: int) -> dict[str, Any]:
    """A row of `training.fitting.optuna_study.trials_table`; the last trial was pruned."""
    return {
        "number": number,
        "state": "pruned" if number == 2 else "complete",
        "value": 0.5 - number / 100,
        "rounds": float("nan") if number == 2 else 40 + number,
        "began_at": f"2026-03-02T07:0{number}:00+00:00",
        "seconds": 12.25 + number,
        "worker": "host:1",
        "num_leaves": 4 + number,
        "learning_rate": 0.04,
    }


def record(company: Workspace, content: str = "tree", **changes: Any) -> TrainingRecord:
    bundle = replace(grown(), manifest=grown().manifest.changed(evidence=content))
    sha = save(bundle, company.state.bundles)
    base = TrainingRecord(
        target="churn",
        sha=sha,
        bundle=company.state.bundles / sha,
        verdict="promotable",
        fingerprint="d" * 16,
        config_hash="c0",
        params={"num_leaves": 6, "trees": {"rate": 0.04}, "names": ["x" * 40] * 40},
        metrics={"auc": 0.71, "auc_low": 0.65, "slope@90": 1.1, "brier": None, "odd": float("nan")},
        folds=[
            {"fold": 1, "cutoff": "2025-01-01", "auc": 0.70},
            {"fold": 2, "cutoff": "2025-04-01", "auc": 0.72},
        ],
        trials=[*(trial(k) for k in range(3)), WAITING],
        baselines=[
            {
                "name": "logistic",
                "began_at": "2026-03-02T08:00:00+00:00",
                "seconds": 41.5,
                "metrics": {"auc": {"value": 0.66, "low": 0.6, "high": 0.7}},
            }
        ],
        began_at="2026-03-02T07:00:00+00:00",
        ended_at="2026-03-02T08:30:00+00:00",
        rows=example_rows(
            small_frame(), source="Feast feature service churn", as_of=None, currency="EUR"
        ),
        label_contract={"horizon_days": 91},
        evaluation={"n_events": 120, "slope": float("nan")},
        gates=[{"code": "events", "passed": True}],
        figures={"reliability.svg": "<svg/>", "raw.png": b"\x89PNG"},
        card="# churn\n\nfine",
    )
    return replace(base, **changes)


def release(note: str = "", **bundles: TrainingRecord) -> Release:
    return new_release(
        note=note,
        created_at=datetime(2026, 3, 2, tzinfo=UTC),
        bundles={
            target: {"sha": item.sha, "verdict": item.verdict} for target, item in bundles.items()
        },
        feature_set={"hash": "f0", "names": ["a"]},
        bands={target: {"elevated": 0.1, "high": 0.3} for target in bundles},
        reason_catalogue_version="1",
        label_contracts={target: {} for target in bundles},
        config_hash="c0",
    )


def aliases(client: Any, company: Workspace, target: str = "churn") -> dict[str, str]:
    model = client.get_registered_model(model_name(company, target))
    return {alias: str(version) for alias, version in model.aliases.items()}


def artifacts(company: Workspace, client: Any, run_id: str) -> Path:
    return artifact_path(
        company.state.mlflow / "artifacts", client.get_run(run_id).info.artifact_uri
    )


def test_a_training_is_logged_whole(company: Workspace, client: Any) -> None:
    trained = record(company)
    logged = log_training(company, trained)
    run = client.get_run(logged.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["auc"] == 0.71
    assert run.data.metrics["slope_90"] == 1.1
    assert {"brier", "odd"}.isdisjoint(run.data.metrics)
    steps = client.get_metric_history(logged.run_id, "fold/auc")
    assert [(item.step, item.value) for item in steps] == [(0, 0.70), (1, 0.72)]
    assert run.data.params["num_leaves"] == "6"
    assert run.data.params["trees"] == '{"rate":0.04}'
    assert len(run.data.params["names"]) == module.MAX_PARAM
    assert run.data.tags["data_fingerprint"] == "d" * 16
    assert run.data.tags["bundle_sha"] == trained.sha
    assert (run.info.end_time - run.info.start_time) / 1_000 == 90 * 60


def test_runs_are_shown_as_model_training_with_source_and_commit(
    company: Workspace, client: Any
) -> None:
    run = client.get_run(log_training(company, record(company)).run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.data.tags["mlflow.source.name"] == "bellwether train acme"
    assert run.data.tags["mlflow.source.type"] == "LOCAL"
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(module.__file__).parent,
        capture_output=True,
        text=True,
    )
    commit = head.stdout.strip() if head.returncode == 0 else None
    assert run.data.tags.get("mlflow.source.git.commit") == commit


def test_an_experiment_without_a_kind_gets_one(company: Workspace, client: Any) -> None:
    client.create_experiment("acme-churn", artifact_location="mlflow-artifacts:/acme-churn")
    run = client.get_run(log_training(company, record(company)).run_id)
    found = client.get_experiment(run.info.experiment_id)
    assert (found.name, found.tags["mlflow.experimentKind"]) == (
        "acme-churn", "custom_model_development",
    )  # fmt: skip


def test_trials_and_baselines_are_nested_runs_with_their_own_durations(
    company: Workspace, client: Any
) -> None:
    logged = log_training(company, record(company))
    experiment = client.get_run(logged.run_id).info.experiment_id
    nested = client.search_runs(
        [experiment], f"tags.`mlflow.parentRunId` = '{logged.run_id}'", max_results=100
    )
    runs = {run.info.run_name: run for run in nested}
    assert sorted(runs) == ["baseline-logistic", "trial-0", "trial-1", "trial-2"]
    seconds = {name: (r.info.end_time - r.info.start_time) / 1_000 for name, r in runs.items()}
    assert seconds == {
        "baseline-logistic": 41.5, "trial-0": 12.25, "trial-1": 13.25, "trial-2": 14.25,
    }  # fmt: skip
    assert [runs[f"trial-{k}"].info.status for k in range(3)] == ["FINISHED", "FINISHED", "KILLED"]
    assert runs["trial-1"].data.params == {
        "num_leaves": "5", "learning_rate": "0.04", "state": "complete",
    }  # fmt: skip
    assert runs["trial-1"].data.metrics == {"log_loss": 0.49, "rounds": 41, "seconds": 13.25}
    assert runs["baseline-logistic"].data.metrics["auc_low"] == 0.6
    assert {run.data.tags["kind"] for run in nested} == {"trial", "baseline"}
    assert not any("bundle_sha" in run.data.tags for run in nested)


def test_the_rows_are_logged_as_a_data_set_and_the_metrics_with_the_model(
    company: Workspace, client: Any
) -> None:
    import mlflow.data

    run = client.get_run(log_training(company, record(company)).run_id)
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("churn training rows", "d" * 16)
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}
    columns = json.loads(used.dataset.schema)["mlflow_colspec"]
    names = [item.name for item in small_frame().info]
    assert [item["name"] for item in columns] == [*names, "label"]
    profile = json.loads(used.dataset.profile)
    assert profile["num_rows"] == len(small_frame())
    assert profile["num_events"] == small_frame().label.sum()
    assert "Feast feature service churn" in str(mlflow.data.get_source(used).to_dict())
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert {item.key: item.value for item in model.metrics}["auc"] == 0.71


def champion(company: Workspace, trained: TrainingRecord) -> Any:
    """Return the champion as MLflow's users load it."""
    import mlflow

    log_training(company, trained)
    repair_aliases(company, release(churn=trained))
    mlflow.set_tracking_uri(tracking_uri(company))
    try:
        return mlflow.pyfunc.load_model("models:/acme-churn@champion")
    finally:
        mlflow.set_tracking_uri(None)


def test_the_champion_is_loaded_and_answers_for_named_columns(company: Workspace) -> None:
    trained = record(company)
    model = champion(company, trained)
    inputs = model.metadata.signature.inputs
    names = [item.name for item in small_frame().info]
    assert inputs.input_names() == names
    assert str(inputs.input_dict()["plan"].type) == "DataType.string"
    assert {str(inputs.input_dict()[name].type) for name in names if name != "plan"} == {
        "DataType.double"
    }
    rows = small_frame().features.iloc[:40]
    assert {"basic", "pro", "enterprise"} == set(rows["plan"])
    assert rows["nps"].isna().any()
    shuffled = rows[names[::-1]].assign(account="not looked at").set_axis(range(7, 47))
    found = model.predict(shuffled)
    bundle = load(trained.bundle, trained.sha)
    matrix = bundle.encode(rows).matrix
    scores, why = bundle.predict(matrix), explain_alone(bundle, matrix, currency="EUR")
    assert list(found.index) == list(range(7, 47))
    assert list(found.columns) == model.metadata.signature.outputs.input_names()
    for name, wanted in (("probability", scores.p), ("low", scores.low), ("high", scores.high)):
        assert found[name].tolist() == wanted.tolist()
    assert found["confidence"].tolist() == scores.confidence
    assert found["reasons"].tolist() == [[*item["raises"], *item["lowers"]] for item in why]
    assert any(found["reasons"])
    for name in ("base", "themes", "context", "unknown", "circumstances"):
        assert found[name].tolist() == [item[name] for item in why]  # type: ignore[literal-required]
    total = found["base"] + found["context"] + found["unknown"]
    total += [sum(themes.values()) for themes in found["themes"]]
    assert total.to_numpy() == pytest.approx(found["probability"].to_numpy(), abs=1e-12)
    assert model.predict(model.input_example)["probability"].tolist() == scores.p[:3].tolist()


def test_a_column_that_is_missing_is_named(company: Workspace) -> None:
    from mlflow.exceptions import MlflowException

    model = champion(company, record(company))
    rows = small_frame().features.iloc[:2]
    with pytest.raises(MlflowException, match="users_28d"):
        model.predict(rows.drop(columns="users_28d"))
    with pytest.raises(ModelError, match="checksum"):
        _load_pyfunc(str(record(company, "another").bundle), {"sha": "0" * 64})
    with pytest.raises(DataError, match="1 of 4 input columns"):
        _load_pyfunc(str(record(company).bundle)).predict(rows.drop(columns="users_28d"))


def test_without_a_signal_the_base_rate_is_answered_without_reasons(company: Workspace) -> None:
    frame = small_frame()
    encoder = fit_encoder(frame)
    manifest = {
        **grown().manifest.to_dict(),
        "verdict": "no_signal",
        "calibration": CALIBRATION_NONE,
    }
    sha = save(
        Bundle(ModelManifest.from_dict(manifest), constant_rate(frame, encoder)),
        company.state.bundles,
    )
    model = champion(company, record(company, sha=sha, bundle=company.state.bundles / sha))
    found = model.predict(frame.features.iloc[:2])
    assert found["reasons"].tolist() == [[], []]
    assert found["base"].tolist() == found["probability"].tolist()


def test_artifacts_lie_beside_the_database(company: Workspace, client: Any) -> None:
    trained = record(company)
    folder = artifacts(company, client, log_training(company, trained).run_id)
    assert folder.is_relative_to(company.state.mlflow.resolve())
    assert (folder / "model_card.md").read_text() == trained.card
    assert json.loads((folder / "evaluation.json").read_text()) == {"n_events": 120, "slope": None}
    assert json.loads((folder / "label_contract.json").read_text()) == {"horizon_days": 91}
    assert (folder / "figures" / "reliability.svg").read_text() == "<svg/>"
    assert (folder / "figures" / "raw.png").read_bytes() == b"\x89PNG"
    table = json.loads((folder / "trials.json").read_text())
    assert table["columns"] == list(trial(0))
    assert len(table["data"]) == 4


def test_the_model_holds_the_bundle_and_no_pickle(company: Workspace, client: Any) -> None:
    trained = record(company)
    log_training(company, trained)
    (model,) = client.search_logged_models(
        [client.get_run(client.get_model_version("acme-churn", "1").run_id).info.experiment_id]
    )
    assert (model.name, model.status.value, model.model_type) == ("churn", "READY", "bellwether")
    folder = company.state.mlflow / "artifacts" / "acme-churn" / "models" / model.model_id
    files = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"MLmodel", "model_1.txt", "draw_0.txt", "manifest.json", "input_example.json"} <= names
    kept = folder / "artifacts" / "data" / trained.sha
    for path in trained.bundle.iterdir():
        assert (kept / path.name).read_bytes() == path.read_bytes()
    assert {path.suffix for path in files} == {"", ".json", ".txt", ".yaml"}
    for path in company.state.mlflow.rglob("*"):
        if path.is_file() and path.suffix != ".png" and path.name != DATABASE:
            path.read_text(encoding="utf-8")  # text throughout: nothing to unpickle


def test_a_bundle_becomes_a_version_and_the_challenger(company: Workspace, client: Any) -> None:
    trained = record(company)
    logged = log_training(company, trained)
    assert (logged.model_name, logged.version, logged.is_new) == ("acme-churn", "1", True)
    version = client.get_model_version("acme-churn", "1")
    assert version.status == "READY"
    assert version.run_id == logged.run_id
    assert version.source.startswith("models:/m-")
    assert version.tags == {"sha": trained.sha, "config_hash": "c0", "verdict": "promotable"}
    assert aliases(client, company) == {"challenger": "1"}
    second = log_training(company, record(company, "another tree"))
    assert second.version == "2"
    assert aliases(client, company) == {"challenger": "2"}


def test_the_same_bundle_is_not_logged_twice(company: Workspace, client: Any) -> None:
    first = log_training(company, record(company))
    again = log_training(company, record(company, verdict="provisional"))
    assert (again.run_id, again.version, again.is_new) == (first.run_id, first.version, False)
    assert client.get_model_version("acme-churn", "1").tags["verdict"] == "provisional"


def test_a_damaged_bundle_is_not_logged(company: Workspace, client: Any) -> None:
    trained = record(company)
    (trained.bundle / "model_1.txt").write_text("tampered")
    with pytest.raises(ModelError, match="checksums"):
        log_training(company, trained)
    assert client.search_registered_models() == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"metrics": {"auc": "good"}}, "auc"), ({"figures": {"../x.svg": ""}}, "plain file names")],
)
def test_what_cannot_be_logged_is_refused_first(
    company: Workspace, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ModelError, match=word):
        log_training(company, record(company, **changes))
    assert not (company.state.mlflow / module.PENDING).exists()


@pytest.mark.parametrize("step", ["log_batch", "log_table", "log_artifacts", "set_terminated"])
def test_nothing_is_registered_before_everything_is_there(
    company: Workspace, client: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_client", _failing_at(module._client, step))
        with pytest.raises(UnavailableError) as caught:
            log_training(company, record(company))
    assert "relog" in str(caught.value)
    assert "is kept" in str(caught.value)
    assert client.search_model_versions("name = 'acme-churn'") == []
    (logged,) = relog(company)
    assert logged.version == "1"
    assert aliases(client, company) == {"challenger": "1"}
    folder = artifacts(company, client, logged.run_id)
    assert (folder / "figures" / "raw.png").read_bytes() == b"\x89PNG"
    assert relog(company) == []


def test_a_version_whose_alias_was_not_set_is_found_again(
    company: Workspace, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_client", _failing_at(module._client, "set_registered_model_alias"))
        with pytest.raises(UnavailableError):
            log_training(company, record(company))
    (logged,) = relog(company)
    assert (logged.version, logged.is_new) == ("1", False)
    assert aliases(client, company) == {"challenger": "1"}


def test_a_server_that_is_away_costs_no_model(
    tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = workspace(tmp_path, "http://127.0.0.1:9")
    trained = record(away)
    with pytest.raises(UnavailableError, match="BELLWETHER_MLFLOW_URL") as caught:
        log_training(away, trained)
    assert trained.sha in str(caught.value)
    assert trained.bundle.is_dir()
    back = workspace(tmp_path)
    shutil.copy(migrated, back.state.mlflow / DATABASE)
    assert [logged.sha for logged in relog(back)] == [trained.sha]


def test_aliases_follow_the_release_store(company: Workspace, client: Any) -> None:
    first, second = record(company), record(company, "another tree")
    log_training(company, first)
    assert repair_aliases(company, release(churn=first)).champions == {"churn": "1"}
    assert aliases(client, company) == {"champion": "1"}
    log_training(company, second)
    assert aliases(client, company) == {"champion": "1", "challenger": "2"}
    for _ in range(2):
        repair_aliases(company, release(churn=second))
        assert aliases(client, company) == {"champion": "2", "previous": "1"}
    repair_aliases(company, release(churn=first), release(churn=second))
    assert aliases(client, company) == {"champion": "1", "previous": "2"}


PROMOTER = """
import json, sys, time
from pathlib import Path
import training.registry.mlflow_registry
from configs.schema.company import Company, Target
from configs.runtime.errors import StateError
from configs.schema.workspace import Environment, Workspace
from configs.runtime.state_directory import State
from training.promote import mirror_aliases
from training.registry.releases import current, open_store, publish, release_from_dict

company = Company(name="acme", targets={"churn": Target(outcome="churn", observed_in="labels")})
for line in sys.stdin:
    url, root, gate, name, releases = json.loads(line)
    root = Path(root)
    workspace = Workspace(company, root, root, State(root), Environment(ledger_url=url or None))
    store = open_store(workspace)
    training.registry.mlflow_registry._client(workspace)
    print("ready", flush=True)
    while not Path(gate).exists():
        time.sleep(0.001)
    won = 0
    for body in releases:
        before = current(store)
        try:
            publish(store, release_from_dict(body), before.release_id if before else None, by=name)
        except StateError as error:
            assert "meanwhile" in str(error), error
            continue
        won += 1
        mirror_aliases(workspace, store, before, lambda words: print(words, file=sys.stderr))
    store.engine.dispose()
    print(won, flush=True)
"""


@pytest.fixture(scope="module")
def promoters() -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that promote what they are told to; a tracking client takes seconds each."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTER],
            cwd=Path(module.__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    yield children
    for child in children:
        child.kill()
        child.communicate()


def hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_two_that_promote_at_once_leave_store_mirror_and_alias_at_one_release(
    company: Workspace,
    client: Any,
    url: str,
    tmp_path: Path,
    promoters: list[subprocess.Popen[str]],
) -> None:
    """Two processes, two promotions each, against one store and one tracking server."""
    trained = [record(company, f"tree {k}") for k in range(2)]
    for item in trained:
        log_training(company, item)
    root, gate = company.state.root, tmp_path / "go"
    for child, name, item in zip(promoters, ("ann", "bob"), trained, strict=True):
        releases = [release(note=f"{name}{k}", churn=item).as_dict() for k in range(2)]
        assert child.stdin is not None
        child.stdin.write(json.dumps([url, str(root), str(gate), name, releases]) + "\n")
        child.stdin.flush()
    assert [hear(child) for child in promoters] == ["ready", "ready"]
    gate.touch()
    won = [int(hear(child)) for child in promoters]
    store = open_store(replace(company, places=Environment(ledger_url=url or None)))
    published = history(store)
    assert sum(won) == len(published) >= 2
    assert [item.previous for item in published[1:]] == [i.release_id for i in published[:-1]]
    last = current(store)
    assert last == read_current(store.mirror_folder)
    assert last is not None
    assert last.release_id == published[-1].release_id
    version = str(1 + [item.sha for item in trained].index(last.bundles["churn"]["sha"]))
    assert aliases(client, company)["champion"] == version, "the alias follows the store"
    client.delete_registered_model_alias("acme-churn", "champion")
    repair_aliases(company, last)
    assert aliases(client, company)["champion"] == version, "and is repaired from it"
    store.engine.dispose()


def test_aliases_set_by_hand_are_put_right(company: Workspace, client: Any) -> None:
    first, second = record(company), record(company, "another tree")
    for item in (first, second):
        log_training(company, item)
    client.set_registered_model_alias("acme-churn", "champion", "2")
    repair_aliases(company, release(churn=first), release(churn=second))
    assert aliases(client, company) == {"champion": "1", "challenger": "2", "previous": "2"}
    repair_aliases(company, None)
    assert aliases(client, company) == {"challenger": "2", "previous": "1"}


def test_published_bundles_that_were_never_registered_are_named(company: Workspace) -> None:
    known, unknown = record(company), record(company, "never logged")
    log_training(company, known)
    found = repair_aliases(company, release(churn=unknown, expansion=known))
    assert found.champions == {}
    assert found.missing == {"churn": unknown.sha, "expansion": known.sha}


def test_another_company_on_the_same_server_is_left_alone(
    company: Workspace, client: Any, tmp_path: Path
) -> None:
    log_training(company, record(company))
    other = workspace(tmp_path / "globex", tracking_uri(company), "globex")
    theirs = record(other)
    log_training(other, theirs)
    repair_aliases(other, release(churn=theirs))
    assert aliases(client, company) == {"challenger": "1"}
    assert aliases(client, other) == {"champion": "1"}


READER = """
import json, sys
import pandas as pd
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/acme-churn@champion")
client = mlflow.MlflowClient()
run = client.get_run(client.get_model_version_by_alias("acme-churn", "champion").run_id)
artifacts = sorted(item.path for item in client.list_artifacts(run.info.run_id))
p = model.predict(model.input_example)["probability"].tolist()
print(json.dumps({"p": p, "artifacts": artifacts}))
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which this source tree is installed, plug-in and all."""
    root = Path(module.__file__).resolve().parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    metadata = tmp_path / "site" / "bellwether_source-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: bellwether-source\nVersion: 0\n")
    lines = [
        line
        for group, points in declared.items()
        for line in (f"[{group}]", *(f"{name} = {where}" for name, where in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(metadata.parent), str(root)])}


def test_a_moved_state_directory_is_loaded_by_mlflow_alone(
    company: Workspace, tmp_path: Path, installed: dict[str, str]
) -> None:
    trained = record(company)
    champion(company, trained)
    moved = workspace(tmp_path / "elsewhere" / "moved")
    moved.state.root.parent.mkdir()
    shutil.move(company.state.root, moved.state.root)
    read = subprocess.run(
        [sys.executable, "-c", READER, tracking_uri(moved)],
        env=installed, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout)
    bundle = load(moved.state.bundles / trained.sha, trained.sha)
    matrix = bundle.encode(small_frame().features.iloc[:3]).matrix
    assert found["p"] == bundle.predict(matrix).p.tolist()
    assert "model_card.md" in found["artifacts"]
    assert not company.state.root.exists(), "nothing was written to the old place"
    logged = log_training(moved, record(moved, "after the move"))
    assert logged.version == "2"
    assert not company.state.root.exists()
    database = (moved.state.mlflow / DATABASE).read_bytes()
    assert str(tmp_path / "state of acme").encode() not in database


def test_an_experiment_of_an_earlier_version_keeps_its_runs_under_another_name(
    company: Workspace, client: Any
) -> None:
    old = client.create_experiment("acme-churn", artifact_location="file:///gone/mlflow/artifacts")
    run = client.get_run(log_training(company, record(company)).run_id)
    assert client.get_experiment(old).name == f"acme-churn-earlier-{old}"
    assert client.get_experiment(run.info.experiment_id).name == "acme-churn"


def test_a_version_mlflow_cannot_load_is_registered_again(company: Workspace, client: Any) -> None:
    """Version 0.1.0 registered the bare folder of a bundle; the same bundle is trained again."""
    trained = record(company)
    client.create_registered_model("acme-churn", tags={"company": "acme", "target": "churn"})
    client.create_model_version(
        "acme-churn", source=trained.bundle.as_uri(), tags={"sha": trained.sha}
    )
    repair_aliases(company, release(churn=trained))
    assert aliases(client, company) == {"champion": "1"}, "until there is a better one"
    assert log_training(company, trained).version == "2"
    repair_aliases(company, release(churn=trained))
    assert aliases(client, company)["champion"] == "2"


def test_an_address_outside_the_artifacts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside"):
        artifact_path(tmp_path, "mlflow-artifacts:/a/../../secret")
    with pytest.raises(ValueError, match="outside"):
        artifact_path(tmp_path, "mlflow-artifacts:/%2e%2e/secret")


def test_addresses_of_a_server_are_left_to_mlflow() -> None:
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    found = artifact_repository("mlflow-artifacts:/x", "http://127.0.0.1:9")
    assert type(found) is MlflowArtifactsRepository


def test_the_default_store_of_the_process_is_left_as_it_was(
    company: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///of-the-caller.db")
    log_training(company, record(company))
    assert mlflow.get_tracking_uri() == "sqlite:///of-the-caller.db"
    assert not list(tmp_path.glob("*.db")), "nor is a database made in the working directory"


def test_nothing_is_sent_or_unpickled(company: Workspace, client: Any) -> None:
    from mlflow.environment_variables import (
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION,
        MLFLOW_DISABLE_TELEMETRY,
    )
    from mlflow.telemetry.client import get_telemetry_client

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert MLFLOW_DISABLE_TELEMETRY.get() is True
    assert MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get() is False
    assert get_telemetry_client() is None


def test_opening_the_client_does_not_touch_the_callers_warnings(company: Workspace) -> None:
    before = list(warnings.filters)
    module._client(company)
    assert list(warnings.filters) == before


def _failing_at(make: Callable[[Workspace], Any], step: str) -> Callable[[Workspace], Any]:
    """Return a maker of clients that break down once `step` is reached."""
    from mlflow.exceptions import MlflowException

    def broken(*_: Any, **__: Any) -> None:
        raise MlflowException("the server went away")

    def opened(company: Workspace) -> Any:
        client = make(company)
        setattr(client, step, broken)
        return client

    return opened
