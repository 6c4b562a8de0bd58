"""The local application of one company folder, called in process."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import httpx
import pytest

from serving.run.start_app import start_application
from serving.setup.actions import AUDIT, BOOK, CHECK, RUN, child
from serving.setup.desk import Desk, local_desk
from tests.serving.pages.test_browser import axe_source, browser  # noqa: F401  fixtures
from tests.serving.setup.exports import FILES, N_ACCOUNTS

HERE = "http://127.0.0.1:3001"
HOME = {"Origin": HERE, "Accept": "text/html"}


class Client:
    """Calls an application in process, from an address."""

    def __init__(self, app, near: str = "127.0.0.1") -> None:
        self.app, self.near = app, near

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        options = {"follow_redirects": True, **options}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(self.near, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


class Pages:
    """A browser without scripts: it opens pages, and sends the forms that it finds there."""

    def __init__(self, desk: Desk, client: Client) -> None:
        self.desk, self.client = desk, client

    def get(self, path: str = "/start", **options: Any):
        return self.client.get(path, headers=HOME, **options)

    def post(self, path: str, data: dict[str, str] | None = None, **options: Any):
        fields = {"token": self.desk.token(), **(data or {})}
        return self.client.post(path, data=fields, headers=HOME, **options)

    def upload(self, *files: tuple[str, bytes], path: str = "/start/upload", field: str = "files"):
        return self.post(path, files=[(field, item) for item in files])

    def form(self, path: str = "/start/mapping") -> dict[str, str]:
        """Return the fields of the mapping as a browser would send them."""
        found = {}
        for name, inner in re.findall(
            r'<select name="([^"]+)"[^>]*>(.*?)</select>', self.get(path).text, re.DOTALL
        ):
            chosen = re.search(r'<option value="([^"]*)" selected>', inner)
            assert chosen, name
            found[unescape(name)] = unescape(chosen.group(1))
        return found

    def save(self, **changes: str):
        """Send the mapping with some values changed; ``__`` in a name is a dot."""
        named = {key.replace("__", "."): value for key, value in changes.items()}
        form = self.form()
        assert named.keys() <= form.keys()
        return self.post("/start/mapping", {**form, **named}, follow_redirects=False)

    def ended(self, name: str, seconds: float = 90.0):
        """Wait for a command, and return how it ended."""
        ends = time.monotonic() + seconds
        while (state := child(self.desk, name).state()).status == "running":
            assert time.monotonic() < ends, state
            time.sleep(0.1)
        return state


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Iterator[Desk]:
    """An empty company folder, below a root of its own."""
    monkeypatch.chdir(tmp_path)  # the state directory lies below it
    monkeypatch.delenv("PYTHONPATH", raising=False)
    made = local_desk(tmp_path / "twelve", (tmp_path,))
    yield made
    for name in (AUDIT, CHECK, RUN, BOOK):
        child(made, name).stop()


@pytest.fixture
def pages(desk, monkeypatch) -> Pages:
    monkeypatch.setattr("serving.setup.routes.WAIT_SECONDS", 30.0)  # on a busy machine
    return Pages(desk, Client(start_application(desk)))


@pytest.fixture
def exports() -> list[tuple[str, bytes]]:
    return [(name, content(N_ACCOUNTS).encode()) for name, content in FILES.items()]


@pytest.fixture
def uploaded(pages, exports) -> Pages:
    """The pages after the upload of the twelve accounts."""
    assert pages.upload(*exports).status_code == 200
    return pages


@pytest.fixture
def no_check(monkeypatch) -> Callable[[], None]:
    """Commands that end at once: for tests of what is written, not of what is read."""
    monkeypatch.setattr("serving.setup.children.PROGRAM", ("-c", "pass"))
    return lambda: monkeypatch.undo()
