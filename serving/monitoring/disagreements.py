"""Disagreeing totals of the latest scores, for the pages. Light to import."""

from __future__ import annotations

from collections.abc import Sequence

from configs.runtime.state_directory import read_json, write_json_atomically
from configs.schema.workspace import Workspace

FILE = "disagreements.json"


def keep_disagreements(workspace: Workspace, run_id: str, found: Sequence[str]) -> None:
    """Store the disagreements found by `serving.run.reconcile` for the pages."""
    path = workspace.state.reports / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(path, {"run_id": run_id, "found": list(found)})


def kept(workspace: Workspace, run_id: str) -> list[str]:
    """Return the disagreements of a score run; empty when it has none or was not checked."""
    try:
        stored = read_json(workspace.state.reports / FILE)
    except FileNotFoundError:
        return []
    return list(stored["found"]) if stored["run_id"] == run_id else []
