"""A small load generator: so many connections, each sends its next request when it was answered.

Closed loop over HTTP/1.1 with keep-alive, on the loopback interface. Every answer must be a 200:
an error is often faster than an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from configs.runtime.errors import UnavailableError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Load:
    """What a run of requests took.

    Attributes
    ----------
    seconds : list of float
        Per request, from its first byte out to its last byte in.
    wall : float
        Seconds from the first request to the last answer.
    body_bytes : int
        Of all answers.
    processor_seconds : float
        Of the server's processes, where it was asked.
    """

    seconds: list[float]
    wall: float
    body_bytes: int
    processor_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return len(self.seconds) / self.wall


def get(path: str) -> bytes:
    """Return a GET request as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """Return a POST request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run(port: int, requests: Sequence[bytes], concurrency: int) -> Load:
    """Send requests over `concurrency` connections and return what they took.

    Raises
    ------
    UnavailableError
        An answer is no 200, or a connection was lost.
    """
    return asyncio.run(_run(port, requests, concurrency))


async def _run(port: int, requests: Sequence[bytes], concurrency: int) -> Load:
    loop = asyncio.get_running_loop()
    waiting, load = iter(requests), Load([], 0.0, 0)
    sizes: list[int] = []
    clients = [
        _Client(waiting, load.seconds, sizes, loop.create_future()) for _ in range(concurrency)
    ]
    for client in clients:
        await loop.create_connection(partial(_itself, client), HOST, port)
    begin = time.perf_counter()
    for client in clients:
        client.send_next()
    await asyncio.gather(*(client.done for client in clients))
    return Load(load.seconds, time.perf_counter() - begin, sum(sizes))


def _itself(client: _Client) -> _Client:
    return client


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(
        self,
        waiting: Iterator[bytes],
        seconds: list[float],
        sizes: list[int],
        done: asyncio.Future[None],
    ) -> None:
        self._waiting, self._seconds, self._sizes, self.done = waiting, seconds, sizes, done
        self._buffer = bytearray()
        self._expected = -1
        self._begin = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail when an answer was still due."""
        if not self.done.done():
            self.done.set_exception(UnavailableError(f"the connection was lost: {exc}"))

    def send_next(self) -> None:
        """Send the next request, or end."""
        request = next(self._waiting, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._expected = -1
        self._buffer.clear()
        self._begin = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; when it is whole, go on."""
        self._buffer += data
        if self._expected < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._expected = end + 4 + _body_length(bytes(self._buffer[:end]))
        if len(self._buffer) >= self._expected:
            self._seconds.append(time.perf_counter() - self._begin)
            self._sizes.append(len(self._buffer))
            self._check()

    def _check(self) -> None:
        if self._buffer[9:12] == b"200":
            self.send_next()
        else:
            self.done.set_exception(UnavailableError(f"answered {bytes(self._buffer[:200])!r}"))
            self._transport.close()


def _body_length(head: bytes) -> int:
    r"""Return the length of the body an answer announces.

    >>> _body_length(b"HTTP/1.1 200 OK\r\nContent-Length: 17")
    17
    """
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise UnavailableError("the answer does not say how long it is")
