"""Two empty BentoML services, a constant at ``/constant`` and nothing loaded.

One as BentoML ships it, one with everything switched off that ours switches off.
"""

from __future__ import annotations

import warnings

from fastapi import FastAPI
from starlette.responses import Response

from configs.runtime.telemetry import switch_off_telemetry

switch_off_telemetry()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # BentoML's own use of pathspec
    from bentoml import asgi_app, service

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/constant")
async def constant() -> Response:
    """Return the same bytes to everybody."""
    return Response(b'{"constant":true}', media_type="application/json")


@service(
    name="bare",
    workers=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    tracing={"excluded_urls": [".*"]},
    logging={"access": {"enabled": False}},
)
@asgi_app(app, path="/")
class Bare:
    """Nothing, with our settings."""


@service(name="shipped", workers=1)
@asgi_app(app, path="/")
class Shipped:
    """Nothing, with BentoML's settings."""
