"""A lane of its own for the operation that is called most often.

What FastAPI does for a request with one text in its address (finding the route in its routers,
dependencies, exit stacks, validation) takes as long as the answer itself. The operation is declared
like any other, and so described and checked; requests for it are handed to its function directly.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


class Lane:
    """Middleware within the gate that answers one operation and passes on everything else.

    Parameters
    ----------
    app : ASGI application
        What answers the rest.
    route : APIRoute
        A GET with one path parameter; its function takes the parameter and the request, its
        dependencies take the request.
    """

    def __init__(self, app: ASGIApp, route: APIRoute) -> None:
        self.app = app
        self._route = route
        self._needs = [item.dependency for item in route.dependencies if item.dependency]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; the gate makes problems of what it raises."""
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        found = self._route.path_regex.match(scope["path"]) if is_get else None
        if found is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = self._route  # metrics and logs carry its template
        request = Request(scope, receive, send)
        for need in self._needs:
            await need(request)
        response = await self._route.endpoint(found[1], request)
        await response(scope, receive, send)


def route_named(router: APIRouter, name: str) -> APIRoute:
    """Return a route of a router by the name of its function."""
    [found] = [item for item in router.routes if isinstance(item, APIRoute) and item.name == name]
    return found
