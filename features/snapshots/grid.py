"""Grid of (entity, as_of), and immutable snapshots per family and as_of.

``snapshots/<family>/<version>/<as_of>/part.parquet``: the version identifies the code of the family
and its configuration, so changed code creates a new version and never changes stored rows. Each
as_of stores the fingerprint of the facts known by then and is rebuilt only when that changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import DataError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import new_folder, read_manifest
from configs.schema.company import grid_moments, midnight
from configs.schema.workspace import Workspace
from features.days import KEY, day_index, index_day
from features.signals import FAMILIES
from features.signals.declare import Family
from features.snapshots.account_status import ACTIVITY, account_status_table, activity_table
from features.snapshots.aggregate import family_table
from features.snapshots.daily_store import NOT_SIGNALS, daily_tables, fact_prints
from features.tables.catalog import FeatureInfo
from features.tables.daily_tables import date_day
from features.tables.duckdb_engine import connect

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from features.sources import Loaded

Progress = Callable[[str], None]

ACCOUNT_STATUS = "standing"
"""Name of the snapshot set with the account status."""

STATUS_TABLES = {*ACTIVITY, "subscriptions"}

CHUNK = 26
"""as_ofs per query: bounds memory."""

DAY_PATTERN = "????-??-??"
"""Matches folders of finished snapshots, not the temporary folders of killed runs."""


@dataclass(frozen=True)
class SnapshotSet:
    """All snapshots of one family version.

    Attributes
    ----------
    family : str
        Name of the family, or `ACCOUNT_STATUS`.
    version : str
        Identity of code and configuration.
    folder : pathlib.Path
        ``snapshots/<family>/<version>``.
    info : tuple of FeatureInfo
        The features, in column order; empty for the account status.
    """

    family: str
    version: str
    folder: Path
    info: tuple[FeatureInfo, ...]

    @property
    def glob(self) -> str:
        """Pattern of the Parquet files, for readers that take one."""
        return f"{self.folder}/{DAY_PATTERN}/part.parquet"

    def path(self, day: date) -> Path:
        """Return the Parquet file of one as_of."""
        return self.folder / str(day) / "part.parquet"


@dataclass(frozen=True)
class Snapshots:
    """Snapshots of all families over the grid.

    Attributes
    ----------
    days : tuple of date
        The grid, ascending; the last as_of is the one that is scored.
    sets : dict of str to SnapshotSet
        Snapshot sets by family, including `ACCOUNT_STATUS`.
    dropped : dict of str to str
        Declared features without the data they need, and the missing columns.
    """

    days: tuple[date, ...]
    sets: dict[str, SnapshotSet] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def book_on(self) -> date:
        """The latest as_of, which is scored."""
        return self.days[-1]

    @property
    def info(self) -> list[FeatureInfo]:
        """Every feature that was built, in family order."""
        return [item for name in sorted(self.sets) for item in self.sets[name].info]


def grid_days(workspace: Workspace, first_fact: date, now: datetime) -> list[date]:
    """Return the grid: calendar days since `start_on`, and today.

    Parameters
    ----------
    workspace : Workspace
        Workspace with the grid configuration.
    first_fact : date
        First row of the activity table; the default start is 182 days later.
    now : datetime
        The clock.
    """
    start = workspace.company.grid.start_on or first_fact + timedelta(days=182)
    last = midnight(now).date()
    if start > last:
        raise DataError(
            f"the first possible as_of, {start}, lies after now, {last}: there is no history",
            where="grid.start_on" if workspace.company.grid.start_on else "the activity tables",
            fix="provide at least half a year of activity, or set grid.start_on in company.yaml",
        )
    days = grid_moments(workspace.company.grid.every, start, last)
    return days if days and days[-1] == last else [*days, last]


def build_snapshots(
    workspace: Workspace, loaded: Loaded, now: datetime, progress: Progress = lambda _: None
) -> Snapshots:
    """Build missing snapshots of every family and as_of, and return all snapshots.

    Raises
    ------
    DataError
        There is no history to build from.
    """
    engine = connect(workspace.state.scratch)
    daily, history, identity = daily_tables(engine, workspace, loaded, progress)
    days = _days_with_labels(engine, workspace, loaded, daily, now)
    columns = {name: set(table.columns) for name, table in daily.items()}
    build = _Build(
        workspace, daily, history, days, fact_prints(workspace.state, daily, days), progress
    )
    snapshots = Snapshots(days=tuple(days))
    code = code_digest(__name__)
    for family in FAMILIES:
        lacks = family.lacking(columns)
        usable = family.without(lacks)
        snapshots.dropped.update(
            {
                f.name: f"needs {', '.join(lacks[f.name])}"
                for f in family.features
                if f.name in lacks
            }
        )
        if usable.features:
            version = digest(code, [item.name for item in usable.columns], identity)
            snapshots.sets[family.name] = _build_set(build, usable, version)
    version = digest(
        code,
        workspace.company.cohort.model_dump(),
        workspace.company.room.model_dump(),
        {name: sorted(columns[name]) for name in sorted(columns)},
        identity,
    )
    snapshots.sets[ACCOUNT_STATUS] = _build_set(build, None, version)
    return snapshots


def account_status_at(
    engine: Backend, workspace: Workspace, loaded: Loaded, days: list[date]
) -> ir.Table:
    """Return the account status at any past days, from the current tables.

    One row per (entity_id, as_of_day), as in the account status snapshots; nothing is cached.
    """
    daily, history, _ = daily_tables(engine, workspace, loaded, lambda _: None)
    grid = grid_at(daily["accounts"], days)
    return account_status_table(daily, grid, workspace.company.cohort, history)


@dataclass(frozen=True)
class _Build:
    """Inputs shared by all snapshot sets of one build."""

    workspace: Workspace
    daily: Mapping[str, ir.Table]
    history: Mapping[str, bool]
    days: list[date]
    prints: Mapping[date, Mapping[str, str]]
    progress: Progress


def _days_with_labels(
    engine: Backend,
    workspace: Workspace,
    loaded: Loaded,
    daily: Mapping[str, ir.Table],
    now: datetime,
) -> list[date]:
    """Return the grid, with the past as_ofs of the labels table added."""
    table = activity_table(daily)
    if table is None:
        raise DataError(
            "no activity table has a row",
            where=str(workspace.state.sources),
            fix="map usage_events, support_tickets or invoices in company.yaml",
        )
    days = set(grid_days(workspace, index_day(int(daily[table].day.min().execute())), now))
    if "labels" in loaded.tables:
        labels = engine.read_parquet(loaded.tables["labels"].path)
        moments = labels.select(day=date_day(labels.as_of_on)).distinct().to_pyarrow()["day"]
        last = max(days)
        days |= {day for day in (index_day(k) for k in moments.to_pylist()) if day <= last}
    return sorted(days)


def _build_set(build: _Build, family: Family | None, version: str) -> SnapshotSet:
    name = family.name if family else ACCOUNT_STATUS
    reads = {"accounts", *(family.tables if family else STATUS_TABLES)}
    info = tuple(item.info(name) for item in family.features) if family else ()
    folder = build.workspace.state.snapshots / name / version
    _sweep(folder)
    wanted = {day: {"known": _known_identity(build.prints[day], reads)} for day in build.days}
    stale = [day for day in build.days if read_manifest(folder / str(day)) != wanted[day]]
    if not stale:
        build.progress(f"{name}: {len(build.days)} snapshots unchanged")
    else:
        build.progress(f"{name}: building {len(stale)} of {len(build.days)} snapshots")
    for chunk in (stale[start : start + CHUNK] for start in range(0, len(stale), CHUNK)):
        grid = grid_at(build.daily["accounts"], chunk)
        table = (
            family_table(family, build.daily, grid, build.history)
            if family
            else account_status_table(
                build.daily,
                grid,
                build.workspace.company.cohort,
                build.history,
                build.workspace.company.room,
            )
        )
        for day, part in _by_day(table.to_pyarrow(), chunk):
            with new_folder(folder / str(day), wanted[day]) as target:
                pq.write_table(part, target / "part.parquet", compression="zstd")
    return SnapshotSet(name, version, folder, info)


def _known_identity(prints: Mapping[str, str], reads: set[str]) -> str:
    return digest({name: prints[name] for name in sorted(reads) if name in prints})


def _sweep(folder: Path) -> None:
    """Remove temporary folders of killed runs; the caller holds the state lock."""
    for leftover in folder.glob(".*/"):
        shutil.rmtree(leftover)


def grid_at(accounts: ir.Table, days: list[date]) -> ir.Table:
    """Return entity × as_of for every account known by then, with its tenure in days."""
    moments = ibis.memtable({"as_of_day": [day_index(day) for day in days]})
    pairs = accounts.cross_join(moments)
    known = pairs.filter(pairs.day <= pairs.as_of_day, pairs.known_day <= pairs.as_of_day)
    # A start date corrected later must not change older rows.
    began = known.group_by(KEY).agg(created_day=known.day.min())
    return began.select(*KEY, tenure_days=began.as_of_day - began.created_day)


def _by_day(table: pa.Table, days: list[date]) -> Iterator[tuple[date, pa.Table]]:
    """Split a result by as_of, sorted by entity, with the two timestamps Feast joins on."""
    for day in days:
        part = table.filter(pc.equal(table["as_of_day"], day_index(day))).sort_by("entity_id")
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        stamp = pa.array([moment] * len(part), pa.timestamp("us", tz="UTC"))
        # created_at equals as_of: a backfill stamped with the current time would be invisible to
        # every earlier training row.
        part = part.append_column("as_of", stamp).append_column("created_at", stamp)
        yield day, part


def read_snapshot(snapshots: Snapshots, family: str, day: date) -> pa.Table:
    """Return one family at one as_of: one row per entity, sorted by entity_id."""
    return pq.read_table(snapshots.sets[family].path(day))


__all__ = [
    "KEY",
    "NOT_SIGNALS",
    "SnapshotSet",
    "Snapshots",
    "build_snapshots",
    "daily_tables",
    "grid_at",
    "read_snapshot",
]
