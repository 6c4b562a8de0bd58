"""Formats of text columns, decided over whole columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb

from configs.runtime.errors import BellwetherError, SourceError, combined_error
from features.sources.files.sql import ident, one_row
from features.sources.parsing import dates, numbers
from features.sources.parsing.dates import DateFormat
from features.sources.parsing.numbers import NumberFormat
from features.sources.parsing.text_values import ColumnQuery, Tally, is_missing

Style = NumberFormat | DateFormat


@dataclass(frozen=True)
class ColumnFormat:
    """Formats of the columns of one table.

    Attributes
    ----------
    styles : dict of str to Style
        Format by column.
    open : dict of str to BellwetherError
        Ambiguous columns and their errors.
    day_first : bool or None
        Order proven by the slashed dates of these columns; None without proof.
    """

    styles: dict[str, Style] = field(default_factory=dict)
    open: dict[str, BellwetherError] = field(default_factory=dict)
    day_first: bool | None = None

    def sure(self) -> dict[str, Style]:
        """Return the formats.

        Raises
        ------
        BellwetherError
            Some columns are ambiguous; the error lists all of them.
        """
        if self.open:
            raise combined_error(list(self.open.values()))
        return self.styles


def decide(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    queries: Mapping[str, ColumnQuery],
    *,
    day_first: bool | None = None,
    where: str = "",
) -> ColumnFormat:
    """Decide the format of every column in one or two scans of their relation.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the relation.
    relation : str
        SQL name of the relation.
    queries : mapping of str to ColumnQuery
        The text columns.
    day_first : bool or None
        Order proven by another file or table, for columns without proof of their own.
    where : str
        File or mapping, for messages.
    """
    if not queries:
        return ColumnFormat()
    texts = ", ".join(f"{item.expression} AS {ident(name)}" for name, item in queries.items())
    source = f"(SELECT {texts} FROM {relation})"
    odd = _odd_columns(connection, source, queries)
    tallies = {
        name: _tally(connection, source, name, queries[name].kind)
        for name, is_odd in odd.items()
        if is_odd
    }
    proofs = {name: dates.proof_of(tally) for name, tally in tallies.items() if "slashed" in tally}
    agreed = {proof for proof in proofs.values() if proof is not None}
    shared = agreed.pop() if len(agreed) == 1 else day_first
    styles: dict[str, Style] = {}
    unclear: dict[str, BellwetherError] = {}
    for name, item in queries.items():
        try:
            styles[name] = _style(name, item, tallies.get(name), shared)
        except SourceError as error:
            unclear[name] = SourceError(error.what, where=where, fix=error.fix)
    proven = {proof for proof in proofs.values() if proof is not None}
    return ColumnFormat(styles, unclear, proven.pop() if len(proven) == 1 else None)


def _odd_columns(
    connection: duckdb.DuckDBPyConnection, source: str, queries: Mapping[str, ColumnQuery]
) -> dict[str, bool]:
    """Return which columns have values outside the standard format."""
    parts = []
    for name, item in queries.items():
        text = ident(name)
        if item.kind == "time":
            plain = f"(TRY_CAST({text} AS TIMESTAMP) IS NOT NULL AND right({text}, 1) NOT IN "
            plain += "('m', 'M', '.'))"
        else:
            # A point and three digits may be a thousand.
            dotted = f"(contains({text}, '.') AND left(right({text}, 4), 1) = '.')"
            plain = f"(TRY_CAST({text} AS DOUBLE) IS NOT NULL AND NOT {dotted} "
            plain += f"AND NOT contains({text}, '_'))"
        odd = f"({text} IS NOT NULL AND NOT {plain} AND NOT {is_missing(text)})"
        parts.append(f"coalesce(bool_or({odd}), false) AS {text}")
    return one_row(connection, f"SELECT {', '.join(parts)} FROM {source}")


def _tally(connection: duckdb.DuckDBPyConnection, source: str, name: str, kind: str) -> Tally:
    text = ident(name)
    given = (
        f"(SELECT {text} AS t FROM {source} WHERE {text} IS NOT NULL AND NOT {is_missing(text)})"
    )
    query = dates.date_tally_sql(given) if kind == "time" else numbers.number_tally_sql(given)
    return one_row(connection, query)


def _style(name: str, item: ColumnQuery, tally: Tally | None, day_first: bool | None) -> Style:
    if item.kind == "time":
        return dates.decide_dates(name, item, tally, day_first) if tally else DateFormat()
    return numbers.decide_numbers(name, item, tally) if tally else NumberFormat()
