"""Accounts with two ids: created twice, or continued under another id after a merger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from features.quality.context import QualityContext
from features.sources.files.sql import ident
from features.tables.source_tables import TABLES

LEGAL_FORMS = (
    r"(\s+(inc|llc|ltd|limited|gmbh|ag|sa|sas|sarl|bv|nv|oy|ab|as|aps|spa|srl|plc|corp|corporation|"
    r"co|company|kg|pty|pte))+$"
)
"""Endings of names that do not identify a company."""

PUBLIC_DOMAINS = ("gmail.com", "outlook.com", "hotmail.com", "yahoo.com", "icloud.com", "gmx.de")
"""Domains of mail providers, shared by unrelated companies."""

MAX_SHARED = 3
"""Maximum number of accounts with one name, domain or billing id that are copies; a value of more
accounts is a group or a placeholder."""

MOVED_USERS, MOVED_SHARE = 2, 0.5
"""Minimum number of users, and share of the users of the old account, that continue elsewhere."""

GLOBAL_SHARE = 0.8
"""Share of user ids of a single account from which user ids identify a person: ids such as "1" that
every account has are no evidence."""

HANDOVER_DAYS = 31
"""Maximum number of days between the last activity of the old and the first of the new account."""

GONE_DAYS = 14
"""Days without activity of the old account up to the clock."""


@dataclass(frozen=True)
class SharedValue:
    """Accounts with one name, domain or billing id.

    Attributes
    ----------
    column : str
        ``name``, ``domain`` or ``billing_id``.
    groups : tuple of tuple of str
        Ids of each group, sorted.
    whole : int
        Number of accounts.
    """

    column: str
    groups: tuple[tuple[str, ...], ...]
    whole: int


@dataclass(frozen=True)
class Handover:
    """An account that continues under another id.

    Attributes
    ----------
    old, new : str
        The ids.
    day : date
        First day of activity of the new id.
    evidence : str
        Reason, as text.
    """

    old: str
    new: str
    day: date
    evidence: str


def plain_name(column: str) -> str:
    """Return SQL of a name in lower case without punctuation and legal form."""
    plain = f"trim(regexp_replace(lower({column}), '[^\\p{{L}}\\p{{N}}]+', ' ', 'g'))"
    return f"regexp_replace({plain}, '{LEGAL_FORMS}', '')"


def comparable(column: str) -> str:
    """Return SQL of the comparable value of a column of accounts; NULL where it identifies none."""
    if column == "name":
        return f"nullif({plain_name(ident(column))}, '')"
    if column == "domain":
        plain = (
            f"regexp_replace(lower(trim({ident(column)})), '^(https?://)?(www\\.)?|/.*$', '', 'g')"
        )
        public = ", ".join(f"'{item}'" for item in PUBLIC_DOMAINS)
        return f"CASE WHEN {plain} NOT IN ('', {public}) THEN {plain} END"
    return f"nullif(trim({ident(column)}), '')"


def shared_values(context: QualityContext) -> Iterator[SharedValue]:
    """Yield accounts that share a name, domain or billing id and are not parent and child."""
    parent = "last(parent_account_id ORDER BY known_at)"
    parent = parent if context.has("accounts", "parent_account_id") else "NULL"
    for column in ("billing_id", "domain", "name"):
        if not context.has("accounts", column):
            continue
        found = context.query_row(
            f"WITH latest AS (SELECT account_id, last({comparable(column)} ORDER BY known_at) "
            f"AS value, {parent} AS parent FROM accounts GROUP BY 1), "
            f"groups AS (SELECT value, list(account_id ORDER BY account_id) AS ids FROM latest a "
            f"WHERE value IS NOT NULL AND NOT EXISTS (SELECT 1 FROM latest b "
            f"WHERE b.value = a.value AND (b.account_id = a.parent OR b.parent = a.account_id "
            f"OR (b.account_id <> a.account_id AND b.parent = a.parent))) GROUP BY 1 "
            f"HAVING count(*) BETWEEN 2 AND {MAX_SHARED}) "
            f"SELECT coalesce(list(ids ORDER BY ids), []) AS groups, "
            f"(SELECT count(*) FROM latest) AS whole FROM groups"
        )
        if found["groups"]:
            groups = tuple(tuple(ids) for ids in found["groups"])
            yield SharedValue(column, groups, int(found["whole"]))


def handovers(context: QualityContext) -> list[Handover]:
    """Return accounts that stop while another starts with their users or their domain or name."""
    found = {item.old: item for item in (*_by_value(context), *_by_users(context))}
    return sorted(found.values(), key=lambda item: (item.day, item.old))


def _by_users(context: QualityContext) -> Iterator[Handover]:
    if not context.has("usage_events", "user_id"):
        return
    rows = context.connection.execute(
        f"WITH stays AS (SELECT user_id, account_id, min(occurred_at) AS first, "
        f"max(occurred_at) AS last FROM usage_events WHERE user_id IS NOT NULL "
        f"AND occurred_at < $1 GROUP BY 1, 2), "
        f"places AS (SELECT user_id, count(*) AS n FROM stays GROUP BY 1), "
        f"quality AS (SELECT avg((n = 1)::INT) AS single FROM places), "
        f"active AS (SELECT account_id, max(last) AS last, min(first) AS first, "
        f"count(*) AS users FROM stays GROUP BY 1), "
        f"moved AS (SELECT o.account_id AS old, n.account_id AS new, count(*) AS users, "
        f"min(n.first) AS day FROM stays o JOIN stays n ON n.user_id = o.user_id "
        f"AND n.account_id <> o.account_id AND n.first > o.last "
        f"SEMI JOIN (SELECT user_id FROM places WHERE n = 2) p ON p.user_id = o.user_id "
        f"GROUP BY 1, 2) "
        f"SELECT old, new, CAST(day AS DATE), moved.users, a.users "
        f"FROM moved JOIN active a ON a.account_id = moved.old, quality "
        f"WHERE single >= {GLOBAL_SHARE} AND moved.users >= {MOVED_USERS} "
        f"AND moved.users >= {MOVED_SHARE} * (SELECT count(*) FROM stays s "
        f"WHERE s.account_id = moved.old AND s.last >= a.last - INTERVAL 56 DAY) "
        f"AND abs(date_diff('day', a.last, day)) <= {HANDOVER_DAYS} "
        f"AND a.last < $1 - INTERVAL {GONE_DAYS} DAY ORDER BY old, moved.users",
        [context.now],
    ).fetchall()
    for old, new, day, moved, users in rows:
        yield Handover(old, new, day, f"{moved:,} of its {users:,} users continue there")


def _by_value(context: QualityContext) -> Iterator[Handover]:
    """Yield pairs of accounts with one name or domain of which one stops as the other starts."""
    active = [
        f"SELECT account_id, CAST({TABLES[name].happened} AS DATE) AS day FROM {name}"
        for name, spec in TABLES.items()
        if spec.activity and context.has(name)
    ]
    spans = {
        row[0]: (row[1], row[2])
        for row in context.connection.execute(
            f"SELECT account_id, min(day), max(day) FROM ({' UNION ALL '.join(active)}) "
            f"WHERE day < $1 GROUP BY 1",
            [context.now.date()],
        ).fetchall()
    }
    for shared in shared_values(context):
        for group in shared.groups:
            known = sorted((spans[item], item) for item in group if item in spans)
            for ((_, last), old), ((first, _), new) in zip(known[:-1], known[1:], strict=True):
                is_gone = (context.now.date() - last).days >= GONE_DAYS
                if is_gone and abs((first - last).days) <= HANDOVER_DAYS:
                    words = shared.column.replace("_", " ")
                    yield Handover(old, new, first, f"the same {words}")
