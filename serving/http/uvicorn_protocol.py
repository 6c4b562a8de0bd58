"""HTTP as uvicorn speaks it, for callers who take their time: the head of a request is limited.

The server itself waits for ever for the end of a request line or of the headers, and keeps whatever
arrives. `serving.api.middleware` limits what comes after the head.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle

import orjson
from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.problems import MEDIA_TYPE, problem

HEAD_SECONDS = 10.0
"""For the whole head of a request to arrive, and for a new connection to begin one."""

HEAD_BYTES = 64 * 1024
"""Of request line and headers, apart from what arrives with the last of them."""


class TimedProtocol(HttpToolsProtocol):
    """A connection that is closed when the head of a request is too slow or too large."""

    _head_timer: TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._head_is_whole()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, unless it goes beyond the limit of a head."""
        if self._head_bytes > HEAD_BYTES:
            self._refuse("too-large", f"the head is larger than {HEAD_BYTES:,} bytes")
            return
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)

    def on_message_begin(self) -> None:
        """Begin to wait for the head of a further request on the same connection."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Hand the request over: its body is the application's to wait for."""
        self._head_is_whole()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for a further request, unless part of its head is here already."""
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
            self._await_head()  # an answer is still going out to the request before
        elif self._head_bytes:
            self._refuse("too-slow", f"the head did not arrive within {HEAD_SECONDS:g} s")
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
    """Have uvicorn speak so where no other protocol is asked for, as BentoML's workers do."""
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{TimedProtocol.__name__}"
