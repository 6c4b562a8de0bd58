"""The pages in a real browser: keyboard, axe, nothing from elsewhere, phone width, dark, print."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn

pytestmark = pytest.mark.browser

PAGES = [
    "/",
    "/?band=high&sort=risk",
    "/?expansion=any&sort=upsell",
    "/changes",
    "/week",
    "/week?owner=csm-0",
    "/escalations",
    "/portfolio",
    "/accounts/A-0030",
    "/accounts/A-0006",
    "/accounts/A-0030/what-if",
]
PAGES += ["/data", "/me", "/reading", "/report", "/nothing", "/start", "/start/mapping"]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="session")
def axe_source(absent) -> str:
    """axe-core as its Python package carries it."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        absent("axe-core is not installed", "make .venv/.extra")
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def site(live, app_for) -> Iterator[str]:
    """The application on a real socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(app_for(live), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture(scope="session")
def browser(tmp_path_factory, absent):
    """Debian's Chromium, headless, with a profile of its own."""
    from selenium import webdriver

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        absent("no Chromium with its driver", "apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_script_timeout(120)
    yield opened
    opened.quit()


def look(browser, size=DESKTOP, *, scheme="light", media="screen") -> None:
    browser.set_window_size(*size)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def requested(browser) -> list[str]:
    """Return every address the browser asked for since the last look."""
    found = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return found


def open_everything(browser) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")


def complaints(browser, axe_source) -> list[tuple[str, str, list[str]]]:
    """Return what axe holds against the page that is open."""
    # The policy of the pages allows no script: axe is brought in beside it.
    browser.execute_script(axe_source)
    found = browser.execute_async_script(
        "const done = arguments[0];"
        "axe.run({runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa',"
        "'best-practice'],"
        " resultTypes: ['violations']})"
        ".then(r => done(r.violations)).catch(e => done(String(e)))"
    )
    assert isinstance(found, list), found
    return [
        (item["id"], item["impact"], [node["html"][:160] for node in item["nodes"]][:3])
        for item in found
    ]


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(browser, site, axe_source, path):
    for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        look(browser, size, scheme=scheme)
        browser.get(site + path)
        open_everything(browser)
        assert not complaints(browser, axe_source), (size, scheme)


def test_who_is_not_signed_in_gets_a_page_too(browser, site, axe_source):
    # Whoever comes by a proxy that nobody trusts is not let in, even while no key was made.
    headers = {"headers": {"X-Forwarded-For": "192.0.2.1"}}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
    try:
        for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            look(browser, size, scheme=scheme)
            browser.get(site + "/portfolio")
            assert browser.find_element("css selector", "h1").text == "Not signed in"
            assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
            assert not complaints(browser, axe_source), (size, scheme)
    finally:
        browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})


@pytest.mark.parametrize("path", PAGES)
def test_no_request_leaves_the_origin_and_the_console_stays_quiet(browser, site, path):
    look(browser)
    requested(browser)
    browser.get_log("browser")
    browser.get(site + path)
    asked = [url for url in requested(browser) if urlsplit(url).scheme in ("http", "https")]
    assert asked
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(site).netloc}
    severe = [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "404" not in entry["message"]
    ]
    assert not severe


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(browser, site, path):
    look(browser, PHONE)
    browser.get(site + path)
    open_everything(browser)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= PHONE[0]


def focused(browser) -> dict[str, str]:
    return browser.execute_script(
        "const e = document.activeElement;"
        "return {tag: e.tagName, text: (e.innerText || e.value || '').trim(),"
        " href: e.getAttribute('href') || '', name: e.getAttribute('name') || ''}"
    )


def press(browser, key) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(key).perform()


def test_the_keyboard_leads_from_the_book_to_an_account_and_back(browser, site):
    from selenium.webdriver.common.keys import Keys

    look(browser)
    browser.get(site + "/")
    press(browser, Keys.TAB)
    assert focused(browser)["text"] == "Skip to the content"
    press(browser, Keys.ENTER)
    seen = []
    for _ in range(60):
        press(browser, Keys.TAB)
        seen.append(focused(browser))
        if seen[-1]["href"].startswith("/accounts/"):
            break
    assert [item["name"] for item in seen if item["name"]][:2] == ["q", "band"]
    assert seen[-1]["href"].startswith("/accounts/"), seen
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "what has the focus is seen"
    press(browser, Keys.ENTER)
    assert urlsplit(browser.current_url).path.startswith("/accounts/")
    assert seen[-1]["text"] in browser.find_element("css selector", "h1").text
    browser.back()
    assert urlsplit(browser.current_url).path == "/"


