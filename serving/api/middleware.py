"""Request guard: host, size and time limits, authentication, and handling of every exception.

Pure ASGI. An exception that leaves the application would keep the caller waiting until the timeout
of the server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from logging import makeLogRecord
from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.runtime.errors import BellwetherError
from serving.api.requests import GetMetrics
from serving.auth.authenticate import is_public
from serving.auth.permissions import Caller
from serving.http.logs import FIELDS
from serving.http.problems import Problem, ProblemError, of_error, of_fault, problem, response
from serving.online.current_state import GetLive

logger = logging.getLogger("bellwether.serving")

MAX_BODY_BYTES = 1_000_000
BODY_SECONDS, ANSWER_SECONDS, SEND_SECONDS = 10.0, 45.0, 30.0
"""Time limits for the body, for the start of the response, and for sending each part of it."""

MAX_AT_ONCE = 64
"""Concurrent requests per process; further requests are answered with 429."""


@dataclass(frozen=True)
class BodyLimits:
    """Limits of the body of a request, and of the time until the response starts.

    Attributes
    ----------
    max_bytes : int
        Size of the body.
    body_seconds, answer_seconds : float
        Time for the body, and for the start of the response.
    """

    max_bytes: int = MAX_BODY_BYTES
    body_seconds: float = BODY_SECONDS
    answer_seconds: float = ANSWER_SECONDS


USUAL = BodyLimits()

PROBES = frozenset({"/livez", "/readyz", "/healthz"})

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": PAGE_POLICY,
}
"""Headers of every response, unless the response sets them itself."""

_ALWAYS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

_RECORD = {
    "name": logger.name,
    "levelno": logging.INFO,
    "levelname": logging.getLevelName(logging.INFO),
    "msg": "request",
}

_PORT = re.compile(r":\d+$")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

Observe = Callable[[Scope, str, int, float], None]
Admit = Callable[[Scope, Headers], Caller | None]
Show = Callable[[Scope, Problem], Response]


class RequestGuard:
    """Middleware around the whole application.

    Parameters
    ----------
    app : ASGI application
        The application.
    observe : callable
        Called with scope, route template, status and seconds of each request.
    admit : callable
        Returns the caller, None for public addresses; raises a problem otherwise.
    show : callable
        Renders a problem document as a page or as JSON.
    hosts : iterable of str
        Accepted host names without port; ``*`` is any.
    max_at_once : int
        Maximum number of concurrent requests.
    limits : mapping of str to BodyLimits
        Limits of single addresses that differ from the usual ones, such as uploads.
    """

    def __init__(
        self,
        app: ASGIApp,
        observe: Observe,
        admit: Admit,
        show: Show = lambda _, document: response(document),
        hosts: Iterable[str] = LOOPBACK,
        max_at_once: int = MAX_AT_ONCE,
        limits: Mapping[str, BodyLimits] = MappingProxyType({}),
    ) -> None:
        self.app = app
        self._observe = observe
        self._admit = admit
        self._show = show
        self._max_at_once = max_at_once
        self._n_at_once = 0
        self._hosts = frozenset(name.strip().lower() for name in hosts)
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, self._show)
        limits = self._limits.get(scope["path"], USUAL)
        self._n_at_once += 1
        try:
            async with asyncio.timeout(limits.answer_seconds) as clock:
                answer.clock = clock
                self._check(scope, headers, limits)
                scope["state"]["caller"] = self._admit(scope, headers)
                await self.app(scope, _limited(receive, limits), answer)
        except TimeoutError:
            if answer.clock is None or answer.clock.expired():
                words = f"no response within {limits.answer_seconds:g} s"
                late = problem("unavailable", words, instance=request_id)
                await answer.problem(late, scope, receive)
            else:  # a timeout of the application
                await self._fault(answer, request_id, scope, receive)
        except BellwetherError as error:
            await answer.problem(of_error(error, request_id), scope, receive)
        except Exception:
            await self._fault(answer, request_id, scope, receive)
        finally:
            self._n_at_once -= 1
            seconds, route = time.perf_counter() - started, route_template(scope)
            self._observe(scope, route, answer.status, seconds)
            if logger.isEnabledFor(logging.INFO):
                values = (request_id, scope["method"], route, answer.status, round(seconds, 6))
                # This skips the search for the calling line, which is always the same.
                logger.handle(makeLogRecord(_RECORD | dict(zip(FIELDS, values, strict=True))))

    async def _fault(
        self, answer: _Answer, request_id: str, scope: Scope, receive: Receive
    ) -> None:
        logger.exception("a request failed", extra={"request_id": request_id})
        await answer.problem(of_fault(request_id), scope, receive)

    def _check(self, scope: Scope, headers: Headers, limits: BodyLimits) -> None:
        if self._n_at_once > self._max_at_once:
            words = f"{self._max_at_once} requests are already being handled"
            raise ProblemError("too-many-requests", words)
        check_host(headers, self._hosts)
        if scope["method"] not in _SAFE and headers.get("sec-fetch-site") == "cross-site":
            raise ProblemError("forbidden", "requests from pages of other sites are not allowed")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > limits.max_bytes:
            raise _too_large(limits)


def admission(get_live: GetLive) -> Admit:
    """Return what lets a caller in: by the present keys and sign-in, within their rate limit."""

    def admit(scope: Scope, headers: Headers) -> Caller | None:
        if is_public(scope["path"]):
            return None
        live = get_live(Request(scope))
        caller = live.door.caller(scope, headers)
        live.limiter.check(caller)
        return caller

    return admit


def observer(get_metrics: GetMetrics) -> Observe:
    """Return what counts a request in the metrics."""

    def observe(scope: Scope, route: str, code: int, seconds: float) -> None:
        get_metrics(Request(scope)).observe(scope["method"], route, code, seconds)

    return observe


def check_host(headers: Headers, hosts: frozenset[str], *, any_number: bool = False) -> None:
    """Refuse a request to a host name that is not accepted.

    Parameters
    ----------
    headers : Headers
        Headers of the request.
    hosts : frozenset of str
        Accepted names in lower case; ``*`` is any.
    any_number : bool
        Accept IP addresses too: DNS rebinding cannot use them.

    Raises
    ------
    ProblemError
        The host is not accepted, or the header is repeated.
    """
    named = headers.getlist("host")
    if len(named) > 1:
        raise ProblemError("wrong-host", "the header Host is repeated")
    host = _PORT.sub("", named[0] if named else "").lower()
    if "*" in hosts or host in hosts or (any_number and _is_number(host)):
        return
    raise ProblemError("wrong-host", f"the host name {host[:100]!r} is not accepted")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


class Hosts:
    """Middleware that checks the host of addresses outside the request guard, such as probes.

    Orchestrators use the IP address of the machine, so probes accept any IP address.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app = app
        self._hosts = frozenset(name.strip().lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            is_probe = scope["path"] in PROBES
            try:
                check_host(Headers(scope=scope), self._hosts, any_number=is_probe)
            except ProblemError as error:
                await response(of_error(error), SECURITY_HEADERS)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class _Answer:
    """Sending side of a request: adds headers and records whether the response has started."""

    def __init__(self, send: Send, request_id: str, show: Show) -> None:
        self._send = send
        self._show = show
        self._request_id = request_id
        self.status = 500
        self.has_begun = False
        self.clock: asyncio.Timeout | None = None

    async def __call__(self, message: Message) -> None:
        is_start = message["type"] == "http.response.start"
        if is_start:
            self.has_begun = True
            self.status = message["status"]
            headers = message.setdefault("headers", [])
            present = {name for name, _ in headers}
            headers.extend(item for item in _ALWAYS if item[0] not in present)
            headers.append((b"x-request-id", self._request_id.encode()))
        if self.clock is None or self.clock.expired():
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
            return
        # The timer of the request is reused for each part, because a second one would cost as much.
        self.clock.reschedule(asyncio.get_running_loop().time() + SEND_SECONDS)
        await self._send(message)
        if is_start or message.get("more_body", False):
            self.clock.reschedule(None)

    async def problem(self, document: Problem, scope: Scope, receive: Receive) -> None:
        """Send a problem, unless the response has started."""
        self.clock = None
        if not self.has_begun:
            await self._shown(scope, document)(scope, receive, self)

    def _shown(self, scope: Scope, document: Problem) -> Response:
        try:
            return self._show(scope, document)
        except Exception:
            logger.exception("the problem page failed", extra={"request_id": self._request_id})
            return response(document)


def route_template(scope: Scope) -> str:
    """Return the template of the matched route, never the path itself."""
    route = scope.get("route")
    return str(getattr(route, "path_format", None) or getattr(route, "path", "unmatched"))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _limited(receive: Receive, limits: BodyLimits) -> Receive:
    """Limit size and time of the body, which may arrive in parts or without a length."""
    arrived, is_whole = 0, False
    ends = asyncio.get_running_loop().time() + limits.body_seconds

    async def limited() -> Message:
        nonlocal arrived, is_whole
        if is_whole:  # afterwards only the end of the connection arrives
            return await receive()
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError as error:
            raise ProblemError(
                "too-slow", f"the body did not arrive within {limits.body_seconds:g} s"
            ) from error
        arrived += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if arrived > limits.max_bytes:
            raise _too_large(limits)
        return message

    return limited


def _too_large(limits: BodyLimits) -> ProblemError:
    return ProblemError("too-large", f"the body is larger than {limits.max_bytes:,} bytes")
