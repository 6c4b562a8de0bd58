"""Parsing of columns in memory by the rules of the source tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from configs.schema.ready_table import Written
from features.sources.files.sql import literal
from features.sources.parsing.column_formats import Style, decide
from features.sources.parsing.dates import DateFormat, iso_sql
from features.sources.parsing.numbers import NumberFormat, number_sql, plain_values
from features.sources.parsing.text_values import (
    FALSE,
    INFINITE,
    MISSING,
    TRUE,
    UNKNOWN,
    WORDS_MISSING,
    ColumnQuery,
)

PLAIN_DATE = (
    r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}(?:[T ].*)?$|^\d{1,2}[./-]\d{1,2}[./-]\d{4}(?:[T ,].*)?$|"
    r"^\d{1,2}/\d{1,2}/\d{2}$|^\d{1,2}(?:st|nd|rd|th)?[\s-]+[A-Za-z]{3,9}\.?,?[\s-]+\d{4}.*$|"
    r"^[A-Za-z]{3,9}\.?\s+\d{1,2}(?:st|nd|rd|th)?,?\s+\d{4}.*$|^\d{4}-\d{2}$"
)
"""Text that is certainly a date."""

SLASHED = r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"
PROBED, MOSTLY = 200, 0.8
"""Cells sampled first, and the share from which a column holds slashed dates."""

Dtype = Literal["float64", "datetime64[us]"]
FLAGS: Mapping[str, float] = {**dict.fromkeys(TRUE, 1.0), **dict.fromkeys(FALSE, 0.0)}


@dataclass(frozen=True)
class ParsedColumn:
    """A parsed column.

    Attributes
    ----------
    values : pandas.Series
        float64, or datetime64[us, UTC]; missing for empty or unreadable cells.
    words : str
        Note on the format, where it is not the standard one.
    """

    values: pd.Series
    words: str = ""

    @property
    def is_day(self) -> bool:
        """All instants lie at midnight."""
        known = self.values.dropna()
        return bool((known == known.dt.normalize()).all())


def is_text_column(column: pd.Series) -> bool:
    """Whether a column holds text rather than numbers, flags or instants."""
    return not (
        pd.api.types.is_numeric_dtype(column)
        or pd.api.types.is_bool_dtype(column)
        or pd.api.types.is_datetime64_any_dtype(column)
    )


def texts(column: pd.Series, missing: frozenset[str] = WORDS_MISSING) -> pd.Series:
    """Return a column as stripped text, None for empty cells."""
    return column.astype("object").map(lambda value: _stripped(value, missing))


def _stripped(value: Any, missing: frozenset[str]) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT or value != value:  # NaN
        return None
    text = str(value).strip()
    return None if text.lower() in missing else text


def given(column: pd.Series) -> pd.Series:
    """Return the stripped non-empty texts of a column of numbers, dates or flags."""
    found = texts(column, MISSING | UNKNOWN | INFINITE)
    return found.dropna()


def numbers(
    column: pd.Series, *, configured: Written | None = None, is_money: bool = False
) -> ParsedColumn:
    """Return a column as float64; anything but finite numbers is missing.

    Raises
    ------
    SourceError
        The format of the numbers is ambiguous.
    """
    if not is_text_column(column):
        values = column.astype("float64")
        return ParsedColumn(values.where(np.isfinite(values)))
    query = ColumnQuery("t", "number", configured=configured, is_money=is_money)
    return _read(column, query, lambda style: number_sql("t", _as(NumberFormat, style)), "float64")


def parse_moments(
    column: pd.Series, *, configured: Written | None = None, day_first: bool | None = None
) -> ParsedColumn:
    """Return a column as instants in UTC; unreadable values are missing.

    Raises
    ------
    SourceError
        The order of day and month is ambiguous.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        zoned = (
            column.dt.tz_localize("UTC") if column.dt.tz is None else column.dt.tz_convert("UTC")
        )
        return ParsedColumn(zoned.astype("datetime64[us, UTC]"))
    query = ColumnQuery("t", "time", configured=configured)
    read = _read(column, query, _moment_sql, "datetime64[us]", day_first)
    return ParsedColumn(read.values.dt.tz_localize("UTC"), read.words)


def _moment_sql(style: Style) -> str:
    text = iso_sql("t", _as(DateFormat, style))
    # DuckDB reads words such as "epoch" as instants.
    return (
        f"CASE WHEN (t >= '0' AND t < ':') OR regexp_matches(t, {literal(PLAIN_DATE)}) "
        f"THEN timezone('UTC', TRY_CAST({text} AS TIMESTAMPTZ)) END"
    )


def _as(kind: Any, style: Style) -> Any:
    return style if isinstance(style, kind) else kind()


def _read(
    column: pd.Series, query: ColumnQuery, sql: Any, dtype: Dtype, day_first: bool | None = None
) -> ParsedColumn:
    """Decide the format of the distinct texts, parse them and map them back to rows."""
    found = given(column)
    codes, distinct = pd.factorize(found)
    name = str(column.name)
    plain = plain_values(name, query, list(distinct)) if query.kind == "number" else None
    if plain is not None:
        rows, words = pd.Series(plain, dtype="float64"), ""
    else:
        with _table(distinct) as connection:
            style = decide(connection, "cells", {name: query}, day_first=day_first).sure()[name]
            rows = connection.execute(f"SELECT {sql(style)} AS v FROM cells").df()["v"]
        words = style.words
    values = rows.astype(dtype).reindex(codes).set_axis(found.index).reindex(column.index)
    return ParsedColumn(values.astype(dtype), words)


@contextmanager
def _table(distinct: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("cells", pa.table({"t": pa.array(distinct, pa.string())}))
        yield connection


def proven_order(frame: pd.DataFrame) -> bool | None:
    """Return whether slashed dates of a table have the day first; None if it is ambiguous."""
    found = [_proof(frame[name]) for name in frame if is_text_column(frame[name])]
    proofs = {proof for proof in found if proof is not None}
    return proofs.pop() if len(proofs) == 1 else None


def _proof(column: pd.Series) -> bool | None:
    if not _are_slashed(given(column.dropna().head(PROBED))):
        return None
    found = given(column)
    if not _are_slashed(found):
        return None
    with _table(found.unique()) as connection:
        return decide(connection, "cells", {"t": ColumnQuery("t", "time")}).day_first


def _are_slashed(found: pd.Series) -> bool:
    """Whether texts are mostly slashed dates."""
    return bool(len(found) and found.str.contains(SLASHED).mean() >= MOSTLY)


def look_like_dates(column: pd.Series) -> pd.Series:
    """Return which texts are certainly dates."""
    return column.str.contains(PLAIN_DATE).astype(bool)
