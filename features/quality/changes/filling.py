"""Columns that stop, or start, being filled on one day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from features.quality.changes.daily import daily_counts
from features.quality.context import QualityContext
from features.sources.files.sql import ident
from features.tables.source_tables import ROW, TABLES

LEAST_SHARE = 0.2
"""Minimum share of filled values on the filled side."""

EVIDENCE = 30.0
"""Usual filled values on the empty side from which the change is no chance: ``exp(-30)``."""

LEAST_DAYS = 7
"""Minimum number of days on each side."""


@dataclass(frozen=True)
class FillingChange:
    """A column that is filled on one side of a day only.

    Attributes
    ----------
    table, column : str
        The column.
    day : date
        First day of the change.
    stops : bool
        The column is empty since then; otherwise it was empty before.
    rows, whole : int
        Rows on the empty side, and all rows.
    share : float
        Share of filled values on the other side.
    """

    table: str
    column: str
    day: date
    stops: bool
    rows: int
    whole: int
    share: float


def filling_changes(context: QualityContext, table: str) -> Iterator[FillingChange]:
    """Yield the columns of a table that stop or start being filled.

    Columns that are filled later than their row, such as the day of payment, are left out.
    """
    spec = TABLES[table]
    for name in context.loaded.tables[table].columns:
        column = spec.columns.get(name)
        if column is None or column.required or column.visible_from != ROW:
            continue
        found = _change(context, table, name)
        if found is not None:
            yield found


def _change(context: QualityContext, table: str, name: str) -> FillingChange | None:
    level = f"CASE WHEN t.{ident(name)} IS NULL THEN 'empty' ELSE 'filled' END"
    daily = daily_counts(context, table, level)
    if daily is None or daily.levels != ("empty", "filled"):
        return None
    filled, whole = daily.counts[1], daily.counts.sum(axis=0)
    days = np.flatnonzero(filled)
    first, last = int(days[0]), int(days[-1])
    for stops, day in ((True, last + 1), (False, first)):
        full, empty = (
            (slice(0, day), slice(day, None)) if stops else (slice(day, None), slice(0, day))
        )
        if min(day, daily.n_days - day) < LEAST_DAYS or not whole[full].sum():
            continue
        share = float(filled[full].sum() / whole[full].sum())
        rows = float(whole[empty].sum())
        if share >= LEAST_SHARE and share * rows >= EVIDENCE:
            return FillingChange(
                table, name, daily.day(day), stops, int(rows), int(whole.sum()), share
            )
    return None
