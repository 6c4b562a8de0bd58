"""The load generator against a server of a few lines."""

import asyncio
import threading

import pytest

from configs.runtime.errors import UnavailableError
from tests.benchmarks.serving.load import get, post, run


@pytest.fixture
def server():
    """Answers 200 with the size of the request's body, or 500 where the path says so."""
    started, stop = threading.Event(), None
    port = []

    async def answer(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            body = await reader.readexactly(length)
            status = b"500 No" if b"/broken" in head else b"200 OK"
            text = str(len(body)).encode()
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(text))
            await asyncio.sleep(0)  # head and body arrive apart
            writer.write(text)

    async def quietly(reader, writer):
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve():
        nonlocal stop
        stop = asyncio.Event()
        loops.append(asyncio.get_running_loop())
        made = await asyncio.start_server(quietly, "127.0.0.1", 0)
        port.append(made.sockets[0].getsockname()[1])
        started.set()
        await stop.wait()
        made.close()

    loops = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    yield port[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()


def test_every_request_is_answered_once(server):
    load = run(server, [get("/a"), post("/b", b"12345")] * 20, 3)
    assert len(load.seconds) == 40
    assert load.per_second == pytest.approx(40 / load.wall)
    assert all(0 < seconds < load.wall for seconds in load.seconds)


def test_an_answer_that_is_no_200_ends_the_run(server):
    with pytest.raises(UnavailableError, match="500"):
        run(server, [get("/a"), get("/broken"), get("/a")], 1)
