"""State directory of one company: paths, the writer lock and atomic writes."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from configs.runtime.errors import StateError
from configs.runtime.hashing import canonical_json

MANIFEST = "manifest.json"

HAS_FORGOTTEN = "has_forgotten"
"""Mark in the manifest of a training whose predictions hold an account under a random name."""

_RANDOM = "?" * 8
"""Pattern of the suffix that `tempfile` appends to a name."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class State:
    """Paths of one company's state directory.

    Every derived artefact is a folder whose ``manifest.json`` is written last; readers ignore a
    folder without one.
    """

    root: Path

    @property
    def sources(self) -> Path:
        """Canonical source tables: ``sources/<table>/`` with data, quarantine and manifest."""
        return self.root / "sources"

    @property
    def scratch(self) -> Path:
        """Spill files of the engine; empty between runs."""
        return self.root / ".scratch"

    @property
    def daily(self) -> Path:
        """Daily tables, the only scan of events: ``daily/<table>/``."""
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
        """Scores of all accounts, one folder per score run: ``scores/<run>/``."""
        return self.root / "scores"

    @property
    def monitoring(self) -> Path:
        """Latest drift and performance results: ``monitoring/latest.json``."""
        return self.root / "monitoring"

    @property
    def quality(self) -> Path:
        """History of data quality: profiles and issues of every load."""
        return self.root / "quality"

    @property
    def quality_report(self) -> Path:
        """Report on the quality of the last load."""
        return self.quality / "latest.json"

    @property
    def refresh(self) -> Path:
        """Records of `bellwether refresh`: ``latest.json``, ``history.json``, ``baseline.json``."""
        return self.root / "refresh"

    @property
    def reports(self) -> Path:
        """Reports as HTML, and their numbers as JSON."""
        return self.root / "reports"

    @property
    def privacy(self) -> Path:
        """Keyed hashes of forgotten accounts and persons, and the record of deletions."""
        return self.root / "privacy"

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the writer lock of this directory; fail at once when another process holds it."""
        acquired = self._acquire(purpose)
        try:
            # Spill files of a killed run; the lock is held, so no other run uses them.
            shutil.rmtree(self.scratch, ignore_errors=True)
            yield
        finally:
            acquired.release()

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
    """Restrict a state directory and all files written later to the current user.

    The directory holds every score with its inputs. Files that an earlier version left readable to
    other users are restricted, too; a directory owned by another user is left as it is.
    """
    os.umask(0o077)
    if not root.is_dir() or not stat.S_IMODE(root.stat().st_mode) & 0o077:
        return
    with suppress(PermissionError):
        root.chmod(0o700)
        for path in root.rglob("*"):
            if not path.is_symlink():
                _restrict(path)


def _restrict(path: Path) -> None:
    with suppress(FileNotFoundError):  # a lock or log file that was removed meanwhile
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)


def private_file(path: Path) -> None:
    """Create a file readable to the current user only, or restrict an existing one.

    Covers SQLite's ``-wal`` and ``-shm`` files, which get the permissions of the database.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for item in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with suppress(PermissionError):
            _restrict(item)


@contextmanager
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Open a temporary folder and remove it afterwards, unless it was moved.

    The folder is locked while this process lives. Folders of the same prefix without a lock were
    left by killed processes and are removed first.
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
    """Remove folders of `work_folder` that killed processes left."""
    for path in parent.glob(f"{glob.escape(prefix)}{_RANDOM}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises
    ------
    StateError
        The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"damaged file: {error}", where=str(path), fix="delete it and run the step again"
        ) from error


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished folder, or None when it is absent or incomplete."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (FileNotFoundError, StateError):
        return None
    return manifest if isinstance(manifest, dict) else None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old or the new content, never a part."""
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
        _raise_if_full(error, path)
        raise


def write_json_atomically(path: Path, value: Any) -> None:
    """Write `value` as canonical JSON, atomically."""
    write_text_atomically(path, canonical_json(value) + "\n")


@contextmanager
def new_folder(folder: Path, manifest: Mapping[str, object]) -> Iterator[Path]:
    """Build `folder` in a temporary folder, write its manifest last and rename it into place.

    Yields the temporary folder to write into. An existing `folder` is replaced; after an error it
    is unchanged and the temporary folder is removed.
    """
    try:
        with work_folder(folder.parent, f".{folder.name}.") as temporary:
            yield temporary
            write_json_atomically(temporary / MANIFEST, manifest)
            swap_folder(temporary, folder)
    except BaseException as error:
        _raise_if_full(error, folder)
        raise


def _raise_if_full(error: BaseException, place: Path) -> None:
    """Raise for an exhausted disk, quota or file size limit; partial files are already removed."""
    is_full = isinstance(error, OSError) and (
        error.errno in _FULL or any(os.strerror(code) in str(error) for code in _FULL)
    )
    if is_full:
        raise StateError(
            f"the disk or quota is full: {error}; no partial file is kept",
            where=str(place),
            fix="free disk space or raise the quota, then run the same command again",
        ) from error


def swap_folder(new: Path, folder: Path) -> None:
    """Replace `folder` by the folder `new`."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
