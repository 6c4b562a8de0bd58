"""The grid of (entity, as_of), and one immutable snapshot set per family and as_of.

``snapshots/<family>/<version>/<as_of>/part.parquet``: the version is the identity of the family's
code and of the configuration it depends on, so changed code is a new version and never a restated
row. Each as_of keeps the fingerprint of what was known by then; it is rebuilt only when that
changes.
"""

from __future__ import annotations

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

import features.compute
import features.daily
import features.known
import features.standing
from configs.company import grid_moments, midnight
from configs.errors import DataError
from configs.hashing import code_digest, digest
from configs.places import Workspace
from configs.state import new_folder, read_manifest
from features.catalog import FeatureInfo
from features.compute import KEY, family_table
from features.contracts import TABLES
from features.daily import to_daily
from features.engine import connect
from features.signals import FAMILIES, MODULES
from features.signals.declare import Family
from features.standing import standing_table

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from features.sources import Loaded

Progress = Callable[[str], None]

STANDING = "standing"
NOT_SIGNALS = {"labels", "outcomes", "owners", "rates", "health_scores"}
"""Source tables no signal reads: outcomes, and what is only shown or compared with."""

CHUNK = 26
"""as_ofs computed in one query: bounds memory."""

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class SnapshotSet:
    """All snapshots of one family version.

    Attributes
    ----------
    family : str
        Name of the family, or ``standing``.
    version : str
        Identity of code and configuration.
    folder : pathlib.Path
        ``snapshots/<family>/<version>``.
    info : tuple of FeatureInfo
        The features, in column order; empty for ``standing``.
    """

    family: str
    version: str
    folder: Path
    info: tuple[FeatureInfo, ...]

    @property
    def glob(self) -> str:
        """Pattern of the Parquet files, for readers that take one."""
        return f"{self.folder}/*/part.parquet"


@dataclass(frozen=True)
class Snapshots:
    """What was built.

    Attributes
    ----------
    days : tuple of date
        The grid, ascending; the last one is the book: the latest moment that is scored.
    sets : dict of str to SnapshotSet
        By family; ``standing`` among them.
    dropped : dict of str to str
        Declared features that the data cannot support, and what they lack.
    """

    days: tuple[date, ...]
    sets: dict[str, SnapshotSet] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def book_on(self) -> date:
        """The latest as_of: what is scored."""
        return self.days[-1]

    @property
    def info(self) -> list[FeatureInfo]:
        """Every feature that was built, in family order."""
        return [item for name in sorted(self.sets) for item in self.sets[name].info]


def day_index(day: date) -> int:
    """Return days since 1970-01-01.

    >>> day_index(date(1970, 1, 2))
    1
    """
    return (day - EPOCH).days


def index_day(index: int) -> date:
    """Return the date of a day index."""
    return EPOCH + timedelta(days=index)


def grid_days(workspace: Workspace, first_fact: date, now: datetime) -> list[date]:
    """Return the grid: calendar moments since `start_on`, and today's midnight for the book.

    Parameters
    ----------
    workspace : Workspace
        Its grid says how often, and from when.
    first_fact : date
        The first activity; the default start is 182 days later.
    now : datetime
        The clock.
    """
    start = workspace.company.grid.start_on or first_fact + timedelta(days=182)
    last = midnight(now).date()
    if start > last:
        raise DataError(
            f"the first possible as_of, {start}, lies after now, {last}: there is no history",
            where="grid.start_on" if workspace.company.grid.start_on else "the activity tables",
            fix="bring at least half a year of activity, or set grid.start_on in company.yaml",
        )
    days = grid_moments(workspace.company.grid.every, start, last)
    return days if days and days[-1] == last else [*days, last]


def build_snapshots(
    workspace: Workspace, loaded: Loaded, now: datetime, progress: Progress = lambda _: None
) -> Snapshots:
    """Build what is missing of every family at every as_of, and return all of it.

    Raises
    ------
    DataError
        When there is no history to build from.
    """
    engine = connect(workspace.state.root / ".scratch")
    daily, history, identity = _daily_tables(engine, workspace, loaded, progress)
    days = _days_with_labels(engine, workspace, loaded, daily, now)
    prints = _fingerprints(daily, days)
    available = {name: set(table.columns) for name, table in daily.items()}
    snapshots = Snapshots(days=tuple(days))
    for family in FAMILIES:
        usable = family.available(available)
        built = {item.name for item in usable.features}
        snapshots.dropped.update(
            {item.name: _lacking(family) for item in family.features if item.name not in built}
        )
        if usable.features:
            version = digest(
                code_digest([*MODULES, features.compute, features.known, features.daily]),
                [item.name for item in usable.columns],
                identity,
            )
            snapshots.sets[family.name] = _build_set(
                workspace, usable, version, daily, history, days, prints, progress
            )
    standing = digest(
        code_digest([features.standing, features.known, features.daily]),
        workspace.company.cohort.model_dump(),
        sorted(available),
        identity,
    )
    snapshots.sets[STANDING] = _build_set(
        workspace, None, standing, daily, history, days, prints, progress
    )
    return snapshots


def _lacking(family: Family) -> str:
    tables = {c.value.table for c in family.columns if hasattr(c.value, "table")}
    return f"family {family.name}: needs columns of {', '.join(sorted(tables))}"


