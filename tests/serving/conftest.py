"""A small company brought all the way to a published release: nothing of ours is mocked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI

from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore
from features.labels import definition
from features.online_vectors import build_vectors, feature_set, matrix
from features.snapshots.grid import build_snapshots
from features.sources import load_sources
from serving.api import create_app
from serving.api.middleware import RequestGuard
from serving.batch.score_book import ScoreRun, score_book
from serving.http.prometheus import Metrics
from serving.ledger.store.ledger import Ledger
from serving.online.release_trial import ReleaseTrials
from serving.online.server_state import ServerState
from training.candidates.build_manifest import reference
from training.data.training_frame import TrainingFrame
from training.fitting.fit import TrainingConfig, fit
from training.model.bundle import Bundle, load, save, sigmoid
from training.model.manifest import ModelManifest
from training.model.manifest_parts import Calibration
from training.model.reason_text import catalogue_version
from training.registry.releases import Release, new_release, open_store, publish

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
BOOK_ON = date(2026, 3, 2)
N_ACCOUNTS = 260

SCRIPT_NAME = '<script>alert("x")</script> & Söhne'
RTL_NAME = "שלום עולם בע״מ"
EMOJI_NAME = "🚀 Rocket 👩‍🚀 Labs"
LONG_NAME = "Long " * 60
FORMULA_NAME = '=HYPERLINK("http://example.test")'
ODD_NAMES = {0: SCRIPT_NAME, 1: RTL_NAME, 2: EMOJI_NAME, 3: LONG_NAME, 4: FORMULA_NAME}

COMPANY = {
    "name": "small",
    "title": "Small & Co",
    "now": NOW.isoformat(),
    "reporting_currency": "GBP",
    "grid": {"every": "month", "start_on": "2025-11-01"},
    "targets": {
        "churn": {"outcome": "churn", "observed_in": "subscriptions", "horizon_days": 91},
        "expansion": {"outcome": "expansion", "observed_in": "subscriptions", "horizon_days": 91},
    },
    "training": {"threads": 1},
    "inputs": {
        name: f"{name}.csv"
        for name in (
            "accounts",
            "owners",
            "subscriptions",
            "usage_events",
            "support_tickets",
            "survey_responses",
        )
    },
}


@dataclass(frozen=True)
class World:
    """The company and everything published for it."""

    workspace: Workspace
    store: FeastStore
    release: Release
    feature_hash: str
    names: list[str]

    now = NOW
    odd_names = ODD_NAMES


def account_id(i: int) -> str:
    return f"A-{i:04d}"


def write_company(folder) -> None:
    rng = np.random.default_rng(11)
    health = rng.normal(size=N_ACCOUNTS)
    today = BOOK_ON
    pd.DataFrame(
        {
            "account_id": [account_id(i) for i in range(N_ACCOUNTS)],
            "created_at": [
                today - timedelta(days=10 if i == 5 else int(rng.integers(120, 1500)))
                for i in range(N_ACCOUNTS)
            ],
            "name": [ODD_NAMES.get(i, f"Company {i}") for i in range(N_ACCOUNTS)],
            "segment": [("enterprise", "mid_market", "small")[i % 3] for i in range(N_ACCOUNTS)],
            "owner_id": [f"csm-{i % 4}" for i in range(N_ACCOUNTS)],
        }
    ).to_csv(folder / "accounts.csv", index=False)
    pd.DataFrame(
        {"owner_id": [f"csm-{i}" for i in range(4)], "name": ["Ada", "Ben", "Chloé", "Dev"]}
    ).to_csv(folder / "owners.csv", index=False)
    subscriptions(rng).to_csv(folder / "subscriptions.csv", index=False)
    usage(rng, health).to_csv(folder / "usage_events.csv", index=False)
    tickets(rng, health).to_csv(folder / "support_tickets.csv", index=False)
    surveys(rng, health).to_csv(folder / "survey_responses.csv", index=False)


def subscriptions(rng) -> pd.DataFrame:
    rows = []
    for i in range(N_ACCOUNTS):
        if i == 9:
            continue  # nothing known of its terms
        ahead = int(rng.integers(5, 300))
        renews = BOOK_ON + timedelta(days=ahead)
        rows.append(
            {
                "account_id": account_id(i),
                "subscription_id": f"S-{i}",
                "product": "core",
                "started_on": renews - timedelta(days=365 if i != 5 else ahead + 9),
                "renews_on": None if i % 5 == 4 else renews,
                "ended_on": BOOK_ON - timedelta(days=100) if i == 7 else None,
                "end_reason": "churned" if i == 7 else None,
                "notice_at": BOOK_ON - timedelta(days=3) if i == 6 else None,
                "notice_period_days": 30,
                "arr": int(rng.lognormal(10, 0.8)),
                "currency": "GBP",
                "seats": int(rng.integers(5, 200)),
            }
        )
    return pd.DataFrame(rows)


def usage(rng, health) -> pd.DataFrame:
    rows = []
    for i in range(N_ACCOUNTS):
        if i == 8:
            continue  # never used
        for week in range(0, 40):
            drop = 1.0 if health[i] > -0.5 else 0.3 + 0.7 * week / 40
            for user in range(1 + int(rng.poisson(4 * np.exp(0.3 * health[i]) * drop))):
                rows.append(
                    (
                        account_id(i),
                        f"{i}-{user}",
                        BOOK_ON - timedelta(days=int(7 * week + rng.integers(1, 7))),
                        ("report", "export", "share", "login")[int(rng.integers(0, 4))],
                    )
                )
    return pd.DataFrame(rows, columns=["account_id", "user_id", "occurred_at", "feature"])


def tickets(rng, health) -> pd.DataFrame:
    rows = []
    for i in range(0, N_ACCOUNTS, 2):
        for n in range(int(rng.poisson(2 * np.exp(-0.4 * health[i])))):
            opened = BOOK_ON - timedelta(days=int(rng.integers(1, 200)))
            rows.append((account_id(i), f"T-{i}-{n}", opened, opened + timedelta(days=2), "normal"))
    columns = ["account_id", "ticket_id", "opened_at", "resolved_at", "priority"]
    return pd.DataFrame(rows, columns=columns)


def surveys(rng, health) -> pd.DataFrame:
    rows = [
        (
            account_id(i),
            BOOK_ON - timedelta(days=int(rng.integers(1, 300))),
            "nps",
            int(np.clip(round(7 + 2 * health[i] + rng.normal()), 0, 10)),
        )
        for i in range(0, N_ACCOUNTS, 3)
    ]
    return pd.DataFrame(rows, columns=["account_id", "responded_at", "kind", "score"])


def training_frame(company, target, snapshots, features, coefficient, base) -> TrainingFrame:
    """Rows of past months with labels drawn from a known hazard on two features."""
    rng = np.random.default_rng(5)
    parts, rows = [], []
    for day in snapshots.days[:-1]:
        ids, values = matrix(snapshots, features, day)
        parts.append(pd.DataFrame(values, columns=features.names))
        rows.append(pd.DataFrame({"entity_id": ids, "as_of": pd.Timestamp(day, tz="UTC")}))
    values = pd.concat(parts, ignore_index=True)
    frame = pd.concat(rows, ignore_index=True)
    signal = values["active_users_28d"].fillna(0)
    standard = (signal - signal.mean()) / signal.std()
    p = sigmoid(base + coefficient * standard.to_numpy())
    frame["label"] = (rng.random(len(frame)) < p).astype("int8")
    frame["label_known_at"] = frame["as_of"] + pd.Timedelta(days=120)
    frame["decision_at"] = pd.NaT
    frame["arr"] = values["arr"]
    frame["segment"] = ""
    frame["is_under_contract"] = True
    frame["days_to_renewal"] = np.nan
    frame["health_score"] = np.nan
    return TrainingFrame(target, frame, values, features.info)


def make_bundle(company, frame, verdict) -> Bundle:
    target = company.targets[frame.target]
    recipe = TrainingConfig("lightgbm", target.outcome, (7, 8), rounds=60, threads=1)
    fitted = fit(recipe, frame)
    manifest = {
        "target": frame.target,
        "outcome": target.outcome,
        "entity": company.entity,
        "label_contract": target.model_dump(mode="json"),
        "config_hash": company.config_hash,
        "seeds": list(recipe.seeds),
        "verdict": verdict,
        "rung": {"name": "trees", "kind": "lightgbm", "n_events": 300, "reason": "300 events"},
        "evidence": "300 events: shallow trees",
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "reference": reference(fitted.encoder, fitted.encoder.encode(frame.features).matrix),
        "calibration": {
            **asdict(Calibration(0.9, -0.1, (0.01, 0.0, 0.02), "affine", 150)),
            "covariance": [0.01, 0.0, 0.02],
        },
        "base_rate": float(frame.label.mean()),
        "reference_entities": frame.rows["entity_id"].nunique(),
        "metrics": {"auc": {"value": 0.71, "low": 0.64, "high": 0.77}},
    }
    return Bundle(ModelManifest.from_dict(manifest), fitted.predictor)


def make_release(workspace, bundles, features, *, note="") -> Release:
    company = workspace.company
    shas = {name: save(bundle, workspace.state.bundles) for name, bundle in bundles.items()}
    return new_release(
        created_at=NOW,
        bundles={
            name: {"sha": shas[name], "verdict": bundle.verdict} for name, bundle in bundles.items()
        },
        feature_set={"hash": features.hash, "names": features.names},
        bands={
            name: {
                level: min(0.95, factor * bundle.base_rate)
                for level, factor in {"elevated": 1.5, "high": 3.0}.items()
            }
            for name, bundle in bundles.items()
        },
        reason_catalogue_version=catalogue_version(),
        label_contracts={
            name: {
                "target": name,
                **target.model_dump(mode="json"),
                "words": definition(target, company),
            }
            for name, target in company.targets.items()
        },
        config_hash=company.config_hash,
        note=note,
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return build_world(tmp_path_factory.mktemp("small"))


def build_world(root) -> World:
    data = root / "data"
    data.mkdir()
    (data / "company.yaml").write_text(json.dumps(COMPANY))
    write_company(data)
    company = parse_company(COMPANY, where="test")
    workspace = Workspace(company, data, data, State(root / "state"))
    loaded = load_sources(workspace, NOW)
    snapshots = build_snapshots(workspace, loaded, NOW)
    features = feature_set(snapshots)
    build_vectors(workspace, loaded, snapshots)
    store = FeastStore(workspace)
    store.apply(snapshots, features, company.targets)
    store.materialize(features, snapshots.book_on)
    churn = training_frame(company, "churn", snapshots, features, -1.2, -1.6)
    growth = training_frame(company, "expansion", snapshots, features, 0.8, -1.8)
    bundles = {
        "churn": make_bundle(company, churn, "promotable"),
        "expansion": make_bundle(company, growth, "provisional"),
    }
    release = make_release(workspace, bundles, features)
    publish(open_store(workspace), release, None)
    ReleaseTrials(workspace.state).check(release, None)  # copies of the state need not try it again
    return World(workspace, store, release, features.hash, features.names)


@pytest.fixture(scope="session")
def book(world) -> ScoreRun:
    with Ledger.open(world.workspace) as ledger:
        return score_book(world.workspace, world.release, ledger, NOW)


@pytest.fixture(scope="session")
def live(world, book) -> Iterator[ServerState]:
    """What a worker serves; `book` is published before it looks."""
    assert book.statuses["scored"] > 200
    serving = ServerState(world.workspace)
    serving.refresh()
    yield serving
    serving.close()


def app_of(serving: ServerState, metrics: Metrics | None = None) -> RequestGuard:
    shared = metrics or Metrics()
    return create_app(lambda _: serving, lambda _: shared)


class Client:
    """Calls the application in process, one request at a time."""

    def __init__(self, app: RequestGuard) -> None:
        self.app = app

    def request(self, method: str, path: str, **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = options.pop("transport", None) or httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                return await http.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options) -> httpx.Response:
        return self.request("POST", path, **options)


@pytest.fixture(scope="session")
def client(live) -> Client:
    return Client(app_of(live))


@pytest.fixture(scope="session")
def app_for() -> Callable[[ServerState], FastAPI]:
    """Return the application of any state."""
    return app_of


@pytest.fixture(scope="session")
def client_for() -> Callable[..., Client]:
    """Return a client of any application state."""
    return lambda serving, metrics=None: Client(app_of(serving, metrics))


@pytest.fixture(scope="session")
def service_for() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Return a way to start the real service on a workspace."""
    return serving_process


