"""Outages of more than a week: many accounts become inactive at once while others continue."""

from __future__ import annotations

from collections.abc import Iterator

from features.quality.context import QualityContext
from features.quality.report import Issue
from features.tables.source_tables import TABLES

REGULAR_DAYS = 8
"""Minimum number of activity days for a usual gap."""
SILENT_DAYS, SILENT_FACTOR = 7, 3
"""Minimum length of a silence in days, and as a multiple of the usual gap."""
WINDOW_DAYS = 3
"""Maximum number of days between starts of silences that count as simultaneous."""
OUTAGE_SHARE, OUTAGE_ACCOUNTS, OUTAGE_FACTOR = 0.15, 5, 5
"""Minimum share and number of active accounts in an outage, and multiple of the usual number."""


def long_outage_issues(context: QualityContext, table: str) -> Iterator[Issue]:
    """Report days on which many accounts become inactive for long and others do not.

    Accounts whose last term ended at that time are not counted.
    """
    if table == "invoices":
        return
    worst = _worst(context, table, TABLES[table].happened)
    if worst is not None:
        day, silent, regular, back = worst
        detail = (
            f"{silent:,} of {regular:,} regularly active accounts ({100 * silent / regular:.0f} %) "
            f"become inactive around {day}, {back:,} of them return; the others continue"
        )
        yield context.issue("partial_outage", table, silent, regular, detail)


def _worst(context: QualityContext, name: str, happened: str) -> tuple[str, int, int, int] | None:
    """Return the day, inactive accounts, active accounts, and accounts that return."""
    ended = (
        "SELECT account_id, max(coalesce(ended_on, DATE '9999-12-31')) AS gone "
        "FROM subscriptions GROUP BY 1"
        if context.has("subscriptions", "ended_on")
        else "SELECT NULL::VARCHAR AS account_id, NULL::DATE AS gone WHERE false"
    )
    found = context.query_row(
        f"WITH days AS (SELECT DISTINCT account_id, CAST({happened} AS DATE) AS day FROM {name} "
        f"WHERE {happened} <= $1), "
        f"steps AS (SELECT account_id, day, lead(day) OVER (PARTITION BY account_id ORDER BY day) "
        f"AS next FROM days), "
        f"usual AS (SELECT account_id, quantile_cont(next - day, 0.9) AS pause, "
        f"min(day) AS first, max(day) AS last FROM steps GROUP BY 1 "
        f"HAVING count(*) >= {REGULAR_DAYS}), "
        f"ended AS ({ended}), "
        f"until AS (SELECT max(day) AS day FROM days), "
        f"silences AS (SELECT account_id, s.day, s.next IS NOT NULL AS is_back, pause "
        f"FROM steps s JOIN usual USING (account_id) LEFT JOIN ended USING (account_id), until "
        f"WHERE coalesce(s.next, until.day) - s.day > greatest({SILENT_DAYS}, "
        f"{SILENT_FACTOR} * pause) AND (gone IS NULL OR abs(gone - s.day) > 45)), "
        f"width AS (SELECT greatest({WINDOW_DAYS}, CAST(coalesce(median(pause), 0) AS INTEGER)) "
        f"AS days FROM usual), "
        f"starts AS (SELECT DISTINCT s.day FROM silences s), "
        f"counted AS (SELECT starts.day, count(DISTINCT s.account_id) AS silent, "
        f"count(DISTINCT s.account_id) FILTER (is_back) AS back "
        f"FROM starts, width, silences s WHERE s.day BETWEEN starts.day "
        f"AND starts.day + width.days - 1 GROUP BY 1), "
        f"active AS (SELECT counted.*, (SELECT count(*) FROM usual WHERE first < counted.day "
        f"AND last >= counted.day) AS regular, (SELECT count(*) FROM silences) AS n, "
        f"(SELECT max(day) - min(day) + 1 FROM days) AS span, width.days AS width "
        f"FROM counted, width) "
        f"SELECT CAST(day AS VARCHAR) AS day, silent, regular, back FROM active "
        f"WHERE silent >= greatest({OUTAGE_ACCOUNTS}, {OUTAGE_SHARE} * regular) "
        f"AND silent < regular "
        f"AND silent >= {OUTAGE_FACTOR} * (n - silent) * width / span "
        f"ORDER BY silent DESC, day LIMIT 1",
        context.now,
    )
    if found["day"] is None:
        return None
    return str(found["day"]), int(found["silent"]), int(found["regular"]), int(found["back"])
