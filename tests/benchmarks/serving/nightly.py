"""The book of a large company scored at once: seconds and memory, in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.state_directory import State, new_folder
from configs.schema.workspace import Workspace
from tests.benchmarks.measure import Measure
from tests.benchmarks.training.company import COMPANY
from training.model.bands import newest_vectors
from training.registry.releases import Release

ACCOUNTS = 100_000
GOAL_SECONDS, GOAL_BYTES = 60.0, 4 * 2**30


def measure(
    workspace: Workspace, release: Release, folder: Path, accounts: int = ACCOUNTS
) -> list[Measure]:
    """Return seconds and peak memory of scoring books of `accounts` and of a tenth of them."""
    found = [_in_own_process(workspace, release, folder, n) for n in (accounts // 10, accounts)]
    small, large = found
    linear = large["processor_seconds"] / (10 * small["processor_seconds"])
    return [
        Measure(
            f"{accounts:,} accounts scored with reasons to Parquet, CSV and ledger",
            large["seconds"],
            "s",
            goal=f"≤ {GOAL_SECONDS:g} s",
            is_met=large["seconds"] <= GOAL_SECONDS,
            detail={**large, "processor seconds per account beside a tenth of them": linear},
        ),
        Measure(
            f"peak memory of it, {accounts:,} accounts",
            large["peak_bytes"] / 2**30,
            "GiB",
            goal=f"≤ {GOAL_BYTES / 2**30:g} GiB",
            is_met=large["peak_bytes"] <= GOAL_BYTES,
            detail={"of a tenth": small},
        ),
    ]


def _in_own_process(
    workspace: Workspace, release: Release, folder: Path, accounts: int
) -> dict[str, float]:
    state = larger(workspace, release, folder / "nightly", accounts)
    command = [sys.executable, "-m", "tests.benchmarks.serving.nightly", str(state.root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    rmtree(state.root)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def larger(workspace: Workspace, release: Release, root: Path, accounts: int) -> State:
    """Return a copy of the state whose newest book has so many accounts, drawn from it."""
    rmtree(root, ignore_errors=True)
    unneeded = ignore_patterns("sources", "daily", "snapshots", "feast", "ledger", "scores")
    copytree(workspace.state.root, root, ignore=unneeded)
    vectors = newest_vectors(workspace.state, release.feature_set["hash"])
    assert vectors is not None  # a published release has its book
    table = pq.read_table(vectors / "part.parquet")
    drawn = table.take(np.arange(accounts) % len(table))
    ids = pa.array([f"A-{i:07d}" for i in range(accounts)])
    drawn = drawn.set_column(drawn.column_names.index("entity_id"), "entity_id", ids)
    state = State(root)
    folder = state.snapshots / "vector" / release.feature_set["hash"] / vectors.name
    with new_folder(folder, {"accounts": accounts}) as aside:
        pq.write_table(drawn, aside / "part.parquet", compression="zstd")
        (aside / "peers.json").write_bytes((vectors / "peers.json").read_bytes())
    return state


def main() -> None:
    """Score the book of the state directory named first, and print what it took as JSON."""
    from configs.schema.company import load_company
    from serving.batch.score_book import score_book
    from serving.ledger.store.ledger import Ledger
    from training.registry.releases import read_current

    company, state = load_company(COMPANY), State(Path(sys.argv[1]))
    workspace = Workspace(company, COMPANY, state.root, state)
    release = read_current(state.releases)
    assert release is not None  # it was published before it was copied
    begin = time.perf_counter()
    with Ledger.open(workspace) as ledger:
        run = score_book(workspace, release, ledger, company.clock())
    found = {
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "scored": run.statuses["scored"],
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