@pytest.fixture(scope="session")
def starting_for() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Return a way to start the real service on a workspace without waiting for it."""
    return partial(serving_process, is_awaited=False)


@pytest.fixture(scope="session")
def copy_of() -> Callable[..., Workspace]:
    """Return a way to copy the company's state."""
    return copied


@pytest.fixture(scope="session")
def release_for() -> Callable[..., Release]:
    """Return a release made of some bundles, not published."""
    return make_release


@pytest.fixture(scope="session")
def recalibrated_for() -> Callable[..., Release]:
    """Return a release of the published boosters at another level, not published."""
    return recalibrated


def recalibrated(workspace: Workspace, world: World, intercept: float, note: str) -> Release:
    """Save the published bundles anew with another intercept, and return a release of them."""

    class Features:
        hash, names = world.feature_hash, world.names

    made = {}
    for target, part in world.release.bundles.items():
        bundle = load(workspace.state.bundles / part["sha"])
        calibration = replace(bundle.calibration, intercept=intercept)
        made[target] = replace(bundle, manifest=bundle.manifest.changed(calibration=calibration))
        save(made[target], workspace.state.bundles)
    return make_release(workspace, made, Features, note=note)


def copied(world: World, folder: Path) -> Workspace:
    """A copy of the company's state that a test may change; only the vectors are shared."""
    state = State(folder / "state")
    state.root.mkdir()
    for name in ("bundles", "releases", "feast"):
        shutil.copytree(world.workspace.state.root / name, state.root / name)
    (state.root / "snapshots").symlink_to(world.workspace.state.snapshots)
    return Workspace(world.workspace.company, world.workspace.folder, folder, state)


