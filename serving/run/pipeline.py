"""All steps of `bellwether run`, in order; each step is a module of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from configs.runtime.errors import ConfigError, StateError
from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild, build_features
from features.quality import QualityReport, check_and_keep
from serving.batch.score_book import ScoreRun, read_latest
from serving.run.release import can_score, published
from serving.run.report import write_report
from serving.run.score import score_accounts, score_company
from training.pipeline import candidates, train_targets
from training.promote import promote
from training.registry.releases import Release

Progress = Callable[[str], None]

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class RunResult:
    """Results of one run.

    Attributes
    ----------
    quality : QualityReport
        Data quality of the source tables.
    release : Release
        The current release.
    book : ScoreRun
        The scored accounts.
    report : Path
        HTML file of the report.
    summary : dict of str to str
        Each result in words, and the path where it is kept.
    """

    quality: QualityReport
    release: Release
    book: ScoreRun
    report: Path
    summary: dict[str, str] = field(default_factory=dict)


def run_company(
    workspace: Workspace, now: datetime, progress: Progress, *, weeks: int = 0
) -> RunResult:
    """Run every step: features, labels, quality, training, promotion, scores, report.

    The caller holds the state directory's lock. Results that are up to date are kept.

    Parameters
    ----------
    workspace : Workspace
        The company.
    now : datetime
        The clock.
    progress : callable
        Called with one line per step.
    weeks : int
        Train as of this many weeks ago, on what was known then, and score the accounts once in
        each week since. Only for an example with a pinned clock, because the ledger records when
        each score was served.

    Raises
    ------
    ConfigError
        Weeks are given and the clock is not pinned.
    """
    if weeks:
        _backfill(workspace, now, weeks, progress)
    built = build_features(workspace, now, progress)
    progress("checking the quality of the sources")
    quality = check_and_keep(workspace, built.loaded, now)
    release = published(workspace) if weeks else None
    if release is None or not can_score(release, built.features):
        trained = train_targets(workspace, built, progress)
        release = promote(workspace, built.features, trained, created_at=now, progress=progress)
    else:
        trained = candidates(workspace)
    book = score_accounts(workspace, release, built.loaded, now, progress)
    progress("writing the report")
    report = write_report(workspace, built, quality, trained, release, now, progress)
    return RunResult(
        quality, release, book, report, _summary(workspace, built, release, book, report)
    )


def _backfill(workspace: Workspace, now: datetime, weeks: int, progress: Progress) -> None:
    """Train as of some weeks ago, and score the accounts then and in each week since."""
    if workspace.company.now is None:
        raise ConfigError(
            "--weeks backfills scores and works only for examples with a pinned clock",
            where="--weeks",
            fix="omit it; `bellwether refresh` adds the scores of each day from now on",
        )
    for week in range(weeks, 0, -1):
        day = now - week * WEEK
        if _is_scored(workspace, day):
            continue
        progress(f"as of {day:%Y-%m-%d}, {week} week{'s' if week > 1 else ''} before the present")
        if week == weeks:
            built = build_features(workspace, day, progress)
            trained = train_targets(workspace, built, progress)
            release = promote(workspace, built.features, trained, created_at=day, progress=progress)
            score_accounts(workspace, release, built.loaded, day, progress)
        else:
            score_company(workspace, day, progress)


def _is_scored(workspace: Workspace, day: datetime) -> bool:
    """Whether the last scores are of this day or a later one."""
    try:
        book = read_latest(workspace.state)
    except StateError:
        return False
    return book is not None and datetime.fromisoformat(book.as_of) >= day


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
