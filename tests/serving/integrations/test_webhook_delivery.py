"""Receivers that misbehave: each costs itself its news, and no other endpoint anything."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

import serving.integrations.webhook_delivery as module
from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State
from configs.schema.company import Webhook
from configs.schema.workspace import Environment, Workspace
from serving.api.gauges import set_gauges
from serving.commands.app import app
from serving.http.prometheus import Metrics
from serving.integrations.webhooks import (
    DEAD,
    DELIVERED,
    KEPT_DAYS,
    PAUSES,
    WAITING,
    Outbox,
    announce,
    check_webhooks,
    endpoints_of,
)
from serving.online.server_state import ServerState

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ROW = {
    "account_id": "A-1",
    "status": "scored",
    "risk_band": "low",
    "as_of": "2026-03-02T00:00:00Z",
    "release_id": "r1",
}
NOW = datetime(2026, 3, 2, tzinfo=UTC)

Answer = Callable[[socket.socket], None]


def garbage(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def nothing(connection: socket.socket) -> None:
    connection.close()


def silence(connection: socket.socket) -> None:
    connection.recv(1)


def too_long(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\n\r\n")


def half_a_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


def slow_head(connection: socket.socket) -> None:
    """A byte now and then: no single read ever waits long."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: " + b"y" * 1_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def endless_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"y" * 1_000 + b"\r\n")


