"""What-if and feedback on the pages: what they let through, what they refuse, what is kept."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.runtime.formatting import percent
from serving.http.problems import ProblemError
from serving.ledger.store.feedback_store import FeedbackStore
from serving.pages.account.whatif import raw_value_of, shown, view

ORIGIN = {"Origin": "http://127.0.0.1"}
ACCOUNT = "A-0030"


class Fields(HTMLParser):
    """Collects the fields of forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        if tag in ("input", "select"):
            self.found.append({name: value or "" for name, value in attrs})


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.fixture(scope="module")
def levers(live):
    found = view(live, ACCOUNT, None, {})["levers"]
    return [item for item in found if not item.is_flag]


def test_only_facts_behind_the_estimate_that_people_act_on_are_offered(client, levers):
    score = client.get(f"/v1/accounts/{ACCOUNT}/score").json()["scores"]["churn"]
    behind = {
        fact["feature"]: fact["value"]
        for reason in (*score["raises"], *score["lowers"])
        for fact in reason["facts"]
    }
    assert levers
    for item in levers:
        assert item.feature in behind
        assert item.low <= item.now <= item.high
        assert item.low <= item.typical_low <= item.typical_high <= item.high
    offered = [
        field["name"] for field in Fields(client.get(f"/accounts/{ACCOUNT}/what-if").text).found
    ]
    assert set(offered) >= {item.feature for item in levers}


def test_a_supposition_equals_the_api_and_is_kept_nowhere(client, live, levers):
    lever = next(item for item in levers if item.high != item.now)
    before = len(live.ledger.scores.history(ACCOUNT, "churn", 500))
    page = client.get(f"/accounts/{ACCOUNT}/what-if", params={lever.feature: str(lever.high)})
    assert len(live.ledger.scores.history(ACCOUNT, "churn", 500)) == before
    body = {
        "account_id": ACCOUNT,
        "features": {lever.feature: raw_value_of(lever.high, lever.unit)},
    }
    answer = client.post("/v1/what-if", json=body).json()["scores"]["churn"]
    text = words(page.text)
    assert percent(answer["probability"]).replace("\xa0", " ") in text
    assert percent(answer["before"]).replace("\xa0", " ") in text
    assert "It is not the effect of changing them" in text
    asked = {lever.feature: str(lever.high)}
    twin = client.get(f"/accounts/{ACCOUNT}/what-if.json", params=asked).json()
    assert twin["supposed"]["probability"] == answer["probability"]
    assert {item["feature"] for item in twin["levers"]} >= {item.feature for item in levers}


@pytest.mark.parametrize("typed", ["1e12", "-1e12", "nan", "inf", "many", "<b>"])
def test_what_nobody_shows_is_refused_where_it_was_typed(client, levers, typed):
    page = client.get(f"/accounts/{ACCOUNT}/what-if", params={levers[0].feature: typed})
    assert page.status_code == 200
    assert "Not calculated." in page.text
    (field,) = [item for item in Fields(page.text).found if item.get("aria-invalid") == "true"]
    assert (field["name"], field["value"]) == (levers[0].feature, typed)
    assert "<b>" not in page.text


def test_other_features_are_left_alone(client):
    page = client.get(f"/accounts/{ACCOUNT}/what-if", params={"tenure_days": "4000", "q": "x"})
    assert " now." in words(page.text)
    assert "with these values" not in words(page.text)


def test_an_account_without_estimate_has_nothing_to_suppose(client, live):
    with pytest.raises(ProblemError):
        view(live, "nobody", None, {})
    assert client.get("/accounts/nobody/what-if").status_code == 404
    assert client.get("/accounts/A-0005/what-if").status_code == 409, "too new to be predicted"


@given(st.floats(-5, 5), st.sampled_from(["log_ratio", "days", "count"]))
def test_what_is_shown_leads_back_within_what_is_shown(value, unit):
    back = raw_value_of(shown(value, unit), {"log_ratio": "% change"}.get(unit, unit))
    assert shown(back, unit) == pytest.approx(shown(value, unit), rel=1e-9, abs=1e-9)


def reason_of(client) -> tuple[str, str]:
    score = client.get(f"/v1/accounts/{ACCOUNT}/score").json()["scores"]["churn"]
    return score["score_id"], (*score["raises"], *score["lowers"])[0]["code"]


def test_what_somebody_says_of_a_reason_is_kept_and_shown(client, world):
    score_id, code = reason_of(client)
    form = {"score_id": score_id, "reason_code": code, "verdict": "wrong", "note": "they <i>moved"}
    for _ in range(2):
        answer = client.post(f"/accounts/{ACCOUNT}/feedback", data=form, headers=ORIGIN)
        assert answer.status_code == 303
        assert answer.headers["location"].endswith("#facts")
    kept = FeedbackStore(world.workspace)
    (said,) = [row for row in kept.feedback() if row["score_id"] == score_id]
    assert (said["reason_code"], said["verdict"], said["note"]) == (code, "wrong", "they <i>moved")
    assert kept.verdicts()[code]["wrong"] >= 1
    kept.close()
    assert "Your feedback: wrong" in words(client.get(f"/accounts/{ACCOUNT}").text)


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "great"},
        {"verdict": ""},
        {"reason_code": "churn.magic.raises"},
        {"score_id": "s-unknown"},
        {"extra": "1"},
    ],
)
def test_a_wrong_form_is_told(client, change):
    score_id, code = reason_of(client)
    form = {"score_id": score_id, "reason_code": code, "verdict": "useful"} | change
    answer = client.post(f"/accounts/{ACCOUNT}/feedback", data=form, headers=ORIGIN)
    assert answer.status_code == 422
    foreign = client.post(f"/accounts/{ACCOUNT}/feedback", data=form)
    assert foreign.status_code == 403


def test_a_score_of_another_account_is_refused(client):
    score_id, code = reason_of(client)
    form = {"score_id": score_id, "reason_code": code, "verdict": "useful"}
    assert client.post("/accounts/A-0040/feedback", data=form, headers=ORIGIN).status_code == 422
