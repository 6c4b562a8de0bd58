"""One attempt to hand a message to its receiver: bounded in time, whatever the receiver does.

The answer's status line and headers are all that is read of it; redirects are not followed, and no
proxy of the environment is used.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import httpx
from standardwebhooks import Webhook as Signer

if TYPE_CHECKING:
    from serving.integrations.webhooks import Endpoint, Message

logger = logging.getLogger("bellwether.serving")

SEND_SECONDS = 10.0
"""For the whole attempt: a limit for each read never ends a receiver that sends byte by byte."""

CONNECT_SHARE = 0.4
"""Of that time, for each of connection and handshake. The client closes a connection whose
handshake it gave up itself; one that is cancelled from outside it leaves open."""


def send(endpoint: Endpoint, message: Message, now: datetime) -> str:
    """Send one message once; return what is wrong, the empty string when it was taken.

    It raises nothing: an endpoint that fails in an unforeseen way has failed. Not for a thread that
    runs an event loop.
    """
    try:
        status = asyncio.run(_status(endpoint, message, now))
    except httpx.ConnectTimeout:
        return f"no connection within {CONNECT_SHARE * SEND_SECONDS:g} s"
    except (TimeoutError, httpx.TimeoutException):
        return f"no answer within {SEND_SECONDS:g} s"
    except httpx.RemoteProtocolError as error:
        return f"the answer is not HTTP: {_plain(error)}"
    except (httpx.NetworkError, OSError) as error:
        return f"not reached: {_plain(error)}"
    except Exception as error:
        logger.exception("a message to the webhook %s cannot be sent", endpoint.name)
        return f"cannot be sent: {_plain(error)}"
    return "" if 200 <= status < 300 else f"answered {status}"


async def _status(endpoint: Endpoint, message: Message, now: datetime) -> int:
    """Return the status a receiver answers with; the rest of its answer is left unread."""
    moment = now.astimezone(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "bellwether",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(endpoint.secret).sign(message.message_id, moment, message.body),
    }
    limits = httpx.Timeout(SEND_SECONDS, connect=CONNECT_SHARE * SEND_SECONDS)
    async with (
        asyncio.timeout(SEND_SECONDS),
        httpx.AsyncClient(verify=_trusted(), trust_env=False, timeout=limits) as client,
        client.stream("POST", endpoint.url, headers=headers, content=message.body) as answer,
    ):
        return answer.status_code


@cache
def _trusted() -> ssl.SSLContext:
    """Return what the system trusts, SSL_CERT_FILE included: reading it takes some time."""
    return ssl.create_default_context()


def _plain(error: Exception) -> str:
    """Return an error in one printable line: receivers choose part of its words.

    >>> _plain(ValueError(f"bad{chr(27)}[31m line"))
    'ValueError: bad [31m line'
    """
    words = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return f"{type(error).__name__}: {' '.join(words.split())[:160]}".removesuffix(": ")
