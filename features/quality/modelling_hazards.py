"""Faults that make every measure of a model wrong: asked by the quality report and by training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from configs.runtime.errors import DataError
from configs.schema.company import Company
from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.sources import Loaded
from features.sources.files.sql import ident, literal
from features.tables.source_tables import TABLES

MISSING_ACCOUNTS = "BW-L13"
"""The methodological check that is ignored to train without the accounts that are missing."""

UNKNOWN = "unknown_account"
MISSING_SHARE, MISSING_LEAST = 0.05, 3
"""Rows of a table whose account is not there: share and number from which training stops."""

AHEAD = frozenset({"subscriptions", "entitlements", "milestones"})
"""Tables whose rows are agreed before they begin."""

UNCLOCKED = frozenset({"accounts", "owners", "rates"})
"""Tables that are not asked whether their rows were known in time."""

EARLY_SHARE, MUCH_EARLY_SHARE, MUCH_EARLY_HOURS = 0.5, 0.05, 14
"""Share of rows known before they happened, at all and by more than any time zone, from which
``known_at`` does not say when rows became known."""

AHEAD_DAYS = 400
"""Days before its beginning from which even an agreement is not known in half of the rows."""

TOLD_BY: Mapping[str, str] = {
    "usage_events": "",
    "support_tickets": "",
    "touches": "",
    "survey_responses": "",
    "invoices": "amount",
    "subscriptions": "arr",
}
"""Tables that tell accounts apart, and the amount that counts once where rows repeat by plan."""

CERTAIN, LIKELY = 30.0, 3.0
"""Surprise, in nats, from which two accounts with the same rows are one account, and are likely."""

MANY, MANY_SHARE = 10, 0.6
"""Likely pairs, and the share of accounts in them, from which all of them are copies: where plans
and days meet by chance, at most 37 in 100 accounts have exactly one twin."""

SHOWN = 3


@dataclass(frozen=True)
class MissingAccounts:
    """Rows of a table whose accounts the accounts table does not have.

    Attributes
    ----------
    table : str
        The table that names them.
    rows, whole : int
        Such rows, and all that were read.
    quarantine : Path
        Where they are kept, with every value.
    """

    table: str
    rows: int
    whole: int
    quarantine: Path

    @property
    def words(self) -> str:
        """Say how many."""
        return f"{self.table}: {count_of(self.rows, self.whole)} of accounts that are not there"


def missing_accounts(loaded: Loaded) -> list[MissingAccounts]:
    """Return the tables with many rows of accounts the accounts table lacks, worst first."""
    found = [
        MissingAccounts(name, info.quarantined[UNKNOWN], info.rows_read, info.quarantine)
        for name, info in loaded.tables.items()
        if UNKNOWN in info.quarantined
    ]
    many = [
        item
        for item in found
        if item.rows >= MISSING_LEAST and item.rows / item.whole >= MISSING_SHARE
    ]
    return sorted(many, key=lambda item: (-item.rows / item.whole, item.table))


def refuse_missing_accounts(company: Company, loaded: Loaded) -> None:
    """Refuse to train on accounts that are only a part of those with activity or terms.

    Accounts that left and were deleted take their outcomes with them: what is learned of those
    that remain is wrong, and every measure of it too good or too bad.

    Raises
    ------
    DataError
        Many accounts are missing, and the company gives no reason under `checks.ignore`.
    """
    found = missing_accounts(loaded)
    if not found or MISSING_ACCOUNTS in company.checks.ignore:
        return
    raise DataError(
        "the accounts table lacks accounts that have activity, terms or outcomes; a model of those "
        "that remain would be wrong",
        where="; ".join(f"{item.words} ({item.quarantine})" for item in found),
        fix="load all accounts, those that left too, and map account_id to the same ids in every "
        f"table; where they are truly no accounts, say why: checks: {{ignore: {{{MISSING_ACCOUNTS}:"
        " the reason}} in company.yaml",
    )


def missing_issues(context: QualityContext) -> Iterator[Issue]:
    """Report tables of which many accounts are not among the accounts."""
    for item in missing_accounts(context.loaded):
        detail = count_of(item.rows, item.whole)
        yield context.issue("missing_accounts", item.table, item.rows, item.whole, detail)


def clock_issues(context: QualityContext) -> Iterator[Issue]:
    """Report tables whose ``known_at`` does not say when rows became known."""
    for name, rows, whole, words in clockless(context.connection, context.loaded):
        yield context.issue("known_at_no_clock", name, rows, whole, words)


def clockless(
    connection: duckdb.DuckDBPyConnection, loaded: Loaded
) -> Iterator[tuple[str, int, int, str]]:
    """Yield tables whose rows are known before they happened: name, rows, all rows, words.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Has a view per loaded table.
    loaded : Loaded
        Facts about the tables.
    """
    for name, info in loaded.tables.items():
        spec = TABLES[name]
        if info.known_basis != "column" or name in UNCLOCKED or spec.happened not in info.columns:
            continue
        is_day = spec.columns[spec.happened].kind == "day"
        happened = f"CAST({ident(spec.happened)} AS TIMESTAMP)"
        known = "date_trunc('day', known_at)" if is_day else "known_at"
        slack = f"INTERVAL {MUCH_EARLY_HOURS} HOUR"
        if name in AHEAD:
            slack = f"INTERVAL {AHEAD_DAYS} DAY"
        row = connection.execute(
            f"SELECT count(*), count(*) FILTER ({known} < {happened}), "
            f"count(*) FILTER ({known} < {happened} - {slack}) FROM {ident(name)}"
        ).fetchone()
        whole, early, much = row or (0, 0, 0)
        if not whole:
            continue
        if name in AHEAD:
            is_wrong, rows = much / whole >= EARLY_SHARE, much
            words = f"{count_of(rows, whole)} known more than {AHEAD_DAYS} days before they began"
        else:
            is_wrong = early / whole >= EARLY_SHARE or much / whole >= MUCH_EARLY_SHARE
            rows, words = early, f"{count_of(early, whole)} known before they happened"
        if is_wrong:
            yield name, rows, whole, words


def copy_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts that are there twice, under two ids."""
    groups = copied_accounts(context.connection, context.loaded)
    if groups:
        n = sum(len(group) - 1 for group in groups)
        row = context.ask("SELECT count(DISTINCT account_id) AS whole FROM accounts")
        detail = f"{count_of(n, row['whole'], 'accounts')}: {copies_words(groups)}"
        yield context.issue("duplicate_accounts", "accounts", n, row["whole"], detail)


