"""Stopwatch: when each named part of a training began, and how long it took in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime


def wall_clock() -> datetime:
    """Return the present moment, UTC."""
    return datetime.now(UTC)


@dataclass
class Part:
    """One part of a training.

    Attributes
    ----------
    began_at : datetime
        When it was begun for the first time, UTC.
    seconds : float
        How long it took, over all the times it was done.
    """

    began_at: datetime
    seconds: float = 0.0


@dataclass
class Stopwatch:
    """Measures parts that are done several times, such as one fit per fold.

    Attributes
    ----------
    clock : callable
        Gives the wall clock, for the beginning of a part.
    ticks : callable
        Gives seconds that never run backwards, for durations.
    parts : dict of str to Part
        What was measured, by name.

    Examples
    --------
    >>> ticks = iter([1.0, 3.0, 10.0, 10.5])
    >>> watch = Stopwatch(ticks=lambda: next(ticks))
    >>> for _ in range(2):
    ...     with watch.part("logistic"):
    ...         pass
    >>> watch.parts["logistic"].seconds
    2.5
    """

    clock: Callable[[], datetime] = wall_clock
    ticks: Callable[[], float] = time.monotonic
    parts: dict[str, Part] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time inside the block to the part `name`."""
        part = self.parts.setdefault(name, Part(self.clock()))
        start = self.ticks()
        try:
            yield
        finally:
            part.seconds += self.ticks() - start
