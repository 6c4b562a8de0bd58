"""Queue of rows to commit: one writer thread, one transaction per group of callers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from configs.runtime.database import BUSY_SECONDS
from configs.runtime.errors import StateError, UnavailableError

GROUP_ROWS = 5_000
"""Rows from which a group takes no further caller."""

WAITING_ROWS = 50_000
"""Rows waiting from which a caller has to wait for room."""

RETRY_SECONDS = (0.05, 0.25, 1.0)


Record = tuple[Any, ...]
"""The values of one row."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One caller's rows, and the future that is done when they are committed."""

    records: list[Record]
    future: Future[int]


class CommitQueue:
    """A thread that commits everything that waits as one group; `close` it.

    Parameters
    ----------
    commit : callable
        Commits records in one transaction, quickly.
    settle : callable
        Commits one caller's records that `commit` refused, or raises why they cannot be.
    """

    def __init__(
        self, commit: Callable[[list[Record]], None], settle: Callable[[list[Record]], None]
    ) -> None:
        self._commit, self._settle = commit, settle
        lock = threading.Lock()
        # Callers that wait for room, and the writer that waits for work: one does not wake the
        # other.
        self._room, self._work = threading.Condition(lock), threading.Condition(lock)
        self._waiting: deque[_Waiting] = deque()
        self._n_rows = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="score-ledger", daemon=True)
        self._thread.start()

    def put(self, records: list[Record], wait_seconds: float) -> Future[int]:
        """Queue one caller's records; wait at most `wait_seconds` for room.

        Raises
        ------
        StateError
            The queue is closed.
        UnavailableError
            There is no room.
        """
        item = _Waiting(records, Future())
        with self._room:
            if self._n_rows >= WAITING_ROWS and not self._is_closed:
                self._room.wait_for(self._has_room, wait_seconds)
            if self._is_closed:
                raise StateError("the ledger is closed", fix="open it again")
            if self._n_rows >= WAITING_ROWS:
                raise UnavailableError(
                    f"the ledger is behind: {self._n_rows} scores wait to be committed",
                    fix="send less at once; is the database busy or the disk slow?",
                )
            self._waiting.append(item)
            self._n_rows += len(records)
            self._work.notify()
        return item.future

    def close(self) -> None:
        """Commit what waits and end the thread."""
        with self._work:
            self._is_closed = True
            self._work.notify_all()
            self._room.notify_all()
        self._thread.join()

    def _has_room(self) -> bool:
        return self._is_closed or self._n_rows < WAITING_ROWS

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            if group:
                self._write(group)

    def _next_group(self) -> list[_Waiting] | None:
        """Wait for callers; return those that were not cancelled, None when closed and drained."""
        group: list[_Waiting] = []
        n_rows = 0
        with self._work:
            while not self._waiting and not self._is_closed:
                self._work.wait()
            if not self._waiting:
                return None
            while self._waiting and n_rows < GROUP_ROWS:
                group.append(self._waiting.popleft())
                n_rows += len(group[-1].records)
            self._n_rows -= n_rows
            self._room.notify_all()
        return [item for item in group if item.future.set_running_or_notify_cancel()]

    def _write(self, group: list[_Waiting]) -> None:
        records = [record for item in group for record in item.records]
        try:
            _retry(self._commit, records)
        except UnavailableError as error:
            for item in group:
                item.future.set_exception(error)
        except Exception:
            # A bad row of one caller must not cost the others theirs: each is written alone.
            for item in group:
                self._write_alone(item)
        else:
            for item in group:
                item.future.set_result(len(item.records))

    def _write_alone(self, item: _Waiting) -> None:
        try:
            _retry(self._settle, item.records)
        except Exception as error:
            item.future.set_exception(error)
        else:
            item.future.set_result(len(item.records))


def _retry(write: Callable[[list[Record]], None], records: list[Record]) -> None:
    """Write records; repeat on an outage, unless the outage already took long."""
    started = time.monotonic()
    for pause in RETRY_SECONDS:
        try:
            return write(records)
        except UnavailableError:
            if time.monotonic() - started > BUSY_SECONDS / 2:
                raise
            time.sleep(pause)
    return write(records)
