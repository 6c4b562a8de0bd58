"""The pages: safe, complete, and each number equal to the API's."""

from __future__ import annotations

import csv
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.runtime.formatting import percent
from serving.api.middleware import PAGE_POLICY
from serving.batch.band_medians import ALL_ACCOUNTS, BANDS, FEWEST, levels_of
from serving.batch.score_book import read_table
from serving.http.addresses import account_url
from serving.http.score_text import rounded_to_sum
from serving.online.server_state import ServerState
from serving.pages.account.page import view
from serving.pages.portfolio.reports import REPORT_POLICY
from serving.pages.templating import STATIC, fact_value
from tests.benchmarks.training.audit import NOW as AUDITED
from tests.benchmarks.training.audit import company
from training.health_audit.options import AuditOptions
from training.health_audit.run import audit
from training.model.reason_text import shorten

SAMPLE = Path(__file__).resolve().parents[3] / ".github" / "sample-report.html"
BACK = '<a href="/">Bellwether</a>'

PAGES = [
    "/",
    "/portfolio",
    "/?show=unplanned",
    "/?expansion=any&sort=upsell",
    "/changes",
    "/week",
    "/escalations",
    "/accounts/A-0000",
    "/accounts/A-0006",
    "/accounts/A-0030/what-if",
    "/accounts/nobody",
    "/reading",
    "/report",
    "/audits",
    "/data",
    "/me",
    "/start",
    "/start/mapping",
]


