"""Operations that score accounts by id: one account, or a batch.

Each kind runs in threads of its own, so that neither a store that hangs nor a large batch keeps
others waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from configs.runtime.errors import UnavailableError, did_you_mean
from serving.api.openapi import guarded, problems
from serving.api.request_bodies import invalid, json_of
from serving.api.requests import NO_STORE, GetMetrics, json_response
from serving.api.schemas.base import MAX_BATCH, MAX_ID_LENGTH
from serving.api.schemas.scores import BatchAnswer, BatchRequest
from serving.auth.permissions import SCORE, Caller, caller_of, sees_people
from serving.http.problems import OF_STATUS, ProblemError, item_problem
from serving.http.score_text import INVALID, UNKNOWN
from serving.online.current_state import GetLive
from serving.online.masked_answers import masked_batch
from serving.online.score_request import EncodedAnswer, ScoredBatch
from serving.online.server_state import ServerState
from serving.scoring.answer import Answer
from serving.scoring.scorer import status, status_answer

AccountId = Annotated[
    str,
    Path(
        description="compared exactly, capitals and spaces included",
        json_schema_extra={"minLength": 1, "maxLength": MAX_ID_LENGTH},
    ),
]

COMMIT_SECONDS = 10.0
"""Longest wait of an answer for the ledger; then it is withheld."""


def scores(get_live: GetLive, get_metrics: GetMetrics) -> APIRouter:
    """Return the operations that score accounts by id."""
    router = APIRouter(prefix="/v1", tags=["scores"])

    @router.get(
        "/accounts/{account_id:path}/score",
        summary="Score one account",
        response_model=None,
        **guarded(SCORE),
        responses={200: {"model": Answer}, **problems(404, 422, 503)},
    )
    async def score_one(account_id: AccountId, request: Request) -> Response:
        """Return both targets of one account, with reasons, confidence and versions."""
        if not is_account_id(account_id):
            raise ProblemError("invalid-account-id", status(INVALID)["status_text"])
        [answer] = (await answered(get_live(request), account_id, request)).given
        get_metrics(request).count_accounts({answer.status: 1})
        if answer.status == UNKNOWN:
            raise ProblemError("unknown-account", f"no account {account_id!r} in the book")
        return Response(answer.body, media_type="application/json", headers=NO_STORE)

    @router.post(
        "/scores",
        summary="Score up to 1,000 accounts",
        response_model=None,
        **guarded(SCORE, BatchRequest),
        responses={200: {"model": BatchAnswer}, **problems(408, 413, 415, 422, 503)},
    )
    async def score_many(request: Request) -> Response:
        """Return one answer per account in the order asked; a bad one never fails the others."""
        asked = parse_batch(request.headers.get("content-type", ""), await request.body())
        live = get_live(request)
        work = partial(_batch, live, asked, request.state.request_id, caller_of(request))
        loop = asyncio.get_running_loop()
        body, counts, committed = await loop.run_in_executor(live.batches, work)
        get_metrics(request).count_accounts(counts)
        await _commits(committed)
        return json_response(body)

    return router


async def answered(live: ServerState, account_id: str, request: Request) -> ScoredBatch:
    """Score an account the caller sees, and wait until the ledger holds every score.

    Raises
    ------
    UnavailableError
        The online store or the ledger does not answer: no score is given out.
    """
    committed: list[Future[int]] = []
    work = partial(
        live.score,
        [account_id],
        request_id=request.state.request_id,
        owners=caller_of(request).owners(live.managers),
        keep=lambda rows: committed.append(live.ledger.submit(rows)),
    )
    scored = await asyncio.get_running_loop().run_in_executor(live.singles, work)
    await _commits(committed)
    shown = sees_people(live.workspace.company, caller_of(request))
    return scored if shown else masked_batch(scored)


def _batch(
    live: ServerState,
    asked: Sequence[Any],
    request_id: str,
    caller: Caller,
) -> tuple[bytes, dict[str, int], list[Future[int]]]:
    """Score a batch; return the answer, accounts by status, and when it may be given out.

    The ledger's thread commits one part while the next is scored and the answer is written.
    """
    valid = [item for item in asked if is_account_id(item)]
    committed: list[Future[int]] = []
    scored = live.score(
        valid,
        request_id=request_id,
        channel="batch",
        owners=caller.owners(live.managers),
        keep=lambda rows: committed.append(live.ledger.submit(rows)),
    )
    if not sees_people(live.workspace.company, caller):
        scored = masked_batch(scored)
    results = batch_results(asked, scored.given)
    counts = dict(Counter(item.status for item in results))
    body = orjson.dumps(
        {
            "request_id": request_id,
            "release_id": scored.release_id,
            "counts": counts,
            "results": [orjson.Fragment(item.body) for item in results],
        }
    )
    return body, counts, committed


async def _commits(committed: Sequence[Future[int]]) -> None:
    """Wait until the ledger holds every score."""
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            for future in committed:
                await asyncio.wrap_future(future)
    except TimeoutError as error:
        raise UnavailableError(
            f"the score ledger did not commit within {COMMIT_SECONDS:g} s, so nothing is given out"
        ) from error


def is_account_id(value: Any) -> bool:
    """Say whether a value can be an account id."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH and "\0" not in value


def parse_batch(content_type: str, body: bytes) -> list[Any]:
    """Return the ids asked for; each is judged on its own later.

    Raises
    ------
    ProblemError
        Not JSON, not an object, an unknown key, no list, or too many.
    """
    value = json_of(content_type, body)
    if not isinstance(value, dict):
        raise invalid("", "the body is an object with account_ids")
    unknown = [key for key in value if key != "account_ids"]
    if unknown:
        hint = did_you_mean(unknown[0], ["account_ids"])
        raise invalid(f"/{unknown[0][:100]}", f"unknown key; {hint or 'there is account_ids'}")
    ids = value.get("account_ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_BATCH:
        raise invalid("/account_ids", f"a list of 1 to {MAX_BATCH:,} account ids")
    return ids


def batch_results(asked: Sequence[Any], given: Sequence[EncodedAnswer]) -> list[EncodedAnswer]:
    """Put answers and refusals in the order asked; those that are problems say so."""
    valid = iter(given)
    return [
        _with_problem(
            next(valid)
            if is_account_id(item)
            else EncodedAnswer(status_answer(str(item)[:MAX_ID_LENGTH], INVALID))
        )
        for item in asked
    ]


def _with_problem(given: EncodedAnswer) -> EncodedAnswer:
    if given.status not in OF_STATUS:
        return given
    wrong = item_problem(given.status, given.value["account_id"])
    return EncodedAnswer({**given.value, "problem": wrong})
