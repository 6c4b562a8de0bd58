"""Score jobs: whole books in the background."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import FileResponse, Response

from serving.api import schemas
from serving.api.openapi import guarded, problems
from serving.api.request_bodies import read_body
from serving.api.requests import GetLive, json_answer
from serving.api.scores_list import the_book
from serving.auth.permissions import ADMIN, SCORE, caller_of
from serving.http.problems import ProblemError
from serving.http.score_text import to_second
from serving.online.jobs import FORMATS, Job
from serving.online.server_state import ServerState

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
IdempotencyKey = Annotated[
    str,
    Header(
        description="the same key gives the same answer and happens once",
        pattern=r"^[\x21-\x7e]{0,200}$",
    ),
]


def jobs(get_live: GetLive) -> APIRouter:
    """Return the operations on score jobs."""
    router = APIRouter(prefix="/v1", tags=["jobs"])

    @router.post(
        "/score-jobs",
        summary="Score a whole book in the background",
        status_code=202,
        response_model=None,
        **guarded(SCORE, schemas.JobRequest),
        responses={202: {"model": schemas.JobAnswer}, **problems(408, 409, 413, 415, 422, 503)},
    )
    async def create_job(request: Request, idempotency_key: IdempotencyKey = "") -> Response:
        """Queue a job and say where it stands; results wait until some later jobs are done."""
        asked = await read_body(request, schemas.JobRequest)
        live, caller = get_live(request), caller_of(request)
        account_ids = asked.account_ids
        if account_ids is None:
            account_ids = the_book(live, request).table["account_id"].to_pylist()
        job = await asyncio.to_thread(
            live.jobs.create,
            account_ids,
            caller.name,
            idempotency_key,
            caller.owners(live.managers),
            datetime.now(UTC),
        )
        answer = json_answer(_told(job))
        answer.status_code = 202
        answer.headers["Location"] = f"/v1/score-jobs/{job.job_id}"
        return answer

    @router.get(
        "/score-jobs",
        summary="Your score jobs, newest first",
        response_model=None,
        **guarded(SCORE),
        responses={200: {"model": schemas.JobList}},
    )
    async def list_jobs(request: Request) -> Response:
        """Return the jobs the caller asked for; administrators see everybody's."""
        live, caller = get_live(request), caller_of(request)
        whose = None if caller.may(ADMIN) else caller.name
        found = await asyncio.to_thread(live.jobs.of, whose)
        return json_answer({"results": [_told(job) for job in found]})

    @router.get(
        "/score-jobs/{job_id}",
        summary="Where a score job stands",
        response_model=None,
        **guarded(SCORE),
        responses={200: {"model": schemas.JobAnswer}, **problems(404, 422)},
    )
    async def read_job(job_id: JobId, request: Request) -> Response:
        """Return its state, and how many accounts are scored."""
        return json_answer(_told(await _job(get_live(request), job_id, request)))

    @router.get(
        "/score-jobs/{job_id}/results",
        summary="The results of a score job",
        response_model=None,
        **guarded(SCORE),
        responses={200: _FILES, **problems(404, 409, 422)},
    )
    async def read_results(
        job_id: JobId,
        request: Request,
        kind: Annotated[
            str,
            Query(alias="format", pattern="^(jsonl|csv|parquet)$", description=", ".join(FORMATS)),
        ] = "jsonl",
    ) -> Response:
        """Return JSON lines as the API answers, or canonical rows as CSV or Parquet."""
        live = get_live(request)
        job = await _job(live, job_id, request)
        path = live.jobs.results(job, kind)
        return FileResponse(
            path,
            media_type=FORMATS[kind],
            filename=f"scores-{job_id}.{kind}",
            headers={"Cache-Control": "no-store"},
        )

    return router


_FILES: dict[str, Any] = {
    "description": "In the order asked; one line or row per account.",
    "content": {
        kind: {"schema": {"type": "string", **extra}}
        for kind, extra in (
            (FORMATS["jsonl"], {}),
            (FORMATS["csv"], {}),
            (FORMATS["parquet"], {"format": "binary"}),
        )
    },
}


async def _job(live: ServerState, job_id: str, request: Request) -> Job:
    caller = caller_of(request)
    job = await asyncio.to_thread(live.jobs.find, job_id)
    if job is None or not (caller.may(ADMIN) or job.caller == caller.name[:200]):
        raise ProblemError("not-found", f"you have no job {job_id}")
    return job


def _told(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "state": job.state,
        "n_accounts": job.n_accounts,
        "n_done": job.n_done,
        "release_id": job.release_id,
        "created_at": to_second(job.created_at),
        "finished_at": to_second(job.finished_at) if job.finished_at else None,
        "problem": job.problem,
    }
