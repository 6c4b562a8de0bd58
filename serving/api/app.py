"""The FastAPI application: API, pages and error handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from configs.runtime.errors import BellwetherError
from configs.schema.settings import ServiceSettings
from serving.api.gauges import set_gauges
from serving.api.middleware import (
    LOOPBACK,
    BodyLimits,
    RequestGuard,
    Show,
    admission,
    observer,
)
from serving.api.openapi import describer
from serving.api.requests import GetMetrics
from serving.api.routes import catalogue, changes, feedback, jobs, monitoring, scores_list, whatif
from serving.api.routes.scores import answered, scores
from serving.api.schemas.feedback import FeedbackRequest, OutcomesRequest
from serving.api.schemas.jobs import JobRequest
from serving.api.schemas.scores import BatchRequest
from serving.api.schemas.whatif import WhatIfRequest
from serving.auth.permissions import ADMIN, METRICS, RequiredRole
from serving.http.problems import (
    FieldError,
    Problem,
    is_for_people,
    of_error,
    of_fault,
    problem,
    response,
)
from serving.online.current_state import GetLive, provide_state
from serving.pages.common import problem_page
from serving.pages.routes import page_router
from serving.setup.desk import Desk, service_desk
from serving.setup.routes import UPLOAD_LIMITS, UPLOADS, start_router

DESCRIPTION = """
Churn risk and expansion propensity of accounts, with reasons, confidence and versions.

* Every answer names its release, models and data; all targets of an answer are of one release.
* Every score is in the ledger before it is returned; `score_id` identifies it.
* Probabilities are calibrated. Reasons are associated with a score; they are not its causes.
* Errors are RFC 9457 problems; `/v1/problems` lists their types.

**Security.** Systems send an API key (`Authorization: Bearer bw_…` or `X-API-Key`); each operation
names the scope it requires. Users sign in through the company's proxy or identity provider; a
customer success manager sees their own accounts and accounts without an owner, a manager also those
of their team. Without any API key or sign-in configured, the service is open on the loopback
interface only, and `/v1/health` reports it.
"""


def create_app(
    get_live: GetLive, get_metrics: GetMetrics, hosts: Iterable[str] = LOOPBACK
) -> RequestGuard:
    """Return the application: API, pages, and a last route that answers 404 as a problem.

    Parameters
    ----------
    get_live, get_metrics : callable
        Return the server state and the metrics for a request, so that importing starts nothing.
    hosts : iterable of str
        Accepted host names.
    """
    app = FastAPI(
        title="Bellwether",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.openapi = describer(app, BODIES)  # type: ignore[method-assign]
    provide_state(app, get_live)
    app.include_router(scores(get_live, get_metrics))
    for group in (changes, scores_list, whatif, jobs, feedback, catalogue, monitoring):
        app.include_router(group.router)
    app.include_router(page_router(answered))
    app.include_router(start_router(_desk_of(get_live), [Depends(RequiredRole(ADMIN))]))
    show = _problem_response(get_live)
    app.add_route("/metrics", _metrics(get_live, get_metrics), include_in_schema=False)
    app.add_route("/{path:path}", _not_found(app, show), methods=_ALL, include_in_schema=False)
    for kind, to_problem in (
        (BellwetherError, of_error),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        # The request guard receives the exception too, and logs it.
        (Exception, lambda _, instance: of_fault(instance)),
    ):
        app.add_exception_handler(kind, _error_handler(show, to_problem))
    return RequestGuard(
        app,
        observe=observer(get_metrics),
        admit=admission(get_live),
        show=show,
        hosts=tuple(hosts),
        limits=upload_limits(),
    )


def upload_limits() -> dict[str, BodyLimits]:
    """Return the limits of addresses that accept files."""
    size, seconds = UPLOAD_LIMITS
    # The checks of the files follow their arrival.
    return dict.fromkeys(UPLOADS, BodyLimits(size, seconds, 2 * seconds))


def _desk_of(get_live: GetLive) -> Callable[[Request], Desk]:
    """Return a function that finds the folder which a request of the setup pages is about."""

    def desk_of(request: Request) -> Desk:
        root = ServiceSettings.from_environment().start_root
        folder = request.query_params.get("folder", "")
        return service_desk(get_live(request).workspace, root, folder)

    return desk_of


BODIES = (BatchRequest, WhatIfRequest, JobRequest, OutcomesRequest, FeedbackRequest)
"""Request bodies that operations read as JSON."""


def _problem_response(get_live: GetLive) -> Show:
    """Return a function that renders a problem as a page for browsers and as JSON otherwise."""

    def show(scope: Scope, document: Problem) -> Response:
        if not is_for_people(scope, Headers(scope=scope)):
            return response(document)
        is_known = scope.get("state", {}).get("caller") is not None
        return problem_page(get_live(Request(scope)), document, is_known=is_known)

    return show


_ALL = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _metrics(
    get_live: GetLive, get_metrics: GetMetrics
) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        await RequiredRole(METRICS)(request)
        counters, live = get_metrics(request), get_live(request)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(live.probes, set_gauges, counters, live)
        return Response(counters.expose(), media_type="text/plain; version=0.0.4")

    return metrics


def _not_found(app: FastAPI, show: Show) -> Callable[[Request], Response]:
    """Return the handler of unknown addresses: 405 if the address exists for another method."""

    def not_found(request: Request) -> Response:
        allowed, instance = sorted(_methods_at(app, request.scope)), request.state.request_id
        if allowed:
            detail = f"this address does not accept {request.method}"
            answer = show(request.scope, problem("method-not-allowed", detail, instance=instance))
            answer.headers["Allow"] = ", ".join(allowed)
            return answer
        return show(request.scope, problem("not-found", "unknown address", instance=instance))

    return not_found


def _methods_at(app: FastAPI, scope: Scope) -> set[str]:
    """Return the methods that the other routes accept at this address."""
    return {
        method
        for method in _ALL
        for route in app.routes[:-1]
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }


def _error_handler(
    show: Show, to_problem: Callable[[Any, str], Problem]
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of one kind of exception."""

    async def handle(request: Request, error: Exception) -> Response:
        answer = show(request.scope, to_problem(error, request.state.request_id))
        if isinstance(error, HTTPException):
            answer.headers.update(error.headers or {})
        return answer

    return handle


def _invalid(error: RequestValidationError, instance: str) -> Problem:
    errors: list[FieldError] = [
        {"pointer": str(item["loc"][-1]), "message": _message(item)} for item in error.errors()
    ]
    detail = "; ".join(f"{item['pointer']}: {item['message']}" for item in errors)
    return problem("invalid-request", detail, instance=instance, errors=errors)


def _message(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown field"
    return str(item["msg"]).removeprefix("Value error, ")


def _http(error: HTTPException, instance: str) -> Problem:
    by_status = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    slug = by_status.get(error.status_code, "invalid-request")
    return problem(slug, str(error.detail), instance=instance)
