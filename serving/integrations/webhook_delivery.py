"""One attempt to hand a message to its receiver: bounded in time, whatever the receiver does.

The answer's status line and headers are all that is read of it; redirects are not followed, and no
proxy of the environment is used.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpcore
from standardwebhooks import Webhook as Signer

if TYPE_CHECKING:
    from serving.integrations.webhooks import Endpoint, Message

logger = logging.getLogger("bellwether.serving")

SEND_SECONDS = 10.0
"""From the connection to the head of the answer; finding the host's address comes before."""


def send(endpoint: Endpoint, message: Message, now: datetime) -> str:
    """Send one message once; return what is wrong, the empty string when it was taken.

    It raises nothing: an endpoint that fails in a way that was not foreseen has failed.
    """
    try:
        status = _status(endpoint, message, now)
    except httpcore.TimeoutException:
        return f"no answer within {SEND_SECONDS:g} s"
    except httpcore.RemoteProtocolError as error:
        return f"the answer is not HTTP: {_plain(error)}"
    except (httpcore.NetworkError, OSError) as error:
        return f"not reached: {_plain(error)}"
    except Exception as error:
        logger.exception("a message to the webhook %s cannot be sent", endpoint.name)
        return f"cannot be sent: {_plain(error)}"
    return "" if 200 <= status < 300 else f"answered {status}"


def _status(endpoint: Endpoint, message: Message, now: datetime) -> int:
    """Return the status a receiver answers with; the rest of its answer is left unread."""
    moment, body = now.astimezone(UTC), message.body.encode()
    headers = {
        "Host": urlsplit(endpoint.url).netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "bellwether",
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(endpoint.secret).sign(message.message_id, moment, message.body),
    }
    by = _Deadline(time.monotonic() + SEND_SECONDS)
    with (
        httpcore.ConnectionPool(ssl_context=_trusted(), network_backend=by) as pool,
        pool.stream("POST", endpoint.url, headers=list(headers.items()), content=body) as answer,
    ):
        return int(answer.status)


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


class _Deadline(httpcore.NetworkBackend):
    """A network in which everything together ends at an instant.

    The usual limit is for each read, which a receiver that sends a byte now and then never meets.
    """

    def __init__(self, ends: float) -> None:
        self._ends = ends

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  ours counts
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect within what is left of the time."""
        network = httpcore.SyncBackend()
        left = seconds_to(self._ends)
        return _Stream(
            network.connect_tcp(host, port, left, local_address, socket_options), self._ends
        )


class _Stream(httpcore.NetworkStream):
    """A connection whose every step has what is left of the time."""

    def __init__(self, stream: httpcore.NetworkStream, ends: float) -> None:
        self._stream, self._ends = stream, ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Read some bytes."""
        return self._stream.read(max_bytes, seconds_to(self._ends))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write all bytes."""
        self._stream.write(buffer, seconds_to(self._ends))

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Begin encryption."""
        left = seconds_to(self._ends)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._ends)

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection."""
        return self._stream.get_extra_info(info)


def seconds_to(ends: float) -> float:
    """Return the seconds up to an instant of the monotonic clock.

    Raises
    ------
    httpcore.ReadTimeout
        It is over.
    """
    left = ends - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is over")
    return left
