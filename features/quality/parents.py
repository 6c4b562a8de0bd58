"""Issues of accounts that belong together: terms on the parent, activity on its children."""

from __future__ import annotations

from collections.abc import Iterator

from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.tables.source_tables import TABLES

DEPTH = 20
"""Longest chain of parents that is followed."""


def family_issues(context: QualityContext) -> Iterator[Issue]:
    """Report parents that hold terms and are active only through their children."""
    if not context.has("accounts", "parent_account_id") or not context.has("subscriptions"):
        return
    active = [name for name, spec in TABLES.items() if spec.activity and context.has(name)]
    rows = " UNION ALL ".join(f"SELECT account_id FROM {name}" for name in active)
    found = context.ask(
        f"WITH RECURSIVE linked AS (SELECT DISTINCT account_id, parent_account_id AS parent "
        f"FROM accounts WHERE parent_account_id IS NOT NULL AND parent_account_id <> account_id), "
        f"up AS (SELECT account_id, parent, 1 AS n FROM linked UNION ALL "
        f"SELECT up.account_id, linked.parent, n + 1 FROM up "
        f"JOIN linked ON linked.account_id = up.parent WHERE n < {DEPTH}), "
        f"active AS (SELECT account_id, count(*) AS n FROM ({rows}) GROUP BY 1), "
        f"idle AS (SELECT DISTINCT account_id FROM subscriptions "
        f"ANTI JOIN active USING (account_id)), "
        f"carried AS (SELECT DISTINCT up.parent, up.account_id, active.n FROM up "
        f"JOIN active USING (account_id) JOIN idle ON idle.account_id = up.parent) "
        f"SELECT count(DISTINCT parent) AS parents, count(DISTINCT account_id) AS children, "
        f"coalesce(sum(n), 0) AS rows, min(parent) AS example, "
        f"(SELECT count(DISTINCT account_id) FROM subscriptions) AS whole FROM carried"
    )
    if found["parents"]:
        detail = (
            f"{count_of(found['parents'], found['whole'], 'accounts with terms')} have no activity "
            f"of their own, such as {found['example']}, while {found['children']:,} accounts below "
            f"them have {found['rows']:,} rows of it"
        )
        yield context.issue(
            "activity_on_children", "accounts", found["parents"], found["whole"], detail
        )
