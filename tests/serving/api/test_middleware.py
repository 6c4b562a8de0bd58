"""The gate: what is too slow, too much at once, and what a caller never takes."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from serving.api import middleware
from serving.api.middleware import MAX_BODY_BYTES, BodyLimits, RequestGuard
from serving.auth.permissions import LOCAL


def guarded(app, **options) -> tuple[RequestGuard, list[int]]:
    told: list[int] = []

    def observe(_scope, _route, status, _seconds):
        told.append(status)

    return RequestGuard(app, observe=observe, admit=lambda *_: LOCAL, **options), told


async def echo(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await PlainTextResponse(f"{len(body)}")(scope, receive, send)


def client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def dripping():
    for _ in range(50):
        yield b"x"
        await asyncio.sleep(0.02)


def test_a_body_that_drips_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(middleware, "USUAL", BodyLimits(body_seconds=0.1))

    async def ask():
        app, told = guarded(echo)
        async with client(app) as http:
            slow = await http.post("/", content=dripping())
            quick = await http.post("/", content=b"12345")
        return slow, quick, told

    slow, quick, told = asyncio.run(ask())
    assert (slow.status_code, quick.text, told) == (408, "5", [408, 200])
    assert slow.json()["type"] == "/v1/problems/too-slow"
    assert slow.headers["content-type"] == "application/problem+json"


def test_more_at_once_than_are_taken_are_told_to_come_again():
    async def ask():
        release = asyncio.Event()

        async def waits(scope, receive, send):
            await release.wait()
            await PlainTextResponse("done")(scope, receive, send)

        app, _ = guarded(waits, max_at_once=3)
        async with client(app) as http:
            waiting = [asyncio.create_task(http.get("/")) for _ in range(3)]
            await asyncio.sleep(0.05)
            refused = await http.get("/")
            release.set()
            answered = await asyncio.gather(*waiting)
            after = await http.get("/")
        return refused, answered, after

    refused, answered, after = asyncio.run(ask())
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in (*answered, after)] == [200] * 4


def test_an_address_for_uploads_has_limits_of_its_own():
    async def ask():
        limits = {"/upload": BodyLimits(max_bytes=MAX_BODY_BYTES + 5)}
        app, _ = guarded(echo, limits=limits)
        async with client(app) as http:
            sizes = ((5, "/upload"), (6, "/upload"), (0, "/other"), (1, "/other"), (1, "/upload/x"))
            return [
                (await http.post(path, content=b"x" * (MAX_BODY_BYTES + more))).status_code
                for more, path in sizes
            ]

    assert asyncio.run(ask()) == [200, 413, 200, 413, 413]


def test_an_answer_that_does_not_begin_is_a_problem(monkeypatch):
    monkeypatch.setattr(middleware, "USUAL", BodyLimits(answer_seconds=0.05))

    async def hangs(scope, receive, send):
        await asyncio.sleep(5)

    async def ask():
        async with client(guarded(hangs)[0]) as http:
            return await http.get("/")

    answer = asyncio.run(ask())
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "no response within" in answer.json()["detail"]


def test_a_long_answer_may_go_on_once_it_has_begun(monkeypatch):
    monkeypatch.setattr(middleware, "USUAL", BodyLimits(answer_seconds=0.05))

    async def parts():
        for _ in range(5):
            await asyncio.sleep(0.03)
            yield b"part "

    async def ask():
        async with client(guarded(StreamingResponse(parts()))[0]) as http:
            return await http.get("/")

    assert asyncio.run(ask()).text == "part " * 5


def test_a_caller_who_takes_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(middleware, "SEND_SECONDS", 0.05)
    app, _ = guarded(PlainTextResponse("x"))
    sent: list[str] = []

    async def stuck(message):
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.sleep(5)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"host", b"127.0.0.1")],
        "query_string": b"",
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, stuck), 2))
    assert sent == ["http.response.start", "http.response.body"]
    assert app._n_at_once == 0


@pytest.mark.parametrize("length", ["-1", "x", "1000001", "1e9"])
def test_a_length_that_is_none_is_refused(length):
    async def ask():
        async with client(guarded(echo)[0]) as http:
            return await http.post("/", headers={"Content-Length": length})

    assert asyncio.run(ask()).status_code == 413


@pytest.mark.parametrize("error", [TimeoutError("of a socket"), ValueError("of ours")])
def test_a_fault_within_is_a_problem_and_logged_once(error, caplog):
    async def breaks(scope, receive, send):
        raise error

    async def ask():
        app, told = guarded(breaks)
        async with client(app) as http:
            return await http.get("/"), told

    answer, told = asyncio.run(ask())
    assert (answer.status_code, told) == (500, [500])
    assert answer.json()["type"] == "/v1/problems/internal-error"
    assert [record.message for record in caplog.records] == ["a request failed"]


def test_what_an_answer_says_of_itself_is_left_and_the_rest_is_added():
    async def framed(scope, receive, send):
        headers = {"X-Frame-Options": "SAMEORIGIN"}
        await PlainTextResponse("page", headers=headers)(scope, receive, send)

    async def ask():
        app, _ = guarded(framed)
        async with client(app) as http:
            return await http.get("/")

    answer = asyncio.run(ask())
    assert answer.headers.get_list("x-frame-options") == ["SAMEORIGIN"]
    for name, value in middleware.SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [
            value if name != "X-Frame-Options" else "SAMEORIGIN"
        ]
    assert answer.headers["x-request-id"]
