"""The real service in processes of its own: switches, kills, tampering and its end, under load."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from dataclasses import replace

import httpx
import pytest

from serving.api.middleware import MAX_AT_ONCE
from serving.ledger.store.ledger import Ledger
from training.registry.releases import open_store, publish, rollback

pytestmark = pytest.mark.slow

IDS = [f"A-{i:04d}" for i in range(20, 60)]


@pytest.fixture(scope="module")
def state(world, copy_of, tmp_path_factory):
    return copy_of(world, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(state, service_for):
    with service_for(state, BELLWETHER_WORKERS="2") as started:
        started.wait_until(lambda: len(started.workers()) == 2)
        yield started


@pytest.fixture(scope="module")
def other(state, world, recalibrated_for):
    """Another release of other bundles, so that an answer of mixed bundles would be seen."""
    return recalibrated_for(state, world, 0.4, "the other one")


class Load:
    """A few clients that ask all the time, for batches and singles; every answer is kept."""

    def __init__(self, server, n_clients: int = 3) -> None:
        self.server, self.answers, self.errors = server, [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(n_clients)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self.server.url, timeout=30) as http:
            while not self._stop.is_set():
                try:
                    answer = http.post("/v1/scores", json={"account_ids": IDS})
                    self.answers.append((answer.status_code, answer.json()))
                    for entity in random.sample(IDS, 10):
                        answer = http.get(f"/v1/accounts/{entity}/score")
                        self.answers.append((answer.status_code, as_batch(answer.json())))
                except httpx.TransportError as error:
                    self.errors.append(error)
                    time.sleep(0.05)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def n_batches(self) -> int:
        return sum(len(body.get("results", ())) > 1 for _, body in list(self.answers))

    def releases(self) -> set[str]:
        return {body["release_id"] for _, body in self.answers}


def as_batch(single: dict) -> dict:
    """Return the answer for one account in the shape of a batch."""
    return {"release_id": single.get("release_id"), "results": [single]}


def bundles_of(result) -> set[tuple[str, str]]:
    return {(target, part["bundle_sha"]) for target, part in result["scores"].items()}


def assert_unmixed(answers, *releases) -> None:
    """Every batch is of one release, and both targets of every account of its bundles."""
    known = {r.release_id: {(t, part["sha"]) for t, part in r.bundles.items()} for r in releases}
    for status, body in answers:
        assert status == 200, body
        for result in body["results"]:
            assert result["release_id"] == body["release_id"]
            assert bundles_of(result) == known[body["release_id"]]


def served_by(server) -> set[str]:
    """Return what answers: asked often enough that every worker has been."""
    asked = [server.get("/v1/health", headers={"Connection": "close"}) for _ in range(12)]
    return {answer.json()["release_id"] for answer in asked}


def test_it_answers_through_bentoml(server):
    answer = server.get("/v1/accounts/A-0030/score", headers={"X-Request-ID": "asked-once"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "scored"
    missing = server.get("/not/there")
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.status_code == 404
    assert server.get("/healthz").status_code == 200
    assert server.get("/livez").status_code == 200
    assert "googletagmanager" not in server.get("/").text
    large = server.post(
        "/v1/scores", content=b"x" * 1_100_000, headers={"Content-Type": "application/json"}
    )
    assert large.status_code == 413


def test_a_thousand_clients_at_once_get_an_answer_or_a_time_to_come_again(server):
    statuses = asyncio.run(thousand_clients(server.url))
    assert sum(statuses.values()) == 1_000
    assert set(statuses) <= {200, 429}, statuses
    assert statuses[200] >= MAX_AT_ONCE, "as many as are taken at once are answered"
    assert httpx.get(f"{server.url}/v1/accounts/A-0030/score", timeout=30).status_code == 200


async def thousand_clients(url: str) -> Counter[int]:
    """Ask for one score each, all at the same moment, and count the statuses."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, most), most))
    limits = httpx.Limits(max_connections=1_000)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        asked = [http.get(f"/v1/accounts/{IDS[i % len(IDS)]}/score") for i in range(1_000)]
        answers = await asyncio.gather(*asked)
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["type"] == "/v1/problems/too-many-requests"
            assert int(answer.headers["retry-after"]) > 0
    return Counter(answer.status_code for answer in answers)


def test_metrics_and_logs_say_what_happened_and_to_nobody_whom(server):
    server.get("/v1/accounts/A-0031/score", headers={"X-Request-ID": "logged-once"})
    metrics = server.get("/metrics").text
    assert 'route="/v1/accounts/{account_id}/score",status="200"' in metrics
    assert "bellwether_ready 1.0" in metrics
    assert 'bellwether_degraded{part="release"} 0.0' in metrics
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"at"')]
    (line,) = [line for line in lines if line.get("request_id") == "logged-once"]
    assert (line["route"], line["status"]) == ("/v1/accounts/{account_id}/score", 200)
    assert "A-0031" not in text
    assert "A-0031" not in metrics


