"""News to other systems: signed so that the reference library takes it, once per book, not lost."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from configs.runtime.errors import ConfigError
from configs.runtime.state_directory import State
from configs.schema.company import Webhook
from configs.schema.workspace import Environment
from serving.batch.score_book import read_table
from serving.integrations.webhooks import (
    DEAD,
    DELIVERED,
    LEASE,
    PAUSES,
    WAITING,
    Outbox,
    announce,
    announce_escalations,
    endpoints_of,
    news_of,
)

ROOT = Path(__file__).resolve().parents[3]
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ROW = {
    "status": "scored",
    "account_id": "A-1",
    "risk_band": "low",
    "churn_risk": 0.1,
    "churn_low": 0.06,
    "churn_high": 0.14,
    "churn_asks_about": "renewal",
    "churn_until": "2026-06-27",
    "top_reason": "Active users 4",
    "as_of": "2026-03-02T00:00:00Z",
    "release_id": "r1",
}
RISEN = ROW | {"risk_band": "high", "churn_risk": 0.4, "churn_low": 0.3, "churn_high": 0.5}


class Inbox(HTTPServer):
    """A receiver on the loopback interface that answers what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.seconds = 0.0


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.taken.append((headers, body))
        time.sleep(self.server.seconds)
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hooked(world, tmp_path, url, inbox):
    """A company with one webhook, and its outbox."""
    hook = Webhook(url=f"http://127.0.0.1:{inbox.server_port}/in")
    company = world.workspace.company.model_copy(update={"webhooks": {"crm": hook}})
    places = Environment(ledger_url=url or None, webhook_secrets={"crm": SECRET})
    workspace = replace(world.workspace, company=company, places=places, state=State(tmp_path))
    outbox = Outbox(workspace)
    yield workspace, outbox
    outbox.close()


def test_a_message_is_signed_as_the_reference_library_checks_it(hooked, inbox):
    workspace, outbox = hooked
    now = datetime.now(UTC)
    assert announce(workspace, [ROW], [RISEN], "book-1", now) == 2
    assert outbox.deliver(endpoints_of(workspace), now) == 2
    told = [Receiver(SECRET).verify(body, headers) for headers, body in inbox.taken]
    by = {item["type"]: item["data"] for item in told}
    assert set(by) == {"account.band_changed", "book.published"}
    assert by["account.band_changed"]["band_before"] == "low"
    assert by["account.band_changed"]["churn_risk"] == 0.4
    headers, body = inbox.taken[0]
    with pytest.raises(WebhookVerificationError):
        Receiver(SECRET).verify(body.replace(b"book-1", b"book-2") + b" ", headers)


SENDER = """
import os, sys
from dataclasses import replace
from datetime import UTC, datetime
from configs.schema.company import Webhook
from serving.online.server_state import workspace_from_environment
from serving.integrations.webhooks import Outbox, endpoints_of

workspace = workspace_from_environment(os.environ)
company = workspace.company.model_copy(update={"webhooks": {"crm": Webhook(url=sys.argv[1])}})
places = replace(workspace.places, webhook_secrets={"crm": sys.argv[2]})
workspace = replace(workspace, company=company, places=places)
outbox = Outbox(workspace)
while True:
    outbox.deliver(endpoints_of(workspace), datetime.now(UTC))
"""


@pytest.mark.slow
def test_messages_outlive_the_process_that_sends_them(hooked, inbox, url):
    workspace, outbox = hooked
    inbox.seconds = 0.03
    before = [ROW | {"account_id": f"A-{i}"} for i in range(40)]
    after = [RISEN | {"account_id": f"A-{i}"} for i in range(40)]
    n_messages = announce(workspace, before, after, "book-1", datetime.now(UTC))
    environment = os.environ | {
        "BELLWETHER_COMPANY": str(workspace.folder),
        "BELLWETHER_STATE": str(workspace.state.root),
        **({"BELLWETHER_LEDGER_URL": url} if url else {}),
    }
    words = [sys.executable, "-c", SENDER, workspace.company.webhooks["crm"].url, SECRET]
    child = subprocess.Popen(words, env=environment, cwd=ROOT)
    try:
        while len(inbox.taken) < 10:
            assert child.poll() is None, "the sender ended before it was killed"
            time.sleep(0.005)
    finally:
        child.kill()
        child.wait()
    n_before = len(inbox.taken)
    assert n_before < n_messages
    now = datetime.now(UTC)
    outbox.deliver(endpoints_of(workspace), now)
    outbox.deliver(endpoints_of(workspace), now + LEASE + timedelta(seconds=1))
    told = [headers["webhook-id"] for headers, _ in inbox.taken]
    assert len(set(told)) == n_messages == len(outbox.messages(DELIVERED))
    # what was on its way may come again, under the same id, by which receivers know it
    assert len(told) <= n_messages + 1


def test_the_same_book_again_is_no_further_news(hooked, inbox):
    workspace, outbox = hooked
    now = datetime.now(UTC)
    announce(workspace, [ROW], [RISEN], "book-1", now)
    assert announce(workspace, [ROW], [RISEN], "book-1", now + timedelta(minutes=1)) == 0
    outbox.deliver(endpoints_of(workspace), now)
    assert outbox.deliver(endpoints_of(workspace), now + timedelta(days=1)) == 0
    assert len(inbox.taken) == 2
    assert len(outbox.messages(DELIVERED)) == 2


