"""All routes of the setup pages as one router, for the local application and the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, params
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from configs.runtime.errors import SourceError
from features.sources.proposal.company_file import data_text
from features.sources.proposal.propose import answered
from features.sources.proposal.raw_tables import READABLE, data_files, input_names
from features.sources.proposal.write_yaml import company_yaml
from features.tables.source_tables import TABLES
from serving.http.problems import ProblemError
from serving.pages.portfolio.reports import REPORT_POLICY
from serving.pages.templating import PRIVATE
from serving.setup.actions import (
    AUDIT,
    BOOK,
    CHECK,
    REPORT,
    RUN,
    check_choice,
    check_company,
    child,
    free_port,
    pickable,
    service_is_ready,
    start_audit,
    start_check,
)
from serving.setup.desk import Desk, chosen_folder
from serving.setup.mapping_form import unread_form
from serving.setup.proposals import Proposals, ReadMapping, files_of
from serving.setup.rendering import (
    DeskOf,
    address,
    check_start_form,
    check_upload_origin,
    render,
    start_route,
)
from serving.setup.results import AUDIT_HTML, failure_of, read_audit, read_check
from serving.setup.uploads import MAX_FILE_BYTES, UPLOAD_BYTES, UPLOAD_SECONDS, receive
from serving.setup.written_mapping import open_guesses, written_mapping

UPLOADS = ("/start/upload", "/start/audit")
"""Addresses that accept files; their bodies may be larger than others."""

UPLOAD_LIMITS = (UPLOAD_BYTES, UPLOAD_SECONDS)

WAIT_SECONDS = 1.5
"""Time that a page waits for a proposal before it shows that files are being read."""

SAVE_SECONDS = 40.0
"""The same for a form that is sent, whose values would be lost; below the limit of a response."""


class StartPages:
    """The pages of one application.

    Parameters
    ----------
    desk_of : callable
        Returns the desk of a request.
    proposals : Proposals
        Proposals of this process.
    """

    def __init__(self, desk_of: DeskOf, proposals: Proposals) -> None:
        self._desk_of, self._proposals = desk_of, proposals

    def index(self, request: Request) -> Response:
        """Return the first page: a health score to test, and files to upload."""
        desk = self._desk_of(request)
        found = data_files(desk.data) if desk.data.is_dir() else []
        shown = [(path.relative_to(desk.data).as_posix(), path.stat().st_size) for path in found]
        return render(
            desk,
            "index.html",
            "",
            files=shown,
            data=str(desk.data),
            has_company=bool(desk.written),
            limit_mb=MAX_FILE_BYTES // 2**20,
            accept=",".join((*READABLE, ".gz")),
            audit=child(desk, AUDIT).state(),
            picks=pickable(desk.root) if desk.root is not None else [],
        )

    async def upload(self, request: Request) -> Response:
        """Store uploaded files among the exports."""
        desk = self._desk_of(request)
        check_upload_origin(request)
        check_choice(desk)
        made = await receive(request, desk.exports, desk.has_token)
        if made.kept:
            desk.keep(data="")
        if not made.kept and not made.refused:
            raise SourceError("no file was chosen", fix="choose one or several files, then upload")
        if made.refused:
            status = 200 if made.kept else 422
            return render(desk, "uploaded.html", "", status=status, uploaded=made)
        return _to(desk, "mapping")

    async def choose(self, request: Request) -> Response:
        """Use the exports of a folder."""
        desk = self._desk_of(request)
        fields = await check_start_form(request, desk)
        check_choice(desk)
        desk.keep(data=str(chosen_folder(desk.roots, fields.get("path", ""))))
        return _to(desk, "mapping")

    # Audit of a health score

    async def start_audit(self, request: Request) -> Response:
        """Store two files and start the audit."""
        desk = self._desk_of(request)
        check_upload_origin(request)
        check_choice(desk)
        folder = desk.work / AUDIT
        made = await receive(request, folder, desk.has_token, by_field=True)
        if made.refused:
            return render(desk, "uploaded.html", "", status=422, uploaded=made)
        scores, outcomes = made.kept.get("scores"), made.kept.get("outcomes")
        if scores is None:
            raise SourceError(
                "no file of health scores was chosen",
                fix="choose a file with one row per account and date: account, date, score",
            )
        given = [scores] if outcomes is None else [scores, outcomes]
        await run_in_threadpool(start_audit, desk, folder, given)
        return _to(desk, AUDIT)

    def audit(self, request: Request) -> Response:
        """Return the verdict of the audit."""
        desk = self._desk_of(request)
        state = child(desk, AUDIT).state()
        if state.status == "absent":
            return _to(desk, "")
        return render(
            desk,
            "audit.html",
            "",
            refresh=_may_refresh(request, state.status == "running"),
            state=state,
            problem=failure_of(state) if state.status == "failed" else None,
            found=read_audit(desk.work / AUDIT / REPORT, state),
        )

    def audit_report(self, request: Request) -> Response:
        """Return the full report of the audit."""
        path = self._desk_of(request).work / AUDIT / "report" / AUDIT_HTML
        if not path.is_file():
            raise ProblemError("not-found", "There is no audit yet.")
        headers = {"Content-Security-Policy": REPORT_POLICY, **PRIVATE}
        return Response(path.read_text(encoding="utf-8"), media_type="text/html", headers=headers)

    # Mapping

    def mapping(self, request: Request) -> Response:
        """Return the proposed mapping, or that of a company which these pages did not write."""
        desk = self._desk_of(request)
        if not desk.is_own:
            return render(desk, "company.html", "mapping", mapping=written_mapping(desk.folder))
        check_choice(desk)
        names = input_names(desk.data) if desk.data.is_dir() else {}
        if not names:
            return _to(desk, "")
        try:
            found = self._proposals.read(desk, WAIT_SECONDS)
        except SourceError as error:
            form = unread_form(names, desk.record.answers)
            required = {
                name: [column for column, spec in table.columns.items() if spec.required]
                for name, table in TABLES.items()
            }
            values: dict[str, Any] = {"problem": error, "form": form, "required": required}
            return render(desk, "no_accounts.html", "mapping", status=422, **values)
        if found is None:
            refresh = _may_refresh(request, True)
            return render(desk, "reading.html", "mapping", refresh=refresh, names=names)
        return self._mapping_page(desk, found)

    def _mapping_page(self, desk: Desk, found: ReadMapping) -> Response:
        text = company_yaml(found.proposal, data_text(desk.folder, desk.data))
        is_saved = bool(desk.written)
        return render(
            desk,
            "mapping.html",
            "mapping",
            form=found.form,
            targets=found.proposal.targets,
            yaml=desk.company_file.read_text(encoding="utf-8") if is_saved else text,
            is_saved=is_saved,
            guesses=open_guesses(desk.folder) if is_saved else (),
            n_open=len(found.proposal.guesses()),
        )

    async def save(self, request: Request) -> Response:
        """Write company.yaml with the values of the form, and check the data."""
        desk = self._desk_of(request)
        given = await check_start_form(request, desk)
        check_choice(desk)
        return await run_in_threadpool(self._save, desk, given)

    def _save(self, desk: Desk, given: Mapping[str, str]) -> Response:
        names = input_names(desk.data) if desk.data.is_dir() else {}
        try:
            found = self._proposals.read(desk, SAVE_SECONDS)
        except SourceError:
            # Without a list of accounts there is nothing to save but the tables of the files.
            answers = unread_form(names, desk.record.answers).answers(given)
            desk.keep(answers=answers)
            return _to(desk, "mapping")
        if found is None:
            raise ProblemError(
                "not-ready",
                "the files are still being read and nothing was saved; go back, and save again in "
                "a minute",
            )
        before = desk.record.answers
        answers = found.form.answers(given)
        if files_of(answers) != files_of(before):
            desk.keep(answers=answers)  # other tables: the person sees them before they are saved
            return _to(desk, "mapping")
        desk.save(answered(found.base, answers))
        desk.keep(answers=answers)
        start_check(desk)
        return _to(desk, "understood")

    def company_file(self, request: Request) -> Response:
        """Return company.yaml as a download: as written, or as it would be."""
        desk = self._desk_of(request)
        if desk.written:
            text = desk.company_file.read_text(encoding="utf-8")
        else:
            found = self._proposals.read(desk, SAVE_SECONDS)
            if found is None:
                raise ProblemError("not-ready", "the files are still being read")
            text = company_yaml(found.proposal, data_text(desk.folder, desk.data))
        headers = {"Content-Disposition": 'attachment; filename="company.yaml"', **PRIVATE}
        return Response(text, media_type="application/yaml", headers=headers)

    async def confirm(self, request: Request) -> Response:
        """Confirm one open guess, or all of them."""
        desk = self._desk_of(request)
        fields = await check_start_form(request, desk)
        known = {guess.key: guess.value for guess in open_guesses(desk.folder)}
        key = fields.get("key", "")
        if key and key not in known:
            return _to(desk, "mapping", "guesses")  # confirmed meanwhile
        desk.confirm({key: known[key]} if key else known)
        return _to(desk, "mapping", "guesses")

    # Checks

    def understood(self, request: Request) -> Response:
        """Return the figures that a person compares with finance."""
        return self._checked(request, "understood")

    def quality(self, request: Request) -> Response:
        """Return the quality report."""
        return self._checked(request, "quality")

    def _checked(self, request: Request, step: str) -> Response:
        desk = self._desk_of(request)
        one = child(desk, CHECK)
        state = one.state()
        return render(
            desk,
            f"{step}.html",
            step,
            refresh=_may_refresh(request, state.status == "running"),
            state=state,
            problem=failure_of(state) if state.status == "failed" else None,
            result=read_check(one.output) if state.status == "done" else None,
            has_company=bool(desk.written),
            is_old=state.facts.get("company", "") != desk.content,
            is_agreed=desk.record.agreed == desk.content,
        )

    async def check(self, request: Request) -> Response:
        """Start the check of the data."""
        desk = self._desk_of(request)
        fields = await check_start_form(request, desk)
        await run_in_threadpool(start_check, desk)
        return _to(desk, "quality" if fields.get("step") == "quality" else "understood")

    async def agree(self, request: Request) -> Response:
        """Record that a person found the figures right."""
        desk = self._desk_of(request)
        await check_start_form(request, desk)
        desk.keep(agreed=desk.content)
        return _to(desk, "quality")

    # Run and book

    def run(self, request: Request) -> Response:
        """Return the progress and the end of the run."""
        desk = _local(self._desk_of(request))
        state = child(desk, RUN).state()
        return render(
            desk,
            "run.html",
            "run",
            refresh=_may_refresh(request, state.status == "running"),
            state=state,
            problem=failure_of(state) if state.status == "failed" else None,
            has_company=bool(desk.written),
            is_old=state.facts.get("company", "") != desk.content,
            guesses=open_guesses(desk.folder) if desk.written else (),
        )

    async def start_run(self, request: Request) -> Response:
        """Start the run."""
        desk = _local(self._desk_of(request))
        await check_start_form(request, desk)
        check_company(desk)
        command = ["run", str(desk.folder), *desk.command_options]
        child(desk, RUN).start(command, {"company": desk.content})
        return _to(desk, "run")

    async def stop(self, request: Request) -> Response:
        """Stop the run, or the service of the book."""
        desk = _local(self._desk_of(request))
        name = (await check_start_form(request, desk)).get("what", "")
        if name not in (RUN, BOOK):
            raise ProblemError("invalid-request", "nothing of this name can be stopped")
        await run_in_threadpool(child(desk, name).stop)
        return _to(desk, name)

    def book(self, request: Request) -> Response:
        """Return the page that opens the book."""
        desk = _local(self._desk_of(request))
        state = child(desk, BOOK).state()
        port = int(state.facts.get("port", 0))
        is_ready = state.status == "running" and service_is_ready(port)
        return render(
            desk,
            "book.html",
            "book",
            refresh=_may_refresh(request, state.status == "running" and not is_ready),
            state=state,
            is_ready=is_ready,
            port=port,
            problem=failure_of(state) if state.status == "failed" else None,
            run=child(desk, RUN).state(),
        )

    async def open_book(self, request: Request) -> Response:
        """Start the service of the book on a free port."""
        desk = _local(self._desk_of(request))
        await check_start_form(request, desk)
        check_company(desk)
        one = child(desk, BOOK)
        if not one.is_running:
            port = free_port()
            command = ["serve", str(desk.folder), "--port", str(port), *desk.command_options]
            one.start(command, {"port": str(port)})
        return _to(desk, "book")


def _local(desk: Desk) -> Desk:
    if desk.is_service:
        raise ProblemError("not-found", "runs are started with `bellwether run`")
    return desk


def _may_refresh(request: Request, is_running: bool) -> bool:
    return is_running and "still" not in request.query_params


def _to(desk: Desk, step: str, anchor: str = "") -> RedirectResponse:
    where = address(desk, step) + (f"#{anchor}" if anchor else "")
    return RedirectResponse(where, status_code=303)


def start_router(desk_of: DeskOf, dependencies: Sequence[params.Depends] = ()) -> APIRouter:
    """Return the router of the setup pages.

    Parameters
    ----------
    desk_of : callable
        Returns the desk of a request.
    dependencies : sequence
        Dependencies of every route, such as the required scope.
    """
    pages = StartPages(desk_of, Proposals(lambda: datetime.now(UTC)))
    router = APIRouter(
        prefix="/start",
        include_in_schema=False,
        dependencies=list(dependencies),
        route_class=start_route(desk_of),
    )
    for path, shown in (
        ("", pages.index),
        ("/audit", pages.audit),
        ("/audit/report", pages.audit_report),
        ("/mapping", pages.mapping),
        ("/company.yaml", pages.company_file),
        ("/understood", pages.understood),
        ("/quality", pages.quality),
        ("/run", pages.run),
        ("/book", pages.book),
    ):
        router.add_api_route(path, shown, methods=["GET", "HEAD"], response_model=None)
    for path, done in (
        ("/upload", pages.upload),
        ("/folder", pages.choose),
        ("/audit", pages.start_audit),
        ("/mapping", pages.save),
        ("/confirm", pages.confirm),
        ("/check", pages.check),
        ("/agree", pages.agree),
        ("/run", pages.start_run),
        ("/stop", pages.stop),
        ("/book", pages.open_book),
    ):
        router.add_api_route(path, done, methods=["POST"], response_model=None)
    return router
