"""Every model tier, compared with the truth of a simulated company of its size.

Not speed: how near the risk comes to the chance that really held, whether ranges hold, and how
often the true driver is among what is named, with so many accounts to learn from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs.schema.workspace import Workspace
from features.pipeline import FeatureBuild
from tests.benchmarks.measure import Measure
from tests.benchmarks.training.company import simulated
from training.candidates.train import train
from training.pipeline import frame_of
from training.simulated_truth import TruthComparison, model_against_truth

SIZES: Mapping[int, int] = {50: 24, 200: 24, 1_000: 30, 10_000: 24}
"""Accounts, and months they are watched."""

Plain = dict[str, Any]
Progress = Callable[[str], None]


def learned(
    workspace: Workspace, built: FeatureBuild, target: str, progress: Progress = lambda _: None
) -> TruthComparison:
    """Train a target as a company would, without telling the tracking server; hold it to the truth.

    Returns
    -------
    dict
        See `training.simulated_truth.model_against_truth`.
    """
    frame = frame_of(workspace.company, built, target)
    trials = workspace.state.root.resolve() / "optuna.db"
    trained = train(frame, workspace.company, storage_url=f"sqlite:///{trials}", progress=progress)
    return model_against_truth(workspace, built, trained.bundle, trained.predictions)


def named(found: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return how often a true driver is named, over all accounts it drives, and so by chance.

    >>> named({"reasons": None, "rules": {"drivers": {
    ...     "adoption": {"n": 3, "named": 1.0, "by_chance": 0.5},
    ...     "support": {"n": 1, "named": 0.0, "by_chance": 0.1}}}})
    (0.75, 0.4)
    """
    drivers = (found["reasons"] or found["rules"] or {}).get("drivers")
    if not drivers:
        return None
    n = sum(part["n"] for part in drivers.values())
    shares = [
        sum(part["n"] * part[key] for part in drivers.values()) / n
        for key in ("named", "by_chance")
    ]
    return shares[0], shares[1]


def measure(folder: Path, progress: Progress) -> list[Measure]:
    """Hold every size against the truth."""
    return [
        _measured(
            accounts, learned(*simulated(folder, accounts, months, progress), target, progress)
        )
        for accounts, months in SIZES.items()
        for target in ("churn", "expansion")
    ]


def _measured(accounts: int, found: TruthComparison) -> Measure:
    """Return one line: rank correlation with the true chance, beside that of the health score."""
    models, latest = found["probability"]["models"], found["book"]
    ours = latest["correlation"]
    if ours is None and found["rules"]:
        ours = found["rules"]["correlation"]
    theirs = models.get("health_score", {}).get("correlation")
    return Measure(
        f"{found['target']}, {accounts:,} accounts, model tier {found['tier']} "
        f"({found['verdict']}): "
        "rank correlation with the true chance",
        ours or 0.0,
        "",
        "the company's own health score",
        theirs,
        None,
        "above it",
        None if theirs is None else (ours or 0.0) > theirs,
        {
            "why": found["why"],
            "out_of_time": {name: models[name] for name in ("truth", "model") if name in models},
            "book": latest,
            "named": named(found),
        },
    )
