"""The main process of the real service is killed: its workers end, and the port is free."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

import pytest

pytestmark = pytest.mark.slow

FREE_SECONDS = 15.0


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not waited for does not."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as handle:
        return handle.read().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(holds, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("is_stuck", [False, True], ids=["ready", "stuck"])
def test_workers_end_with_a_main_process_that_was_killed(
    world, copy_of, service_for, tmp_path, is_stuck
):
    with service_for(copy_of(world, tmp_path), BELLWETHER_WORKERS="2") as server:
        server.wait_until(lambda: len(server.workers()) == 2)
        workers, port = server.workers(), int(server.url.rsplit(":", 1)[1])
        assert not is_free(port)
        held = None
        if is_stuck:  # a request that never ends must not keep a worker
            held = socket.create_connection(("127.0.0.1", port))
            held.sendall(b"POST /v1/scores HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n")
        try:
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(10)
            assert wait_for(lambda: is_free(port), FREE_SECONDS), server.log.read_text()[-2_000:]
            assert wait_for(lambda: not any(map(is_alive, workers)), FREE_SECONDS)
        finally:
            if held is not None:
                held.close()
            for pid in filter(is_alive, workers):
                os.kill(pid, signal.SIGKILL)


def test_workers_end_when_the_main_process_is_killed_before_they_are_ready(
    world, copy_of, tmp_path, starting_for
):
    """They learn of it even when it was gone before they looked for the first time."""
    with starting_for(copy_of(world, tmp_path), BELLWETHER_WORKERS="2") as server:
        assert wait_for(lambda: len(server.workers()) == 2, 60)
        workers, port = server.workers(), int(server.url.rsplit(":", 1)[1])
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        try:
            assert wait_for(lambda: not any(map(is_alive, workers)), 90)
            assert is_free(port)
        finally:
            for pid in filter(is_alive, workers):
                os.kill(pid, signal.SIGKILL)
