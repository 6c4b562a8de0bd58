"""The /v1 contract: shapes, problems, limits, and that nothing is answered before it is kept."""

from __future__ import annotations

import re
from concurrent.futures import Future

import httpx
import orjson
import pytest
from pydantic import TypeAdapter

from configs.runtime.errors import UnavailableError
from serving.api.middleware import MAX_BODY_BYTES, PAGE_POLICY
from serving.api.schemas.catalogue import Health, ReleaseAnswer
from serving.api.schemas.scores import BatchAnswer, ScoresPage
from serving.batch.filters import CURSOR
from serving.http.problems import MEDIA_TYPE, OF_STATUS, TYPES, Problem
from serving.http.prometheus import Metrics
from serving.ledger.store.ledger import Ledger
from serving.online.release_loader import LoadedRelease
from serving.online.server_state import ServerState
from serving.scoring.answer import Answer
from training.model.reason_text import reason_catalogue

JSON = {"Content-Type": "application/json"}


def problem_of(response: httpx.Response, slug: str) -> dict:
    """Check that a response is a documented problem, and return it."""
    assert response.headers["content-type"] == MEDIA_TYPE
    document = response.json()
    TypeAdapter(Problem).validate_python(document)
    assert document["type"] == f"/v1/problems/{slug}"
    assert document["status"] == response.status_code == TYPES[slug].status
    assert document["title"] == TYPES[slug].title
    assert document["instance"] == response.headers["x-request-id"]
    return document


@pytest.fixture
def away(world):
    """A worker of its own, whose parts a test may take away."""
    serving = ServerState(world.workspace)
    serving.refresh()
    yield serving
    serving.close()


def batch(client, body, headers=JSON) -> httpx.Response:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return client.post("/v1/scores", content=content, headers=headers)


def test_one_account(client, world):
    answer = client.get("/v1/accounts/A-0030/score")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    checked = TypeAdapter(Answer).validate_json(answer.content)
    assert checked["status"] == "scored"
    assert checked["release_id"] == world.release.release_id
    assert set(checked["scores"]) == {"churn", "expansion"}
    assert 0 < checked["churn_risk"] < 1


def test_every_score_given_out_is_in_the_ledger(client, world):
    answer = client.get("/v1/accounts/A-0033/score").json()
    with Ledger.open(world.workspace) as ledger:
        for part in answer["scores"].values():
            kept = ledger.scores.find(part["score_id"])
            assert kept.probability == part["probability"]
            assert kept.entity_id == "A-0033"
            assert kept.channel == "api"
            assert [r["code"] for r in kept.reasons] == [
                r["code"] for r in (*part["raises"], *part["lowers"])
            ]


def test_an_unknown_account_is_a_problem(client):
    assert (
        "nobody" in problem_of(client.get("/v1/accounts/nobody/score"), "unknown-account")["detail"]
    )


def test_an_account_that_is_not_predicted_is_an_answer(client):
    answer = client.get("/v1/accounts/A-0006/score")
    assert answer.status_code == 200
    assert answer.json()["status"] == "notice_given"
    assert "scores" not in answer.json()


@pytest.mark.parametrize("path", ["/v1/accounts/a%2Fb/score", "/v1/accounts/%F0%9F%9A%80/score"])
def test_ids_may_hold_anything(client, path):
    problem_of(client.get(path), "unknown-account")


def test_an_id_that_is_none_is_a_problem(client):
    problem_of(client.get(f"/v1/accounts/{'x' * 201}/score"), "invalid-account-id")


def test_a_batch_answers_in_the_order_asked(client, world):
    asked = ["A-0031", "nobody", "A-0006", 7, "A-0031", None, ""]
    answer = batch(client, {"account_ids": asked})
    assert answer.status_code == 200
    checked = TypeAdapter(BatchAnswer).validate_json(answer.content)
    assert [item["status"] for item in checked["results"]] == [
        "scored",
        "unknown_account",
        "notice_given",
        "invalid_account_id",
        "scored",
        "invalid_account_id",
        "invalid_account_id",
    ]
    assert checked["results"][0] == checked["results"][4]
    assert checked["counts"]["scored"] == 2
    assert checked["release_id"] == world.release.release_id
    for item in checked["results"]:
        slug = OF_STATUS.get(item["status"])
        assert (item["problem"]["type"] if "problem" in item else None) == (
            f"/v1/problems/{slug}" if slug else None
        )


def test_a_batch_of_nothing_known_is_still_an_answer(client):
    counts = batch(client, {"account_ids": ["x", 1]}).json()["counts"]
    assert counts == {"unknown_account": 1, "invalid_account_id": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"account_ids": NaN}',
        b'{"account_ids": ["a", Infinity]}',
        b'{"account_ids": "A-1"}',
        b'{"account_ids": []}',
        b'{"account_id": ["A-1"]}',
        b"\xff\xfe",
        orjson.dumps({"account_ids": ["x"] * 1001}),
        orjson.dumps({"account_ids": ["x"], "more": 1}),
    ],
)
def test_a_body_that_is_not_ours_is_refused(client, body):
    problem_of(batch(client, body), "invalid-request")


