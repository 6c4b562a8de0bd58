"""The addresses of the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import (
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.staticfiles import StaticFiles

from configs.runtime.errors import BellwetherError
from features.tables.catalog import THEMES
from serving.auth.permissions import READ, SCORE, WRITE, RequiredRole, caller_of
from serving.batch.filters import Chosen, Filters, choose
from serving.http.problems import ProblemError, headers_of, of_error, problem, slug_of
from serving.http.score_text import STATUS_WORDS, UNKNOWN
from serving.monitoring.disagreements import kept
from serving.online.score_request import ScoredBatch
from serving.online.server_state import CurrentBook, ServerState
from serving.pages import account, audits, book, escalations, forms, portfolio, week, whatif
from serving.pages.account_context import AccountContexts
from serving.pages.templating import PRIVATE, STATIC, account_url, page
from serving.pages.track_record import how_right
from serving.scoring.export_rows import cell, csv_lines, csv_text
from serving.workflow.escalations import COLUMNS as ESCALATION_COLUMNS
from serving.workflow.escalations import escalated

REPORT = "latest.html"
REPORT_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one file with its own styles; scripts and foreign addresses stay shut out."""

PIECE_ROWS = 500
"""Rows that are read and sent at a time."""

Owner = Annotated[str | None, Query(description="owner_id", max_length=200)]
To = Annotated[str, Query(description="role that hears of it", pattern=r"^[a-z]{0,20}$")]


def wanted(filters: Chosen, request: Request) -> Filters:
    """Return the filters of a page, in the order of people where none is named."""
    is_named = bool(request.query_params.get("sort"))
    return filters if is_named else replace(filters, sort=book.SORT)


Wanted = Annotated[Filters, Depends(wanted)]

Answered = Callable[[ServerState, str, Request], Awaitable[ScoredBatch]]
GetLive = Callable[[Request], ServerState]

T = TypeVar("T")


def pages(get_live: GetLive, answered: Answered) -> APIRouter:
    """Return the pages as a router.

    Parameters
    ----------
    get_live : callable
        Returns what is served.
    answered : callable
        Scores accounts and waits for the ledger, see `serving.api.scores.answered`.
    """
    router = APIRouter(include_in_schema=False, dependencies=[Depends(RequiredRole(READ))])
    router.mount("/static", StaticFiles(directory=STATIC), name="static")
    desk_of = AccountContexts()
    _add_book(router, get_live, desk_of)
    _add_week(router, get_live, desk_of)
    _add_portfolio(router, get_live)
    _add_escalations(router, get_live, desk_of)
    _add_forms(router, get_live, desk_of)
    _add_feedback(router, get_live)
    _add_supposing(router, get_live)
    _add_account(router, get_live, desk_of, answered)
    _add_readings(router, get_live)
    _add_reports(router, get_live)
    return router


def _add_book(router: APIRouter, get_live: GetLive, desk_of: AccountContexts) -> None:
    @router.api_route("/", methods=["GET", "HEAD"])
    def my_book(
        request: Request,
        filters: Wanted,
        page_number: int = Query(1, alias="page", ge=1, le=100_000),
    ) -> Response:
        live = get_live(request)
        if live.book is None:
            return _no_book(live)
        try:
            found = _book(live, request)
            shown = book.view(found, filters, page_number, is_stale=live.is_stale())
            beside = desk_of(live).beside_book(found, live.book, caller_of(request).name)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("book.html", **common(live, "book"), **shown, **beside)

    @router.get("/book.json")
    def book_json(
        request: Request,
        filters: Wanted,
    ) -> Response:
        found = _book(get_live(request), request)
        table = choose(found.table, filters)
        head = {
            "book_id": found.run.run_id,
            "release_id": found.run.release_id,
            "as_of": found.run.as_of,
            "totals": book.totals(table.select(book.TOTALLED)),
        }
        return StreamingResponse(
            _json_with_rows(head, _rows(table)), media_type="application/json", headers=PRIVATE
        )

    @router.get("/book.csv")
    def book_csv(
        request: Request,
        filters: Wanted,
    ) -> Response:
        found = _book(get_live(request), request)
        table = choose(found.table, filters)
        return _as_csv(f"book-{found.run.run_id}", csv_lines(_rows(table)))


def _book(live: ServerState, request: Request) -> CurrentBook:
    if live.book is None:
        raise ProblemError("not-ready", "no book is published yet; run `bellwether score`")
    return live.book.seen_by(_owners(live, request))


def _owners(live: ServerState, request: Request) -> frozenset[str] | None:
    return caller_of(request).owners(live.managers)


