"""From whatever type arrives to the contract's kinds, as SQL: a value, or 'given but not readable'.

Dates and times of other shapes are first written as ISO 8601, and numbers as a cast reads them
(`features.sources.parsing.column_formats`). A date where an instant is expected is the last
microsecond of its day. Everything is stored in UTC without a zone. The connection's own time zone
must be UTC.
"""

from __future__ import annotations

from features.sources.files.sql import ident, literal
from features.sources.parsing.column_formats import Style
from features.sources.parsing.dates import DateFormat, iso_sql
from features.sources.parsing.numbers import NumberFormat, number_sql
from features.sources.parsing.text_values import (
    FALSE,
    MISSING,
    TRUE,
    WORDS_MISSING,
    is_missing,
    words_in,
)
from features.tables.source_tables import SourceColumn

SENTINEL = (
    "({0} < TIMESTAMP '1950-01-01' OR {0} >= TIMESTAMP '2200-01-01' "
    "OR ({0} >= TIMESTAMP '1970-01-01' AND {0} < TIMESTAMP '1970-01-02'))"
)
"""Dates that systems write for 'never' or 'unknown'."""

TIMES = frozenset({"day", "instant"})


def is_text_type(duckdb_type: str) -> bool:
    """Whether a DuckDB type is text."""
    return duckdb_type == "VARCHAR"


def is_zoned(duckdb_type: str) -> bool:
    """Whether a DuckDB type is an instant with a zone."""
    is_named = "WITH TIME ZONE" in duckdb_type and duckdb_type.startswith("TIMESTAMP")
    return is_named or duckdb_type.startswith("TIMESTAMPTZ")


def is_naive(duckdb_type: str) -> bool:
    """Whether a DuckDB type is an instant without a zone."""
    return duckdb_type.startswith("TIMESTAMP") and not is_zoned(duckdb_type)


def is_native_time(duckdb_type: str) -> bool:
    """Whether a DuckDB type is a date or an instant, so that nothing needs parsing."""
    return duckdb_type == "DATE" or duckdb_type.startswith("TIMESTAMP")


