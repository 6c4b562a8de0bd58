"""News sent to other systems: signed after Standard Webhooks, at least once, never lost.

What is to be sent is kept in the ledger's database before the book that it tells of is published;
workers send it, again and again with growing pauses, until it is taken or given up as dead. A band
that changed is news only when the move is larger than what is uncertain in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    and_,
    select,
)
from sqlalchemy import update as change

from configs.company import Webhook
from configs.errors import ConfigError
from configs.places import Workspace
from features.status import NOT_CUSTOMERS
from serving.phrases import to_second
from serving.questions import move_of, question_of_row, refuse_mixed
from training.database import UtcTime, open_engine, reading, writing
from training.inserts import settle

PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""After each failed attempt, as Standard Webhooks proposes; after the last one it is dead."""

LEASE = timedelta(seconds=30)
"""A worker that sends something has so long before another may."""

SEND_SECONDS, SECRET_BYTES = 10.0, 24
WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
BAND_CHANGED, BOOK_PUBLISHED = "account.band_changed", "book.published"
RELEASE_PUBLISHED, ESCALATED = "release.published", "account.escalated"

metadata = MetaData()
outbox_table = Table(
    "webhook_outbox",
    metadata,
    Column("company", String(64), nullable=False),
    Column("message_id", String(40), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("problem", Text),
    PrimaryKeyConstraint("company", "message_id"),
)


@dataclass(frozen=True)
class Endpoint:
    """Where news goes. The secret is hidden in its repr.

    Attributes
    ----------
    name, url : str
        Which; https, or http on this machine.
    events : tuple of str
        What is sent.
    secret : bytes
        What messages are signed with.
    """

    name: str
    url: str
    events: tuple[str, ...]
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Message:
    """One message in the outbox.

    Attributes
    ----------
    message_id, endpoint, event, body : str
        What is sent where; the id is the same at every attempt.
    state : str
        `WAITING`, `DELIVERED` or `DEAD`.
    attempts : int
        So far.
    problem : str or None
        Of the last attempt.
    """

    message_id: str
    endpoint: str
    event: str
    body: str
    state: str
    attempts: int
    problem: str | None


_NAMES = tuple(item.name for item in fields(Message))


def endpoints_of(workspace: Workspace) -> dict[str, Endpoint]:
    """Return where news of a company goes, by name.

    Raises
    ------
    ConfigError
        An address that is neither https nor of this machine, or no secret.
    """
    secrets = workspace.places.webhook_secrets
    return {
        name: _endpoint(name, hook, secrets.get(name, ""))
        for name, hook in workspace.company.webhooks.items()
    }


def _endpoint(name: str, hook: Webhook, secret: str) -> Endpoint:
    parts = urlsplit(hook.url)
    is_near = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if (parts.scheme != "https" and not is_near) or not parts.hostname or parts.username:
        raise ConfigError(
            "webhooks go over https, or over http on this machine", where=f"webhooks.{name}.url"
        )
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < SECRET_BYTES:
        raise ConfigError(
            f"the secret of the webhook {name} is missing or shorter than {SECRET_BYTES} bytes",
            where=f"BELLWETHER_WEBHOOK_SECRET_{name.upper()}",
            fix="whsec_$(openssl rand -base64 32)",
        )
    return Endpoint(name, hook.url, tuple(hook.events), key)


def announce(
    workspace: Workspace,
    before: Iterable[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    run_id: str,
    now: datetime,
) -> int:
    """Keep the news of a book for every webhook of a company; return how many messages."""
    return _keep(workspace, lambda: news_of(before, after, run_id), run_id, now)


def announce_escalations(
    workspace: Workspace, escalations: Iterable[Mapping[str, Any]], now: datetime
) -> int:
    """Keep escalations for every webhook of a company; return how many messages are new.

    Parameters
    ----------
    workspace : Workspace
        The company.
    escalations : iterable of mapping
        Everything escalated and still open, each with its ``event_id``: one that was kept before
        is left as it is, so that none is lost and none is sent twice.
    now : datetime
        When they are told.
    """
    return _keep(workspace, lambda: [(ESCALATED, item) for item in escalations], "", now)


def _keep(
    workspace: Workspace,
    news: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]],
    run_id: str,
    now: datetime,
) -> int:
    if not workspace.company.webhooks:
        return 0
    endpoints = endpoints_of(workspace)
    outbox = Outbox(workspace)
    try:
        return outbox.put(news(), endpoints, run_id, now)
    finally:
        outbox.close()