def _as_json(body: Any) -> Response:
    """Return the JSON twin of a page."""
    return Response(orjson.dumps(body), media_type="application/json", headers=PRIVATE)


def _json_with_rows(head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Return a JSON object whose last member is ``rows``, piece by piece: a book may be large."""
    yield orjson.dumps(head)[:-1] + b',"rows":['
    between = b""
    for piece in _pieces(rows):
        yield between + b",".join(orjson.dumps(row) for row in piece)
        between = b","
    yield b"]}"


def _pieces(items: Iterable[T]) -> Iterator[list[T]]:
    """Return items in lists: each piece of an answer costs a change of thread."""
    rest = iter(items)
    while piece := list(islice(rest, PIECE_ROWS)):
        yield piece


def _as_csv(name: str, lines: Iterator[str]) -> Response:
    """Return the CSV twin of a page, as a file to keep."""
    return StreamingResponse(
        ("".join(piece) for piece in _pieces(lines)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"', **PRIVATE},
    )


def _lines(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return some fields of plain rows as CSV, header first, safe to open in a spreadsheet."""
    return csv_text(chain([header], ([cell(row.get(name)) for name in header] for row in rows)))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for start in range(0, len(table), PIECE_ROWS):
        yield from table.slice(start, PIECE_ROWS).to_pylist()


def _add_week(router: APIRouter, get_live: GetLive, desk_of: AccountContexts) -> None:
    def shown(request: Request, owner: str | None) -> dict[str, Any]:
        live = get_live(request)
        desk, now = desk_of(live), live.clock()
        histories, whole = desk.casebook.histories(), live.book
        per_month = live.workspace.company.serving.capacity_per_month
        slots = (
            week.slots_of(whole.table, histories, live.capacities, per_month, now.date())
            if whole
            else {}
        )
        return {
            **week.view(_book(live, request), histories, desk.plays, slots, now, owner),
            "per_month": per_month,
        }

    @router.api_route("/week", methods=["GET", "HEAD"])
    def the_week(request: Request, owner: Owner = None) -> Response:
        live = get_live(request)
        if live.book is None:
            return _no_book(live)
        try:
            found = shown(request, owner)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("week.html", **common(live, "week"), **found)

    @router.get("/week.json")
    def week_json(request: Request, owner: Owner = None) -> Response:
        found = shown(request, owner)
        body = {
            "book_id": found["run"].run_id,
            "as_of": found["run"].as_of,
            "n_open": found["n_open"],
            "team": found["team"],
            "owners": [vars(desk) for desk in found["desks"]],
        }
        return _as_json(body)

    @router.get("/week.csv")
    def week_csv(request: Request, owner: Owner = None) -> Response:
        found = shown(request, owner)
        name = f"week-{found['today'].isoformat()}"
        return _as_csv(name, _lines(week.COLUMNS, week.lines(found["desks"])))


def _add_escalations(router: APIRouter, get_live: GetLive, desk_of: AccountContexts) -> None:
    def shown(request: Request, to: str) -> dict[str, Any]:
        live = get_live(request)
        desk = desk_of(live)
        found = _book(live, request)
        risks = desk.casebook.escalated_risks()
        told = escalated(found.table, risks, desk.plays, live.managers, live.clock())
        return escalations.view(found, told, to=to, role=caller_of(request).role)

    @router.api_route("/escalations", methods=["GET", "HEAD"])
    def the_escalations(request: Request, to: To = "") -> Response:
        live = get_live(request)
        if live.book is None:
            return _no_book(live)
        try:
            found = shown(request, to)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("escalations.html", **common(live, "escalations"), **found)

    @router.get("/escalations.json")
    def escalations_json(request: Request, to: To = "") -> Response:
        found = shown(request, to)
        body = {
            "book_id": found["run"].run_id,
            "as_of": found["run"].as_of,
            "escalations": [vars(item) for item in found["items"]],
        }
        return _as_json(body)

    @router.get("/escalations.csv")
    def escalations_csv(request: Request, to: To = "") -> Response:
        found = shown(request, to)
        rows = (vars(item) for item in found["items"])
        name = f"escalations-{found['run'].run_id}"
        return _as_csv(name, _lines(ESCALATION_COLUMNS, rows))


def _add_forms(router: APIRouter, get_live: GetLive, desk_of: AccountContexts) -> None:
    @router.post("/accounts/{account_id:path}/events", dependencies=[Depends(RequiredRole(WRITE))])
    async def record(account_id: str, request: Request) -> Response:
        live = get_live(request)
        try:
            form = await forms.read_form(request)
            _check_seen(_book(live, request), account_id)
            who = caller_of(request).name
            event = forms.event_of(form, account_id, who, live.clock())
            keep = partial(forms.record, desk_of(live).casebook, event, form.get("after", ""))
            await asyncio.get_running_loop().run_in_executor(live.singles, keep)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return RedirectResponse(f"{account_url(account_id)}#work", status_code=303)


def _add_feedback(router: APIRouter, get_live: GetLive) -> None:
    @router.post(
        "/accounts/{account_id:path}/feedback", dependencies=[Depends(RequiredRole(WRITE))]
    )
    async def say(account_id: str, request: Request) -> Response:
        live = get_live(request)
        loop = asyncio.get_running_loop()
        try:
            form = await forms.read_form(request, forms.FEEDBACK_FIELDS)
            _check_seen(_book(live, request), account_id)
            said = forms.feedback_of(form, account_id)
            score = await loop.run_in_executor(live.singles, live.ledger.scores.find, said.score_id)
            if score is None or score.entity_id != account_id:
                raise ProblemError("invalid-request", "the score is not this account's")
            who = caller_of(request).name
            keep = partial(live.intake.record_feedback, [said], who, live.clock())
            await loop.run_in_executor(live.singles, keep)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return RedirectResponse(f"{account_url(account_id)}#facts", status_code=303)


def _check_seen(found: CurrentBook, account_id: str) -> None:
    if not pc.any(pc.equal(found.table["account_id"], account_id)).as_py():
        raise ProblemError("unknown-account", f"There is no account “{account_id[:200]}”.")


def _add_portfolio(router: APIRouter, get_live: GetLive) -> None:
    @router.api_route("/portfolio", methods=["GET", "HEAD"])
    def the_portfolio(request: Request) -> Response:
        live = get_live(request)
        if live.book is None:
            return _no_book(live)
        return page(
            "portfolio.html", **common(live, "portfolio"), **portfolio.view(_book(live, request))
        )

    @router.get("/portfolio.json")
    def portfolio_json(request: Request) -> Response:
        found = _book(get_live(request), request)
        body = {
            "book_id": found.run.run_id,
            "release_id": found.run.release_id,
            "as_of": found.run.as_of,
            **portfolio.as_dict(portfolio.summary(found.table.select(portfolio.READ))),
        }
        return _as_json(body)

    @router.get("/portfolio.csv")
    def portfolio_csv(request: Request) -> Response:
        found = _book(get_live(request), request)
        lines = portfolio.lines(portfolio.summary(found.table.select(portfolio.READ)))
        name = f"portfolio-{found.run.run_id}"
        return _as_csv(name, _lines(portfolio.COLUMNS, lines))


def _add_supposing(router: APIRouter, get_live: GetLive) -> None:
    async def shown(account_id: str, request: Request) -> dict[str, Any]:
        live = get_live(request)
        asked = dict(request.query_params)
        work = partial(whatif.view, live, account_id[:200], _owners(live, request), asked)
        return await asyncio.get_running_loop().run_in_executor(live.singles, work)

    @router.api_route(
        "/accounts/{account_id:path}/what-if",
        methods=["GET", "HEAD"],
        dependencies=[Depends(RequiredRole(SCORE))],
    )
    async def what_if(account_id: str, request: Request) -> Response:
        live = get_live(request)
        try:
            found = await shown(account_id, request)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("whatif.html", **common(live, ""), **found)

    @router.get(
        "/accounts/{account_id:path}/what-if.json", dependencies=[Depends(RequiredRole(SCORE))]
    )
    async def what_if_json(account_id: str, request: Request) -> Response:
        found = await shown(account_id, request)
        return _as_json(
            {
                "account_id": found["a"]["account_id"],
                "levers": [vars(lever) for lever in found["levers"]],
                "supposed": found["supposed"],
                "out_of_range": found["outside"],
            }
        )


def _add_account(
    router: APIRouter, get_live: GetLive, desk_of: AccountContexts, answered: Answered
) -> None:
    async def scored_of(account_id: str, request: Request) -> ScoredBatch:
        scored = await answered(get_live(request), account_id[:200], request)
        if scored.answers[0]["status"] == UNKNOWN:
            raise ProblemError("unknown-account", f"There is no account “{account_id[:200]}”.")
        return scored

    @router.get(
        "/accounts/{account_id:path}/facts.csv", dependencies=[Depends(RequiredRole(SCORE))]
    )
    async def facts_csv(account_id: str, request: Request) -> Response:
        answer = (await scored_of(account_id, request)).answers[0]
        return _as_csv("account", _lines(account.COLUMNS, account.lines(answer)))

    @router.api_route(
        "/accounts/{account_id:path}",
        methods=["GET", "HEAD"],
        dependencies=[Depends(RequiredRole(SCORE))],
    )
    async def one_account(account_id: str, request: Request) -> Response:
        live = get_live(request)
        try:
            scored = await scored_of(account_id, request)
            answer = scored.answers[0]
            loop = asyncio.get_running_loop()
            changes = await loop.run_in_executor(live.singles, live.changes, scored.rows)
            sees_all = _owners(live, request) is None
            who = caller_of(request).name
            work = partial(desk_of(live).beside, answer, live, who, sees_all=sees_all)
            beside = await loop.run_in_executor(live.singles, work)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        shown = account.view(answer, changes)
        return page("account.html", **common(live, ""), **shown, beside=beside)


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
            record=how_right(live.workspace.state),
        )

    @router.get("/reading.json")
    def reading_json(request: Request) -> Response:
        live = get_live(request)
        models = live.stage.scorer.models if live.stage else ()
        bands = {model.target: {name: cut for cut, name in model.cuts} for model in models}
        record = [asdict(part) for part in how_right(live.workspace.state)]
        return _as_json({"bands_from": bands, "record": record})

    @router.get("/favicon.ico")
    def favicon() -> Response:
        return RedirectResponse("/static/mark.svg", status_code=301)


