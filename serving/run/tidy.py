"""Retention of everything a company keeps: files of the state directory, and the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from configs.schema.workspace import Workspace
from serving.ledger.retention import RetentionWorker
from serving.ledger.store.ledger import Ledger
from serving.privacy.retention import Removed, tidy_files


def tidy_company(workspace: Workspace, now: datetime, *, is_trial: bool = False) -> Removed:
    """Apply `retention` and `ledger` of company.yaml; with `is_trial` only list the files.

    The caller holds the lock of the state directory.

    Parameters
    ----------
    workspace : Workspace
        The company.
    now : datetime
        The present, with a zone.
    is_trial : bool
        Change nothing; the ledger is left out, because only removing shows what is open.
    """
    company, clock = workspace.company, workspace.company.clock()
    removed = tidy_files(workspace.state, company.retention, now, clock, is_trial=is_trial)
    has_ledger = bool(workspace.places.ledger_url) or workspace.state.ledger.is_dir()
    if is_trial or not has_ledger:
        return removed
    with Ledger.open(workspace) as ledger:
        done = RetentionWorker(workspace, ledger).tidy(now, clock)
    return replace(removed, ledger=done.words)
