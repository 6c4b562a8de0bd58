"""A small company brought all the way to a published release: nothing of ours is mocked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI

from configs.company import parse_company
from configs.places import Workspace
from configs.state import State
from features.labels import definition
from features.snapshots import build_snapshots
from features.sources import load_sources
from features.store import Store
from features.vector import build_vectors, feature_set, matrix
from serving.api import create_app
from serving.book import BookRun, score_book
from serving.ledger import Ledger
from serving.live import Live
from serving.metrics import Metrics
from training.bundle import Bundle, Calibration, save, sigmoid
from training.fit import Recipe, fit
from training.frame import TrainingFrame
from training.recipe import reference
from training.releases import Release, new_release, open_store, publish
from training.words import catalogue_version

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
    store: Store
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
    recipe = Recipe("lightgbm", target.outcome, (7, 8), rounds=60, threads=1)
    fitted = fit(recipe, frame)
    manifest = {
        "target": frame.target,
        "outcome": target.outcome,
        "entity": company.entity,
        "label_contract": target.model_dump(mode="json"),
        "config_hash": company.config_hash,
        "seeds": list(recipe.seeds),
        "verdict": verdict,
        "features": [item.as_dict() for item in frame.info],
        "encoder": fitted.encoder.as_dict(),
        "reference": reference(fitted.encoder, fitted.encoder.encode(frame.features).matrix),
        "calibration": {
            **asdict(Calibration(0.9, -0.1, (0.01, 0.0, 0.02), "affine", 150)),
            "covariance": [0.01, 0.0, 0.02],
        },
        "base_rate": float(frame.label.mean()),
        "metrics": {"auc": {"value": 0.71, "low": 0.64, "high": 0.77}},
    }
    return Bundle(manifest, fitted.predictor)


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
                for level, factor in company.serving.bands.items()
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
    store = Store(workspace)
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
    return World(workspace, store, release, features.hash, features.names)


@pytest.fixture(scope="session")
def book(world) -> BookRun:
    with Ledger.open(world.workspace) as ledger:
        return score_book(world.workspace, world.release, ledger, NOW)


@pytest.fixture(scope="session")
def live(world, book) -> Iterator[Live]:
    """What a worker serves; `book` is published before it looks."""
    assert book.statuses["scored"] > 200
    serving = Live(world.workspace)
    serving.refresh()
    yield serving
    serving.close()


def app_of(serving: Live, metrics: Metrics | None = None) -> FastAPI:
    shared = metrics or Metrics()
    return create_app(lambda _: serving, lambda _: shared)


class Client:
    """Calls the application in process, one request at a time."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def request(self, method: str, path: str, **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
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
def client_for() -> Callable[..., Client]:
    """Return a client of any application state."""
    return lambda serving, metrics=None: Client(app_of(serving, metrics))


@pytest.fixture(scope="session")
def release_for() -> Callable[..., Release]:
    """Return a release made of some bundles, not published."""
    return make_release
