"""How the mapped columns of one source table are written: what `written` says, or the columns."""

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
MOMENT = SourceColumn("instant", "when the row became visible")


def with_ways(connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable) -> Mapped:
    """Return the mapping with the way each of its columns of text is written.

    Raises
    ------
    ConfigError
        `written` names a column that is not mapped, or that is neither a number nor a date.
    SourceError
        Columns can be read in two ways, and nothing decides which; all of them at once.
    """
    wanted = {**mapped.expressions, **({KNOWN_AT: mapped.known_at} if mapped.known_at else {})}
    questions = {}
    for name, text in wanted.items():
        column = spec.columns.get(name, MOMENT)
        trimmed, kind = type_parsing.prepared(column, text, mapped.types[name])
        if type_parsing.is_text_type(kind) and column.kind in NUMBERS | type_parsing.TIMES:
            questions[name] = _question(mapped, name, column, trimmed)
    _refuse_unknown(mapped, questions)
    decided = decide(connection, mapped.relation, questions, where=mapped.place)
    return replace(mapped, styles=decided.sure())


def _question(mapped: Mapped, name: str, column: SourceColumn, trimmed: str) -> ColumnQuery:
    return ColumnQuery(
        trimmed,
        "number" if column.kind in NUMBERS else "time",
        told=mapped.mapping.written.get(name),
        is_money=name in MONEY,
        is_whole=column.kind == "count",
        high=column.high,
        has_currency="currency" in mapped.expressions,
    )


def _refuse_unknown(mapped: Mapped, questions: Mapping[str, ColumnQuery]) -> None:
    for name in mapped.mapping.written:
        if name not in questions:
            raise ConfigError(
                f"`written` names {name}, which is no column of text that holds numbers or dates; "
                f"{did_you_mean(name, questions) or 'those are: ' + ', '.join(questions)}",
                where=f"tables.{mapped.table}.written in company.yaml",
                fix="correct the name, or leave it out",
            )


def format_words(styles: Mapping[str, Style]) -> dict[str, str]:
    """Return what a reader should know about each column."""
    return {name: style.words for name, style in styles.items() if style.words}


def marks_of(styles: Mapping[str, Style]) -> dict[str, list[str]]:
    """Return the currency marks that amounts carry, by column."""
    return {
        name: list(style.marks)
        for name, style in styles.items()
        if isinstance(style, NumberFormat) and style.marks
    }
