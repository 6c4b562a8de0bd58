"""The latest published scores: canonical rows, filtered and paged."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serving.api.openapi import guarded, problems
from serving.api.requests import json_answer
from serving.api.schemas.base import MAX_BATCH
from serving.api.schemas.scores import ScoresPage
from serving.auth.permissions import READ, caller_of, sees_people
from serving.batch.filters import CURSOR, Chosen, decode_cursor, encode_cursor, page_of, positions
from serving.http.problems import ProblemError
from serving.online.current_state import Live
from serving.online.masked_answers import masked_book
from serving.online.server_state import CurrentBook, ServerState

router = APIRouter(prefix="/v1", tags=["scores"])

Cursor = Annotated[
    str,
    Query(
        description="`next_cursor` of the previous page; for the same scores and filters",
        pattern=CURSOR,
    ),
]


@router.get(
    "/scores",
    summary="The latest published scores, highest expected loss first",
    response_model=None,
    **guarded(READ),
    responses={200: {"model": ScoresPage}, **problems(410, 422, 503)},
)
async def list_scores(
    request: Request,
    live: Live,
    filters: Chosen,
    limit: Annotated[int, Query(ge=1, le=MAX_BATCH)] = 100,
    cursor: Cursor = "",
) -> Response:
    """Return canonical rows of the latest score run; the ledger already holds these scores."""
    found = visible_scores(live, request)
    chosen = positions(found.table, filters)
    offset = decode_cursor(cursor, found.run.run_id, filters)
    end = offset + limit
    has_more = end < len(chosen)
    page: ScoresPage = {
        "book_id": found.run.run_id,
        "release_id": found.run.release_id,
        "as_of": found.run.as_of,
        "total": len(chosen),
        "results": page_of(found.table, chosen, offset, limit),
        "next_cursor": encode_cursor(found.run.run_id, filters, end) if has_more else None,
    }
    return json_answer(page)


def visible_scores(live: ServerState, request: Request) -> CurrentBook:
    """Return the part of the latest published scores that the caller may see.

    Raises
    ------
    ProblemError
        No scores are published.
    """
    if live.book is None:
        raise ProblemError("not-ready", "no scores are published yet; run `bellwether score`")
    caller = caller_of(request)
    book = live.book.seen_by(caller.owners(live.managers))
    return book if sees_people(live.workspace.company, caller) else masked_book(book)
