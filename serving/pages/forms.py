"""Forms of the pages: what people record, checked, and kept once however often it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from configs.runtime.errors import StateError
from serving.http.problems import ProblemError
from serving.ledger.feedback_store import VERDICTS, Feedback
from serving.workflow.risk_cases import KINDS, STAGES, Event
from serving.workflow.risk_store import RiskStore
from training.model.reason_text import reason_catalogue

FIELDS = ("kind", "stage", "on", "play", "text", "after", "event_id")
FEEDBACK_FIELDS = ("score_id", "reason_code", "verdict", "note")
NOTE_LENGTH = 500
MEDIA_TYPE = "application/x-www-form-urlencoded"
SHORTEST_ID = 16


async def read_form(request: Request, fields: Sequence[str] = FIELDS) -> dict[str, str]:
    """Return the fields of a form that one of our own pages sent; `fields` are those it may have.

    Raises
    ------
    ProblemError
        Another site sent it, it is no form, or it holds unknown or repeated fields.
    """
    if not is_same_origin(request):
        raise ProblemError("forbidden", "forms are taken from the pages of this service only")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise ProblemError("unsupported-media-type", f"a form is {MEDIA_TYPE}")
    try:
        body = (await request.body()).decode()
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    except (UnicodeDecodeError, ValueError) as error:
        raise _invalid("", "the form cannot be read") from error
    names = [name for name, _ in pairs]
    if unknown := [name for name in names if name not in fields]:
        raise _invalid(unknown[0][:40], "unknown field")
    if len(set(names)) != len(names):
        raise _invalid("", "a field is given twice")
    return dict(pairs)


def is_same_origin(request: Request) -> bool:
    """Say whether a browser sent this from a page of ours: it names the origin on every form."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")


def event_of(form: Mapping[str, str], entity_id: str, who: str, now: datetime) -> Event:
    """Return the event a form stands for.

    Raises
    ------
    ProblemError
        A field is missing or cannot be read.
    """
    kind, stage, event_id = form.get("kind", ""), form.get("stage", ""), form.get("event_id", "")
    if kind not in KINDS or kind == "escalated":
        raise _invalid("kind", "what happened is one of: opened, moved, snoozed, fact, touch")
    if stage and stage not in STAGES:
        raise _invalid("stage", f"a stage is one of: {', '.join(STAGES)}")
    if len(event_id) < SHORTEST_ID or len(event_id) > 64 or not event_id.isalnum():
        raise _invalid("event_id", "the form is incomplete; load the page again")
    values: dict[str, Any] = {"stage": stage or ("open" if kind == "opened" else None)}
    if kind == "moved" and not stage:
        raise _invalid("stage", "say where the risk goes")
    return Event(
        event_id=event_id,
        entity_id=entity_id,
        at=now,
        who=who,
        kind=kind,
        on=_day(form.get("on", "")),
        play=form.get("play", ""),
        text=" ".join(form.get("text", "").split()),
        **values,
    )


def feedback_of(form: Mapping[str, str], account_id: str) -> Feedback:
    """Return what a form says of a reason.

    Raises
    ------
    ProblemError
        A field is missing, or the verdict or the reason is none of ours.
    """
    if form.get("verdict") not in VERDICTS:
        raise _invalid("verdict", f"a reason is one of: {', '.join(VERDICTS)}")
    if form.get("reason_code") not in {code.code for code in reason_catalogue()}:
        raise _invalid("reason_code", "unknown reason; load the page again")
    if not form.get("score_id"):
        raise _invalid("score_id", "the form is incomplete; load the page again")
    note = " ".join(form.get("note", "").split())[:NOTE_LENGTH]
    return Feedback(
        form["score_id"][:40], account_id, form["reason_code"], form["verdict"], note or None
    )


def record(casebook: RiskStore, event: Event, after: str) -> None:
    """Keep an event; a state that somebody changed in the meantime is a conflict.

    Raises
    ------
    ProblemError
        Somebody else was quicker.
    DataError
        It makes no sense where the risk stands.
    """
    try:
        casebook.record(event, after=after or None)
    except StateError as error:
        raise ProblemError(
            "changed-meanwhile", f"{error.what}: {error.fix or 'look again'}"
        ) from error


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if value else None
    except ValueError as error:
        raise _invalid("on", f"{value[:20]!r} is no day; write it as 2026-03-02") from error


def _invalid(pointer: str, message: str) -> ProblemError:
    return ProblemError(
        "invalid-request", message, errors=[{"pointer": pointer, "message": message}]
    )
