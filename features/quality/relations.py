"""Issues between tables: money, terms, accounts and contradictions."""

from __future__ import annotations

from collections.abc import Iterator

from configs.runtime.errors import did_you_mean
from configs.schema.team_capacity import disagreement
from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.sources.files.sql import literal
from features.sources.mapping import inputs_of
from features.tables.source_tables import TABLES

MONEY = {"subscriptions": "arr", "opportunities": "amount", "invoices": "amount"}
SETTLED_DAYS = 30
"""Tolerated difference in days between terms and outcomes."""

NEW_DAYS = 28
"""Minimum age in days of accounts expected to have activity."""


TESTS = r"(?i)(^|[^a-z])(test|demo|dummy|sandbox)([^a-z]|$)"
"""Pattern of names and ids of test accounts."""

DEPTH = 20
"""Maximum length of a chain of parents."""

SHOWN = 80
"""Maximum length of a list of ids."""


def currency_issues(context: QualityContext) -> Iterator[Issue]:
    """Report amounts that cannot be converted to the reporting currency."""
    home = context.workspace.company.reporting_currency
    rated = "SELECT currency FROM rates" if context.has("rates") else "SELECT NULL WHERE false"
    for table, amount in MONEY.items():
        if not context.has(table, "currency", amount):
            continue
        found = context.query_row(
            f"WITH strange AS (SELECT currency AS code FROM {table} "
            f"WHERE currency IS NOT NULL AND currency <> $1 "
            f"AND currency NOT IN ({rated}) AND {amount} IS NOT NULL) "
            f"SELECT (SELECT count(*) FROM strange) AS rows, "
            f"(SELECT string_agg(DISTINCT code, ', ' ORDER BY code) FROM strange) AS codes, "
            f"count(*) AS whole, count(*) FILTER (currency IS NULL) AS missing FROM {table}",
            home,
        )
        if found["rows"]:
            detail = f"{count_of(found['rows'], found['whole'])}: {found['codes']}"
            yield context.issue(
                "currency_without_rate", table, found["rows"], found["whole"], detail
            )
        if found["missing"]:
            detail = f"{count_of(found['missing'], found['whole'])}, treated as {home}"
            yield context.issue("currency_missing", table, found["missing"], found["whole"], detail)


def term_issues(context: QualityContext) -> Iterator[Issue]:
    """Report overlapping terms, and usage before the first term."""
    if not context.has("subscriptions"):
        return
    ended = "ended_on" if context.has("subscriptions", "ended_on") else "NULL"
    if not context.loaded.tables["subscriptions"].history:
        found = context.query_row(
            f"SELECT count(*) AS whole, "
            f"count(*) FILTER (coalesce({ended}, DATE '9999-12-31') > next) AS rows "
            f"FROM (SELECT *, lead(started_on) OVER "
            f"(PARTITION BY subscription_id ORDER BY started_on) AS next FROM subscriptions)"
        )
        if found["rows"]:
            detail = count_of(found["rows"], found["whole"], "terms")
            yield context.issue(
                "overlapping_terms", "subscriptions", found["rows"], found["whole"], detail
            )
    if context.has("usage_events"):
        found = context.query_row(
            "SELECT count(*) AS whole, count(*) FILTER (CAST(occurred_at AS DATE) < first) AS rows "
            "FROM usage_events JOIN (SELECT account_id, min(started_on) AS first "
            "FROM subscriptions GROUP BY 1) USING (account_id)"
        )
        if found["rows"]:
            detail = count_of(found["rows"], found["whole"])
            yield context.issue(
                "before_first_term", "usage_events", found["rows"], found["whole"], detail
            )