def test_a_wrong_key_gets_a_hint(client):
    document = problem_of(batch(client, {"account_idz": ["a"]}), "invalid-request")
    assert 'did you mean "account_ids"?' in document["detail"]
    assert document["errors"][0]["pointer"] == "/account_idz"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(client, kind):
    headers = {"Content-Type": kind} if kind else {}
    problem_of(batch(client, b"{}", headers), "unsupported-media-type")


def test_a_large_body_is_refused_by_its_length(client):
    problem_of(batch(client, b"x" * (MAX_BODY_BYTES + 1)), "too-large")


def test_a_large_body_in_parts_is_refused_too(client):
    async def parts():
        for _ in range(20):
            yield b" " * 100_000

    answer = client.post("/v1/scores", content=parts(), headers=JSON)
    problem_of(answer, "too-large")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.:80"])
def test_other_host_names_are_not_answered(client, host):
    problem_of(client.get("/v1/release", headers={"Host": host}), "wrong-host")


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "[::1]:3000", "LOCALHOST:80"])
def test_loopback_names_are_answered(client, host):
    assert client.get("/v1/release", headers={"Host": host}).status_code == 200


def test_what_is_not_there_and_what_is_not_allowed(client):
    problem_of(client.get("/v1/nothing"), "not-found")
    refused = client.request("DELETE", "/v1/scores")
    problem_of(refused, "method-not-allowed")
    assert refused.headers["allow"] == "GET, POST"


