"""Issues of changes within the history of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from features.quality.changes import (
    categories,
    deliveries,
    filling,
    group_outages,
    identities,
    instants,
    partitions,
    silences,
    units,
)
from features.quality.changes.categories import ValueChange
from features.quality.changes.group_outages import GroupOutage
from features.quality.changes.long_outages import long_outage_issues
from features.quality.changes.silences import Silence
from features.quality.changes.units import UnitChange
from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.sources.files.sql import literal
from features.sources.manifest import OutsideValues
from features.tables.source_tables import TABLES

FLOWS = (
    "usage_events",
    "support_tickets",
    "survey_responses",
    "touches",
    "health_scores",
    "entitlements",
    "invoices",
)
"""Tables with rows at all times, in which an absence of rows looks like an absence of activity."""

SHOWN = 5
"""Maximum number of ids named in an issue."""


def outage_issues(context: QualityContext) -> Iterator[Issue]:
    """Report groups of accounts, or parts of the product, whose rows stop and return together.

    Accounts without a common attribute are searched next, for silences of days, then of weeks.
    """
    for table in _flows(context):
        found = [
            _group_outage(context, item) for item in group_outages.group_outages(context, table)
        ]
        yield from found
        if found or not TABLES[table].activity:
            continue
        silence = silences.common_silence(context, table)
        if silence is not None:
            yield _silence_issue(context, table, silence)
        else:
            yield from long_outage_issues(context, table)


def _silence_issue(context: QualityContext, table: str, silence: Silence) -> Issue:
    n = len(silence.accounts)
    detail = (
        f"{count_of(n, silence.whole, 'accounts that are active on such days')} have no rows from "
        f"{silence.first} to {silence.last}, where {silence.usual:.0f} are usual; the others "
        f"continue{_ending(silence.has_ended)}: {named(silence.accounts)}"
    )
    issue = context.issue("partial_outage", table, n, silence.whole, detail)
    where = _days_where(table, silence.first, silence.last)
    return replace(issue, accounts=silence.accounts, rows_where=where)


def _group_outage(context: QualityContext, item: GroupOutage) -> Issue:
    accounts = tuple(group_outages.outage_accounts(context, item))
    whole = group_outages.active_accounts(context, item)
    part = f"{item.column} {', '.join(item.levels)}"
    detail = (
        f"no rows with {part} from {item.first} to {item.last}: about {item.missing:,.0f} rows "
        f"are missing of {count_of(len(accounts), whole, 'accounts')}; the others continue"
        f"{_ending(item.has_ended)}"
    )
    advice = f"check the tracking of {part} on these days and load the rows again"
    if item.is_of_account:
        advice += "; a public holiday of a region is no fault"
    issue = context.issue("partial_outage", item.table, len(accounts), whole, detail, advice)
    where = _days_where(item.table, item.first, item.last)
    return replace(issue, accounts=accounts, rows_where=where)


def partition_issues(context: QualityContext) -> Iterator[Issue]:
    """Report missing and late days or months of tables with regular rows."""
    for table in _flows(context):
        for hole in partitions.holes(context, table):
            code = "late_partition" if hole.is_late else "missing_partition"
            if code == "missing_partition" and table == "usage_events":
                continue  # telemetry_gaps
            n_days = (hole.last - hole.first).days + 1
            days = str(hole.first) if n_days == 1 else f"{hole.first} to {hole.last}"
            usual = f" of about {hole.usual:,.0f} usual ones" if hole.usual else ""
            detail = f"{days}: {hole.rows:,.0f} rows{usual}"
            issue = context.issue(code, table, n_days, None, detail)
            yield replace(issue, rows_where=_days_where(table, hole.first, hole.last))


def category_issues(context: QualityContext) -> Iterator[Issue]:
    """Report values that are renamed, vanish, or are new and large."""
    for table in context.loaded.tables:
        if table in {"accounts", "owners", "rates", "labels", "contacts", "milestones"}:
            continue
        for change in categories.value_changes(context, table):
            yield _value_issue(context, change)


def _value_issue(context: QualityContext, change: ValueChange) -> Issue:
    rows = count_of(change.rows, change.whole)
    if change.old and change.new:
        detail = (
            f"{change.column}: '{change.old}' ends and '{change.new}' starts on {change.day}, with "
            f"the same accounts and volume; {rows} since then"
        )
        advice = (
            f"give both one value under tables.{change.table}.columns:  {change.column}: CASE "
            f"{change.column} WHEN {literal(change.new)} THEN {literal(change.old)} ELSE "
            f"{change.column} END"
        )
        code = "value_renamed"
    elif change.new:
        detail = f"{change.column}: '{change.new}' exists since {change.day}; {rows} since then"
        code, advice = "new_value", ""
    else:
        detail = f"{change.column}: '{change.old}' has no rows since {change.day}; {rows} before"
        code, advice = "value_vanished", ""
    issue = context.issue(code, change.table, change.rows, change.whole, detail, advice)
    return replace(issue, rows_where=change.rows_where)


def unit_issues(context: QualityContext) -> Iterator[Issue]:
    """Report numbers whose unit or scale changes on one day."""
    for table in context.loaded.tables:
        for change in units.unit_changes(context, table):
            yield _unit_issue(context, change)
        widest: dict[str, OutsideValues] = {}
        for reason, found in context.loaded.tables[table].read.get("outside", {}).items():
            column = reason.partition(":")[2]
            if column not in widest or found["rows"] > widest[column]["rows"]:
                widest[column] = found
        for column, found in widest.items():
            if units.is_scale_change(found):
                yield _scale_issue(context, table, column, found)


def _unit_issue(context: QualityContext, change: UnitChange) -> Issue:
    shown = _factor(change.factor)
    known = change.known
    meaning = f", as between {known[1]}" if known else ""
    part = f" where {change.part}" if change.part else ""
    detail = (
        f"{change.column}{part} is {shown} from {change.day} on at {change.agree:,} of "
        f"{change.compared:,} accounts{meaning}; {count_of(change.rows, change.whole, 'values')} "
        f"since then"
    )
    factor = known[0] if known else max(change.factor, 1 / change.factor)
    operation = "/" if change.factor > 1 else "*"
    happened = TABLES[change.table].happened
    condition = f"{happened} >= DATE '{change.day}'" + (
        f" AND {change.part}" if change.part else ""
    )
    advice = (
        f"convert the new values under tables.{change.table}.columns:  {change.column}: CASE WHEN "
        f"{condition} THEN {change.column} {operation} {factor:g} ELSE {change.column} END"
    )
    issue = context.issue("unit_change", change.table, change.rows, change.whole, detail, advice)
    return replace(issue, rows_where=condition)


def _factor(ratio: float) -> str:
    """Return a ratio as text.

    >>> _factor(60.0), _factor(0.01)
    ('60 times as large', '100 times as small')
    """
    words = "large" if ratio > 1 else "small"
    return f"{max(ratio, 1 / ratio):.3g} times as {words}"


def _scale_issue(context: QualityContext, table: str, column: str, found: OutsideValues) -> Issue:
    detail = (
        f"{column}: {count_of(found['rows'], found['whole'], 'values')} since {found['since']} lie "
        f"outside the range ({found['low']:g} to {found['high']:g}), {found['rows_before']:,} of "
        f"{found['whole_before']:,} before"
    )
    advice = (
        f"convert the new scale under tables.{table}.columns, for example 1 to 10 into 1 to 5:  "
        f"{column}: CASE WHEN {TABLES[table].happened} >= DATE '{found['since']}' THEN 1 + "
        f"({column} - 1) * 4 / 9 ELSE {column} END"
    )
    issue = context.issue("scale_change", table, found["rows"], found["whole"], detail, advice)
    return replace(issue, rows_where=_since_where(table, found["since"]))


def time_issues(context: QualityContext) -> Iterator[Issue]:
    """Report a time zone that changes, and a bulk reload that moves ``known_at``."""
    for table in context.loaded.tables:
        zone = instants.zone_change(context, table)
        if zone is not None:
            whole = context.loaded.tables[table].rows
            detail = (
                f"hours of the day are {abs(zone.hours)} hours "
                f"{'later' if zone.hours > 0 else 'earlier'} from {zone.day} on; "
                f"{count_of(zone.rows, whole)} since then"
            )
            happened = TABLES[table].happened
            advice = (
                f"convert them under tables.{table}.columns:  {happened}: CASE WHEN {happened} >= "
                f"DATE '{zone.day}' THEN {happened} {'-' if zone.hours > 0 else '+'} INTERVAL "
                f"{abs(zone.hours)} HOUR ELSE {happened} END"
            )
            issue = context.issue("zone_change", table, zone.rows, whole, detail, advice)
            yield replace(issue, rows_where=_since_where(table, str(zone.day)))
        moved = instants.reload(context, table)
        if moved is not None:
            whole = context.loaded.tables[table].rows
            detail = (
                f"{count_of(moved.rows, whole)} are known since {moved.day} only, although they "
                f"happened from {moved.first} to {moved.last}"
            )
            issue = context.issue("bulk_reload", table, moved.rows, whole, detail)
            where = (
                f"CAST(known_at AS DATE) = DATE '{moved.day}' AND {TABLES[table].happened} < "
                f"DATE '{moved.day}' - INTERVAL {instants.OLD_DAYS} DAY"
            )
            yield replace(issue, rows_where=where)


def filling_issues(context: QualityContext) -> Iterator[Issue]:
    """Report columns that stop or start being filled on one day."""
    for table in context.loaded.tables:
        for change in filling.filling_changes(context, table):
            verb = "empty since" if change.stops else "empty before"
            detail = (
                f"{change.column}: {verb} {change.day} ({count_of(change.rows, change.whole)}), "
                f"filled in {100 * change.share:.0f} % of the other rows"
            )
            code = "column_stops" if change.stops else "column_starts"
            issue = context.issue(code, table, change.rows, change.whole, detail)
            sign = ">=" if change.stops else "<"
            where = f"{TABLES[table].happened} {sign} DATE '{change.day}'"
            yield replace(issue, rows_where=where)


def delivery_issues(context: QualityContext) -> Iterator[Issue]:
    """Report rows that were delivered twice with another ``known_at``."""
    for table in context.loaded.tables:
        found = deliveries.repeated_rows(context, table)
        if found is not None:
            detail = (
                f"{count_of(found.rows, found.whole)} equal an earlier row in every column but "
                f"known_at, on {found.words}, of {len(found.accounts):,} accounts"
            )
            issue = context.issue("delivered_twice", table, found.rows, found.whole, detail)
            where = _days_where(table, found.first, found.last)
            yield replace(issue, accounts=found.accounts, rows_where=where)


def identity_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts with two ids, and accounts that continue under another id."""
    moved = identities.handovers(context)
    pairs = {frozenset((item.old, item.new)) for item in moved}
    for shared in identities.shared_values(context):
        groups = [group for group in shared.groups if frozenset(group) not in pairs]
        if groups:
            n = sum(len(group) - 1 for group in groups)
            words = shared.column.replace("_", " ")
            shown = named([" = ".join(group) for group in groups])
            detail = f"{count_of(n, shared.whole, 'accounts')} with the same {words}: {shown}"
            issue = context.issue("same_identity", "accounts", n, shared.whole, detail)
            yield replace(issue, accounts=tuple(item for group in groups for item in group))
    if moved:
        whole = context.query_row("SELECT count(DISTINCT account_id) AS n FROM accounts")["n"]
        shown = named([f"{i.old} becomes {i.new} on {i.day} ({i.evidence})" for i in moved], "; ")
        detail = f"{count_of(len(moved), whole, 'accounts')}: {shown}"
        issue = context.issue("account_id_changed", "accounts", len(moved), whole, detail)
        yield replace(issue, accounts=tuple(i for item in moved for i in (item.old, item.new)))


def named(items: list[str] | tuple[str, ...], between: str = ", ") -> str:
    """Return the first items, and how many more there are.

    >>> named(["A", "B", "C", "D", "E", "F", "G"])
    'A, B, C, D, E and 2 more'
    """
    rest = len(items) - SHOWN
    return between.join(items[:SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _flows(context: QualityContext) -> Iterator[str]:
    return (name for name in FLOWS if context.has(name))


def _ending(has_ended: bool) -> str:
    return "" if has_ended else ", and it has not ended"


def _days_where(table: str, first: date, last: date) -> str:
    happened = TABLES[table].happened
    return f"CAST({happened} AS DATE) BETWEEN DATE '{first}' AND DATE '{last}'"


def _since_where(table: str, since: str) -> str:
    return f"{TABLES[table].happened} >= DATE '{since}'"
