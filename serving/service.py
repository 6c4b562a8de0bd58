"""The BentoML service: one process group, one application mounted at its root.

Configured by the environment: ``BELLWETHER_COMPANY`` (folder of the configuration),
``BELLWETHER_STATE`` (state directory), ``BELLWETHER_HOSTS`` (host names answered to),
``BELLWETHER_WORKERS``, and the addresses of `configs.places`.
"""

from __future__ import annotations

import os
import warnings

from fastapi import Request

from configs.quiet import switch_off_telemetry
from serving.api import create_app
from serving.gate import LOOPBACK
from serving.live import Live, workspace_from_environment
from serving.metrics import Metrics

switch_off_telemetry()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # BentoML's own use of pathspec
    from bentoml import asgi_app, get_current_service, on_shutdown, service

HOST, PORT = "127.0.0.1", 3000


def _live(_: Request) -> Live:
    live: Live = get_current_service().live
    return live


def _metrics(_: Request) -> Metrics:
    metrics: Metrics = get_current_service().metrics
    return metrics


def _hosts() -> list[str]:
    named = os.environ.get("BELLWETHER_HOSTS", "")
    return named.split(",") if named else list(LOOPBACK)


app = create_app(_live, _metrics, _hosts())


@service(
    name="bellwether",
    workers=int(os.environ.get("BELLWETHER_WORKERS", "1")),
    http={"host": HOST, "port": PORT},
    traffic={"timeout": 60},
    # BentoML's metrics and access log carry raw paths, so account ids: ours carry templates.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@asgi_app(app, path="/")
class Bellwether:
    """Scores, reasons and pages of the published release."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.live = Live(workspace_from_environment(os.environ))
        self.live.start()

    def __is_ready__(self) -> bool:
        """Say whether a score asked for now would be answered."""
        return self.live.is_ready()

    @on_shutdown  # type: ignore[untyped-decorator]  # BentoML has no types
    def close(self) -> None:
        """Commit what waits for the ledger."""
        self.live.close()
