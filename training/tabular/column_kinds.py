"""Kinds of columns of a ready-made table, detected from their values; unclear ones are errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError, SourceError
from configs.schema.ready_table import ReadyTable, Written
from features.sources.parsing import cells
from features.sources.parsing.cells import FLAGS, is_text_column
from features.sources.parsing.cells import texts as text_of
from features.sources.parsing.text_values import FALSE, MISSING, TRUE, UNKNOWN, is_money

__all__ = [
    "TableReading",
    "Kind",
    "ColumnSummary",
    "convert",
    "dates_of",
    "table_format",
    "is_text_column",
    "parse_dates",
    "detect_kind",
    "text_of",
]

Kind = Literal["number", "flag", "category", "date"]

MOSTLY = 0.95
"""Share of numbers (or dates) from which a column counts as numeric (or dates)."""

MANY, NEARLY_ALL = 100, 0.5
"""Number and share of different values above which a text column is an identifier."""

_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0")
_NAMES_THINGS = re.compile(
    r"(?:^|[_ \-.])(?:id|uuid|guid|key|index)$|[a-z](?:Id|ID|Key)$", re.ASCII
)


@dataclass(frozen=True)
class ColumnSummary:
    """Detected kind of a column.

    Attributes
    ----------
    kind : str or None
        None: left out.
    words : str
        Reason for leaving it out, or a note; can be empty.
    """

    kind: Kind | None
    words: str = ""


@dataclass(frozen=True)
class TableReading:
    """Formats of the columns of a table.

    Attributes
    ----------
    told : mapping of str to str
        Kind by column, from company.yaml.
    day_first : bool or None
        Order of day and month in slashed dates, if some dates are unambiguous.
    """

    told: Mapping[str, Written] = field(default_factory=dict)
    day_first: bool | None = None


PLAIN = TableReading()


def table_format(table: ReadyTable | None, rows: pd.DataFrame) -> TableReading:
    """Return the formats of a table's columns, from its configuration and its dates."""
    return TableReading({} if table is None else table.written, cells.proven_order(rows))


def _numbers(column: pd.Series, how: TableReading) -> cells.ParsedColumn:
    name = str(column.name)
    return cells.numbers(column, configured=how.told.get(name), is_money=is_money(name))


def dates_of(column: pd.Series, how: TableReading) -> cells.ParsedColumn:
    """Return a column as times, and its format; see `cells.moments`."""
    told = how.told.get(str(column.name))
    return cells.parse_moments(column, configured=told, day_first=how.day_first)


def detect_kind(column: pd.Series, how: TableReading = PLAIN) -> ColumnSummary:
    """Return the kind of a column.

    Raises
    ------
    DataError
        Its values are of two kinds or ambiguous; the message lists some.

    Examples
    --------
    >>> columns = (["1", "2.5", " "], ["yes", "no"], ["basic", "pro", "pro"], ["2024-01-31", "n/a"])
    >>> [detect_kind(pd.Series(values)).kind for values in columns]
    ['number', 'flag', 'category', 'date']
    >>> detect_kind(pd.Series([None, ""]))
    ColumnSummary(kind=None, words='no value is known')
    """
    if _INDEX.fullmatch(str(column.name)):
        return ColumnSummary(None, "row numbers written by pandas")
    known = text_of(column).dropna() if is_text_column(column) else column.dropna()
    if known.empty or (is_text_column(column) and set(known.str.lower()) <= MISSING):
        return ColumnSummary(None, "no value is known")
    kind, words = _text_kind(known, how) if is_text_column(column) else (_typed_kind(column), "")
    if known.nunique() == 1 and len(known) == len(column):
        return ColumnSummary(None, f"the same in every row: {str(known.iloc[0])[:40]}")
    if _names_rows(str(column.name), known, kind):
        return ColumnSummary(None, f"{known.nunique():,} different values: an identifier")
    if kind == "category" and known.nunique() > MANY:
        return ColumnSummary(
            kind, f"{known.nunique():,} different values: the most frequent are used"
        )
    return ColumnSummary(kind, words)


def _typed_kind(column: pd.Series) -> Kind:
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    if pd.api.types.is_bool_dtype(column) or set(column.dropna().unique()) <= {0, 1}:
        return "flag"
    return "number"


