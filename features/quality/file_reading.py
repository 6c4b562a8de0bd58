"""Issues of reading: lines, encodings, ways of writing, and rows that SQL loses or doubles."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema.company import grid_moments
from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.sources import TableInfo
from features.tables.source_tables import TABLES

CURRENCIES = {
    "$": {"USD", "AUD", "CAD", "NZD", "SGD", "HKD", "MXN", "CLP", "COP", "ARS"},
    "US$": {"USD"}, "A$": {"AUD"}, "C$": {"CAD"}, "€": {"EUR"}, "£": {"GBP", "EGP"},
    "¥": {"JPY", "CNY"}, "₹": {"INR"}, "₩": {"KRW"}, "₽": {"RUB"}, "Fr.": {"CHF"},
    "kr": {"SEK", "NOK", "DKK"}, "zł": {"PLN"},
}  # fmt: skip
"""Currencies that a mark may stand for; a mark that is not here is a code of its own."""


def line_issues(context: QualityContext) -> Iterator[Issue]:
    """Report lines of files that are neither among the rows nor set aside; there may be none."""
    for info in context.loaded.tables.values():
        for name, lines in info.read.get("lines", {}).items():
            lost = lines["total"] - lines["kept"] - lines["set_aside"]
            if lost:
                detail = (
                    f"input {name}: {lines['total']:,} lines, of which {lines['kept']:,} are kept "
                    f"and {lines['set_aside']:,} set aside: a difference of {lost:,}"
                )
                yield context.issue("lines_lost", info.name, abs(lost), lines["total"], detail)


def file_issues(context: QualityContext) -> Iterator[Issue]:
    """Report files in another encoding, and columns that are not written as computers do."""
    for info in context.loaded.tables.values():
        for note in info.read.get("file_notes", []):
            yield context.issue("other_encoding", info.name, 0, None, note)
        written = info.read.get("written", {})
        if written:
            detail = "; ".join(f"{column}: {words}" for column, words in written.items())
            yield context.issue("written_otherwise", info.name, len(written), None, detail)


def mark_issues(context: QualityContext) -> Iterator[Issue]:
    """Report amounts whose mark is of another currency than the one they are taken for."""
    home = context.workspace.company.reporting_currency
    for info in context.loaded.tables.values():
        if "currency" in info.columns:
            continue
        for column, marks in info.read.get("marks", {}).items():
            other = [mark for mark in marks if home not in CURRENCIES.get(mark, {mark})]
            if other:
                detail = f"{column} carries {', '.join(other)}, and is taken for {home}"
                yield context.issue("other_currency", info.name, info.rows, info.rows, detail)


def sql_issues(context: QualityContext) -> Iterator[Issue]:
    """Report what the `sql` of a mapping loses or yields more than once, and whom it reaches."""
    for info in context.loaded.tables.values():
        rows = info.read.get("sql_rows")
        if rows is None:
            continue
        told = f"{rows['input']}: {rows['rows_in']:,} rows in, {rows['rows_out']:,} out"
        reached = _reached(context, info)
        if not rows["is_followed"]:
            if rows["rows_in"] != rows["rows_out"]:
                yield context.issue("sql_rows", info.name, 0, None, f"{told}{reached}")
            continue
        parts = {"lost": "lost in a join", "doubled": "yielded again by a join"}
        words = [f"{rows[key]:,} {text}" for key, text in parts.items() if rows[key]]
        words += [f"{rows['filtered']:,} left out by WHERE"] if rows["filtered"] else []
        detail = f"{told}; {', '.join(words)}{reached}"
        for key, code in (("lost", "sql_loses_rows"), ("doubled", "sql_doubles_rows")):
            if rows[key]:
                yield context.issue(code, info.name, rows[key], rows["rows_in"], detail)
        if rows["filtered"] and not rows["lost"] and not rows["doubled"]:
            yield context.issue("sql_rows", info.name, rows["filtered"], rows["rows_in"], detail)


def _reached(context: QualityContext, info: TableInfo) -> str:
    if "account_id" not in TABLES[info.name].columns or info.name == "accounts":
        return ""
    found = context.ask(
        f"SELECT (SELECT count(DISTINCT account_id) FROM {info.name}) AS n, "
        f"(SELECT count(DISTINCT account_id) FROM accounts) AS whole"
    )
    return f"; {found['n']:,} of {found['whole']:,} accounts reached"


def repeated_issues(context: QualityContext) -> Iterator[Issue]:
    """Report ids of events that come more than once while no `event_id` is mapped."""
    for info in context.loaded.tables.values():
        for column, found in info.read.get("repeated_ids", {}).items():
            detail = (
                f"message ids that come more than once: {found['repeated']:,} of {found['ids']:,} "
                f"in column {column}; {count_of(found['rows'], info.rows_read)} count again"
            )
            yield context.issue(
                "repeated_events",
                info.name,
                found["rows"],
                info.rows_read,
                detail,
                advice=f"map it under tables.{info.name}.columns:  event_id: {column}",
            )


def label_day_issues(context: QualityContext) -> Iterator[Issue]:
    """Report days of the labels table that the grid does not have of itself."""
    if not context.has("labels"):
        return
    found = context.connection.execute("SELECT DISTINCT as_of_on FROM labels ORDER BY 1").fetchall()
    days = [day for (day,) in found]
    if not days:
        return
    grid = set(grid_moments(context.workspace.company.grid.every, days[0], days[-1]))
    other = [day for day in days if day not in grid]
    if other:
        detail = f"{count_of(len(other), len(days), 'days')}, such as {other[0]}"
        yield context.issue("labels_extend_grid", "labels", len(other), len(days), detail)
