"""What is shown moves when it says it moves, is rounded once, and adds up."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.tables.catalog import THEMES
from serving.pages.account.page import groups, printed_points, view, waterfall
from serving.workflow.updates import _moved
from training.model.reason_text import amount, capitalize


@pytest.fixture(scope="module")
def answers(live):
    ids = [row["account_id"] for row in live.book.table.to_pylist() if row["status"] == "scored"]
    return live.score(ids[:80], request_id="display").answers


def test_a_theme_has_one_number_wherever_it_is_printed(answers):
    n = 0
    for answer in answers:
        shown = view(answer)
        printed = printed_points(shown["steps"])
        for reason in (*shown["raises"], *shown["lowers"]):
            n += 1
            assert printed[capitalize(THEMES[reason["theme"]])] == reason["printed"]
            parts = [fact["printed"] for fact in reason["facts"]]
            assert sum(parts) + reason["rest"] == pytest.approx(reason["printed"], abs=1e-9)
    assert n > 50


def test_the_page_prints_what_the_steps_print(client, answers):
    answer = next(item for item in answers if item["scores"]["churn"]["raises"])
    page = client.get(f"/accounts/{answer['account_id']}").text
    steps = waterfall(answer["scores"]["churn"])
    table = page.split('<table class="facts">')[1].split("</table>")[0]
    heads = re.findall(r'<tr class="group">.*?<td class="num">([^<]*)</td>', table)
    printed = {f"{abs(points):.1f}" for points in printed_points(steps).values()}
    assert heads
    assert {head.lstrip("+−") for head in heads} <= printed


def test_what_gaps_do_is_said_with_its_points(answers, client):
    moved = next(item for item in answers if abs(item["scores"]["churn"]["unknown"]) > 0.002)
    page = " ".join(client.get(f"/accounts/{moved['account_id']}").text.split())
    points = view(moved)["unknown_points"]
    verb = "raise" if points > 0 else "lower"
    assert f"The missing values {verb} the estimate by {abs(points)} " in page
    assert "neither for nor against" not in client.get("/reading").text


def test_no_fact_compares_what_reads_the_same(answers):
    """Neither in words, nor in the table behind them."""
    seen = 0
    for answer in answers:
        for part in answer["scores"].values():
            for reason in (*part["raises"], *part["lowers"]):
                for fact in reason["facts"]:
                    if fact["value"] is None or fact["own_past"] is None:
                        continue
                    ends = [amount(fact[end], fact["unit"], "GBP") for end in ("value", "own_past")]
                    seen += ends[0] == ends[1]
                    assert ("twelve weeks earlier" in fact["text"]) == (ends[0] != ends[1])
    assert seen, "some facts read the same; otherwise this tests nothing"


@given(before=st.floats(0.001, 0.9), after=st.floats(0.001, 0.9))
def test_news_never_moves_from_a_number_to_itself(before, after):
    row = {"churn_risk": after, "risk_band": "high"}
    found = re.fullmatch(
        r"risk from (\S+)\s% to (\S+)\s%, now high|risk \S+\s%, now high",
        _moved({"churn_risk": before}, row, 1),
    )
    assert found
    assert found[1] is None or found[1] != found[2]


def test_groups_without_a_waterfall_keep_their_own_rounding():
    reason = {"theme": "column:x", "points": 0.0234, "facts": [{"points": 0.0111}]}
    (found,) = groups([reason], None)
    assert (found["printed"], found["facts"][0]["printed"], found["rest"]) == (2.3, 1.1, 1.2)
