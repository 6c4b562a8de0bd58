"""Exports for other systems: scores in a CRM's fields, reported outcomes as a source table."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from configs.runtime.errors import StateError
from configs.schema.workspace import Workspace
from serving.batch.score_book import read_latest, read_table
from serving.integrations.crm_export import load_mapping, mapped_lines
from serving.ledger.store.feedback_store import FeedbackStore
from serving.scoring.export_rows import cell, csv_text


def export_mapped(workspace: Workspace, system: str, path: Path) -> int:
    """Write the last book as CSV in the fields of another system; return how many rows.

    Raises
    ------
    ConfigError, StateError
        There is no such mapping, or no book.
    """
    mapping, run = load_mapping(system), read_latest(workspace.state)
    if run is None:
        raise StateError(
            "no book is published yet",
            where=str(workspace.state.scores),
            fix=f"bellwether score {workspace.folder}",
        )
    rows = read_table(run).to_pylist()
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8", newline="") as handle:
        handle.writelines(mapped_lines(rows, mapping))
    aside.replace(path)
    return len(rows)


def export_outcomes(workspace: Workspace, path: Path) -> int:
    """Write what was reported through the API as the source table ``outcomes``."""
    intake = FeedbackStore(workspace)
    try:
        rows = intake.outcomes()
    finally:
        intake.close()
    names = ("account_id", "outcome", "decided_on", "effective_on", "reason", "known_at")
    told = [{**row, "known_at": row["known_at"].isoformat()} for row in rows]
    with path.open("w", encoding="utf-8", newline="") as handle:
        lines = ([cell(row[name]) for name in names] for row in told)
        handle.writelines(csv_text(chain([names], lines)))
    return len(rows)
