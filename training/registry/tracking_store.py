"""Location of MLflow's tracking store. Light to import: serving reads it without MLflow."""

from __future__ import annotations

from configs.schema.workspace import Workspace

DATABASE = "mlflow.db"


def tracking_uri(workspace: Workspace) -> str:
    """Return the tracking URI: the configured server, or SQLite in the state directory."""
    embedded = workspace.state.mlflow.resolve() / DATABASE
    return workspace.places.tracking_url or f"sqlite:///{embedded}"
