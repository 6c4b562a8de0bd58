"""The whole line, and its last stretches: what the commands run, in order.

It stands on the top floor because the last step is scoring; it computes nothing itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from configs.errors import ModelError, StateError
from configs.places import Workspace
from configs.quiet import SWITCHES
from features.build import Built, build_features
from features.quality import QualityReport, check_quality
from serving.book import BookRun, answers_of, read_latest, score_book
from serving.ledger import Ledger
from training.checks.registry import leakage_marks
from training.promote import promote
from training.releases import Release, current, mirror, open_store
from training.run import Candidate, candidates, train_targets
from training.validation.report import build_report

Progress = Callable[[str], None]

SERVICE = "serving.service:Bellwether"


@dataclass(frozen=True)
class Made:
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
    book: BookRun
    report: Path
    summary: dict[str, str] = field(default_factory=dict)


def run_company(workspace: Workspace, now: datetime, progress: Progress) -> Made:
    """Run the whole line: quality, features, labels, training, promotion, scores, report.

    The caller holds the state directory's lock. What did not change is not made again.
    """
    built = build_features(workspace, now, progress)
    progress("checking the quality of the sources")
    quality = check_quality(workspace, built.loaded, now)
    trained = train_targets(workspace, built, progress)
    release = promote(workspace, built.features, trained, created_at=now, progress=progress)
    book = _score(workspace, release, now, progress)
    progress("writing the report")
    report = _report(workspace, quality, trained, release, now)
    return Made(quality, release, book, report, _summary(workspace, built, release, book, report))


def score_company(workspace: Workspace, now: datetime, progress: Progress) -> BookRun:
    """Build what is out of date and score every account with the published release."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    _check_served(release, built)
    return _score(workspace, release, now, progress)


def refresh_company(workspace: Workspace, now: datetime, progress: Progress) -> BookRun:
    """Run sources to exports once with the published release; a failure changes no result."""
    run = score_company(workspace, now, progress)
    progress(f"exported {run.folder / 'scores.csv'} and scores.parquet")
    return run


def report_company(workspace: Workspace, now: datetime, progress: Progress) -> Path:
    """Write the report of the latest training and the current book."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    quality = check_quality(workspace, built.loaded, now)
    return _report(workspace, quality, candidates(workspace), release, now)


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


def serve_command(workspace: Workspace, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment that serve a company on this machine only."""
    published(workspace)
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        **SWITCHES,
        "BELLWETHER_COMPANY": str(workspace.folder.resolve()),
        "BELLWETHER_STATE": str(workspace.state.root.resolve()),
        "BELLWETHER_DATA": str(workspace.data.resolve()),
    }
    return command, environment


def _check_served(release: Release, built: Built) -> None:
    if release.feature_set["hash"] != built.features.hash:
        raise ModelError(
            "the features changed since the published model was trained, so it cannot score them",
            where=f"release {release.release_id}",
            fix="bellwether train, then bellwether promote",
        )


def _score(workspace: Workspace, release: Release, now: datetime, progress: Progress) -> BookRun:
    # What the service reads is written from the store again, should it be damaged or lost.
    mirror(open_store(workspace), workspace.state.releases)
    with Ledger.open(workspace) as ledger:
        return score_book(workspace, release, ledger, now, progress)


def _report(
    workspace: Workspace,
    quality: QualityReport,
    trained: dict[str, Candidate],
    release: Release,
    now: datetime,
) -> Path:
    paths = build_report(
        workspace,
        quality=quality.as_dict(),
        contracts={name: item.contract for name, item in trained.items()},
        evaluations={name: item.evaluation for name, item in trained.items()},
        gates={name: item.judgement for name, item in trained.items()},
        out_of_time={name: item.predictions for name, item in trained.items()},
        book=answers_of(workspace, release, now),
        release=release.as_dict(),
        now=now,
        checks={name: leakage_marks(item.checks) for name, item in trained.items()},
    )
    return paths.html


def _summary(
    workspace: Workspace, built: Built, release: Release, book: BookRun, report: Path
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
