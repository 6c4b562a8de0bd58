"""The whole line, and its last stretches: what the commands run, in order.

It stands on the top floor because the last step is scoring; it computes nothing itself.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from configs.runtime.errors import ConfigError, ModelError, StateError
from configs.runtime.telemetry import SWITCHES
from configs.schema.company import Retention
from configs.schema.plays import load_plays
from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild, build_features, refuse_ready_table
from features.quality import QualityReport, check_quality
from features.sources import Loaded, load_sources
from serving.api.middleware import LOOPBACK
from serving.auth.api_keys import ApiKeys, KeyStore
from serving.auth.authenticate import Authenticator
from serving.auth.oidc import SignInSessions
from serving.auth.permissions import read_managers
from serving.batch.score_book import (
    ScoreRun,
    answers_of,
    read_latest,
    read_table,
    score_book,
    watched_book,
)
from serving.integrations.crm_export import load_mapping, mapped_lines
from serving.integrations.webhooks import announce_escalations
from serving.ledger.feedback_store import FeedbackStore
from serving.ledger.ledger import Ledger
from serving.ledger.model_archive import ModelArchive
from serving.ledger.outcomes import join_outcomes
from serving.ledger.replay import Replay, replay
from serving.ledger.retention import RetentionResult, RetentionWorker
from serving.monitoring import disagreements as disagreed
from serving.monitoring.monitor import monitor
from serving.monitoring.report import Monitoring
from serving.online.release_trial import ReleaseTrials
from serving.pages import portfolio_sums
from serving.run import reconcile
from serving.run.reconcile import disagreements, portfolio_disagreements
from serving.run.report_sections import forecast, keep_forecast, sections_of
from serving.scoring.export_rows import cell, csv_text
from serving.workflow.escalations import escalated
from serving.workflow.risk_store import RiskStore
from training.checks.registry import leakage_marks
from training.data.dataset import health_score_parts
from training.health_audit.options import AuditOptions
from training.health_audit.own_score import own_score_checks
from training.model.bands import newest_vectors
from training.pipeline import TrainedCandidate, candidates, train_targets
from training.promote import promote
from training.registry.mlflow_artifacts import FOLDER as ARTIFACTS
from training.registry.mlflow_artifacts import artifacts_folder
from training.registry.mlflow_registry import DATABASE, tracking_uri
from training.registry.releases import Release, current, mirror, open_store
from training.registry.shadow import mirror_shadow
from training.report.report import build_report
from training.validation.content_types import CheckContent

Progress = Callable[[str], None]

SERVICE = "serving.service:Bellwether"

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class RunResult:
    """What a whole run made.

    Attributes
    ----------
    quality : QualityReport
        Of the source tables.
    release : Release
        The current one.
    book : BookRun
        The scored accounts.
    report : Path
        The report for people.
    summary : dict of str to str
        What was made, and where it lies.
    """

    quality: QualityReport
    release: Release
    book: ScoreRun
    report: Path
    summary: dict[str, str] = field(default_factory=dict)


def run_company(
    workspace: Workspace, now: datetime, progress: Progress, *, weeks: int = 0
) -> RunResult:
    """Run the whole line: quality, features, labels, training, promotion, scores, report.

    The caller holds the state directory's lock. What did not change is not made again.

    Parameters
    ----------
    workspace : Workspace
        The company.
    now : datetime
        The clock.
    progress : callable
        Told of every step.
    weeks : int
        Train as of so many weeks ago, on what was known then, and score a book in each week
        since: what a company sees that has used it for a while. Only for an example, whose clock
        is pinned: a ledger says what was served when.

    Raises
    ------
    ConfigError
        The clock is not pinned, and weeks are asked for.
    """
    if weeks:
        _live_through(workspace, now, weeks, progress)
    built = build_features(workspace, now, progress)
    progress("checking the quality of the sources")
    quality = check_quality(workspace, built.loaded, now)
    release = published(workspace) if weeks else None
    if release is None or not _serves(release, built):
        trained = train_targets(workspace, built, progress)
        release = promote(workspace, built.features, trained, created_at=now, progress=progress)
    else:
        trained = candidates(workspace)
    book = _score(workspace, release, built.loaded, now, progress)
    progress("writing the report")
    report = _report(workspace, built, quality, trained, release, now, progress)
    return RunResult(
        quality, release, book, report, _summary(workspace, built, release, book, report)
    )


def _live_through(workspace: Workspace, now: datetime, weeks: int, progress: Progress) -> None:
    """Train as of some weeks ago, and score a book then and in each week since, before now."""
    if workspace.company.now is None:
        raise ConfigError(
            "the weeks before now were not lived through, and the ledger would say they were",
            where="--weeks",
            fix="leave it out, `bellwether refresh` makes one book after the other; only an "
            "example, whose clock is pinned, can live through its past",
        )
    for week in range(weeks, 0, -1):
        day = now - week * WEEK
        if _has_book_of(workspace, day):
            continue
        progress(f"as of {day:%Y-%m-%d}, {week} week{'s' if week > 1 else ''} before the present")
        if week == weeks:
            built = build_features(workspace, day, progress)
            trained = train_targets(workspace, built, progress)
            release = promote(workspace, built.features, trained, created_at=day, progress=progress)
            _score(workspace, release, built.loaded, day, progress)
        else:
            score_company(workspace, day, progress)


def _has_book_of(workspace: Workspace, day: datetime) -> bool:
    """Say whether the last book is of this day or a later one."""
    try:
        book = read_latest(workspace.state)
    except StateError:
        return False
    return book is not None and datetime.fromisoformat(book.as_of) >= day


def score_company(workspace: Workspace, now: datetime, progress: Progress) -> ScoreRun:
    """Build what is out of date and score every account with the published release."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    _check_served(release, built)
    return _score(workspace, release, built.loaded, now, progress)


