"""The expansion candidate: what is offered, what stands in the way, and what is only a rule."""

from __future__ import annotations

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter

from configs.schema.company import Growth
from features.revenue.growth_kinds import KINDS, N_CELLS, N_HELD
from serving.scoring.answer import Answer, Offer
from serving.scoring.expansion_offer import BLOCKERS, OfferMaker
from serving.scoring.export_columns import COLUMNS
from serving.scoring.export_rows import csv_lines, flat_row
from training.model.manifest import ModelManifest

NAMES = ["entitlement_fullest", "products_subscribed"]
FULL, HALF = [0.94, 1.0], [0.5, 1.0]
UPLIFT = {"p10": 0.1, "p50": 0.2, "p90": 0.5, "mean": 0.25}
CONTACT = {
    "contact_id": "U-2",
    "role": "sponsor",
    "is_champion": True,
    "last_active_on": "2026-02-20",
}
OFFERS = {
    "seats": {"product": "core", "text": "47 of 50 seats, 8 weeks", "share": 0.94},
    "product": {"product": "more", "text": "without more; 3 of 8 accounts have it"},
}


def bundle(**bases: str) -> SimpleNamespace:
    """Growths of seats where the allowance is full, of products elsewhere; the rest by rules."""
    shares = np.tile([0.2, 0.1, 0.6, 0.05], (N_CELLS, 1))
    shares[3 * N_HELD] = [0.8, 0.05, 0.1, 0.0]
    told = {kind: bases.get(kind, "rules") for kind in KINDS}
    kinds = {
        kind: {
            "basis": basis,
            "n_events": 40 if basis == "measured" else 3,
            "uplift": UPLIFT,
            # What an account's state tells of its kind was tested; of plans it tells nothing.
            "backtest": {"beats_flat": kind != "tier"},
        }
        for kind, basis in told.items()
    }
    growth = {"kinds": kinds, "shares": shares.tolist()}
    return SimpleNamespace(target="expansion", manifest=ModelManifest.from_dict({"growth": growth}))


def answer(**changes) -> dict:
    base = {
        "account_id": "A-1",
        "status": "scored",
        "arr": 10_000.0,
        "risk_band": "low",
        "renewal": None,
        "scores": {
            "expansion": {"probability": 0.3, "until": "2026-06-01", "outcome": "expansion"}
        },
    }
    return base | changes


def facts(**changes) -> dict:
    return {"growth": {"kinds": OFFERS, "rules": [], "blockers": [], "contact": CONTACT} | changes}


MEASURED = {"seats": "measured", "product": "measured"}


def candidate(told=None, known=None, values=FULL, bases=MEASURED):
    row = told or answer()
    seller = OfferMaker.of(bundle(**bases), NAMES, Growth())
    seller.add_to([row], [facts() if known is None else known], np.array([values]))
    if row["expansion"] is not None:
        TypeAdapter(Offer).validate_python(row["expansion"])
    return row["expansion"]


def test_chance_and_amount_of_the_likeliest_kind_by_hand():
    found = candidate()
    assert (found["kind"], found["product"], found["basis"]) == ("seats", "core", "measured")
    assert found["probability"] == pytest.approx(0.3 * 0.8)
    assert found["added_arr"] == {"p10": 1_000.0, "p50": 2_000.0, "p90": 5_000.0}
    assert found["expected_added_arr"] == pytest.approx(0.24 * 0.25 * 10_000)
    assert found["evidence"] == ["47 of 50 seats, 8 weeks"]
    assert [other["kind"] for other in found["others"]] == ["product"]
    assert found["n_events"] == 40
    assert found["contact"] == CONTACT
    assert found["is_eligible"]


def test_another_state_another_kind():
    found = candidate(values=HALF)
    assert (found["kind"], found["product"]) == ("product", "more")
    assert found["probability"] == pytest.approx(0.3 * 0.6)


