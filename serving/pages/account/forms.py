"""Forms of the account page: events of a risk, and feedback on reasons."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import pyarrow.compute as pc
from fastapi import Depends, Form, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from starlette.responses import RedirectResponse, Response

from configs.runtime.errors import StateError
from configs.runtime.hashing import digest
from serving.auth.permissions import WRITE, RequiredRole, caller_of
from serving.http.addresses import account_url
from serving.http.problems import FieldError, ProblemError
from serving.ledger.store.feedback_store import VERDICTS, Feedback
from serving.online.current_state import Live
from serving.online.server_state import CurrentBook
from serving.pages.common import Book, PageRouter
from serving.pages.context import Context
from serving.workflow.risk_cases import STAGES, Event, Risk, Stage
from serving.workflow.risk_store import RiskStore
from training.model.reason_text import reason_catalogue

NOTE_LENGTH = 500
MEDIA_TYPE = "application/x-www-form-urlencoded"
SHORTEST_ID, LONGEST_ID = 16, 64
RELOAD = "the form is incomplete; load the page again"

RecordedKind = Literal["opened", "moved", "snoozed", "fact", "touch"]
Shortcut = Literal["plan", "done"]
"""Buttons of the call sheet: plan a play, opening a risk if needed; record a play as done."""


def _one_of(*allowed: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"must be one of: {', '.join(item for item in allowed if item)}")
        return value

    return BeforeValidator(check)


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)) if value else None
    except ValueError as error:
        raise ValueError(f"{str(value)[:20]!r} is not a day; write it as 2026-03-02") from error


def _event_id(value: str) -> str:
    if not SHORTEST_ID <= len(value) <= LONGEST_ID or not value.isalnum():
        raise ValueError(RELOAD)
    return value


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _reason_code(value: str) -> str:
    if value not in {code.code for code in reason_catalogue()}:
        raise ValueError("unknown reason; load the page again")
    return value


def _required(value: str) -> str:
    if not value:
        raise ValueError(RELOAD)
    return value


class EventForm(BaseModel):
    """Event of a risk as a page sends it; a repeated `event_id` is recorded once.

    Attributes
    ----------
    kind : str
        Kind of the event, or a `Shortcut`.
    stage : str
        New stage, for ``moved``.
    on : date or None
        Day of the event, or due day.
    play, text : str
        Play and note.
    after : str
        Last event that the page showed; a newer one is a conflict.
    event_id : str
        Identity of the event, created with the page.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[RecordedKind | Shortcut, _one_of(*get_args(RecordedKind), *get_args(Shortcut))]
    stage: Annotated[Stage | Literal[""], _one_of(*STAGES, "")] = ""
    on: Annotated[date | None, BeforeValidator(_day)] = None
    play: str = ""
    text: Annotated[str, AfterValidator(_one_line)] = ""
    after: str = ""
    event_id: Annotated[str, AfterValidator(_event_id)]

    def events(self, account_id: str, who: str, now: datetime, risk: Risk | None) -> list[Event]:
        """Return the events to record, in order.

        Parameters
        ----------
        account_id, who : str
            The account and the author.
        now : datetime
            The current time.
        risk : Risk or None
            Latest risk of the account.

        Raises
        ------
        ProblemError
            A move without a stage, or a snooze without a risk.
        """
        if self.kind == "moved" and not self.stage:
            errors: list[FieldError] = [{"pointer": "stage", "message": "choose a stage"}]
            raise ProblemError("invalid-request", "choose a stage", errors=errors)
        event = partial(Event, entity_id=account_id, at=now, who=who)
        first, second = self.event_id, digest(self.event_id, "second", length=32)
        is_open = risk is not None and not risk.has_ended
        if self.kind == "plan":
            opened = event(first, kind="opened", stage="open", text="planned from the call sheet")
            plan = event(
                second, kind="moved", stage="plan", on=self.on, play=self.play, text=self.text
            )
            return [plan] if is_open else [opened, plan]
        if self.kind == "done":
            touch = event(
                first, kind="touch", on=now.date(), play=self.play, text=self.text or "done"
            )
            # The plan is fulfilled: the next play can be suggested.
            again = event(second, kind="moved", stage="open")
            return (
                [touch, again] if is_open and risk is not None and risk.stage == "plan" else [touch]
            )
        stage = self.stage or ("open" if self.kind == "opened" else None)
        return [
            event(first, kind=self.kind, stage=stage, on=self.on, play=self.play, text=self.text)
        ]