@pytest.fixture
def fresh(world, tmp_path) -> Workspace:
    """A copy of the company's state for one test."""
    return copied(world, tmp_path)


@pytest.fixture
def serving(fresh):
    made = ServerState(fresh)
    made.refresh()
    yield made
    made.close()


@dataclass
class Server:
    """The real service in processes of its own."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, **options) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **options)

    def post(self, path: str, **options) -> httpx.Response:
        return httpx.post(self.url + path, timeout=30, **options)

    def wait_until(self, holds: Callable[[], bool], seconds: float = 240) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail(self.log.read_text()[-20_000:])

    def is_ready(self) -> bool:
        return self.get("/readyz").status_code == 200

    def workers(self) -> list[int]:
        """Return the processes that answer: they hold the application."""
        return [pid for pid, what in children(self.process.pid).items() if WORKER in what]

    def kill(self) -> None:
        """Kill everything at once, as a power cut would; workers have sessions of their own."""
        for pid in (self.process.pid, *children(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


WORKER = b"_bentoml_impl.worker.service"


def children(parent: int) -> dict[int, bytes]:
    """Return the processes that a process started, and their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


@contextlib.contextmanager
def serving_process(
    workspace: Workspace,
    what: str = "serving.service:Bellwether",
    folder: Path = ROOT,
    *,
    is_awaited: bool = True,
    **settings: str,
) -> Iterator[Server]:
    """Start the service as a person would and wait until it is ready; end it and its workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "bentoml", "serve", what]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    root = workspace.state.root
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"},
        "BELLWETHER_COMPANY": str(workspace.folder),
        "BELLWETHER_STATE": str(root),
        "BENTOML_HOME": str(root.parent / "bentoml"),
        "BELLWETHER_CHECK_SECONDS": "0.3",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **settings,
    }
    log = root.parent / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
        )
        server = Server(f"http://127.0.0.1:{port}", process, log)
        try:
            if is_awaited:
                server.wait_until(server.is_ready)
            yield server
        finally:
            server.kill()
