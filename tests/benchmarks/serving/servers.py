"""Servers as processes of their own: started, waited for, ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with BentoML

from configs.runtime.errors import UnavailableError
from configs.runtime.telemetry import SWITCHES
from configs.schema.workspace import Workspace
from serving.run.pipeline import serve_command
from tests.benchmarks.serving.load import HOST

PATIENCE_SECONDS = 300.0

MLMODEL = """\
artifact_path: model
flavors:
  lightgbm:
    data: model.lgb
    lgb_version: any
    model_class: lightgbm.basic.Booster
  python_function:
    data: model.lgb
    loader_module: mlflow.lightgbm
model_uuid: 00000000000000000000000000000000
"""


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes
    ----------
    port : int
        On the loopback interface.
    seconds : float
        From the start of the process to the first ready answer.
    pid : int
        Of its first process; workers are children of it.
    """

    port: int
    seconds: float
    pid: int

    def processor_seconds(self) -> float:
        """Return what it and its workers used so far: what a busy machine hardly changes."""
        first = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return float(sum(item.user + item.system for item in times))


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], port: int, ready: str, log: Path
) -> Iterator[Running]:
    """Run a server until the block is left; it begins when `ready` answers with 200."""
    with log.open("ab") as out:
        begin = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603  our own command
            list(command), env=dict(environment), stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait(process, port, ready, log)
            yield Running(port, time.perf_counter() - begin, process.pid)
        finally:
            # the server and its workers are a group of their own
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=PATIENCE_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    end = time.perf_counter() + PATIENCE_SECONDS
    while time.perf_counter() < end and process.poll() is None:
        if _answers(port, ready):
            return
        time.sleep(0.02)
    raise UnavailableError("a server did not start", where=str(log))


def _answers(port: int, path: str) -> bool:
    try:
        with closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status == 200
    except OSError:
        return False


@contextmanager
def ours(workspace: Workspace, log: Path, workers: int = 1) -> Iterator[Running]:
    """Run the service of a company, as `bellwether serve` does."""
    port = free_port()
    command, environment = serve_command(workspace, port)
    environment["BELLWETHER_WORKERS"] = str(workers)
    with running(command, environment, port, "/readyz", log) as found:
        yield found


@contextmanager
def bare(log: Path, service: str = "Bare") -> Iterator[Running]:
    """Run an empty service of `tests.benchmarks.serving.bare`."""
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", f"tests.benchmarks.serving.bare:{service}"]
    command += ["--host", HOST, "--port", str(port)]
    home = {"BENTOML_HOME": str(log.parent.resolve() / "bentoml" / str(port))}
    with running(command, {**os.environ, **SWITCHES, **home}, port, "/readyz", log) as found:
        yield found


@contextmanager
def mlflow(booster: Path, folder: Path, log: Path) -> Iterator[Running]:
    """Run ``mlflow models serve`` on a LightGBM model, with one worker as ours has."""
    model = folder / "mlflow-model"
    model.mkdir(parents=True, exist_ok=True)
    (model / "MLmodel").write_text(MLMODEL, encoding="utf-8")
    (model / "model.lgb").write_bytes(booster.read_bytes())
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
    command += ["--env-manager", "local", "--host", HOST, "--port", str(port), "--workers", "1"]
    # it starts uvicorn by name
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **SWITCHES, "OMP_NUM_THREADS": "1", "PATH": path}
    with running(command, environment, port, "/ping", log) as found:
        yield found
