"""The scoring step: score every account, join outcomes, look at drift, update risks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from configs.runtime.errors import StateError
from configs.schema.plays import load_plays
from configs.schema.workspace import Workspace
from features.pipeline import build_served, refuse_ready_table
from features.sources import Loaded, load_sources
from serving.auth.permissions import read_managers
from serving.batch.score_book import ScoreRun, read_latest, read_table, score_book, watched_book
from serving.integrations.webhooks import announce_escalations
from serving.ledger.outcomes import join_outcomes
from serving.ledger.retention import RetentionWorker
from serving.ledger.store.ledger import Ledger
from serving.monitoring.monitor import monitor
from serving.monitoring.report import Monitoring
from serving.online.release_trial import ReleaseTrials
from serving.run.release import check_can_score, published
from serving.workflow.escalations import escalated
from serving.workflow.risk_store import RiskStore
from training.model.bands import newest_vectors
from training.registry.releases import Release, mirror, open_store
from training.registry.shadow import mirror_shadow

Progress = Callable[[str], None]


def score_company(workspace: Workspace, now: datetime, progress: Progress) -> ScoreRun:
    """Build the features that are out of date and score every account."""
    refuse_ready_table(workspace.company)
    release = published(workspace)
    loaded = load_sources(workspace, now, progress)
    return score_loaded(workspace, release, loaded, now, progress)


def score_loaded(
    workspace: Workspace, release: Release, loaded: Loaded, now: datetime, progress: Progress
) -> ScoreRun:
    """Build the features of loaded tables that are out of date and score every account."""
    served = build_served(workspace, loaded, now, progress)
    check_can_score(release, served.features)
    return score_accounts(workspace, release, loaded, now, progress)


def earlier_results(workspace: Workspace) -> str:
    """Return in words which results remain after a failed run."""
    try:
        run = read_latest(workspace.state)
    except StateError as error:
        return f"the earlier results cannot be read: {error.what}"
    if run is None:
        return "there are no earlier results"
    return (
        f"the results as of {run.as_of[:10]}, served {run.served_at[:16]}, are kept in {run.folder}"
    )


def score_accounts(
    workspace: Workspace, release: Release, loaded: Loaded, now: datetime, progress: Progress
) -> ScoreRun:
    """Score every account, join outcomes, measure drift, tidy the ledger and update the risks."""
    # What the service reads is written from the store again, should it be damaged or lost.
    store = open_store(workspace)
    mirror(store, workspace.state.releases)
    mirror_shadow(store, workspace.state.releases)
    vectors = newest_vectors(workspace.state, release.feature_set["hash"])
    ReleaseTrials(workspace.state).check(release, vectors)
    with Ledger.open(workspace) as ledger:
        run = score_book(workspace, release, ledger, now, progress)
        join_outcomes(workspace, loaded, ledger, now, progress)
        _monitor(workspace, release, ledger, now, progress)
        done = RetentionWorker(workspace, ledger).tidy(datetime.now(UTC), now)
        if done.removed or done.vectors:
            progress(f"tidied the ledger: {done.words}")
    managers = read_managers(newest_vectors(workspace.state, release.feature_set["hash"]))
    _update_risks(workspace, run, managers, now, progress)
    return run


def _monitor(
    workspace: Workspace, release: Release, ledger: Ledger, now: datetime, progress: Progress
) -> Monitoring:
    report = monitor(workspace, watched_book(workspace, release), ledger, now)
    for target, told in report["targets"].items():
        for words in told["words"]:
            if words.startswith("ALARM"):
                progress(f"{target}: {words}")
    return report


def monitor_company(workspace: Workspace, now: datetime, progress: Progress) -> Monitoring:
    """Measure drift and performance again, with the outcomes known by now."""
    refuse_ready_table(workspace.company)
    release = published(workspace)
    loaded = load_sources(workspace, now, progress)
    with Ledger.open(workspace) as ledger:
        join_outcomes(workspace, loaded, ledger, now, progress)
        return _monitor(workspace, release, ledger, now, progress)


def _update_risks(
    workspace: Workspace,
    run: ScoreRun,
    managers: Mapping[str, str],
    now: datetime,
    progress: Progress,
) -> None:
    """Open risks for the scores of a run, and escalate those that are due."""
    table, plays = read_table(run), load_plays(workspace.folder)
    rows = table.to_pylist()
    risk_store = RiskStore.open(workspace, plays)
    try:
        opened = risk_store.open_from(rows, run.run_id, now)
        escalated_now = risk_store.escalate(rows, now)
        risks = risk_store.escalated_risks()
    finally:
        risk_store.close()
    open_still = escalated(table, risks, plays, managers, now)
    announce_escalations(workspace, map(asdict, open_still), now)
    if opened or escalated_now:
        progress(f"risks opened: {len(opened):,}; escalated: {len(escalated_now):,}")
