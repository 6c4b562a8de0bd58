"""The service itself: starts light, speaks through BentoML, builds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.runtime.errors import ConfigError
from serving.online.server_state import workspace_from_environment

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("mlflow", "optuna", "sklearn", "shap", "dask")

START = f"""
import sys
from serving.service import Bellwether
service = Bellwether.inner()
assert service.__is_ready__(), service.live.notes
scored = service.live.score(["A-0030"], request_id="start")
assert scored.answers[0]["status"] == "scored", scored.answers
service.close()
found = [name for name in {HEAVY!r} if name in sys.modules]
assert not found, f"start-up imports {{found}}"
"""

IMPORT = """
import sys
import serving.service
found = [name for name in ("feast", "lightgbm", "pandas", "ibis") if name in sys.modules]
assert not found, f"importing the service imports {found}"
"""


@pytest.fixture
def environment(world, book) -> dict[str, str]:
    assert book.run_id
    state = world.workspace.state.root
    return {
        **{key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"},
        "BELLWETHER_COMPANY": str(world.workspace.folder),
        "BELLWETHER_STATE": str(state),
        "BENTOML_HOME": str(state.parent / "bentoml"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def run_python(code: str, environment) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_missing_configuration_is_named():
    with pytest.raises(ConfigError, match="BELLWETHER_COMPANY and BELLWETHER_STATE not set"):
        workspace_from_environment({})


def test_telemetry_is_off_before_bentoml_is_there(environment):
    code = (
        "import os, serving.service\n"
        "from bentoml._internal.utils.analytics.usage_stats import do_not_track\n"
        "assert do_not_track()\n"
        "assert os.environ['OTEL_SDK_DISABLED'] == 'true'\n"
    )
    run_python(code, environment)


@pytest.mark.slow
def test_importing_the_service_starts_nothing(environment):
    run_python(IMPORT, environment)


@pytest.mark.slow
def test_starting_leaves_the_training_stack_alone(environment):
    run_python(START, environment)
