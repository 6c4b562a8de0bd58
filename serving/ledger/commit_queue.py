"""Group commit: many callers, one transaction, and nobody is answered before it is committed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from configs.runtime.database import BUSY_SECONDS
from configs.runtime.errors import StateError, UnavailableError

logger = logging.getLogger("bellwether.serving")

GROUP_ROWS = 5_000
"""Rows from which a group takes no further caller."""

WAITING_ROWS = 50_000
"""Rows waiting from which a caller has to wait for room."""

RETRY_SECONDS = (0.05, 0.25, 1.0)


Record = tuple[Any, ...]
"""The values of one row."""


@dataclass(slots=True)
class _Waiting:
    """One caller's rows and the promise that they will be committed."""

    records: list[Record]
    future: Future[int]


class GroupWriter:
    """A thread that commits whatever waits as one group.

    A caller is answered when the group it is in is committed. Close it, or its thread waits on.

    Parameters
    ----------
    commit : callable
        Commits records in one transaction, quickly.
    settle : callable
        Commits one caller's records that `commit` refused, or says why they cannot be.
    commit_at_once : callable
        Commits records if that can be done without waiting, and says whether it was.
    is_untidy, tidy : callable
        Whether there is something to put in order beside, and what does it: between groups, on the
        writer's thread.
    """

    def __init__(
        self,
        commit: Callable[[list[Record]], None],
        settle: Callable[[list[Record]], None],
        commit_at_once: Callable[[list[Record]], bool] = lambda _: False,
        is_untidy: Callable[[], bool] = lambda: False,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._is_untidy, self._tidy = is_untidy, tidy
        self._commit, self._settle, self._commit_at_once = commit, settle, commit_at_once
        lock = threading.Lock()
        # Who waits for room, and the thread that waits for work: one does not wake the other.
        self._room, self._work = threading.Condition(lock), threading.Condition(lock)
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._n_rows = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="score-ledger", daemon=True)
        self._thread.start()

    def put(self, records: list[Record], wait_seconds: float) -> Future[int]:
        """Queue records; wait at most `wait_seconds` for room."""
        [item] = self._queue([records], wait_seconds)
        self._wake()
        return item.future

    def commit(self, callers: Sequence[list[Record]]) -> list[Future[int]]:
        """Commit records of some callers, and whatever waits, on this thread: it waits anyway.

        While another thread is at it, the writer's own thread does it next.
        """
        items = self._queue(callers, 0.0)
        if self._turn.acquire(blocking=False):
            try:
                self._write(self._take())
            finally:
                self._turn.release()
        self._wake()
        return [item.future for item in items]

    def commit_now(self, records: list[Record]) -> bool:
        """Commit records on this thread if nobody else waits or writes; say whether it was done."""
        if self._is_closed or self._waiting or not self._turn.acquire(blocking=False):
            return False
        try:
            return self._commit_at_once(records)
        finally:
            self._turn.release()
            self._wake()

    def _wake(self) -> None:
        if self._waiting or self._is_untidy():
            with self._work:
                self._work.notify()

    def _queue(self, callers: Sequence[list[Record]], wait_seconds: float) -> list[_Waiting]:
        items = [_Waiting(records, Future()) for records in callers]
        with self._room:
            has_room = self._room.wait_for(
                lambda: self._is_closed or self._n_rows < WAITING_ROWS, wait_seconds
            )
            if self._is_closed:
                raise StateError("the ledger is closed", fix="open it again")
            if not has_room:
                raise UnavailableError(
                    f"the ledger is behind: {self._n_rows} scores wait to be committed",
                    fix="send less at once; is the database busy or the disk slow?",
                )
            self._waiting += items
            self._n_rows += sum(map(len, callers))
        return items

    def close(self) -> None:
        """Commit what waits and end the thread."""
        with self._work:
            self._is_closed = True
            self._work.notify_all()
            self._room.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while self._has_work():
            with self._turn:
                self._write(self._take())
            if self._is_untidy():
                try:
                    self._tidy()
                except Exception as error:  # later again: nobody waits for it
                    logger.warning("the ledger is not put in order: %s", type(error).__name__)

    def _has_work(self) -> bool:
        """Wait for callers, or for something to put in order; false when closed and drained."""
        with self._work:
            self._work.wait_for(lambda: self._is_closed or bool(self._waiting) or self._is_untidy())
            return bool(self._waiting) or not self._is_closed

    def _take(self) -> list[_Waiting]:
        """Return the next group of callers who still wait."""
        group: list[_Waiting] = []
        n_rows = 0
        with self._room:
            while self._waiting and n_rows < GROUP_ROWS:
                group.append(self._waiting.popleft())
                n_rows += len(group[-1].records)
            self._n_rows -= n_rows
            self._room.notify_all()
        return [item for item in group if item.future.set_running_or_notify_cancel()]

    def _write(self, group: list[_Waiting]) -> None:
        if not group:
            return
        records = [record for item in group for record in item.records]
        try:
            insist(lambda: self._commit(records))
        except UnavailableError as error:
            _answer(group, error)
        except Exception:
            # A bad row of one caller must not cost the others theirs: each alone, and told why.
            for item in group:
                self._write_alone(item)
        else:
            _answer(group, None)

    def _write_alone(self, item: _Waiting) -> None:
        try:
            insist(lambda: self._settle(item.records))
        except Exception as error:
            _answer([item], error)
        else:
            _answer([item], None)


def _answer(group: Sequence[_Waiting], error: Exception | None) -> None:
    for item in group:
        if error is None:
            item.future.set_result(len(item.records))
        else:
            item.future.set_exception(error)


def insist(action: Callable[[], None]) -> None:
    """Do it; on an outage again, a few times, unless the outage already took long."""
    started = time.monotonic()
    for pause in RETRY_SECONDS:
        try:
            return action()
        except UnavailableError:
            if time.monotonic() - started > BUSY_SECONDS / 2:
                raise
            time.sleep(pause)
    return action()
