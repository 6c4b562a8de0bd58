"""Whether something we depend on answers, found out without waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

PULSE_SECONDS = 2.0
"""How long an answer may take before it counts as none."""


class DependencyHealth:
    """Asks one question at a time, in a thread of its own that is never waited for longer.

    A server that hangs holds one thread, not one per probe; once it answers again, so does this.

    Parameters
    ----------
    ask : callable
        Returns when there is an answer, and raises when there is none.
    seconds : float
        How long it may take.
    """

    def __init__(self, ask: Callable[[], object], seconds: float = PULSE_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Lock()
        self._question: _Question | None = None

    def beats(self) -> bool:
        """Say whether there is an answer; takes no longer than allowed."""
        with self._lock:
            if self._question is None or not self._question.is_alive():
                self._question = _Question(self._ask)
                self._question.start()
            question = self._question
        question.join(self._seconds)
        return question.is_answered


class _Question(threading.Thread):
    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__(name="pulse", daemon=True)
        self._ask = ask
        self.is_answered = False

    def run(self) -> None:
        try:
            self._ask()
        except Exception:
            return  # what is wrong is said by those who need the answer
        self.is_answered = True
