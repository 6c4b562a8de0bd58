"""Replay of past scores from the ledger, and retention in it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from configs.runtime.errors import StateError
from configs.schema.company import Retention
from configs.schema.workspace import Workspace
from serving.ledger.model_archive import ModelArchive
from serving.ledger.replay import Replay, replay
from serving.ledger.retention import RetentionResult, RetentionWorker
from serving.ledger.store.ledger import Ledger


def replay_scores(
    workspace: Workspace,
    *,
    score_id: str | None = None,
    account: str | None = None,
    at: datetime | None = None,
    sample: int = 20,
) -> list[Replay]:
    """Compute past scores again from the ledger.

    Parameters
    ----------
    workspace : Workspace
        The company.
    score_id : str, optional
        One score.
    account, at : str and datetime, optional
        The last scores of this account, one per target, served by that instant.
    sample : int
        Otherwise this many scores, spread over the whole ledger; the same each time.

    Raises
    ------
    StateError
        There is no such score.
    """
    archive = ModelArchive(workspace.state)
    with Ledger.open(workspace) as ledger:
        if score_id is not None:
            rows = [row for row in [ledger.scores.find(score_id)] if row is not None]
        elif account is not None:
            rows = ledger.scores.served_by(account, at)
        else:
            rows = ledger.scores.sample(sample)
    if not rows:
        raise StateError(
            f"the ledger holds no score of {score_id or account or 'any account'}"
            + (f" served by {at.isoformat()}" if at else ""),
            where="BELLWETHER_LEDGER_URL"
            if workspace.places.ledger_url
            else str(workspace.state.ledger),
            fix="every answer carries its score_id; `bellwether score` fills the ledger",
        )
    return [replay(archive, row) for row in rows]


def tidy_ledger(workspace: Workspace, keeping: Retention | None, *, shrink: bool) -> dict[str, Any]:
    """Apply retention to the ledger; return what was done, with its size before and after.

    Parameters
    ----------
    workspace : Workspace
        The company.
    keeping : Retention or None
        Limits; None changes nothing and only reports the size.
    shrink : bool
        Return the freed space to the disk.
    """
    with Ledger.open(workspace) as ledger:
        before = {"scores": ledger.scores.count(), "bytes": ledger.size_bytes()}
        done = RetentionResult()
        if keeping is not None:
            done = RetentionWorker(workspace, ledger, keeping).tidy(
                datetime.now(UTC), workspace.company.clock()
            )
        if shrink:
            ledger.shrink()
        after = {"scores": ledger.scores.count(), "bytes": ledger.size_bytes()}
    return {"before": before, "after": after, "done": asdict(done), "words": done.words}
