"""SQL that converts source values of any type to the kinds of the contract.

Dates, times and numbers of other formats are first normalised
(`features.sources.parsing.column_formats`). A date where an instant is expected becomes the last
microsecond of its day. All instants are stored in UTC without a zone. The time zone of the
connection must be UTC.
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
"""Dates that systems use for 'never' or 'unknown'."""

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
    """Whether a DuckDB type is a date or an instant, which needs no parsing."""
    return duckdb_type == "DATE" or duckdb_type.startswith("TIMESTAMP")


def prepared(
    column: SourceColumn, expression: str, duckdb_type: str, style: Style | None = None
) -> tuple[str, str]:
    """Return SQL and DuckDB type of a trimmed value, the input of the other functions.

    Parameters
    ----------
    column : SourceColumn
        The contract.
    expression : str
        SQL of the raw value.
    duckdb_type : str
        Its DuckDB type.
    style : NumberFormat, DateFormat or None
        Format of a text column, where it is not the standard one.
    """
    if column.kind in {"id", "text"} and duckdb_type in {"FLOAT", "DOUBLE"}:
        # Ids stored as floats: 17850.0 is 17850.
        whole = f"{expression} = floor({expression}) AND abs({expression}) < 9e15"
        number = f"CAST(CAST({expression} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN {whole} THEN {number} ELSE CAST({expression} AS VARCHAR) END", "VARCHAR"
    if column.kind in TIMES and is_native_time(duckdb_type):
        # Nanosecond types have no arithmetic; microseconds are kept.
        exact = "TIMESTAMPTZ" if is_zoned(duckdb_type) else "TIMESTAMP"
        is_fine = duckdb_type in {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"}
        return (expression, duckdb_type) if is_fine else (f"CAST({expression} AS {exact})", exact)
    if column.kind in {"number", "count"} and not is_text_type(duckdb_type):
        return f"TRY_CAST({expression} AS DOUBLE)", "DOUBLE"
    return _normalised(f"trim(CAST({expression} AS VARCHAR))", style), "VARCHAR"


def _normalised(text: str, style: Style | None) -> str:
    """Return SQL of a text as ISO 8601 or as a standard number; other texts are unchanged."""
    if isinstance(style, DateFormat):
        return iso_sql(text, style)
    if isinstance(style, NumberFormat) and not style.is_plain:
        return f"coalesce(CAST({number_sql(text, style)} AS VARCHAR), {text})"
    return text


def is_given(column: SourceColumn, raw: str, duckdb_type: str) -> str:
    """Return SQL for: a prepared value is not empty."""
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
    """Return SQL of the typed value of a prepared one, null when it is not readable.

    Parameters
    ----------
    column : SourceColumn
        The contract.
    raw : str
        A prepared column.
    duckdb_type : str
        Its DuckDB type.
    timezone : str
        IANA name of the zone of instants without one.
    midnight_is_date : bool
        Every value of the column lies at midnight, so the values are dates.
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
    # The session zone is UTC, so one cast reads times with a zone and UTC times without one.
    exact = f"timezone('UTC', TRY_CAST({raw} AS TIMESTAMPTZ))"
    if timezone != "UTC":
        local = to_utc(f"TRY_CAST({raw} AS TIMESTAMP)", timezone)
        exact = f"CASE WHEN {zoned_text(raw)} THEN {exact} ELSE {local} END"
    is_date = date_text(raw, duckdb_type, midnight_is_date=midnight_is_date)
    return _readable(raw, f"CASE WHEN {is_date} THEN {day} ELSE {exact} END")


def _readable(raw: str, value: str) -> str:
    """Return SQL that ignores words DuckDB reads as instants, such as `epoch` and `infinity`."""
    return f"CASE WHEN {raw} >= '0' AND {raw} < ':' THEN {value} END"


def date_text(raw: str, duckdb_type: str, *, midnight_is_date: bool = False) -> str:
    """Return SQL for: a prepared instant is only a date."""
    if not is_text_type(duckdb_type):
        at_midnight = midnight_is_date and is_naive(duckdb_type)
        return str(duckdb_type == "DATE" or at_midnight).lower()
    short = f"length({raw}) <= 10"
    return f"({short} OR NOT {zoned_text(raw)})" if midnight_is_date else short


def zoned_text(raw: str) -> str:
    """Return SQL for: a prepared text has a time zone.

    >>> import duckdb
    >>> texts = ["2024-03-01", "2024-03-01 9:30:00.5", "2024-03-01T09:30Z", "2024-03-01 09:30-05"]
    >>> connection = duckdb.connect()
    >>> query = f"SELECT {zoned_text('$1')}"
    >>> [connection.execute(query, [text]).fetchall() for text in texts]
    [[(False,)], [(False,)], [(True,)], [(True,)]]
    """
    return f"(translate(substr({raw}, 12), '0123456789:. ', '') <> '')"


def end_of_day(day: str) -> str:
    """Return SQL of the last microsecond of a date.

    >>> end_of_day("d")
    '(CAST(d AS TIMESTAMP) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)'
    """
    return f"(CAST({day} AS TIMESTAMP) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)"


def to_utc(naive: str, timezone: str) -> str:
    """Return SQL of a local time of a zone in UTC.

    >>> to_utc("t", "UTC")
    't'
    """
    if timezone == "UTC":
        return naive
    return f"timezone('UTC', timezone({literal(timezone)}, {naive}))"


def known_after(day: str, timezone: str) -> str:
    """Return SQL of the time a date-only fact is known: next midnight in UTC and in its zone."""
    midnight = f"(CAST({day} AS TIMESTAMP) + INTERVAL 1 DAY)"
    if timezone == "UTC":
        return midnight
    return f"greatest({midnight}, {to_utc(midnight, timezone)})"


def is_sentinel(name: str) -> str:
    """Return SQL for: a typed day or instant is one that systems use for never."""
    return f"coalesce({SENTINEL.format(ident(name))}, false)"
