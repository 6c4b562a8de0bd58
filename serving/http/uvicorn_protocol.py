"""Uvicorn protocol with limits on the time and size of request headers.

Uvicorn itself waits without limit for the end of the headers and buffers everything that arrives.
`serving.api.middleware` limits the body.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle

import orjson
from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.problems import MEDIA_TYPE, problem

HEAD_SECONDS = 10.0
"""Time limit for all headers of a request, and for the first request of a connection."""

HEAD_BYTES = 64 * 1024
"""Size limit of request line and headers."""


class TimedProtocol(HttpToolsProtocol):
    """Connection that is closed if the headers of a request are too slow or too large."""

    _head_timer: TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._head_is_whole()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received data, unless the headers exceed the limit."""
        if self._head_bytes > HEAD_BYTES:
            self._refuse("too-large", f"the headers are larger than {HEAD_BYTES:,} bytes")
            return
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)

    def on_message_begin(self) -> None:
        """Start the timer for the headers of the next request on this connection."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Stop the timer; the application limits the body."""
        self._head_is_whole()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless part of its headers has arrived."""
        super().on_response_complete()
        if self._head_timer is not None:
            self._unset_keepalive_if_required()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._is_late)

    def _head_is_whole(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _is_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # the previous response is still being sent
        elif self._head_bytes:
            self._refuse("too-slow", f"the headers did not arrive within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _refuse(self, slug: str, words: str) -> None:
        self._head_is_whole()
        if self.transport.is_closing():
            return
        document = problem(slug, words)
        body = orjson.dumps(document)
        head = (
            f"HTTP/1.1 {document['status']} {document['title']}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def speak_promptly() -> None:
    """Make this protocol the default of uvicorn, which BentoML's workers use."""
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{TimedProtocol.__name__}"
