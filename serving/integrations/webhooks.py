"""News sent to other systems: signed after Standard Webhooks, at least once, never lost.

Messages are stored in the ledger's database before the book they describe is published;
workers send it (`serving.integrations.webhook_delivery`), again and again with growing pauses,
until it is taken or given up as dead. Each endpoint is served by itself: one that is slow or broken
holds up no other. A band that changed is news only when the move is larger than what is uncertain
in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import and_, func, select

from configs.runtime.database import reading
from configs.runtime.errors import ConfigError, did_you_mean
from configs.runtime.migrate import open_engine
from configs.runtime.sql_inserts import settle
from configs.runtime.tables import OUTBOX_TABLES, outbox_table
from configs.runtime.work_queue import Claim, LostClaimError, WorkQueue
from configs.schema.company import Webhook
from configs.schema.workspace import Workspace
from features.snapshots.statuses import NOT_CUSTOMERS
from serving.http.score_text import to_second
from serving.ledger.comparability import move_of, question_of_row, refuse_mixed

PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""After each failed attempt, as Standard Webhooks proposes; after the last one it is dead."""

LEASE = timedelta(seconds=60)
"""A worker that sends something has so long before another may."""

AT_ONCE = 50
"""Messages to one endpoint that are read from the database together."""

KEPT_DAYS = 90
"""Days that delivered and dead messages are kept, so that each book is announced only once."""

SECRET_BYTES = 24
WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
BAND_CHANGED, BOOK_PUBLISHED = "account.band_changed", "book.published"
RELEASE_PUBLISHED, ESCALATED = "release.published", "account.escalated"


_HOST = re.compile(
    r"[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*\.?|[0-9a-f:.]+"
)
"""A host name in ASCII, or an address of IP version 6 without its brackets."""


