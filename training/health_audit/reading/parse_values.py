"""Parsing of cells as dates, numbers and words, in common export formats."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.runtime.errors import SourceError
from configs.schema.ready_table import Written
from features.sources.parsing import cells
from features.sources.parsing.text_values import is_money

_PROBED = 2_000
_MOSTLY = 0.8
_SERIAL, _UNIX = (32_874.0, 73_050.0), ((631_152_000.0, 4_102_444_800.0), 1_000.0)
"""Ranges of spreadsheet serial days and Unix seconds from 1990 to 2099."""
EARLIEST, LATEST = pd.Timestamp("1990-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")


@dataclass(frozen=True)
class DateOrder:
    """Cells parsed as timestamps.

    Attributes
    ----------
    at : pandas.Series
        datetime64[us, UTC], NaT where unreadable.
    is_day : bool
        Whether the cells are dates without a time.
    words : str
        Date format, if not ISO 8601; empty otherwise.
    """

    at: pd.Series
    is_day: bool
    words: str = ""


def read_dates(
    column: pd.Series,
    *,
    day_first: bool | None = None,
    proven: bool | None = None,
    name: str = "",
) -> DateOrder:
    """Return a column as timestamps in UTC.

    Parameters
    ----------
    column : pandas.Series
        The cells.
    day_first : bool or None
        Date order of 3/4/2025; None: inferred from the cells.
    proven : bool or None
        Date order that other columns prove, for ambiguous cells.
    name : str
        Column name in messages.

    Raises
    ------
    SourceError
        Days and months occur in both orders, or the order is ambiguous.
    """
    given: Written | None = None
    if day_first is not None:
        given = "day_first" if day_first else "month_first"
    if pd.api.types.is_numeric_dtype(column):
        column = read_words(column)
    try:
        read = cells.parse_moments(
            column.rename(name or str(column.name)), configured=given, day_first=proven
        )
    except SourceError as error:
        fix = "set --day-first or --month-first" if "ambiguous" in error.what else error.fix
        raise SourceError(error.what, where=error.where, fix=fix) from error
    at = read.values
    at = at.where((at >= EARLIEST) & (at < LATEST))
    return DateOrder(
        at, cells.ParsedColumn(at).is_day, f"{name}: {read.words}" if read.words else ""
    )


def _are_serial(column: pd.Series) -> bool:
    """Return whether all cells are spreadsheet serial days."""
    numbers = pd.to_numeric(column.dropna(), errors="coerce")
    return bool(len(numbers) and numbers.between(*_SERIAL).fillna(False).all())


def _are_unix(column: pd.Series) -> bool:
    """Return whether all cells are Unix seconds or milliseconds."""
    numbers = pd.to_numeric(column.dropna(), errors="coerce")
    (low, high), thousand = _UNIX
    seconds = numbers.where(numbers < high, numbers / thousand)
    return bool(len(numbers) and seconds.between(low, high).fillna(False).all())


def read_numbers(column: pd.Series, given: Written | None = None) -> pd.Series:
    """Return a column as float64, NaN for cells that are no number.

    Raises
    ------
    SourceError
        Numbers are ambiguous.

    >>> read_numbers(pd.Series(["1,234.5", "12 %", "€900", "0,75", "(40)", "x"])).tolist()
    [1234.5, 12.0, 900.0, 0.75, -40.0, nan]
    """
    try:
        return cells.numbers(column, configured=given, is_money=is_money(str(column.name))).values
    except SourceError as error:
        fix = "set --decimal-comma or --decimal-point"
        raise SourceError(
            error.what, where=error.where, fix=fix if "ambiguous" in error.what else error.fix
        ) from error


def read_words(column: pd.Series) -> pd.Series:
    """Return a column as trimmed text, missing where empty; whole numbers without decimals."""
    if pd.api.types.is_float_dtype(column):
        column = column.astype("Int64") if (column.dropna() % 1 == 0).all() else column
    text = column.astype("string").str.strip()
    found = text.where(text.str.len() > 0).astype("object")
    return found.mask(found.isna(), np.nan)


def is_number(column: pd.Series) -> bool:
    """Return whether most cells are numbers in any format."""
    known = column.dropna().head(_PROBED)
    if known.empty or pd.api.types.is_datetime64_any_dtype(known) or known.dtype == bool:
        return False
    try:
        read = read_numbers(known, "decimal_point")
    except SourceError:
        return True  # two scales or currencies: the reader raises the error
    return bool(np.isfinite(read).mean() >= _MOSTLY)


def looks_like_date(column: pd.Series) -> bool:
    """Return whether most cells are dates."""
    known = column.dropna().head(_PROBED)
    if known.empty or known.dtype == bool:
        return False
    if pd.api.types.is_datetime64_any_dtype(known):
        return True
    if _are_serial(known) or _are_unix(known):
        return True
    if pd.api.types.is_numeric_dtype(known):
        return False
    return bool(cells.look_like_dates(known.astype("string")).mean() >= _MOSTLY)


def looks_like_text(column: pd.Series) -> bool:
    """Return whether the cells are words or a few levels rather than measurements."""
    known = column.dropna().head(_PROBED)
    if known.empty or pd.api.types.is_datetime64_any_dtype(known):
        return False
    return not is_number(column)


def plain_word(word: str) -> str:
    """Return a word without case and punctuation.

    >>> plain_word("Closed-Lost ")
    'closed lost'
    """
    return re.sub(r"[^a-z0-9]+", " ", word.lower()).strip()
