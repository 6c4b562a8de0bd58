"""Companies made so that their score deserves each verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.health_audit.options import AuditOptions
from training.health_audit.run import AuditResult, audit

NOW = datetime(2026, 1, 5, tzinfo=UTC)
FIRST = pd.Timestamp("2024-01-01")
MONTHS = 24


def company(
    *,
    accounts: int = 450,
    strength: float = 1.5,
    noise: float = 0.35,
    base: float = -4.4,
    seed: int = 5,
    months: int = MONTHS,
    segments: int = 2,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Monthly scores of a lasting risk seen through noise; losses follow the risk, not the score.

    Of an annual contract, a loss is decided around 45 days before the renewal, so the calendar
    tells something too.
    """
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=accounts)
    renewal = rng.integers(0, 365, accounts)
    gone = np.full(accounts, 10_000)
    for month in range(months):
        due = (renewal - 30 * month) % 365
        hazard = 1 / (1 + np.exp(-(base + strength * risk + 0.7 * (due < 90))))
        leaves = (rng.random(accounts) < hazard) & (gone == 10_000)
        gone = np.where(leaves, 30 * month + rng.integers(1, 30, accounts), gone)
    arr = np.round(np.exp(rng.normal(10, 0.8, accounts)), -2)
    parts = []
    for month in range(months):
        day = 30 * month
        here = np.flatnonzero(gone > day)
        seen = risk[here] + noise * rng.normal(size=len(here))
        parts.append(
            pd.DataFrame({
                "account_id": [f"A{i:04d}" for i in here],
                "scored_on": (FIRST + pd.Timedelta(days=day)).date().isoformat(),
                "health_score": np.round(60 - 14 * seen, 1),
                "segment": [f"tier {i % segments}" for i in here],
                "arr": arr[here],
                "renews_on": [
                    (FIRST + pd.Timedelta(days=int(day + (renewal[i] - day) % 365))).date()
                    for i in here
                ],
            })
        )  # fmt: skip
    scores = pd.concat(parts, ignore_index=True)
    scores["band"] = np.select(
        [scores.health_score < 50, scores.health_score < 62], ["red", "yellow"], "green"
    )
    lost = np.flatnonzero(gone < 30 * months)
    outcomes = pd.DataFrame({
        "account_id": [f"A{i:04d}" for i in lost],
        "decided_on": [(FIRST + pd.Timedelta(days=int(gone[i]))).date() for i in lost],
        "outcome": "churn",
        "arr": arr[lost],
    })  # fmt: skip
    return scores, outcomes.sort_values("decided_on", ignore_index=True)


def run(
    folder: Path, scores: pd.DataFrame, outcomes: pd.DataFrame | None, **options: Any
) -> AuditResult:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    scores.to_csv(folder / "scores.csv", index=False)
    if outcomes is not None:
        outcomes.to_csv(folder / "outcomes.csv", index=False)
    asked = AuditOptions(**{"now": NOW, "draws": 150} | options)
    given = None if outcomes is None else folder / "outcomes.csv"
    return audit(folder / "scores.csv", given, folder / "out", asked, lambda _: None)


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """The generator and the audit, for tests that spoil the files."""
    return SimpleNamespace(company=company, run=run, NOW=NOW)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    """The audit of a score that sees the risk well. Not to be changed."""
    return run(tmp_path_factory.mktemp("good"), *company())