def _add_reports(router: APIRouter, get_live: GetLive) -> None:
    @router.api_route("/report", methods=["GET", "HEAD"])
    def report(request: Request) -> Response:
        live = get_live(request)
        if (refusal := _for_leaders(live, request)) is not None:
            return refusal
        path = live.workspace.state.reports / REPORT
        return _report(path) if path.is_file() else page("no_report.html", **common(live, "report"))

    @router.api_route("/audits", methods=["GET", "HEAD"])
    def the_audits(request: Request) -> Response:
        live = get_live(request)
        if (refusal := _for_leaders(live, request)) is not None:
            return refusal
        state = live.workspace.state
        try:
            found = audits.audits(state)
        except BellwetherError as error:
            return problem_page(live, of_error(error, request.state.request_id))
        return page("audits.html", **common(live, "report"), audits=found)

    @router.api_route("/audits/{name}", methods=["GET", "HEAD"])
    def an_audit(name: str, request: Request) -> Response:
        live = get_live(request)
        if (refusal := _for_leaders(live, request)) is not None:
            return refusal
        path = audits.audit_page(live.workspace.state, name)
        if path is None:
            words = f"There is no audit “{name[:200]}”."
            missing = problem("not-found", words, instance=request.state.request_id)
            return problem_page(live, missing)
        return _report(path)