def refresh_company(workspace: Workspace, now: datetime, progress: Progress) -> ScoreRun:
    """Run sources to exports once with the published release; a failure changes no result."""
    run = score_company(workspace, now, progress)
    progress(f"exported {run.folder / 'scores.csv'} and scores.parquet")
    return run


def report_company(workspace: Workspace, now: datetime, progress: Progress) -> Path:
    """Write the report of the latest training and the current book."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    quality = check_quality(workspace, built.loaded, now)
    return _report(workspace, built, quality, candidates(workspace), release, now, progress)


def forecast_company(
    workspace: Workspace, now: datetime, progress: Progress
) -> tuple[dict[str, Any], Path]:
    """Forecast from the published release and the newest book; return it and its JSON file."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    rows = answers_of(workspace, release, now)
    content = forecast(workspace, built, candidates(workspace), release, rows, progress)
    return content, keep_forecast(workspace, content)


def published(workspace: Workspace) -> Release:
    """Return the current release.

    Raises
    ------
    StateError
        Nothing was published yet.
    """
    release = current(open_store(workspace))
    if release is None:
        raise StateError(
            "no model is published yet",
            where=str(workspace.state.releases),
            fix=f"bellwether run {workspace.folder}   trains and publishes",
        )
    return release


def standing_results(workspace: Workspace) -> str:
    """Return in words which results still stand after a failure."""
    try:
        run = read_latest(workspace.state)
    except StateError as error:
        return f"the earlier results cannot be read: {error.what}"
    if run is None:
        return "there are no earlier results"
    return (
        f"the results as of {run.as_of[:10]}, served {run.served_at[:16]}, are kept in {run.folder}"
    )


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
            f"the ledger holds no score of {score_id or account or 'anybody'}"
            + (f" served by {at.isoformat()}" if at else ""),
            where="BELLWETHER_LEDGER_URL"
            if workspace.places.ledger_url
            else str(workspace.state.ledger),
            fix="every answer carries its score_id; `bellwether score` fills the ledger",
        )
    return [replay(archive, row) for row in rows]


