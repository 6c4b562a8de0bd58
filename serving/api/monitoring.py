"""How the published models fare."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.api import schemas
from serving.api.openapi import guarded, problems
from serving.api.requests import GetLive, json_answer
from serving.auth.permissions import READ
from serving.http.problems import ProblemError


def monitoring(get_live: GetLive) -> APIRouter:
    """Return the operation that tells what was seen last of drift and performance."""
    router = APIRouter(prefix="/v1", tags=["about"])

    @router.get(
        "/monitoring",
        summary="Drift, expected and realised performance",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": schemas.Monitoring}, **problems(404)},
    )
    async def watch(request: Request) -> Response:
        """Return what was seen last; it is looked at after every book.

        Nothing is called drift that so few accounts cannot support.
        """
        seen = get_live(request).monitoring
        if seen is None:
            raise ProblemError("not-found", "nothing was looked at yet; run `bellwether monitor`")
        return json_answer(seen)

    return router
