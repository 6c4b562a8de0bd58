"""Stopwatch for the named parts of a training: start time and total duration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime


def wall_clock() -> datetime:
    """Return the current time, UTC."""
    return datetime.now(UTC)


@dataclass
class Part:
    """One part of a training.

    Attributes
    ----------
    began_at : datetime
        First start, UTC.
    seconds : float
        Total duration of all its runs.
    """

    began_at: datetime
    seconds: float = 0.0


@dataclass
class Stopwatch:
    """Measures parts that run several times, such as one fit per fold.

    Attributes
    ----------
    clock : callable
        Returns the wall-clock time, for the start of a part.
    ticks : callable
        Returns monotonic seconds, for durations.
    parts : dict of str to Part
        Measured parts by name.

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
