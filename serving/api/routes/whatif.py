"""Scores for assumed feature values."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.api.openapi import guarded, problems
from serving.api.request_bodies import read_body
from serving.api.requests import json_answer
from serving.api.schemas.whatif import WhatIfAnswer, WhatIfRequest
from serving.auth.permissions import SCORE, caller_of
from serving.online.current_state import Live
from serving.online.whatif import suppose

router = APIRouter(prefix="/v1", tags=["scores"])


@router.post(
    "/what-if",
    summary="Score an account with other feature values",
    response_model=None,
    **guarded(SCORE, WhatIfRequest),
    responses={200: {"model": WhatIfAnswer}, **problems(404, 408, 409, 413, 415, 422, 503)},
)
async def what_if(request: Request, live: Live) -> Response:
    """Score an account with some features changed, or features without an account.

    The result is not stored in the ledger. The difference is what the model associates with these
    values, not the effect of changing them.
    """
    asked = await read_body(request, WhatIfRequest)
    owners = caller_of(request).owners(live.managers)
    work = partial(suppose, live, asked.features, asked.account_id, owners)
    return json_answer(await asyncio.get_running_loop().run_in_executor(live.singles, work))
