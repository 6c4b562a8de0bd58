"""Cells as dates, numbers and words, whatever wrote them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.errors import SourceError

_PROBED = 2_000
_MOSTLY = 0.8
_SLASHED = r"^\s*(\d{1,2})[./-](\d{1,2})[./-](\d{2,4})"
_DAY_ZERO, _SERIAL = pd.Timestamp("1899-12-30"), (32_874.0, 73_050.0)
"""From where spreadsheets count days, and the numbers of 1990 to 2099."""
EARLIEST, LATEST = pd.Timestamp("1990-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")


@dataclass(frozen=True)
class Dates:
    """Cells read as moments.

    Attributes
    ----------
    at : pandas.Series
        datetime64[us, UTC], NaT where unreadable.
    is_day : bool
        The cells are days, without a time.
    words : str
        What had to be assumed; empty otherwise.
    """

    at: pd.Series
    is_day: bool
    words: str = ""


def read_dates(column: pd.Series, *, day_first: bool | None = None, name: str = "") -> Dates:
    """Return a column as moments in UTC.

    Raises
    ------
    SourceError
        Days and months stand in both orders.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        at = _utc(column)
        return Dates(at, bool((at.dropna() == at.dropna().dt.normalize()).all()))
    # Days repeat: each distinct cell is read once.
    codes, cells = pd.factorize(column)
    text = pd.Series(cells).astype("string").str.strip()
    if _are_serial(text):
        text = (_DAY_ZERO + pd.to_timedelta(text.astype("float64"), unit="D")).astype("string")
    order, words = _order(text, day_first, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pandas tells of the order given here
        at = pd.to_datetime(text, format="mixed", dayfirst=order, utc=True, errors="coerce")
    at = _utc(at)
    at = at.where((at >= EARLIEST) & (at < LATEST))
    at = at.reindex(np.where(codes < 0, len(at), codes)).set_axis(column.index)
    known = at.dropna()
    return Dates(at, bool((known == known.dt.normalize()).all()), words)


def _are_serial(cells: pd.Series) -> bool:
    """Return whether all cells are days as spreadsheets number them."""
    numbers = pd.to_numeric(cells.dropna(), errors="coerce")
    return bool(len(numbers) and numbers.between(*_SERIAL).fillna(False).all())


def _utc(at: pd.Series) -> pd.Series:
    zoned = at.dt.tz_localize("UTC") if at.dt.tz is None else at.dt.tz_convert("UTC")
    return zoned.astype("datetime64[us, UTC]")


def _order(text: pd.Series, day_first: bool | None, name: str) -> tuple[bool, str]:
    """Return whether the day stands first, and what was assumed."""
    if day_first is not None:
        return day_first, ""
    parts = text.str.extract(_SLASHED).dropna()
    if parts.empty:
        return False, ""
    first, second = (pd.to_numeric(parts[position]) for position in (0, 1))
    if (first > 12).any() and (second > 12).any():
        raise SourceError(
            f"column {name!r} writes both day/month and month/day",
            where=f"{int((first > 12).sum()):,} rows of one kind, {int((second > 12).sum()):,} of "
            "the other",
            fix="export dates as YYYY-MM-DD",
        )
    if (first > 12).any() or (second > 12).any():
        return bool((first > 12).any()), ""
    return False, f"{name}: dates such as {text.dropna().iloc[0]} are read as month first"


_GROUPED = r"^-?\d{1,3}(,\d{3})+(\.\d+)?$"
_EUROPEAN = r"^-?(\d{1,3}(\.\d{3})+|\d+),\d+$"


def read_numbers(column: pd.Series) -> pd.Series:
    """Return a column as float64, NaN where no number stands.

    >>> read_numbers(pd.Series(["1,234.5", "12 %", "€900", "0,75", "(40)", "x"])).tolist()
    [1234.5, 12.0, 900.0, 0.75, -40.0, nan]
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    plain = pd.to_numeric(column, errors="coerce")
    if plain.notna().sum() == column.notna().sum():
        return plain.astype("float64")
    text = column.astype("string").str.replace(r"[\s\u00a0'%€$£]|[A-Z]{3}$", "", regex=True)
    text = text.str.replace(r"^\((.*)\)$", r"-\1", regex=True)
    grouped = text.str.fullmatch(_GROUPED).fillna(False)
    european = text.str.fullmatch(_EUROPEAN).fillna(False) & ~grouped
    text = text.where(~grouped, text.str.replace(",", ""))
    text = text.where(~european, text.str.replace(".", "").str.replace(",", "."))
    return pd.to_numeric(text, errors="coerce").astype("float64")


def read_words(column: pd.Series) -> pd.Series:
    """Return a column as trimmed text, missing where empty; whole numbers without a point."""
    if pd.api.types.is_float_dtype(column):
        column = column.astype("Int64") if (column.dropna() % 1 == 0).all() else column
    text = column.astype("string").str.strip()
    found = text.where(text.str.len() > 0).astype("object")
    return found.mask(found.isna(), np.nan)


def is_number(column: pd.Series) -> bool:
    """Return whether most cells are numbers."""
    known = column.dropna().head(_PROBED)
    if known.empty or pd.api.types.is_datetime64_any_dtype(known) or known.dtype == bool:
        return False
    return bool(np.isfinite(read_numbers(known)).mean() >= _MOSTLY)


def is_date(column: pd.Series) -> bool:
    """Return whether most cells are dates."""
    known = column.dropna().head(_PROBED)
    if known.empty or known.dtype == bool:
        return False
    if pd.api.types.is_datetime64_any_dtype(known):
        return True
    if _are_serial(known):
        return True
    if pd.api.types.is_numeric_dtype(known):
        return False
    text = known.astype("string")
    shaped = text.str.contains(r"\d{4}-\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|[A-Za-z]{3}.*\d{4}")
    if shaped.mean() < _MOSTLY:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        at = pd.to_datetime(text, format="mixed", utc=True, errors="coerce", dayfirst=True)
    return bool(at.notna().mean() >= _MOSTLY)


def is_text(column: pd.Series) -> bool:
    """Return whether the cells are words or a few small levels, not measurements."""
    known = column.dropna().head(_PROBED)
    if known.empty or pd.api.types.is_datetime64_any_dtype(known):
        return False
    return not is_number(column)


def plain_word(word: str) -> str:
    """Return a word without case and signs.

    >>> plain_word("Closed-Lost ")
    'closed lost'
    """
    return re.sub(r"[^a-z0-9]+", " ", word.lower()).strip()
