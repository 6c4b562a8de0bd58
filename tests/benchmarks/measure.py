"""What a benchmark found, kept as JSON and shown as one table."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    Attributes
    ----------
    what : str
        What was measured, under which circumstances.
    ours : float
        In `unit`; a median where it was repeated.
    unit : str
        Of `ours` and `theirs`.
    peer : str
        What it is compared with; empty when with nothing.
    theirs : float or None
        The peer's, measured in the same run.
    ratio : float or None
        How `ours` compares, as `goal` understands it.
    goal : str
        What is to be reached, in words.
    is_met : bool or None
        Whether it was; None without a goal.
    detail : mapping
        Further numbers, plain JSON.
    """

    what: str
    ours: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    ratio: float | None = None
    goal: str = ""
    is_met: bool | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Return what it ran on: processor, cores, system, Python, and how busy it was already."""
    names = [
        line.partition(":")[2].strip()
        for line in (CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
    }


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, 95th and 99th percentile in milliseconds.

    >>> quantiles([0.001, 0.002, 0.009])["p50_ms"]
    2.0
    """
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "p50_ms": 1e3 * statistics.median(ordered),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
    }


def write(folder: Path, part: str, measures: Iterable[Measure]) -> Path:
    """Keep what a part found, with the machine it ran on."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}.json"
    found = {"machine": machine(), "measures": [asdict(item) for item in measures]}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return path


def read(folder: Path, part: str) -> list[Measure]:
    """Return what a part found last; nothing when it never ran."""
    path = folder / f"{part}.json"
    if not path.exists():
        return []
    return [Measure(**item) for item in json.loads(path.read_text(encoding="utf-8"))["measures"]]


def table(found: Mapping[str, Sequence[Measure]]) -> Table:
    """Return all parts as one table for people."""
    made = Table(title="Bellwether beside its peers, one run", show_lines=False)
    for heading in ("part", "what"):
        made.add_column(heading)
    for heading in ("ours", "theirs", "ratio"):
        made.add_column(heading, justify="right")
    for heading in ("beside", "goal", ""):
        made.add_column(heading)
    for part, measures in found.items():
        for item in measures:
            made.add_row(
                part,
                item.what,
                f"{item.ours:,.4g} {item.unit}",
                "" if item.theirs is None else f"{item.theirs:,.4g} {item.unit}",
                "" if item.ratio is None else f"{item.ratio:.3g}",
                item.peer,
                item.goal,
                {None: "", True: "met", False: "not met"}[item.is_met],
            )
    return made
