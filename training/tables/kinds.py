"""How the columns of a ready-made table are read: seen from their values, refused when unclear."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from configs.errors import DataError

Kind = Literal["number", "flag", "category", "date"]

NOTHING = frozenset({"", "na", "n/a", "nan", "null", "#n/a"})
"""Texts that stand for a missing value, in any column."""

NO_NUMBER = NOTHING | {"none", "-", "?", "unknown", "nil"}
"""Texts that stand for a missing value among numbers and dates."""

FLAGS: Mapping[str, float] = {
    "yes": 1.0, "no": 0.0, "y": 1.0, "n": 0.0, "true": 1.0, "false": 0.0, "t": 1.0, "f": 0.0,
}  # fmt: skip
_PAIRS = ({"yes", "no"}, {"y", "n"}, {"true", "false"}, {"t", "f"})

MOSTLY = 0.95
"""Share of numbers (or dates) from which a column is meant to hold them."""

MANY, NEARLY_ALL = 100, 0.5
"""A text column with more different values than both, by number and by share, names things."""

_ISO = r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?"
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0")
_OTHER_DATE = r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"
_NAMES_THINGS = re.compile(
    r"(?:^|[_ \-.])(?:id|uuid|guid|key|index)$|[a-z](?:Id|ID|Key)$", re.ASCII
)


@dataclass(frozen=True)
class Seen:
    """What a column was seen to be.

    Attributes
    ----------
    kind : str or None
        None: left out.
    words : str
        Why it is left out, or what is worth knowing; may be empty.
    """

    kind: Kind | None
    words: str = ""


def text_of(column: pd.Series) -> pd.Series:
    """Return a column as stripped text, None where nothing stands."""
    return column.astype("object").map(_stripped)


def _stripped(value: Any) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT or value != value:  # NaN
        return None
    text = str(value).strip()
    return None if text.lower() in NOTHING else text


def is_text(column: pd.Series) -> bool:
    """Return whether a column holds words rather than numbers, flags or moments."""
    return not (
        pd.api.types.is_numeric_dtype(column)
        or pd.api.types.is_bool_dtype(column)
        or pd.api.types.is_datetime64_any_dtype(column)
    )


def see(column: pd.Series) -> Seen:
    """Return how a column is read.

    Raises
    ------
    DataError
        Its values are of two kinds; the words name some of each.

    Examples
    --------
    >>> see(pd.Series(["1", "2.5", " "])).kind, see(pd.Series(["yes", "no", None])).kind
    ('number', 'flag')
    >>> see(pd.Series(["basic", "pro", "pro"])).kind, see(pd.Series(["2024-01-31", "n/a"])).kind
    ('category', 'date')
    >>> see(pd.Series([None, ""]))
    Seen(kind=None, words='no value is known')
    """
    if _INDEX.fullmatch(str(column.name)):
        return Seen(None, "the row numbers pandas wrote along")
    known = text_of(column).dropna() if is_text(column) else column.dropna()
    if known.empty:
        return Seen(None, "no value is known")
    kind = _text_kind(str(column.name), known) if is_text(column) else _typed_kind(column)
    if known.nunique() == 1 and len(known) == len(column):
        return Seen(None, f"the same in every row: {str(known.iloc[0])[:40]}")
    if _names_rows(str(column.name), known, kind):
        return Seen(None, f"{known.nunique():,} different values: it names rows")
    if kind == "category" and known.nunique() > MANY:
        return Seen(kind, f"{known.nunique():,} different values: the most frequent are used")
    return Seen(kind)


def _typed_kind(column: pd.Series) -> Kind:
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    if pd.api.types.is_bool_dtype(column) or set(column.dropna().unique()) <= {0, 1}:
        return "flag"
    return "number"


def _text_kind(name: str, known: pd.Series) -> Kind:
    lower = known.str.lower()
    if set(lower.unique()) in _PAIRS:
        return "flag"
    given = known[~lower.isin(NO_NUMBER)]
    numbers = given.map(_number)
    is_number = numbers.notna()
    if len(given) and is_number.all():
        return "flag" if set(numbers.unique()) <= {0, 1} else "number"
    is_date = given.str.fullmatch(_ISO)
    if len(given) and is_date.all():
        return "date"
    for found, what in ((is_number, "numbers"), (is_date, "dates")):
        if found.mean() >= MOSTLY:
            raise _mixed(name, given, found, what)
    if len(given) and given.str.fullmatch(_OTHER_DATE).mean() >= MOSTLY:
        raise DataError(
            f"the dates of column {name} can be read in two ways, for example {given.iloc[0]}",
            where=f"column {name}",
            fix=f"write them as 2024-01-31, or leave the column out:  columns: {{{name}: drop}}",
        )
    return "category"


def _number(text: str | None) -> float:
    """Return the nearest number to a text (pandas' own reader is off in the last digit), or NaN."""
    try:
        return np.nan if text is None or "_" in text else float(text)
    except ValueError:
        return np.nan


def _mixed(name: str, given: pd.Series, found: pd.Series, what: str) -> DataError:
    odd = given[~found]
    examples = ", ".join(repr(str(value)[:30]) for value in odd.unique()[:3])
    return DataError(
        f"{found.sum():,} of {len(given):,} values of column {name} are {what}, {len(odd):,} are "
        f"not: {examples}",
        where=f"column {name}",
        fix=f"correct them, or say how to read it:  columns: {{{name}: {what.rstrip('s')}}} makes "
        "them missing, category or drop are the others",
    )


def _names_rows(name: str, known: pd.Series, kind: Kind) -> bool:
    different = known.nunique()
    if kind == "category":
        return different > max(MANY, NEARLY_ALL * len(known))
    if kind != "number" or different < max(MANY, len(known)):
        return False
    values = convert(known, "number", known).to_numpy(dtype=np.float64)
    steps = np.diff(values)
    counts_rows = bool(np.isfinite(values).all() and ((steps == 1).all() or (steps == -1).all()))
    return counts_rows or _NAMES_THINGS.search(name) is not None


def convert(column: pd.Series, kind: Kind, as_of: pd.Series) -> pd.Series:
    """Return a column as the model takes it, whatever does not fit its kind missing.

    Parameters
    ----------
    column : pandas.Series
        As read.
    kind : str
        How it is read.
    as_of : pandas.Series
        The moment of each row, UTC: a date becomes days before it.

    Returns
    -------
    pandas.Series
        float64; object (text and None) for a category.
    """
    if kind == "category":
        return text_of(column) if is_text(column) else text_of(_plain_numbers(column))
    if kind == "date":
        return (as_of - moments(column)).dt.total_seconds() / 86_400.0
    if not is_text(column):
        return column.astype("float64")
    text = text_of(column)
    numbers = text.map(_number).astype("float64")
    return numbers.fillna(text.str.lower().map(FLAGS)) if kind == "flag" else numbers


def _plain_numbers(column: pd.Series) -> pd.Series:
    """Return whole numbers as such: a code is 3, not 3.0."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        return column.astype("Int64")
    return column


def moments(column: pd.Series) -> pd.Series:
    """Return a column as moments, datetime64[us, UTC]; NaT where there is none."""
    if pd.api.types.is_numeric_dtype(column):
        return pd.Series(pd.NaT, column.index, dtype="datetime64[us, UTC]")
    given = text_of(column) if is_text(column) else column
    return pd.to_datetime(given, utc=True, format="ISO8601", errors="coerce").astype(
        "datetime64[us, UTC]"
    )
