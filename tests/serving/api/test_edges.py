"""The real server at its edges: heads that never end, other host names, a database that is away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import pytest
from sqlalchemy import make_url

from serving.http.uvicorn_protocol import HEAD_BYTES, HEAD_SECONDS

pytestmark = pytest.mark.slow

GET = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def server(world, copy_of, service_for, tmp_path_factory):
    with service_for(copy_of(world, tmp_path_factory.mktemp("edges"))) as started:
        yield started


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), 60)


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
    return received


def one_answer(connection: socket.socket) -> bytes:
    """Receive the answer of a probe: its head, and a line end as its body."""
    received = b""
    while not received.endswith(b"\r\n\r\n\n"):
        received += connection.recv(65_536)
    return received


def drip(connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b"X-Slow: 1\r\n")
            time.sleep(0.5)


def half_open(server) -> dict[str, socket.socket]:
    """Open connections that never send the end of a head."""
    made = {name: connect(server) for name in ("silent", "line", "headers", "dripping", "second")}
    made["line"].sendall(b"GET /liv")
    made["headers"].sendall(GET + b"X-Half")
    made["dripping"].sendall(GET)
    threading.Thread(target=drip, args=(made["dripping"],), daemon=True).start()
    made["second"].sendall(GET + b"\r\n")
    assert one_answer(made["second"]).startswith(b"HTTP/1.1 200")
    made["second"].sendall(GET + b"X-Half")
    return made


def test_half_open_heads_are_not_waited_for(server):
    began = time.monotonic()
    made = half_open(server)
    assert server.get("/livez").status_code == 200, "others are answered meanwhile"
    answers = {}
    for name, connection in made.items():
        with closing(connection):
            answers[name] = until_closed(connection)
    assert HEAD_SECONDS - 1 < time.monotonic() - began < HEAD_SECONDS + 5
    assert answers.pop("silent") == b""
    for name, answer in answers.items():
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 "), name
        assert b"application/problem+json" in head
        assert b"/v1/problems/too-slow" in body


def test_a_head_without_end_is_not_kept(server):
    with closing(connect(server)) as connection:
        connection.sendall(GET)
        with suppress(OSError):
            for _ in range(2 * HEAD_BYTES // 1_024):
                connection.sendall(b"X-More: " + b"x" * 1_014 + b"\r\n")
                time.sleep(0.002)
        assert until_closed(connection).startswith(b"HTTP/1.1 413 ")


def test_a_slow_body_is_the_applications_to_wait_for(server):
    """The clock of the head stops with the head, and starts again with the next request."""
    with closing(connect(server)) as connection:
        connection.sendall(GET[:10])
        time.sleep(1)
        connection.sendall(GET[10:] + b"\r\n")
        assert one_answer(connection).startswith(b"HTTP/1.1 200")
    with httpx.Client(base_url=server.url) as http:
        for _ in range(3):
            assert http.get("/livez").status_code == 200


OURS = {"Host": "127.0.0.1:9"}


def test_every_address_answers_to_our_names_only(server):
    paths = ("/schema.json", "/livez", "/readyz", "/healthz", "/openapi.json", "/", "/docs.json")
    for path in (*paths, "/metrics", "/v1/problems", "/static/style.css", "/not/there"):
        other = server.get(path, headers={"Host": "rebound.example"})
        assert other.status_code == 421, path
        assert other.json()["type"] == "/v1/problems/wrong-host"
        assert other.headers["x-content-type-options"] == "nosniff"
        assert server.get(path, headers=OURS).status_code != 421, path
    assert server.get("/schema.json", headers=OURS).status_code == 200


def test_probes_may_come_by_the_address_of_the_machine(server):
    for host in ("10.0.0.7:3000", "[fd00::7]:3000", "192.0.2.1"):
        assert server.get("/readyz", headers={"Host": host}).status_code == 200, host
        for path in ("/v1/health", "/schema.json", "/"):
            assert server.get(path, headers={"Host": host}).status_code == 421, path
    for host in ("10.0.0.7.rebound.example", "", "localhost.example"):
        assert server.get("/readyz", headers={"Host": host}).status_code == 421, host


def test_a_header_that_comes_twice_reaches_the_check(server):
    twice = [("Host", "127.0.0.1"), ("X-API-Key", "bw_a_b"), ("X-API-Key", "bw_c_d")]
    answer = server.get("/v1/health", headers=twice)
    assert answer.status_code == 401
    assert "comes 2 times" in answer.json()["detail"]


# ---------------------------------------------------------------- a database that is away


class Line:
    """The line to a database: can be cut, frozen and mended while the database runs on."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._to)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    pair = (source, target)
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65_536):
                self._flows.wait()
                target.sendall(part)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()


@pytest.fixture
def line(scratch_database) -> Iterator[tuple[Line, str]]:
    url = make_url(scratch_database)
    made = Line(url.host or "127.0.0.1", url.port or 5432)
    yield made, url.set(host="127.0.0.1", port=made.port).render_as_string(hide_password=False)
    made.thaw()
    made.cut()


@pytest.mark.server
def test_readiness_follows_the_database_of_the_ledger(world, copy_of, service_for, tmp_path, line):
    wire, url = line
    with service_for(copy_of(world, tmp_path), BELLWETHER_LEDGER_URL=url) as server:
        assert server.get("/v1/accounts/A-0030/score").status_code == 200
        for break_, repair in ((wire.cut, wire.mend), (wire.freeze, wire.thaw)):
            break_()
            assert_not_ready(server)
            assert server.get("/livez").status_code == 200, "a restart would not help"
            repair()
            server.wait_until(server.is_ready, seconds=30)
            server.wait_until(lambda: server.get("/v1/health").status_code == 200, seconds=30)
            assert server.get("/v1/accounts/A-0030/score").status_code == 200


def assert_not_ready(server) -> None:
    for _ in range(2):
        began = time.monotonic()
        answer = server.get("/readyz")
        assert time.monotonic() - began < 5
        assert answer.status_code == 503
        assert "the database of the score ledger does not answer" in answer.text
        assert int(answer.headers["retry-after"]) > 0
    health = server.get("/v1/health")
    assert (health.status_code, health.json()["ledger"]) == (503, False)
