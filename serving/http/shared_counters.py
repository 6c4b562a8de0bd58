"""Numbers of one worker in files that the others read, without a memory map.

The Prometheus library maps these files into memory. When the disk is full, storing into a part that
has no block yet is no error that a program can handle: the process is killed (SIGBUS). Here numbers
are kept in memory and written a moment later; a write that fails costs nothing but that the file is
behind, until there is room again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

logger = logging.getLogger("bellwether.serving")

ROOM = 1 << 16
"""Bytes that are held at first; they double when there is no more room."""

HEAD = 8
"""Bytes at the beginning that say how many count."""

BEHIND_SECONDS, AGAIN_SECONDS = 0.02, 1.0
"""How far the file is behind at most, and how long after a write that failed the next is tried."""


_made: list[WrittenDict] = []


class SharedNumbers(bytearray):
    """Bytes in memory that a thread is told of when they change."""

    def __init__(self, size: int, changed: threading.Event) -> None:
        super().__init__(size)
        self._changed = changed

    def __setitem__(self, where: slice, data: bytes) -> None:  # type: ignore[override]
        """Store bytes."""
        super().__setitem__(where, data)
        if not self._changed.is_set():
            self._changed.set()

    def close(self) -> None:
        """Do nothing: the library closes what it maps."""


class WrittenDict(MmapedDict):
    """The library's dictionary of one worker's numbers, written to its file rather than mapped."""

    def __init__(self, filename: str) -> None:
        self._fname, self._f = filename, None  # type: ignore[assignment]  # opened to write
        self._capacity, self._used = ROOM, HEAD
        self._positions: dict[str, int] = {}
        self._changed = threading.Event()
        self._kept = self._m = SharedNumbers(ROOM, self._changed)  # type: ignore[assignment]
        self._lock = threading.Lock()
        self._m[0:4] = HEAD.to_bytes(4, "little")
        _made.append(self)
        threading.Thread(target=self._keep_writing, name="metrics", daemon=True).start()

    def _init_value(self, key: str) -> None:
        """Begin a number; the library holds its lock."""
        while self._used + len(key.encode()) + 32 > self._capacity:
            self._kept.extend(bytes(self._capacity))
            self._capacity *= 2
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _keep_writing(self) -> None:
        was_written = True
        while True:
            self._changed.wait()
            time.sleep(BEHIND_SECONDS if was_written else AGAIN_SECONDS)
            self._changed.clear()
            try:
                self.write()
            except OSError as error:
                if was_written:
                    logger.warning("metrics are behind: %s", error.strerror)
                self._changed.set()
                was_written = False
            else:
                was_written = True

    def write(self) -> None:
        """Write what counts, then how much counts: readers never see more than there is.

        Raises
        ------
        OSError
            There is no room.
        """
        with self._lock:
            self._write(bytes(self._kept))

    def _write(self, whole: bytes) -> None:
        used = int.from_bytes(whole[:4], "little")
        # Under its name, where others read it, only once there is something in it.
        is_new = not Path(self._fname).exists()
        name = f"{self._fname}.new" if is_new else self._fname
        file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for start, end in ((HEAD, used), (0, HEAD)):
                if os.pwrite(file, whole[start:end], start) != end - start:
                    raise OSError(0, "no room for all of it")
        finally:
            os.close(file)
        if is_new:
            os.replace(name, self._fname)  # noqa: PTH105  a name the library glues together


def catch_up() -> None:
    """Write at once what this process counted, so that it is in what is read next."""
    for item in _made:
        with suppress(OSError):  # no room: it is behind until there is
            item.write()


def write_instead_of_mapping() -> None:
    """Have the library keep what the workers count in files that cannot kill one.

    Call it before the first number of a process is made.
    """
    values.MmapedDict = WrittenDict  # type: ignore[attr-defined, assignment]
