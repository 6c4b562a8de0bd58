"""MLflow as its users meet it: the published model by name, and its pages over the store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import mlflow
import pandas as pd
import pytest

from configs.runtime.errors import ConfigError, StateError
from configs.schema.workspace import Environment
from serving.run.servers import mlflow_command
from training.registry.mlflow_model import ExampleRows
from training.registry.mlflow_registry import (
    TrainingRecord,
    log_training,
    repair_aliases,
    tracking_uri,
)

FACT = ("feature", "label", "unit", "window_days", "value", "points")
"""Fields of a fact that depend on the account's values alone: its past and its peers are the
service's to know."""


@pytest.fixture(scope="module")
def registered(world, tmp_path_factory):
    """The company's release in the tracking store of a state directory of its own."""
    root = tmp_path_factory.mktemp("tracked")
    workspace = replace(world.workspace, state=replace(world.workspace.state, root=root))
    for target, part in world.release.bundles.items():
        record = TrainingRecord(
            target=target,
            sha=part["sha"],
            bundle=world.workspace.state.bundles / part["sha"],
            verdict=part["verdict"],
            fingerprint="f" * 16,
            config_hash=world.release.config_hash,
            card="# a card",
            rows=ExampleRows(currency=workspace.company.reporting_currency),
        )
        log_training(workspace, record)
    repair_aliases(workspace, world.release)
    return workspace


@pytest.fixture
def as_users_load(registered) -> Iterator[object]:
    """Load the champion of a target from the store."""
    mlflow.set_tracking_uri(tracking_uri(registered))
    yield lambda target: mlflow.pyfunc.load_model(f"models:/small-{target}@champion")
    mlflow.set_tracking_uri(None)


def of_the_account(reasons: list[dict]) -> list[dict]:
    """Return reasons as they follow from an account's own values, points to a trillionth."""
    return [
        {
            **reason,
            "points": round(reason["points"], 12),
            "facts": list(map(_fact, reason["facts"])),
        }
        for reason in reasons
    ]


def _fact(fact: dict) -> dict:
    return {name: fact[name] for name in FACT} | {"points": round(fact["points"], 12)}


@pytest.mark.parametrize("target", ["churn", "expansion"])
def test_the_champion_answers_what_the_service_serves(world, client, as_users_load, target):
    ids = [f"A-{i:04d}" for i in range(40, 70)]
    answers = client.post("/v1/scores", json={"account_ids": ids}).json()["results"]
    served = [
        (account, answer["scores"][target])
        for account, answer in zip(ids, answers, strict=True)
        if target in answer.get("scores", {})
    ]
    assert len(served) > 20
    rows = world.store.online(world.feature_hash, len(world.names), [item for item, _ in served])
    named = pd.DataFrame(rows.values, columns=world.names)
    assert named.isna().any().any()
    found = as_users_load(target).predict(named[sorted(world.names)])
    for (account, answer), told in zip(served, found.to_dict("records"), strict=True):
        for name in ("probability", "low", "high", "confidence", "base"):
            assert told[name] == answer[name], (account, name)
        for name in ("context", "unknown", "themes"):  # sums: their last digit may differ
            assert told[name] == pytest.approx(answer[name], abs=1e-12), (account, name)
        wanted = [*answer["raises"], *answer["lowers"]]
        assert of_the_account(told["reasons"]) == of_the_account(wanted), account
    assert any(told["reasons"] for told in found.to_dict("records"))


@pytest.fixture
def pages(registered) -> Iterator[str]:
    """MLflow's server as ``bellwether mlflow`` starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = mlflow_command(registered, port)
    process = subprocess.Popen(
        command, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + 180
    try:
        while True:
            assert process.poll() is None
            assert time.monotonic() < ends
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
def test_the_pages_show_the_trainings_and_serve_the_models(registered, pages):
    api = f"{pages}/api/2.0/mlflow"
    page = httpx.get(pages, timeout=30)
    assert page.status_code == 200
    assert "<title>MLflow</title>" in page.text
    asked = {"filter": "name = 'small-churn'", "max_results": 10}
    (experiment,) = httpx.post(f"{api}/experiments/search", json=asked).json()["experiments"]
    kinds = {tag["key"]: tag["value"] for tag in experiment["tags"]}
    assert kinds["mlflow.experimentKind"] == "custom_model_development"
    alias = {"name": "small-churn", "alias": "champion"}
    version = httpx.get(f"{api}/registered-models/alias", params=alias).json()["model_version"]
    shown = {"run_uuid": version["run_id"], "path": "model_card.md"}
    assert httpx.get(f"{pages}/get-artifact", params=shown).text == "# a card"
    telemetry = httpx.get(f"{pages}/ajax-api/3.0/mlflow/ui-telemetry").json()
    assert telemetry["disable_ui_telemetry"] is True
    stranger = httpx.get(pages, headers={"Host": "elsewhere.example.com"})
    assert stranger.status_code == 403
    code = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); "
        "print(mlflow.pyfunc.load_model('models:/small-churn@champion').metadata.metadata)"
    )
    read = subprocess.run(
        [sys.executable, "-c", code, pages], capture_output=True, text=True, timeout=180
    )
    assert read.returncode == 0, read.stderr
    assert "'target': 'churn'" in read.stdout


def test_the_server_listens_on_this_machine_and_says_nothing_of_it(registered, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = mlflow_command(registered, port)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert not any("sqlite" in word for word in command), "an address may hold a password"
    assert environment["MLFLOW_BACKEND_STORE_URI"] == tracking_uri(registered)
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen") as told:
            mlflow_command(registered, taken.getsockname()[1])
    assert "--port" in str(told.value)


def test_without_a_training_or_with_a_server_of_ones_own_there_is_nothing_to_open(world, tmp_path):
    empty = replace(world.workspace, state=replace(world.workspace.state, root=tmp_path))
    with pytest.raises(StateError, match="no model was trained") as told:
        mlflow_command(empty, 5000)
    assert "bellwether train" in str(told.value)
    assert not list(tmp_path.iterdir())
    own = replace(empty, places=Environment(tracking_url="https://me:secret@mlflow.example.com"))
    with pytest.raises(ConfigError, match="BELLWETHER_MLFLOW_URL") as told:
        mlflow_command(own, 5000)
    assert "secret" not in str(told.value)
