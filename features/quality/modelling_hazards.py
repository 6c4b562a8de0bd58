"""Data faults that invalidate a model, checked by the quality report and before training."""

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
from features.sources.files.sql import ident, literal, text_list
from features.sources.product_grain import SEPARATOR
from features.tables.source_tables import TABLES

MISSING_ACCOUNTS = "BW-L13"
"""Methodological check to ignore for training despite missing accounts."""

UNKNOWN = "unknown_account"
MISSING_SHARE, MISSING_LEAST = 0.05, 3
"""Share and number of rows with an unknown account from which training stops."""

AHEAD = frozenset({"subscriptions", "entitlements", "milestones"})
"""Tables whose rows are agreed in advance."""

UNCLOCKED = frozenset({"accounts", "owners", "rates"})
"""Tables without a check of ``known_at``."""

EARLY_SHARE, MUCH_EARLY_SHARE, MUCH_EARLY_HOURS = 0.5, 0.05, 14
"""Share of rows known before they happened (at all, and by more than a time zone difference) from
which ``known_at`` is not the time rows became known."""

AHEAD_DAYS = 400
"""Maximum number of days by which an agreement is known in advance in most rows."""

IDENTIFYING_TABLES: Mapping[str, str] = {
    "usage_events": "",
    "support_tickets": "",
    "touches": "",
    "survey_responses": "",
    "invoices": "amount",
    "subscriptions": "arr",
}
"""Tables whose rows identify an account, and the amount that counts once in recurring rows."""

CERTAIN, LIKELY = 30.0, 3.0
"""Surprise in nats from which two accounts with the same rows are certain or likely duplicates."""

MANY, MANY_SHARE = 10, 0.6
"""Number of likely pairs, and their share of accounts, from which all of them are duplicates: by
chance at most 37 % of accounts have exactly one twin."""

SHOWN = 3


@dataclass(frozen=True)
class MissingAccounts:
    """Rows of a table whose accounts are missing from the accounts table.

    Attributes
    ----------
    table : str
        Table with the rows.
    rows, whole : int
        Such rows, and all rows read.
    quarantine : Path
        Quarantine file with these rows.
    """

    table: str
    rows: int
    whole: int
    quarantine: Path

    @property
    def words(self) -> str:
        """Table and count as text."""
        return f"{self.table}: {count_of(self.rows, self.whole)} with unknown accounts"


def tables_with_missing_accounts(loaded: Loaded) -> list[MissingAccounts]:
    """Return the tables with many rows of unknown accounts, worst first."""
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


def require_all_accounts(company: Company, loaded: Loaded) -> None:
    """Require that the accounts table has the accounts with activity or terms.

    Deleted former accounts remove their outcomes: a model of the remaining accounts is biased, and
    so is its evaluation.

    Raises
    ------
    DataError
        Many accounts are missing, without a reason under `checks.ignore`.
    """
    found = tables_with_missing_accounts(loaded)
    if not found or MISSING_ACCOUNTS in company.checks.ignore:
        return
    raise DataError(
        "the accounts table lacks accounts with activity, terms or outcomes; a model of the "
        "remaining accounts would be wrong",
        where="; ".join(f"{item.words} ({item.quarantine})" for item in found),
        fix=f"load all accounts, including former ones, and map account_id to the same ids in "
        f"every table; if these are no accounts, set "
        f"checks: {{ignore: {{{MISSING_ACCOUNTS}: the reason}}}} in company.yaml",
    )


def missing_issues(context: QualityContext) -> Iterator[Issue]:
    """Report tables with many unknown accounts."""
    for item in tables_with_missing_accounts(context.loaded):
        detail = count_of(item.rows, item.whole)
        yield context.issue("missing_accounts", item.table, item.rows, item.whole, detail)


def clock_issues(context: QualityContext) -> Iterator[Issue]:
    """Report tables whose ``known_at`` is not the time rows became known."""
    for name, rows, whole, words in tables_without_clock(context.connection, context.loaded):
        yield context.issue("known_at_no_clock", name, rows, whole, words)


