"""Sections of the leadership report after the verdict: forecast, served scores, interventions.

The numbers are computed in `training.validation`; here they are read from state and ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.runtime.state_directory import write_json_atomically
from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild
from serving.ledger.served_history import served_record
from serving.workflow.holdouts import interventions
from training.fitting.expansion_size import growth_section
from training.forecast.company import company_forecast
from training.forecast.inputs import read_inputs
from training.model.bundle import load
from training.model.manifest import ModelManifest
from training.pipeline import TrainedCandidate
from training.registry.releases import Release
from training.report.content import plain_content

Progress = Callable[[str], None]
Plain = dict[str, Any]

FORECAST = "forecast.json"


def sections_of(
    workspace: Workspace,
    built: FeatureBuild,
    trained: Mapping[str, TrainedCandidate],
    release: Release,
    rows: Iterable[Mapping[str, Any]],
    now: datetime,
    progress: Progress,
) -> Plain:
    """Return the parts of the report other than the targets (`training.report.report.SECTIONS`)."""
    found = {
        "forecast": forecast(workspace, built, trained, release, rows, progress),
        "growth": growth_section(_manifests(workspace, trained)),
        "served": served_record(workspace, built.loaded, now, progress),
        "interventions": interventions(workspace, built.loaded, trained, release, now),
    }
    return {name: part for name, part in found.items() if part is not None}


def _manifests(
    workspace: Workspace, trained: Mapping[str, TrainedCandidate]
) -> dict[str, ModelManifest]:
    """Return what the bundles of a training say of themselves."""
    bundles = workspace.state.bundles
    return {name: load(bundles / item.sha, item.sha).manifest for name, item in trained.items()}


def keep_forecast(workspace: Workspace, content: Mapping[str, Any]) -> Path:
    """Write a forecast as JSON and return the file."""
    path = workspace.state.reports / FORECAST
    write_json_atomically(path, content)
    return path


def forecast(
    workspace: Workspace,
    built: FeatureBuild,
    trained: Mapping[str, TrainedCandidate],
    release: Release,
    rows: Iterable[Mapping[str, Any]],
    progress: Progress,
) -> Plain:
    """Return the forecast of a company, see `training.forecast.company`."""
    progress("forecasting what will renew")
    content: Plain = plain_content(
        company_forecast(
            workspace.company,
            read_inputs(workspace, built),
            {name: item.forecasts for name, item in trained.items()},
            rows,
            release.as_dict(),
        )
    )
    return content