def test_an_escalation_is_told_once_for_each_trigger_and_none_is_lost(hooked, inbox):
    workspace, outbox = hooked
    now = datetime.now(UTC)
    yesterday = now - timedelta(days=1)
    first, second = (
        {"event_id": name * 32, "account_id": "A-1", "trigger": name, "to": "manager"}
        for name in ("a", "b")
    )
    assert announce_escalations(workspace, [first], yesterday) == 1
    # The next book finds it open still, and another trigger has fired for the same account.
    assert announce_escalations(workspace, [first, second], now) == 1
    assert outbox.deliver(endpoints_of(workspace), now) == 2
    told = [Receiver(SECRET).verify(body, headers) for headers, body in inbox.taken]
    assert [item["type"] for item in told] == ["account.escalated"] * 2
    assert [item["data"] for item in told] == [first, second]


def test_what_is_not_taken_is_sent_again_with_pauses_until_it_is_dead(hooked, inbox):
    workspace, outbox = hooked
    endpoints, now = endpoints_of(workspace), datetime(2026, 3, 2, tzinfo=UTC)
    announce(workspace, [], [ROW], "book-1", now)
    inbox.status = 302
    for n, pause in enumerate(PAUSES, start=1):
        assert outbox.deliver(endpoints, now) == 0
        (message,) = outbox.messages(WAITING)
        assert (message.attempts, message.problem) == (n, "answered 302")
        assert outbox.deliver(endpoints, now + pause - timedelta(seconds=1)) == 0
        assert len(inbox.taken) == n
        now += pause
    outbox.deliver(endpoints, now)
    assert outbox.messages(WAITING) == []
    assert [item.attempts for item in outbox.messages(DEAD)] == [len(PAUSES) + 1]
    assert len({headers["webhook-id"] for headers, _ in inbox.taken}) == 1
    inbox.status = 200
    assert outbox.revive(now) == 1
    assert outbox.deliver(endpoints, now) == 1


def test_what_a_killed_worker_was_sending_is_sent_by_another(hooked, inbox):
    workspace, outbox = hooked
    now = datetime.now(UTC)
    announce(workspace, [], [ROW], "book-1", now)
    (message,) = outbox.messages(WAITING)
    assert outbox.queue.claim(message.message_id, now)
    assert not outbox.queue.claim(message.message_id, now), "two workers do not send the same"
    assert outbox.deliver(endpoints_of(workspace), now) == 0
    assert outbox.deliver(endpoints_of(workspace), now + LEASE) == 1


def test_only_a_move_larger_than_its_uncertainty_is_news():
    near = RISEN | {"risk_band": "elevated", "churn_risk": 0.16, "churn_low": 0.1}
    unknown = RISEN | {"risk_band": None, "churn_risk": None, "churn_low": None}

    def kinds(after) -> list[str]:
        return [event for event, _ in news_of([ROW], [after], "b")]

    assert kinds(RISEN) == ["account.band_changed", "book.published"]
    assert kinds(near) == kinds(ROW) == kinds(unknown) == ["book.published"]
    assert kinds(ROW | {"release_id": "r2"}) == ["release.published", "book.published"]
    back = [event for event, _ in news_of([RISEN], [ROW], "b")]
    assert back[0] == "account.band_changed"


@pytest.mark.parametrize(
    "address",
    ["http://example.test/x", "file:///etc/passwd", "https://", "ftp://127.0.0.1/", "//x",
     "https://user:secret@example.test/", "http://169.254.169.254/latest"],
)  # fmt: skip
def test_addresses_that_are_not_safe_are_refused(world, address):
    company = world.workspace.company.model_copy(update={"webhooks": {"crm": Webhook(url=address)}})
    places = Environment(webhook_secrets={"crm": SECRET})
    with pytest.raises(ConfigError):
        endpoints_of(replace(world.workspace, company=company, places=places))


@pytest.mark.parametrize("secret", ["", "whsec_", "short", "whsec_" + "A" * 8])
def test_a_webhook_needs_a_secret(hooked, secret):
    places = Environment(webhook_secrets={"crm": secret})
    with pytest.raises(ConfigError, match="secret of the webhook crm") as caught:
        endpoints_of(replace(hooked[0], places=places))
    assert "BELLWETHER_WEBHOOK_SECRET_CRM" in str(caught.value)


def test_secrets_are_shown_nowhere(hooked):
    workspace, _ = hooked
    assert "kkkk" not in repr(endpoints_of(workspace))
    assert SECRET not in repr(workspace.places)
    read = Environment.from_environment({"BELLWETHER_WEBHOOK_SECRET_CRM": SECRET})
    assert read.webhook_secrets == {"crm": SECRET}


def test_a_whole_book_is_news_for_those_it_moved(book):
    rows = read_table(book).to_pylist()
    changed = [row["account_id"] for row in rows if row["risk_band"] == "high"][:2]
    before = [
        row | {"risk_band": "low", "churn_risk": 0.0, "churn_low": 0.0, "churn_high": 0.0}
        if row["account_id"] in changed
        else row
        for row in rows
    ]
    news = news_of(before, rows, book.run_id)
    assert [data["account_id"] for event, data in news if "band" in event] == changed
    assert json.dumps(news)
