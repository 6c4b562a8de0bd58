"""Digests as messages: text and HTML mail through SMTP, and payloads of Slack and Teams."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from html import escape
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from configs.runtime.errors import ConfigError, UnavailableError

SECONDS = 20.0
"""Longest wait for the mail server."""


Kind = Literal["notice", "overdue", "deadline", "rise", "growth", "escalation", "loss"]
Role = Literal["csm", "manager", "leader"]


@dataclass(frozen=True)
class Line:
    """Line of a digest: kind, account (empty for totals), text, and path of the page behind it."""

    kind: Kind
    account_id: str
    text: str
    path: str


@dataclass(frozen=True)
class Digest:
    """Digest of one person.

    Attributes
    ----------
    person : str
        Owner id, manager id, or sign-in name of a leader.
    role : {"csm", "manager", "leader"}
        Role that decides the content.
    title : str
        Subject.
    lines : tuple of Line
        Most urgent first.
    n_more : int
        Further lines that are left out.
    """

    person: str
    role: Role
    title: str
    lines: tuple[Line, ...]
    n_more: int

    def as_dict(self) -> dict[str, Any]:
        """Return the digest as plain JSON values."""
        return asdict(self)


def as_text(message: Digest, address: str) -> str:
    """Return a digest as plain text; `address` is the base address of the service."""
    parts = [f"- {line.text}\n  {address}{line.path}" for line in message.lines]
    if message.n_more:
        parts.append(f"and {message.n_more} more: {address}/changes")
    return "\n".join(parts) + "\n"


def as_html(message: Digest, address: str) -> str:
    """Return a digest as an HTML document without styles or images from elsewhere."""
    items = "".join(
        f'<li style="margin:0 0 8px"><a href="{escape(address + line.path)}">'
        f"{escape(line.text)}</a></li>"
        for line in message.lines
    )
    more = (
        f'<p><a href="{escape(address)}/changes">and {message.n_more} more</a></p>'
        if message.n_more
        else ""
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<body style="font:15px/22px sans-serif"><ul style="padding-left:18px">{items}</ul>'
        f"{more}</body></html>"
    )


def as_slack(message: Digest, address: str) -> dict[str, Any]:
    """Return the payload of a Slack incoming webhook."""

    def safe(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    lines = [f"• <{address}{line.path}|{safe(line.text)}>" for line in message.lines]
    if message.n_more:
        lines.append(f"<{address}/changes|and {message.n_more} more>")
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}}
    return {"text": safe(message.title), "blocks": [section]}


def as_teams(message: Digest, address: str) -> dict[str, Any]:
    """Return the payload of a Teams workflow webhook: one adaptive card."""

    def safe(text: str) -> str:
        return "".join(f"\\{each}" if each in "[]()*_`#\\" else each for each in text)

    lines = [f"- [{safe(line.text)}]({address}{line.path})" for line in message.lines]
    if message.n_more:
        lines.append(f"- [and {message.n_more} more]({address}/changes)")
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "TextBlock", "wrap": True, "text": "\n".join(lines)}],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def mail(message: Digest, sender: str, to: str, address: str) -> EmailMessage:
    """Return a digest as a mail with a text and an HTML part."""
    made = EmailMessage()
    # A line break in a name must not start another header.
    made["Subject"] = " ".join(f"Bellwether: {message.title}".split())[:200]
    made["From"], made["To"] = sender, to
    made.set_content(as_text(message, address))
    made.add_alternative(as_html(message, address), subtype="html")
    return made


def send(mails: Sequence[EmailMessage], server: str) -> None:
    """Send mails over one connection.

    Parameters
    ----------
    mails : sequence of EmailMessage
        The mails.
    server : str
        ``smtp://[USER:PASSWORD@]HOST[:PORT]`` (STARTTLS where offered; required with a password)
        or ``smtps://…``.

    Raises
    ------
    ConfigError
        The address is wrong.
    UnavailableError
        The server does not take the mails; none of the following was sent.
    """
    url = urlsplit(server)
    if url.scheme not in ("smtp", "smtps") or not url.hostname:
        raise ConfigError(
            "the mail server's address is wrong",
            where="BELLWETHER_SMTP_URL",
            fix="write it as smtp://HOST:587 or smtps://HOST:465",
        )
    kind = smtplib.SMTP_SSL if url.scheme == "smtps" else smtplib.SMTP
    port = url.port or (465 if url.scheme == "smtps" else 587)
    try:
        with kind(url.hostname, port, timeout=SECONDS) as connection:
            connection.ehlo()
            is_safe = url.scheme == "smtps"
            if not is_safe and connection.has_extn("starttls"):
                connection.starttls(context=ssl.create_default_context())
                is_safe = True
            if url.username:
                if not is_safe:
                    raise ConfigError(
                        "the mail server offers no encryption, so the password is not sent",
                        where="BELLWETHER_SMTP_URL",
                        fix="use smtps:// or a server with STARTTLS",
                    )
                connection.login(unquote(url.username), unquote(url.password or ""))
            for each in mails:
                connection.send_message(each)
    except (OSError, smtplib.SMTPException) as error:
        raise UnavailableError(
            f"the mail server {url.hostname}:{port} did not take the digest: "
            f"{type(error).__name__}",
            where="BELLWETHER_SMTP_URL",
            fix="check the address, and run `bellwether digest` again",
        ) from error
