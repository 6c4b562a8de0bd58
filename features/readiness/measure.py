"""Facts about the arrival and completeness of every loaded table, as readiness judges them.

The day of a row is the first midnight at or after the moment it became known, as in daily tables
(`features.tables.daily_tables`): a file with yesterday's events arrives on today's day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

from configs.schema.company import midnight
from features.sources import Loaded, TableInfo
from features.sources.files.sql import ident, one_row, open_duckdb

RHYTHM_DAYS = 182
"""Days of which the rhythm of a table is measured."""

RHYTHM_SHARE = 0.99
"""Share of the gaps between days with rows that are usual."""

MIN_RHYTHM_DAYS = 10
"""Days with rows from which a table has a rhythm."""

WEEKS = 8
MIN_WEEKS = 4
"""Weeks whose same weekday is compared, and how many of them need rows."""

RECENT_DAYS = 7
"""Days whose missing values are compared with those of `WEEKS` weeks before."""

MIN_RECENT_ROWS = 20
"""Recent rows from which their share of missing values is compared."""

KNOWN_DAY = "CAST(known_at AS DATE) + CASE WHEN known_at > CAST(known_at AS DATE) THEN 1 ELSE 0 END"


@dataclass(frozen=True)
class TableState:
    """One table at the time of a refresh.

    Attributes
    ----------
    rows, rows_read : int
        Rows kept, and rows of the inputs.
    columns : tuple of str
        Canonical columns of the source.
    set_aside : dict of str to int
        Reason → rows in quarantine.
    last_day : str or None
        Last day with rows by today; None without any.
    silent_days : int or None
        Days from `last_day` to today.
    usual_gap_days : int or None
        Longest usual gap between days with rows; None without a rhythm.
    day_rows : int
        Rows of `last_day`.
    usual_rows : float or None
        Median of the rows of the same weekday in the weeks before; None without enough weeks.
    missing : dict of str to float
        Column → share of missing values in the whole table.
    missing_recent, missing_before : dict of str to float
        The same among the rows of the latest week, and of the weeks before; empty where there are
        few.
    """

    rows: int
    rows_read: int
    columns: tuple[str, ...]
    set_aside: dict[str, int] = field(default_factory=dict)
    last_day: str | None = None
    silent_days: int | None = None
    usual_gap_days: int | None = None
    day_rows: int = 0
    usual_rows: float | None = None
    missing: dict[str, float] = field(default_factory=dict)
    missing_recent: dict[str, float] = field(default_factory=dict)
    missing_before: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {**asdict(self), "columns": list(self.columns)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TableState:
        """Return the state from `as_dict`."""
        return cls(**{**stored, "columns": tuple(stored["columns"])})


def measure_tables(loaded: Loaded, now: datetime) -> dict[str, TableState]:
    """Measure every loaded table as of the last midnight, UTC.

    Parameters
    ----------
    loaded : Loaded
        The canonical tables.
    now : datetime
        The clock; rows known after its midnight do not count for the rhythm.
    """
    today = midnight(now).date()
    with open_duckdb(files=[path for info in loaded.tables.values() for path in info.files]) as db:
        for name in loaded.tables:
            loaded.scan(db, name)
        return {name: _measured(db, info, today) for name, info in loaded.tables.items()}


def _measured(db: duckdb.DuckDBPyConnection, info: TableInfo, today: date) -> TableState:
    since = today - timedelta(days=RHYTHM_DAYS)
    counts: dict[date, int] = dict(
        db.execute(
            f"SELECT {KNOWN_DAY} AS day, count(*) FROM {info.name} "
            f"WHERE known_at > $1 AND known_at <= $2 GROUP BY 1 ORDER BY 1",
            [since, today],
        ).fetchall()
    )
    # Rows before the half year count as arrived, too.
    last = max(counts, default=None) or _last_day(db, info.name, today)
    return TableState(
        rows=info.rows,
        rows_read=info.rows_read,
        columns=info.columns,
        set_aside=dict(info.quarantined),
        last_day=str(last) if last else None,
        silent_days=(today - last).days if last else None,
        usual_gap_days=usual_gap(sorted(counts)),
        day_rows=counts.get(last, 0) if last else 0,
        usual_rows=usual_rows(counts, last) if last else None,
        missing=_missing(db, info, "true"),
        **_missing_lately(db, info, last),
    )


def _last_day(db: duckdb.DuckDBPyConnection, name: str, today: date) -> date | None:
    found = one_row(
        db,
        f"SELECT max({KNOWN_DAY}) AS day FROM {name} WHERE known_at <= TIMESTAMP '{today}'",
    )
    day: date | None = found["day"]
    return day


def usual_gap(days: list[date]) -> int | None:
    """Return the longest usual gap between days with rows; None without a rhythm.

    >>> from datetime import date, timedelta
    >>> usual_gap([date(2026, 1, 1) + timedelta(days=i) for i in range(30)])
    1
    >>> usual_gap([date(2026, 1, 1)]) is None
    True
    """
    if len(days) < MIN_RHYTHM_DAYS:
        return None
    gaps = sorted((later - day).days for day, later in zip(days, days[1:], strict=False))
    return gaps[min(len(gaps) - 1, int(RHYTHM_SHARE * len(gaps)))]


def usual_rows(counts: Mapping[date, int], day: date) -> float | None:
    """Return the median number of rows on the same weekday in the weeks before `day`.

    >>> from datetime import date, timedelta
    >>> day = date(2026, 3, 2)
    >>> usual_rows({day - timedelta(weeks=week): 100 + week for week in range(1, 6)}, day)
    103.0
    """
    before = [counts[d] for w in range(1, WEEKS + 1) if (d := day - timedelta(weeks=w)) in counts]
    if len(before) < MIN_WEEKS:
        return None
    ordered, middle = sorted(before), len(before) // 2
    return (ordered[middle] + ordered[-middle - 1]) / 2


def _missing(db: duckdb.DuckDBPyConnection, info: TableInfo, where: str) -> dict[str, float]:
    """Return the share of missing values by column; empty without enough rows."""
    shares = ", ".join(f"count({ident(name)}) AS {ident(name)}" for name in info.columns)
    found = one_row(db, f"SELECT count(*) AS _n, {shares} FROM {info.name} WHERE {where}")
    n = found.pop("_n")
    if n < MIN_RECENT_ROWS:
        return {}
    return {name: round(1 - given / n, 6) for name, given in found.items()}


def _missing_lately(
    db: duckdb.DuckDBPyConnection, info: TableInfo, last: date | None
) -> dict[str, dict[str, float]]:
    """Return the shares of the latest week and of the weeks before, where both have enough rows."""
    if last is None:
        return {}
    start = last - timedelta(days=RECENT_DAYS)
    first = start - timedelta(weeks=WEEKS)
    recent = _missing(
        db, info, f"known_at > TIMESTAMP '{start}' AND known_at <= TIMESTAMP '{last}'"
    )
    before = _missing(
        db, info, f"known_at > TIMESTAMP '{first}' AND known_at <= TIMESTAMP '{start}'"
    )
    if not recent or not before:
        return {}
    return {"missing_recent": recent, "missing_before": before}
