"""The report step: the leadership report, and the forecast that is part of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild, build_features
from features.quality import QualityReport, check_and_keep
from serving.batch.score_book import answers_of, read_latest, read_table
from serving.monitoring import disagreements as disagreed
from serving.pages.portfolio import sums
from serving.run import reconcile
from serving.run.reconcile import disagreements, portfolio_disagreements
from serving.run.release import published
from serving.run.report_sections import forecast, keep_forecast, sections_of
from training.checks.registry import leakage_marks
from training.data.dataset import health_score_parts
from training.health_audit.options import AuditOptions
from training.health_audit.own_score import own_score_checks
from training.pipeline import TrainedCandidate, candidates
from training.registry.releases import Release
from training.report.report import build_report
from training.validation.content_types import CheckContent

Progress = Callable[[str], None]


def report_company(workspace: Workspace, now: datetime, progress: Progress) -> Path:
    """Write the report of the latest training and the current book."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    quality = check_and_keep(workspace, built.loaded, now)
    return write_report(workspace, built, quality, candidates(workspace), release, now, progress)


def forecast_company(
    workspace: Workspace, now: datetime, progress: Progress
) -> tuple[dict[str, Any], Path]:
    """Forecast from the published release and the newest book; return it and its JSON file."""
    release = published(workspace)
    built = build_features(workspace, now, progress)
    rows = answers_of(workspace, release, now)
    content = forecast(workspace, built, candidates(workspace), release, rows, progress)
    return content, keep_forecast(workspace, content)


def write_report(
    workspace: Workspace,
    built: FeatureBuild,
    quality: QualityReport,
    trained: dict[str, TrainedCandidate],
    release: Release,
    now: datetime,
    progress: Progress,
) -> Path:
    """Write the report and its forecast; return the HTML file."""
    rows = list(answers_of(workspace, release, now))
    sections = sections_of(workspace, built, trained, release, rows, now, progress)
    keep_forecast(workspace, sections["forecast"])
    found = disagreements(rows, sections["forecast"], quality.understood, built.loaded)
    run = read_latest(workspace.state)
    if run is not None:
        found += portfolio_disagreements(sums.summary(read_table(run)), rows)
        disagreed.keep_disagreements(workspace, run.run_id, found)
    if found:
        quality = quality.with_issue(reconcile.disagreement_issue(found))
        progress(f"totals disagree: {'; '.join(found)}")
    paths = build_report(
        workspace,
        quality=quality.as_dict(),
        contracts={name: item.contract for name, item in trained.items()},
        evaluations={name: item.evaluation for name, item in trained.items()},
        gates={name: item.gate_result for name, item in trained.items()},
        out_of_time={name: item.predictions for name, item in trained.items()},
        book=rows,
        release=release.as_dict(),
        now=now,
        checks={
            name: leakage_marks(one.as_dict() for one in item.checks)
            for name, item in trained.items()
        },
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
