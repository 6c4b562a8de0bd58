"""FastAPI dependency that provides the server state to routes of the API and the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from serving.online.server_state import ServerState

GetLive = Callable[[Request], ServerState]


def provide_state(app: FastAPI, get_live: GetLive) -> None:
    """Set the function that returns the server state for a request of an application."""
    app.state.get_live = get_live


async def server_state(request: Request) -> ServerState:
    """Return the server state of the application that handles a request."""
    live: ServerState = request.app.state.get_live(request)
    return live


Live = Annotated[ServerState, Depends(server_state)]