def test_what_its_own_use_speaks_for_comes_before_the_likeliest():
    """Full seats for weeks: more seats, though products are likelier in its state."""
    found = candidate(known=facts(rules=["seats"]), values=HALF)
    assert (found["kind"], found["basis"]) == ("seats", "measured")
    assert found["probability"] == pytest.approx(0.3 * 0.2)
    assert found["others"] == [
        {
            "kind": "product",
            "kind_text": "a further product",
            "product": "more",
            "probability": pytest.approx(0.3 * 0.6),
            "expected_added_arr": pytest.approx(0.18 * 0.25 * 10_000),
            "evidence": ["without more; 3 of 8 accounts have it"],
        }
    ]


def test_a_kind_that_is_not_on_offer_is_not_offered():
    found = candidate(known=facts(kinds={"product": OFFERS["product"]}))
    assert found["kind"] == "product"
    assert found["probability"] == pytest.approx(0.3 * 0.1)


def test_a_plan_that_nothing_tells_is_not_offered():
    """The state of an account does not tell who buys a higher plan: the kind is unknown."""
    tier = {"tier": {"product": "core", "text": "on the plan basic; the next is plus"}}
    found = candidate(known=facts(kinds=tier), bases={"tier": "measured", "seats": "measured"})
    assert (found["kind"], found["kind_text"], found["basis"]) == (None, "kind unknown", "unknown")
    assert found["basis_text"] == "likely to expand, kind unknown"
    assert found["probability"] == 0.3
    assert found["added_arr"] is None
    assert found["expected_added_arr"] == pytest.approx(0.3 * 0.25 * 10_000)
    assert found["evidence"] == found["others"] == []


def test_below_the_floor_a_rule_names_the_kind_and_no_chance():
    found = candidate(known=facts(rules=["seats"]), bases={})
    assert (found["kind"], found["basis"]) == ("seats", "rules")
    assert found["basis_text"] == "an expert rule, not measured"
    assert found["probability"] is found["added_arr"] is found["expected_added_arr"] is None
    assert found["evidence"] == ["47 of 50 seats, 8 weeks"]


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (answer(), facts()),  # no kind is measured and no rule holds
        (answer(scores={}), facts(rules=["seats"])),  # growth is not predicted
        (answer(), {}),  # a book of before there were candidates
    ],
)
def test_without_a_kind_or_a_chance_there_is_no_candidate(told, known):
    assert candidate(told, known, bases={}) is None


def test_without_revenue_there_is_no_amount():
    for arr in (None, 0.0):
        found = candidate(answer(arr=arr))
        assert found["probability"] is not None
        assert found["added_arr"] is found["expected_added_arr"] is None


RENEWAL = {
    "renews_on": "2026-05-01",
    "days_to_renewal": 61,
    "notice_on": "2026-04-01",
    "days_to_notice": 31,
}
BLOCKED = {
    "no_room": (answer(scores={}, withheld={"expansion": {}}), facts()),
    "overdue": (answer(), facts(blockers=[{"code": "overdue", "text": "12 days overdue"}])),
    "open_opportunity": (answer(), facts(blockers=[{"code": "open_opportunity", "text": "open"}])),
    "at_risk": (answer(risk_band="elevated"), facts()),
    "notice_window": (answer(renewal=RENEWAL | {"days_to_notice": 30}), facts()),
}


@pytest.mark.parametrize("code", BLOCKERS)
def test_everything_that_stands_in_the_way_is_said(code):
    found = candidate(*BLOCKED[code])
    assert [item["code"] for item in found["blockers"]] == [code]
    assert not found["is_eligible"]


def test_blockers_stand_in_one_order():
    known = facts(
        blockers=[{"code": "open_opportunity", "text": ""}, {"code": "overdue", "text": ""}]
    )
    found = candidate(answer(risk_band="high", renewal=RENEWAL | {"days_to_notice": 0}), known)
    codes = [item["code"] for item in found["blockers"]]
    assert codes == ["overdue", "open_opportunity", "at_risk", "notice_window"]


