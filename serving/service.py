"""The BentoML service: one process group, one application mounted at its root.

Configured by the environment: ``BELLWETHER_COMPANY`` (folder of the configuration),
``BELLWETHER_STATE`` (state directory), ``BELLWETHER_HOSTS`` (host names answered to),
``BELLWETHER_WORKERS`` (processes), ``BELLWETHER_CHECK_SECONDS`` (how often each looks for a new
release), ``BELLWETHER_LOG_LEVEL``, and the addresses of `configs.schema.workspace`.
"""

from __future__ import annotations

import gc
import os
import warnings

from fastapi import HTTPException, Request

from configs.runtime.telemetry import switch_off_telemetry
from serving.api import create_app
from serving.api.middleware import LOOPBACK, Hosts
from serving.http.logs import log_as_json
from serving.http.problems import RETRY_SECONDS
from serving.http.prometheus import Metrics
from serving.http.uvicorn_protocol import speak_promptly
from serving.online.parent_process import end_with_parent, name_main_process
from serving.online.server_state import CHECK_SECONDS, ServerState, workspace_from_environment

switch_off_telemetry()
name_main_process()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # BentoML's own use of pathspec
    from bentoml import asgi_app, get_current_service, on_shutdown, service

HOST, PORT = "127.0.0.1", 3000


def _live(_: Request) -> ServerState:
    live: ServerState = get_current_service().live
    return live


def _metrics(_: Request) -> Metrics:
    metrics: Metrics = get_current_service().metrics
    return metrics


def _hosts() -> list[str]:
    named = os.environ.get("BELLWETHER_HOSTS", "")
    return named.split(",") if named else list(LOOPBACK)


def _leave_loaded_alone() -> None:
    """Keep the garbage collector from walking, for every batch, over all that was loaded.

    A batch makes tens of thousands of small objects, which sets the collector off; what the
    libraries and the release hold outnumbers them and never becomes garbage (a quarter of the time
    of a batch).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


speak_promptly()
app = create_app(_live, _metrics, _hosts())


@service(
    name="bellwether",
    workers=int(os.environ.get("BELLWETHER_WORKERS", "1")),
    http={"host": HOST, "port": PORT},
    traffic={"timeout": 60},
    # BentoML's metrics and access log carry raw paths, so account ids: ours carry templates.
    metrics={"enabled": False},
    # No spans are sent anywhere; to prepare them takes as long as to read the request.
    tracing={"excluded_urls": [".*"]},
    logging={"access": {"enabled": False}},
)
@asgi_app(app, path="/")
class Bellwether:
    """Scores, reasons and pages of the published release."""

    def __init__(self) -> None:
        end_with_parent()
        log_as_json(os.environ.get("BELLWETHER_LOG_LEVEL", "INFO"))
        self.metrics = Metrics()
        self.live = ServerState(workspace_from_environment(os.environ))
        self.live.start(float(os.environ.get("BELLWETHER_CHECK_SECONDS", CHECK_SECONDS)))
        _leave_loaded_alone()

    def __is_ready__(self) -> bool:
        """Say that a score asked for now would be answered, or why not, with status 503."""
        if why := self.live.why_not_ready():
            retry = {"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"}
            raise HTTPException(503, f"not ready: {why}", retry)
        return True

    @on_shutdown  # type: ignore[untyped-decorator]  # BentoML has no types
    def close(self) -> None:
        """Commit what waits for the ledger."""
        self.live.close()


# BentoML answers some addresses itself, before the application.
Bellwether.add_asgi_middleware(  # type: ignore[attr-defined]  # BentoML has no types
    Hosts, hosts=tuple(_hosts())
)
