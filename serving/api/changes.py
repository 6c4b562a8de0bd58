"""What changed since an account's last score."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from serving.api import schemas
from serving.api.openapi import guarded, problems
from serving.api.requests import GetLive, json_answer
from serving.api.scores import AccountId, answered, is_account_id
from serving.auth.permissions import SCORE
from serving.http.problems import ProblemError
from serving.http.score_text import INVALID, UNKNOWN
from serving.scoring.scorer import status


def _written_out(value: object) -> object:
    """Refuse what pydantic also takes for a day: seconds since 1970, instants."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(value)):
        raise ValueError("write it as 2026-03-31")
    return value


Before = Annotated[
    date | None,
    BeforeValidator(_written_out),
    Query(description="compare with what was shown before this day, UTC"),
]


def changes(get_live: GetLive) -> APIRouter:
    """Return the operation that compares an account's score with its last one."""
    router = APIRouter(prefix="/v1", tags=["scores"])

    @router.get(
        "/accounts/{account_id:path}/changes",
        summary="What changed since the last score",
        response_model=None,
        **guarded(SCORE),
        responses={200: {"model": schemas.ChangesAnswer}, **problems(404, 422, 503)},
    )
    async def changes_of_one(
        account_id: AccountId,
        request: Request,
        before: Before = None,
    ) -> Response:
        """Score the account and split the difference to the last score of another moment or model.

        The parts add up to the difference that is shown. A difference within its uncertainty is
        said to be no clear change.
        """
        if not is_account_id(account_id):
            raise ProblemError("invalid-account-id", status(INVALID)["status_text"])
        live = get_live(request)
        scored = await answered(live, account_id, request)
        answer = scored.answers[0]
        if answer["status"] == UNKNOWN:
            raise ProblemError("unknown-account", f"no account {account_id!r} in the book")
        moment = datetime.combine(before, time(), UTC) if before else None
        work = partial(live.changes, scored.rows, served_before=moment)
        found = await asyncio.get_running_loop().run_in_executor(live.singles, work)
        return json_answer(
            {
                **{name: answer.get(name) for name in ("account_id", "status", "status_text")},
                "as_of": answer.get("as_of"),
                "changes": {change["target"]: change for change in found},
            }
        )

    return router
