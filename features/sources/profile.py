"""How instants are written: with a zone, without, as dates, or as dates dressed as midnights."""

from __future__ import annotations

import duckdb

from features.contracts import SourceTable
from features.sources import casts
from features.sources.mapping import Mapped
from features.sources.sql import ident, literal, one_row

MIDNIGHT_ROWS = 10
"""From this many values on, instants that all lie at midnight are taken for dates."""

MIDNIGHT = f"^{casts.ISO_DATE}([T ]0?0:00(:00(\\.0+)?)?)?$"
LABELS = ("given", "dates", "zoned", "midnights")

Profile = dict[str, dict[str, int]]


def profile_of(connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable) -> Profile:
    """Count, per instant column, the values given and how they are written.

    Returns
    -------
    dict
        Column → ``given`` values, of which ``dates`` (no time of day), ``zoned`` (with a zone or
        offset) and ``midnights`` (00:00 as written, or no time of day); ``as_dates`` is 1 where
        all of a source column is read as dates.
    """
    wanted = {
        name: text
        for name, text in mapped.expressions.items()
        if spec.columns[name].kind == "instant"
    }
    if not wanted:
        return {}
    parts = [
        f"count(*) FILTER ({test}) AS {ident(f'{name} {label}')}"
        for name, text in wanted.items()
        for label, test in _tests(text, mapped.types[name]).items()
    ]
    counts = one_row(connection, f"SELECT {', '.join(parts)} FROM {mapped.relation}")
    found = {name: {label: int(counts[f"{name} {label}"]) for label in LABELS} for name in wanted}
    return {
        # SQL in the mapping says what it means; a column taken as it is may be a dressed-up date.
        name: {**tally, "as_dates": int(name in mapped.plain and midnight_is_date(tally))}
        for name, tally in found.items()
    }


def _tests(text: str, duckdb_type: str) -> dict[str, str]:
    raw = f"trim(CAST({text} AS VARCHAR))"
    given = f"{text} IS NOT NULL AND NOT list_contains({casts.BLANKS}, lower({raw}))"
    if casts.is_text(duckdb_type):
        dates, zoned, midnights = (
            f"regexp_matches({raw}, {literal(pattern)})"
            for pattern in (casts.DATE_ONLY, casts.ZONED, MIDNIGHT)
        )
    else:
        dates = str(duckdb_type == "DATE").lower()
        zoned = str(casts.is_zoned(duckdb_type)).lower()
        midnights = (
            f"CAST({text} AS TIMESTAMP) = date_trunc('day', CAST({text} AS TIMESTAMP))"
            if casts.is_naive(duckdb_type)
            else dates
        )
    tests = {"given": "true", "dates": dates, "zoned": zoned, "midnights": midnights}
    return {label: f"{given} AND {test}" for label, test in tests.items()}


def midnight_is_date(counts: dict[str, int]) -> bool:
    """Whether an instant column holds dates written as midnights.

    >>> midnight_is_date({"given": 500, "dates": 0, "zoned": 0, "midnights": 500})
    True
    """
    return counts["given"] >= MIDNIGHT_ROWS and counts["midnights"] == counts["given"]