def news_of(
    before: Iterable[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], run_id: str
) -> list[tuple[str, dict[str, Any]]]:
    """Return what a new book says that the last one did not, as (event, data).

    Parameters
    ----------
    before, after : rows
        Canonical rows of the last published book, and of the one to be published.
    run_id : str
        Of the new book.
    """
    known = {row["account_id"]: row for row in before}
    found = [
        (BAND_CHANGED, _band_change(known[row["account_id"]], row))
        for row in after
        if row["account_id"] in known and is_clear_change(known[row["account_id"]], row)
    ]
    now = {row["account_id"]: row for row in after}
    refuse_mixed(
        (item, question_of_row(known[item]), question_of_row(now[item]))
        for item in (data["account_id"] for _, data in found)
    )
    first = next(iter(after), None)
    if first is None:
        return []
    told = {"book_id": run_id, "as_of": first["as_of"], "release_id": first["release_id"]}
    releases = {row["release_id"] for row in known.values()}
    if releases and first["release_id"] not in releases:
        found.insert(0, (RELEASE_PUBLISHED, {"release_id": first["release_id"]}))
    n_closed = sum(row["status"] in NOT_CUSTOMERS for row in after)
    counts = {"n_accounts": len(after) - n_closed, "n_closed": n_closed}
    return [*found, (BOOK_PUBLISHED, {**told, **counts})]


