"""Wrapper that runs a command and records how it ended, even if its starter is gone.

Usage: ``python -m serving.setup.recorded_run RESULT LOCK COMMAND…``. LOCK is the number of an
inherited file descriptor. It stays locked while this process or the command lives.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path


def run_recorded(result: Path, lock: int, command: list[str]) -> int:
    """Run a command and write its exit code."""
    # The whole process group is stopped together; this process stays to record the end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    code = subprocess.Popen(command, pass_fds=(lock,)).wait()  # noqa: S603  our own command, no shell
    swap = result.with_suffix(".new")
    swap.write_text(json.dumps({"code": code}), encoding="utf-8")
    swap.replace(result)
    return code


if __name__ == "__main__":
    sys.exit(run_recorded(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]) != 0)
