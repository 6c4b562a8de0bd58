"""Change of an account's scores since its previous score."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from serving.api.openapi import guarded, problems
from serving.api.requests import json_answer
from serving.api.routes.scores import AccountId, answered, is_account_id
from serving.api.schemas.changes import Change, ChangesAnswer
from serving.auth.permissions import SCORE
from serving.http.problems import ProblemError
from serving.http.score_text import INVALID, UNKNOWN
from serving.online.current_state import Live
from serving.scoring.scorer import status

router = APIRouter(prefix="/v1", tags=["scores"])


def _iso_date(value: object) -> object:
    """Refuse other notations that pydantic accepts: seconds since 1970, timestamps."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(value)):
        raise ValueError("write it as 2026-03-31")
    return value


Before = Annotated[
    date | None,
    BeforeValidator(_iso_date),
    Query(description="compare with the last score before this day, UTC"),
]


@router.get(
    "/accounts/{account_id:path}/changes",
    summary="Change since the previous score",
    response_model=None,
    **guarded(SCORE),
    responses={200: {"model": ChangesAnswer}, **problems(404, 422, 503)},
)
async def changes_of_one(
    account_id: AccountId, request: Request, live: Live, before: Before = None
) -> Response:
    """Score the account and explain the difference to the last score of another as_of or model.

    The parts add up to the difference. A difference within its uncertainty is reported as no clear
    change.
    """
    if not is_account_id(account_id):
        raise ProblemError("invalid-account-id", status(INVALID)["status_text"])
    scored = await answered(live, account_id, request)
    answer = scored.answers[0]
    if answer["status"] == UNKNOWN:
        raise ProblemError("unknown-account", f"no account {account_id!r} in the published scores")
    moment = datetime.combine(before, time(), UTC) if before else None
    work = partial(live.changes, scored.rows, served_before=moment)
    found = await asyncio.get_running_loop().run_in_executor(live.singles, work)
    body: ChangesAnswer = {
        "account_id": answer["account_id"],
        "status": answer["status"],
        "status_text": answer["status_text"],
        "as_of": answer.get("as_of"),
        "changes": {change["target"]: cast("Change", change) for change in found},
    }
    return json_answer(body)
