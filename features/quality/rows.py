"""Issues the row rules found while loading: read from the manifests, no table is scanned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from features.quality.context import Context, counted
from features.quality.report import Issue
from features.sources import TableInfo

SET_ASIDE = {
    "malformed_line": "malformed_lines",
    "missing": "missing_values",
    "sentinel": "missing_values",
    "unparsable": "unparsable_values",
    "out_of_bounds": "out_of_bounds",
    "out_of_scale": "out_of_bounds",
    "not_allowed": "not_allowed",
    "unknown_account": "unknown_accounts",
    "time_order": "time_order",
    "superseded": "duplicate_keys",
}
"""Reason in the quarantine → issue."""

KEPT = {
    "before_account": "before_account",
    "time_order": "order_tolerated",
    "sentinel": "sentinel_dates",
    "known_at_missing": "known_at_missing",
    "known_before_happened": "known_before_happened",
}
"""Reason noted on a kept row → issue."""


def row_issues(context: Context) -> Iterator[Issue]:
    """Report what was set aside, counted once, or kept in spite of something."""
    for info in context.loaded.tables.values():
        yield from _grouped(context, info, info.quarantined, SET_ASIDE, "set aside")
        yield from _grouped(context, info, info.noted, KEPT, "kept")
        if info.rows_duplicate:
            detail = counted(info.rows_duplicate, info.rows_read)
            yield context.issue(
                "exact_copies", info.name, info.rows_duplicate, info.rows_read, detail
            )
        if info.rows_after_now:
            detail = f"{counted(info.rows_after_now, info.rows)}, up to {info.last_happened}"
            yield context.issue("after_now", info.name, info.rows_after_now, info.rows, detail)


def _grouped(
    context: Context,
    info: TableInfo,
    found: Mapping[str, int],
    codes: Mapping[str, str],
    fate: str,
) -> Iterator[Issue]:
    grouped: dict[str, dict[str, int]] = {}
    for reason, rows in found.items():
        what, _, column = reason.partition(":")
        counts = grouped.setdefault(codes[what], {})
        counts[column] = max(rows, counts.get(column, 0))
    for code, columns in grouped.items():
        rows = min(sum(columns.values()), info.rows_read)
        named = ", ".join(f"{column} {count:,}" for column, count in columns.items() if column)
        detail = f"{counted(rows, info.rows_read)} {fate}" + (f" ({named})" if named else "")
        yield context.issue(code, info.name, rows, info.rows_read, detail)
