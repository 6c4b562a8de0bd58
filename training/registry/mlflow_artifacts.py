"""MLflow artifact repository for ``mlflow-artifacts:`` URIs in a store without a server.

Registered as a plug-in (``mlflow.artifact_repository`` in ``pyproject.toml``), because MLflow's
embedded store uses absolute paths, which break when the state directory is moved. An
``mlflow-artifacts:/…`` URI is relative to the store: a tracking server resolves it itself; with an
SQLite store it is the folder ``artifacts`` next to the database.

MLflow imports this module during its own import, so MLflow is not imported at module level.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SCHEME = "mlflow-artifacts"
FOLDER = "artifacts"

_SERVED_STORE = "_MLFLOW_SERVER_FILE_STORE"
"""Environment variable with the URI of a tracking server's own store."""


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """Return the repository of an ``mlflow-artifacts:`` URI.

    Parameters
    ----------
    artifact_uri : str
        ``mlflow-artifacts:/path``, as in the store.
    tracking_uri, registry_uri : str, optional
        URI of the store; by default that of this process.

    Returns
    -------
    mlflow.store.artifact.artifact_repo.ArtifactRepository
        Local files for an SQLite store, otherwise MLflow's own proxy repository.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.tracking._tracking_service.utils import get_tracking_uri

    uri = tracking_uri or get_tracking_uri()
    folder = artifacts_folder(uri) or artifacts_folder(os.environ.get(_SERVED_STORE, ""))
    if folder is None or urlsplit(uri).scheme in ("http", "https"):
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    return LocalArtifactRepository(artifact_path(folder, artifact_uri).as_uri(), tracking_uri)


def artifacts_folder(store_uri: str) -> Path | None:
    """Return the folder of artifacts next to an SQLite database; None for other stores.

    >>> artifacts_folder("sqlite:////srv/acme/mlflow/mlflow.db").as_posix()
    '/srv/acme/mlflow/artifacts'
    >>> artifacts_folder("https://mlflow.example.com") is None
    True
    """
    kind, separator, path = store_uri.partition(":///")
    if not separator or not path or not kind.startswith("sqlite"):
        return None
    return Path(path.partition("?")[0]).absolute().with_name(FOLDER)


def artifact_path(folder: Path, artifact_uri: str) -> Path:
    """Return the path of a URI in the folder of artifacts.

    Raises
    ------
    ValueError
        The path is outside the folder.
    """
    path = (folder / unquote(urlsplit(artifact_uri).path).lstrip("/")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{artifact_uri} is outside the artifacts of the store")
    return path
