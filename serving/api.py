"""The /v1 contract over HTTP, and the application the service mounts.

Answers are orjson bytes of plain dictionaries; the models of `serving.schemas` document them and
are not on the hot path. Single scores and batches run in threads of their own, so that neither a
store that hangs nor a large batch keeps others waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from configs.errors import BellwetherError, UnavailableError, did_you_mean
from serving import schemas
from serving.exports import COLUMNS
from serving.gate import LOOPBACK, Gate
from serving.listing import Chosen, choose, decode_cursor, encode_cursor, page_of
from serving.live import Book, Live, Scored
from serving.metrics import Metrics
from serving.pages.routes import pages, problem_page
from serving.phrases import INVALID, UNKNOWN
from serving.problems import (
    MEDIA_TYPE,
    TYPES,
    ProblemError,
    item_problem,
    of_error,
    problem,
    response,
)
from serving.schemas import MAX_BATCH, MAX_ID_LENGTH
from serving.scoring import status
from training.words import catalogue, catalogue_version

COMMIT_SECONDS = 10.0
"""How long an answer waits for the ledger before it is withheld."""

DESCRIPTION = """
Which accounts will leave, which will grow: how early, why, how sure.

* Every answer names its release, its models and its data; both targets are of one release.
* Every score is in the ledger before it is given out; `score_id` finds it again.
* Probabilities are calibrated. Reasons say what a score is associated with, not what causes it.
* Errors are RFC 9457 problems; their types are listed at `/v1/problems`.

