"""Page of the reader: name, role, what they may do, and which accounts they see."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from serving.auth.permissions import LOCAL, SCOPES, caller_of
from serving.online.current_state import Live
from serving.pages.common import PageRouter, as_json, common, shows_people, visible_owners
from serving.pages.lists.book import owners
from serving.pages.templating import page

router = PageRouter()


def me_values(live: Live, request: Request) -> dict[str, Any]:
    """Return the template values of the page."""
    caller, seen = caller_of(request), visible_owners(live, request)
    known = dict(owners(live.book.table)) if live.book else {}
    return {
        "name": caller.name,
        "is_local": caller == LOCAL,
        "role": caller.role,
        "owner_id": caller.owner_id,
        "may": [
            {"scope": scope, "words": words} for scope, words in SCOPES.items() if caller.may(scope)
        ],
        "owners": None if seen is None else sorted(known.get(each, each) for each in seen if each),
        "sees_people": shows_people(live, request),
    }


Values = Annotated[dict[str, Any], Depends(me_values)]


@router.page("/me")
def me(live: Live, found: Values) -> Response:
    """Return the page of the reader."""
    return page("me.html", **common(live, "me"), **found)


@router.get("/me.json")
def me_json(found: Values) -> Response:
    """Return the same as JSON."""
    return as_json(found)
