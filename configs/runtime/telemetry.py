"""Environment variables that switch off the telemetry of libraries before they are imported."""

from __future__ import annotations

import os

SWITCHES = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "OTEL_SDK_DISABLED": "true",
}


def switch_off_telemetry() -> None:
    """Set every variable of `SWITCHES`; call it before importing the libraries."""
    os.environ.update(SWITCHES)