def account_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts without activity, unknown parents and unknown owners."""
    active = [n for n, s in TABLES.items() if s.activity and context.has(n)]
    seen = " UNION ALL ".join(f"SELECT account_id FROM {name}" for name in active)
    found = context.query_row(
        f"SELECT count(*) AS whole, count(*) FILTER (account_id NOT IN (SELECT account_id "
        f"FROM ({seen}))) AS rows FROM (SELECT account_id FROM accounts GROUP BY 1 "
        f"HAVING min(created_at) <= $1 - INTERVAL {NEW_DAYS} DAY)",
        context.now,
    )
    if found["rows"]:
        detail = count_of(found["rows"], found["whole"], "accounts")
        yield context.issue("idle_accounts", "accounts", found["rows"], found["whole"], detail)
    for column, code, known in (
        ("parent_account_id", "unknown_parents", "accounts"),
        ("owner_id", "unknown_owners", "owners"),
    ):
        if not context.has("accounts", column) or not context.has(known):
            continue
        if known == "accounts" and context.workspace.company.grain == "product":
            continue  # the parents are the accounts, which are not scored themselves
        key = "account_id" if known == "accounts" else "owner_id"
        itself = " OR parent_account_id = account_id" if known == "accounts" else ""
        found = context.query_row(
            f"SELECT count({column}) AS whole, count(*) FILTER ({column} IS NOT NULL AND ("
            f"{column} NOT IN (SELECT {key} FROM {known}){itself})) AS rows FROM accounts"
        )
        if found["rows"]:
            detail = count_of(found["rows"], found["whole"], f"values of {column}")
            yield context.issue(code, "accounts", found["rows"], found["whole"], detail)


def test_account_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts whose id or name suggests a test account."""
    name = "coalesce(name, '')" if context.has("accounts", "name") else "''"
    found = context.query_row(
        f"SELECT count(DISTINCT account_id) AS whole, count(DISTINCT account_id) FILTER (fake) "
        f"AS rows, string_agg(DISTINCT account_id, ', ' ORDER BY account_id) FILTER (fake) AS ids "
        f"FROM (SELECT account_id, regexp_matches(account_id || ' ' || {name}, {literal(TESTS)}) "
        f"AS fake FROM accounts)"
    )
    if found["rows"]:
        ids = found["ids"] if len(found["ids"]) <= SHOWN else found["ids"][:SHOWN] + "…"
        detail = f"{count_of(found['rows'], found['whole'], 'accounts')}: {ids}"
        yield context.issue("test_accounts", "accounts", found["rows"], found["whole"], detail)


