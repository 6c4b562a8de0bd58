"""Outcomes of accounts, feedback on reasons, and the score history of an account."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serving.api.openapi import guarded, problems
from serving.api.request_bodies import read_body
from serving.api.requests import json_answer
from serving.api.routes.jobs import IdempotencyKey
from serving.api.routes.scores import AccountId, is_account_id
from serving.api.routes.scores_list import visible_scores
from serving.api.schemas.feedback import (
    FeedbackItem,
    FeedbackRequest,
    HistoryAnswer,
    IntakeAnswer,
    IntakeResult,
    OutcomesRequest,
    PastScore,
)
from serving.auth.permissions import READ, WRITE, caller_of
from serving.http.problems import ProblemError
from serving.http.score_text import INVALID, UNKNOWN, to_second
from serving.ledger.score_changes import asked_as_plain, asked_of
from serving.ledger.store.feedback_store import Feedback, ReportedOutcome
from serving.ledger.store.score_rows import ScoreRow
from serving.online.current_state import Live
from serving.online.server_state import ServerState
from serving.scoring.scorer import status
from training.model.reason_text import reason_catalogue

UNKNOWN_SCORE, UNKNOWN_REASON = "unknown_score", "unknown_reason"

router = APIRouter(prefix="/v1", tags=["feedback"])


@router.post(
    "/outcomes",
    summary="Report outcomes of accounts",
    response_model=None,
    **guarded(WRITE, OutcomesRequest),
    responses={200: {"model": IntakeAnswer}, **problems(408, 409, 413, 415, 422, 503)},
)
async def report_outcomes(
    request: Request, live: Live, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Record churned, contracted, expanded and renewed accounts; repeats are ignored.

    An item is identified by account, outcome and day of decision. An item that contradicts a
    recorded one is a `conflict`; an item of an unknown account is `unknown_account`. The other
    items are recorded.
    """
    asked = await read_body(request, OutcomesRequest)
    items = [ReportedOutcome(**item.model_dump(mode="json")) for item in asked.outcomes]
    is_visible = _visibility(live, request)
    known = [item for item in items if is_visible(item.account_id)]
    work = partial(live.intake.record_outcomes, known, caller_of(request).name)
    statuses = iter(await _run_once(request, live, idempotency_key, work))
    return _intake_answer(
        [next(statuses) if is_visible(item.account_id) else UNKNOWN for item in items]
    )


@router.post(
    "/feedback",
    summary="Give feedback on reasons",
    response_model=None,
    **guarded(WRITE, FeedbackRequest),
    responses={200: {"model": IntakeAnswer}, **problems(408, 409, 413, 415, 422, 503)},
)
async def give_feedback(
    request: Request, live: Live, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Record feedback on a reason by a person who knows the account: useful, wrong or known.

    `score_id` is the id of the score that showed the reason.
    """
    items = (await read_body(request, FeedbackRequest)).feedback
    scores = await asyncio.to_thread(
        lambda: {item.score_id: live.ledger.scores.find(item.score_id) for item in items}
    )
    faults = [_fault(item, scores[item.score_id], live, request) for item in items]
    valid = [
        Feedback(item.score_id, score.entity_id, item.reason_code, item.verdict, item.note)
        for item, fault in zip(items, faults, strict=True)
        if not fault and (score := scores[item.score_id]) is not None
    ]
    work = partial(live.intake.record_feedback, valid, caller_of(request).name)
    statuses = iter(await _run_once(request, live, idempotency_key, work))
    return _intake_answer([fault or next(statuses) for fault in faults])


@router.get(
    "/accounts/{account_id:path}/history",
    summary="Score history of an account",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": HistoryAnswer}, **problems(404, 422, 503)},
)
async def read_history(
    account_id: AccountId,
    request: Request,
    live: Live,
    limit: Annotated[int, Query(ge=1, le=500, description="per target")] = 50,
) -> Response:
    """Return the latest scores of each target as they were served, newest first."""
    if not is_account_id(account_id):
        raise ProblemError("invalid-account-id", status(INVALID)["status_text"])
    if not _visibility(live, request)(account_id):
        raise ProblemError("unknown-account", f"no account {account_id!r} in the published scores")
    contracts = {model.target: model.contract for model in live.current().scorer.models}
    rows = await asyncio.to_thread(
        lambda: {name: live.ledger.scores.history(account_id, name, limit) for name in contracts}
    )
    targets = {
        target: [
            _past_score(row) | asked_as_plain(asked_of(live.archive, row, contracts[target]))
            for row in found
            if row.channel != "shadow"
        ]
        for target, found in rows.items()
    }
    return json_answer({"account_id": account_id, "targets": targets})


def _visibility(live: ServerState, request: Request) -> Callable[[str], bool]:
    """Return a test of whether the caller may see an account of the published scores."""
    visible = visible_scores(live, request).table["account_id"].to_pylist()
    return frozenset(visible).__contains__


async def _run_once(
    request: Request, live: ServerState, key: str, work: Callable[[datetime], Sequence[str]]
) -> Sequence[str]:
    """Run the work, unless the Idempotency-Key was used before with another body."""
    now, body, caller = datetime.now(UTC), await request.body(), caller_of(request).name

    def run() -> Sequence[str]:
        if key:
            live.intake.once(caller, f"{request.url.path} {key}"[:200], body, now)
        return work(now)

    return await asyncio.to_thread(run)


def _fault(item: FeedbackItem, score: ScoreRow | None, live: ServerState, request: Request) -> str:
    """Return the status of an item that cannot be recorded; empty for a valid one."""
    if score is None or not _visibility(live, request)(score.entity_id):
        return UNKNOWN_SCORE
    return "" if item.reason_code in {code.code for code in reason_catalogue()} else UNKNOWN_REASON


def _intake_answer(statuses: Sequence[str]) -> Response:
    results = [
        cast("IntakeResult", {"index": i, "status": word}) for i, word in enumerate(statuses)
    ]
    answer: IntakeAnswer = {"counts": dict(Counter(statuses)), "results": results}
    return json_answer(answer)


def _past_score(row: ScoreRow) -> PastScore:
    return {
        "score_id": row.score_id,
        "release_id": row.release_id,
        "bundle_sha": row.bundle_sha,
        "probability": row.probability,
        "band": row.band,
        "verdict": row.verdict,
        "channel": row.channel,
        "served_at": to_second(row.served_at),
        "as_of": to_second(row.as_of),
        "reasons": [
            {"code": item.get("code"), "points": item.get("points"), "facts": item.get("facts")}
            for item in row.reasons
        ],
        "asks_about": None,
        "until": None,
    }
