"""Issues of reading files: lines, encodings, formats, and rows that SQL drops or repeats."""

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
"""Currencies of each mark; other marks are currency codes."""


def line_issues(context: QualityContext) -> Iterator[Issue]:
    """Report lines of files that are neither rows nor set aside."""
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
    """Report files in another encoding, and columns in a non-standard format."""
    for info in context.loaded.tables.values():
        for note in info.read.get("file_notes", []):
            yield context.issue("other_encoding", info.name, 0, None, note)
        written = info.read.get("written", {})
        if written:
            detail = "; ".join(f"{column}: {words}" for column, words in written.items())
            yield context.issue("written_otherwise", info.name, len(written), None, detail)


def mark_issues(context: QualityContext) -> Iterator[Issue]:
    """Report amounts with the mark of another currency than the assumed one."""
    home = context.workspace.company.reporting_currency
    for info in context.loaded.tables.values():
        if "currency" in info.columns:
            continue
        for column, marks in info.read.get("marks", {}).items():
            other = [mark for mark in marks if home not in CURRENCIES.get(mark, {mark})]
            if other:
                detail = f"{column} has {', '.join(other)}, read as {home}"
                yield context.issue("other_currency", info.name, info.rows, info.rows, detail)


def sql_issues(context: QualityContext) -> Iterator[Issue]:
    """Report rows that the `sql` of a mapping drops or repeats, and the accounts it covers."""
    for info in context.loaded.tables.values():
        rows = info.read.get("sql_rows")
        if rows is None:
            continue
        counts = f"{rows['input']}: {rows['rows_in']:,} rows in, {rows['rows_out']:,} out"
        reached = _coverage(context, info)
        if not rows["is_followed"]:
            if rows["rows_in"] != rows["rows_out"]:
                yield context.issue("sql_rows", info.name, 0, None, f"{counts}{reached}")
            continue
        parts = {
            "dropped by a join": rows["lost"],
            "repeated by a join": rows["doubled"],
            "left out by WHERE": rows["filtered"],
        }
        words = [f"{count:,} {text}" for text, count in parts.items() if count]
        detail = f"{counts}; {', '.join(words)}{reached}"
        for code, count in (
            ("sql_loses_rows", rows["lost"]),
            ("sql_doubles_rows", rows["doubled"]),
        ):
            if count:
                yield context.issue(code, info.name, count, rows["rows_in"], detail)
        if rows["filtered"] and not rows["lost"] and not rows["doubled"]:
            yield context.issue("sql_rows", info.name, rows["filtered"], rows["rows_in"], detail)


def _coverage(context: QualityContext, info: TableInfo) -> str:
    if "account_id" not in TABLES[info.name].columns or info.name == "accounts":
        return ""
    found = context.query_row(
        f"SELECT (SELECT count(DISTINCT account_id) FROM {info.name}) AS n, "
        f"(SELECT count(DISTINCT account_id) FROM accounts) AS whole"
    )
    return f"; {found['n']:,} of {found['whole']:,} accounts covered"


def repeated_issues(context: QualityContext) -> Iterator[Issue]:
    """Report repeated event ids while no `event_id` is mapped."""
    for info in context.loaded.tables.values():
        for column, found in info.read.get("repeated_ids", {}).items():
            detail = (
                f"repeated event ids: {found['repeated']:,} of {found['ids']:,} "
                f"in column {column}; {count_of(found['rows'], info.rows_read)} counted again"
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
    """Report days of the labels table outside the grid."""
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
