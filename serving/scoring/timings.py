"""Time of an answer by stage: read, recall, encode, predict, explain, words, ledger.

A stage measures itself; the time is recorded only inside a `timed` or `collected` block of the same
thread, so the scoring core stays free of metrics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

STAGES = ("read", "recall", "encode", "predict", "explain", "words", "ledger")
"""With reasons, the prediction is part of the explanation: both are ``explain``."""

Observe = Callable[[str, float], None]

_thread = threading.local()


class stage:  # noqa: N801  reads like a statement: with stage("encode"):
    """Add the seconds of a block to its stage.

    Parameters
    ----------
    name : str
        One of `STAGES`.
    """

    __slots__ = ("_name", "_started")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        spent: dict[str, float] | None = getattr(_thread, "spent", None)
        if spent is not None:
            seconds = time.perf_counter() - self._started
            spent[self._name] = spent.get(self._name, 0.0) + seconds


@contextmanager
def timed(observe: Observe) -> Iterator[None]:
    """Report the seconds of each stage in the block on this thread to `observe`."""
    with collected() as spent:
        try:
            yield
        finally:
            tell(observe, spent)


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """Collect the seconds of each stage in the block on this thread."""
    spent: dict[str, float] = {}
    _thread.spent = spent
    try:
        yield spent
    finally:
        _thread.spent = None


def tell(observe: Observe, spent: Mapping[str, float]) -> None:
    """Report the seconds of each stage to `observe`."""
    for name, seconds in spent.items():
        observe(name, seconds)