def is_clear_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Say whether a band changed by more than what is uncertain in both estimates.

    The move has to exceed the root of the summed squares of the two half-ranges towards each
    other: two 90 % ranges of independent estimates. Risks of two renewals are not compared.

    >>> row = {"risk_band": "low", "churn_risk": 0.1, "churn_low": 0.06, "churn_high": 0.14,
    ...        "churn_asks_about": "renewal", "churn_until": "2026-06-27", "as_of": "2026-06-01"}
    >>> high = row | {"risk_band": "high", "churn_risk": 0.4, "churn_low": 0.3, "churn_high": 0.5}
    >>> near = row | {"risk_band": "elevated", "churn_risk": 0.12, "churn_low": 0.07,
    ...               "churn_high": 0.18}
    >>> is_clear_change(row, high), is_clear_change(row, near), is_clear_change(row, row)
    (True, False, False)
    >>> is_clear_change(row, high | {"churn_until": "2027-06-27"})
    False
    """
    move = move_of(before, after)
    if before["risk_band"] == after["risk_band"] or move is None:
        return False
    low, high = sorted((before, after), key=lambda row: row["churn_risk"])
    up, down = low["churn_high"] - low["churn_risk"], high["churn_risk"] - high["churn_low"]
    return bool(abs(move) > (up**2 + down**2) ** 0.5)


def _band_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account_id": after["account_id"],
        "band": after["risk_band"],
        "band_before": before["risk_band"],
        "churn_risk": after["churn_risk"],
        "churn_risk_before": before["churn_risk"],
        "churn_asks_about": after["churn_asks_about"],
        "churn_until": after["churn_until"],
        "top_reason": after["top_reason"],
        "as_of": after["as_of"],
        "release_id": after["release_id"],
    }


class Outbox:
    """What is to be sent for one company; `close` it."""

    def __init__(self, workspace: Workspace) -> None:
        self.company = workspace.company.name
        file = workspace.state.ledger / "outbox.db"
        self.engine = open_engine(workspace.places.ledger_url, file, metadata)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def put(
        self,
        news: Iterable[tuple[str, Mapping[str, Any]]],
        endpoints: Mapping[str, Endpoint],
        book_id: str,
        now: datetime,
    ) -> int:
        """Keep news for whoever wants it; the same news of the same book is kept once."""
        records = [
            self._record(endpoint.name, event, data, book_id, now)
            for event, data in news
            for endpoint in endpoints.values()
            if event in endpoint.events
        ]
        key, free = ("company", "message_id"), ("body", "state", "attempts", "created_at", "due_at")
        return settle(self.engine, outbox_table, key, records, but=[*free, "problem"])

    def messages(self, state: str) -> list[Message]:
        """Return the messages in a state, oldest first."""
        return self._read(outbox_table.c.state == state)

    def deliver(self, endpoints: Mapping[str, Endpoint], now: datetime) -> int:
        """Send what is due; return how many messages were taken by their receivers."""
        is_due = and_(outbox_table.c.state == WAITING, outbox_table.c.due_at <= now)
        return sum(
            self._attempt(message, endpoints.get(message.endpoint), now)
            for message in self._read(is_due, limit=50)
            if self._lease(message, now)
        )

    def revive(self, now: datetime) -> int:
        """Send dead messages again, from the first attempt on; return how many."""
        dead = and_(outbox_table.c.company == self.company, outbox_table.c.state == DEAD)
        with writing(self.engine) as connection:
            found = connection.execute(
                change(outbox_table).where(dead).values(state=WAITING, attempts=0, due_at=now)
            )
        return int(found.rowcount)

    def _record(
        self, endpoint: str, event: str, data: Mapping[str, Any], book_id: str, now: datetime
    ) -> dict[str, Any]:
        about = data.get("event_id") or data.get("account_id", "")
        identity = "\x1f".join((book_id, endpoint, event, about))
        return {
            "company": self.company,
            "message_id": f"msg_{hashlib.sha256(identity.encode()).hexdigest()[:32]}",
            "endpoint": endpoint,
            "event": event,
            "body": orjson.dumps(
                {"type": event, "timestamp": to_second(now), "data": data}
            ).decode(),
            "state": WAITING,
            "attempts": 0,
            "created_at": now,
            "due_at": now,
            "problem": None,
        }

    def _lease(self, message: Message, now: datetime) -> bool:
        """Keep other workers from sending the same for a while; False when one is at it."""
        where = and_(outbox_table.c.state == WAITING, outbox_table.c.due_at <= now)
        return self._change(message, where, due_at=now + LEASE) == 1

    def _attempt(self, message: Message, endpoint: Endpoint | None, now: datetime) -> bool:
        problem = send(endpoint, message, now) if endpoint else "there is no such webhook any more"
        if not problem:
            self._change(message, state=DELIVERED, attempts=message.attempts + 1, problem=None)
            return True
        is_over = endpoint is None or message.attempts >= len(PAUSES)
        pause = timedelta() if is_over else PAUSES[message.attempts]
        self._change(
            message,
            state=DEAD if is_over else WAITING,
            attempts=message.attempts + 1,
            due_at=now + pause,
            problem=problem,
        )
        return False

    def _change(self, message: Message, *where: Any, **values: Any) -> int:
        table = outbox_table
        mine = and_(table.c.company == self.company, table.c.message_id == message.message_id)
        with writing(self.engine) as connection:
            done = connection.execute(change(table).where(and_(mine, *where)).values(**values))
        return int(done.rowcount)

    def _read(self, where: Any, limit: int | None = None) -> list[Message]:
        table = outbox_table
        query = select(*(table.c[name] for name in _NAMES))
        query = query.where(table.c.company == self.company, where)
        ordered = query.order_by(table.c.created_at, table.c.message_id).limit(limit)
        with reading(self.engine) as connection:
            return [Message(*row) for row in connection.execute(ordered).all()]


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 over ``id.timestamp.body``, version 1.

    Notes
    -----
    https://github.com/standard-webhooks/standard-webhooks
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, 'sha256')).decode()}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any) -> None:
        return None


def send(endpoint: Endpoint, message: Message, now: datetime) -> str:
    """Send one message once; return what is wrong, the empty string when it was taken."""
    body, timestamp = message.body.encode(), int(now.timestamp())
    request = urllib.request.Request(  # noqa: S310  the configuration allows https and loopback
        endpoint.url,
        data=body,
        method="POST",
        headers={
            "Content-Type": "application/json",
            "User-Agent": "bellwether",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(endpoint.secret, message.message_id, timestamp, body),
        },
    )
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SEND_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"answered {error.code}"
    except OSError as error:
        return f"not reached: {type(error).__name__}"