**Security.** This version listens on the loopback interface only and knows no keys or roles yet:
whoever reaches it may read everything. Do not expose it; keys and roles come in a later version.
"""

GetLive = Callable[[Request], Live]


def create_app(
    get_live: GetLive, get_metrics: Callable[[Request], Metrics], hosts: Iterable[str] = LOOPBACK
) -> FastAPI:
    """Return the application: API, pages, and a last route that keeps 404 in our shape.

    Parameters
    ----------
    get_live, get_metrics : callable
        Return what is served and counted; asked per request, so that importing starts nothing.
    hosts : iterable of str
        Host names answered to.
    """
    app = FastAPI(
        title="Bellwether",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.include_router(_scores(get_live, get_metrics))
    app.include_router(_about(get_live))
    app.include_router(pages(get_live, answered))
    app.add_route("/metrics", _metrics(get_metrics), include_in_schema=False)
    app.add_route(
        "/{path:path}", _nothing_here(app, get_live), methods=_ALL, include_in_schema=False
    )
    app.add_exception_handler(BellwetherError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(Gate, observe=_observer(get_metrics), hosts=tuple(hosts))
    return app


_ALL = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {
        code: {
            "description": " · ".join(k.title for k in TYPES.values() if k.status == code),
            "content": {MEDIA_TYPE: {"schema": schemas.Problem.model_json_schema()}},
        }
        for code in codes
    }


def json_response(body: bytes, headers: dict[str, str] | None = None) -> Response:
    """Return JSON bytes that nobody may keep."""
    extra = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, media_type="application/json", headers=extra)


def _json(value: Any) -> Response:
    return json_response(orjson.dumps(value))


async def answered(
    live: Live, account_ids: Sequence[str], request_id: str, *, is_batch: bool = False
) -> Scored:
    """Score accounts and wait until the ledger holds every score.

    Raises
    ------
    UnavailableError
        The online store or the ledger does not answer: no score is given out.
    """
    channel = "batch" if is_batch else "api"
    work = partial(_score_and_submit, live, account_ids, request_id, channel)
    pool = live.batches if is_batch else live.singles
    scored, committed = await asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        await asyncio.wait_for(asyncio.wrap_future(committed), COMMIT_SECONDS)
    except TimeoutError as error:
        raise UnavailableError(
            f"the score ledger did not commit within {COMMIT_SECONDS:g} s, so nothing is given out"
        ) from error
    return scored


def _score_and_submit(
    live: Live, account_ids: Sequence[str], request_id: str, channel: str
) -> tuple[Scored, Future[int]]:
    scored = live.score(account_ids, request_id=request_id, channel=channel)
    return scored, live.ledger.submit(scored.rows)


def _scores(get_live: GetLive, get_metrics: Callable[[Request], Metrics]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["scores"])

    @router.get(
        "/accounts/{account_id:path}/score",
        summary="Score one account",
        response_model=None,
        responses={200: {"model": schemas.Answer}, **_problems(404, 422, 503)},
    )
    async def score_one(account_id: str, request: Request) -> Response:
        """Return both targets of one account, with reasons, confidence and versions."""
        if not is_account_id(account_id):
            raise ProblemError("invalid-account-id", status(INVALID)["status_text"])
        scored = await answered(get_live(request), [account_id], request.state.request_id)
        answer = scored.answers[0]
        get_metrics(request).count_accounts({answer["status"]: 1})
        if answer["status"] == UNKNOWN:
            raise ProblemError("unknown-account", f"no account {account_id!r} in the book")
        return _json(answer)

    @router.post(
        "/scores",
        summary="Score up to 1,000 accounts",
        response_model=None,
        responses={200: {"model": schemas.BatchAnswer}, **_problems(413, 415, 422, 503)},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": schemas.BatchRequest.model_json_schema()}
                },
            }
        },
    )
    async def score_many(request: Request) -> Response:
        """Return one answer per account in the order asked; a bad one never fails the others."""
        asked = parse_batch(request.headers.get("content-type", ""), await request.body())
        live = get_live(request)
        release_id = live.current().release.release_id
        valid = [item for item in asked if is_account_id(item)]
        scored = await answered(live, valid, request.state.request_id, is_batch=True)
        results = batch_results(asked, scored.answers)
        counts = dict(Counter(item["status"] for item in results))
        get_metrics(request).count_accounts(counts)
        releases = {item["release_id"] for item in results if item.get("release_id")}
        return _json(
            {
                "request_id": request.state.request_id,
                "release_id": next(iter(releases), release_id),
                "counts": counts,
                "results": results,
            }
        )

    @router.get(
        "/scores",
        summary="The last published book, most at stake first",
        response_model=None,
        responses={200: {"model": schemas.BookPage}, **_problems(410, 422, 503)},
    )
    async def book(
        request: Request,
        filters: Chosen,
        limit: int = Query(100, ge=1, le=MAX_BATCH),
        cursor: str = "",
    ) -> Response:
        """Return canonical rows of the book scored last; the ledger holds them already."""
        found = the_book(get_live(request))
        table = choose(found.table, filters)
        offset = decode_cursor(cursor, found.run.run_id)
        is_last = offset + limit >= len(table)
        return _json(
            {
                "book_id": found.run.run_id,
                "release_id": found.run.release_id,
                "as_of": found.run.as_of,
                "total": len(table),
                "results": page_of(table, offset, limit),
                "next_cursor": None if is_last else encode_cursor(found.run.run_id, offset + limit),
            }
        )

    return router


def the_book(live: Live) -> Book:
    """Return the last published book, or say that there is none."""
    if live.book is None:
        raise ProblemError("not-ready", "no book is published yet; run `bellwether score`")
    return live.book


def is_account_id(value: Any) -> bool:
    """Say whether a value can be an account id."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH


