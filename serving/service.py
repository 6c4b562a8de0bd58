"""The BentoML service: one process group, one application mounted at its root.

Configured by the environment: ``BELLWETHER_COMPANY`` (folder of the configuration),
``BELLWETHER_STATE`` (state directory), ``BELLWETHER_HOSTS`` (host names answered to),
``BELLWETHER_WORKERS``, and the addresses of `configs.places`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from configs.quiet import switch_off_telemetry

switch_off_telemetry()

# ruff: noqa: E402  BentoML and OpenTelemetry read their switches when they are imported
import bentoml
from fastapi import Request

from configs.company import load_company
from configs.errors import ConfigError
from configs.places import Places, Workspace
from configs.state import State
from serving.api import create_app
from serving.gate import LOOPBACK
from serving.live import Live
from serving.metrics import Metrics

HOST, PORT = "127.0.0.1", 3000


def workspace_from_environment(environment: Mapping[str, str]) -> Workspace:
    """Return whom to serve.

    Serving reads no raw data, so the data folder need not be there.

    Raises
    ------
    ConfigError
        A variable is missing or names nothing.
    """
    missing = [
        name for name in ("BELLWETHER_COMPANY", "BELLWETHER_STATE") if not environment.get(name)
    ]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not set",
            where="the environment",
            fix="bellwether serve COMPANY sets them",
        )
    folder = Path(environment["BELLWETHER_COMPANY"])
    company = load_company(folder)
    data = Path(environment.get("BELLWETHER_DATA") or folder)
    state = State(Path(environment["BELLWETHER_STATE"]).resolve())
    return Workspace(company, folder, data, state, Places.from_environment(environment))


def _live(_: Request) -> Live:
    live: Live = bentoml.get_current_service().live
    return live


def _metrics(_: Request) -> Metrics:
    metrics: Metrics = bentoml.get_current_service().metrics
    return metrics


def _hosts() -> list[str]:
    named = os.environ.get("BELLWETHER_HOSTS", "")
    return named.split(",") if named else list(LOOPBACK)


app = create_app(_live, _metrics, _hosts())


@bentoml.service(
    name="bellwether",
    workers=int(os.environ.get("BELLWETHER_WORKERS", "1")),
    http={"host": HOST, "port": PORT},
    traffic={"timeout": 60},
    # BentoML's metrics and access log carry raw paths, so account ids: ours carry templates.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class Bellwether:
    """Scores, reasons and pages of the published release."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.live = Live(workspace_from_environment(os.environ))
        self.live.start()

    def __is_ready__(self) -> bool:
        """Say whether a score asked for now would be answered."""
        return self.live.is_ready()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # BentoML has no types
    def close(self) -> None:
        """Commit what waits for the ledger."""
        self.live.close()
