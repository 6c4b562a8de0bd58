"""Run benchmarks and show them as one table: ``python -m tests.benchmarks.serving --help``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

# Equal threads for everybody: LightGBM reads this when it is imported, and shap passes none on.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console

from tests.benchmarks.measure import Measure, read, table, write
from tests.benchmarks.serving import nightly, service
from tests.benchmarks.serving.reference import reference_release
from tests.benchmarks.training import audit, explain, integrity, learn, model_tiers, tables

ACCOUNTS, MONTHS = 2_000, 24
"""Of the company the service is measured on."""

Progress = Callable[[str], None]


def _explain(_: Path, __: Progress) -> list[Measure]:
    return explain.measure()


def _learn(folder: Path, say: Progress) -> list[Measure]:
    return learn.measure(folder, os.environ.get("BELLWETHER_DATA"), say)


def _ladder(folder: Path, say: Progress) -> list[Measure]:
    return model_tiers.measure(folder, say)


def _audit(_: Path, say: Progress) -> list[Measure]:
    return audit.measure(say)


def _integrity(_: Path, say: Progress) -> list[Measure]:
    return integrity.measure(say)


def _tables(folder: Path, say: Progress) -> list[Measure]:
    return tables.measure(folder, say)


def _service(folder: Path, say: Progress) -> list[Measure]:
    return service.measure(*reference_release(folder, ACCOUNTS, MONTHS, say), folder)


def _start(folder: Path, say: Progress) -> list[Measure]:
    workspace, _ = reference_release(folder, ACCOUNTS, MONTHS, say)
    return service.measure_start(workspace, folder)


def _nightly(folder: Path, say: Progress) -> list[Measure]:
    return nightly.measure(*reference_release(folder, ACCOUNTS, MONTHS, say), folder)


PARTS: dict[str, Callable[[Path, Progress], list[Measure]]] = {
    "explain": _explain,
    "learn": _learn,
    "ladder": _ladder,
    "audit": _audit,
    "integrity": _integrity,
    "tables": _tables,
    "service": _service,
    "start": _start,
    "nightly": _nightly,
}


def main() -> None:
    """Run the parts asked for; show what every part found last."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--data", help="folder of the public data, for Online Retail")
    chosen = parser.parse_args()
    if chosen.data:
        os.environ["BELLWETHER_DATA"] = chosen.data
    names = [name for name in chosen.only.split(",") if name]
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"unknown parts {unknown}, there are {', '.join(PARTS)}")
    console = Console()
    for name in names:
        console.print(f"measuring: {name}")
        found = PARTS[name](chosen.output, lambda words: console.print(f"  {words}"))
        write(chosen.output, name, found)
    console.print(table({name: read(chosen.output, name) for name in PARTS}))


if __name__ == "__main__":
    main()