def parse_batch(content_type: str, body: bytes) -> list[Any]:
    """Return the ids asked for; each is judged on its own later.

    Raises
    ------
    ProblemError
        Not JSON, not an object, an unknown key, no list, or too many.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            "unsupported-media-type", f"the body is {content_type[:80] or 'of no stated type'}"
        )
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid("", f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _invalid("", "the body is an object with account_ids")
    unknown = [key for key in value if key != "account_ids"]
    if unknown:
        hint = did_you_mean(unknown[0], ["account_ids"])
        raise _invalid(f"/{unknown[0][:100]}", f"unknown key; {hint or 'there is account_ids'}")
    ids = value.get("account_ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_BATCH:
        raise _invalid("/account_ids", f"a list of 1 to {MAX_BATCH:,} account ids")
    return ids


def _invalid(pointer: str, message: str) -> ProblemError:
    return ProblemError(
        "invalid-request", message, errors=[{"pointer": pointer, "message": message}]
    )


def batch_results(asked: Sequence[Any], answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put answers and refusals in the order asked; those that are problems say so."""
    valid = iter(answers)
    results = []
    for item in asked:
        answer = (
            next(valid)
            if is_account_id(item)
            else {"account_id": str(item)[:MAX_ID_LENGTH], **status(INVALID)}
        )
        wrong = item_problem(answer["status"], answer["account_id"])
        results.append({**answer, "problem": wrong} if wrong else answer)
    return results


def _about(get_live: GetLive) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["about"])

    @router.get(
        "/release",
        summary="What answers at present",
        response_model=None,
        responses={200: {"model": schemas.ReleaseAnswer}, **_problems(503)},
    )
    async def release(request: Request) -> Response:
        """Return the published release: bundles, bands, what each target predicts."""
        return _json(release_answer(get_live(request)))

    @router.get("/reasons", summary="Every reason code", response_model=None)
    async def reasons() -> Response:
        """Return the catalogue: a code is stable, its words may improve with the version."""
        return _json(
            {
                "version": catalogue_version(),
                "reasons": [
                    {name: getattr(item, name) for name in item.__dataclass_fields__}
                    for item in catalogue()
                ],
            }
        )

    @router.get("/columns", summary="The columns of exports", response_model=None)
    async def columns() -> Response:
        """Return name, type and meaning of every column of the book's canonical rows."""
        return _json(
            [
                {"name": name, "type": str(kind), "about": about}
                for name, (kind, about) in COLUMNS.items()
            ]
        )

    @router.get("/problems", summary="Every problem type", response_model=None)
    async def problem_types() -> Response:
        """Return what each type means and what to do about it."""
        return _json([kind.as_dict() for kind in TYPES.values()])

    @router.get("/problems/{slug}", summary="One problem type", response_model=None)
    async def problem_type(slug: str) -> Response:
        """Return what it means and what to do about it."""
        if slug not in TYPES:
            raise ProblemError("not-found", f"there is no problem type {slug[:80]!r}")
        return _json(TYPES[slug].as_dict())

    @router.get(
        "/model-card/{target}",
        summary="What a model is, and how it did",
        response_model=None,
        responses=_problems(404, 503),
    )
    async def model_card(target: str, request: Request) -> Response:
        """Return what the bundle says: predicts what, learned from what, did how well."""
        return _json(card(get_live(request), target))

    @router.get(
        "/health",
        summary="What is well and what is not",
        response_model=None,
        responses={200: {"model": schemas.Health}, 503: {"model": schemas.Health}},
    )
    async def health(request: Request) -> Response:
        """Answer 200 when scores can be given out, otherwise 503 with the same body."""
        live = get_live(request)
        loop = asyncio.get_running_loop()
        state = await loop.run_in_executor(live.probes, partial(health_of, live))
        answer = _json(state)
        answer.status_code = 200 if state["is_ready"] else 503
        return answer

    return router


def release_answer(live: Live) -> dict[str, Any]:
    """Return the published release with what each target predicts."""
    stage = live.current()
    release = stage.release
    return {
        "release_id": release.release_id,
        "created_at": release.created_at,
        "targets": {
            model.target: {
                "bundle_sha": model.sha,
                "verdict": model.bundle.verdict,
                "outcome": model.bundle.outcome,
                "bands": {name: cut for cut, name in model.cuts},
                "predicts": model.contract.get("words"),
                "horizon_days": model.contract["horizon_days"],
                "lead_time_days": model.contract["lead_time_days"],
            }
            for model in stage.scorer.models
        },
        "feature_set": release.feature_set,
        "reason_catalogue_version": release.reason_catalogue_version,
        "config_hash": release.config_hash,
        "note": release.note,
    }