@dataclass(frozen=True)
class Endpoint:
    """One webhook endpoint. The secret is hidden in its repr.

    Attributes
    ----------
    name, url : str
        Its name and address; https, or http on this machine.
    events : tuple of str
        Events that are sent.
    secret : bytes
        Key that signs the messages.
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
    places = workspace.places
    return {
        name: _endpoint(name, hook, places.webhook_secret(name))
        for name, hook in workspace.company.webhooks.items()
    }


def endpoint_of(workspace: Workspace, name: str) -> Endpoint:
    """Return where news of a company goes, of one webhook: mistakes in others do not matter.

    Raises
    ------
    ConfigError
        As `endpoints_of`.
    """
    secret = workspace.places.webhook_secret(name)
    return _endpoint(name, workspace.company.webhooks[name], secret)


def check_webhooks(workspace: Workspace) -> None:
    """Check every webhook of a company: address, secret, events, and that none is there twice.

    Raises
    ------
    ConfigError
        Every mistake at once, each with its key.
    """
    hooks, secrets = workspace.company.webhooks, workspace.places.webhook_secrets
    lines = []
    for name, hook in hooks.items():
        lines += [f"webhooks.{name}.{words}" for words in _event_mistakes(hook)]
        try:
            _endpoint(name, hook, workspace.places.webhook_secret(name))
        except ConfigError as error:
            lines.append(f"{error.where}: {error.what}" + (f" ({error.fix})" if error.fix else ""))
    lines += _repeated(hooks)
    for name in sorted(set(secrets) - set(hooks)) if hooks else ():
        hint = did_you_mean(name, hooks)
        lines.append(f"{_variable(name)}: there is no webhook {name}{hint and '; ' + hint}")
    if lines:
        raise ConfigError(
            "the webhooks have mistakes:\n  " + "\n  ".join(lines),
            where=str(workspace.folder),
            fix="correct `webhooks:` in company.yaml and the variables of the environment",
        )


def _event_mistakes(hook: Webhook) -> list[str]:
    if not hook.events:
        return ["events: none is named, so nothing would be sent; leave it out for all of them"]
    return [f"events: {event} is named twice" for event, n in Counter(hook.events).items() if n > 1]


def _repeated(hooks: Mapping[str, Webhook]) -> list[str]:
    """Return the pairs of webhooks that would send the same event to the same address."""
    lines = []
    names = sorted(hooks)
    for i, name in enumerate(names):
        for other in names[:i]:
            both = set(hooks[name].events) & set(hooks[other].events)
            if both and _same_place(hooks[name].url, hooks[other].url):
                lines.append(
                    f"webhooks.{name}.url: the same address as webhooks.{other}, which would get "
                    f"{', '.join(sorted(both))} twice"
                )
    return lines


def _same_place(one: str, other: str) -> bool:
    def plain(url: str) -> tuple[str, str, str]:
        parts = urlsplit(url)
        return parts.netloc.lower(), parts.path.rstrip("/"), parts.query

    return plain(one) == plain(other)


def _variable(name: str) -> str:
    return f"BELLWETHER_WEBHOOK_SECRET_{name.upper()}"


def _endpoint(name: str, hook: Webhook, secret: str) -> Endpoint:
    mistake = _address_mistake(hook.url)
    if mistake:
        raise ConfigError(mistake, where=f"webhooks.{name}.url")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SECRET_BYTES:
        raise ConfigError(
            f"the secret of the webhook {name} is missing, is not base64, or is shorter than "
            f"{SECRET_BYTES} bytes",
            where=_variable(name),
            fix="whsec_$(openssl rand -base64 32)",
        )
    return Endpoint(name, hook.url, tuple(hook.events), key)


def _address_mistake(url: str) -> str:
    """Return what is wrong with an address; the empty string when it can be sent to.

    >>> _address_mistake("https://example.com:99999/in")
    'the port is no number from 1 to 65535'
    """
    if not url.isascii():
        return "the address is not ASCII; write its host as xn--…, and %XX for letters in its path"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address cannot be read; write it as https://host/path"
    host = parts.hostname or ""
    is_near = parts.scheme == "http" and host in {"127.0.0.1", "localhost", "::1"}
    if parts.scheme != "https" and not is_near:
        return "webhooks go over https, or over http on this machine"
    if not host or not _HOST.fullmatch(host):
        return f"{host!r} is no host name" if host else "the address names no host"
    if parts.username or parts.password:
        return "the address may not carry a user or a password: messages are signed instead"
    return "" if _has_port(url) else "the port is no number from 1 to 65535"


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


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
        Time of the messages.
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
    # Secrets are for sending: one that is missing here must not keep a book from being published.
    outbox = Outbox(workspace)
    try:
        return outbox.put(news(), workspace.company.webhooks, run_id, now)
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
    """Messages to be sent for one company; `close` it."""

    def __init__(self, workspace: Workspace) -> None:
        self.company = workspace.company.name
        file = workspace.state.ledger / "outbox.db"
        self.engine = open_engine(workspace.places.ledger_url, file, OUTBOX_TABLES)
        self.queue = WorkQueue(
            self.engine, outbox_table, "message_id", self.company, (WAITING,), LEASE
        )

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def put(
        self,
        news: Iterable[tuple[str, Mapping[str, Any]]],
        hooks: Mapping[str, Webhook] | Mapping[str, Endpoint],
        book_id: str,
        now: datetime,
    ) -> int:
        """Keep news for every webhook that takes it; the same news of a book is kept once."""
        records = [
            self._record(name, event, data, book_id, now)
            for event, data in news
            for name, hook in hooks.items()
            if event in hook.events
        ]
        key, free = ("company", "message_id"), ("body", "state", "attempts", "created_at", "due_at")
        return settle(self.engine, outbox_table, key, records, but=[*free, "problem"])

    def messages(self, state: str) -> list[Message]:
        """Return the messages in a state, oldest first."""
        return self._read(outbox_table.c.state == state)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many messages wait or were given up, by endpoint and state."""
        table = outbox_table
        query = (
            select(table.c.endpoint, table.c.state, func.count())
            .where(table.c.company == self.company, table.c.state.in_((WAITING, DEAD)))
            .group_by(table.c.endpoint, table.c.state)
        )
        with reading(self.engine) as connection:
            return {(name, state): n for name, state, n in connection.execute(query)}

    def deliver(self, endpoints: Mapping[str, Endpoint], now: datetime) -> int:
        """Send what is due, to all endpoints at the same time; return how many were taken.

        Messages to endpoints that are not named are given up.
        """
        self.bury(endpoints, now)
        if not endpoints:
            return 0
        with ThreadPoolExecutor(len(endpoints), "webhook") as pool:
            return sum(pool.map(lambda item: self.deliver_to(item, now), endpoints.values()))

    def deliver_to(self, endpoint: Endpoint, now: datetime) -> int:
        """Send what is due to one endpoint; return how many messages it took."""
        from serving.integrations.webhook_delivery import send  # not for those who only keep news

        started, n_taken = time.monotonic(), 0
        is_due = and_(self.queue.is_due(now), outbox_table.c.endpoint == endpoint.name)
        for message in self._read(is_due, limit=AT_ONCE):
            moment = now + timedelta(seconds=time.monotonic() - started)
            claim = self.queue.claim(message.message_id, moment)
            if claim is not None:
                problem = send(endpoint, message, moment)
                n_taken += self._settle(message, claim, problem, now)
        return n_taken

    def bury(self, known: Iterable[str], now: datetime) -> int:
        """Give up what waits for endpoints that are not configured any more; return how many."""
        table = outbox_table
        lost = and_(self.queue.is_due(now), table.c.endpoint.not_in(list(known)))
        if not self.queue.due(now, lost, limit=1):  # reading takes no lock
            return 0
        return self.queue.change(
            lost,
            state=DEAD,
            problem="there is no such webhook any more",
            attempts=table.c.attempts + 1,
        )

    def forget(self, before: datetime) -> int:
        """Remove what was delivered or given up and is older than an instant; return how many."""
        return self.queue.forget(outbox_table.c.created_at < before)

    def revive(self, now: datetime) -> int:
        """Send dead messages again, from the first attempt on; return how many."""
        is_dead = outbox_table.c.state == DEAD
        return self.queue.change(is_dead, state=WAITING, attempts=0, due_at=now)

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

    def _settle(self, message: Message, claim: Claim, problem: str, now: datetime) -> bool:
        """Keep the result of an attempt; return whether the message was taken."""
        values: dict[str, Any] = {"attempts": message.attempts + 1, "problem": problem or None}
        if not problem:
            values["state"] = DELIVERED
        elif message.attempts >= len(PAUSES):
            values["state"] = DEAD
        else:
            values["due_at"] = now + PAUSES[message.attempts]
        with suppress(LostClaimError):
            self.queue.update(claim, **values)
        return not problem

    def _read(self, where: Any, limit: int | None = None) -> list[Message]:
        table = outbox_table
        query = select(*(table.c[name] for name in _NAMES))
        query = query.where(table.c.company == self.company, where)
        ordered = query.order_by(table.c.created_at, table.c.message_id).limit(limit)
        with reading(self.engine) as connection:
            return [Message(*row) for row in connection.execute(ordered).all()]
