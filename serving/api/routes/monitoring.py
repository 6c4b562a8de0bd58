"""Monitoring of the published models."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from serving.api.openapi import guarded, problems
from serving.api.requests import json_answer
from serving.auth.permissions import READ
from serving.http.problems import ProblemError
from serving.monitoring.report import Monitoring
from serving.online.current_state import Live

router = APIRouter(prefix="/v1", tags=["about"])


@router.get(
    "/monitoring",
    summary="Drift, expected and realised performance",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": Monitoring}, **problems(404)},
)
async def watch(live: Live) -> Response:
    """Return the latest monitoring report; it is made after every score run.

    Drift is reported only where the number of accounts supports it.
    """
    report = live.monitoring
    if report is None:
        raise ProblemError("not-found", "no monitoring report yet; run `bellwether monitor`")
    return json_answer(report)
