"""Outcomes and feedback in, and an account's history out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serving.api import schemas
from serving.api.jobs import IdempotencyKey
from serving.api.openapi import guarded, problems
from serving.api.request_bodies import read_body
from serving.api.requests import GetLive, json_answer
from serving.api.scores import AccountId, is_account_id
from serving.auth.permissions import READ, WRITE, caller_of
from serving.http.problems import ProblemError
from serving.http.score_text import INVALID, UNKNOWN, to_second
from serving.ledger.feedback_store import Feedback, ReportedOutcome
from serving.ledger.score_changes import asked_as_plain, asked_of
from serving.ledger.score_rows import ScoreRow
from serving.online.server_state import ServerState
from serving.scoring.scorer import status
from training.model.reason_text import reason_catalogue

UNKNOWN_SCORE, UNKNOWN_REASON = "unknown_score", "unknown_reason"


def intake(get_live: GetLive) -> APIRouter:
    """Return the operations that take what became of accounts and what reasons were worth."""
    router = APIRouter(prefix="/v1", tags=["feedback"])

    @router.post(
        "/outcomes",
        summary="Report what became of accounts",
        response_model=None,
        **guarded(WRITE, schemas.OutcomesRequest),
        responses={200: {"model": schemas.IntakeAnswer}, **problems(408, 409, 413, 415, 422, 503)},
    )
    async def report_outcomes(request: Request, idempotency_key: IdempotencyKey = "") -> Response:
        """Keep churned, contracted, expanded and renewed accounts; saying it twice is harmless.

        An item is known by account, outcome and day of decision. One that contradicts what is
        kept is a `conflict`, one of an unknown account is told so; neither fails the others.
        """
        asked = await read_body(request, schemas.OutcomesRequest)
        items = [ReportedOutcome(**item.model_dump(mode="json")) for item in asked.outcomes]
        live, caller = get_live(request), caller_of(request)
        visible = _visible(live, request)
        known = [item for item in items if visible(item.account_id)]
        work = partial(live.intake.record_outcomes, known, caller.name)
        told = await _kept(request, live, idempotency_key, work)
        statuses = iter(told)
        return _answer([next(statuses) if visible(item.account_id) else UNKNOWN for item in items])

    @router.post(
        "/feedback",
        summary="Say whether reasons were useful",
        response_model=None,
        **guarded(WRITE, schemas.FeedbackRequest),
        responses={200: {"model": schemas.IntakeAnswer}, **problems(408, 409, 413, 415, 422, 503)},
    )
    async def give_feedback(request: Request, idempotency_key: IdempotencyKey = "") -> Response:
        """Keep what people who know the account say of a reason: useful, wrong, or known already.

        `score_id` is the one of the score that showed the reason.
        """
        asked = await read_body(request, schemas.FeedbackRequest)
        live, caller = get_live(request), caller_of(request)
        items = asked.feedback
        scores = await asyncio.to_thread(
            lambda: {item.score_id: live.ledger.scores.find(item.score_id) for item in items}
        )
        wrong = [_wrong(item, scores[item.score_id], live, request) for item in items]
        good = [
            Feedback(item.score_id, score.entity_id, item.reason_code, item.verdict, item.note)
            for item, problem in zip(items, wrong, strict=True)
            if not problem and (score := scores[item.score_id]) is not None
        ]
        work = partial(live.intake.record_feedback, good, caller.name)
        told = iter(await _kept(request, live, idempotency_key, work))
        return _answer([problem or next(told) for problem in wrong])

    @router.get(
        "/accounts/{account_id:path}/history",
        summary="The scores an account was given",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": schemas.HistoryAnswer}, **problems(404, 422, 503)},
    )
    async def read_history(
        account_id: AccountId,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500, description="per target")] = 50,
    ) -> Response:
        """Return the last scores of each target as they were served, newest first."""
        if not is_account_id(account_id):
            raise ProblemError("invalid-account-id", status(INVALID)["status_text"])
        live = get_live(request)
        if not _visible(live, request)(account_id):
            raise ProblemError("unknown-account", f"no account {account_id!r} in the book")
        contracts = {model.target: model.contract for model in live.current().scorer.models}
        rows = await asyncio.to_thread(
            lambda: {
                name: live.ledger.scores.history(account_id, name, limit) for name in contracts
            }
        )
        told = {
            target: [
                _told(row) | asked_as_plain(asked_of(live.archive, row, contracts[target]))
                for row in found
                if row.channel != "shadow"
            ]
            for target, found in rows.items()
        }
        return json_answer({"account_id": account_id, "targets": told})

    return router


def _visible(live: ServerState, request: Request) -> Callable[[str], bool]:
    """Return whether the caller sees an account of the last published book."""
    if live.book is None:
        raise ProblemError("not-ready", "no book is published yet; run `bellwether score`")
    owners = caller_of(request).owners(live.managers)
    seen = frozenset(live.book.seen_by(owners).table["account_id"].to_pylist())
    return seen.__contains__


async def _kept(
    request: Request, live: ServerState, key: str, work: Callable[[datetime], Sequence[str]]
) -> Sequence[str]:
    """Do the work, unless the Idempotency-Key came with another body before."""
    now, body, caller = datetime.now(UTC), await request.body(), caller_of(request).name

    def do() -> Sequence[str]:
        if key:
            live.intake.once(caller, f"{request.url.path} {key}"[:200], body, now)
        return work(now)

    return await asyncio.to_thread(do)


def _wrong(
    item: schemas.FeedbackItem, score: ScoreRow | None, live: ServerState, request: Request
) -> str:
    if score is None or not _visible(live, request)(score.entity_id):
        return UNKNOWN_SCORE
    return "" if item.reason_code in {code.code for code in reason_catalogue()} else UNKNOWN_REASON


def _answer(statuses: Sequence[str]) -> Response:
    results = [{"index": i, "status": word} for i, word in enumerate(statuses)]
    return json_answer({"counts": dict(Counter(statuses)), "results": results})


def _told(row: ScoreRow) -> dict[str, Any]:
    return {
        **{
            name: getattr(row, name)
            for name in (
                "score_id",
                "release_id",
                "bundle_sha",
                "probability",
                "band",
                "verdict",
                "channel",
            )
        },
        "served_at": to_second(row.served_at),
        "as_of": to_second(row.as_of),
        "reasons": [
            {name: reason.get(name) for name in ("code", "points", "facts")}
            for reason in row.reasons
        ],
    }
