"""Score jobs: results that equal the API's, once per key, resumed after a kill, bounded."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter
from sqlalchemy import select

from configs.runtime.database import reading
from configs.runtime.errors import UnavailableError
from configs.runtime.state_directory import State
from configs.runtime.tables import scores_table
from configs.schema.workspace import Environment
from serving.api.schemas.jobs import JobAnswer
from serving.auth.permissions import Caller
from serving.http.problems import ProblemError
from serving.online.jobs import ABANDONED, CHUNK, MAX_WAITING, Jobs
from serving.online.server_state import ServerState
from serving.scoring.answer import Answer
from serving.scoring.export_columns import COLUMNS
from serving.scoring.export_rows import flat_row

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.fixture
def jobs(world, tmp_path, url, live, monkeypatch):
    """The jobs of a state directory of their own, in place of the worker's."""
    places = Environment(ledger_url=url or None)
    made = Jobs(replace(world.workspace, state=State(tmp_path), places=places))
    monkeypatch.setattr(live.stores, "jobs", made)
    yield made
    made.close()


def test_a_whole_book_in_three_formats(client, live, jobs, book):
    made = client.post("/v1/score-jobs", json={})
    assert made.status_code == 202
    where = made.headers["location"]
    assert TypeAdapter(JobAnswer).validate_json(made.content)["state"] == "queued"
    early = client.get(f"{where}/results")
    assert early.json()["type"] == "/v1/problems/job-not-done"
    assert jobs.run_next(live, datetime.now(UTC)).state == "done"
    assert jobs.run_next(live, datetime.now(UTC)) is None
    told = client.get(where).json()
    assert (told["n_done"], told["release_id"]) == (260, live.current().release.release_id)

    lines = client.get(f"{where}/results").content.splitlines()
    answers = [TypeAdapter(Answer).validate_json(line) for line in lines]
    assert len({answer["account_id"] for answer in answers}) == 260
    kept = live.ledger.scores.find(answers[0]["scores"]["churn"]["score_id"])
    assert (kept.request_id, kept.channel) == (told["job_id"], "batch")

    table = pq.read_table(io.BytesIO(client.get(f"{where}/results?format=parquet").content))
    assert table.column_names == list(COLUMNS)
    first = flat_row(orjson.loads(lines[0]))
    assert table.slice(0, 1).to_pylist()[0]["churn_risk"] == first["churn_risk"]
    csv = client.get(f"{where}/results?format=csv").text
    assert csv.count("\r\n") == 261
    assert "'=HYPERLINK" in csv


def test_the_same_key_is_the_same_job(client, jobs):
    headers = {"Idempotency-Key": "nightly"}
    asked = {"account_ids": ["A-0030"]}
    first = client.post("/v1/score-jobs", json=asked, headers=headers).json()
    assert client.post("/v1/score-jobs", json=asked, headers=headers).json() == first
    other = client.post("/v1/score-jobs", json={"account_ids": ["x"]}, headers=headers)
    assert other.json()["type"] == "/v1/problems/idempotency-key-reused"
    assert len(client.get("/v1/score-jobs").json()["results"]) == 1


