"""Metrics of one worker in files that other workers read, without a memory map.

The Prometheus library maps these files into memory. On a full disk, a write to a mapped block kills
the process (SIGBUS). This implementation keeps the numbers in memory and writes them shortly after;
a failed write only delays the file until there is space again.
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
"""Initial size in bytes; doubled when full."""

HEAD = 8
"""Size of the header with the number of used bytes."""

BEHIND_SECONDS, AGAIN_SECONDS = 0.02, 1.0
"""Maximum delay of the file in seconds, and pause after a failed write."""


_made: list[WrittenDict] = []


class SharedNumbers(bytearray):
    """Bytes in memory that signal a thread when they change."""

    def __init__(self, size: int, changed: threading.Event) -> None:
        super().__init__(size)
        self._changed = changed

    def __setitem__(self, where: slice, data: bytes) -> None:  # type: ignore[override]
        """Store bytes."""
        super().__setitem__(where, data)
        if not self._changed.is_set():
            self._changed.set()

    def close(self) -> None:
        """Do nothing: required by the library, which closes its memory map."""


class WrittenDict(MmapedDict):
    """Prometheus dictionary of one worker, written to its file instead of mapped."""

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
        """Add a number; the library holds its lock."""
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
                    logger.warning("metrics could not be written: %s", error.strerror)
                self._changed.set()
                was_written = False
            else:
                was_written = True

    def write(self) -> None:
        """Write the data, then the header: readers never see incomplete data.

        Raises
        ------
        OSError
            The disk is full.
        """
        with self._lock:
            self._write(bytes(self._kept))

    def _write(self, whole: bytes) -> None:
        used = int.from_bytes(whole[:4], "little")
        # A new file gets its name after the first write, so that readers never see it empty.
        is_new = not Path(self._fname).exists()
        name = f"{self._fname}.new" if is_new else self._fname
        file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for start, end in ((HEAD, used), (0, HEAD)):
                if os.pwrite(file, whole[start:end], start) != end - start:
                    raise OSError(0, "the disk is full")
        finally:
            os.close(file)
        if is_new:
            os.replace(name, self._fname)  # noqa: PTH105  a name from the library


def catch_up() -> None:
    """Write the numbers of this process immediately, so that the next read includes them."""
    for item in _made:
        with suppress(OSError):  # disk full: written later
            item.write()


def write_instead_of_mapping() -> None:
    """Replace the memory-mapped files of the Prometheus library.

    Call it before the first metric of a process is created.
    """
    values.MmapedDict = WrittenDict  # type: ignore[attr-defined, assignment]
