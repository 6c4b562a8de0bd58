"""What others tell: outcomes and feedback, once; histories; and suppositions."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter

from configs.runtime.state_directory import State
from configs.schema.workspace import Environment
from features.tables.source_tables import TABLES
from serving.api.schemas.feedback import HistoryAnswer, IntakeAnswer
from serving.api.schemas.whatif import WhatIfAnswer
from serving.http.problems import ProblemError
from serving.ledger.store.feedback_store import KEPT, FeedbackStore, ReportedOutcome
from serving.online.whatif import meanings

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
LOST = {"account_id": "A-0030", "outcome": "churned", "decided_on": "2026-03-01"}


@pytest.fixture
def intake(world, tmp_path, url, live, monkeypatch):
    places = Environment(ledger_url=url or None)
    made = FeedbackStore(replace(world.workspace, state=State(tmp_path), places=places))
    monkeypatch.setattr(live.stores, "intake", made)
    yield made
    made.close()


def statuses(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [
        item["status"]
        for item in TypeAdapter(IntakeAnswer).validate_json(answer.content)["results"]
    ]


def report(client, *outcomes, **headers):
    return client.post("/v1/outcomes", json={"outcomes": outcomes}, headers=headers)


def test_saying_it_twice_changes_nothing(client, intake):
    renewed = {"account_id": "A-0031", "outcome": "renewed", "decided_on": "2026-02-01"}
    unknown = {**LOST, "account_id": "nobody"}
    told = report(client, LOST, unknown, renewed, LOST)
    assert statuses(told) == ["recorded", "unknown_account", "recorded", "known"]
    assert statuses(report(client, LOST, renewed)) == ["known", "known"]
    other = {**LOST, "reason": "another"}
    assert statuses(report(client, other, {**LOST, "account_id": "A-0032"})) == [
        "conflict",
        "recorded",
    ]


def test_what_is_reported_is_a_source_table_for_labels(intake):
    lost = ReportedOutcome("A-0030", "churned", "2026-03-01", "2026-04-30", "price")
    kept = ReportedOutcome("A-0031", "renewed", "2026-03-01")
    intake.record_outcomes([lost, kept], "crm", NOW)
    (row,) = intake.outcomes()
    assert row == {
        "account_id": "A-0030",
        "outcome": "churn",
        "decided_on": "2026-03-01",
        "effective_on": "2026-04-30",
        "reason": "price",
        "known_at": NOW,
    }
    contract = TABLES["outcomes"].columns
    assert set(row) - {"known_at"} <= set(contract)
    assert row["outcome"] in contract["outcome"].values


def test_an_idempotency_key_names_one_body(client, intake):
    key = {"Idempotency-Key": "crm-1"}
    assert statuses(report(client, LOST, **key)) == ["recorded"]
    assert statuses(report(client, LOST, **key)) == ["known"]
    refused = report(client, {**LOST, "outcome": "renewed"}, **key)
    assert refused.json()["type"] == "/v1/problems/idempotency-key-reused"
    intake.once("a", "k", b"1", NOW)
    with pytest.raises(ProblemError):
        intake.once("a", "k", b"2", NOW + timedelta(hours=1))
    intake.once("b", "k", b"2", NOW)
    intake.once("a", "k", b"2", NOW + KEPT + timedelta(hours=1))


def test_feedback_is_on_a_reason_of_a_score(client, intake):
    part = client.get("/v1/accounts/A-0030/score").json()["scores"]["churn"]
    code = (part["raises"] + part["lowers"])[0]["code"]
    good = {"score_id": part["score_id"], "reason_code": code, "verdict": "useful"}
    items = [
        good,
        {**good, "score_id": "0" * 32},
        {**good, "reason_code": "churn.moon.raises"},
        {**good, "verdict": "wrong", "note": "they hired"},
    ]
    told = client.post("/v1/feedback", json={"feedback": items})
    assert statuses(told) == ["recorded", "unknown_score", "unknown_reason", "recorded"]
    assert statuses(client.post("/v1/feedback", json={"feedback": [good]})) == ["known"]
    kept = {row["verdict"]: row for row in intake.feedback()}
    assert kept["useful"]["account_id"] == "A-0030"
    assert kept["wrong"]["note"] == "they hired"


def test_the_history_of_an_account(client):
    served = client.get("/v1/accounts/A-0033/score").json()["scores"]["churn"]
    answer = client.get("/v1/accounts/A-0033/history?limit=3")
    past = TypeAdapter(HistoryAnswer).validate_json(answer.content)["targets"]["churn"]
    assert past[0]["score_id"] == served["score_id"]
    assert past[0]["probability"] == served["probability"]
    assert [score["served_at"] for score in past] == sorted(
        (s["served_at"] for s in past), reverse=True
    )
    score = client.get("/v1/accounts/A-0033/score").json()["scores"]
    for target, past in answer.json()["targets"].items():
        for item in past:
            asked = {name: score[target][name] for name in ("asks_about", "until")}
            assert {name: item[name] for name in asked} == asked
    assert client.get("/v1/accounts/nobody/history").status_code == 404


# ---------------------------------------------------------------- what if


def suppose(client, **asked):
    return client.post("/v1/what-if", json=asked)


def test_a_supposition_stands_beside_the_account_as_it_is(client, live):
    before = live.ledger.scores.count()
    score = client.get("/v1/accounts/A-0030/score").json()["scores"]["churn"]["probability"]
    kept = live.ledger.scores.count()
    answer = suppose(client, account_id="A-0030", features={"active_users_28d": 0.0})
    told = TypeAdapter(WhatIfAnswer).validate_json(answer.content)
    churn = told["scores"]["churn"]
    assert churn["before"] == score
    assert churn["difference"] == pytest.approx(churn["probability"] - score, abs=1e-12)
    assert churn["difference"] > 0, "the world loses who uses less"
    assert told["changed"][0]["before"] > 0
    assert "not what changing them would do" in told["note"]
    assert kept > before
    assert live.ledger.scores.count() == kept, "a supposition is no score of the account"


def test_the_values_the_account_has_suppose_nothing(client, live):
    stage = live.current()
    row = stage.store.online(stage.scorer.feature_hash, stage.scorer.width, ["A-0030"])
    names = stage.release.feature_set["names"]
    same = {
        name: None if math.isnan(value) else value
        for name, value in zip(names, row.values[0].tolist(), strict=True)
    }
    whole = TypeAdapter(WhatIfAnswer).validate_json(suppose(client, features=same).content)
    beside = TypeAdapter(WhatIfAnswer).validate_json(
        suppose(client, account_id="A-0030", features=same).content
    )
    assert beside["scores"]["churn"]["difference"] == 0
    assert whole["scores"]["churn"]["probability"] == beside["scores"]["churn"]["probability"]


def test_missing_and_unusual_values_are_named(client):
    told = suppose(client, features={"active_users_28d": 1e9, "tickets_28d": None}).json()
    assert "tickets_28d" in told["missing"]
    assert "active_users_28d" not in told["missing"]
    unusual = {item["feature"]: item for item in told["out_of_range"]}
    assert unusual["active_users_28d"]["high"] < 1e9


def test_a_feature_nobody_knows_gets_a_hint(client):
    refused = suppose(client, features={"active_user_28d": 1.0})
    assert refused.status_code == 422
    assert 'did you mean "active_users_28d"?' in refused.json()["errors"][0]["message"]
    wrong = suppose(client, featurs={"active_users_28d": 1.0})
    assert 'did you mean "features"?' in wrong.text.replace("\\", "")


def test_a_feature_that_the_release_does_not_use_changes_nothing(client, live):
    used = set(live.current().release.feature_set["names"])
    [*unused] = sorted(set(meanings()) - used)
    assert unused, "the company lacks some tables"
    alone = suppose(client, account_id="A-0030", features={unused[0]: 1.0}).json()
    assert alone["ignored"] == [unused[0]]
    assert alone["changed"] == []
    assert {part["difference"] for part in alone["scores"].values()} == {0.0}
    both = suppose(
        client, account_id="A-0030", features={unused[0]: 1.0, "active_users_28d": 0.0}
    ).json()
    assert [item["feature"] for item in both["changed"]] == ["active_users_28d"]


def test_the_contract_names_every_feature_that_can_be_supposed(client, live):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    told = schemas["WhatIfRequest"]["properties"]["features"]
    assert told["additionalProperties"] is False
    assert set(live.current().release.feature_set["names"]) <= set(told["properties"])
    assert suppose(client, features=dict.fromkeys(told["properties"], 0.5)).status_code == 200


def test_only_predicted_accounts_can_be_supposed_about(client):
    assert suppose(client, account_id="nobody", features={"tickets_28d": 1}).status_code == 404
    told = suppose(client, account_id="A-0006", features={"tickets_28d": 1}).json()
    assert told["type"] == "/v1/problems/not-predicted"
    assert "notice_given" in told["detail"]


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999", b"true", b'"3"', b"[1]", b"{}"])
def test_values_that_are_no_numbers_are_refused(client, value):
    body = b'{"features": {"tickets_28d": ' + value + b"}}"
    headers = {"Content-Type": "application/json"}
    refused = client.post("/v1/what-if", content=body, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["type"] == "/v1/problems/invalid-request"
