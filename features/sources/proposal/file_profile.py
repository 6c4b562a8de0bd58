"""Profile of raw files: their columns with the kinds of their values and examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import duckdb

from features.sources.files.readers import RawInput
from features.sources.files.sql import ROW, duckdb_errors, ident, one_row
from features.sources.parsing import type_parsing
from features.sources.parsing.column_formats import decide
from features.sources.parsing.text_values import FALSE, TRUE, ColumnQuery, is_missing, words_in
from features.tables.source_tables import SourceColumn

SAMPLE = 3_000
"""Rows of a file whose values are profiled, spread evenly over the file."""

N_EXAMPLES = 4
MAX_VALUES = 12
MOSTLY = 0.95
"""Share of values of a kind from which a column is of that kind."""

_INSTANT = SourceColumn("instant", "")
_NUMBER = SourceColumn("number", "")


def plain_name(header: str) -> str:
    """Return a header without case, spaces, punctuation and vendor marks, for comparison.

    >>> [plain_name(n) for n in ("Created (UTC)", "Stripe_Customer_ID__c", "properties.hs_arr")]
    ['created', 'stripecustomerid', 'arr']
    """
    name = re.sub(r"(?i)\s*\((utc|gmt|local time)\)$", "", header.strip())
    name = re.sub(r"(?i)^(properties|attributes|traits|fields|custom)[._]", "", name)
    name = re.sub(r"__(c|gc|r|pc)$", "", name)
    name = re.sub(r"^(hs|ic|cf|custom)_", "", name)
    return re.sub(r"[^a-z0-9]+", "", name.lower())


_ACCOUNT = re.compile(r"customer|client|company|organi[sz]ation|tenant|workspace|merchant|kunde")
_ID = re.compile(r"(ref|reference|number|no|nr|key|code|uuid|guid|identifier)$")
_TIME = re.compile(r"(datetime|date|timestamp|time|day|on|at)$")


@cache
def common_form(plain: str) -> str:
    """Return a plain name with one word for account, id and time, for a looser comparison.

    >>> [common_form(n) for n in ("clientref", "customerid", "createdon", "creationdate")]
    ['accountid', 'accountid', 'createdat', 'creationat']
    """
    return _TIME.sub("at", _ID.sub("id", _ACCOUNT.sub("account", plain)))


def words_of(header: str) -> frozenset[str]:
    """Return the words of a header.

    >>> sorted(words_of("Stripe_CustomerID__c"))
    ['customer', 'id', 'stripe']
    """
    bare = re.sub(r"__(c|gc|r|pc)$", "", header)
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", bare)
    return frozenset(word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word)


@dataclass(frozen=True)
class ColumnProfile:
    """Values of one column, over the sampled rows.

    Attributes
    ----------
    name : str
        The header.
    rows, filled, distinct : int
        Sampled rows, those with a value, and different values.
    times, numbers, flags, mails, hosts : float
        Shares of the values that are readable as a date or time, a number, yes or no, an e-mail
        address, and a web address.
    dates : float
        Share of the times without a time of day.
    zoned : float
        Share of the times with a zone.
    low, high : float or None
        Smallest and largest number.
    first, last : str or None
        Earliest and latest time, ISO text in UTC.
    examples : tuple of str
        Some of the values, the most frequent first.
    values : tuple of str
        All values, where there are at most `MAX_VALUES` different ones.
    is_ambiguous : bool
        The values leave open the order of day and month, or the decimal mark.
    """

    name: str
    rows: int
    filled: int
    distinct: int
    times: float
    numbers: float
    flags: float
    mails: float
    hosts: float
    dates: float
    zoned: float
    low: float | None
    high: float | None
    first: str | None
    last: str | None
    examples: tuple[str, ...]
    values: tuple[str, ...] = ()
    is_ambiguous: bool = False

    @cached_property
    def plain(self) -> str:
        """The header for comparison (`plain_name`)."""
        return plain_name(self.name)

    @property
    def fill(self) -> float:
        """Share of rows with a value."""
        return self.filled / self.rows if self.rows else 0.0

    @property
    def is_time(self) -> bool:
        """Whether the values are dates or times."""
        return self.filled > 0 and self.times >= MOSTLY

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.filled > 0 and self.numbers >= MOSTLY

    @property
    def is_flag(self) -> bool:
        """Whether the values are yes and no."""
        return self.filled > 0 and self.flags >= MOSTLY and self.distinct <= 4

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value of its own."""
        return self.filled == self.rows > 0 and self.distinct == self.filled


