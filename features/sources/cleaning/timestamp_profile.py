"""Profile of instant columns: values with a zone, dates, and midnights."""

from __future__ import annotations

import duckdb

from features.sources.files.sql import one_row
from features.sources.manifest import Profile
from features.sources.mapping import Mapped
from features.sources.parsing import type_parsing
from features.tables.source_tables import SourceColumn, SourceTable

MIDNIGHT_ROWS = 10
"""Number of values from which instants that all lie at midnight count as dates."""

LABELS = ("given", "dates", "zoned", "midnights")


def profile_of(connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable) -> Profile:
    """Return the profile of every instant column.

    Returns
    -------
    dict
        Column → ``given`` readable values, of which ``dates`` (no time of day), ``zoned`` (with a
        zone or offset) and ``midnights`` (00:00 as written, or no time of day); ``as_dates`` is 1
        where all of a source column is read as dates.
    """
    wanted = [name for name in mapped.expressions if spec.columns[name].kind == "instant"]
    if not wanted:
        return {}
    found = {name: _tally(connection, mapped, spec.columns[name], name) for name in wanted}
    return {
        # Only plain columns: a SQL expression defines its own meaning.
        name: {**tally, "as_dates": int(name in mapped.plain and midnight_is_date(tally))}
        for name, tally in found.items()
    }


def _tally(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, column: SourceColumn, name: str
) -> dict[str, int]:
    style = mapped.styles.get(name)
    text, kind = type_parsing.prepared(column, mapped.expressions[name], mapped.types[name], style)
    zoned = (
        type_parsing.zoned_text("raw")
        if type_parsing.is_text_type(kind)
        else str(type_parsing.is_zoned(kind)).lower()
    )
    written = (
        "timezone('UTC', raw)" if type_parsing.is_zoned(kind) else "TRY_CAST(raw AS TIMESTAMP)"
    )
    counts = one_row(
        connection,
        f"SELECT count(*) AS given, count(*) FILTER (dates) AS dates, "
        f"count(*) FILTER (zoned) AS zoned, "
        f"count(*) FILTER (NOT zoned AND written = date_trunc('day', written)) AS midnights "
        f"FROM (SELECT {type_parsing.date_text('raw', kind)} AS dates, {zoned} AS zoned, "
        f"{written} AS written FROM (SELECT {text} AS raw FROM {mapped.relation}) "
        f"WHERE {type_parsing.is_given(column, 'raw', kind)}) WHERE written IS NOT NULL",
    )
    return {label: int(counts[label]) for label in LABELS}


def midnight_is_date(counts: dict[str, int]) -> bool:
    """Whether an instant column holds dates written as midnights.

    >>> midnight_is_date({"given": 500, "dates": 0, "zoned": 0, "midnights": 500})
    True
    """
    return counts["given"] >= MIDNIGHT_ROWS and counts["midnights"] == counts["given"]
