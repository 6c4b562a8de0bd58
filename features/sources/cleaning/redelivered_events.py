"""Redelivered events: counted once by their event id; detected where no id is mapped."""

from __future__ import annotations

import re
from collections.abc import Mapping

import duckdb

from features.sources.files.sql import ROW, ident, one_row
from features.sources.manifest import RepeatedIds
from features.sources.mapping import KNOWN_AT, Mapped
from features.tables.source_tables import SourceTable

EVENT_ID = "event_id"
_ID_NAME = re.compile(r"(?i)(?:^|[^a-z])_?(?:id|uuid|guid|key|hash)$|(?:uuid|guid|[a-z]Id|ID)$|id$")
MOSTLY_NEW = 0.3
"""Share of distinct values from which a column may be an event id."""
MOSTLY_SAME = 0.9
"""Share of repeated ids with the same account and time from which they are redeliveries."""


def mark_delivered_again(connection: duckdb.DuckDBPyConnection, spec: SourceTable) -> None:
    """Add later deliveries of the same event to ``superseded``."""
    if spec.key or EVENT_ID not in spec.columns:
        return
    connection.execute(
        f"INSERT INTO superseded WITH sound AS (SELECT {ROW}, account_id, {EVENT_ID}, {KNOWN_AT} "
        f"FROM staged ANTI JOIN copies USING ({ROW}) "
        f"WHERE len(reasons) = 0 AND {EVENT_ID} IS NOT NULL), "
        f"twice AS (SELECT account_id, {EVENT_ID} FROM sound GROUP BY ALL HAVING count(*) > 1) "
        f"SELECT {ROW}, 'delivered_again' FROM sound "
        f"SEMI JOIN twice USING (account_id, {EVENT_ID}) QUALIFY row_number() OVER "
        f"(PARTITION BY account_id, {EVENT_ID} ORDER BY {KNOWN_AT}, {ROW}) > 1"
    )


def different_events(connection: duckdb.DuckDBPyConnection, spec: SourceTable) -> int:
    """Return the number of rows with the id of an event at another time."""
    found = one_row(
        connection,
        f"SELECT count(*) AS n FROM (SELECT {ROW}, account_id, {EVENT_ID}, {spec.happened} "
        f"FROM staged SEMI JOIN superseded USING ({ROW})) again "
        f"JOIN (SELECT account_id, {EVENT_ID}, min({spec.happened}) AS first FROM staged "
        f"ANTI JOIN superseded USING ({ROW}) GROUP BY ALL) USING (account_id, {EVENT_ID}) "
        f"WHERE {spec.happened} <> first",
    )
    return int(found["n"])


def repeated_ids(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable
) -> dict[str, RepeatedIds]:
    """Return unmapped columns that look like an event id and have repeated values.

    Returns
    -------
    dict
        Column → ``ids`` (distinct), ``repeated`` (ids of more than one row) and ``rows`` (rows
        beyond the first of each id), where rows with the same id have the same account and time.
    """
    names = possible_ids(mapped, spec)
    return suspected({name: _counts(connection, mapped, spec, name) for name in names})


def possible_ids(mapped: Mapped, spec: SourceTable) -> list[str]:
    """Return the unmapped columns whose names look like an event id."""
    if EVENT_ID not in spec.columns or EVENT_ID in mapped.expressions:
        return []
    used = set(mapped.expressions.values())
    return [
        name for name in mapped.source_columns if _ID_NAME.search(name) and ident(name) not in used
    ]


def suspected(found: Mapping[str, Mapping[str, int]]) -> dict[str, RepeatedIds]:
    """Return the columns whose counts (see `_counts`) show redeliveries."""
    return {
        name: {
            "ids": int(counts["ids"]),
            "repeated": int(counts["repeated"]),
            "rows": int(counts["rows"]),
        }
        for name, counts in found.items()
        if counts["repeated"]
        and counts["ids"] >= MOSTLY_NEW * counts["given"]
        and counts["same"] >= MOSTLY_SAME * counts["repeated"]
    }


def _counts(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable, name: str
) -> dict[str, int]:
    return one_row(
        connection,
        f"WITH by_id AS (SELECT r.{ident(name)} AS id, count(*) AS n, "
        f"count(DISTINCT s.account_id) AS accounts, count(DISTINCT s.{spec.happened}) AS times "
        f"FROM {mapped.relation} r JOIN staged s USING ({ROW}) ANTI JOIN copies USING ({ROW}) "
        f"WHERE len(s.reasons) = 0 AND r.{ident(name)} IS NOT NULL GROUP BY 1) "
        f"SELECT count(*) AS ids, coalesce(sum(n), 0) AS given, "
        f"count(*) FILTER (n > 1) AS repeated, coalesce(sum(n - 1), 0) AS rows, "
        f"count(*) FILTER (n > 1 AND accounts = 1 AND times = 1) AS same FROM by_id",
    )
