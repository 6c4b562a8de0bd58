"""How much each caller may ask: so many requests a minute, counted for all workers together.

The workers share a small file, in which each caller has the instant by which what it asked so far
would be worked off at its rate (the generic cell rate algorithm). Where the file cannot be written,
each worker counts by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import threading
import time
from pathlib import Path

from configs.schema.company import Limits
from serving.auth.permissions import LOCAL, Caller
from serving.http.problems import ProblemError

logger = logging.getLogger("bellwether.serving")

WINDOW_SECONDS = 60.0
N_SLOTS = 4_096
_SLOT = struct.Struct("<Qd")


class RateLimiter:
    """The limits of one company's callers, in one worker.

    Parameters
    ----------
    limits : Limits
        Requests a minute.
    file : Path
        What the workers of this machine share.
    """

    def __init__(self, limits: Limits, file: Path) -> None:
        self._limits, self._file = limits, file
        self._lock = threading.Lock()
        self._alone: dict[int, float] = {}
        self._shared: int | None = None
        self._is_opened = False

    def check(self, caller: Caller, now: float | None = None) -> None:
        """Count a request of a caller.

        Raises
        ------
        ProblemError
            It is one too many; it says when to come again.
        """
        _, _, known_as = caller.name.partition(" ")  # "key 0a1b…", "person ada@example.com"
        per_minute = self._limits.callers.get(known_as, self._limits.requests_per_minute)
        if per_minute is None or caller is LOCAL:
            return
        wait = self.take(caller.name, per_minute, time.time() if now is None else now)
        if wait > 0:
            raise ProblemError(
                "rate-limited",
                f"the {caller.name} may ask {per_minute:,} times a minute",
                retry_after=max(1, int(wait + 0.999)),
            )

    def take(self, name: str, per_minute: int, now: float) -> float:
        """Count a request; return the seconds to wait when it is one too many, else 0."""
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") or 1
        with self._lock:
            try:
                return self._take_shared(key, per_minute, now)
            except OSError as error:
                if self._shared is not None or not self._alone:
                    logger.warning("callers are counted by each worker alone: %s", error)
                self._close()
                until, wait = _next(self._alone.get(key, 0.0), per_minute, now)
                self._alone[key] = until
                return wait

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._shared is not None:
            os.close(self._shared)
            self._shared = None

    def _take_shared(self, key: int, per_minute: int, now: float) -> float:
        file = self._open()
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            place, until = _slot(file, key, now)
            until, wait = _next(until, per_minute, now)
            if os.pwrite(file, _SLOT.pack(key, until), place) != _SLOT.size:
                raise OSError("there is no room for it")
            return wait
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _open(self) -> int:
        if self._shared is None:
            if self._is_opened:
                raise OSError("it could not be used before")
            self._is_opened = True
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._shared = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            os.posix_fallocate(self._shared, 0, N_SLOTS * _SLOT.size)
        return self._shared


def _slot(file: int, key: int, now: float) -> tuple[int, float]:
    """Return where a caller is counted, and the instant there; a free place for a new caller.

    Places are looked through from the one that the key names. One whose instant is over counts for
    nothing, so a new caller may take it.
    """
    size = _SLOT.size
    free: int | None = None
    for step in range(N_SLOTS):
        place = (key + step) % N_SLOTS * size
        known, until = _SLOT.unpack(os.pread(file, size, place).ljust(size, b"\0"))
        if known == key:
            return place, until
        if free is None and until <= now:
            free = place
        if known == 0:
            break
    if free is None:
        raise OSError(f"more than {N_SLOTS} callers at once")
    return free, 0.0


def _next(until: float, per_minute: int, now: float) -> tuple[float, float]:
    """Return the instant by which everything is worked off, and the seconds to wait.

    >>> _next(0.0, 2, 100.0)
    (130.0, 0.0)
    >>> _next(130.0, 2, 100.0)
    (160.0, 0.0)
    >>> _next(160.0, 2, 100.0)
    (160.0, 30.0)
    """
    interval = WINDOW_SECONDS / per_minute
    start = max(until, now)
    if start - now > WINDOW_SECONDS + interval:  # the clock was put back, or the limit changed
        start = now
    wait = start - now - (WINDOW_SECONDS - interval)
    if wait > 1e-6:
        return until, wait
    return start + interval, 0.0
