"""Values outside their range, by time: a change of scale begins on one day."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from features.sources.files.sql import ident, literal, one_row
from features.sources.manifest import OutsideValues
from features.sources.mapping import Mapped
from features.tables.source_tables import SourceTable

REASONS = ("out_of_bounds", "out_of_scale")
"""Reasons of the quarantine for values outside their range."""

EARLY = 0.02
"""Share of the earliest of these rows that does not define the first day: single mistakes."""


def outside_values(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable, reasons: Iterable[str]
) -> dict[str, OutsideValues]:
    """Return, for each reason of values outside their range, since when they occur and how many.

    Days are those of the event, UTC.
    """
    if spec.happened not in mapped.expressions:
        return {}
    wanted = [item for item in reasons if item.partition(":")[0] in REASONS]
    found = {item: _since(connection, spec, item) for item in wanted}
    return {reason: item for reason, item in found.items() if item is not None}


def _since(
    connection: duckdb.DuckDBPyConnection, spec: SourceTable, reason: str
) -> OutsideValues | None:
    column = ident(reason.partition(":")[2] or "score")
    day = f"CAST({ident(spec.happened)} AS DATE)"
    is_outside = f"list_contains(reasons, {literal(reason)})"
    row = one_row(
        connection,
        f"WITH start AS (SELECT quantile_disc({day}, {EARLY}) AS day FROM staged "
        f"WHERE {is_outside}) "
        f"SELECT CAST(any_value(start.day) AS VARCHAR) AS since, "
        f"count(*) FILTER ({is_outside} AND {day} >= start.day) AS rows, "
        f"count({column}) FILTER ({day} >= start.day) AS whole, "
        f"count(*) FILTER ({is_outside} AND {day} < start.day) AS rows_before, "
        f"count({column}) FILTER ({day} < start.day) AS whole_before, "
        f"CAST(min({column}) FILTER ({is_outside}) AS DOUBLE) AS low, "
        f"CAST(max({column}) FILTER ({is_outside}) AS DOUBLE) AS high "
        f"FROM staged, start WHERE {column} IS NOT NULL",
    )
    if row["since"] is None or row["low"] is None:
        return None
    return {
        "since": str(row["since"]),
        "rows": int(row["rows"]),
        "whole": int(row["whole"]),
        "rows_before": int(row["rows_before"]),
        "whole_before": int(row["whole_before"]),
        "low": float(row["low"]),
        "high": float(row["high"]),
    }
