"""Where the time of an answer goes: read, recall, encode, predict, explain, words, ledger.

A stage measures itself wherever it runs; nothing is kept unless somebody asked on this thread, so
the scoring core stays free of clocks and metrics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

STAGES = ("read", "recall", "encode", "predict", "explain", "words", "ledger")
"""Where there are reasons, the prediction falls out of the explanation: both are ``explain``."""

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
    """Tell `observe` the seconds of each stage that ran on this thread within the block."""
    with collected() as spent:
        try:
            yield
        finally:
            tell(observe, spent)


@contextmanager
def collected() -> Iterator[dict[str, float]]:
    """Give the seconds of each stage that ran on this thread within the block, when it is over."""
    spent: dict[str, float] = {}
    _thread.spent = spent
    try:
        yield spent
    finally:
        _thread.spent = None


def tell(observe: Observe, spent: Mapping[str, float]) -> None:
    """Tell `observe` the seconds of each stage."""
    for name, seconds in spent.items():
        observe(name, seconds)