def tidy_ledger(workspace: Workspace, keeping: Retention | None, *, shrink: bool) -> dict[str, Any]:
    """Tidy the ledger; return what was done, and its scores and bytes before and after.

    Parameters
    ----------
    workspace : Workspace
        The company.
    keeping : Keeping or None
        Limits; None only looks.
    shrink : bool
        Give the space back to the disk.
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


def serve_command(
    workspace: Workspace, port: int, host: str = "127.0.0.1"
) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that serve a company.

    Raises
    ------
    ConfigError
        Others than this machine could reach it, and nothing says who may come in; or something
        listens there already.
    """
    refuse_ready_table(workspace.company)
    published(workspace)
    _check_exposure(workspace, host)
    _check_free(host, port)
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
        The company has a tracking server of its own, or something listens there already.
    StateError
        Nothing was trained yet.
    """
    url, host = tracking_uri(workspace), "127.0.0.1"
    if url.startswith(("http://", "https://")):
        raise ConfigError(
            "the trainings are on a tracking server of yours, which has these pages",
            where="BELLWETHER_MLFLOW_URL",
            fix="open that address in a browser",
        )
    folder = artifacts_folder(url)
    if folder is not None and not folder.with_name(DATABASE).is_file():
        raise StateError(
            "nothing was trained here yet",
            where=str(folder.with_name(DATABASE)),
            fix=f"bellwether train {workspace.folder}",
        )
    _check_free(host, port)
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


def _check_free(host: str, port: int) -> None:
    """Say now that the port is taken, rather than from inside a server that cannot start."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(target)
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {host}:{port}: {error.strerror or error}",
                fix="choose another with --port, or end what listens there",
            ) from error


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


def is_open(workspace: Workspace) -> bool:
    """Say whether whoever reaches the service may do everything: no keys, no sign-in."""
    store = KeyStore(workspace)
    try:
        people = SignInSessions(workspace.company.access, workspace.places.sign_in)
        return Authenticator(ApiKeys(store.every()), people).is_open
    finally:
        store.close()


def _check_exposure(workspace: Workspace, host: str) -> None:
    if host in LOOPBACK:
        return
    if is_open(workspace):
        raise ConfigError(
            f"others could reach it at {host}, and nothing says who may come in",
            fix=f"bellwether keys create {workspace.folder}   makes a key for a system; people "
            "come through BELLWETHER_PROXY_SECRET or BELLWETHER_OIDC_ISSUER; or leave --host out",
        )
    if not os.environ.get("BELLWETHER_HOSTS"):
        raise ConfigError(
            "the names it answers to are not told",
            where="BELLWETHER_HOSTS",
            fix="BELLWETHER_HOSTS=bellwether.example.com,127.0.0.1   as callers write them",
        )


def _serves(release: Release, built: FeatureBuild) -> bool:
    return bool(release.feature_set["hash"] == built.features.hash)


def _check_served(release: Release, built: FeatureBuild) -> None:
    if not _serves(release, built):
        raise ModelError(
            "the features changed since the published model was trained, so it cannot score them",
            where=f"release {release.release_id}",
            fix="bellwether train, then bellwether promote",
        )


def _score(
    workspace: Workspace, release: Release, loaded: Loaded, now: datetime, progress: Progress
) -> ScoreRun:
    # What the service reads is written from the store again, should it be damaged or lost.
    store = open_store(workspace)
    mirror(store, workspace.state.releases)
    mirror_shadow(store, workspace.state.releases)
    vectors = newest_vectors(workspace.state, release.feature_set["hash"])
    ReleaseTrials(workspace.state).check(release, vectors)
    with Ledger.open(workspace) as ledger:
        run = score_book(workspace, release, ledger, now, progress)
        join_outcomes(workspace, loaded, ledger, now, progress)
        _watch(workspace, release, ledger, now, progress)
        done = RetentionWorker(workspace, ledger).tidy(datetime.now(UTC), now)
        if done.removed or done.vectors:
            progress(f"tidied the ledger: {done.words}")
    managers = read_managers(newest_vectors(workspace.state, release.feature_set["hash"]))
    _bring_risks_up_to_date(workspace, run, managers, now, progress)
    return run


def _watch(
    workspace: Workspace, release: Release, ledger: Ledger, now: datetime, progress: Progress
) -> Monitoring:
    report = monitor(workspace, watched_book(workspace, release), ledger, now)
    for target, told in report["targets"].items():
        for words in told["words"]:
            if words.startswith("ALARM"):
                progress(f"{target}: {words}")
    return report


