"""How long the health-score audit takes on a large company, and how much memory.

The goal is a full report with 1,000 cluster-bootstrap draws on 10,000 accounts × 24 months in under
two minutes on two cores and 4 GB. `measure` runs it in a process of its own, so that the memory is
that of the audit alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.measure import Measure
from training.health_audit.options import AuditOptions
from training.health_audit.run import audit

ACCOUNTS, MONTHS, DRAWS, CORES = 10_000, 24, 1_000, 2
GOAL_SECONDS, GOAL_GIGABYTES = 120.0, 4.0
MONTH_DAYS = 30
NOW = datetime(2026, 1, 5, tzinfo=UTC)
FIRST = pd.Timestamp("2024-01-01")


def company(accounts: int, months: int, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return monthly scores with five parts, and losses and growth that follow a hidden risk.

    Parameters
    ----------
    accounts, months : int
        Size of the company.
    seed : int
        The same seed, the same files.
    """
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=accounts)
    chance = 1.0 / (1.0 + np.exp(5.2 - 1.1 * risk))
    month = rng.geometric(chance) - 1
    gone = month * MONTH_DAYS + rng.integers(1, MONTH_DAYS, accounts)
    grown = rng.integers(1, 24 * months, accounts) * MONTH_DAYS
    arr = np.round(np.exp(rng.normal(10, 1, accounts)), -2)
    account, at = np.nonzero(np.arange(months)[None, :] * MONTH_DAYS < gone[:, None])
    parts = {
        f"part {n}": np.round(50 - 8 * risk[account] + 14 * rng.normal(size=len(account)), 1)
        for n in range(5)
    }
    names = np.array([f"A{n:06d}" for n in range(accounts)])
    days = (FIRST + pd.to_timedelta(np.arange(months) * MONTH_DAYS, unit="D")).strftime("%Y-%m-%d")
    renewal = rng.integers(0, 365, accounts)
    until = (renewal[account] - at * MONTH_DAYS) % 365 + at * MONTH_DAYS
    scores = pd.DataFrame({
        "account_id": names[account],
        "scored_on": days.to_numpy()[at],
        "health_score": np.round(np.mean(list(parts.values()), axis=0), 2),
        "segment": np.array(["small", "middle", "large"])[account % 3],
        "arr": arr[account],
        "renews_on": (FIRST + pd.to_timedelta(until, unit="D")).strftime("%Y-%m-%d"),
        **parts,
    })  # fmt: skip
    decided = [(gone, "churn"), (grown, "expansion")]
    outcomes = pd.concat([_decisions(names, when, kind, months) for when, kind in decided])
    return scores, outcomes


def _decisions(names: np.ndarray, when: np.ndarray, kind: str, months: int) -> pd.DataFrame:
    inside = when < months * MONTH_DAYS
    day = FIRST + pd.to_timedelta(when[inside], unit="D")
    return pd.DataFrame(
        {"account_id": names[inside], "decided_on": day.strftime("%Y-%m-%d"), "outcome": kind}
    )


def measure(
    say: Callable[[str], None],
    *,
    accounts: int = ACCOUNTS,
    months: int = MONTHS,
    draws: int = DRAWS,
) -> list[Measure]:
    """Audit a company of some size in a process of its own, on two cores."""
    sizes = {"--accounts": accounts, "--months": months, "--draws": draws}
    asked = [str(part) for pair in sizes.items() for part in pair]
    command = [sys.executable, "-m", "tests.benchmarks.training.audit", *asked]
    say(f"auditing {accounts:,} accounts × {months} months, {draws:,} draws")
    done = subprocess.run(  # noqa: S603  our own interpreter and numbers
        command, check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout)
    what = f"{accounts:,} accounts × {months} months, {draws:,} draws, {CORES} cores"
    seconds, held = found["seconds"], found["gigabytes"]
    return [
        Measure(f"health-score audit, two files to the report: {what}", seconds, "s",
                goal=f"< {GOAL_SECONDS:.0f} s", is_met=seconds < GOAL_SECONDS, detail=found),
        Measure("memory of it at most", held, "GB",
                goal=f"≤ {GOAL_GIGABYTES:.0f} GB", is_met=held <= GOAL_GIGABYTES),
    ]  # fmt: skip


def timed(accounts: int, months: int, draws: int, folder: Path) -> dict[str, Any]:
    """Return the seconds from the two files to the report, and the most memory held so far."""
    scores, outcomes = company(accounts, months)
    scores.to_csv(folder / "scores.csv", index=False)
    outcomes.to_csv(folder / "outcomes.csv", index=False)
    start = time.monotonic()
    used = time.process_time()

    def say(words: str) -> None:
        sys.stderr.write(f"{time.monotonic() - start:6.1f} s  {words}\n")

    made = audit(
        folder / "scores.csv",
        folder / "outcomes.csv",
        folder / "out",
        AuditOptions(now=NOW, draws=draws),
        say,
    )
    assert made.content is not None
    return {
        "accounts": accounts,
        "months": months,
        "rows": len(scores),
        "draws": draws,
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "events": {name: part["test"]["events"] for name, part in made.content["targets"].items()},
    }


def main() -> None:
    """Measure once and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--months", type=int, default=MONTHS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as folder:
        found = timed(asked.accounts, asked.months, asked.draws, Path(folder))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