def copies_words(groups: Sequence[Sequence[str]]) -> str:
    """Say some groups of ids that are one account.

    >>> copies_words([("A1", "B1"), ("A2", "B2")])
    'A1 = B1, A2 = B2'
    """
    shown = [" = ".join(group[:SHOWN]) for group in groups[:SHOWN]]
    return ", ".join(shown) + (f" and {len(groups) - SHOWN:,} more" if len(groups) > SHOWN else "")


def copied_accounts(connection: duckdb.DuckDBPyConnection, loaded: Loaded) -> list[tuple[str, ...]]:
    """Return groups of accounts with the same history in some table, or in all of them.

    The rows of an account in the tables of `TOLD_BY`, without any id, are its history. Two equal
    histories are a chance where many accounts share their rows (a news mail to all), so each row
    counts by the surprise of it, ``ln(accounts / accounts with such a row)``, and each amount of
    invoices and terms counts once: what two accounts pay that began a plan on one day is equal
    for ever. From a sum of `CERTAIN` on they are one account. Where most accounts have one
    twin, the many twins are the surprise, and `LIKELY` is enough for each.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Has a view per loaded table.
    loaded : Loaded
        Facts about the tables.
    """
    parts = [
        f"SELECT {literal(name)} AS source, account_id, hash({literal(name)}, {told}) AS content, "
        f"{_counts_once(name, info.columns)} AS once FROM {ident(name)}"
        for name, info in loaded.tables.items()
        if name in TOLD_BY and (told := ", ".join(_contents(name, info.columns)))
    ]
    if not parts:
        return []
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE histories AS WITH "
        f"told AS (SELECT source, account_id, content, any_value(once) AS once, count(*) AS times "
        f"FROM ({' UNION ALL '.join(parts)}) WHERE account_id IS NOT NULL "
        f"GROUP BY source, account_id, content), "
        f"shared AS (SELECT content, count(*) AS n FROM told GROUP BY content), "
        f"whole AS (SELECT count(DISTINCT account_id) AS n FROM told), "
        f"valued AS (SELECT told.*, ln(whole.n / shared.n) AS surprise, "
        f"row_number() OVER (PARTITION BY source, account_id, coalesce(once, content) "
        f"ORDER BY shared.n DESC) AS place FROM told JOIN shared USING (content), whole) "
        f"SELECT source, account_id, sum(hash(content, times)::HUGEINT) AS print, "
        f"sum(surprise) FILTER (place = 1) AS surprise FROM valued GROUP BY source, account_id"
    )
    found = connection.execute(
        "WITH every AS (SELECT * FROM histories UNION ALL SELECT 'all tables', account_id, "
        "sum(print), sum(surprise) FROM histories GROUP BY account_id) "
        "SELECT list(account_id ORDER BY account_id) AS ids, min(surprise) AS surprise "
        f"FROM every WHERE surprise >= {LIKELY} GROUP BY source, print "
        "HAVING count(*) > 1 ORDER BY ids"
    ).fetchall()
    certain = [tuple(ids) for ids, surprise in found if surprise >= CERTAIN]
    likely = _whole_groups([tuple(ids) for ids, _ in found if len(ids) == 2])
    n_all = connection.execute("SELECT count(DISTINCT account_id) FROM histories").fetchone()
    are_many = len(likely) >= MANY and sum(map(len, likely)) >= MANY_SHARE * (n_all or (0,))[0]
    return likely if are_many else _whole_groups(certain)


def _contents(name: str, columns: Sequence[str]) -> list[str]:
    """Return the columns that say what happened, no ids among them, quoted."""
    spec = TABLES[name]
    return [ident(item) for item in columns if spec.columns[item].kind != "id"]


def _counts_once(name: str, columns: Sequence[str]) -> str:
    """Return what counts once in an account however often it is there; NULL where each row does."""
    amount = TOLD_BY[name]
    if not amount:
        return "NULL::UBIGINT"
    return f"hash({ident(amount)})" if amount in columns else "0::UBIGINT"


def _whole_groups(groups: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return groups that share no account: the largest first, those within another left out.

    >>> _whole_groups([("A", "B"), ("A", "B", "C"), ("D", "E")])
    [('A', 'B', 'C'), ('D', 'E')]
    """
    seen: set[str] = set()
    kept = []
    for group in sorted(groups, key=lambda item: (-len(item), item)):
        if not seen & set(group):
            kept.append(group)
            seen |= set(group)
    return sorted(kept)


def copies_of(loaded: Loaded) -> tuple[list[tuple[str, ...]], Mapping[str, str]]:
    """Return the groups of copied accounts, and the tables without a clock with what is wrong."""
    with duckdb.connect() as connection:
        for name, info in loaded.tables.items():
            connection.execute(
                f"CREATE VIEW {ident(name)} AS SELECT * FROM read_parquet({literal(info.path)})"
            )
        clocks = {name: words for name, _, _, words in clockless(connection, loaded)}
        return copied_accounts(connection, loaded), clocks
