"""The state directory: one company, everything derived, nothing half-written ever visible."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from configs.runtime.errors import StateError
from configs.runtime.hashing import canonical_json

MANIFEST = "manifest.json"

_RANDOM = "?" * 8
"""What `tempfile` appends to a name."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class State:
    """Paths of one company's state directory.

    Every derived artefact lives in a folder whose ``manifest.json`` is written last: a folder
    without one does not exist as far as readers are concerned.
    """

    root: Path

    @property
    def sources(self) -> Path:
        """Canonical source tables: ``sources/<table>/`` with data, quarantine and manifest."""
        return self.root / "sources"

    @property
    def scratch(self) -> Path:
        """Where the engine spills what does not fit into memory; empty between runs."""
        return self.root / ".scratch"

    @property
    def daily(self) -> Path:
        """Day-keyed tables, the only scan of events: ``daily/<table>/``."""
        return self.root / "daily"

    @property
    def snapshots(self) -> Path:
        """Feature snapshots: ``snapshots/<family>/<version>/<as_of>/part.parquet``."""
        return self.root / "snapshots"

    @property
    def labels(self) -> Path:
        """Labels: ``labels/<target>/<hash>/``."""
        return self.root / "labels"

    @property
    def feast(self) -> Path:
        """Feast's registry and embedded online store."""
        return self.root / "feast"

    @property
    def mlflow(self) -> Path:
        """Embedded tracking server: database and artifacts."""
        return self.root / "mlflow"

    @property
    def training(self) -> Path:
        """The latest training of each target: ``training/<target>/``."""
        return self.root / "training"

    @property
    def bundles(self) -> Path:
        """Model bundles by checksum: ``bundles/<sha>/``."""
        return self.root / "bundles"

    @property
    def releases(self) -> Path:
        """Published releases."""
        return self.root / "releases"

    @property
    def ledger(self) -> Path:
        """Every score served."""
        return self.root / "ledger"

    @property
    def scores(self) -> Path:
        """The scored book, one folder per run: ``scores/<run>/``."""
        return self.root / "scores"

    @property
    def monitoring(self) -> Path:
        """What was seen last of drift and performance: ``monitoring/latest.json``."""
        return self.root / "monitoring"

    @property
    def reports(self) -> Path:
        """Reports for people: HTML and the same numbers as JSON."""
        return self.root / "reports"

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the one writer's lock of this directory; fail at once when somebody has it."""
        held = self._acquire(purpose)
        try:
            # Spill files of a killed run; the lock is held, so no other run uses them.
            shutil.rmtree(self.scratch, ignore_errors=True)
            yield
        finally:
            held.release()

    def _acquire(self, purpose: str) -> FileLock:
        lock = FileLock(self.root / ".lock")
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise StateError(
                f"another run is writing to this state directory, so '{purpose}' did not start",
                where=str(self.root),
                fix="wait for it to end, then run the same command again",
            ) from error
        except OSError as error:
            raise StateError(
                f"the state directory cannot be written: {error.strerror or error}",
                where=str(self.root),
                fix="correct its permissions, or name another one with --state or BELLWETHER_STATE",
            ) from error
        return lock


def keep_private(root: Path) -> None:
    """Make a state directory, and every file written from here on, readable to this user only.

    It holds every score and what it was made from. What an earlier version left readable to others
    is closed once; a directory of another user is left as it is.
    """
    os.umask(0o077)
    if not root.is_dir() or not stat.S_IMODE(root.stat().st_mode) & 0o077:
        return
    with suppress(PermissionError):
        root.chmod(0o700)
        for path in root.rglob("*"):
            if not path.is_symlink():
                _close(path)


def _close(path: Path) -> None:
    with suppress(FileNotFoundError):  # a lock or a log that ended meanwhile
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)


def private_file(path: Path) -> None:
    """Create a file readable to this user only, or make it so with what lies beside it.

    SQLite gives its log and its index the permissions of the database.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for item in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with suppress(PermissionError):
            _close(item)


@contextmanager
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Open a folder for work in progress and remove it afterwards, if it is still there.

    It is locked while this process lives. Folders of the same prefix whose process was killed are
    removed first: their lock went with it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep_work(parent, prefix)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def sweep_work(parent: Path, prefix: str) -> None:
    """Remove the folders of `work_folder` whose process was killed."""
    for path in parent.glob(f"{glob.escape(prefix)}{_RANDOM}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read one JSON file; a damaged one is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"damaged file: {error}", where=str(path), fix="delete it and run the step again"
        ) from error


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished folder, or None when it is absent or half-written."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (FileNotFoundError, StateError):
        return None
    return manifest if isinstance(manifest, dict) else None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        _tell_when_full(error, path)
        raise


def write_json_atomically(path: Path, value: Any) -> None:
    """Write `value` as canonical JSON, atomically."""
    write_text_atomically(path, canonical_json(value) + "\n")


@contextmanager
def new_folder(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Build `folder` aside and rename it into place with its manifest written last.

    Yields the temporary folder to write into. Whatever was at `folder` is replaced; on any error
    it stays as it was and the temporary folder is removed.
    """
    try:
        with work_folder(folder.parent, f".{folder.name}.") as aside:
            yield aside
            write_json_atomically(aside / MANIFEST, manifest)
            swap_folder(aside, folder)
    except BaseException as error:
        _tell_when_full(error, folder)
        raise


def _tell_when_full(error: BaseException, place: Path) -> None:
    """Raise for a disk, quota or file size that is used up; what was half-written is gone."""
    is_full = isinstance(error, OSError) and (
        error.errno in _FULL or any(os.strerror(code) in str(error) for code in _FULL)
    )
    if is_full:
        raise StateError(
            f"there is no room to write it: {error}; nothing half-written is kept",
            where=str(place),
            fix="free the disk or raise the quota, then run the same command again",
        ) from error


def swap_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` in the place of `folder`."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