_CARD = (
    "target",
    "outcome",
    "label_contract",
    "kind",
    "n_rows",
    "n_entities",
    "trained_from",
    "trained_to",
    "labels_known_to",
    "base_rate",
    "rung",
    "verdict",
    "gates",
    "metrics",
    "calibration",
    "features",
    "built_with",
    "training_fingerprint",
    "config_hash",
)


def card(live: Live, target: str) -> dict[str, Any]:
    """Return what the bundle of a target says of itself, without the encoder's inside."""
    for model in live.current().scorer.models:
        if model.target == target:
            plain = model.bundle.manifest
            told = {name: plain[name] for name in _CARD if name in plain}
            return {"bundle_sha": model.sha, "predicts": model.contract.get("words"), **told}
    raise ProblemError("not-found", f"the release has no target {target[:80]!r}")


def health_of(live: Live) -> dict[str, Any]:
    """Return what is well and what is not; asks the online store."""
    stage, book = live.stage, live.book
    has_store = stage is not None and stage.store.is_ready(stage.scorer.feature_hash)
    is_ready = has_store and live.has_ledger
    word = "ok" if not live.notes else "degraded"
    return {
        "status": word if is_ready else "not_ready",
        "is_ready": is_ready,
        "company": live.workspace.company.name,
        "release_id": stage.release.release_id if stage else None,
        "feature_set": stage.scorer.feature_hash if stage else None,
        "online_store": has_store,
        "ledger": live.has_ledger,
        "book_id": book.run.run_id if book else None,
        "data_through": book.run.as_of if book else None,
        "is_stale": live.is_stale() if book else None,
        "notes": live.notes,
    }


def _metrics(get_metrics: Callable[[Request], Metrics]) -> Callable[[Request], Response]:
    def metrics(request: Request) -> Response:
        return Response(get_metrics(request).expose(), media_type="text/plain; version=0.0.4")

    return metrics


def _observer(
    get_metrics: Callable[[Request], Metrics],
) -> Callable[[Scope, str, int, float], None]:
    def observe(scope: Scope, route: str, code: int, seconds: float) -> None:
        get_metrics(Request(scope)).observe(scope["method"], route, code, seconds)

    return observe


def _nothing_here(app: FastAPI, get_live: GetLive) -> Callable[[Request], Response]:
    """Answer what no other route does: 405 when the address exists for another method."""

    def nothing_here(request: Request) -> Response:
        allowed = sorted(_methods_at(app, request.scope))
        if allowed:
            words = f"{request.method} is not for this address"
            document = problem("method-not-allowed", words, instance=request.state.request_id)
            return response(document, {"Allow": ", ".join(allowed)})
        words, instance = "there is nothing at this address", request.state.request_id
        document = problem("not-found", words, instance=instance)
        is_person = "text/html" in request.headers.get("accept", "")
        if is_person and not request.url.path.startswith("/v1"):
            return problem_page(get_live(request), document)
        return response(document)

    return nothing_here


def _methods_at(app: FastAPI, scope: Scope) -> set[str]:
    """Return the methods another route than the last one takes at this address."""
    return {
        method
        for method in _ALL
        for route in app.routes[:-1]
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BellwetherError)
    return response(of_error(error, request.state.request_id))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = [
        {"pointer": str(item["loc"][-1]), "message": str(item["msg"])} for item in error.errors()
    ]
    words = "; ".join(f"{item['pointer']}: {item['message']}" for item in mistakes)
    instance = request.state.request_id
    return response(problem("invalid-request", words, instance=instance, errors=mistakes))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    by_status = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    slug = by_status.get(error.status_code, "invalid-request")
    return response(
        problem(slug, str(error.detail), instance=request.state.request_id), error.headers
    )
