"""A dependency that is away: said clearly, kept out of readiness, and over by itself."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace

import pytest

from configs.schema.workspace import Environment
from features.feast_store import FeastStore
from features.online_vectors import feature_set
from features.snapshots.grid import build_snapshots
from features.sources import load_sources
from serving.online.server_state import ServerState

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="install redis-server"),
]


class Redis:
    """A Redis server of our own, to be stopped, blocked and started again."""

    def __init__(self, folder) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def redis(tmp_path):
    server = Redis(tmp_path)
    yield server
    server.stop()


def test_an_online_store_that_is_away_is_told_and_comes_back(redis, world, fresh, client_for):
    places = Environment(redis_url=f"127.0.0.1:{redis.port}")
    workspace = replace(fresh, places=places)
    original = replace(world.workspace, places=places, state=fresh.state, data=world.workspace.data)
    loaded = load_sources(world.workspace, world.now)
    snapshots = build_snapshots(world.workspace, loaded, world.now)
    store = FeastStore(original)
    store.apply(snapshots, feature_set(snapshots), world.workspace.company.targets)
    store.materialize(feature_set(snapshots), snapshots.book_on)
    serving = ServerState(workspace)
    serving.refresh()
    client = client_for(serving)
    path = "/v1/accounts/A-0030/score"
    try:
        assert client.get(path).status_code == 200
        redis.process.send_signal(signal.SIGSTOP)
        assert_away(client, serving, path, seconds=15)
        redis.process.send_signal(signal.SIGCONT)
        assert client.get(path).status_code == 200
        redis.stop()
        assert_away(client, serving, path, seconds=15)
        redis.start()
        assert client.get(path).status_code == 200
        assert client.get("/v1/health").status_code == 200
    finally:
        serving.close()


def assert_away(client, serving, path, *, seconds) -> None:
    began = time.monotonic()
    answer = client.get(path)
    assert time.monotonic() - began < seconds
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert "online store" in answer.json()["detail"]
    health = client.get("/v1/health")
    assert health.status_code == 503
    assert health.json()["online_store"] is False
    assert not serving.is_ready()


def test_a_tracking_server_and_a_registry_of_models_that_are_down_stop_no_score(fresh, client_for):
    away = replace(fresh, places=Environment(tracking_url="http://127.0.0.1:1"))
    serving = ServerState(away)
    serving.refresh()
    try:
        assert client_for(serving).get("/v1/accounts/A-0030/score").status_code == 200
    finally:
        serving.close()