def _for_leaders(live: ServerState, request: Request) -> Response | None:
    """Return a refusal to whoever sees only a part of the book."""
    if _owners(live, request) is None:
        return None
    words = "The report names accounts of the whole company; leaders see it."
    return problem_page(live, problem("forbidden", words, instance=request.state.request_id))


def _report(path: Path) -> Response:
    """Return a report, with the way back that the file alone has no use for."""
    text = path.read_text(encoding="utf-8").replace(_BRAND, _BRAND_BACK, 1)
    return Response(
        text,
        media_type="text/html",
        headers={
            "Content-Security-Policy": REPORT_POLICY,
            **PRIVATE,
        },
    )


_BRAND = '<p class="brand">Bellwether'
_BRAND_BACK = '<p class="brand"><a href="/">Bellwether</a>'


def common(live: ServerState, here: str) -> dict[str, Any]:
    """Return what every page takes."""
    company = live.workspace.company
    stage = live.stage
    return {
        "is_outside": False,
        "known_on": live.book.run.as_of if live.book else None,
        "is_old": live.is_stale(),
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
    "here": "",
    "company": "",
    "release_id": None,
    "disagreements": [],
}
"""What a page takes that tells nothing of the company."""


def _no_book(live: ServerState) -> HTMLResponse:
    return page("no_book.html", **common(live, "book"))


def problem_page(
    live: ServerState, document: dict[str, Any], *, is_known: bool = True
) -> HTMLResponse:
    """Return a problem as a page for people; whoever is not known is told of no company."""
    base = common(live, "") if is_known else OUTSIDE
    shown = page(
        "problem.html", document["status"], **base, problem=document, slug=slug_of(document)
    )
    shown.headers.update(headers_of(document))
    return shown
