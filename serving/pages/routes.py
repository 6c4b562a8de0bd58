"""All routes of the pages as one router."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from serving.auth.permissions import READ, RequiredRole
from serving.pages import me
from serving.pages.account import forms, whatif
from serving.pages.account import page as account
from serving.pages.lists import book, changes, escalations, search, week
from serving.pages.portfolio import data_page, reports, track_record
from serving.pages.portfolio import page as portfolio
from serving.pages.templating import STATIC


def page_router(answered: account.Answered) -> APIRouter:
    """Return the router of the pages.

    Parameters
    ----------
    answered : callable
        Scores accounts and waits for the ledger; see `serving.api.routes.scores.answered`.
    """
    router = APIRouter(include_in_schema=False, dependencies=[Depends(RequiredRole(READ))])
    router.mount("/static", StaticFiles(directory=STATIC), name="static")
    router.add_api_route("/favicon.ico", favicon, methods=["GET"])
    for group in (book, search, changes, me, week, portfolio, escalations, forms, whatif):
        router.include_router(group.router)
    router.include_router(account.account_router(answered))
    router.include_router(track_record.router)
    router.include_router(reports.router)
    router.include_router(data_page.router)
    return router


def favicon() -> Response:
    """Return the address of the icon."""
    return RedirectResponse("/static/mark.svg", status_code=301)
