"""The whole setup in a real browser, from two uploads to the end of the run."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn

from serving.run.start_app import start_application
from serving.setup.desk import Desk
from tests.benchmarks.training.audit import company
from tests.serving.pages.test_browser import DESKTOP, PHONE, complaints, look, open_everything
from tests.serving.setup.exports import N_ACCOUNTS, write_exports

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def site(desk: Desk) -> Iterator[str]:
    """The local application on a real socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(
        start_application(desk),  # type: ignore[arg-type]
        host="127.0.0.1",
        port=port,
        log_level="error",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=30)


class Walk:
    """A person in front of the browser."""

    def __init__(self, browser, axe_source: str) -> None:
        self.browser, self.axe = browser, axe_source

    @property
    def heading(self) -> str:
        return self.browser.find_element("css selector", "h1").text

    @property
    def text(self) -> str:
        return self.browser.find_element("css selector", "main").text

    def press(self, words: str) -> None:
        found = self.browser.find_elements("css selector", "button, a.button")
        one = next(item for item in found if item.text == words)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", one)
        one.click()

    def wait(self, is_there: Callable[[], bool], seconds: float = 120.0) -> None:
        from selenium.common.exceptions import WebDriverException

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if is_there():
                    return
            except WebDriverException:  # the page loads itself again
                pass
            time.sleep(0.2)
        pytest.fail(f"{self.browser.current_url}: {self.text[:500]}")

    def judge(self) -> None:
        """Hold the open page against axe and a phone, with all folds open."""
        for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            look(self.browser, size, scheme=scheme)
            open_everything(self.browser)
            width = self.browser.execute_script("return document.documentElement.scrollWidth")
            assert width <= size[0], self.browser.current_url
            assert not complaints(self.browser, self.axe), (self.browser.current_url, scheme)
        look(self.browser, DESKTOP)


def test_twelve_accounts_are_set_up_without_a_command_line(
    browser, axe_source, site, desk, tmp_path
):
    walk = Walk(browser, axe_source)
    files = write_exports(tmp_path / "downloads")
    browser.get(site + "/")
    assert walk.heading == "Start with your own data"
    walk.judge()
    paths = "\n".join(str(path) for path in sorted(files.iterdir()))
    browser.find_element("name", "files").send_keys(paths)
    walk.press("Upload")
    walk.wait(lambda: walk.heading == "Proposed mapping")
    walk.judge()
    walk.press("Save and check the data")
    walk.wait(lambda: "Is this right?" in walk.text)
    assert f"{N_ACCOUNTS}" in browser.find_element("css selector", ".totals").text
    walk.judge()
    walk.press("Yes, this is right")
    walk.wait(lambda: walk.heading.startswith("Data quality: grade"))
    walk.judge()
    browser.get(site + "/start/mapping")
    walk.judge()
    walk.press("Confirm all 2")
    walk.wait(lambda: "0 open guesses" in walk.text)
    assert "guesses:" not in desk.company_file.read_text(encoding="utf-8")
    browser.get(site + "/start/run")
    walk.judge()
    walk.press("Start the run")
    walk.wait(lambda: walk.heading == "Running")
    browser.get(site + "/start")
    browser.get(site + "/start/run?still")  # found again after the page was left
    assert walk.heading == "Running"
    walk.judge()
    browser.get(site + "/start/run")
    walk.wait(lambda: walk.heading != "Running", 240)
    # Twelve accounts are too few to train on: the page says so, and what to do.
    assert walk.heading == "The run has ended early"
    assert "has 5 accounts of each outcome" in walk.text
    assert "To do: load a longer history" in walk.text
    assert "Traceback" not in walk.text
    walk.judge()
    browser.get(site + "/start/book")
    assert "There must be a finished run first" in walk.text
    walk.judge()


def test_two_files_give_a_verdict_in_under_a_minute(browser, axe_source, site, tmp_path):
    walk = Walk(browser, axe_source)
    for name, frame in zip(("scores", "outcomes"), company(200, 24), strict=True):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    look(browser, DESKTOP)
    browser.get(site + "/start")
    for name in ("scores", "outcomes"):
        browser.find_element("name", name).send_keys(str(tmp_path / f"{name}.csv"))
    started = time.monotonic()
    walk.press("Test the score")
    walk.wait(lambda: walk.heading == "Does the health score predict?", 60)
    assert time.monotonic() - started < 60
    assert "The date of the score" in walk.text
    walk.judge()
    walk.press("Full report")
    walk.wait(lambda: "Health-score audit" in browser.title)
