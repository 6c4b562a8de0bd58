"""A disk that is full: pages and reads go on, what has to be kept is refused, and it is over alone.

The service runs on a small file system of its own, which is filled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MEGABYTES = 96
READS = (
    *("/", "/book.csv", "/week", "/escalations", "/portfolio", "/reading", "/audits"),
    *("/v1/release", "/v1/reasons", "/v1/scores", "/v1/accounts/A-0030/history"),
    *("/v1/health", "/metrics", "/openapi.json"),
)
SCORE = "/v1/accounts/A-0030/score"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path_factory.mktemp("small_disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("mounting a small file system takes root: run this test as root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def served(world, book, small_disk, copy_of, service_for):
    """The real service, all of whose files lie on the small disk; book included."""
    workspace = copy_of(world, small_disk)
    original = world.workspace.state
    shutil.copytree(original.scores, workspace.state.scores)
    workspace.state.snapshots.unlink()
    shutil.copytree(original.snapshots, workspace.state.snapshots)
    with service_for(workspace, BELLWETHER_WORKERS="2") as server:
        server.wait_until(lambda: len(server.workers()) == 2)
        yield server


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no byte of the file system free."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as handle, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    handle.write(b"\0" * size)
    assert shutil.disk_usage(folder).free == 0
    try:
        yield
    finally:
        ballast.unlink()


def assert_refused(answer) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"] == "/v1/problems/unavailable"


def test_reads_go_on_and_writes_are_refused_until_there_is_room(served, small_disk):
    assert served.get(SCORE).status_code == 200
    workers = served.workers()
    with filled(small_disk):
        for _ in range(6):  # each worker, addresses that no worker has counted yet included
            for path in READS:
                answer = served.get(path, headers={"Connection": "close"})
                assert answer.status_code == 200, (path, answer.text)
            assert served.get("/not/there", headers={"Connection": "close"}).status_code == 404
        # A page that shows a score made now has to keep it, as the operation has.
        page = served.get("/accounts/A-0030", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["content-type"][:9]) == (503, "text/html")
        began = time.monotonic()
        for entity in ("A-0030", "A-0031"):
            assert_refused(served.get(f"/v1/accounts/{entity}/score"))
        assert_refused(served.post("/v1/scores", json={"account_ids": ["A-0030", "A-0031"]}))
        outcome = {"account_id": "A-0030", "outcome": "churned", "decided_on": "2026-03-01"}
        assert_refused(served.post("/v1/outcomes", json={"outcomes": [outcome]}))
        assert time.monotonic() - began < 30
        assert served.workers() == workers, "no worker died of it"
    served.wait_until(lambda: served.get(SCORE).status_code == 200, seconds=30)
    assert served.workers() == workers


def test_a_worker_that_starts_while_the_disk_is_full_answers(served, small_disk):
    first = served.workers()[0]
    with filled(small_disk):
        os.kill(first, signal.SIGKILL)
        served.wait_until(lambda: len(served.workers()) == 2 and first not in served.workers())
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            answer = served.get("/v1/release", headers={"Connection": "close"})
            assert answer.status_code in {200, 503}, answer.text
            time.sleep(0.5)
        assert len(served.workers()) == 2
        assert first not in served.workers()
    served.wait_until(lambda: all(served.get(SCORE).status_code == 200 for _ in range(10)))