def _daily_tables(
    engine: Backend, workspace: Workspace, loaded: Loaded, progress: Progress
) -> tuple[dict[str, ir.Table], dict[str, bool], str]:
    """Write the daily tables that are out of date; return all as engine tables."""
    company = workspace.company
    history = {
        name: company.tables[name].history for name in loaded.tables if name in company.tables
    }
    rates_print = loaded.tables["rates"].identity if "rates" in loaded.tables else ""
    identity = digest(company.reporting_currency, sorted(history.items()))
    daily = {}
    for name, info in loaded.tables.items():
        if name in NOT_SIGNALS:
            continue
        target = workspace.state.daily / name
        wanted = {
            "identity": digest(info.identity, rates_print, identity, code_digest([features.daily]))
        }
        if read_manifest(target) != wanted:
            progress(f"putting {name} on days ({info.rows:,} rows)")
            rates = engine.read_parquet(loaded.tables["rates"].path) if rates_print else None
            table = to_daily(
                name,
                engine.read_parquet(info.path),
                rates,
                history=history.get(name, False),
                currency=company.reporting_currency,
            )
            with new_folder(target, wanted) as folder:
                table.to_parquet(folder / "data.parquet")
        daily[name] = engine.read_parquet(target / "data.parquet")
    return daily, history, identity


def _days_with_labels(
    engine: Backend,
    workspace: Workspace,
    loaded: Loaded,
    daily: Mapping[str, ir.Table],
    now: datetime,
) -> list[date]:
    """Return the grid, with the moments of a labels table added to it."""
    activity = [daily[name] for name in daily if TABLES[name].activity]
    first = [int(table.day.min().execute()) for table in activity if table.count().execute()]
    if not first:
        raise DataError(
            "no activity table has a row",
            where=str(workspace.state.sources),
            fix="map usage_events, support_tickets or invoices in company.yaml",
        )
    days = set(grid_days(workspace, index_day(min(first)), now))
    if "labels" in loaded.tables:
        moments = engine.read_parquet(loaded.tables["labels"].path).as_of_on.cast("date")
        days |= {
            day.date() if isinstance(day, datetime) else day
            for day in moments.as_table().distinct().execute().iloc[:, 0]
        }
    return sorted(days)


def _fingerprints(daily: Mapping[str, ir.Table], days: list[date]) -> dict[date, dict[str, str]]:
    """Return, per as_of and table, the identity of all rows known by then."""
    prints: dict[date, dict[str, str]] = {day: {} for day in days}
    for name, table in sorted(daily.items()):
        hashed = table.mutate(
            _hash=sum(
                (
                    (table[column].hash() + position).abs() % 2147483647
                    for position, column in enumerate(table.columns)
                ),
                start=ibis.literal(0),
            )
        )
        per_day = (
            hashed.group_by("known_day")
            .agg(n=hashed.count(), h=hashed._hash.sum().cast("int64"))
            .order_by("known_day")
            .to_pyarrow()
        )
        known = per_day["known_day"].to_numpy()
        for day in days:
            upto = int((known <= day_index(day)).sum())
            part = per_day.slice(0, upto)
            prints[day][name] = digest(pc.sum(part["n"]).as_py(), pc.sum(part["h"]).as_py())
    return prints


def _build_set(
    workspace: Workspace,
    family: Family | None,
    version: str,
    daily: Mapping[str, ir.Table],
    history: Mapping[str, bool],
    days: list[date],
    prints: Mapping[date, Mapping[str, str]],
    progress: Progress,
) -> SnapshotSet:
    name = family.name if family else STANDING
    info = tuple(item.info(name) for item in family.features) if family else ()
    folder = workspace.state.snapshots / name / version
    wanted = {day: {"known": digest(prints[day])} for day in days}
    stale = [day for day in days if read_manifest(folder / str(day)) != wanted[day]]
    if not stale:
        progress(f"{name}: {len(days)} snapshots unchanged")
    else:
        progress(f"{name}: building {len(stale)} of {len(days)} snapshots")
    for chunk in (stale[start : start + CHUNK] for start in range(0, len(stale), CHUNK)):
        grid = _grid(daily["accounts"], chunk)
        table = (
            family_table(family, daily, grid, history)
            if family
            else standing_table(daily, grid, workspace.company.cohort, history)
        )
        for day, part in _by_day(table.to_pyarrow(), chunk):
            with new_folder(folder / str(day), wanted[day]) as target:
                pq.write_table(part, target / "part.parquet", compression="zstd")
    return SnapshotSet(name, version, folder, info)


def _grid(accounts: ir.Table, days: list[date]) -> ir.Table:
    """Return entity × as_of for every account known by then, with its tenure in days."""
    moments = ibis.memtable({"as_of_day": [day_index(day) for day in days]})
    known = accounts.group_by("entity_id").agg(
        created_day=accounts.day.min(), known_day=accounts.known_day.min()
    )
    pairs = known.cross_join(moments)
    return pairs.filter(
        pairs.created_day <= pairs.as_of_day, pairs.known_day <= pairs.as_of_day
    ).select("entity_id", "as_of_day", tenure_days=pairs.as_of_day - pairs.created_day)


def _by_day(table: pa.Table, days: list[date]) -> Iterator[tuple[date, pa.Table]]:
    """Split a result by as_of, sorted by entity, with the two timestamps Feast joins on."""
    for day in days:
        part = table.filter(pc.equal(table["as_of_day"], day_index(day))).sort_by("entity_id")
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
        stamp = pa.array([moment] * len(part), pa.timestamp("us", tz="UTC"))
        # The snapshot's created time is its as_of: a backfill stamped with today would be
        # invisible to every earlier training row.
        part = part.append_column("as_of", stamp).append_column("created_at", stamp)
        yield day, part


def read_snapshot(snapshots: Snapshots, family: str, day: date) -> pa.Table:
    """Return one family at one as_of: one row per entity, sorted by entity_id."""
    path = snapshots.sets[family].folder / str(day) / "part.parquet"
    return pq.read_table(path)


__all__ = ["KEY", "SnapshotSet", "Snapshots", "build_snapshots", "read_snapshot"]