@pytest.mark.parametrize("days", [31, -1])
def test_outside_the_notice_window_one_may_ask(days):
    assert candidate(answer(renewal=RENEWAL | {"days_to_notice": days}))["is_eligible"]


def test_one_asks_with_the_renewal_when_it_is_near():
    assert candidate(answer(renewal=RENEWAL))["timing"]["by_on"] == "2026-04-01"
    passed = RENEWAL | {"days_to_notice": -3}
    assert candidate(answer(renewal=passed))["timing"]["by_on"] == "2026-05-01"
    far = RENEWAL | {"renews_on": "2026-09-01"}
    assert candidate(answer(renewal=far))["timing"]["by_on"] == "2026-06-01"


def test_who_has_no_room_is_offered_nothing_that_was_measured():
    found = candidate(*BLOCKED["no_room"])
    assert (found["kind"], found["basis"], found["timing"]) == (None, "none", None)


def test_the_flat_row_says_the_same_and_no_cell_is_a_formula():
    told = answer()
    candidate(told, facts(contact=CONTACT | {"contact_id": "=1+1"}))
    row = flat_row(told | {"scores": {}})
    assert row["expansion_kind"] == "seats"
    assert row["expansion_arr_p50"] == 2_000.0
    assert row["expansion_contact"] == "=1+1 (sponsor, advocate)"
    assert row["expansion_is_eligible"] is True
    assert row["expansion_blockers"] == []
    cells = next(csv.DictReader(io.StringIO("".join(csv_lines([row])))))
    assert list(cells) == list(COLUMNS)
    assert cells["expansion_contact"] == "'=1+1 (sponsor, advocate)"
    assert cells["expansion_evidence"] == "47 of 50 seats, 8 weeks"


def test_answers_carry_candidates_by_rules_where_nothing_is_measured(client):
    """The small company's bundles know no kinds: whose seats are nearly full has a rule."""
    found = client.get("/v1/scores?expansion=any&limit=1000").json()
    assert found["total"] == len(found["results"]) > 0
    assert {row["expansion_kind"] for row in found["results"]} == {"seats"}
    assert {row["expansion_basis"] for row in found["results"]} == {"rules"}
    assert all(row["expansion_kind_probability"] is None for row in found["results"])
    one = client.get(f"/v1/accounts/{found['results'][0]['account_id']}/score").json()
    TypeAdapter(Answer).validate_python(one)
    assert one["expansion"]["evidence"][0].endswith("seats")


def test_candidates_are_listed_by_whether_they_may_be_asked(client):
    def listed(query):
        found = client.get(f"/v1/scores?limit=1000&sort=growth&{query}").json()["results"]
        return {row["account_id"]: row["expansion_is_eligible"] for row in found}

    every, free, blocked = (listed(f"expansion={word}") for word in ("any", "eligible", "blocked"))
    assert every == free | blocked
    assert set(free.values()) <= {True}
    assert set(blocked.values()) <= {False}
    assert listed("expansion=any&expansion_kind=tier") == {}
    wrong = client.get("/v1/scores?expansion=maybe")
    assert wrong.status_code == 422


@pytest.fixture(scope="module")
def full(client) -> str:
    """An account whose seats are nearly full."""
    return client.get("/v1/scores?expansion=any&limit=1").json()["results"][0]["account_id"]


def test_the_page_of_an_account_says_what_could_be_sold(client, full):
    page = client.get(f"/accounts/{full}").text
    assert "Expansion offer" in page
    assert "seats" in page
    assert "An expert rule names the kind" in page
    assert "no known contact" in page


def test_the_book_shows_and_filters_what_could_be_sold(client, full):
    page = client.get("/?expansion=any").text
    assert f"/accounts/{full}" in page
    assert "More seats" in page
    assert 'value="eligible"' in page
    lines = client.get("/book.csv?expansion=any").text.splitlines()
    assert len(lines) - 1 == client.get("/v1/scores?expansion=any").json()["total"]