def test_without_the_ledger_no_score_is_given_out(away, client_for, monkeypatch):
    def full(_rows):
        raise UnavailableError("the ledger is behind")

    monkeypatch.setattr(away.ledger, "submit", full)
    answer = client_for(away).get("/v1/accounts/A-0030/score")
    problem_of(answer, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert b"probability" not in answer.content


def test_a_ledger_that_does_not_commit_in_time_withholds_the_score(away, client_for, monkeypatch):
    monkeypatch.setattr(away.ledger, "submit", lambda _rows: Future())  # never done
    monkeypatch.setattr("serving.api.routes.scores.COMMIT_SECONDS", 0.05)
    client = client_for(away)
    for answer in (
        client.get("/v1/accounts/A-0030/score"),
        batch(client, {"account_ids": ["A-0030"]}),
    ):
        assert b"probability" not in answer.content
        assert "did not commit" in problem_of(answer, "unavailable")["detail"]


class NoStore:
    """An online store that is away."""

    def held(self, *_):
        raise UnavailableError("the online store does not answer")

    def is_ready(self, _):
        return False


def test_without_the_online_store_come_back_later(away, client_for):
    stage = away.current()
    away.stage = LoadedRelease(stage.scorer, NoStore(), stage.vectors)
    http = client_for(away)
    answer = http.get("/v1/accounts/A-0030/score")
    problem_of(answer, "unavailable")
    assert answer.headers["retry-after"]
    health = http.get("/v1/health")
    assert health.status_code == 503
    assert TypeAdapter(Health).validate_json(health.content)["status"] == "not_ready"
    assert http.get("/").status_code == 200, "the published book needs no online store"


def test_before_anything_is_published(away, client_for):
    away.stage = None
    away.book = None
    http = client_for(away)
    problem_of(http.get("/v1/accounts/A-0030/score"), "not-ready")
    problem_of(batch(http, {"account_ids": ["A-0030"]}), "not-ready")
    problem_of(http.get("/v1/scores"), "not-ready")
    assert "No scores yet" in http.get("/").text


def test_what_breaks_unexpectedly_is_a_problem_without_its_inside(away, client_for, monkeypatch):
    monkeypatch.setattr(away, "score", lambda *_, **__: 1 / 0)
    answer = client_for(away).get("/v1/accounts/A-0030/score")
    problem_of(answer, "internal-error")
    assert "division" not in answer.text


def test_the_book_is_paged_without_gaps(client, book):
    seen, cursor = [], ""
    while True:
        answer = client.get("/v1/scores", params={"limit": 90, "cursor": cursor})
        page = TypeAdapter(ScoresPage).validate_json(answer.content)
        seen += [row["account_id"] for row in page["results"]]
        cursor = page["next_cursor"] or ""
        if not cursor:
            break
        assert re.fullmatch(CURSOR, cursor)
    assert len(seen) == len(set(seen)) == page["total"] == 260
    assert page["book_id"] == book.run_id


def test_the_book_is_filtered(client):
    rows = client.get("/v1/scores", params={"owner": "csm-1", "band": "elevated"}).json()["results"]
    assert rows
    assert {row["owner_id"] for row in rows} == {"csm-1"}
    assert {row["risk_band"] for row in rows} == {"elevated"}
    problem_of(client.get("/v1/scores", params={"sort": "; drop"}), "invalid-request")
    problem_of(client.get("/v1/scores", params={"limit": 0}), "invalid-request")
    problem_of(client.get("/v1/scores", params={"cursor": "%%%"}), "invalid-request")
    for cursor in ("b3RoZXI6MTA=", "x", "20260302-4fc1edb85f48.b663e73ae834.0", "9" * 300):
        problem_of(client.get("/v1/scores", params={"cursor": cursor}), "invalid-request")
    earlier = {"cursor": "20250302-4fc1edb85f48.b663e73ae834.100"}
    problem_of(client.get("/v1/scores", params=earlier), "cursor-expired")


def test_what_answers_is_told(client, world):
    release = TypeAdapter(ReleaseAnswer).validate_json(client.get("/v1/release").content)
    assert release["release_id"] == world.release.release_id
    assert release["targets"]["churn"]["bands"] == world.release.bands["churn"]
    card = client.get("/v1/model-card/churn").json()
    assert card["metrics"]["auc"]["value"] == 0.71
    assert "encoder" not in card
    problem_of(client.get("/v1/model-card/nothing"), "not-found")
    health = TypeAdapter(Health).validate_json(client.get("/v1/health").content)
    assert health["is_ready"]
    assert health["status"] == "ok"


def test_every_reason_given_is_in_the_catalogue(client):
    told = client.get("/v1/reasons").json()
    codes = {item["code"] for item in told["reasons"]}
    assert codes == {item.code for item in reason_catalogue()}
    answer = client.get("/v1/accounts/A-0030/score").json()
    for part in answer["scores"].values():
        assert {r["code"] for r in (*part["raises"], *part["lowers"])} <= codes


def test_every_problem_type_is_documented(client):
    listed = client.get("/v1/problems").json()
    assert {item["type"] for item in listed} == {kind.uri for kind in TYPES.values()}
    for item in listed:
        assert client.get(item["type"]).json() == item
        assert item["about"].endswith(".")


def test_openapi_is_3_1_and_without_pages(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert all(path.startswith("/v1/") for path in document["paths"])
    assert "loopback" in document["info"]["description"]
    score = document["paths"]["/v1/accounts/{account_id}/score"]["get"]["responses"]
    assert MEDIA_TYPE in score["404"]["content"]


def test_the_renewal_window_is_a_filter(client):
    window = {"renews_from": "2026-03-10", "renews_until": "2026-06-30"}
    rows = client.get("/v1/scores", params=window).json()["results"]
    assert rows
    assert all("2026-03-10" <= row["renews_on"] <= "2026-06-30" for row in rows)
    refused = client.get("/v1/scores", params={"renews_from": "soon"})
    assert problem_of(refused, "invalid-request")["errors"][0]["pointer"] == "renews_from"


def test_what_came_to_say_something_else_since(client, book):
    said = book.served_at
    assert client.get("/v1/scores", params={"updated_since": said}).json()["total"] == 260
    later = {"updated_since": "2026-03-02T09:30:01Z"}
    assert client.get("/v1/scores", params=later).json()["total"] == 0
    for wrong in ("2026-03-02", "0001-01-01T00:00:00+14:00", "x"):
        problem_of(client.get("/v1/scores", params={"updated_since": wrong}), "invalid-request")


def test_a_cursor_belongs_to_its_filters(client):
    page = client.get("/v1/scores", params={"limit": 1, "owner": "csm-1"}).json()
    other = {"limit": 1, "owner": "csm-2", "cursor": page["next_cursor"]}
    problem_of(client.get("/v1/scores", params=other), "cursor-expired")


def test_security_headers_are_on_every_answer(client):
    for path in ("/", "/v1/release", "/v1/nothing", "/static/style.css", "/metrics"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == PAGE_POLICY, path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_a_request_id_is_kept_or_made(client):
    given = client.get("/v1/release", headers={"X-Request-ID": "crm-42"})
    assert given.headers["x-request-id"] == "crm-42"
    forged = client.get("/v1/release", headers={"X-Request-ID": "a b\tc"})
    assert forged.headers["x-request-id"] not in {"", "a b\tc"}


def test_metrics_name_routes_never_accounts(live, client_for):
    http = client_for(live, Metrics())
    http.get("/v1/accounts/A-0030/score")
    http.get("/accounts/A-0030")
    http.get("/v1/secret-path")
    batch(http, {"account_ids": ["A-0030", "nobody"]})
    text = http.get("/metrics").text
    assert 'route="/v1/accounts/{account_id}/score",status="200"' in text
    assert 'bellwether_accounts_total{status="unknown_account"} 1.0' in text
    assert "A-0030" not in text
    assert "secret-path" not in text
