"""Formats of the mapped text columns of one source table: configured in `written`, or detected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import duckdb

from configs.runtime.errors import ConfigError, did_you_mean
from features.sources.mapping import KNOWN_AT, Mapped
from features.sources.parsing import type_parsing
from features.sources.parsing.column_formats import Style, decide
from features.sources.parsing.numbers import NumberFormat
from features.sources.parsing.text_values import ColumnQuery
from features.tables.source_tables import SourceColumn, SourceTable

MONEY = frozenset({"arr", "amount", "list_price"})
NUMBERS = frozenset({"number", "count"})
INSTANT = SourceColumn("instant", "time the row became visible")


def with_formats(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable
) -> Mapped:
    """Return the mapping with the format of each of its text columns.

    Raises
    ------
    ConfigError
        `written` has a column that is not mapped, or that holds neither numbers nor dates.
    SourceError
        The format of some columns is ambiguous; the error lists all of them.
    """
    wanted = {**mapped.expressions, **({KNOWN_AT: mapped.known_at} if mapped.known_at else {})}
    queries = {}
    for name, text in wanted.items():
        column = spec.columns.get(name, INSTANT)
        trimmed, kind = type_parsing.prepared(column, text, mapped.types[name])
        if type_parsing.is_text_type(kind) and column.kind in NUMBERS | type_parsing.TIMES:
            queries[name] = _query(mapped, name, column, trimmed)
    _check_written(mapped, queries)
    decided = decide(connection, mapped.relation, queries, where=mapped.place)
    return replace(mapped, styles=decided.sure())


def _query(mapped: Mapped, name: str, column: SourceColumn, trimmed: str) -> ColumnQuery:
    return ColumnQuery(
        trimmed,
        "number" if column.kind in NUMBERS else "time",
        configured=mapped.mapping.written.get(name),
        is_money=name in MONEY,
        is_whole=column.kind == "count",
        high=column.high,
        has_currency="currency" in mapped.expressions,
    )


def _check_written(mapped: Mapped, queries: Mapping[str, ColumnQuery]) -> None:
    for name in mapped.mapping.written:
        if name not in queries:
            raise ConfigError(
                f"`written` has {name}, which is not a text column of numbers or dates; "
                f"{did_you_mean(name, queries) or 'those are: ' + ', '.join(queries)}",
                where=f"tables.{mapped.table}.written in company.yaml",
                fix="correct the name, or leave it out",
            )


def format_notes(styles: Mapping[str, Style]) -> dict[str, str]:
    """Return the note on the format of each column, where it is not the standard one."""
    return {name: style.words for name, style in styles.items() if style.words}


def currency_marks(styles: Mapping[str, Style]) -> dict[str, list[str]]:
    """Return the currency marks of amounts by column."""
    return {
        name: list(style.marks)
        for name, style in styles.items()
        if isinstance(style, NumberFormat) and style.marks
    }
