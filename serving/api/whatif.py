"""Suppositions: scores from supplied features."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.api import schemas
from serving.api.openapi import guarded, problems
from serving.api.request_bodies import read_body
from serving.api.requests import GetLive, json_answer
from serving.auth.permissions import SCORE, caller_of
from serving.online.whatif import suppose


def whatif(get_live: GetLive) -> APIRouter:
    """Return the operation that scores supplied features."""
    router = APIRouter(prefix="/v1", tags=["scores"])

    @router.post(
        "/what-if",
        summary="Suppose other values of some features",
        response_model=None,
        **guarded(SCORE, schemas.WhatIfRequest),
        responses={
            200: {"model": schemas.WhatIfAnswer},
            **problems(404, 408, 409, 413, 415, 422, 503),
        },
    )
    async def what_if(request: Request) -> Response:
        """Score an account as if some features were different, or features alone.

        Nothing is kept in the ledger. What differs is what the model associates with such values,
        not what would happen if somebody changed them.
        """
        asked = await read_body(request, schemas.WhatIfRequest)
        live = get_live(request)
        owners = caller_of(request).owners(live.managers)
        work = partial(suppose, live, asked.features, asked.account_id, owners)
        return json_answer(await asyncio.get_running_loop().run_in_executor(live.singles, work))

    return router
