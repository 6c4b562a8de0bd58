"""Retention of files: old score runs, exports, reports, quarantined rows and leftover raw copies.

A folder is renamed before it is removed, and a file is replaced by renaming, so a reader that has
one open keeps it. The latest score run and the latest report always stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.errors import StateError
from configs.runtime.state_directory import State, read_json, read_manifest, sweep_work
from configs.schema.company import FileRetention
from features.sources.build_table import QUARANTINE
from features.sources.load import WORK
from serving.batch.score_book import LATEST, SCORES_CSV
from serving.privacy.files import KEPT_IN_QUARANTINE, replaced


@dataclass(frozen=True)
class Removed:
    """Files that one tidying removed or emptied, by kind; with a trial, those it would.

    Attributes
    ----------
    books, exports, reports, quarantines, raw_copies : list of str
        Paths below the state directory.
    ledger : str
        Result in the ledger as text; empty where the ledger was not tidied.
    """

    books: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    quarantines: list[str] = field(default_factory=list)
    raw_copies: list[str] = field(default_factory=list)
    ledger: str = ""

    @property
    def lines(self) -> list[str]:
        """The result as text: one line per kind with its paths, and one about the ledger."""
        kinds = (
            ("score runs removed", self.books),
            ("exports of earlier score runs removed", self.exports),
            ("reports removed", self.reports),
            ("quarantines emptied of their rows", self.quarantines),
            ("leftover raw copies removed", self.raw_copies),
        )
        found = [f"{len(paths):,} {words}: {', '.join(paths)}" for words, paths in kinds if paths]
        return [*found, *([f"ledger: {self.ledger}"] if self.ledger else [])] or [
            "nothing is old enough to be removed"
        ]


def tidy_files(
    state: State, keeping: FileRetention, now: datetime, clock: datetime, *, is_trial: bool = False
) -> Removed:
    """Remove files that are older than the company keeps them.

    The caller holds the lock of the state directory.

    Parameters
    ----------
    state : State
        The state directory.
    keeping : FileRetention
        Ages in days.
    now : datetime
        The present, with a zone: ages of files.
    clock : datetime
        The company's clock: ages of score runs and reports. Pinned, they do not grow old.
    is_trial : bool
        Only list.
    """
    removed = Removed()
    books = list(_old_books(state, keeping.books_days, clock))
    for folder in books:
        removed.books.append(_name(state, folder))
        _remove_folder(folder, is_trial=is_trial)
    for path in _old_exports(state, keeping.exports_days, clock, books):
        removed.exports.append(_name(state, path))
        if not is_trial:
            path.unlink()
    for folder in _old_reports(state, keeping.reports_days, clock.date()):
        removed.reports.append(_name(state, folder))
        _remove_folder(folder, is_trial=is_trial)
    for path in _old_files(state.sources, f"**/{QUARANTINE}", keeping.quarantine_days, now):
        if _empty_quarantine(path, is_trial=is_trial):
            removed.quarantines.append(_name(state, path))
    for folder in _old_files(state.sources, f"{WORK}*", keeping.raw_copies_days, now):
        removed.raw_copies.append(_name(state, folder))
    if removed.raw_copies and not is_trial:
        sweep_work(state.sources, WORK)
    return removed


def _name(state: State, path: Path) -> str:
    return path.relative_to(state.root).as_posix()


def _runs(state: State) -> list[tuple[datetime, Path]]:
    """Return all complete score runs with the time they were served, oldest first."""
    found = []
    for folder in state.scores.glob("*/"):
        manifest = read_manifest(folder)
        if manifest is not None and "served_at" in manifest:
            served_at = datetime.fromisoformat(manifest["served_at"])
            found.append((served_at.astimezone(UTC), folder))
    return sorted(found)


def _kept_runs(state: State, runs: Sequence[tuple[datetime, Path]]) -> set[str]:
    """Return the names of runs that always stay: the published one, and the newest."""
    kept = {runs[-1][1].name} if runs else set()
    try:
        kept.add(str(read_json(state.scores / LATEST)["run_id"]))
    except FileNotFoundError:
        pass  # a ready-made table has none
    except (KeyError, TypeError) as error:
        raise StateError(
            "the file that names the latest score run is damaged, so none was removed",
            where=str(state.scores / LATEST),
            fix="bellwether score COMPANY",
        ) from error
    return kept


def _old_books(state: State, days: int | None, clock: datetime) -> Iterator[Path]:
    if days is None:
        return
    runs = _runs(state)
    kept = _kept_runs(state, runs)
    for served_at, folder in runs:
        if served_at < clock - timedelta(days=days) and folder.name not in kept:
            yield folder


def _old_exports(
    state: State, days: int | None, clock: datetime, books: Sequence[Path]
) -> Iterator[Path]:
    """Yield the CSV exports of old runs; their ``scores.parquet`` stays for the pages."""
    if days is None:
        return
    runs = _runs(state)
    kept = _kept_runs(state, runs) | {folder.name for folder in books}
    for served_at, folder in runs:
        path = folder / SCORES_CSV
        is_old = served_at < clock - timedelta(days=days)
        if is_old and folder.name not in kept and path.is_file():
            yield path


def _old_reports(state: State, days: int | None, today: date) -> Iterator[Path]:
    """Yield reports by the day in their names; the newest stays."""
    if days is None:
        return
    folders = sorted(path for path in state.reports.glob("????-??-??-*/"))
    for folder in folders[:-1]:
        if date.fromisoformat(folder.name[:10]) < today - timedelta(days=days):
            yield folder


def _old_files(folder: Path, pattern: str, days: int | None, now: datetime) -> Iterator[Path]:
    """Yield files and folders that were last changed long enough ago."""
    if days is None or not folder.is_dir():
        return
    for path in sorted(folder.glob(pattern)):
        changed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if changed_at < now - timedelta(days=days):
            yield path


def _remove_folder(folder: Path, *, is_trial: bool) -> None:
    """Rename a folder out of the way, then remove it: no reader sees a part of it."""
    if not is_trial:
        gone = folder.with_name(f".{folder.name}.gone")
        folder.rename(gone)
        shutil.rmtree(gone)


def _empty_quarantine(path: Path, *, is_trial: bool) -> bool:
    """Remove the source values of quarantined rows; row numbers and reasons stay."""
    table = pq.read_table(path)
    values = [name for name in table.column_names if name not in KEPT_IN_QUARANTINE]
    if all(table[name].null_count == len(table) for name in values):
        return False
    if not is_trial:
        for name in values:
            position = table.schema.get_field_index(name)
            item = table.schema.field(position)
            table = table.set_column(position, item, pa.nulls(len(table), item.type))
        with replaced(path) as aside:
            pq.write_table(table, aside, compression="zstd")
    return True
