"""Labels of every target over the snapshot grid, cached per target and definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from configs.runtime.code_identity import code_digest
from configs.runtime.hashing import digest
from configs.runtime.state_directory import new_folder, read_manifest
from configs.schema.company import Company, Target, midnight
from configs.schema.workspace import Workspace
from features.days import KEY, day_index
from features.labels.contract import Labels, label_contract
from features.labels.hindsight import ENTITLEMENTS, tables_with_hindsight
from features.labels.outcomes import outcome_reader
from features.labels.request import LabelRequest
from features.labels.windows import label_rows, label_windows, utc_midnights, with_timestamps
from features.revenue.revenue_changes import revenue_changes
from features.revenue.revenue_growth import kinds_of_rows
from features.snapshots.grid import ACCOUNT_STATUS, Snapshots, account_status_at
from features.tables.duckdb_engine import connect

if TYPE_CHECKING:
    from features.sources import Loaded

DAYS_PER_QUERY = 26
"""as_ofs labelled in one query: bounds memory."""

KINDS_FILE = "kinds.parquet"


def build_labels(
    workspace: Workspace,
    loaded: Loaded,
    snapshots: Snapshots,
    now: datetime,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Labels]:
    """Label every (entity, as_of) of the grid for every target, with the reasons of exclusions.

    Raises
    ------
    ConfigError
        A target is observed in a table that is not mapped.
    """
    engine = connect(workspace.state.scratch)
    today = day_index(midnight(now).date())
    tables = tables_with_hindsight(engine, workspace.company, loaded, today)
    # Only the as_ofs of this grid: the folder also holds the latest as_ofs of earlier runs.
    paths = [str(snapshots.sets[ACCOUNT_STATUS].path(day)) for day in snapshots.days]
    status_rows = engine.read_parquet(paths)
    code = code_digest(__name__)
    labels = {}
    for name, target in workspace.company.targets.items():
        identity = digest(
            target.model_dump(),
            workspace.company.cohort.model_dump(),
            code,
            {table: info.identity for table, info in loaded.tables.items()},
            snapshots.sets[ACCOUNT_STATUS].version,
            [str(day) for day in snapshots.days],
            today,
        )
        folder = workspace.state.labels / name / identity
        if read_manifest(folder) is None:
            progress(f"labelling {name}")
            _write(name, target, workspace.company, tables, status_rows, today, folder)
        labels[name] = _read(name, folder)
    return labels


def labels_at(
    workspace: Workspace,
    loaded: Loaded,
    name: str,
    target: Target,
    days: Sequence[date],
    now: datetime,
) -> pd.DataFrame:
    """Label every account at any past days, by one definition of a target. Nothing is cached.

    Parameters
    ----------
    workspace, loaded : Workspace, Loaded
        The company and its source tables.
    name, target : str, Target
        Definition in force then; the company may have changed it since.
    days : sequence of date
        as_ofs, 00:00 UTC of each; they need not lie on the grid.
    now : datetime
        The clock: a window that is not completely observed by then has no label.

    Returns
    -------
    pandas.DataFrame
        One row per (entity_id, as_of), columns of `COLUMNS`.
    """
    engine = connect(workspace.state.scratch)
    today = day_index(midnight(now).date())
    tables = tables_with_hindsight(engine, workspace.company, loaded, today)
    parts = []
    for start in range(0, len(days), DAYS_PER_QUERY):
        part = list(days[start : start + DAYS_PER_QUERY])
        # Computed once: the rows are read several times.
        status_rows = ibis.memtable(
            engine.to_pyarrow(account_status_at(engine, workspace, loaded, part))
        )
        windows = label_windows(status_rows, target, workspace.company)
        outcomes = outcome_reader(target)(
            LabelRequest(windows, tables, name, target, workspace.company.cohort)
        )
        rows = label_rows(windows, outcomes, today, target)
        parts.append(with_timestamps(rows.order_by("as_of_day", "entity_id").to_pyarrow()))
    return pa.concat_tables(parts).to_pandas()


def label_moments(
    workspace: Workspace,
    loaded: Loaded,
    company: Company,
    moments: Mapping[str, pd.DataFrame],
    now: datetime,
) -> dict[str, pd.DataFrame]:
    """Label instants off the grid, by the targets and the cohort of `company`.

    Parameters
    ----------
    workspace : Workspace
        Folder of the sources.
    loaded : Loaded
        The source tables.
    company : Company
        Company whose targets may be the contracts of an earlier release.
    moments : mapping of str to pandas.DataFrame
        Target to one row per (entity_id, as_of_day): status, arr, tenure_days, is_under_contract,
        renews_day, as of then.
    now : datetime
        The clock: nothing later is read.

    Returns
    -------
    dict of str to pandas.DataFrame
        Per target the columns of `COLUMNS`; ``label_known_at`` is the end of the window. And
        so_far: whether the outcome has happened by now, although the window may be open; None for
        inactivity, which only a complete window can show.
    """
    engine = connect(workspace.state.scratch)
    today = day_index(midnight(now).date())
    tables = tables_with_hindsight(engine, company, loaded, today)
    labelled = {}
    for name, frame in moments.items():
        target = company.targets[name]
        # Accounts that were scored had room to grow then.
        statuses = pa.Table.from_pandas(frame.assign(has_room=True), preserve_index=False)
        status_rows = ibis.memtable(statuses)
        windows = label_windows(status_rows, target, company)
        outcomes = outcome_reader(target)(
            LabelRequest(windows, tables, name, target, company.cohort)
        )
        rows = label_rows(windows, outcomes, today, target).order_by("as_of_day", "entity_id")
        table = with_timestamps(rows.to_pyarrow()).to_pandas()
        labelled[name] = table.assign(so_far=_so_far(outcomes, windows, target))
    return labelled


def _so_far(outcomes: ir.Table, windows: ir.Table, target: Target) -> pd.Series | None:
    """Return whether the outcome happened by now, in label order; None where this is unknowable."""
    if target.observed_in == "activity":
        return None
    rows = windows.select(*KEY).left_join(outcomes.select(*KEY, "happened"), KEY)
    ordered = rows.select(*KEY, "happened").order_by("as_of_day", "entity_id").to_pandas()
    return ordered["happened"].eq(True)


def _read(name: str, folder: Path) -> Labels:
    manifest = read_manifest(folder)
    assert manifest is not None
    frame = pq.read_table(folder / "labels.parquet").to_pandas()
    path = folder / KINDS_FILE
    kinds = pq.read_table(path).to_pandas() if path.is_file() else None
    return Labels(name, frame, manifest["contract"], kinds)


def _write(
    name: str,
    target: Target,
    company: Company,
    tables: Mapping[str, ir.Table],
    status_rows: ir.Table,
    today: int,
    folder: Path,
) -> None:
    windows = label_windows(status_rows, target, company)
    outcomes = outcome_reader(target)(LabelRequest(windows, tables, name, target, company.cohort))
    rows = label_rows(windows, outcomes, today, target)
    frame = with_timestamps(rows.order_by("as_of_day", "entity_id").to_pyarrow())
    contract = label_contract(name, target, company, frame)
    kinds = _kinds(target, tables, windows)
    with new_folder(folder, {"contract": contract}) as new:
        pq.write_table(frame, new / "labels.parquet", compression="zstd")
        if kinds is not None:
            pq.write_table(kinds, new / KINDS_FILE, compression="zstd")


def _kinds(target: Target, tables: Mapping[str, ir.Table], windows: ir.Table) -> pa.Table | None:
    """Return `Labels.kinds`; None where growth is not observed in terms."""
    if target.outcome != "expansion" or target.observed_in != "subscriptions":
        return None
    moves = revenue_changes(tables["subscriptions"], tables.get(ENTITLEMENTS))
    rows = kinds_of_rows(windows, moves).order_by("as_of_day", "entity_id").to_pandas()
    rows["as_of"] = utc_midnights(rows.pop("as_of_day"))
    return pa.Table.from_pandas(rows, preserve_index=False)