def _text_kind(known: pd.Series, how: TableReading) -> tuple[Kind, str]:
    lower = set(known.str.lower())
    if _says_yes_or_no(lower):
        return "flag", ""
    given = cells.given(known)
    if given.empty:
        return "category", ""
    try:
        return _given_kind(given, how)
    except SourceError as error:
        name = str(known.name)
        raise DataError(
            error.what,
            where=f"column {name}",
            fix=f"{error.fix}; or leave the column out:  columns: {{{name}: drop}}",
        ) from error


def _says_yes_or_no(lower: set[str]) -> bool:
    yes, no = (set(words) - {"1", "1.0", "0", "0.0"} for words in (TRUE, FALSE))
    return lower <= yes | no | UNKNOWN and bool(lower & yes) and bool(lower & no)


def _given_kind(given: pd.Series, how: TableReading) -> tuple[Kind, str]:
    is_date = cells.look_like_dates(given)
    found = (
        cells.ParsedColumn(pd.Series(np.nan, given.index))
        if is_date.all()
        else _numbers(given, how)
    )
    is_number = found.values.notna()
    if is_number.all():
        is_flag = set(found.values.unique()) <= {0, 1}
        return ("flag" if is_flag else "number"), found.words
    if is_date.mean() >= MOSTLY:
        read = dates_of(given, how)
        if read.values.notna().all():
            return "date", read.words
        raise _mixed(str(given.name), given, read.values.notna(), "dates")
    if is_number.mean() >= MOSTLY:
        raise _mixed(str(given.name), given, is_number, "numbers")
    return "category", ""


def _mixed(name: str, given: pd.Series, found: pd.Series, what: str) -> DataError:
    odd = given[~found]
    examples = ", ".join(repr(str(value)[:30]) for value in odd.unique()[:3])
    return DataError(
        f"{found.sum():,} of {len(given):,} values of column {name} are {what}, {len(odd):,} are "
        f"not: {examples}",
        where=f"column {name}",
        fix=f"correct them, or set the kind:  columns: {{{name}: {what.rstrip('s')}}} makes "
        "them missing, category or drop are the others",
    )


def _names_rows(name: str, known: pd.Series, kind: Kind) -> bool:
    different = known.nunique()
    if kind == "category":
        return different > max(MANY, NEARLY_ALL * len(known))
    if kind != "number" or different < max(MANY, len(known)):
        return False
    values = pd.to_numeric(known, errors="coerce").to_numpy(dtype=np.float64)
    steps = np.diff(values)
    counts_rows = bool(np.isfinite(values).all() and ((steps == 1).all() or (steps == -1).all()))
    return counts_rows or _NAMES_THINGS.search(name) is not None


def convert(
    column: pd.Series, kind: Kind, as_of: pd.Series, how: TableReading = PLAIN
) -> pd.Series:
    """Return a column as input of the model; values that do not fit its kind are missing.

    Parameters
    ----------
    column : pandas.Series
        As in the table.
    kind : str
        Kind of the column.
    as_of : pandas.Series
        as_of of each row, UTC: dates become days before it.
    how : TableReading
        Formats of the table.

    Returns
    -------
    pandas.Series
        float64; object (text and None) for a category.

    Raises
    ------
    SourceError
        Ambiguous values.
    """
    if kind == "category":
        return text_of(column) if is_text_column(column) else text_of(_plain_numbers(column))
    if kind == "date":
        return (as_of - parse_dates(column, how)).dt.total_seconds() / 86_400.0
    if kind == "flag" and is_text_column(column):
        words = text_of(column).str.lower().map(FLAGS).astype("float64")
        return words.fillna(_numbers(column, how).values)
    return _numbers(column, how).values


def _plain_numbers(column: pd.Series) -> pd.Series:
    """Return whole numbers without decimals: a code is 3, not 3.0."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        return column.astype("Int64")
    return column


def parse_dates(column: pd.Series, how: TableReading = PLAIN) -> pd.Series:
    """Return a column as times, datetime64[us, UTC]; NaT where missing.

    Raises
    ------
    SourceError
        Ambiguous dates.
    """
    if pd.api.types.is_numeric_dtype(column):
        column = _plain_numbers(column).astype("string").astype("object")
    return dates_of(column, how).values
