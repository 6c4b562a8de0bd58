"""The book's answers computed ahead, in quiet moments: most who ask get one that is ready.

A quarter of one processor at most, and nothing is kept anywhere but in memory
(`serving.online.answer_cache`): a score exists when it is given out. An account whose data moves on
is computed when it is asked for, as everything is until its turn has come.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from configs.runtime.errors import BellwetherError
from serving.online.answer_cache import Recall

logger = logging.getLogger("bellwether.serving")

PART_ACCOUNTS = 8
"""Accounts computed at once: a few milliseconds in which callers may have to wait."""

PAUSES = 3.0
"""How long it pauses after a part, in times of what the part took."""


class Ahead:
    """Fills the recall of each stage, once a day.

    Parameters
    ----------
    compute : callable
        Computes and remembers the answers for some accounts.
    wait : callable
        Waits for some seconds; true when it is time to end.
    """

    def __init__(
        self, compute: Callable[[Sequence[str]], Any], wait: Callable[[float], bool]
    ) -> None:
        self._compute, self._wait = compute, wait
        self._done: tuple[weakref.ref[Recall], date] | None = None

    def is_done(self, recall: Recall, today: date) -> bool:
        """Say whether a stage has its answers of today."""
        return self._done is not None and (self._done[0](), self._done[1]) == (recall, today)

    def run(
        self, recall: Recall, today: date, accounts: Sequence[str], is_due: Callable[[], bool]
    ) -> None:
        """Compute what is not known yet, in the order given, until there is no room.

        Parameters
        ----------
        recall : Recall
            Where the answers go.
        today : date
            The day they are of.
        accounts : sequence of str
            Whom; the most important first.
        is_due : callable
            Whether it is this stage and day that answers still; asked between parts.
        """
        recall.forget_other_days(today)
        for start in range(0, len(accounts), PART_ACCOUNTS):
            part = accounts[start : start + PART_ACCOUNTS]
            if recall.is_full:
                break
            started = time.perf_counter()
            try:
                self._compute(part)
            except BellwetherError:
                return  # the store does not answer: later, from the beginning
            except Exception:
                # Who asks for the account is told; the others are not made to wait for it.
                logger.debug("answers cannot be computed ahead", exc_info=True)
            if self._wait(PAUSES * (time.perf_counter() - started)) or not is_due():
                return
        self._done = (weakref.ref(recall), today)
