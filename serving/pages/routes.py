"""The addresses of the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa
from fastapi import APIRouter, Query, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.staticfiles import StaticFiles

from configs.errors import BellwetherError
from features.catalog import THEMES
from serving.exports import csv_lines
from serving.listing import Chosen, choose
from serving.live import Book, Live, Scored
from serving.pages import account, book
from serving.pages.render import STATIC, page
from serving.phrases import STATUS_WORDS, UNKNOWN
from serving.problems import ProblemError, of_error

REPORT = "latest.html"
REPORT_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one file with its own styles; scripts and foreign addresses stay shut out."""

CSV_ROWS = 500

Answered = Callable[[Live, Sequence[str], str], Awaitable[Scored]]
GetLive = Callable[[Request], Live]


def pages(get_live: GetLive, answered: Answered) -> APIRouter:
    """Return the pages as a router.

    Parameters
    ----------
    get_live : callable
        Returns what is served.
    answered : callable
        Scores accounts and waits for the ledger, see `serving.api.answered`.
    """
    router = APIRouter(include_in_schema=False)
    router.mount("/static", StaticFiles(directory=STATIC), name="static")
    _add_book(router, get_live)
    _add_account(router, get_live, answered)
    _add_readings(router, get_live)
    return router


def _add_book(router: APIRouter, get_live: GetLive) -> None:
    @router.api_route("/", methods=["GET", "HEAD"])
    def my_book(
        request: Request,
        filters: Chosen,
        page_number: int = Query(1, alias="page", ge=1, le=100_000),
    ) -> Response:
        live = get_live(request)
        if live.book is None:
            return _no_book(live)
        try:
            shown = book.view(live.book, filters, page_number, is_stale=live.is_stale())
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("book.html", **common(live, "book"), **shown)

    @router.get("/book.json")
    def book_json(
        request: Request,
        filters: Chosen,
    ) -> Response:
        found = _book(get_live(request))
        table = choose(found.table, filters)
        body = {
            "book_id": found.run.run_id,
            "release_id": found.run.release_id,
            "as_of": found.run.as_of,
            "totals": book.totals(table),
            "rows": table.to_pylist(),
        }
        return Response(
            orjson.dumps(body),
            media_type="application/json",
            headers={"Cache-Control": "private, no-cache"},
        )

    @router.get("/book.csv")
    def book_csv(
        request: Request,
        filters: Chosen,
    ) -> Response:
        found = _book(get_live(request))
        table = choose(found.table, filters)
        name = f"book-{found.run.run_id}.csv"
        return StreamingResponse(
            csv_lines(_rows(table)),
            media_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "private, no-cache",
            },
        )


def _book(live: Live) -> Book:
    if live.book is None:
        raise ProblemError("not-ready", "no book is published yet; run `bellwether score`")
    return live.book


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for start in range(0, len(table), CSV_ROWS):
        yield from table.slice(start, CSV_ROWS).to_pylist()


def _add_account(router: APIRouter, get_live: GetLive, answered: Answered) -> None:
    @router.api_route("/accounts/{account_id:path}", methods=["GET", "HEAD"])
    async def one_account(account_id: str, request: Request) -> Response:
        live = get_live(request)
        try:
            scored = await answered(live, [account_id[:200]], request.state.request_id)
            answer = scored.answers[0]
            if answer["status"] == UNKNOWN:
                raise ProblemError("unknown-account", f"There is no account “{account_id[:200]}”.")
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("account.html", **common(live, ""), **account.view(answer))


def _add_readings(router: APIRouter, get_live: GetLive) -> None:
    @router.api_route("/reading", methods=["GET", "HEAD"])
    def reading(request: Request) -> Response:
        live = get_live(request)
        models = live.stage.scorer.models if live.stage else ()
        return page(
            "reading.html",
            **common(live, "reading"),
            models=models,
            themes=THEMES,
            statuses=STATUS_WORDS,
        )

    @router.api_route("/report", methods=["GET", "HEAD"])
    def report(request: Request) -> Response:
        live = get_live(request)
        path = live.workspace.state.reports / REPORT
        if not path.is_file():
            return page("no_report.html", **common(live, "report"))
        return FileResponse(
            path,
            media_type="text/html",
            headers={
                "Content-Security-Policy": REPORT_POLICY,
                "Cache-Control": "private, no-cache",
            },
        )

    @router.get("/favicon.ico")
    def favicon() -> Response:
        return RedirectResponse("/static/mark.svg", status_code=301)


def common(live: Live, here: str) -> dict[str, Any]:
    """Return what every page takes."""
    company = live.workspace.company
    stage = live.stage
    return {
        "here": here,
        "company": company.title or company.name,
        "currency": company.reporting_currency,
        "release_id": stage.release.release_id if stage else None,
        "notes": live.notes,
    }


def _no_book(live: Live) -> HTMLResponse:
    return page("no_book.html", **common(live, "book"))


def problem_page(live: Live, document: dict[str, Any]) -> HTMLResponse:
    """Return a problem as a page for people."""
    return page("problem.html", document["status"], **common(live, ""), problem=document)
