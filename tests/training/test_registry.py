"""The tracking server mirrors: it never decides, and nothing is lost when it is away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

import training.registry as module
from configs.company import Company, Target
from configs.errors import ModelError, UnavailableError
from configs.hashing import file_digest
from configs.places import Places, Workspace
from configs.state import MANIFEST, State, write_json_atomically
from training.registry import (
    TrainingRecord,
    log_training,
    model_name,
    relog,
    repair_aliases,
    tracking_uri,
)
from training.releases import Release, current, history, new_release, open_store, read_current


def workspace(root: Path, tracking_url: str | None = None, name: str = "acme") -> Workspace:
    company = Company(name=name, targets={"churn": Target(outcome="churn", observed_in="labels")})
    return Workspace(company, root, root, State(root), Places(tracking_url=tracking_url))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database after its migrations, to copy: they take seconds."""
    root = tmp_path_factory.mktemp("mlflow")
    module._client(workspace(root))
    return State(root).mlflow / module.DATABASE


@pytest.fixture
def company(migrated: Path, tmp_path: Path) -> Workspace:
    """A company in a folder with a space, whose tracking database is migrated and empty."""
    opened = workspace(tmp_path / "state of acme")
    opened.state.mlflow.mkdir(parents=True)
    shutil.copy(migrated, opened.state.mlflow / module.DATABASE)
    return opened


@pytest.fixture
def client(company: Workspace) -> Any:
    return module._client(company)


def record(company: Workspace, content: str = "tree", **changes: Any) -> TrainingRecord:
    aside = company.state.bundles / "new"
    aside.mkdir(parents=True, exist_ok=True)
    (aside / "model.txt").write_text(content)
    sums = {"model.txt": file_digest(aside / "model.txt")}
    write_json_atomically(aside / MANIFEST, {"kind": "rates", "files": sums})
    sha = file_digest(aside / MANIFEST)
    folder = company.state.bundles / sha
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    base = TrainingRecord(
        target="churn",
        sha=sha,
        bundle=folder,
        verdict="promotable",
        fingerprint="d" * 16,
        config_hash="c0",
        params={"num_leaves": 6, "trees": {"rate": 0.04}, "names": ["x" * 40] * 40},
        metrics={"auc": 0.71, "auc_low": 0.65, "slope@90": 1.1, "brier": None, "odd": float("nan")},
        folds=[
            {"fold": 1, "cutoff": "2025-01-01", "auc": 0.70},
            {"fold": 2, "cutoff": "2025-04-01", "auc": 0.72},
        ],
        trials=[{"number": k, "loss": 0.5 - k / 100, "state": "COMPLETE"} for k in range(3)],
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


def artifacts(client: Any, run_id: str) -> Path:
    return Path(unquote(urlparse(client.get_run(run_id).info.artifact_uri).path))


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
    assert client.search_runs([run.info.experiment_id]) != []


def test_artifacts_lie_beside_the_database(company: Workspace, client: Any) -> None:
    trained = record(company)
    folder = artifacts(client, log_training(company, trained).run_id)
    assert folder.is_relative_to(company.state.mlflow.resolve())
    assert (folder / "model_card.md").read_text() == trained.card
    assert json.loads((folder / "evaluation.json").read_text()) == {"n_events": 120, "slope": None}
    assert json.loads((folder / "label_contract.json").read_text()) == {"horizon_days": 91}
    assert (folder / "figures" / "reliability.svg").read_text() == "<svg/>"
    assert (folder / "figures" / "raw.png").read_bytes() == b"\x89PNG"
    table = json.loads((folder / "trials.json").read_text())
    assert table["columns"] == ["number", "loss", "state"]
    assert len(table["data"]) == 3
    for name in ("model.txt", MANIFEST):
        assert (folder / "bundle" / name).read_bytes() == (trained.bundle / name).read_bytes()
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".md", ".svg", ".png", ".txt"}


def test_a_bundle_becomes_a_version_and_the_challenger(company: Workspace, client: Any) -> None:
    trained = record(company)
    logged = log_training(company, trained)
    assert (logged.model_name, logged.version, logged.is_new) == ("acme-churn", "1", True)
    version = client.get_model_version("acme-churn", "1")
    assert version.status == "READY"
    assert version.run_id == logged.run_id
    assert version.source.endswith("/bundle")
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
    (trained.bundle / "model.txt").write_text("tampered")
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
    folder = artifacts(client, logged.run_id)
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
    shutil.copy(migrated, back.state.mlflow / module.DATABASE)
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
import training.registry
from configs.company import Company, Target
from configs.errors import StateError
from configs.places import Places, Workspace
from configs.state import State
from training.promote import mirror_aliases
from training.releases import current, open_store, publish, release_from_dict

company = Company(name="acme", targets={"churn": Target(outcome="churn", observed_in="labels")})
for line in sys.stdin:
    url, root, gate, name, releases = json.loads(line)
    root = Path(root)
    workspace = Workspace(company, root, root, State(root), Places(ledger_url=url or None))
    store = open_store(workspace)
    training.registry._client(workspace)
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
            cwd=Path(module.__file__).resolve().parents[1],
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
    store = open_store(replace(company, places=Places(ledger_url=url or None)))
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


def test_a_state_directory_may_be_moved(company: Workspace, tmp_path: Path) -> None:
    log_training(company, record(company))
    moved = workspace(tmp_path / "moved")
    shutil.copytree(company.state.root, moved.state.root)
    shutil.rmtree(company.state.root)
    logged = log_training(moved, record(moved, "after the move"))
    assert logged.version == "2"
    client = module._client(moved)
    assert artifacts(client, logged.run_id).is_relative_to(moved.state.mlflow.resolve())
    assert not company.state.root.exists()


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
