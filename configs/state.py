"""The state directory: one company, everything derived, nothing half-written ever visible."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from configs.errors import StateError
from configs.hashing import canonical_json

MANIFEST = "manifest.json"

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
            yield
        finally:
            held.release()

    def _acquire(self, purpose: str) -> FileLock:
        lock = FileLock(self.root / ".lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield aside
        write_json_atomically(aside / MANIFEST, manifest)
        swap_folder(aside, folder)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
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
    new.chmod(0o755)  # mkdtemp makes it private
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