class FeedbackForm(BaseModel):
    """Feedback on a reason as a page sends it."""

    model_config = ConfigDict(extra="forbid")

    score_id: Annotated[str, AfterValidator(_required)]
    reason_code: Annotated[str, AfterValidator(_reason_code)]
    verdict: Annotated[str, _one_of(*VERDICTS)]
    note: Annotated[str, AfterValidator(_one_line)] = ""

    def feedback(self, account_id: str) -> Feedback:
        """Return the feedback to record."""
        note = self.note[:NOTE_LENGTH] or None
        return Feedback(self.score_id[:40], account_id, self.reason_code, self.verdict, note)


async def check_form(request: Request) -> None:
    """Refuse forms of other sites, other media types, and repeated fields.

    Raises
    ------
    ProblemError
        The request is none that a page of this service sends.
    """
    if not is_same_origin(request):
        raise ProblemError("forbidden", "forms are accepted from pages of this service only")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ProblemError("unsupported-media-type", f"a form must be {MEDIA_TYPE}")
    names = [name for name, _ in (await request.form()).multi_items()]
    if len(set(names)) != len(names):
        raise ProblemError("invalid-request", "a field is repeated")


def is_same_origin(request: Request) -> bool:
    """Return whether a browser sent the request from a page of this service."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")


router = PageRouter([Depends(RequiredRole(WRITE)), Depends(check_form)])


@router.form("/accounts/{account_id:path}/events")
async def record_event(
    account_id: str,
    form: Annotated[EventForm, Form()],
    request: Request,
    live: Live,
    book: Book,
    context: Context,
) -> Response:
    """Record an event of a risk and return to the account."""
    check_visible(book, account_id)
    who, now = caller_of(request).name, live.clock()

    def work() -> None:
        risk = context.risks.risk(account_id)
        for place, event in enumerate(form.events(account_id, who, now, risk)):
            record(context.risks, event, form.after if place == 0 else "")

    await asyncio.get_running_loop().run_in_executor(live.singles, work)
    return RedirectResponse(f"{account_url(account_id)}#call", status_code=303)


@router.form("/accounts/{account_id:path}/feedback")
async def record_feedback(
    account_id: str,
    form: Annotated[FeedbackForm, Form()],
    request: Request,
    live: Live,
    book: Book,
) -> Response:
    """Record feedback on a reason and return to the account."""
    check_visible(book, account_id)
    loop = asyncio.get_running_loop()
    given = form.feedback(account_id)
    score = await loop.run_in_executor(live.singles, live.ledger.scores.find, given.score_id)
    if score is None or score.entity_id != account_id:
        raise ProblemError("invalid-request", "the score belongs to another account")
    who = caller_of(request).name
    work = partial(live.intake.record_feedback, [given], who, live.clock())
    await loop.run_in_executor(live.singles, work)
    return RedirectResponse(f"{account_url(account_id)}#facts", status_code=303)


def check_visible(book: CurrentBook, account_id: str) -> None:
    """Refuse accounts that the caller cannot see.

    Raises
    ------
    ProblemError
        The account is unknown or not visible.
    """
    if not pc.any(pc.equal(book.table["account_id"], account_id)).as_py():
        raise ProblemError("unknown-account", f"There is no account “{account_id[:200]}”.")


def record(risks: RiskStore, event: Event, after: str) -> None:
    """Record an event, unless another user changed the risk since the page was loaded.

    Raises
    ------
    ProblemError
        The risk has a newer event.
    DataError
        The event is not possible in the current stage.
    """
    try:
        risks.record(event, after=after or None)
    except StateError as error:
        raise ProblemError(
            "changed-meanwhile", f"{error.what}: {error.fix or 'reload the page'}"
        ) from error
