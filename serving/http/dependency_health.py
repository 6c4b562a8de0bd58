"""Health check of a dependency with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable

PULSE_SECONDS = 2.0
"""Time after which a check counts as failed."""


class DependencyHealth:
    """Runs one check at a time in its own thread, and waits for it no longer than the limit.

    A dependency that hangs occupies one thread, not one per probe.

    Parameters
    ----------
    ask : callable
        The check; raises if the dependency does not respond.
    seconds : float
        Time limit.
    """

    def __init__(self, ask: Callable[[], object], seconds: float = PULSE_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._check: _Check | None = None

    def beats(self) -> bool:
        """Return whether the dependency responds within the time limit."""
        with self._lock:
            if self._check is None or not self._check.is_alive():
                self._check = _Check(self._ask)
                self._check.start()
            check = self._check
        check.join(self._seconds)
        return check.has_passed


class _Check(threading.Thread):
    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__(name="pulse", daemon=True)
        self._ask = ask
        self.has_passed = False

    def run(self) -> None:
        try:
            self._ask()
        except Exception:
            return  # the error is reported where the dependency is used
        self.has_passed = True
