"""Child accounts merged into their topmost parent (``roll_up``)."""

from __future__ import annotations

from pathlib import Path

import duckdb

from configs.runtime.errors import ConfigError
from features.sources.account_links import PARENTS
from features.sources.files.sql import ROW, literal
from features.sources.mapping import KNOWN_AT, Mapped

DEPTH = 20
"""Maximum length of a chain of parents; longer ones are cycles."""


def mark_children(connection: duckdb.DuckDBPyConnection, mapped: Mapped) -> None:
    """Write the table ``tops`` (child → topmost parent), and set the child rows aside.

    Raises
    ------
    ConfigError
        `parent_account_id` is not mapped.
    """
    if "parent_account_id" not in mapped.expressions:
        raise ConfigError(
            "`roll_up` needs parent_account_id",
            where="tables.accounts in company.yaml",
            fix="map parent_account_id under tables.accounts.columns, or leave `roll_up` out",
        )
    connection.execute(
        f"CREATE OR REPLACE TABLE tops AS WITH RECURSIVE latest AS ("
        f"SELECT account_id, arg_max(parent_account_id, {KNOWN_AT}) AS parent FROM staged "
        f"WHERE len(reasons) = 0 GROUP BY 1), "
        f"linked AS (SELECT l.account_id, l.parent FROM latest l "
        f"JOIN latest p ON p.account_id = l.parent WHERE l.parent <> l.account_id), "
        f"up AS (SELECT account_id, parent AS top, 1 AS n FROM linked UNION ALL "
        f"SELECT up.account_id, linked.parent, n + 1 FROM up "
        f"JOIN linked ON linked.account_id = up.top WHERE n < {DEPTH}) "
        f"SELECT account_id, arg_max(top, n) AS top FROM up GROUP BY 1 HAVING max(n) < {DEPTH}"
    )
    connection.execute(
        f"INSERT INTO superseded SELECT {ROW}, 'rolled_up' FROM staged SEMI JOIN tops "
        f"USING (account_id) ANTI JOIN superseded USING ({ROW}) ANTI JOIN copies USING ({ROW}) "
        f"WHERE len(reasons) = 0"
    )


def write_tops(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the topmost parent of every child next to the canonical accounts."""
    connection.execute(f"COPY tops TO {literal(folder / PARENTS)} (FORMAT parquet)")


def rolled_up(rows: str, accounts: Path | None) -> str:
    """Return SQL of rows with the account id replaced by its topmost parent.

    Parameters
    ----------
    rows : str
        SQL name of the rows.
    accounts : Path or None
        The canonical accounts; None for tables without accounts.
    """
    parents = None if accounts is None else accounts.with_name(PARENTS)
    if parents is None or not parents.is_file():
        return f"SELECT * FROM {rows}"
    return (
        f"SELECT {rows}.* REPLACE (coalesce(top, {rows}.account_id) AS account_id) FROM {rows} "
        f"LEFT JOIN read_parquet({literal(parents)}) AS tops USING (account_id)"
    )
