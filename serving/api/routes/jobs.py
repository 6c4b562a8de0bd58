"""Score jobs: scoring of many accounts in the background."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import FileResponse, Response

from serving.api.openapi import guarded, problems
from serving.api.request_bodies import read_body
from serving.api.requests import json_answer
from serving.api.routes.scores_list import visible_scores
from serving.api.schemas.jobs import JobAnswer, JobList, JobRequest
from serving.auth.permissions import ADMIN, SCORE, caller_of, sees_people
from serving.http.problems import ProblemError
from serving.http.score_text import to_second
from serving.online.current_state import Live
from serving.online.jobs import FORMATS, Job
from serving.online.server_state import ServerState

router = APIRouter(prefix="/v1", tags=["jobs"])

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
IdempotencyKey = Annotated[
    str,
    Header(
        description="a repeated request with the same key is executed once and answered the same",
        pattern=r"^[\x21-\x7e]{0,200}$",
    ),
]
Format = Annotated[
    str, Query(alias="format", pattern="^(jsonl|csv|parquet)$", description=", ".join(FORMATS))
]

_FILES: dict[str, Any] = {
    "description": "In the order of the request; one line or row per account.",
    "content": {
        kind: {"schema": {"type": "string", **extra}}
        for kind, extra in (
            (FORMATS["jsonl"], {}),
            (FORMATS["csv"], {}),
            (FORMATS["parquet"], {"format": "binary"}),
        )
    },
}


@router.post(
    "/score-jobs",
    summary="Score many accounts in the background",
    status_code=202,
    response_model=None,
    **guarded(SCORE, JobRequest),
    responses={202: {"model": JobAnswer}, **problems(408, 409, 413, 415, 422, 503)},
)
async def create_job(
    request: Request, live: Live, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Queue a job and return its state; results are kept until later jobs replace them."""
    asked, caller = await read_body(request, JobRequest), caller_of(request)
    account_ids = asked.account_ids
    if account_ids is None:
        account_ids = visible_scores(live, request).table["account_id"].to_pylist()
    job = await asyncio.to_thread(
        live.jobs.create,
        account_ids,
        caller.name,
        idempotency_key,
        caller.owners(live.managers),
        datetime.now(UTC),
        sees_people=sees_people(live.workspace.company, caller),
    )
    answer = json_answer(_job_answer(job))
    answer.status_code = 202
    answer.headers["Location"] = f"/v1/score-jobs/{job.job_id}"
    return answer


@router.get(
    "/score-jobs",
    summary="Your score jobs, newest first",
    response_model=None,
    **guarded(SCORE),
    responses={200: {"model": JobList}},
)
async def list_jobs(request: Request, live: Live) -> Response:
    """Return the caller's jobs; administrators get all jobs."""
    caller = caller_of(request)
    found = await asyncio.to_thread(live.jobs.of, None if caller.may(ADMIN) else caller.name)
    return json_answer({"results": [_job_answer(job) for job in found]})


@router.get(
    "/score-jobs/{job_id}",
    summary="State of a score job",
    response_model=None,
    **guarded(SCORE),
    responses={200: {"model": JobAnswer}, **problems(404, 422)},
)
async def read_job(job_id: JobId, request: Request, live: Live) -> Response:
    """Return the state of a job and the number of scored accounts."""
    return json_answer(_job_answer(await _visible_job(live, job_id, request)))


@router.get(
    "/score-jobs/{job_id}/results",
    summary="Results of a score job",
    response_model=None,
    **guarded(SCORE),
    responses={200: _FILES, **problems(404, 409, 422)},
)
async def read_results(
    job_id: JobId, request: Request, live: Live, kind: Format = "jsonl"
) -> Response:
    """Return API answers as JSON lines, or canonical rows as CSV or Parquet."""
    job = await _visible_job(live, job_id, request)
    return FileResponse(
        live.jobs.results(job, kind),
        media_type=FORMATS[kind],
        filename=f"scores-{job_id}.{kind}",
        headers={"Cache-Control": "no-store"},
    )


async def _visible_job(live: ServerState, job_id: str, request: Request) -> Job:
    caller = caller_of(request)
    job = await asyncio.to_thread(live.jobs.find, job_id)
    if job is None or not (caller.may(ADMIN) or job.caller == caller.name[:200]):
        raise ProblemError("not-found", f"you have no job {job_id}")
    return job


def _job_answer(job: Job) -> JobAnswer:
    return {
        "job_id": job.job_id,
        "state": cast("Literal['queued', 'running', 'done', 'failed']", job.state),
        "n_accounts": job.n_accounts,
        "n_done": job.n_done,
        "release_id": job.release_id,
        "created_at": to_second(job.created_at),
        "finished_at": to_second(job.finished_at) if job.finished_at else None,
        "problem": job.problem,
    }