class Reader(HTMLParser):
    """Collects what a browser would fetch, run or apply."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.append(name)
            if name in ("src", "href", "action"):
                self.addresses.append(value or "")

    def handle_data(self, data) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


SCRIPT = '<script src="/static/bellwether.js" defer></script>'


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_no_script_and_no_other_origin(client, path):
    answer = client.get(path)
    page = Reader(answer.text)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert page.tags.count("script") == answer.text.count(SCRIPT), "the one script of the pages"
    assert "style" not in page.attributes, "the policy allows no inline style"
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(not urlsplit(address).netloc for address in page.addresses)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_reached_by_keyboard_and_read_aloud(client, path):
    page = Reader(client.get(path).text)
    assert page.addresses[2:3] != []
    assert "#main" in page.addresses
    assert page.tags.count("h1") == 1
    assert page.tags.count("main") == 1
    assert "lang" in page.attributes


@pytest.mark.parametrize("path", PAGES)
def test_words_promise_and_blame_nothing(client, path):
    text = Reader(client.get(path).text).text.lower()
    assert "because" not in text
    assert " will " not in text


@pytest.mark.parametrize("path", ["/", "/reading", "/report", "/escalations", "/accounts/A-0030"])
def test_head_is_answered(client, path):
    assert client.request("HEAD", path).status_code == 200


def test_odd_names_are_shown_as_they_are(client, world):
    text = client.get("/", params={"sort": "name"}).text
    assert "<script>" not in text
    for i, name in world.odd_names.items():
        page = Reader(client.get(f"/accounts/A-{i:04d}").text)
        assert " ".join(name.split()) in page.text
        assert "bdi" in page.tags


def test_addresses_of_odd_ids_lead_back(client):
    assert account_url("a/b?c#d é") == "/accounts/a%2Fb%3Fc%23d%20%C3%A9"
    page = client.get(account_url('"><script>'))
    assert page.status_code == 404
    assert "<script>" not in page.text
    assert "There is no account" in page.text


def test_the_book_shows_what_the_api_says(client):
    rows = client.get("/v1/scores", params={"limit": 5}).json()["results"]
    page = Reader(client.get("/").text)
    for row in rows:
        assert row["name"] in page.text
        assert f"{row['expected_arr_lost']:,.0f}" in page.text
        assert percent(row["churn_risk"]).replace("\xa0", " ") in page.text
        reason = row["top_reason"]
        assert reason is None or shorten(reason).replace("\xa0", " ") in page.text


def test_the_twins_hold_the_same_rows(client):
    chosen = {"owner": "csm-2", "sort": "arr"}
    body = client.get("/book.json", params=chosen).json()
    lines = list(csv.DictReader(io.StringIO(client.get("/book.csv", params=chosen).text)))
    assert [row["account_id"] for row in body["rows"]] == [row["account_id"] for row in lines]
    assert {row["owner_id"] for row in lines} == {"csm-2"}
    arr = [row["arr"] for row in body["rows"] if row["arr"] is not None]
    assert arr == sorted(arr, reverse=True)
    assert body["totals"]["n"] == len(lines)


def test_the_book_comes_in_the_order_of_what_is_worth_the_time(client):
    def order(**asked) -> list[str]:
        rows = client.get("/book.json", params=asked).json()["rows"]
        return [row["account_id"] for row in rows if row["status"] == "scored"]

    rows = client.get("/book.json").json()["rows"]
    counts = [
        max(row["expected_arr_lost"], 0.0) * 0.5 ** (row["days_to_notice"] / 90)
        for row in rows
        if row["status"] == "scored" and (row["days_to_notice"] or -1) >= 0
    ]
    assert len(counts) > 50
    assert counts == sorted(counts, reverse=True)
    assert order() == order(sort="worth", half_days=90) != order(sort="loss")
    # The slower a loss ahead loses weight, the nearer it comes to the order by loss alone.
    assert order(half_days=3650)[:3] == order(sort="loss")[:3]
    page = client.get("/").text
    assert '<option value="loss">expected loss</option>' in page
    links = Reader(page).addresses
    assert {"/?sort=risk", "/?sort=notice", "/?sort=arr"} <= set(links)
    assert "/book.csv?" in links


def test_who_filters_keeps_what_has_no_field(client):
    days = {"renews_from": "2026-04-01", "renews_until": "2026-06-30", "product": "core"}
    text = client.get("/", params=days).text
    for name in ("renews_from", "renews_until"):
        assert f'<input type="hidden" name="{name}" value="{days[name]}">' in text
    assert client.get("/book.json", params={"product": "none"}).json()["rows"] == []


@pytest.mark.parametrize("path", ["/", "/week", "/portfolio", "/reading", "/accounts/A-0030"])
def test_how_fresh_it_is_stands_on_every_page(client, path):
    assert "data as of 2 Mar 2026" in Reader(client.get(path).text).text


def test_the_facts_of_an_account_have_a_csv_twin_that_adds_up(client):
    score = client.get("/v1/accounts/A-0030/score").json()["scores"]["churn"]
    text = client.get("/accounts/A-0030/facts.csv").text
    lines = [line for line in csv.DictReader(io.StringIO(text)) if line["target"] == "churn"]
    points = {
        kind: [float(line["points"]) for line in lines if line["kind"] == kind]
        for kind in ("base", "step", "estimate", "fact")
    }
    assert points["estimate"] == [100 * score["probability"]]
    assert sum(points["base"] + points["step"]) == pytest.approx(points["estimate"][0])
    facts = [
        fact["feature"] for item in (*score["raises"], *score["lowers"]) for fact in item["facts"]
    ]
    assert [line["feature"] for line in lines if line["kind"] == "fact"] == facts
    assert client.get("/accounts/nobody/facts.csv").status_code == 404


def test_a_fact_stands_beside_accounts_at_each_risk(client, world, book, live):
    bands = {row["account_id"]: row["risk_band"] for row in read_table(book).to_pylist()}
    ids = [entity for entity, band in bands.items() if band]
    rows = live.current().store.online(world.feature_hash, len(world.names), ids)
    values = rows.values[:, world.names.index("active_users_28d")]
    found = levels_of(book, ALL_ACCOUNTS).medians["active_users_28d"]
    for wanted, level in zip(BANDS, found, strict=True):
        known = values[[bands[entity] == wanted for entity in ids]]
        known = known[~np.isnan(known)]
        assert level == (pytest.approx(np.median(known)) if len(known) >= FEWEST else None)
    told = [level for level in found if level is not None]
    assert len(told) > 1
    assert told == sorted(told, reverse=True), "the company is made so that few users mean risk"
    page = client.get("/accounts/A-0030").text
    assert "At low · elevated · high risk" in page
    score = client.get("/v1/accounts/A-0030/score").json()
    levels = levels_of(book, score["peers"]["text"])
    words = "all accounts" if levels.is_all_accounts else "similar accounts"
    assert f"and the median of {words} at low, elevated and high risk" in page
    part = score["scores"]["churn"]
    fact = (*part["raises"], *part["lowers"])[0]["facts"][0]
    medians = levels.medians[fact["feature"]]
    told = " · ".join(fact_value(value, fact["unit"], "GBP") for value in medians)
    assert told in page


def test_filters_stay_in_the_address_and_the_form(client):
    page = client.get("/", params={"band": "elevated", "q": "company", "sort": "risk"})
    assert 'value="company"' in page.text
    assert '<option value="elevated" selected>' in page.text
    assert "/book.csv?band=elevated&amp;q=company&amp;sort=risk" in page.text
    assert '<option value="risk" selected>' in page.text
    assert 'aria-sort="descending"' in page.text


@pytest.mark.parametrize(
    "query", ["?sort=zzz", "?page=0", "?page=x", "?q=" + "x" * 300, "?band=%00", "?page=99999"]
)
def test_a_bad_query_never_breaks_the_page(client, query):
    assert client.get("/" + query).status_code in (200, 422)


def test_no_match_is_said_and_can_be_undone(client):
    page = Reader(client.get("/", params={"q": "no such company"}).text)
    assert "No account matches" in page.text
    assert "/" in page.addresses


def test_the_last_page_ends_the_book(client):
    n = len(client.get("/book.json").json()["rows"])
    page = Reader(client.get("/", params={"page": 3}).text)
    assert f"201 to {n} of {n}" in page.text
    assert "Page 3 of 3" in page.text


def test_the_waterfall_adds_up_to_the_number_shown(client):
    for i in range(20, 60):
        answer = client.get(f"/v1/accounts/A-{i:04d}/score").json()
        if answer["status"] != "scored":
            continue
        steps = view(answer)["steps"]
        printed = steps["base"]["points"] + sum(bar["points"] for bar in steps["bars"])
        assert round(printed, 6) == steps["total"]["points"]
        assert steps["total"]["points"] == round(100 * answer["churn_risk"], 1)


@given(
    st.lists(st.floats(-40, 40), min_size=1, max_size=12),
)
def test_rounded_numbers_always_add_up(values):
    total = round(sum(values), 1)
    rounded = rounded_to_sum(values, total)
    assert round(sum(rounded), 6) == pytest.approx(total, abs=1e-6)
    assert all(abs(a - b) <= 0.1 + 1e-9 for a, b in zip(rounded, values, strict=True))


def test_the_headline_speaks_in_the_accounts_own_terms(client):
    answer = client.get("/v1/accounts/A-0030/score").json()
    page = Reader(client.get("/accounts/A-0030").text)
    sentence = answer["scores"]["churn"]["text"]
    assert sentence[1:].replace("\xa0", " ") in page.text
    assert "Renewal" in page.text
    assert "Missing data" in page.text


def test_an_account_without_an_estimate_says_why(client):
    page = Reader(client.get("/accounts/A-0006").text)
    assert "Not predicted: has already given notice." in page.text
    assert "% of such" not in page.text.replace("\xa0", " ")


def test_the_report_is_served_under_its_own_policy(client, world):
    assert "No report yet" in client.get("/report").text
    folder = world.workspace.state.reports
    folder.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy(SAMPLE, folder / "latest.html")
        answer = client.get("/report")
        assert answer.headers["content-security-policy"] == REPORT_POLICY
        assert "script-src" not in REPORT_POLICY
        assert "default-src 'none'" in REPORT_POLICY
        assert "validation report" in answer.text
        assert BACK in answer.text, "a report that is served has a way back to the book"
        assert BACK not in SAMPLE.read_text(encoding="utf-8"), "the file alone has none"
    finally:
        (folder / "latest.html").unlink()


def test_audits_of_other_scores_are_listed_and_shown_whole(client, world, tmp_path):
    assert "No audits yet" in client.get("/audits").text
    scores, outcomes = company(120, 12)
    scores.to_csv(tmp_path / "scores.csv", index=False)
    outcomes.to_csv(tmp_path / "outcomes.csv", index=False)
    reports = world.workspace.state.reports
    try:
        made = audit(
            tmp_path / "scores.csv", tmp_path / "outcomes.csv", reports / "audits" / "CS <tool>",
            AuditOptions(now=AUDITED, draws=100), lambda _: None,
        )  # fmt: skip
        assert made.html is not None
        listed = client.get("/audits")
        assert "CS <tool>" in Reader(listed.text).text
        assert "120" in Reader(listed.text).text
        (address,) = (at for at in Reader(listed.text).addresses if at.startswith("/audits/"))
        shown = client.get(address)
        assert shown.text.replace(BACK, "Bellwether", 1) == made.html.read_text(encoding="utf-8")
        assert BACK in shown.text
        assert shown.headers["content-security-policy"] == REPORT_POLICY
        for other in ("/audits/none", "/audits/..%2Flatest.html"):
            assert client.get(other).status_code == 404
    finally:
        shutil.rmtree(reports)


def test_an_address_that_is_not_there_is_a_page_for_people(client):
    page = client.get("/nothing", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "Not found" in Reader(page.text).text


def test_stale_data_is_said_on_the_page(world, book, client_for):
    from datetime import timedelta

    serving = ServerState(world.workspace, clock=lambda: world.now + timedelta(days=60))
    serving.refresh()
    try:
        page = Reader(client_for(serving).get("/accounts/A-0030").text)
        assert "Stale." in page.text
        assert "the data is 60 days old" in page.text.lower()
        assert "Stale." in Reader(client_for(serving).get("/").text).text
    finally:
        serving.close()


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_can_be_told_apart(scheme):
    """WCAG 2.2 AA: 4.5 for text, 3 for marks, in light (0) and dark (1)."""
    css = (STATIC / "style.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    for paper in ("paper", "sheet", "note", "warn"):
        for ink in ("ink", "soft", "accent", "high", "elevated", "low"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for mark in ("raises", "lowers", "end"):
        assert contrast(colours[mark], colours["paper"]) >= 3, mark
    assert contrast(colours["sheet"], colours["accent"]) >= 4.5
