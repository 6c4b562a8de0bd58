"""Formats of dates and times, and SQL that converts trimmed text to ISO 8601.

The order of day and month in 01/02/2024 is decided by the rest of the column, by the other columns
of its table, or by the configuration; otherwise an error requests it.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.runtime.errors import SourceError
from features.sources.files.sql import literal
from features.sources.parsing.text_values import ColumnQuery, Tally, ask

_TIME = (
    r"^[\s,T]*(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*([AaPp]\.?[Mm]\.?)?\s*"
    r"(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$"
)
_ISO = r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}(?:[T ,].*)?$"
_SLASHED = r"^(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})(?:[\sT,].*)?$"
_ORDINAL = r"\d{1,2}(?:st|nd|rd|th)?"
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_NAMED = (
    rf"^(?:[A-Za-z]{{3,9}},?\s+)?(?:{_ORDINAL}[\s-]+{_MONTH},?[\s-]+\d{{2,4}}|"
    rf"{_MONTH}[\s-]+{_ORDINAL},?[\s-]+\d{{4}})(?:[\s,T].*)?$"
)
_COMPACT = r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:T?\d{6}Z?)?$"
_MONTHLY = r"^(?:19|20)\d{2}[-/](?:0?[1-9]|1[0-2])$"
_SERIAL = r"^(3[2-9]|[4-6]\d|7[0-2])\d{3}(?:\.\d+)?$"
_UNIX = {10: r"^\d{9,10}(?:\.\d+)?$", 13: r"^\d{12,13}(?:\.0*)?$", 16: r"^\d{15,16}(?:\.0*)?$",
         19: r"^\d{18,19}$"}  # fmt: skip
_SHAPES = {
    "iso": _ISO, "slashed": _SLASHED, "named": _NAMED, "compact": _COMPACT, "monthly": _MONTHLY,
    "serial": _SERIAL, **{f"unix{digits}": shape for digits, shape in _UNIX.items()},
}  # fmt: skip
_SHAPE_NAMES = {
    "named": "month names", "compact": "dates without separators (20240131)",
    "monthly": "months, read as their first day", "serial": "spreadsheet day numbers",
    "unix10": "Unix seconds", "unix13": "Unix milliseconds", "unix16": "Unix microseconds",
    "unix19": "Unix nanoseconds",
}  # fmt: skip


STRAY = 0.05
"""Share of ambiguous dates in a column up to which it is read, with those rows set aside."""


@dataclass(frozen=True)
class DateFormat:
    """Format of dates and times.

    Attributes
    ----------
    shapes : tuple of str
        Formats other than ISO 8601 that occur; empty when all values are ISO 8601.
    is_day_first : bool
        In 01/02/2024 the day is the 1st.
    at_midnight : bool
        All Unix times lie at midnight and are dates.
    words : str
        Note on the format; empty for ISO 8601.
    """

    shapes: tuple[str, ...] = ()
    is_day_first: bool = False
    at_midnight: bool = False
    words: str = ""


def date_tally_sql(given: str) -> str:
    """Return SQL that counts the date formats of texts, with an example of each."""
    counts = ", ".join(
        f"count(*) FILTER (regexp_matches(t, {literal(shape)})) AS {name}, "
        f"any_value(t) FILTER (regexp_matches(t, {literal(shape)})) AS eg_{name}"
        for name, shape in _SHAPES.items()
    )
    first, second = (
        f"TRY_CAST(regexp_extract(t, {literal(_SLASHED)}, {group}) AS INTEGER)" for group in (1, 2)
    )
    midnight = " AND ".join(
        f"(NOT regexp_matches(t, {literal(_UNIX[digits])}) OR "
        f"TRY_CAST(t AS DOUBLE) % {86_400 * 10 ** (digits - 10)} = 0)"
        for digits in (10, 13)
    )
    return (
        f"SELECT {counts}, count(*) FILTER ({first} > 12) AS first_day, "
        f"count(*) FILTER ({second} > 12) AS second_day, "
        f"count(*) FILTER (regexp_matches(t, {literal(_SLASHED)}) AND contains(left(t, 3), '.')) "
        f"AS dotted, any_value(t) FILTER ({first} > 12) AS eg_first, "
        f"any_value(t) FILTER ({second} > 12) AS eg_second, count(*) AS given, "
        f"coalesce(bool_and({midnight}), false) AS midnight, "
        f"count(*) FILTER (regexp_matches(t, {literal(_ISO)}) AND "
        f"(TRY_CAST(t AS TIMESTAMP) IS NULL OR regexp_matches(t, '(?i)[0-9] ?[ap]\\.?m\\.?$'))) "
        f"AS odd_iso FROM {given}"
    )


def proof_of(tally: Tally) -> bool | None:
    """Return the order proven by slashed dates, None without proof."""
    if not tally["slashed"] or (tally["first_day"] and tally["second_day"]):
        return None
    if tally["first_day"] or tally["second_day"]:
        return bool(tally["first_day"])
    return True if tally["dotted"] == tally["slashed"] else None


def decide_dates(name: str, item: ColumnQuery, tally: Tally, day_first: bool | None) -> DateFormat:
    """Return the format of a column; `day_first` is the order proven by other columns.

    Raises
    ------
    SourceError
        The column has both orders, or its order is ambiguous.
    """
    shapes = tuple(shape for shape in _SHAPES if shape != "iso" and tally[shape])
    if tally["odd_iso"]:
        shapes = (*shapes, "iso")
    notes = [
        f"{_SHAPE_NAMES[shape]}, such as {tally[f'eg_{shape}']}"
        for shape in shapes
        if shape in _SHAPE_NAMES
    ]
    order = False
    if "slashed" in shapes and _is_stray(tally, item, day_first):
        shapes = tuple(shape for shape in shapes if shape != "slashed")
    if "slashed" in shapes:
        order = _order(name, item, tally, day_first)
        eg = tally["eg_first"] or tally["eg_second"] or tally["eg_slashed"]
        notes.append(f"{eg} is read {'day' if order else 'month'} first")
    return DateFormat(shapes, order, bool(tally["midnight"]), "; ".join(notes))


def _is_stray(tally: Tally, item: ColumnQuery, day_first: bool | None) -> bool:
    """Whether only few dates are ambiguous; their rows are set aside."""
    is_open = item.configured is None and proof_of(tally) is None and day_first is None
    return is_open and bool(tally["slashed"] < STRAY * tally["given"])


def _order(name: str, item: ColumnQuery, tally: Tally, day_first: bool | None) -> bool:
    if item.configured in ("day_first", "month_first"):
        return item.configured == "day_first"
    if tally["first_day"] and tally["second_day"]:
        raise SourceError(
            f"column {name!r} writes both day/month and month/day: {tally['eg_first']} and "
            f"{tally['eg_second']}; rows of each: {tally['first_day']:,}, {tally['second_day']:,}",
            fix="export dates as YYYY-MM-DD",
        )
    proof = proof_of(tally)
    order = day_first if proof is None else proof
    if order is None:
        raise SourceError(
            f"the dates of column {name!r} are ambiguous, for example "
            f"{tally['eg_slashed']}: no day is above 12",
            fix=ask(name, "day_first", "month_first"),
        )
    return order


def iso_sql(text: str, style: DateFormat) -> str:
    """Return SQL that converts a trimmed text to ISO 8601; unknown formats are unchanged."""
    if not style.shapes:
        return text
    cases = " ".join(
        f"WHEN regexp_matches({text}, {literal(_SHAPES[shape])}) THEN {_iso_of(text, shape, style)}"
        for shape in style.shapes
    )
    return f"coalesce(CASE {cases} END, {text})"


def _iso_of(text: str, shape: str, style: DateFormat) -> str:
    if shape.startswith("unix"):
        return _iso_of_unix(text, int(shape.removeprefix("unix")), style)
    if shape == "serial":
        at = f"(TIMESTAMP '1899-12-30' + to_seconds(round(TRY_CAST({text} AS DOUBLE) * 86400)))"
        return f"CASE WHEN contains({text}, '.') THEN strftime({at}, '%Y-%m-%d %H:%M:%S') " \
               f"ELSE strftime({at}, '%Y-%m-%d') END"  # fmt: skip
    if shape == "monthly":
        return f"regexp_replace({text}, '^(\\d{{4}})[-/](\\d{{1,2}})$', '\\1-\\2-01')"
    if shape == "compact":
        day = f"regexp_replace(left({text}, 8), '^(....)(..)(..)$', '\\1-\\2-\\3')"
        time = f"regexp_extract({text}, '^\\d{{8}}T?(\\d{{6}}Z?)$', 1)"
        return f"{day} || regexp_replace({time}, '^(..)(..)(..)', ' \\1:\\2:\\3')"
    if shape == "named":
        return _iso_of_named(text)
    return _iso_of_signs(text, shape, style)


def _iso_of_unix(text: str, digits: int, style: DateFormat) -> str:
    micros = f"round(TRY_CAST({text} AS DOUBLE) * {10.0 ** (16 - digits)})"
    at = f"make_timestamp(CAST({micros} AS BIGINT))"
    if style.at_midnight:
        return f"strftime({at}, '%Y-%m-%d')"
    return f"strftime({at}, '%Y-%m-%d %H:%M:%S.%f') || 'Z'"


def _iso_of_named(text: str) -> str:
    month, rest = r"([A-Za-z]{3})[a-z]*\.?,?[\s-]+", "(.*)$"
    day = r"(\d{1,2})(?:st|nd|rd|th)?,?[\s-]+"
    begins = {
        rf"^(?:[A-Za-z]{{3,9}},\s+)?{month}{day}(\d{{4}}){rest}": (2, 1),
        rf"^(?:[A-Za-z]{{3,9}},?\s+)?{day}{month}(\d{{4}}|\d{{2}}){rest}": (1, 2),
    }
    cases = []
    for shape, order in begins.items():
        found = [f"regexp_extract({text}, {literal(shape)}, {group})" for group in (*order, 3, 4)]
        plain = f"{found[0]} || ' ' || {found[1]} || ' ' || {_year(found[2])}"
        cases.append(
            f"WHEN regexp_matches({text}, {literal(shape)}) "
            f"THEN strftime(try_strptime({plain}, '%d %b %Y'), '%Y-%m-%d') || {_time_of(found[3])}"
        )
    return f"CASE {' '.join(cases)} END"


def _iso_of_signs(text: str, shape: str, style: DateFormat) -> str:
    signs = r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})(.*)$"
    order = (1, 2, 3)
    if shape == "slashed":
        signs = r"^(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})(.*)$"
        order = (3, 2, 1) if style.is_day_first else (3, 1, 2)
    year, month, day = (f"regexp_extract({text}, {literal(signs)}, {group})" for group in order)
    rest = f"regexp_extract({text}, {literal(signs)}, 4)"
    return (
        f"{_year(year)} || '-' || lpad({month}, 2, '0') || '-' || lpad({day}, 2, '0') "
        f"|| {_time_of(rest)}"
    )


def _year(text: str) -> str:
    return f"CASE WHEN length({text}) = 4 THEN {text} WHEN {text} < '70' THEN '20' || {text} " \
           f"ELSE '19' || {text} END"  # fmt: skip


def _time_of(rest: str) -> str:
    """Return SQL of the text after a date as ISO 8601: a 24-hour time and its zone, or nothing."""
    clock, half, zone = (
        f"regexp_extract({rest}, {literal(_TIME)}, {group})" for group in (1, 2, 3)
    )
    clock = f"replace({clock}, ',', '.')"
    formats = "['%I:%M %p', '%I:%M:%S %p']"
    halved = (
        f"strftime(try_strptime({clock} || ' ' || upper(replace({half}, '.', '')), {formats}), "
        f"'%H:%M:%S')"
    )
    return (
        f"CASE WHEN trim({rest}) = '' THEN '' WHEN {clock} = '' THEN NULL ELSE ' ' || "
        f"CASE WHEN {half} <> '' THEN {halved} "
        f"WHEN {clock}[2] = ':' THEN '0' || {clock} ELSE {clock} END "
        f"|| CASE WHEN {zone} IN ('UTC', 'GMT') THEN 'Z' ELSE {zone} END END"
    )