def test_a_release_reaches_running_workers_without_a_dropped_or_mixed_answer(
    server, state, world, other
):
    store = open_store(state)
    with Load(server) as load_:
        server.wait_until(lambda: load_.n_batches() > 5)
        publish(store, other, world.release.release_id)
        server.wait_until(lambda: served_by(server) == {other.release_id})
        n_before = load_.n_batches()
        server.wait_until(lambda: load_.n_batches() > n_before + 5)
        rollback(store)
        server.wait_until(lambda: served_by(server) == {world.release.release_id})
        publish(store, other, world.release.release_id)
        server.wait_until(lambda: served_by(server) == {other.release_id})
    assert load_.errors == []
    assert load_.releases() == {world.release.release_id, other.release_id}
    assert_unmixed(load_.answers, world.release, other)


def test_a_killed_worker_comes_back_with_the_last_good_release(server, state, world, other):
    assert served_by(server) == {other.release_id}
    first, second = server.workers()
    os.kill(first, signal.SIGKILL)
    server.wait_until(lambda: len(server.workers()) == 2 and first not in server.workers())
    os.kill(second, signal.SIGKILL)
    server.wait_until(lambda: len(server.workers()) == 2 and second not in server.workers())
    server.wait_until(lambda: served_by(server) == {other.release_id})
    answer = server.post("/v1/scores", json={"account_ids": IDS})
    assert_unmixed([(answer.status_code, answer.json())], other)


def test_a_tampered_bundle_is_refused_loudly_and_the_old_one_serves(server, state, world, other):
    """Published from a machine whose copy is whole; what lies here was tampered with."""
    part = world.release.bundles["churn"]["sha"]
    whole = state.state.root.parent / "whole"
    shutil.copytree(state.state.bundles, whole)
    model = next((state.state.bundles / part).glob("model_*.txt"))
    model.write_text(model.read_text().replace("leaf_value=", "leaf_value=9", 1))
    store = replace(open_store(state), bundles=whole)
    publish(store, world.release, other.release_id)

    def is_told() -> bool:
        notes = server.get("/v1/health").json()["notes"]
        return "was changed after it was written" in notes.get("release", "")

    server.wait_until(is_told)
    assert served_by(server) == {other.release_id}
    assert server.get("/v1/health").json()["status"] == "degraded"
    assert 'bellwether_degraded{part="release"} 1.0' in server.get("/metrics").text
    assert "was changed after it was written" in server.log.read_text()
    killed = server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    server.wait_until(lambda: len(server.workers()) == 2 and killed not in server.workers())
    server.wait_until(lambda: served_by(server) == {other.release_id})
    shutil.rmtree(state.state.bundles)
    whole.rename(state.state.bundles)
    server.wait_until(lambda: served_by(server) == {world.release.release_id})


def test_a_kill_during_batches_loses_no_acknowledged_score(server, state):
    with Load(server, n_clients=4) as load_:
        server.wait_until(lambda: load_.n_batches() > 15)
        server.kill()
    acknowledged = {
        part["score_id"]
        for status, body in load_.answers
        if status == 200
        for result in body["results"]
        for part in result.get("scores", {}).values()
    }
    assert len(acknowledged) > 500
    with Ledger.open(state) as ledger:
        assert all(ledger.scores.find(score_id) is not None for score_id in acknowledged)


def begin(server, body: bytes) -> socket.socket:
    """Send all of a request but the end of its body: the service has begun to answer it."""
    connection = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), 60)
    head = (
        "POST /v1/scores HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body[:20])
    return connection


def finish(connection: socket.socket, body: bytes) -> tuple[bytes, dict]:
    """Send the rest, and return the status line and the answer."""
    with connection:
        connection.sendall(body[20:])
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, answer = received.partition(b"\r\n\r\n")
    return head.splitlines()[0], json.loads(answer)


def test_an_asked_end_finishes_what_was_begun_and_keeps_it(world, copy_of, service_for, tmp_path):
    state = copy_of(world, tmp_path)
    body = json.dumps({"account_ids": IDS}).encode()
    with service_for(state) as server:
        workers = server.workers()
        begun = [begin(server, body) for _ in range(4)]
        server.wait_until(lambda: server.get("/livez").status_code == 200)
        time.sleep(1.0)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        answers = [finish(connection, body) for connection in begun]
        server.process.wait(60)
        assert [status for status, _ in answers] == [b"HTTP/1.1 200 OK"] * 4
        kept = {
            part["score_id"]
            for _, answer in answers
            for result in answer["results"]
            for part in result.get("scores", {}).values()
        }
        assert len(kept) > 100
        with Ledger.open(state) as ledger:
            assert all(ledger.scores.find(score_id) is not None for score_id in kept)
        assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
