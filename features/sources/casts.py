"""From whatever type arrives to the contract's kinds, as SQL: a value, or 'given but not readable'.

Dates and times are read as ISO 8601 (``2024-03-01``, ``2024-03-01 9:30``, with or without a zone).
A date where an instant is expected is the last microsecond of its day. Everything is stored in UTC
without a zone.
"""

from __future__ import annotations

from dataclasses import dataclass

from features.contracts import Column
from features.sources.sql import literal

BLANKS = "['', 'null', 'none', 'nan', 'nat', 'n/a', 'na', '<na>', '\\N', '-']"
"""Texts that mean nothing is there, in any case, for every kind but free text."""

ISO_DATE = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
DATE_ONLY = f"^{ISO_DATE}$"
DATE_TIME = rf"^{ISO_DATE}([T ]\d{{1,2}}:\d{{2}}.*)?$"
ZONED = rf"^{ISO_DATE}[T ]\d{{1,2}}:\d{{2}}.*(Z|z|[+-]\d{{2}}(:?\d{{2}})?)$"

NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
TRUE = "['true', 't', 'yes', 'y', '1', '1.0']"
FALSE = "['false', 'f', 'no', 'n', '0', '0.0']"

SENTINEL = (
    "({0} < TIMESTAMP '1950-01-01' OR CAST({0} AS DATE) = DATE '1970-01-01' "
    "OR {0} >= TIMESTAMP '2200-01-01')"
)
"""Dates that systems write for 'never' or 'unknown'."""


@dataclass(frozen=True)
class Cast:
    """SQL of one cast.

    Attributes
    ----------
    value : str
        The typed value, null when nothing readable is there.
    bad : str
        True when something is there that cannot be read.
    is_date : str
        For instants: true when only a date was given.
    """

    value: str
    bad: str
    is_date: str = "false"


def is_text(duckdb_type: str) -> bool:
    """Whether a DuckDB type is text."""
    return duckdb_type == "VARCHAR"


def is_zoned(duckdb_type: str) -> bool:
    """Whether a DuckDB type is an instant with a zone."""
    return duckdb_type in {"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"}


def is_naive(duckdb_type: str) -> bool:
    """Whether a DuckDB type is an instant without a zone."""
    return duckdb_type.startswith("TIMESTAMP") and not is_zoned(duckdb_type)


def cast(
    column: Column, expression: str, duckdb_type: str, timezone: str, *, midnight_is_date: bool
) -> Cast:
    """Return the SQL that reads `expression` as the kind of `column`.

    Parameters
    ----------
    column : Column
        The contract.
    expression : str
        SQL of the raw value; evaluated several times, so a column name.
    duckdb_type : str
        Its DuckDB type.
    timezone : str
        IANA name for instants written without a zone.
    midnight_is_date : bool
        Every value of this column lies at midnight as written: they are dates.
    """
    if column.kind in {"id", "text"}:
        return _text(column, expression, duckdb_type)
    text = f"trim(CAST({expression} AS VARCHAR))"
    given = f"({expression} IS NOT NULL AND NOT list_contains({BLANKS}, lower({text})))"
    if column.kind == "flag":
        value = (
            f"CASE WHEN list_contains({TRUE}, lower({text})) THEN true "
            f"WHEN list_contains({FALSE}, lower({text})) THEN false END"
        )
    elif column.kind in {"number", "count"}:
        value = _number(column, expression, duckdb_type, text)
    elif column.kind == "day":
        value = _day(expression, duckdb_type, text, timezone)
    else:
        value, is_date = _instant(expression, duckdb_type, text, timezone, midnight_is_date)
        return Cast(value, f"({given} AND ({value}) IS NULL)", is_date)
    return Cast(value, f"({given} AND ({value}) IS NULL)")


