"""The application: API, pages, and what every error becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from configs.runtime.errors import BellwetherError
from serving.api import schemas
from serving.api.catalogue import about
from serving.api.changes import changes
from serving.api.feedback import intake
from serving.api.gauges import set_gauges
from serving.api.jobs import jobs
from serving.api.middleware import LOOPBACK, RequestGuard, Show, admission, observer
from serving.api.monitoring import monitoring
from serving.api.openapi import describer
from serving.api.requests import GetLive, GetMetrics
from serving.api.scores import answered, scores
from serving.api.scores_list import add_scores_list
from serving.api.whatif import whatif
from serving.auth.permissions import METRICS, RequiredRole
from serving.http.problems import is_for_people, of_error, of_fault, problem, response
from serving.pages.routes import pages, problem_page

DESCRIPTION = """
Which accounts will leave, which will grow: how early, why, how sure.

* Every answer names its release, its models and its data; both targets are of one release.
* Every score is in the ledger before it is given out; `score_id` finds it again.
* Probabilities are calibrated. Reasons say what a score is associated with, not what causes it.
* Errors are RFC 9457 problems; their types are listed at `/v1/problems`.

**Security.** Systems send a key (`Authorization: Bearer bw_…` or `X-API-Key`); each operation
names the scope it takes. People come through the company's proxy or identity provider; a
customer-success manager sees their own accounts and pooled ones, a manager those of their team.
While no key was ever made and no sign-in is set up, the service is open, on the loopback interface
only, and `/v1/health` says so.
"""


def create_app(
    get_live: GetLive, get_metrics: GetMetrics, hosts: Iterable[str] = LOOPBACK
) -> RequestGuard:
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
        generate_unique_id_function=lambda route: route.name,
    )
    app.openapi = describer(app, schemas.BODIES)  # type: ignore[method-assign]
    app.include_router(scores(get_live, get_metrics))
    app.include_router(changes(get_live))
    for group in (add_scores_list, whatif, jobs, intake):
        app.include_router(group(get_live))
    app.include_router(about(get_live))
    app.include_router(monitoring(get_live))
    app.include_router(pages(get_live, answered))
    show = _showing(get_live)
    app.add_route("/metrics", _metrics(get_live, get_metrics), include_in_schema=False)
    app.add_route("/{path:path}", _nothing_here(app, show), methods=_ALL, include_in_schema=False)
    for kind, told in (
        (BellwetherError, of_error),
        (RequestValidationError, _invalid),
        (HTTPException, _http),
        (Exception, lambda _, instance: of_fault(instance)),  # the gate gets it too, and logs it
    ):
        app.add_exception_handler(kind, _answering(show, told))
    return RequestGuard(
        app,
        observe=observer(get_metrics),
        admit=admission(get_live),
        show=show,
        hosts=tuple(hosts),
    )


def _showing(get_live: GetLive) -> Show:
    """Return what makes a problem a page for people, and a document for systems."""

    def show(scope: Scope, document: dict[str, Any]) -> Response:
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
        told, live = get_metrics(request), get_live(request)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(live.probes, set_gauges, told, live)
        return Response(told.expose(), media_type="text/plain; version=0.0.4")

    return metrics


def _nothing_here(app: FastAPI, show: Show) -> Callable[[Request], Response]:
    """Answer what no other route does: 405 when the address exists for another method."""

    def nothing_here(request: Request) -> Response:
        allowed, instance = sorted(_methods_at(app, request.scope)), request.state.request_id
        if allowed:
            words = f"{request.method} is not for this address"
            answer = show(request.scope, problem("method-not-allowed", words, instance=instance))
            answer.headers["Allow"] = ", ".join(allowed)
            return answer
        words = "there is nothing at this address"
        return show(request.scope, problem("not-found", words, instance=instance))

    return nothing_here


def _methods_at(app: FastAPI, scope: Scope) -> set[str]:
    """Return the methods another route than the last one takes at this address."""
    return {
        method
        for method in _ALL
        for route in app.routes[:-1]
        if route.matches({**scope, "method": method})[0] is Match.FULL
    }


def _answering(
    show: Show, told: Callable[[Any, str], dict[str, Any]]
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return what answers a kind of error: as the problem it stands for."""

    async def answer(request: Request, error: Exception) -> Response:
        answer = show(request.scope, told(error, request.state.request_id))
        if isinstance(error, HTTPException):
            answer.headers.update(error.headers or {})
        return answer

    return answer


def _invalid(error: RequestValidationError, instance: str) -> dict[str, Any]:
    mistakes = [
        {"pointer": str(item["loc"][-1]), "message": str(item["msg"])} for item in error.errors()
    ]
    words = "; ".join(f"{item['pointer']}: {item['message']}" for item in mistakes)
    return problem("invalid-request", words, instance=instance, errors=mistakes)


def _http(error: HTTPException, instance: str) -> dict[str, Any]:
    by_status = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    slug = by_status.get(error.status_code, "invalid-request")
    return problem(slug, str(error.detail), instance=instance)
