"""How often the audit finds an edited history, and how often it calls an honest one edited.

Each kind of world (`tests.benchmarks.training.histories`) is made many times, and the integrity
checks of `bellwether audit`, which the report runs too, look at it. The goals: nine in ten of the
histories in which a quarter or more of the leavers were overwritten are suspect, and at most one in
fifty of the honest ones. `UNSEEN` names the edits that are too much like an honest decline to be
found at that rate; they are measured and shown with the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from tests.benchmarks.measure import Measure
from tests.benchmarks.training.histories import EDITS, HONEST, World, edited, honest
from training.health_audit.options import AuditOptions
from training.health_audit.own_score import integrity_of

WORLDS, DRAWS, PROCESSES = 200, 100, 2
MOST_FALSE, LEAST_FOUND = 0.02, 0.90
NOW = datetime(2026, 6, 1, tzinfo=UTC)

UNSEEN = ("low", "lowered", "plausible", "lowered slowly", "ramp")
"""Edits of single leavers that keep the look of a decline: no goal is set for a quarter of them,
nor for any part of those that hide in it wholly (`HIDDEN`)."""

HIDDEN = ("plausible", "lowered slowly")


class Share(NamedTuple):
    """How many of the worlds of one kind were suspect, and by which checks."""

    suspect: int
    worlds: int
    by: dict[str, int]


def failed(world: World) -> list[str]:
    """Return the codes of the integrity checks that a world misses."""
    asked = AuditOptions(now=NOW, draws=DRAWS)
    checks = integrity_of(world.scores, world.outcomes, asked)
    return [item["code"] for item in checks if item["passed"] is False]


def share_of(make: Callable[[int], World], seeds: Iterable[int]) -> Share:
    """Return how many worlds of one kind are suspect."""
    found = [failed(make(seed)) for seed in seeds]
    return Share(sum(map(bool, found)), len(found), dict(Counter(sum(found, []))))


def _honest(kind: str, worlds: int) -> Share:
    return share_of(partial(honest, kind), range(worlds))


def _edited(kind: str, worlds: int) -> Share:
    return share_of(partial(edited, kind), range(worlds))


def measure(
    say: Callable[[str], None], *, worlds: int = WORLDS, processes: int = PROCESSES
) -> list[Measure]:
    """Return the share of suspect worlds of every kind, and of all honest ones."""
    with ProcessPoolExecutor(processes) as pool:
        clean = dict(zip(HONEST, pool.map(partial(_honest, worlds=worlds), HONEST), strict=True))
        say(f"{sum(item.worlds for item in clean.values()):,} honest histories looked at")
        touched = dict(zip(EDITS, pool.map(partial(_edited, worlds=worlds), EDITS), strict=True))
        say(f"{sum(item.worlds for item in touched.values()):,} edited histories looked at")
    whole = Share(
        sum(item.suspect for item in clean.values()),
        sum(item.worlds for item in clean.values()),
        {},
    )
    return [
        _line("honest histories, all kinds", whole, at_most=MOST_FALSE),
        *(_line(f"honest: {kind}", item, at_most=None) for kind, item in clean.items()),
        *(
            _line(f"edited: {kind}", item, at_least=LEAST_FOUND if is_asked(kind) else None)
            for kind, item in touched.items()
        ),
    ]


def is_asked(kind: str) -> bool:
    """Return whether the goal is set for a kind of edit.

    >>> is_asked("floor, a year, a quarter"), is_asked("plausible, a year, all")
    (True, False)
    """
    edit = EDITS[kind]
    return edit.to not in HIDDEN and not (edit.to in UNSEEN and edit.part < 0.5)


def _line(
    what: str, found: Share, *, at_most: float | None = None, at_least: float | None = None
) -> Measure:
    share = found.suspect / found.worlds
    goal, is_met = "", None
    if at_most is not None:
        goal, is_met = f"≤ {at_most:.0%}", share <= at_most
    if at_least is not None:
        goal, is_met = f"≥ {at_least:.0%}", share >= at_least
    words = f"{what}: suspect, {found.worlds:,} worlds"
    return Measure(words, 100 * share, "%", goal=goal, is_met=is_met, detail=found.by)
