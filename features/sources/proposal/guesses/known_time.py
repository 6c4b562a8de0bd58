"""The column that says when a row became known, proposed only where the data supports it."""

from __future__ import annotations

import duckdb

from features.sources.files.sql import ident, one_row
from features.sources.parsing import type_parsing
from features.sources.parsing.column_formats import decide
from features.sources.parsing.text_values import ColumnQuery
from features.sources.proposal.draft import Choice, TableDraft
from features.sources.proposal.file_profile import plain_name
from features.sources.proposal.guesses.column_names import KNOWN_NAMES
from features.sources.proposal.starters import is_overwritten_name
from features.tables.source_tables import TABLES, SourceColumn

_INSTANT = SourceColumn("instant", "")
MOSTLY_AFTER = 0.99
"""Share of rows that must be known after they happened."""
ONE_DAY = 0.2
"""Share of rows known on one day from which a bulk load set the time."""
USUAL_DELAY_DAYS = 45
"""Median delay above which the column is not the time a row arrived."""
MIN_ROWS = 3


def set_known_at(connection: duckdb.DuckDBPyConnection, draft: TableDraft) -> None:
    """Keep or find the column of `known_at`; a column that the data contradicts is refused.

    A column that changes in place, that precedes the event, or that one bulk load has set says
    nothing about when a row was known.
    """
    happened = draft.happened_column(TABLES[draft.table].happened)
    asked = [draft.known_at.value] if draft.known_at else []
    draft.known_at = None
    if happened is None or not draft.file.columns[happened].is_time:
        return
    by_name = [
        header
        for name in KNOWN_NAMES
        for header in draft.file.columns
        if plain_name(header) == name
    ]
    for header in dict.fromkeys([*asked, *by_name]):
        column = draft.file.columns[header]
        if header == happened or not column.is_time or column.fill < 0.9:
            continue
        if header in draft.overwritten or is_overwritten_name(header):
            continue
        problem = _contradiction(connection, draft, header, happened)
        if problem is None:
            draft.known_at = Choice(
                header,
                f"{header} follows {happened} in at least {MOSTLY_AFTER:.0%} of rows",
                "high" if header in asked else "medium",
            )
            return
        if header in asked:
            draft.notes.append(f"{header} is not used as known_at: {problem}")


def _contradiction(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, known: str, happened: str
) -> str | None:
    """Return why a column cannot be the time a row became known; None where it can."""
    types = draft.file.source.columns
    texts = [_prepared(connection, draft, name, types[name]) for name in (known, happened)]
    moments = [type_parsing.value(_INSTANT, text, kind, "UTC") for text, kind in texts]
    found = one_row(
        connection,
        f"WITH rows AS (SELECT {moments[0]} AS known, {moments[1]} AS happened "
        f"FROM {draft.file.source.relation}), pairs AS (SELECT * FROM rows WHERE known IS NOT NULL "
        f"AND happened IS NOT NULL) SELECT count(*) AS n, "
        f"avg(CAST(CAST(known AS DATE) >= CAST(happened AS DATE) AS INTEGER)) AS after, "
        f"median(date_diff('day', happened, known)) AS delay, "
        f"(SELECT max(n) FROM (SELECT count(*) AS n FROM pairs GROUP BY CAST(known AS DATE))) "
        f"AS most, (SELECT max(n) FROM (SELECT count(*) AS n FROM pairs "
        f"GROUP BY CAST(happened AS DATE))) AS usual FROM pairs",
    )
    if found["n"] < MIN_ROWS:
        return "too few rows have both times"
    if found["after"] < MOSTLY_AFTER:
        return f"{1 - found['after']:.0%} of its times precede {happened}"
    is_bulk = found["most"] > max(ONE_DAY * found["n"], 2 * found["usual"])
    if is_bulk and found["n"] > 20:
        return f"{found['most'] / found['n']:.0%} of its times lie on one day, as after a bulk load"
    if found["delay"] > USUAL_DELAY_DAYS:
        return f"it lies {found['delay']:.0f} days after {happened} (median)"
    return None


def _prepared(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, name: str, kind: str
) -> tuple[str, str]:
    """Return SQL and type of a time in the detected format of its column."""
    text, prepared_kind = type_parsing.prepared(_INSTANT, ident(name), kind)
    if not type_parsing.is_text_type(prepared_kind):
        return text, prepared_kind
    decided = decide(connection, ident(draft.file.sample), {"t": ColumnQuery(text, "time")})
    return type_parsing.prepared(_INSTANT, ident(name), kind, decided.styles.get("t"))
