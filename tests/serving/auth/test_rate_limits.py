"""How often a caller may ask: exact over all workers, said as a problem, and over by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.schema.company import Limits
from serving.auth.api_keys import KeyStore
from serving.auth.permissions import LOCAL, Caller
from serving.auth.rate_limits import N_SLOTS, RateLimiter
from serving.http.problems import ProblemError, headers_of, of_error

ROOT = Path(__file__).resolve().parents[3]
CRM, ADA = Caller("key 0a1b2c", frozenset()), Caller("person ada@example.com", frozenset())
NOW = 1_772_000_000.0


@pytest.fixture
def limiter_of(tmp_path):
    made = []

    def make(**limits) -> RateLimiter:
        made.append(RateLimiter(Limits(**limits), tmp_path / "ledger" / "limits"))
        return made[-1]

    yield make
    for item in made:
        item.close()


def n_allowed(limiter: RateLimiter, caller: Caller, n: int, now: float) -> int:
    n_refused = 0
    for _ in range(n):
        try:
            limiter.check(caller, now)
        except ProblemError:
            n_refused += 1
    return n - n_refused


def test_as_many_as_allowed_pass_in_a_minute_and_then_at_that_rate(limiter_of):
    limiter = limiter_of(requests_per_minute=30)
    assert n_allowed(limiter, CRM, 50, NOW) == 30
    assert n_allowed(limiter, ADA, 50, NOW) == 30, "each has their own"
    limit = "the key 0a1b2c may send 30 requests per minute"
    with pytest.raises(ProblemError, match=limit) as caught:
        limiter.check(CRM, NOW)
    document = of_error(caught.value)
    assert (document["status"], document["type"]) == (429, "/v1/problems/rate-limited")
    assert headers_of(document)["Retry-After"] == "2"
    assert n_allowed(limiter, CRM, 50, NOW + 2) == 1
    assert n_allowed(limiter, CRM, 50, NOW + 20) == 9
    assert n_allowed(limiter, CRM, 50, NOW + 600) == 30, "no more is saved up than a minute's"


def test_single_callers_have_limits_of_their_own_and_this_machine_has_none(limiter_of):
    limiter = limiter_of(requests_per_minute=5, callers={"0a1b2c": 9, "ada@example.com": 2})
    assert n_allowed(limiter, CRM, 20, NOW) == 9
    assert n_allowed(limiter, ADA, 20, NOW) == 2
    assert n_allowed(limiter, Caller("key other", frozenset()), 20, NOW) == 5
    assert n_allowed(limiter, LOCAL, 20_000, NOW) == 20_000
    assert n_allowed(limiter_of(requests_per_minute=None), CRM, 20_000, NOW) == 20_000


ASKER = """
import sys
from pathlib import Path
from configs.schema.company import Limits
from serving.auth.permissions import Caller
from serving.auth.rate_limits import RateLimiter
from serving.http.problems import ProblemError

limiter = RateLimiter(Limits(requests_per_minute=100), Path(sys.argv[1]))
n = 0
for _ in range(200):
    try:
        limiter.check(Caller("key 0a1b2c", frozenset()), float(sys.argv[2]))
        n += 1
    except ProblemError:
        pass
print(n)
"""


def test_processes_count_together(limiter_of, tmp_path):
    words = [sys.executable, "-c", ASKER, str(tmp_path / "ledger" / "limits"), str(NOW)]
    with ThreadPoolExecutor(3) as pool:
        told = pool.map(lambda _: subprocess.check_output(words, cwd=ROOT, text=True), range(3))
        assert sum(map(int, told)) == 100
    assert n_allowed(limiter_of(requests_per_minute=100), CRM, 5, NOW) == 0
    assert n_allowed(limiter_of(requests_per_minute=100), CRM, 5, NOW - 3_600) == 5, "a clock back"


def test_many_callers_find_room_one_after_the_other(limiter_of):
    limiter = limiter_of(requests_per_minute=1)
    for n in range(N_SLOTS + 500):
        limiter.check(Caller(f"key {n}", frozenset()), NOW + n)
    assert n_allowed(limiter, Caller(f"key {n}", frozenset()), 1, NOW + n) == 0


def test_without_a_file_each_worker_counts_by_itself(tmp_path):
    (tmp_path / "ledger").write_text("in the way")
    limiter = RateLimiter(Limits(requests_per_minute=3), tmp_path / "ledger" / "limits")
    assert n_allowed(limiter, CRM, 9, NOW) == 3


def test_the_contract_says_it(client):
    document = client.get("/openapi.json").json()
    for methods in document["paths"].values():
        for operation in methods.values():
            answer = operation["responses"]["429"]
            examples = answer["content"]["application/problem+json"]["examples"]
            assert "rate-limited" in examples
            assert "Retry-After" in answer["headers"]
    assert client.get("/v1/problems/rate-limited").json()["status"] == 429


@pytest.mark.slow
def test_the_real_service_refuses_a_key_that_asks_too_often(world, copy_of, service_for, tmp_path):
    folder = tmp_path / "company"
    folder.mkdir()
    raw = json.loads((world.workspace.folder / "company.yaml").read_text())
    raw["limits"] = {"requests_per_minute": 12}
    (folder / "company.yaml").write_text(json.dumps(raw))
    workspace = replace(copy_of(world, tmp_path), folder=folder)
    store = KeyStore(workspace)
    keys = [store.create(name, ["read", "score"], datetime.now(UTC), 1) for name in ("a", "b")]
    store.close()
    with service_for(workspace, BELLWETHER_WORKERS="2") as server:
        server.wait_until(lambda: len(server.workers()) == 2)

        def ask(key: str):
            headers = {"X-API-Key": key, "Connection": "close"}
            return server.get("/v1/release", headers=headers)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: ask(keys[0]), range(40)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert 40 - len(refused) in range(12, 19), "a few more at the rate, while it lasted"
        for answer in refused:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "/v1/problems/rate-limited"
            assert 0 < int(answer.headers["retry-after"]) <= 10
        assert ask(keys[1]).status_code == 200
        assert keys[0] not in server.log.read_text()