@dataclass(frozen=True)
class FileProfile:
    """One raw input.

    Attributes
    ----------
    source : RawInput
        The opened input.
    columns : dict of str to ColumnProfile
        By header.
    """

    source: RawInput
    columns: dict[str, ColumnProfile]

    @property
    def name(self) -> str:
        """Name of the input."""
        return self.source.name

    @property
    def sample(self) -> str:
        """Name of the temporary table with the sampled rows."""
        return f"sample_{self.source.name}"

    @cached_property
    def by_plain(self) -> dict[str, str]:
        """Plain name to header; of two equal ones the first."""
        found: dict[str, str] = {}
        for header in self.columns:
            found.setdefault(plain_name(header), header)
        return found

    def find(self, names: tuple[str, ...]) -> str | None:
        """Return the first of several names that the file has, as the file writes it."""
        for name in names:
            if name in self.columns:
                return name
        return next(
            (self.by_plain[p] for n in names if (p := plain_name(n)) in self.by_plain), None
        )


def profile_file(connection: duckdb.DuckDBPyConnection, source: RawInput) -> FileProfile:
    """Return the profile of an opened input."""
    step = max(1, -(-source.rows // SAMPLE))
    sample = f"sample_{source.name}"
    with duckdb_errors(source.place):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {ident(sample)} AS SELECT * FROM {source.relation} "
            f"WHERE {ROW} % {step} = 0 OR {ROW} <= 100"
        )
        has_digits = _with_digits(connection, ident(sample), source.columns)
        columns = {
            name: _profile_column(connection, ident(sample), name, kind, has_digits[name])
            for name, kind in source.columns.items()
        }
    return FileProfile(source, columns)


def _with_digits(
    connection: duckdb.DuckDBPyConnection, sample: str, columns: Mapping[str, str]
) -> dict[str, bool]:
    """Return which columns have a digit anywhere: others are neither numbers nor times."""
    parts = ", ".join(
        f"coalesce(bool_or(regexp_matches(CAST({ident(name)} AS VARCHAR), '[0-9]')), false) "
        f"AS {ident(name)}"
        for name in columns
    )
    return one_row(connection, f"SELECT {parts} FROM {sample}")


def _profile_column(
    connection: duckdb.DuckDBPyConnection, sample: str, name: str, kind: str, has_digits: bool
) -> ColumnProfile:
    text = f"nullif(trim(CAST({ident(name)} AS VARCHAR)), '')"
    given = f"CASE WHEN NOT {is_missing(text)} THEN {text} END"
    nothing = ("NULL::VARCHAR", "VARCHAR", False)
    read = _readable(connection, sample, name, kind, _INSTANT) if has_digits else nothing
    time_text, time_kind, time_unclear = read
    read = _readable(connection, sample, name, kind, _NUMBER) if has_digits else nothing
    number_text, number_kind, number_unclear = read
    moment = type_parsing.value(_INSTANT, "time_raw", time_kind, "UTC")
    number = type_parsing.value(_NUMBER, "number_raw", number_kind, "UTC")
    is_text = type_parsing.is_text_type(time_kind)
    zoned = type_parsing.zoned_text("time_raw") if is_text else "false"
    found = one_row(
        connection,
        f"WITH texts AS (SELECT {given} AS t, {time_text} AS time_raw, {number_text} AS number_raw "
        f"FROM {sample}), typed AS (SELECT t, {moment} AS moment, {number} AS number, "
        f"{type_parsing.date_text('time_raw', time_kind)} AS is_date, {zoned} AS is_zoned "
        f"FROM texts) "
        f"SELECT count(*) AS rows, count(t) AS filled, count(DISTINCT t) AS distinct_n, "
        f"count(moment) FILTER (t IS NOT NULL) AS times, "
        f"count(number) FILTER (t IS NOT NULL) AS numbers, "
        f"count(*) FILTER (lower(t) IN {words_in((*TRUE, *FALSE))}) AS flags, "
        f"count(*) FILTER (regexp_full_match(t, '[^@\\s]+@[^@\\s]+[.][a-zA-Z]+')) AS mails, "
        f"count(*) FILTER (regexp_full_match(lower(t), "
        f"'(https?://)?([a-z0-9-]+[.])+[a-z]{{2,}}(/.*)?')) AS hosts, "
        f"count(*) FILTER (is_date AND moment IS NOT NULL) AS dates, "
        f"count(*) FILTER (is_zoned AND moment IS NOT NULL) AS zoned, "
        f"min(number) AS low, max(number) AS high, CAST(min(moment) AS VARCHAR) AS first, "
        f"CAST(max(moment) AS VARCHAR) AS last FROM typed",
    )
    examples = connection.execute(
        f"SELECT t FROM (SELECT {given} AS t, {ROW} AS n FROM {sample}) WHERE t IS NOT NULL "
        f"GROUP BY t ORDER BY count(*) DESC, min(n) LIMIT {MAX_VALUES + 1}"
    ).fetchall()
    filled = int(found["filled"])
    shares = {
        key: found[key] / filled if filled else 0.0
        for key in ("numbers", "flags", "mails", "hosts")
    }
    # A plain number is a Unix time or a spreadsheet day only where its name says so.
    is_dated = found["times"] and (shares["numbers"] < MOSTLY or _named_time(name))
    times = int(found["times"]) if is_dated else 0
    return ColumnProfile(
        name=name,
        rows=int(found["rows"]),
        filled=filled,
        distinct=int(found["distinct_n"]),
        times=times / filled if filled else 0.0,
        dates=found["dates"] / times if times else 0.0,
        zoned=found["zoned"] / times if times else 0.0,
        low=found["low"],
        high=found["high"],
        first=found["first"] if times else None,
        last=found["last"] if times else None,
        examples=tuple(str(row[0])[:80] for row in examples[:N_EXAMPLES]),
        values=tuple(str(row[0]) for row in examples) if len(examples) <= MAX_VALUES else (),
        is_ambiguous=(bool(times) and time_unclear) or (bool(found["numbers"]) and number_unclear),
        **shares,
    )


def _named_time(name: str) -> bool:
    return bool(
        words_of(name)
        & {"date", "time", "timestamp", "at", "on", "day", "created", "closed", "updated", "ts",
           "start", "end", "starts", "ends", "opened", "solved", "sent", "received", "due", "paid"}
    )  # fmt: skip


def _readable(
    connection: duckdb.DuckDBPyConnection, sample: str, name: str, kind: str, column: SourceColumn
) -> tuple[str, str, bool]:
    """Return SQL and type of the prepared value in its detected format, and if it is unclear."""
    text, prepared_kind = type_parsing.prepared(column, ident(name), kind)
    if not type_parsing.is_text_type(prepared_kind):
        return text, prepared_kind, False
    query = ColumnQuery(text, "time" if column is _INSTANT else "number")
    decided = decide(connection, sample, {"value": query})
    style = decided.styles.get("value")
    text, prepared_kind = type_parsing.prepared(column, ident(name), kind, style)
    return text, prepared_kind, bool(decided.open)