def _text(column: Column, expression: str, duckdb_type: str) -> Cast:
    text = f"CAST({expression} AS VARCHAR)"
    if duckdb_type in {"FLOAT", "DOUBLE"}:
        # Ids that went through a float: 17850.0 is 17850.
        whole = f"{expression} = floor({expression}) AND abs({expression}) < 9e15"
        text = (
            f"CASE WHEN {whole} THEN CAST(CAST({expression} AS BIGINT) AS VARCHAR) ELSE {text} END"
        )
    value = f"nullif(trim({text}), '')"
    if column.kind == "id":
        value = f"CASE WHEN NOT list_contains({BLANKS}, lower({value})) THEN {value} END"
    if column.values:
        value = f"lower({value})"
    return Cast(value, "false")


def _number(column: Column, expression: str, duckdb_type: str, text: str) -> str:
    number = f"TRY_CAST({text if is_text(duckdb_type) else expression} AS DOUBLE)"
    if column.kind == "number":
        return f"CASE WHEN isfinite({number}) THEN {number} END"
    return (
        f"CASE WHEN {number} >= 0 AND {number} < 9e15 AND {number} = floor({number}) "
        f"THEN CAST({number} AS BIGINT) END"
    )


def _day(expression: str, duckdb_type: str, text: str, timezone: str) -> str:
    if duckdb_type == "DATE" or is_naive(duckdb_type):
        return f"CAST({expression} AS DATE)"
    if is_zoned(duckdb_type):
        return f"CAST(timezone({literal(timezone)}, {expression}) AS DATE)"
    zoned = f"TRY_CAST(CASE WHEN {_matches(text, ZONED)} THEN {text} END AS TIMESTAMPTZ)"
    naive = f"TRY_CAST(CASE WHEN {_matches(text, DATE_TIME)} THEN {text} END AS TIMESTAMP)"
    return f"coalesce(CAST(timezone({literal(timezone)}, {zoned}) AS DATE), CAST({naive} AS DATE))"


def _instant(
    expression: str, duckdb_type: str, text: str, timezone: str, midnight_is_date: bool
) -> tuple[str, str]:
    if duckdb_type == "DATE" or (midnight_is_date and is_naive(duckdb_type)):
        return end_of_day(f"CAST({expression} AS DATE)"), "true"
    if is_naive(duckdb_type):
        return to_utc(f"CAST({expression} AS TIMESTAMP)", timezone), "false"
    if is_zoned(duckdb_type):
        return f"CAST(timezone('UTC', {expression}) AS TIMESTAMP)", "false"
    pattern = DATE_TIME if midnight_is_date else DATE_ONLY
    is_date = f"({_matches(text, pattern)} AND NOT {_matches(text, ZONED)})"
    day = f"TRY_CAST(CASE WHEN {is_date} THEN {text} END AS TIMESTAMP)"
    zoned = f"TRY_CAST(CASE WHEN {_matches(text, ZONED)} THEN {text} END AS TIMESTAMPTZ)"
    naive = f"TRY_CAST(CASE WHEN {_matches(text, DATE_TIME)} THEN {text} END AS TIMESTAMP)"
    value = (
        f"CASE WHEN {is_date} THEN {end_of_day(f'CAST({day} AS DATE)')} "
        f"WHEN {_matches(text, ZONED)} THEN timezone('UTC', {zoned}) "
        f"ELSE {to_utc(naive, timezone)} END"
    )
    return value, is_date


def _matches(text: str, pattern: str) -> str:
    return f"regexp_matches({text}, {literal(pattern)})"


def end_of_day(day: str) -> str:
    """Return the last microsecond of a date.

    >>> end_of_day("d")
    "(CAST(d AS TIMESTAMP) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)"
    """
    return f"(CAST({day} AS TIMESTAMP) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)"


def to_utc(naive: str, timezone: str) -> str:
    """Return a wall-clock time of a zone in UTC.

    >>> to_utc("t", "UTC")
    't'
    """
    if timezone == "UTC":
        return naive
    return f"timezone('UTC', timezone({literal(timezone)}, {naive}))"


def known_after(day: str, timezone: str) -> str:
    """Return when a date-only fact is known: the next midnight, in UTC and in its own zone."""
    midnight = f"(CAST({day} AS TIMESTAMP) + INTERVAL 1 DAY)"
    if timezone == "UTC":
        return midnight
    return f"greatest({midnight}, {to_utc(midnight, timezone)})"
