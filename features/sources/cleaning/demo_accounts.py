"""Test and demo accounts (``accounts.is_test``): set aside with their rows in every table."""

from __future__ import annotations

from pathlib import Path

import duckdb

from features.sources.files.sql import ROW, literal
from features.sources.mapping import Mapped

IS_TEST = "is_test"
TEST_ACCOUNTS = "test_accounts.parquet"

REASON = "test_account"
"""Reason in the quarantine."""


def mark_test_accounts(connection: duckdb.DuckDBPyConnection, mapped: Mapped, folder: Path) -> None:
    """Add the rows of test accounts to ``superseded``, and write their ids into `folder`.

    An account is a test account when any of its valid rows says so.
    """
    if IS_TEST not in mapped.expressions:
        return
    valid = (
        f"FROM staged ANTI JOIN superseded USING ({ROW}) ANTI JOIN copies USING ({ROW}) "
        f"WHERE len(reasons) = 0"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE test_accounts AS SELECT DISTINCT account_id {valid} AND {IS_TEST}"
    )
    connection.execute(
        f"INSERT INTO superseded SELECT {ROW}, {literal(REASON)} {valid} "
        f"AND account_id IN (SELECT account_id FROM test_accounts)"
    )
    connection.execute(f"COPY test_accounts TO {literal(folder / TEST_ACCOUNTS)} (FORMAT parquet)")


def known_accounts(accounts: Path) -> str:
    """Return the SQL of all accounts: account_id, account_day (its beginning), is_test_account.

    Parameters
    ----------
    accounts : Path
        The canonical accounts.
    """
    query = (
        f"SELECT account_id, CAST(min(created_at) AS DATE) AS account_day, "
        f"false AS is_test_account FROM read_parquet({literal(accounts)}) GROUP BY account_id"
    )
    tests = accounts.with_name(TEST_ACCOUNTS)
    if not tests.is_file():
        return query
    return (
        f"{query} UNION ALL SELECT account_id, NULL::DATE, true FROM read_parquet({literal(tests)})"
    )
