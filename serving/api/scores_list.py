"""The last published book: canonical rows, filtered and paged."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from serving.api import schemas
from serving.api.openapi import guarded, problems
from serving.api.requests import GetLive, json_answer
from serving.api.schemas import MAX_BATCH
from serving.auth.permissions import READ, caller_of
from serving.batch.filters import CURSOR, Chosen, decode_cursor, encode_cursor, page_of, positions
from serving.http.problems import ProblemError
from serving.online.server_state import CurrentBook, ServerState


def add_scores_list(get_live: GetLive) -> APIRouter:
    """Return the operations on the published book."""
    router = APIRouter(prefix="/v1", tags=["scores"])

    @router.get(
        "/scores",
        summary="The last published book, most at stake first",
        response_model=None,
        **guarded(READ),
        responses={200: {"model": schemas.BookPage}, **problems(410, 422, 503)},
    )
    async def list_scores(
        request: Request,
        filters: Chosen,
        limit: Annotated[int, Query(ge=1, le=MAX_BATCH)] = 100,
        cursor: Annotated[
            str,
            Query(
                description="`next_cursor` of the page before; of this book and these filters",
                pattern=CURSOR,
            ),
        ] = "",
    ) -> Response:
        """Return canonical rows of the book scored last; the ledger holds them already."""
        found = the_book(get_live(request), request)
        chosen = positions(found.table, filters)
        offset = decode_cursor(cursor, found.run.run_id, filters)
        end = offset + limit
        has_more = end < len(chosen)
        return json_answer(
            {
                "book_id": found.run.run_id,
                "release_id": found.run.release_id,
                "as_of": found.run.as_of,
                "total": len(chosen),
                "results": page_of(found.table, chosen, offset, limit),
                "next_cursor": encode_cursor(found.run.run_id, filters, end) if has_more else None,
            }
        )

    return router


def the_book(live: ServerState, request: Request) -> CurrentBook:
    """Return what the caller sees of the last published book, or say that there is none."""
    if live.book is None:
        raise ProblemError("not-ready", "no book is published yet; run `bellwether score`")
    return live.book.seen_by(caller_of(request).owners(live.managers))