def endless_interim(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def endless_refusal(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 No\r\n\r\n")
    while True:
        connection.sendall(b"z" * 65_536)


def redirect(connection: socket.socket) -> None:
    connection.sendall(
        b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    )


def odd_encoding(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 \xff\xfe\x00 \x1b[31m\r\n\r\n")


def taken(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def taken_without_end(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"z" * 65_536)


HOSTILE = {
    answer.__name__: (answer, problem)
    for answer, problem in (
        (garbage, "not HTTP"),
        (nothing, "not HTTP"),
        (silence, "no answer within"),
        (too_long, "not HTTP"),
        (half_a_head, "not HTTP"),
        (slow_head, "no answer within"),
        (endless_head, "not HTTP"),
        (endless_interim, "no answer within"),
        (endless_refusal, "answered 500"),
        (redirect, "answered 307"),
        (odd_encoding, "not HTTP"),
    )
}


class Receiver:
    """A socket that reads a request and then answers as it was told to."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.answer, self.context = answer, context
        self.n_requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            held = connection
            if self.context is not None:
                held = self.context.wrap_socket(connection, server_side=True)
            with held:
                held.settimeout(10)
                received = b""
                while not received.endswith(b"}}"):
                    received += held.recv(65_536)
                self.n_requests += 1
                self.answer(held)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(answer: Answer, context: ssl.SSLContext | None = None) -> Receiver:
        made.append(Receiver(answer, context))
        return made[-1]

    yield make
    for item in made:
        item.close()


def hooks_of(world, folder, url: str) -> Iterator[Callable[..., tuple[Workspace, Outbox]]]:
    opened: list[Outbox] = []

    def hook(**addresses: str) -> tuple[Workspace, Outbox]:
        hooks = {name: Webhook(url=address) for name, address in addresses.items()}
        company = world.workspace.company.model_copy(update={"webhooks": hooks})
        secrets = dict.fromkeys(addresses, SECRET)
        places = Environment(ledger_url=url or None, webhook_secrets=secrets)
        workspace = replace(world.workspace, company=company, places=places, state=State(folder))
        opened.append(Outbox(workspace))
        return workspace, opened[-1]

    yield hook
    for outbox in opened:
        outbox.close()


@pytest.fixture
def hooked(world, tmp_path):
    """Return a company whose webhooks go to these addresses, and its outbox."""
    yield from hooks_of(world, tmp_path, "")


@pytest.fixture
def hooked_anywhere(world, tmp_path, url):
    """The same on each database."""
    yield from hooks_of(world, tmp_path, url)


@pytest.fixture
def impatient(monkeypatch) -> float:
    monkeypatch.setattr(module, "SEND_SECONDS", 3.0)
    return 3.0


def near(item: Receiver) -> str:
    return f"http://127.0.0.1:{item.port}/in"


@pytest.mark.parametrize("how", HOSTILE)
def test_a_receiver_that_misbehaves_holds_up_no_other(how, hooked, receiver, impatient):
    answer, problem = HOSTILE[how]
    bad, good = receiver(answer), receiver(taken)
    workspace, outbox = hooked(bad=near(bad), good=near(good))
    for n in range(2):
        announce(workspace, [], [ROW], f"book-{n}", NOW)
    began = time.monotonic()
    assert outbox.deliver(endpoints_of(workspace), NOW) == 2, outbox.messages(WAITING)
    assert time.monotonic() - began < 2 * impatient + 4
    assert (bad.n_requests, good.n_requests) == (2, 2)
    assert {item.endpoint for item in outbox.messages(DELIVERED)} == {"good"}
    waiting = outbox.messages(WAITING)
    assert [item.endpoint for item in waiting] == ["bad"] * 2
    assert all(problem in item.problem and item.attempts == 1 for item in waiting), waiting
    assert all(item.problem.isprintable() for item in waiting)
    assert outbox.counts() == {("bad", WAITING): 2}


def test_it_is_given_up_after_the_last_pause_and_counted(hooked_anywhere, receiver, impatient):
    bad = receiver(garbage)
    workspace, outbox = hooked_anywhere(bad=near(bad))
    now = NOW
    announce(workspace, [], [ROW], "book-1", now)
    for pause in (*PAUSES, timedelta()):
        assert outbox.deliver(endpoints_of(workspace), now) == 0
        now += pause + timedelta(seconds=5)
    assert outbox.deliver(endpoints_of(workspace), now) == 0
    assert bad.n_requests == len(PAUSES) + 1
    assert outbox.counts() == {("bad", DEAD): 1}
    bad.answer = taken
    assert outbox.revive(now) == 1
    assert outbox.deliver(endpoints_of(workspace), now) == 1
    assert outbox.counts() == {}


def test_an_answer_without_end_is_taken_when_its_status_says_so(hooked, receiver, impatient):
    workspace, outbox = hooked(crm=near(receiver(taken_without_end)))
    announce(workspace, [], [ROW], "book-1", NOW)
    began = time.monotonic()
    assert outbox.deliver(endpoints_of(workspace), NOW) == 1
    assert time.monotonic() - began < impatient + 2


@pytest.fixture
def own_certificate(tmp_path) -> ssl.SSLContext:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_encryption_that_cannot_be_trusted_is_no_delivery(
    hooked, receiver, impatient, own_certificate
):
    own, plain, good = receiver(taken, own_certificate), receiver(taken), receiver(taken)
    workspace, outbox = hooked(
        own=f"https://localhost:{own.port}/",
        plain=f"https://127.0.0.1:{plain.port}/",
        closed="http://127.0.0.1:1/",
        unknown="https://there-is-no-such-host.invalid/",
        good=near(good),
    )
    announce(workspace, [], [ROW], "book-1", NOW)
    assert outbox.deliver(endpoints_of(workspace), NOW) == 1
    told = {item.endpoint: item.problem for item in outbox.messages(WAITING)}
    assert set(told) == {"own", "plain", "closed", "unknown"}
    assert "CERTIFICATE_VERIFY_FAILED" in told["own"]
    assert own.n_requests == plain.n_requests == 0, "nothing is told to who cannot be trusted"


def test_a_running_service_delivers_while_another_receiver_says_nothing(
    fresh, hooked, receiver, client_for
):
    slow, broken, good = receiver(silence), receiver(garbage), receiver(taken)
    workspace, outbox = hooked(slow=near(slow), broken=near(broken), good=near(good))
    workspace = replace(workspace, state=fresh.state)
    serving = ServerState(workspace)
    serving.start(check_seconds=0.2)
    try:
        for n in range(4):
            announce(workspace, [], [ROW], f"book-{n}", datetime.now(UTC))
            until(lambda n=n: good.n_requests == n + 1, seconds=20)
        assert slow.n_requests <= 1, "it is not asked again before it was waited for"
        until(lambda: ("broken", WAITING) in serving.undelivered, seconds=20)
        metrics = Metrics()
        set_gauges(metrics, serving)
        text = metrics.expose().decode()
        assert 'bellwether_webhook_messages{state="waiting",webhook="broken"} ' in text
        assert 'bellwether_webhook_messages{state="dead",webhook="good"} 0.0' in text
    finally:
        serving.close()


def until(holds: Callable[[], bool], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come to pass in time"
        time.sleep(0.02)


def test_a_webhook_without_its_secret_stops_neither_the_book_nor_the_others(
    hooked, fresh, receiver
):
    good = receiver(taken)
    workspace, _ = hooked(bad="https://example.com/in", good=near(good))
    places = Environment(webhook_secrets={"good": SECRET})
    workspace = replace(workspace, places=places, state=fresh.state)
    assert announce(workspace, [], [ROW], "book-1", datetime.now(UTC)) == 2
    serving = ServerState(workspace)
    serving.start(check_seconds=0.2)
    try:
        until(lambda: good.n_requests == 1, seconds=20)
        until(lambda: "webhooks" in serving.notes, seconds=20)
        assert "BELLWETHER_WEBHOOK_SECRET_BAD" in serving.notes["webhooks"]
        assert serving.is_ready()
    finally:
        serving.close()


def test_messages_for_a_webhook_that_is_gone_are_given_up(hooked_anywhere, receiver):
    good = receiver(taken)
    workspace, outbox = hooked_anywhere(gone="https://example.com/", good=near(good))
    announce(workspace, [], [ROW], "book-1", NOW)
    left = {name: item for name, item in endpoints_of(workspace).items() if name == "good"}
    assert outbox.deliver(left, NOW) == 1
    (lost,) = outbox.messages(DEAD)
    assert (lost.endpoint, lost.problem) == ("gone", "there is no such webhook any more")


def test_what_is_over_is_forgotten_but_nothing_that_waits(hooked_anywhere, receiver, impatient):
    workspace, outbox = hooked_anywhere(good=near(receiver(taken)), bad=near(receiver(garbage)))
    announce(workspace, [], [ROW], "book-1", NOW)
    outbox.deliver(endpoints_of(workspace), NOW)
    assert outbox.forget(NOW) == 0
    assert outbox.forget(NOW + timedelta(days=KEPT_DAYS)) == 1
    assert outbox.messages(DELIVERED) == []
    assert len(outbox.messages(WAITING)) == 1


WRITTEN = """
config_version: 1
name: small
webhooks:
  crm: {{url: "{url}"{more}}}
targets:
  churn: {{outcome: churn, observed_in: activity}}
"""


def checked(tmp_path, monkeypatch, text: str, **secrets: str) -> str:
    """Run the command on a company folder; return what it prints."""
    (tmp_path / "company.yaml").write_text(text)
    for name, value in secrets.items():
        monkeypatch.setenv(f"BELLWETHER_WEBHOOK_SECRET_{name}", value)
    words = ["check", str(tmp_path), "--state", str(tmp_path / "state")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code != 0
    return f"{result.output}{result.exception}"


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("http://example.com/", "", "webhooks.crm.url: webhooks go over https"),
        ("ftp://example.com/", "", "webhooks.crm.url: webhooks go over https"),
        ("https://", "", "webhooks.crm.url: the address names no host"),
        ("https://exa mple.com/", "", "webhooks.crm.url: 'exa mple.com' is no host name"),
        ("https://[::1/", "", "webhooks.crm.url: the address cannot be read"),
        ("https://example.com:99999/", "", "webhooks.crm.url: the port is no number"),
        ("https://me:pw@example.com/", "", "may not carry a user or a password"),
        ("https://example.com/", ", events: []", "webhooks.crm.events: none is named"),
        ("https://example.com/", ", events: [book.publishd]", "webhooks.crm.events.0"),
        (
            "https://example.com/",
            ", events: [book.published, book.published]",
            "webhooks.crm.events: book.published is named twice",
        ),
        ("https://example.com/", ", secret: x", "webhooks.crm.secret: unknown key"),
    ],
)
def test_check_names_each_mistake_in_the_webhooks(tmp_path, monkeypatch, url, more, words):
    text = WRITTEN.format(url=url, more=more)
    assert words in checked(tmp_path, monkeypatch, text, CRM=SECRET)


def test_check_names_all_mistakes_at_once(hooked):
    workspace, _ = hooked(
        crm="https://example.com/in",
        same="https://EXAMPLE.com/in/",
        near="http://example.com/",
    )
    secrets = {"crm": "short", "same": SECRET, "near": SECRET, "nera": SECRET}
    places = Environment(webhook_secrets=secrets)
    with pytest.raises(ConfigError) as caught:
        check_webhooks(replace(workspace, places=places))
    told = str(caught.value)
    for words in (
        "BELLWETHER_WEBHOOK_SECRET_CRM: the secret of the webhook crm is missing",
        "webhooks.same.url: the same address as webhooks.crm",
        "webhooks.near.url: webhooks go over https",
        'BELLWETHER_WEBHOOK_SECRET_NERA: there is no webhook nera; did you mean "near"?',
    ):
        assert words in told
    assert "short" not in told.replace("shorter", "")
    check_webhooks(hooked(crm="https://example.com/in")[0])


def test_a_webhook_written_twice_is_a_mistake(tmp_path, monkeypatch):
    text = WRITTEN.format(url="https://a.example/", more="").replace(
        "targets:", '  crm: {url: "https://b.example/"}\ntargets:'
    )
    assert "the key 'crm' is repeated" in checked(tmp_path, monkeypatch, text, CRM=SECRET)