def test_what_a_killed_worker_left_is_taken_up_where_it_stopped(live, jobs, monkeypatch):
    ids = [f"A-{i % 260:04d}" for i in range(CHUNK + 100)]
    jobs.create(ids, "crm", "", None, NOW)
    append, calls = live.ledger.append, []

    def killed(rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt  # what is not caught ends a worker like a kill does
        return append(rows)

    monkeypatch.setattr(live.ledger, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        jobs.run_next(live, NOW)
    alive = datetime.now(UTC)
    assert jobs.run_next(live, alive) is None, "it may be running elsewhere"
    done = jobs.run_next(live, alive + ABANDONED + timedelta(seconds=5))
    assert (done.state, done.n_done) == ("done", CHUNK + 100)
    assert len(calls) == 3, "the first part was not scored again"
    lines = jobs.results(done, "jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["account_id"] for line in lines] == ids


WORKER = """
import os
from datetime import UTC, datetime
from serving.online.server_state import ServerState, workspace_from_environment

live = ServerState(workspace_from_environment(os.environ))
live.refresh()
live.jobs.run_next(live, datetime.now(UTC))
"""


@pytest.mark.slow
def test_a_job_outlives_the_process_that_worked_on_it(fresh, url):
    places = Environment(ledger_url=url or None)
    serving = ServerState(replace(fresh, places=places))
    serving.refresh()
    ids = [f"A-{i % 260:04d}" for i in range(12 * CHUNK)]
    job = serving.jobs.create(ids, "crm", "", None, datetime.now(UTC))
    environment = os.environ | {
        "BELLWETHER_COMPANY": str(fresh.folder),
        "BELLWETHER_STATE": str(fresh.state.root),
        **({"BELLWETHER_LEDGER_URL": url} if url else {}),
    }
    child = subprocess.Popen([sys.executable, "-c", WORKER], env=environment, cwd=ROOT)
    try:
        while serving.jobs.find(job.job_id).n_done < 2 * CHUNK:
            assert child.poll() is None, "the worker ended before it was killed"
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        left = serving.jobs.find(job.job_id)
        assert left.state == "running"
        assert 2 * CHUNK <= left.n_done < len(ids)
        [first] = serving.jobs.folder.glob(f"{job.job_id}/*/000000000.jsonl")
        before = first.read_bytes()

        done = serving.jobs.run_next(serving, datetime.now(UTC) + ABANDONED + timedelta(seconds=5))
        assert (done.state, done.n_done) == ("done", len(ids))
        results = serving.jobs.results(done, "jsonl").read_bytes()
        assert results.startswith(before), "what was scored before the kill is kept as it was"
        answers = [orjson.loads(line) for line in results.splitlines()]
        assert [answer["account_id"] for answer in answers] == ids
        shown = {part["score_id"] for a in answers for part in a.get("scores", {}).values()}
        with reading(serving.ledger.engine) as connection:
            kept = set(connection.execute(select(scores_table.c.score_id)).scalars())
        assert shown
        assert shown <= kept, "no score is given out that the ledger does not have"
    finally:
        child.kill()
        child.wait()
        serving.close()


def test_a_worker_taken_for_dead_leaves_the_job_to_the_other(live, jobs, monkeypatch):
    ids = [f"A-{i % 260:04d}" for i in range(CHUNK + 100)]
    jobs.create(ids, "crm", "", None, NOW)
    score, others = live.score, []

    def stopped(*args, **kwargs):
        scored = score(*args, **kwargs)
        if not others:
            others.append(None)  # the other is not stopped
            others.append(jobs.run_next(live, NOW + ABANDONED + timedelta(seconds=5)))
        return scored

    monkeypatch.setattr(live, "score", stopped)
    seen = jobs.run_next(live, NOW)
    assert (others[1].state, others[1].n_done) == ("done", len(ids))
    assert seen == others[1], "who was taken for dead changed nothing"
    lines = jobs.results(seen, "jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["account_id"] for line in lines] == ids


def test_a_dependency_that_is_away_delays_a_job(live, jobs, monkeypatch):
    jobs.create(["A-0030"], "crm", "", None, NOW)

    def away(*_, **__):
        raise UnavailableError("the online store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(live, "score", away)
        waits = jobs.run_next(live, NOW)
    assert waits.state == "running"
    assert "does not answer" in waits.problem
    assert jobs.run_next(live, NOW + timedelta(minutes=1)).state == "done"


def test_the_number_of_jobs_is_bounded(client, jobs):
    for _ in range(MAX_WAITING):
        jobs.create(["A-0030"], "crm", "", None, NOW)
    refused = client.post("/v1/score-jobs", json={})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


def test_a_job_is_its_callers_and_sees_what_they_see(client, live, jobs, monkeypatch):
    job = jobs.create(["A-0030", "A-0001"], "person csm-1", "", frozenset({"csm-1"}), NOW)
    jobs.run_next(live, NOW)
    lines = jobs.results(jobs.find(job.job_id), "jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["status"] for line in lines] == ["unknown_account", "scored"]
    stranger = Caller("key other", frozenset({"score"}))
    monkeypatch.setattr(type(live.door), "caller", lambda *_: stranger)
    assert client.get(f"/v1/score-jobs/{job.job_id}").status_code == 404
    assert client.get("/v1/score-jobs").json() == {"results": []}
    with pytest.raises(ProblemError, match="not kept"):
        jobs.results(replace(job, job_id="f" * 32, state="done"), "csv")
