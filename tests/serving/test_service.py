"""The service itself: starts light, speaks through BentoML, builds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from configs.errors import ConfigError
from serving.live import workspace_from_environment

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


@pytest.fixture
def server(environment, unused_port):
    command = [
        sys.executable, "-m", "bentoml", "serve", "serving.service:Bellwether",
        "--host", "127.0.0.1", "--port", str(unused_port),
    ]  # fmt: skip
    log = Path(environment["BELLWETHER_STATE"]).parent / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            yield f"http://127.0.0.1:{unused_port}", process, log
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, process, log: Path, seconds: float = 90) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(log.read_text())


@pytest.mark.slow
def test_it_answers_through_bentoml(server):
    url, process, log = server
    wait_until_ready(url, process, log)
    with httpx.Client(base_url=url, timeout=30) as http:
        answer = http.get("/v1/accounts/A-0030/score")
        assert answer.status_code == 200
        assert answer.json()["status"] == "scored"
        missing = http.get("/not/there")
        assert missing.headers["content-type"] == "application/problem+json"
        assert missing.status_code == 404
        assert http.get("/healthz").status_code == 200
        assert http.get("/livez").status_code == 200
        home = http.get("/").text
        assert "My book" in home
        assert "googletagmanager" not in home
        metrics = http.get("/metrics").text
        assert 'route="/v1/accounts/{account_id}/score",status="200"' in metrics
        assert "A-0030" not in metrics
        large = http.post(
            "/v1/scores", content=b"x" * 1_100_000, headers={"Content-Type": "application/json"}
        )
        assert large.status_code == 413
