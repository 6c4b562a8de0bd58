"""Rate limits: requests per minute and caller, shared by all workers of a machine.

Generic cell rate algorithm: a shared file stores, for each caller, the time by which its past
requests are worked off at its rate. If the file cannot be written, each worker counts separately.
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
    """Rate limiter of one worker.

    Parameters
    ----------
    limits : Limits
        Requests per minute.
    file : Path
        File shared by the workers of this machine.
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
            The limit is exceeded; the problem has the time to wait.
        """
        _, _, known_as = caller.name.partition(" ")  # "key 0a1b…", "person ada@example.com"
        per_minute = self._limits.callers.get(known_as, self._limits.requests_per_minute)
        if per_minute is None or caller is LOCAL:
            return
        wait = self.take(caller.name, per_minute, time.time() if now is None else now)
        if wait > 0:
            raise ProblemError(
                "rate-limited",
                f"the {caller.name} may send {per_minute:,} requests per minute",
                retry_after=max(1, int(wait + 0.999)),
            )

    def take(self, name: str, per_minute: int, now: float) -> float:
        """Count a request; return the seconds to wait if the limit is exceeded, otherwise 0."""
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") or 1
        with self._lock:
            try:
                return self._take_shared(key, per_minute, now)
            except OSError as error:
                if self._shared is not None or not self._alone:
                    logger.warning("rate limits are counted per worker: %s", error)
                self._close()
                until, wait = _next(self._alone.get(key, 0.0), per_minute, now)
                self._alone[key] = until
                return wait

    def close(self) -> None:
        """Close the file."""
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
                raise OSError("the record could not be written")
            return wait
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _open(self) -> int:
        if self._shared is None:
            if self._is_opened:
                raise OSError("the file could not be opened before")
            self._is_opened = True
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._shared = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            os.posix_fallocate(self._shared, 0, N_SLOTS * _SLOT.size)
        return self._shared


def _slot(file: int, key: int, now: float) -> tuple[int, float]:
    """Return the slot of a caller and its stored time; a free slot for a new caller.

    Slots are searched from the hash of the caller. A slot whose time has passed is free.
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
    """Return the time by which all requests are worked off, and the seconds to wait.

    >>> _next(0.0, 2, 100.0)
    (130.0, 0.0)
    >>> _next(130.0, 2, 100.0)
    (160.0, 0.0)
    >>> _next(160.0, 2, 100.0)
    (160.0, 30.0)
    """
    interval = WINDOW_SECONDS / per_minute
    start = max(until, now)
    if start - now > WINDOW_SECONDS + interval:  # the clock was set back, or the limit changed
        start = now
    wait = start - now - (WINDOW_SECONDS - interval)
    if wait > 1e-6:
        return until, wait
    return start + interval, 0.0