def tables_without_clock(
    connection: duckdb.DuckDBPyConnection, loaded: Loaded
) -> Iterator[tuple[str, int, int, str]]:
    """Yield tables with rows known before they happened: name, rows, all rows, text.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with a view per loaded table.
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
    """Report duplicate accounts."""
    groups = duplicate_accounts(context.connection, context.loaded)
    if groups:
        n = sum(len(group) - 1 for group in groups)
        row = context.query_row("SELECT count(DISTINCT account_id) AS whole FROM accounts")
        detail = f"{count_of(n, row['whole'], 'accounts')}: {duplicates_text(groups)}"
        yield context.issue("duplicate_accounts", "accounts", n, row["whole"], detail)


def duplicates_text(groups: Sequence[Sequence[str]]) -> str:
    """Return some groups of duplicate ids as text.

    >>> duplicates_text([("A1", "B1"), ("A2", "B2")])
    'A1 = B1, A2 = B2'
    """
    shown = [" = ".join(group[:SHOWN]) for group in groups[:SHOWN]]
    return ", ".join(shown) + (f" and {len(groups) - SHOWN:,} more" if len(groups) > SHOWN else "")


def duplicate_accounts(
    connection: duckdb.DuckDBPyConnection, loaded: Loaded
) -> list[tuple[str, ...]]:
    """Return groups of accounts with the same history in one or all tables.

    The rows of an account in the tables of `IDENTIFYING_TABLES`, without ids, are its history.
    Histories can agree by chance where many accounts share rows (a news mail to all), so each row
    is weighted by its surprise, ``ln(accounts / accounts with such a row)``, and each amount of
    invoices and terms counts once: two accounts that started a plan on the same day pay the same
    amounts. From a sum of `CERTAIN` they are one account. Where most accounts have exactly one
    twin, `LIKELY` is enough for each.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with a view per loaded table.
    loaded : Loaded
        Facts about the tables.
    """
    # Products of one account share its tickets and answers: the account is compared as a whole.
    account = "account_id"
    if loaded.grain == "product":
        account = f"split_part(account_id, {literal(SEPARATOR)}, 1) AS account_id"
    parts = [
        f"SELECT {literal(name)} AS source, {account}, "
        f"hash({literal(name)}, {content}) AS content, "
        f"{_counts_once(name, info.columns)} AS once FROM {ident(name)}"
        for name, info in loaded.tables.items()
        if name in IDENTIFYING_TABLES and (content := ", ".join(_contents(name, info.columns)))
    ]
    if not parts:
        return []
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE histories AS WITH "
        f"contents AS (SELECT source, account_id, content, any_value(once) AS once, "
        f"count(*) AS times "
        f"FROM ({' UNION ALL '.join(parts)}) WHERE account_id IS NOT NULL "
        f"GROUP BY source, account_id, content), "
        f"shared AS (SELECT content, count(*) AS n FROM contents GROUP BY content), "
        f"whole AS (SELECT count(DISTINCT account_id) AS n FROM contents), "
        f"valued AS (SELECT contents.*, ln(whole.n / shared.n) AS surprise, "
        f"row_number() OVER (PARTITION BY source, account_id, coalesce(once, content) "
        f"ORDER BY shared.n DESC) AS place FROM contents JOIN shared USING (content), whole) "
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
    likely = _disjoint_groups([tuple(ids) for ids, _ in found if len(ids) == 2])
    n_all = connection.execute("SELECT count(DISTINCT account_id) FROM histories").fetchone()
    are_many = len(likely) >= MANY and sum(map(len, likely)) >= MANY_SHARE * (n_all or (0,))[0]
    return likely if are_many else _disjoint_groups(certain)


def _contents(name: str, columns: Sequence[str]) -> list[str]:
    """Return the quoted columns of a table without ids."""
    spec = TABLES[name]
    return [ident(item) for item in columns if spec.columns[item].kind != "id"]


def _counts_once(name: str, columns: Sequence[str]) -> str:
    """Return SQL of the value that counts once per account; NULL where each row counts."""
    amount = IDENTIFYING_TABLES[name]
    if not amount:
        return "NULL::UBIGINT"
    return f"hash({ident(amount)})" if amount in columns else "0::UBIGINT"


def _disjoint_groups(groups: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return disjoint groups, preferring larger ones.

    >>> _disjoint_groups([("A", "B"), ("A", "B", "C"), ("D", "E")])
    [('A', 'B', 'C'), ('D', 'E')]
    """
    seen: set[str] = set()
    chosen = []
    for group in sorted(groups, key=lambda item: (-len(item), item)):
        if not seen & set(group):
            chosen.append(group)
            seen |= set(group)
    return sorted(chosen)


def find_duplicates(loaded: Loaded) -> tuple[list[tuple[str, ...]], Mapping[str, str]]:
    """Return groups of duplicate accounts, and tables with an invalid ``known_at``."""
    with duckdb.connect() as connection:
        for name, info in loaded.tables.items():
            connection.execute(
                f"CREATE VIEW {ident(name)} AS SELECT * FROM read_parquet({text_list(info.files)})"
            )
        clocks = {name: words for name, _, _, words in tables_without_clock(connection, loaded)}
        return duplicate_accounts(connection, loaded), clocks
