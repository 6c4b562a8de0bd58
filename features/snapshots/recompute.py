"""Recomputation of a past as_of from current tables, to check the stored snapshots.

The daily tables are changed first (cut to what was known by then, or without some rows), and the
result is compared with the stored features. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from configs.schema.workspace import Workspace
from features.days import day_index
from features.signals import FAMILIES
from features.signals.support import TICKETS, is_counted
from features.snapshots.aggregate import family_table
from features.snapshots.daily_store import daily_files
from features.snapshots.grid import ACCOUNT_STATUS, Snapshots, grid_at, read_snapshot
from features.tables.daily_tables import visibility
from features.tables.duckdb_engine import connect

Tables = Mapping[str, ir.Table]


def read_daily_tables(workspace: Workspace, names: Sequence[str]) -> dict[str, ir.Table]:
    """Return the daily tables of the last build for the named sources."""
    engine = connect(workspace.state.scratch)
    files = {name: list(map(str, daily_files(workspace.state, name))) for name in names}
    return {name: engine.read_parquet(paths) for name, paths in files.items() if paths}


def daily_tables_known_by(daily: Tables, day: date) -> dict[str, ir.Table]:
    """Return the daily tables as known at 00:00 UTC of `day`."""
    return {name: _cut(name, table, day_index(day)) for name, table in daily.items()}


def _cut(name: str, table: ir.Table, upto: int) -> ir.Table:
    kept = table.filter(table.day <= upto, table.known_day <= upto)
    hidden = {
        column: ibis.ifelse(kept[since] <= upto, kept[column], ibis.null(kept[column].type()))
        for column, since in visibility(name).items()
        if column in kept.columns and since in kept.columns
    }
    return kept.mutate(**hidden)


def without_cancellation_tickets(daily: Tables) -> dict[str, ir.Table]:
    """Return the daily tables without tickets about cancellation."""
    tickets = daily[TICKETS]
    return {**daily, TICKETS: tickets.filter(is_counted(tickets))}


def ticket_categories(daily: Tables) -> dict[str, int]:
    """Return the number of tickets per lower-case category."""
    if TICKETS not in daily:
        return {}
    tickets = daily[TICKETS].filter(daily[TICKETS].category.notnull())
    counts = tickets.group_by(category=tickets.category.lower()).agg(n=tickets.count())
    rows = counts.order_by("category").to_pyarrow().to_pylist()
    return {str(row["category"]): int(row["n"]) for row in rows}


def recomputed(
    workspace: Workspace,
    snapshots: Snapshots,
    daily: Tables,
    day: date,
    *,
    reading: str | None = None,
) -> pd.DataFrame:
    """Compute the features of one as_of from daily tables.

    Parameters
    ----------
    workspace : Workspace
        The company.
    snapshots : Snapshots
        Snapshots with the families that were built.
    daily : mapping of str to ibis.Table
        Daily tables from `read_daily_tables`, possibly changed.
    day : date
        The as_of.
    reading : str, optional
        Only families that read this source table.

    Returns
    -------
    pandas.DataFrame
        One row per entity (the index, sorted), one float64 column per feature.
    """
    history = {name: workspace.company.keeps_history(name) for name in daily}
    columns = {name: set(table.columns) for name, table in daily.items()}
    grid = grid_at(daily["accounts"], [day])
    parts = [
        _framed(family_table(family.available(columns), daily, grid, history).to_pandas())
        for family in FAMILIES
        if family.name in snapshots.sets and (reading is None or reading in family.tables)
    ]
    return pd.concat(parts, axis=1) if parts else pd.DataFrame()


def stored_features(snapshots: Snapshots, day: date) -> pd.DataFrame:
    """Return the stored features of one as_of in the form of `recomputed`."""
    names = sorted(name for name in snapshots.sets if name != ACCOUNT_STATUS)
    parts = [read_snapshot(snapshots, name, day).to_pandas() for name in names]
    return pd.concat([_framed(part) for part in parts], axis=1)


def _framed(table: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("as_of_day", "as_of", "created_at") if name in table]
    values = table.drop(columns=keys).set_index("entity_id").sort_index()
    return values.astype(np.float64)
