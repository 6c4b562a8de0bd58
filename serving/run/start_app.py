"""The local application that sets a company up in the browser, before there is a service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from socket import socket

from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from configs.runtime.errors import BellwetherError, ConfigError
from configs.schema.settings import ServiceSettings
from serving.api.app import upload_limits
from serving.api.middleware import LOOPBACK, RequestGuard
from serving.auth.authenticate import is_public, local_caller
from serving.auth.permissions import Caller
from serving.http.problems import Problem, is_for_people, of_error, problem, response, slug_of
from serving.pages.common import OUTSIDE
from serving.pages.routes import favicon
from serving.pages.templating import STATIC, page
from serving.run.servers import check_free
from serving.setup.actions import AUDIT, BOOK, CHECK, RUN, child
from serving.setup.desk import Desk, local_desk
from serving.setup.routes import start_router

HOST, PORT = "127.0.0.1", 3001


def start_desk(folder: Path) -> Desk:
    """Return the desk of a folder.

    Exports may be chosen below ``BELLWETHER_START_ROOT``; without it, below the home folder, the
    current folder and the company folder.

    Raises
    ------
    ConfigError
        The path is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            "the company folder is a file", where=str(folder), fix="name a folder, or a new one"
        )
    root = ServiceSettings.from_environment().start_root
    whole = folder.absolute()
    roots = (Path(root).expanduser(),) if root else (Path.home(), Path.cwd(), whole)
    return local_desk(whole, roots)


def start_application(desk: Desk) -> RequestGuard:
    """Return the application of one desk; requests of other machines are refused."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_api_route("/favicon.ico", favicon, methods=["GET"])
    app.add_api_route("/", _to_start, methods=["GET"])
    app.include_router(start_router(lambda _: desk))
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(BellwetherError, _error)
    return RequestGuard(
        app,
        observe=lambda *_: None,
        admit=_admit,
        show=_show,
        hosts=LOOPBACK,
        limits=upload_limits(),
    )


def _to_start() -> Response:
    return RedirectResponse("/start")


def _admit(scope: Scope, headers: Headers) -> Caller | None:
    return None if is_public(scope["path"]) else local_caller(scope, headers)


def _show(scope: Scope, document: Problem) -> Response:
    if not is_for_people(scope, Headers(scope=scope)):
        return response(document)
    status, slug = document["status"], slug_of(document)
    return page("problem.html", status, **OUTSIDE, problem=document, slug=slug)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "invalid-request")
    return _show(request.scope, problem(slug, str(error.detail)))


def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BellwetherError)
    return _show(request.scope, of_error(error, request.state.request_id))


def serve_start(desk: Desk, port: int, announce: Callable[[], None]) -> None:
    """Serve the application until it is interrupted, then end what it started.

    Parameters
    ----------
    desk : Desk
        The company folder.
    port : int
        Port on the loopback interface.
    announce : callable
        Called once requests are answered.

    Raises
    ------
    ConfigError
        The port is taken.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets)
            announce()

    check_free(HOST, port)
    application = start_application(desk)
    try:
        Server(uvicorn.Config(application, host=HOST, port=port, log_level="warning")).run()
    finally:
        for name in (AUDIT, CHECK, RUN, BOOK):
            child(desk, name).stop()
