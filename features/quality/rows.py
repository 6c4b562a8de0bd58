"""Issues found by the row rules while loading, read from the manifests without a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.sources import TableInfo
from features.sources.cleaning.demo_accounts import REASON as TEST_ACCOUNT

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
    "delivered_again": "delivered_again",
    "rolled_up": "rolled_up",
    "left_out": "left_out",
    "forgotten": "forgotten",
    "in_another_source": "in_another_source",
}
"""Reason in the quarantine → issue."""

KEPT = {
    "before_account": "before_account",
    "time_order": "order_tolerated",
    "sentinel": "sentinel_dates",
    "known_at_missing": "known_at_missing",
    "known_before_happened": "known_before_happened",
    "other_event": "other_event",
    "no_contract_product": "no_contract_product",
}
"""Reason noted on a kept row → issue."""


SHOWN = 6
"""Values of an issue that are shown."""


def row_issues(context: QualityContext) -> Iterator[Issue]:
    """Report rows set aside, exact copies, rows after the clock, and rows kept with a note."""
    for info in context.loaded.tables.values():
        set_aside = {reason: n for reason, n in info.quarantined.items() if reason != TEST_ACCOUNT}
        yield from _grouped(context, info, set_aside, SET_ASIDE, "set aside")
        yield from _grouped(context, info, info.noted, KEPT, "kept")
        if info.rows_duplicate:
            detail = count_of(info.rows_duplicate, info.rows_read)
            yield context.issue(
                "exact_copies", info.name, info.rows_duplicate, info.rows_read, detail
            )
        if info.rows_after_now:
            detail = f"{count_of(info.rows_after_now, info.rows)}, up to {info.last_happened}"
            yield context.issue("after_now", info.name, info.rows_after_now, info.rows, detail)


def excluded_account_issues(context: QualityContext) -> Iterator[Issue]:
    """Report test accounts, and their rows in all other tables."""
    counts = {
        name: info.quarantined.get(TEST_ACCOUNT, 0) for name, info in context.loaded.tables.items()
    }
    n_accounts = counts.pop("accounts", 0)
    if n_accounts:
        whole = context.loaded.info("accounts").rows_read
        detail = (
            f"{count_of(n_accounts, whole)}: test accounts, set aside with their "
            f"{sum(counts.values()):,} rows in other tables"
        )
        yield context.issue("not_counted", "accounts", n_accounts, whole, detail)


def _grouped(
    context: QualityContext,
    info: TableInfo,
    found: Mapping[str, int],
    codes: Mapping[str, str],
    kept: str,
) -> Iterator[Issue]:
    grouped: dict[str, dict[str, int]] = {}
    for reason, rows in found.items():
        what, _, column = reason.partition(":")
        is_label = what == "before_account" and info.name == "labels"
        counts = grouped.setdefault("labels_before_account" if is_label else codes[what], {})
        counts[column] = max(rows, counts.get(column, 0))
    for code, columns in grouped.items():
        rows = min(sum(columns.values()), info.rows_read)
        named = ", ".join(f"{column} {count:,}" for column, count in columns.items() if column)
        detail = f"{count_of(rows, info.rows_read)} {kept}" + (f" ({named})" if named else "")
        reasons = [reason for reason in found if codes[reason.partition(":")[0]] == code]
        detail += _examples(info, reasons)
        advice = "; ".join(_remedies(info, reasons))
        yield context.issue(code, info.name, rows, info.rows_read, detail, advice)


def _examples(info: TableInfo, reasons: list[str]) -> str:
    """Return some of the values as written in the source."""
    values = [repr(v) for r in reasons for v in info.read.get("examples", {}).get(r, [])]
    return f": {', '.join(values[:SHOWN])}" if values else ""


def _remedies(info: TableInfo, reasons: list[str]) -> list[str]:
    found = info.read.get("remedies", {})
    return list(dict.fromkeys(found[reason] for reason in reasons if reason in found))
