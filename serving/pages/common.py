"""Parts shared by all pages: visible scores, error pages, and JSON and CSV versions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Annotated, Any, TypeVar

import orjson
import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, params
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, Response, StreamingResponse

from configs.runtime.errors import BellwetherError
from serving.auth.permissions import caller_of, sees_people
from serving.http.problems import Problem, ProblemError, headers_of, of_error, slug_of
from serving.monitoring.disagreements import kept
from serving.online.current_state import Live, server_state
from serving.online.masked_answers import masked_book
from serving.online.server_state import CurrentBook, ServerState
from serving.pages.templating import PRIVATE, page
from serving.scoring.export_columns import ExportRow
from serving.scoring.export_rows import cell, csv_text

CHUNK_ROWS = 500
"""Rows that are read and sent at a time."""

Owner = Annotated[str | None, Query(description="owner_id", max_length=200)]

T = TypeVar("T")
Handler = TypeVar("Handler", bound=Callable[..., Any])


class NoScoresError(ProblemError):
    """No scores are published yet."""

    def __init__(self) -> None:
        super().__init__("not-ready", "no scores are published yet; run `bellwether score`")


class PageRoute(APIRoute):
    """Route that shows errors of its pages as a page; JSON and CSV versions keep their problems."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route."""
        handle = super().get_route_handler()
        if self.response_class is not HTMLResponse:
            return handle

        async def handle_page(request: Request) -> Response:
            try:
                return await handle(request)
            except BellwetherError as error:
                live = await server_state(request)
                if isinstance(error, NoScoresError) and request.method != "POST":
                    return page("no_book.html", **common(live, "book"))
                return problem_page(live, of_error(error, request.state.request_id))

        return handle_page


class PageRouter(APIRouter):
    """Router of a page and its JSON and CSV versions."""

    def __init__(self, dependencies: Sequence[params.Depends] = ()) -> None:
        super().__init__(route_class=PageRoute, dependencies=list(dependencies))

    def page(self, path: str) -> Callable[[Handler], Handler]:
        """Return the decorator of a function that returns the page at an address."""
        return self.api_route(path, methods=["GET", "HEAD"], response_class=HTMLResponse)

    def form(self, path: str) -> Callable[[Handler], Handler]:
        """Return the decorator of a function that handles a form sent to an address."""
        return self.post(path, response_class=HTMLResponse)


def visible_owners(live: ServerState, request: Request) -> frozenset[str] | None:
    """Return the owners whose accounts the caller may see; None for all."""
    return caller_of(request).owners(live.managers)


def shows_people(live: ServerState, request: Request) -> bool:
    """Return whether the caller sees persons of the accounts."""
    return sees_people(live.workspace.company, caller_of(request))


def visible_book(live: Live, request: Request) -> CurrentBook:
    """Return the part of the published scores that the caller may see.

    Raises
    ------
    NoScoresError
        No scores are published.
    """
    if live.book is None:
        raise NoScoresError
    book = live.book.seen_by(visible_owners(live, request))
    return book if shows_people(live, request) else masked_book(book)


Book = Annotated[CurrentBook, Depends(visible_book)]


def common(live: ServerState, here: str) -> dict[str, Any]:
    """Return the template values of every page; `here` is the current entry of the navigation."""
    company = live.workspace.company
    stage = live.stage
    return {
        "is_outside": False,
        "known_on": live.book.run.as_of if live.book else None,
        "is_old": live.is_stale(),
        "not_updated": live.notes.get("refresh", ""),
        "here": here,
        "company": company.title or company.name,
        "currency": company.reporting_currency,
        "release_id": stage.release.release_id if stage else None,
        "notes": live.notes,
        "disagreements": kept(live.workspace, live.book.run.run_id) if live.book else [],
    }


OUTSIDE: dict[str, Any] = {
    "is_outside": True,
    "known_on": None,
    "is_old": False,
    "not_updated": "",
    "here": "",
    "company": "",
    "release_id": None,
    "disagreements": [],
}
"""Template values of a page for callers who are not signed in: nothing about the company."""


def problem_page(live: ServerState, document: Problem, *, is_known: bool = True) -> HTMLResponse:
    """Return a problem as a page; callers who are not signed in see no company name."""
    base = common(live, "") if is_known else OUTSIDE
    shown = page(
        "problem.html", document["status"], **base, problem=document, slug=slug_of(document)
    )
    shown.headers.update(headers_of(document))
    return shown


def as_json(body: Any) -> Response:
    """Return the JSON version of a page."""
    return Response(orjson.dumps(body), media_type="application/json", headers=PRIVATE)


def json_with_rows(head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Response:
    """Return a JSON object whose last member is ``rows``, streamed in chunks."""
    return StreamingResponse(
        _json_chunks(head, rows), media_type="application/json", headers=PRIVATE
    )


def _json_chunks(head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    yield orjson.dumps(head)[:-1] + b',"rows":['
    between = b""
    for chunk in _chunks(rows):
        yield between + b",".join(orjson.dumps(row) for row in chunk)
        between = b","
    yield b"]}"


def as_csv(name: str, lines: Iterator[str]) -> Response:
    """Return the CSV version of a page as a download."""
    return StreamingResponse(
        ("".join(chunk) for chunk in _chunks(lines)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"', **PRIVATE},
    )


def as_xlsx(name: str, content: bytes) -> Response:
    """Return a workbook as a download."""
    return Response(
        content,
        media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        headers={"Content-Disposition": f'attachment; filename="{name}.xlsx"', **PRIVATE},
    )


def csv_of(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return some fields of rows as CSV, header first, safe to open in a spreadsheet."""
    return csv_text(chain([header], ([cell(row.get(name)) for name in header] for row in rows)))


def rows_of(table: pa.Table) -> Iterator[ExportRow]:
    """Return the rows of a table, converted in chunks."""
    for start in range(0, len(table), CHUNK_ROWS):
        yield from table.slice(start, CHUNK_ROWS).to_pylist()


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Return items in lists: every chunk of a streamed response costs a change of thread."""
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK_ROWS)):
        yield chunk
