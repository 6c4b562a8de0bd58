"""A worker ends with the process that started it: an orphan would serve on and hold the port.

A process that is killed outright (``kill -9``, out of memory) cannot end its workers itself, so
each of them looks whether its parent is still there.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

logger = logging.getLogger("bellwether.serving")

VARIABLE = "_BELLWETHER_MAIN_PID"
LOOK_SECONDS = 0.5

END_SECONDS = 8.0
"""For an orderly end, in which the port is closed first and what was begun is answered."""


def name_main_process() -> None:
    """Note in the environment which process starts the workers; they inherit the note.

    The server's workers are known by an argument of theirs: they leave the note as it is.
    """
    if not is_worker():
        os.environ[VARIABLE] = str(os.getpid())


def is_worker() -> bool:
    """Say whether this process is one of the server's workers."""
    return "--worker-id" in sys.argv


def end_with_parent() -> None:
    """Have this process end soon after the main process; does nothing in that process itself."""
    main = int(os.environ.get(VARIABLE, os.getppid()))
    if is_worker():
        threading.Thread(target=_watch, args=(main,), name="parent", daemon=True).start()


def _watch(main: int) -> None:
    while os.getppid() == main:
        time.sleep(LOOK_SECONDS)
    logger.error("the main process %d is gone, so this worker ends", main)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