def test_filters_work_by_keyboard_and_stay_in_the_address(browser, site):
    from selenium.webdriver.common.keys import Keys

    look(browser)
    browser.get(site + "/")
    field = browser.find_element("name", "q")
    field.send_keys("Company 1", Keys.ENTER)
    assert "q=Company" in browser.current_url
    names = [item.text for item in browser.find_elements("css selector", ".book tbody .who a")]
    assert names
    assert all("company 1" in name.lower() for name in names)


def test_a_key_leads_to_the_search_and_suggestions_to_the_account(browser, site):
    from selenium.webdriver.common.keys import Keys

    look(browser)
    browser.get(site + "/portfolio")
    press(browser, "/")
    assert focused(browser)["name"] == "q"
    press(browser, "Company 201")
    deadline, names = time.monotonic() + 10, []
    while "Company 201" not in names and time.monotonic() < deadline:
        time.sleep(0.05)
        names = browser.execute_script(
            "return [...document.querySelectorAll('#found option')].map(o => o.label)"
        )
    assert names == ["Company 201"]
    press(browser, Keys.ENTER)
    while "/accounts/" not in browser.current_url and time.monotonic() < deadline:
        time.sleep(0.05)
    assert urlsplit(browser.current_url).path == "/accounts/A-0201"


WIDE = (1440, 900)


def test_the_list_is_on_the_first_screen(browser, site):
    look(browser, WIDE)
    browser.get(site + "/")
    tops, heights = browser.execute_script(
        "const rows = [...document.querySelectorAll('.book tbody tr')]"
        ".map(row => row.getBoundingClientRect());"
        "return [rows.map(r => r.top), rows.map(r => r.height)]"
    )
    assert tops[0] <= 320
    assert max(heights) <= 52
    assert sum(top + height <= 900 for top, height in zip(tops, heights, strict=True)) >= 10
    browser.execute_script("window.scrollTo(0, 1200)")
    head = browser.execute_script(
        "return document.querySelector('.book thead th').getBoundingClientRect().top"
    )
    assert head == 0, "the head of the table stays in view"


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_nothing_in_the_list_overlaps_or_is_cut_off(browser, site, width):
    look(browser, (width, 900))
    browser.get(site + "/?sort=name")
    wide = browser.execute_script(
        "return [...document.querySelectorAll('.book td, .book tbody th')]"
        ".filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.className)"
    )
    assert wide == []


def test_a_filter_applies_as_soon_as_it_is_chosen(browser, site):
    from selenium.webdriver.support.ui import Select

    look(browser)
    browser.get(site + "/")
    Select(browser.find_element("name", "band")).select_by_value("elevated")
    deadline = time.monotonic() + 10
    while "band=elevated" not in browser.current_url and time.monotonic() < deadline:
        time.sleep(0.05)
    assert urlsplit(browser.current_url).query == "band=elevated&status=current&sort=worth"
    words = browser.find_elements("css selector", ".book .band")
    assert {word.text for word in words} == {"elevated"}


def test_the_waterfall_in_the_browser_adds_up(browser, site, client):
    look(browser)
    browser.get(site + "/accounts/A-0030")
    cells = browser.find_elements("css selector", ".waterfall tbody td.num")
    numbers = [float(cell.text.replace("−", "-").replace("+", "")) for cell in cells]
    assert len(numbers) > 3
    assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=1e-6)
    risk = client.get("/v1/accounts/A-0030/score").json()["churn_risk"]
    assert numbers[-1] == round(100 * risk, 1)


def test_colours_change_with_the_scheme_and_paper_is_white(browser, site):
    def paper() -> str:
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    look(browser, scheme="light")
    browser.get(site + "/")
    light = paper()
    look(browser, scheme="dark")
    dark = paper()
    look(browser, media="print")
    assert light != dark
    assert paper() == "rgb(255, 255, 255)"
    shown = browser.execute_script(
        "return getComputedStyle(document.querySelector('.filters')).display"
    )
    assert shown == "none", "nobody filters paper"


@pytest.mark.parametrize("i", range(5))
def test_odd_names_render_and_run_nothing(browser, site, world, i):
    look(browser, PHONE)
    browser.get(f"{site}/accounts/A-{i:04d}")
    heading = browser.find_element("css selector", "h1").get_attribute("textContent")
    assert " ".join(world.odd_names[i].split()) == " ".join(heading.split())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
