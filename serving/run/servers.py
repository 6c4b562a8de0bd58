"""Commands that start the scoring service and MLflow's server, checked before they start."""

from __future__ import annotations

import os
import socket
import sys

from configs.runtime.errors import ConfigError, StateError
from configs.runtime.telemetry import SWITCHES
from configs.schema.workspace import Workspace
from features.pipeline import refuse_ready_table
from serving.api.middleware import LOOPBACK
from serving.auth.api_keys import ApiKeys, KeyStore
from serving.auth.authenticate import Authenticator
from serving.auth.oidc import SignInSessions
from serving.run.release import published
from training.registry.mlflow_artifacts import FOLDER as ARTIFACTS
from training.registry.mlflow_artifacts import artifacts_folder
from training.registry.tracking_store import DATABASE, tracking_uri

SERVICE = "serving.service:Bellwether"


def serve_command(
    workspace: Workspace, port: int, host: str = "127.0.0.1"
) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that serve a company.

    Raises
    ------
    ConfigError
        The address is open to other machines without API keys or sign-in, or the port is taken.
    """
    refuse_ready_table(workspace.company)
    published(workspace)
    _check_exposure(workspace, host)
    check_free(host, port)
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE]
    command += ["--host", host, "--port", str(port)]
    environment = {
        **os.environ,
        **SWITCHES,
        "BELLWETHER_COMPANY": str(workspace.folder.resolve()),
        "BELLWETHER_STATE": str(workspace.state.root.resolve()),
        "BELLWETHER_DATA": str(workspace.data.resolve()),
    }
    # BentoML empties its home's folder of metrics when it starts: another service's with it.
    home = workspace.state.root.resolve() / "bentoml" / str(port)
    environment.setdefault("BENTOML_HOME", str(home))
    return command, environment


def mlflow_command(workspace: Workspace, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment of MLflow's server over the company's store.

    It listens on this machine only, because it has no sign-in. Artifacts are served from the state
    directory, so that clients of the server read the same files as clients of the store.

    Raises
    ------
    ConfigError
        The company has a tracking server of its own, or the port is taken.
    StateError
        No model was trained yet.
    """
    url, host = tracking_uri(workspace), "127.0.0.1"
    if url.startswith(("http://", "https://")):
        raise ConfigError(
            "trainings are on your own tracking server, which has these pages",
            where="BELLWETHER_MLFLOW_URL",
            fix="open that address in a browser",
        )
    folder = artifacts_folder(url)
    if folder is not None and not folder.with_name(DATABASE).is_file():
        raise StateError(
            "no model was trained here yet",
            where=str(folder.with_name(DATABASE)),
            fix=f"bellwether train {workspace.folder}",
        )
    check_free(host, port)
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", f"{host}:{port},localhost:{port}"]
    kept = (folder or workspace.state.mlflow.resolve() / ARTIFACTS).as_uri()
    environment = {
        **os.environ,
        **SWITCHES,
        # Not on the command line, which other users can read: an address may hold a password.
        "MLFLOW_BACKEND_STORE_URI": url,
        "MLFLOW_REGISTRY_STORE_URI": url,
        "MLFLOW_ARTIFACTS_DESTINATION": kept,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return command, environment


def is_open(workspace: Workspace) -> bool:
    """Whether every caller may do everything: no API key exists and no sign-in is configured."""
    store = KeyStore(workspace)
    try:
        people = SignInSessions(workspace.company.access, workspace.places.sign_in)
        return Authenticator(ApiKeys(store.every()), people).is_open
    finally:
        store.close()


def check_free(host: str, port: int) -> None:
    """Refuse a port that is taken, before a server fails on it."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(target)
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {host}:{port}: {error.strerror or error}",
                fix="choose another with --port, or stop the process that uses it",
            ) from error


def _check_exposure(workspace: Workspace, host: str) -> None:
    if host in LOOPBACK:
        return
    if is_open(workspace):
        raise ConfigError(
            f"{host} is reachable from other machines, and access is open to everyone",
            fix=f"bellwether keys create {workspace.folder}   makes an API key; people "
            "sign in through BELLWETHER_PROXY_SECRET or BELLWETHER_OIDC_ISSUER; or omit --host",
        )
    if not os.environ.get("BELLWETHER_HOSTS"):
        raise ConfigError(
            "the host names that the service answers to are not set",
            where="BELLWETHER_HOSTS",
            fix="BELLWETHER_HOSTS=bellwether.example.com,127.0.0.1   as callers write them",
        )
