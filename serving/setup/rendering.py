"""Templates, errors and form protection of the setup pages."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from jinja2 import ChoiceLoader, Environment, FileSystemLoader
from starlette.responses import HTMLResponse, Response

from configs.runtime.errors import BellwetherError, StateError
from serving.http.problems import ProblemError
from serving.pages.account.forms import check_form, is_same_origin
from serving.pages.common import OUTSIDE
from serving.pages.templating import PRIVATE
from serving.pages.templating import environment as pages_environment
from serving.setup.desk import Desk
from serving.setup.results import FailureText

TEMPLATES = Path(__file__).parent / "templates"

REFRESH_SECONDS = 2
"""Time after which a page with something that runs loads itself again."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

DeskOf = Callable[[Request], Desk]


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the environment of the pages with the templates of this package."""
    pages = pages_environment()
    own = FileSystemLoader(TEMPLATES)
    return pages.overlay(loader=ChoiceLoader([own, *([pages.loader] if pages.loader else [])]))


STEPS = (
    ("", "Files"),
    ("mapping", "Mapping"),
    ("understood", "Figures"),
    ("quality", "Quality"),
    ("run", "Run"),
    ("book", "Book"),
)
"""Steps of the setup: last part of the address, and title."""


def render(
    desk: Desk, template: str, step: str, *, status: int = 200, refresh: bool = False, **values: Any
) -> HTMLResponse:
    """Return a page of a desk.

    Parameters
    ----------
    desk : Desk
        The company folder.
    template : str
        Name of the template.
    step : str
        Current step, a key of `STEPS`.
    status : int
        HTTP status.
    refresh : bool
        The page loads itself again after `REFRESH_SECONDS`. This is a header, so that a link
        without it can stop the reloading.
    **values
        Values of the template.
    """
    names = {"", "mapping", "understood", "quality"} if desk.is_service else {n for n, _ in STEPS}
    base = OUTSIDE | {
        "company": desk.title,
        "desk": desk,
        "token": desk.token(),
        "step": step,
        "steps": [(name, title) for name, title in STEPS if name in names],
        "refresh": refresh,
    }
    text = environment().get_template(template).render(**(base | values))
    headers = {**PRIVATE, **({"Refresh": str(REFRESH_SECONDS)} if refresh else {})}
    return HTMLResponse(text, status, headers=headers)


def address(desk: Desk, step: str) -> str:
    """Return the address of a step."""
    return f"/start/{step}{desk.link}" if step else f"/start{desk.link}"


async def check_start_form(request: Request, desk: Desk) -> dict[str, str]:
    """Return the fields of a form after all checks: origin, media type, token.

    Raises
    ------
    ProblemError
        The request is none that these pages send.
    """
    await check_form(request)
    fields = {name: str(value) for name, value in (await request.form()).multi_items()}
    if not desk.has_token(fields.pop("token", "")):
        raise ProblemError("forbidden", "the form is not of this page; load the page again")
    return fields


def check_upload_origin(request: Request) -> None:
    """Refuse uploads from pages of other sites; the token is checked as the body arrives.

    Raises
    ------
    ProblemError
        The request comes from elsewhere.
    """
    if not is_same_origin(request):
        raise ProblemError("forbidden", "forms are accepted from pages of this service only")


def failure_text(error: Exception) -> tuple[FailureText, int]:
    """Return an error in plain words, and its HTTP status."""
    if isinstance(error, ProblemError):
        words = [f"{item['pointer']}: {item['message']}" for item in error.errors or ()]
        return FailureText(error.what, "; ".join(words)), error.kind.status
    if isinstance(error, BellwetherError):
        # A second run is a conflict; everything else is about what was sent.
        return FailureText(error.what, error.where, error.fix), (
            409 if isinstance(error, StateError) else 422
        )
    assert isinstance(error, OSError)
    where = str(error.filename or "")
    if error.errno in FULL:
        return (
            FailureText(
                "the disk or quota is full; no partial file is kept",
                where,
                "free disk space, then send the form again",
            ),
            507,
        )
    fix = "correct the path or its permissions, then try again"
    return FailureText(f"cannot be read or written: {error.strerror or error}", where, fix), 422


def start_route(desk_of: DeskOf) -> type[APIRoute]:
    """Return the class of routes that show errors as a page with a way back."""

    class StartRoute(APIRoute):
        """Route of a setup page."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return the handler of the route."""
            handle = super().get_route_handler()

            async def handle_page(request: Request) -> Response:
                try:
                    return await handle(request)
                except (BellwetherError, OSError) as error:
                    problem, status = failure_text(error)
                    try:
                        desk = desk_of(request)
                        return render(desk, "trouble.html", "-", status=status, problem=problem)
                    except (BellwetherError, OSError):  # the page itself is not possible
                        if isinstance(error, ProblemError):
                            raise error from None
                        slug = "invalid-request" if status == 422 else "unavailable"
                        raise ProblemError(slug, problem.what) from error

            return handle_page

    return StartRoute