def prepared(
    column: SourceColumn, expression: str, duckdb_type: str, style: Style | None = None
) -> tuple[str, str]:
    """Return the SQL and the DuckDB type that the other functions read: trimmed, of one kind.

    Parameters
    ----------
    column : Column
        The contract.
    expression : str
        SQL of the raw value.
    duckdb_type : str
        Its DuckDB type.
    style : Numbers, Dates or None
        How a column of text is written, where it is not as computers write it.
    """
    if column.kind in {"id", "text"} and duckdb_type in {"FLOAT", "DOUBLE"}:
        # Ids that went through a float: 17850.0 is 17850.
        whole = f"{expression} = floor({expression}) AND abs({expression}) < 9e15"
        number = f"CAST(CAST({expression} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN {whole} THEN {number} ELSE CAST({expression} AS VARCHAR) END", "VARCHAR"
    if column.kind in TIMES and is_native_time(duckdb_type):
        # Nanoseconds are no type that can be calculated with: microseconds are kept.
        exact = "TIMESTAMPTZ" if is_zoned(duckdb_type) else "TIMESTAMP"
        is_fine = duckdb_type in {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"}
        return (expression, duckdb_type) if is_fine else (f"CAST({expression} AS {exact})", exact)
    if column.kind in {"number", "count"} and not is_text_type(duckdb_type):
        return f"TRY_CAST({expression} AS DOUBLE)", "DOUBLE"
    return _as_written(f"trim(CAST({expression} AS VARCHAR))", style), "VARCHAR"


def _as_written(text: str, style: Style | None) -> str:
    """Return a text as ISO 8601, or as a number that a cast reads; the rest stays as it is."""
    if isinstance(style, DateFormat):
        return iso_sql(text, style)
    if isinstance(style, NumberFormat) and not style.is_plain:
        return f"coalesce(CAST({number_sql(text, style)} AS VARCHAR), {text})"
    return text


def is_given(column: SourceColumn, raw: str, duckdb_type: str) -> str:
    """Return whether a prepared value says anything."""
    if is_text_type(duckdb_type):
        if column.kind == "text":
            return f"coalesce(lower({raw}) NOT IN {words_in(WORDS_MISSING)}, false)"
        if column.kind == "id":
            return f"coalesce(lower({raw}) NOT IN {words_in(MISSING)}, false)"
        return f"coalesce(NOT {is_missing(raw, with_infinite=column.kind in TIMES)}, false)"
    if duckdb_type == "DOUBLE":
        return f"coalesce(NOT isnan({raw}), false)"
    if is_native_time(duckdb_type):
        return f"coalesce(isfinite({raw}), false)"
    return f"{raw} IS NOT NULL"


def value(
    column: SourceColumn,
    raw: str,
    duckdb_type: str,
    timezone: str,
    *,
    midnight_is_date: bool = False,
) -> str:
    """Return the SQL of the typed value of a prepared one, null when it is not readable.

    Parameters
    ----------
    column : Column
        The contract.
    raw : str
        A prepared column.
    duckdb_type : str
        Its DuckDB type.
    timezone : str
        IANA name, for instants written without a zone.
    midnight_is_date : bool
        Every value of this column lies at midnight as written: they are dates.
    """
    if column.kind == "flag":
        low = f"lower({raw})"
        yes, no = words_in(TRUE), words_in(FALSE)
        return f"CASE WHEN {low} IN {yes} THEN true WHEN {low} IN {no} THEN false END"
    if column.kind in {"number", "count"}:
        return _number(column, raw)
    if column.kind == "day":
        return _day(raw, duckdb_type, timezone)
    if column.kind == "instant":
        return _instant(raw, duckdb_type, timezone, midnight_is_date=midnight_is_date)
    text = f"CASE WHEN {is_given(column, raw, duckdb_type)} THEN {raw} END"
    return f"lower({text})" if column.values else text


def _number(column: SourceColumn, raw: str) -> str:
    number = f"TRY_CAST({raw} AS DOUBLE)"
    if column.kind == "number":
        return f"CASE WHEN isfinite({number}) THEN {number} END"
    return (
        f"CASE WHEN {number} >= 0 AND {number} < 9e15 AND {number} = floor({number}) "
        f"THEN CAST({number} AS BIGINT) END"
    )


def _day(raw: str, duckdb_type: str, timezone: str) -> str:
    if is_zoned(duckdb_type):
        return f"CAST(timezone({literal(timezone)}, {raw}) AS DATE)"
    if is_native_time(duckdb_type):
        return f"CASE WHEN isfinite({raw}) THEN CAST({raw} AS DATE) END"
    zoned = f"CAST(timezone({literal(timezone)}, TRY_CAST({raw} AS TIMESTAMPTZ)) AS DATE)"
    naive = f"CAST(TRY_CAST({raw} AS TIMESTAMP) AS DATE)"
    return _readable(raw, f"CASE WHEN {zoned_text(raw)} THEN {zoned} ELSE {naive} END")


def _instant(raw: str, duckdb_type: str, timezone: str, *, midnight_is_date: bool) -> str:
    if duckdb_type == "DATE" or (midnight_is_date and is_naive(duckdb_type)):
        return f"CASE WHEN isfinite({raw}) THEN {end_of_day(f'CAST({raw} AS DATE)')} END"
    if is_naive(duckdb_type):
        return f"CASE WHEN isfinite({raw}) THEN {to_utc(f'CAST({raw} AS TIMESTAMP)', timezone)} END"
    if is_zoned(duckdb_type):
        return f"CASE WHEN isfinite({raw}) THEN timezone('UTC', {raw}) END"
    day = end_of_day(f"CAST(TRY_CAST({raw} AS TIMESTAMP) AS DATE)")
    # The session's zone is UTC, so one cast reads times with a zone and times of UTC without one.
    exact = f"timezone('UTC', TRY_CAST({raw} AS TIMESTAMPTZ))"
    if timezone != "UTC":
        local = to_utc(f"TRY_CAST({raw} AS TIMESTAMP)", timezone)
        exact = f"CASE WHEN {zoned_text(raw)} THEN {exact} ELSE {local} END"
    is_date = date_text(raw, duckdb_type, midnight_is_date=midnight_is_date)
    return _readable(raw, f"CASE WHEN {is_date} THEN {day} ELSE {exact} END")


def _readable(raw: str, value: str) -> str:
    """Guard against words that DuckDB reads as moments, such as `epoch` and `infinity`."""
    return f"CASE WHEN {raw} >= '0' AND {raw} < ':' THEN {value} END"


def date_text(raw: str, duckdb_type: str, *, midnight_is_date: bool = False) -> str:
    """Return whether a prepared instant is only a date."""
    if not is_text_type(duckdb_type):
        at_midnight = midnight_is_date and is_naive(duckdb_type)
        return str(duckdb_type == "DATE" or at_midnight).lower()
    short = f"length({raw}) <= 10"
    return f"({short} OR NOT {zoned_text(raw)})" if midnight_is_date else short


def zoned_text(raw: str) -> str:
    """Return whether a prepared text has a zone: more than digits after its date.

    >>> import duckdb
    >>> texts = ["2024-03-01", "2024-03-01 9:30:00.5", "2024-03-01T09:30Z", "2024-03-01 09:30-05"]
    >>> connection = duckdb.connect()
    >>> asked = f"SELECT {zoned_text('$1')}"
    >>> [connection.execute(asked, [text]).fetchall() for text in texts]
    [[(False,)], [(False,)], [(True,)], [(True,)]]
    """
    return f"(translate(substr({raw}, 12), '0123456789:. ', '') <> '')"


def end_of_day(day: str) -> str:
    """Return the last microsecond of a date.

    >>> end_of_day("d")
    '(CAST(d AS TIMESTAMP) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)'
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


def stands_for_never(name: str) -> str:
    """Return whether a typed day or instant is one that systems write for never."""
    return f"coalesce({SENTINEL.format(ident(name))}, false)"
