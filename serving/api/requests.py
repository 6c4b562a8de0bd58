"""JSON responses of the API, and access to the metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from serving.http.prometheus import Metrics

GetMetrics = Callable[[Request], Metrics]


NO_STORE = {"Cache-Control": "no-store"}


def json_response(body: bytes, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response that must not be cached."""
    return Response(body, media_type="application/json", headers=NO_STORE | (headers or {}))


def json_answer(value: Any) -> Response:
    """Return a value as a JSON response."""
    return json_response(orjson.dumps(value))
