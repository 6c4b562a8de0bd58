"""Commands that the pages start as child processes, and how each of them is or ended."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from configs.runtime.errors import StateError
from configs.runtime.state_directory import read_json, write_json_atomically

Status = Literal["absent", "running", "done", "failed", "stopped", "killed"]

STARTED, RESULT, LOCK, OUTPUT, ERRORS = "started.json", "result.json", "lock", "output", "errors"
SHOWN_BYTES = 60_000
"""Bytes of an output that a page shows, from its end."""

STOP_SECONDS = 10.0

PROGRAM = ("-m", "serving.commands")
"""Arguments of the interpreter before a command."""

_STEP = re.compile(r"^\s*(\d+\.\d) s  (.+)$")
_STOPPED = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)


@dataclass(frozen=True)
class ChildState:
    """A command that was started, and what is known about it.

    Attributes
    ----------
    status : str
        ``absent`` was never started; ``killed`` ended without a record, such as by ``kill -9``.
    code : int or None
        Exit code; negative for a signal.
    started_at : str
        ISO, UTC.
    facts : mapping of str to str
        Given at the start.
    output, errors : str
        End of what it printed.
    """

    status: Status = "absent"
    code: int | None = None
    started_at: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    errors: str = ""

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Progress so far: seconds since the start, and step."""
        found = (_STEP.match(line) for line in self.output.splitlines())
        return [(match[1], match[2]) for match in found if match]

    @property
    def rest(self) -> str:
        """Output without the progress."""
        lines = [line for line in self.output.splitlines() if not _STEP.match(line)]
        return "\n".join(lines).strip()

    @property
    def words(self) -> str:
        """Its present state or its end, in a sentence."""
        return {
            "absent": "Not started.",
            "running": "Running.",
            "done": "Finished without errors.",
            "stopped": "Stopped before the end. Finished steps are kept; starting again goes on "
            "from there.",
            "killed": "Ended without a result: the process was killed, for example since the "
            "memory was full or the computer was switched off. Finished steps are kept; starting "
            "again goes on from there.",
            "failed": self._failure(),
        }[self.status]

    def _failure(self) -> str:
        code = self.code or 0
        if code < 0:
            return (
                f"Ended by signal {-code}. Finished steps are kept; starting again goes on from "
                "there."
            )
        return "Ended with an error."


@dataclass(frozen=True)
class Child:
    """One kind of command of a desk: at most one of a kind runs at a time.

    Attributes
    ----------
    folder : Path
        Folder of its record and output.
    """

    folder: Path

    @property
    def output(self) -> Path:
        """File of its standard output."""
        return self.folder / OUTPUT

    def start(
        self,
        command: Sequence[str],
        facts: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a command of this program, such as ``("run", "acme")``.

        Raises
        ------
        StateError
            One of this kind is running.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StateError(
                "this is running already, so it was not started a second time",
                where=str(self.folder),
                fix="wait for its end, or stop it on its page",
            ) from error
        try:
            self._start(lock, command, facts or {}, environment or {})
        finally:
            os.close(lock)  # the child has inherited it and holds the lock

    def _start(
        self,
        lock: int,
        command: Sequence[str],
        facts: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        (self.folder / RESULT).unlink(missing_ok=True)
        wrapper = [sys.executable, "-m", "serving.setup.recorded_run"]
        whole = [*wrapper, str(self.folder / RESULT), str(lock), sys.executable, *PROGRAM]
        with (
            (self.folder / OUTPUT).open("wb") as output,
            (self.folder / ERRORS).open("wb") as errors,
        ):
            process = subprocess.Popen(  # noqa: S603  our own interpreter, no shell
                [*whole, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **_import_path(), **environment, "PYTHONUNBUFFERED": "1"},
                pass_fds=(lock,),
                start_new_session=True,
            )
        # Without a waiting parent, an ended child would stay in the process table.
        threading.Thread(target=process.wait, daemon=True).start()
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        started = {"pid": process.pid, "at": now, "facts": dict(facts)}
        write_json_atomically(self.folder / STARTED, started)

    @property
    def is_running(self) -> bool:
        """Whether the command, or a process that it started, holds the lock."""
        try:
            lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def state(self) -> ChildState:
        """Return what is known about the last start."""
        is_running = self.is_running  # first: a command that ends meanwhile has its result
        try:
            started = read_json(self.folder / STARTED)
        except FileNotFoundError:
            return ChildState("running") if is_running else ChildState()
        code: int | None = None
        with suppress(FileNotFoundError, StateError):
            code = int(read_json(self.folder / RESULT)["code"])
        return ChildState(
            "running" if is_running else _status(code),
            code,
            str(started["at"]),
            dict(started["facts"]),
            _tail(self.folder / OUTPUT),
            _tail(self.folder / ERRORS),
        )

    def stop(self) -> None:
        """Stop the command and wait until it has ended; does nothing when it is not running."""
        if not self.is_running:
            return
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int(read_json(self.folder / STARTED)["pid"]), signal.SIGTERM)
        ends = time.monotonic() + STOP_SECONDS
        while self.is_running and time.monotonic() < ends:
            time.sleep(0.1)


def _import_path() -> dict[str, str]:
    """Return the variable by which a child finds this program where it is not installed."""
    root = Path(__file__).resolve().parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return {}  # found anyway, and must not precede the standard library
    before = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(item for item in (str(root), before) if item)}


def _status(code: int | None) -> Status:
    if code is None:
        return "killed"
    if code in _STOPPED:
        return "stopped"
    return "done" if code == 0 else "failed"


def _tail(path: Path) -> str:
    """Return the end of a file as text, without a first line that is cut."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - SHOWN_BYTES))
            text = handle.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text.partition("\n")[2] if size > SHOWN_BYTES else text