def monitor_company(workspace: Workspace, now: datetime, progress: Progress) -> Monitoring:
    """Look again at drift and performance, with the outcomes that are known by now."""
    refuse_ready_table(workspace.company)
    release = published(workspace)
    loaded = load_sources(workspace, now, progress)
    with Ledger.open(workspace) as ledger:
        join_outcomes(workspace, loaded, ledger, now, progress)
        return _watch(workspace, release, ledger, now, progress)


def _bring_risks_up_to_date(
    workspace: Workspace,
    run: ScoreRun,
    managers: Mapping[str, str],
    now: datetime,
    progress: Progress,
) -> None:
    """Open the risks the book shows, and tell those of which somebody else should hear."""
    table, plays = read_table(run), load_plays(workspace.folder)
    rows = table.to_pylist()
    casebook = RiskStore.open(workspace, plays)
    try:
        opened = casebook.open_from(rows, run.run_id, now)
        told = casebook.escalate(rows, now)
        risks = casebook.escalated_risks()
    finally:
        casebook.close()
    open_still = escalated(table, risks, plays, managers, now)
    announce_escalations(workspace, map(asdict, open_still), now)
    if opened or told:
        progress(f"risks opened: {len(opened):,}; escalated: {len(told):,}")


def _report(
    workspace: Workspace,
    built: FeatureBuild,
    quality: QualityReport,
    trained: dict[str, TrainedCandidate],
    release: Release,
    now: datetime,
    progress: Progress,
) -> Path:
    rows = list(answers_of(workspace, release, now))
    sections = sections_of(workspace, built, trained, release, rows, now, progress)
    keep_forecast(workspace, sections["forecast"])
    found = disagreements(rows, sections["forecast"], quality.understood, built.loaded)
    run = read_latest(workspace.state)
    if run is not None:
        found += portfolio_disagreements(portfolio_sums.summary(read_table(run)), rows)
        disagreed.keep_disagreements(workspace, run.run_id, found)
    if found:
        quality = quality.with_issue(reconcile.disagreement_issue(found))
        progress(f"totals disagree: {'; '.join(found)}")
    paths = build_report(
        workspace,
        quality=quality.as_dict(),
        contracts={name: item.contract for name, item in trained.items()},
        evaluations={name: item.evaluation for name, item in trained.items()},
        gates={name: item.judgement for name, item in trained.items()},
        out_of_time={name: item.predictions for name, item in trained.items()},
        book=rows,
        release=release.as_dict(),
        now=now,
        checks={name: leakage_marks(item.checks) for name, item in trained.items()},
        sections=sections,
        health_parts=health_score_parts(built.loaded),
        own_score=_own_score(workspace, built, now),
    )
    return paths.html


def _own_score(workspace: Workspace, built: FeatureBuild, now: datetime) -> list[CheckContent]:
    """Return the integrity checks on the company's own score, against every loss it recorded."""
    company = workspace.company
    losses = {name: target for name, target in company.targets.items() if target.outcome == "churn"}
    asked = AuditOptions(
        now=now,
        higher="healthier",
        horizon_days=min((target.horizon_days for target in losses.values()), default=91),
        draws=company.training.bootstrap_draws,
        seed=company.training.seed,
    )
    labels = {name: built.labels[name].frame for name in losses if name in built.labels}
    return own_score_checks(built.loaded, labels, asked)


def _summary(
    workspace: Workspace, built: FeatureBuild, release: Release, book: ScoreRun, report: Path
) -> dict[str, str]:
    state = workspace.state
    rows = sum(info.rows for info in built.loaded.tables.values())
    statuses = ", ".join(f"{count:,} {name}" for name, count in sorted(book.statuses.items()))
    verdicts = ", ".join(f"{name} {part['verdict']}" for name, part in release.bundles.items())
    days = built.snapshots.days
    return {
        f"{len(built.loaded.tables)} source tables, {rows:,} rows": str(state.sources),
        f"{len(built.features.names)} features at {len(days)} moments": str(state.snapshots),
        f"release {release.release_id}: {verdicts}": str(state.releases),
        "experiments and registered models": str(state.mlflow),
        f"scored book of {days[-1]}: {statuses}": str(book.folder),
        "report": str(report),
    }
