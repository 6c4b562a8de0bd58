"""What every group of operations uses: JSON bytes, and what is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from serving.http.prometheus import Metrics
from serving.online.server_state import ServerState

GetLive = Callable[[Request], ServerState]
GetMetrics = Callable[[Request], Metrics]


NO_STORE = {"Cache-Control": "no-store"}


def json_response(body: bytes, headers: dict[str, str] | None = None) -> Response:
    """Return JSON bytes that nobody may keep."""
    return Response(body, media_type="application/json", headers=NO_STORE | (headers or {}))


def json_answer(value: Any) -> Response:
    """Return a plain value as JSON."""
    return json_response(orjson.dumps(value))
