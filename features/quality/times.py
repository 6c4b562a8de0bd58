"""Issues of time: visibility, time zones, stale tables and gaps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.tables.source_tables import TABLES

EDITED = frozenset(
    {"subscriptions", "opportunities", "contacts", "entitlements", "milestones", "outcomes"}
)
"""Tables whose rows are commonly entered or corrected later."""

FLOWS = frozenset({"survey_responses", "touches", "health_scores"})
"""Further tables in which missing rows look like inactive accounts."""

NO_CADENCE = frozenset({"owners", "labels", "rates"})
LATE_DAYS = 7
LATE_SHARE = 0.01
SHIFT_HOURS = 14
"""Maximum time zone difference of a mapping mistake."""

STALE_FACTOR = 4
STALE_MIN_DAYS = 7
CADENCE_DAYS = 10
"""Minimum number of days with rows for a cadence."""

GAP_SHARE = 0.1
GAP_MIN_ROWS = 20
GAP_WEEKS = 8


def visibility_issues(context: QualityContext) -> Iterator[Issue]:
    """Report tables without the time their rows became visible."""
    undated = [i.name for i in context.loaded.tables.values() if i.known_basis != "column"]
    groups = {
        "edits_unseen": [name for name in undated if name in EDITED],
        "no_known_at": [name for name in undated if name not in EDITED],
    }
    for code, names in groups.items():
        if names:
            detail = f"{', '.join(names)}: rows count as known at their event time"
            yield context.issue(code, "", len(names), None, detail)


def writing_issues(context: QualityContext) -> Iterator[Issue]:
    """Report columns with times in more than one format."""
    for info in context.loaded.tables.values():
        for column, counts in info.profile.items():
            given, dates, zoned = counts["given"], counts["dates"], counts["zoned"]
            naive = given - dates - zoned
            if zoned and naive:
                detail = f"{column}: {count_of(zoned, given, 'values')} with a zone"
                yield context.issue("mixed_zones", info.name, min(zoned, naive), given, detail)
            if dates and dates < given:
                detail = f"{column}: {count_of(dates, given, 'values')} without a time of day"
                yield context.issue("mixed_precision", info.name, dates, given, detail)
            if not dates and counts["as_dates"]:
                detail = f"{column}: all {given:,} values"
                yield context.issue("midnight_instants", info.name, given, given, detail)


def arrival_issues(context: QualityContext) -> Iterator[Issue]:
    """Report rows that became visible late, or hours too early."""
    for info in context.loaded.tables.values():
        spec = TABLES[info.name]
        if info.known_basis != "column" or spec.happened not in info.columns:
            continue
        is_instant = spec.columns[spec.happened].kind == "instant"
        happened = f"CAST({spec.happened} AS TIMESTAMP)"
        found = context.query_row(
            f"SELECT count(*) AS whole, "
            f"count(*) FILTER (known_at > {happened} + INTERVAL {LATE_DAYS + 1} DAY) AS late, "
            f"count(*) FILTER (known_at < {happened} "
            f"AND known_at >= {happened} - INTERVAL {SHIFT_HOURS} HOUR) AS early "
            f"FROM {info.name}"
        )
        whole, late, early = found["whole"], found["late"], found["early"]
        if whole and late / whole >= LATE_SHARE:
            yield context.issue("late_arrivals", info.name, late, whole, count_of(late, whole))
        if is_instant and whole and early / whole >= LATE_SHARE:
            detail = f"{count_of(early, whole)}, by up to {SHIFT_HOURS} hours"
            yield context.issue("zone_shift", info.name, early, whole, detail)


def stale_issues(context: QualityContext) -> Iterator[Issue]:
    """Report tables whose last row is much older than their usual gap.

    A table is stale without rows for more than 7 days and more than 4 times the 95th percentile of
    the gaps between days with rows, if it has at least 10 such days.
    """
    for info in context.loaded.tables.values():
        if info.name in NO_CADENCE:
            continue
        happened = TABLES[info.name].happened
        found = context.query_row(
            f"WITH days AS (SELECT DISTINCT CAST({happened} AS DATE) AS day FROM {info.name} "
            f"WHERE {happened} <= $1), "
            f"pauses AS (SELECT day, day - lag(day) OVER (ORDER BY day) AS pause FROM days) "
            f"SELECT count(*) AS n, max(day) AS last, "
            f"coalesce(quantile_cont(pause, 0.95), 0) AS usual FROM pauses",
            context.now,
        )
        if found["n"] < CADENCE_DAYS:
            continue
        silent = (context.now.date() - found["last"]).days
        if silent > max(STALE_MIN_DAYS, STALE_FACTOR * found["usual"]):
            detail = (
                f"no rows for {silent} days, since {found['last']}; "
                f"usual gap up to {found['usual']:.0f} days"
            )
            is_flow = TABLES[info.name].activity or info.name in FLOWS
            code = "stale_table" if is_flow else "quiet_table"
            yield context.issue(code, info.name, silent, None, detail)


def gap_issues(context: QualityContext) -> Iterator[Issue]:
    """Report days on which company-wide usage falls below 10 % of its weekday's median.

    The median is taken over the same weekday within 8 weeks before and after, and only where it
    is at least 20 rows.
    """
    if not context.has("usage_events"):
        return
    rows = context.connection.execute(
        f"WITH counts AS (SELECT CAST(occurred_at AS DATE) AS day, count(*) AS n "
        f"FROM usage_events WHERE occurred_at <= $1 GROUP BY 1), "
        f"days AS (SELECT CAST(unnest(generate_series(min(day), max(day), INTERVAL 1 DAY)) "
        f"AS DATE) AS day FROM counts), "
        f"filled AS (SELECT day, coalesce(n, 0) AS n FROM days LEFT JOIN counts USING (day)), "
        f"expected AS (SELECT day, n, median(n) OVER (PARTITION BY dayofweek(day) ORDER BY day "
        f"ROWS BETWEEN {GAP_WEEKS} PRECEDING AND {GAP_WEEKS} FOLLOWING) AS usual FROM filled) "
        f"SELECT day, n < {GAP_SHARE} * usual AND usual >= {GAP_MIN_ROWS} "
        f"FROM expected ORDER BY day",
        [context.now],
    ).fetchall()
    gaps = [day for day, is_gap in rows if is_gap]
    if gaps:
        detail = f"{count_of(len(gaps), len(rows), 'days')}: {_spans(gaps)}"
        yield context.issue("telemetry_gaps", "usage_events", len(gaps), len(rows), detail)


def _spans(days: list[date], shown: int = 4) -> str:
    """Return runs of days as text.

    >>> _spans([date(2024, 1, 1), date(2024, 1, 2), date(2024, 3, 5)])
    '2024-01-01 to 2024-01-02, 2024-03-05'
    """
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(texts[:shown]) + (
        f" and {len(texts) - shown} more" if len(texts) > shown else ""
    )
