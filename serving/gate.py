"""What every request passes: host, size, request id, security headers, and nothing escapes.

Pure ASGI. An exception that left the application would keep the caller waiting for the server's
whole timeout.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import ProblemError, of_error, problem, response

logger = logging.getLogger("bellwether.serving")

MAX_BODY_BYTES = 1_000_000
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_PORT = re.compile(r":\d+$")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Observe = Callable[[Scope, str, int, float], None]


class Gate:
    """Middleware around the whole application.

    Parameters
    ----------
    app : ASGI application
        What is protected.
    observe : callable
        Told scope, route template, status and seconds of each request.
    hosts : iterable of str
        Host names answered to, without port; ``*`` is any.
    """

    def __init__(self, app: ASGIApp, observe: Observe, hosts: Iterable[str] = LOOPBACK) -> None:
        self.app = app
        self._observe = observe
        self._hosts = frozenset(name.strip().lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        try:
            self._check(headers)
            await self.app(scope, _limited(receive), answer)
        except ProblemError as error:
            await answer.problem(of_error(error, request_id), scope, receive)
        except Exception:
            logger.exception("request %s failed", request_id)
            document = problem("internal-error", "the log has the details", instance=request_id)
            await answer.problem(document, scope, receive)
        finally:
            seconds = time.perf_counter() - started
            self._observe(scope, route_template(scope), answer.status, seconds)

    def _check(self, headers: Headers) -> None:
        host = _PORT.sub("", headers.get("host", ""))
        if "*" not in self._hosts and host.lower() not in self._hosts:
            raise ProblemError("wrong-host", f"this service does not answer to {host[:100]!r}")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise _too_large()


class _Answer:
    """The sending side: adds headers, remembers whether a response has begun."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            headers.setdefault("Content-Security-Policy", PAGE_POLICY)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def problem(self, document: dict[str, Any], scope: Scope, receive: Receive) -> None:
        """Answer with a problem, unless part of another answer is out already."""
        if not self.has_begun:
            await response(document)(scope, receive, self)


def route_template(scope: Scope) -> str:
    """Return the template of the route that answered, never the path itself."""
    route = scope.get("route")
    return str(getattr(route, "path_format", None) or getattr(route, "path", "unmatched"))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _limited(receive: Receive) -> Receive:
    """Count what arrives: a body may come in parts and without its length."""
    arrived = 0

    async def limited() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return limited


def _too_large() -> ProblemError:
    return ProblemError("too-large", f"the body is larger than {MAX_BODY_BYTES:,} bytes")