def contradiction_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts with an end in one table and continued activity in another."""
    if not context.has("subscriptions", "ended_on"):
        return
    settled = f"INTERVAL {SETTLED_DAYS} DAY"
    if context.has("outcomes"):
        moment = "effective_on" if context.has("outcomes", "effective_on") else "NULL"
        found = context.query_row(
            f"WITH lost AS (SELECT DISTINCT account_id, coalesce({moment}, decided_on) AS day "
            f"FROM outcomes WHERE outcome = 'churn' "
            f"AND coalesce({moment}, decided_on) <= $1 - {settled}), "
            f"goes_on AS (SELECT DISTINCT l.account_id FROM lost l JOIN subscriptions s "
            f"ON s.account_id = l.account_id AND s.started_on <= l.day + {settled} "
            f"AND coalesce(s.ended_on, DATE '9999-12-31') > l.day + {settled}), "
            f"over AS (SELECT account_id FROM subscriptions GROUP BY 1 "
            f"HAVING max(coalesce(ended_on, DATE '9999-12-31')) <= $1 - {settled}), "
            f"unrecorded AS (SELECT account_id FROM over WHERE account_id NOT IN "
            f"(SELECT account_id FROM outcomes WHERE outcome = 'churn')) "
            f"SELECT (SELECT count(*) FROM goes_on) AS goes_on, "
            f"(SELECT count(*) FROM unrecorded) AS unrecorded, "
            f"(SELECT count(*) FROM (SELECT account_id FROM lost "
            f"UNION SELECT account_id FROM over)) AS whole",
            context.now,
        )
        rows = found["goes_on"] + found["unrecorded"]
        if rows:
            detail = (
                f"{count_of(rows, found['whole'], 'accounts with an end in either table')}: "
                f"{found['goes_on']:,} have an outcome but continuing terms, "
                f"{found['unrecorded']:,} have only ended terms and no outcome"
            )
            yield context.issue("contradicting_churn", "outcomes", rows, found["whole"], detail)
    yield from _activity_after_end(context, settled)


def _activity_after_end(context: QualityContext, settled: str) -> Iterator[Issue]:
    if not context.has("usage_events"):
        return
    found = context.query_row(
        f"WITH over AS (SELECT account_id, max(ended_on) AS day FROM subscriptions GROUP BY 1 "
        f"HAVING count(*) = count(ended_on) AND max(ended_on) <= $1 - {settled}) "
        f"SELECT (SELECT count(*) FROM over) AS whole, count(DISTINCT u.account_id) AS rows "
        f"FROM usage_events u JOIN over o ON u.account_id = o.account_id "
        f"AND CAST(u.occurred_at AS DATE) > o.day + {settled}",
        context.now,
    )
    if found["rows"]:
        detail = count_of(found["rows"], found["whole"], "accounts whose terms are over")
        yield context.issue(
            "activity_after_end", "subscriptions", found["rows"], found["whole"], detail
        )


def family_issues(context: QualityContext) -> Iterator[Issue]:
    """Report parents with terms and activity only on child accounts."""
    if not context.has("accounts", "parent_account_id") or not context.has("subscriptions"):
        return
    active = [name for name, spec in TABLES.items() if spec.activity and context.has(name)]
    rows = " UNION ALL ".join(f"SELECT account_id FROM {name}" for name in active)
    found = context.query_row(
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
            f"of their own, such as {found['example']}, while {found['children']:,} child accounts "
            f"have {found['rows']:,} rows"
        )
        yield context.issue(
            "activity_on_children", "accounts", found["parents"], found["whole"], detail
        )


def presence_issues(context: QualityContext) -> Iterator[Issue]:
    """Report empty and missing tables, and unused inputs."""
    company = context.workspace.company
    mapped = {name for name in TABLES if name in company.tables or name in company.inputs}
    for name in context.loaded.gaps:
        if name in mapped:
            yield context.issue("empty_table", name, 0, None, context.loaded.gaps[name])
    absent = [name for name in context.loaded.gaps if name not in mapped]
    if absent:
        yield context.issue("absent_tables", "", len(absent), None, ", ".join(absent))
    used = {item for name in mapped for item in inputs_of(company, name)}
    unused = [name for name in company.inputs if name not in used]
    if unused:
        hints = [did_you_mean(name, TABLES) for name in unused]
        named = [
            f"{name} ({hint})" if hint else name for name, hint in zip(unused, hints, strict=True)
        ]
        yield context.issue("unused_inputs", "", len(unused), None, ", ".join(named))


def guess_issues(context: QualityContext) -> Iterator[Issue]:
    """Report values of ``company.yaml`` that `bellwether init` guessed."""
    guesses = context.workspace.company.guesses
    if guesses:
        order = {"low": 0, "medium": 1, "high": 2}
        shown = sorted(guesses.items(), key=lambda item: order[item[1].sure])
        detail = "; ".join(f"{key}: {guess.why}" for key, guess in shown)
        yield context.issue("unconfirmed_guesses", "", len(guesses), None, detail)


def capacity_issues(context: QualityContext) -> Iterator[Issue]:
    """Report capacities of CSMs that do not add up to that of the team."""
    if not context.has("owners", "capacity"):
        return
    rows = context.connection.execute(
        "SELECT owner_id, last(capacity ORDER BY known_at) FROM owners "
        "WHERE capacity IS NOT NULL GROUP BY 1"
    ).fetchall()
    words = disagreement(context.workspace.company.serving.capacity_per_month, dict(rows))
    if words:
        yield context.issue("capacity_disagrees", "owners", len(rows), None, words)
