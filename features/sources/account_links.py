"""Accounts found by another value than their id (``tables.NAME.account``).

A ticket names an organisation, an answer an e-mail address, a subscription the customer number of
the billing system. Each is compared with a column of the accounts' own source, whose rows are kept
next to the canonical accounts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import duckdb

from configs.runtime.errors import SourceError, did_you_mean
from configs.schema.source_mapping import AccountLink
from features.sources.files.sql import ROW, columns_of, ident, literal, text_list

KEYS = "keys.parquet"
"""The accounts' source columns that tables are linked by, as text, with the id (``ACCOUNT``)."""

PARENTS = "parents.parquet"
"""Topmost parent of every account that is rolled up: account_id, top."""

ACCOUNT = "_bw_account"

FREE_MAIL = ("gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com",
             "yahoo.com", "ymail.com", "icloud.com", "me.com", "mac.com", "aol.com", "gmx.de",
             "gmx.net", "gmx.com", "web.de", "t-online.de", "protonmail.com", "proton.me",
             "mail.com", "mail.ru", "yandex.ru", "yandex.com", "qq.com", "163.com", "zoho.com",
             "orange.fr", "free.fr", "hotmail.co.uk", "yahoo.co.uk", "hotmail.fr")  # fmt: skip
"""Mail services: an address there does not name a company."""

LEGAL_FORMS = ("incorporated", "inc", "llc", "ltd", "limited", "gmbh", "ag", "se", "kg", "sa",
               "sas", "sarl", "srl", "spa", "bv", "nv", "ab", "as", "oy", "aps", "plc", "pty",
               "corp", "corporation", "co", "company", "llp", "lp", "kk", "pte")  # fmt: skip


def normalised(text: str, by: str) -> str:
    """Return SQL of a text in the form in which it is compared; NULL for an empty one.

    Parameters
    ----------
    text : str
        SQL of the text.
    by : {"value", "domain", "name"}
        See `configs.schema.source_mapping.AccountLink`.
    """
    plain = f"nullif(trim(CAST({text} AS VARCHAR)), '')"
    if by == "value":
        return f"lower({plain})"
    if by == "domain":
        host = (
            f"regexp_extract(lower({plain}), "
            f"'^(?:[a-z][a-z0-9+.-]*://)?(?:[^/@]*@)?(?:www[.])?([^/:?#>]+)', 1)"
        )
        return (
            f"(CASE WHEN contains({host}, '.') AND NOT list_contains({text_list(FREE_MAIL)}, "
            f"{host}) THEN {host} END)"
        )
    words = f"regexp_replace(strip_accents(lower({plain})), '[^[:alnum:]]+', ' ', 'g')"
    bare = f"trim(regexp_replace({words}, '( ({'|'.join(LEGAL_FORMS)}))+ *$', ''))"
    return f"coalesce(nullif({bare}, ''), nullif(trim({words}), ''))"


def write_keys(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    columns: tuple[str, ...],
    linked: Collection[str],
    folder: Path,
) -> None:
    """Write the source columns that tables are linked by next to the canonical accounts.

    All other columns are present and empty: the raw source may hold personal data that is not
    needed.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the table ``staged`` of the accounts.
    relation : str
        SQL name of the source rows.
    columns : tuple of str
        Columns of the source.
    linked : collection of str
        Columns named by ``matches`` of a link; case does not count.
    folder : Path
        Folder of the canonical accounts.
    """
    wanted = {name.strip().lower() for name in linked}
    texts = ", ".join(
        f"{f'CAST(source.{ident(n)} AS VARCHAR)' if n.lower() in wanted else 'NULL::VARCHAR'} "
        f"AS {ident(n)}"
        for n in columns
    )
    connection.execute(
        f"COPY (SELECT staged.account_id AS {ACCOUNT}, {texts} FROM {relation} AS source "
        f"JOIN staged USING ({ROW}) WHERE len(reasons) = 0) TO {literal(folder / KEYS)} "
        f"(FORMAT parquet, COMPRESSION zstd)"
    )


def link_accounts(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    relation: str,
    links: list[tuple[AccountLink, str]],
    accounts: Path,
) -> str:
    """Write the rows of a table with the account each belongs to, and return their SQL name.

    The first link that identifies exactly one account decides. A row without a match keeps the
    text of its first link, and is set aside as a row of an unknown account.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the source rows.
    table : str
        The canonical table.
    relation : str
        SQL name of the source rows.
    links : list of (AccountLink, str)
        The links, each with the SQL of its value.
    accounts : Path
        The canonical accounts.

    Raises
    ------
    SourceError
        The accounts have no column of that name.
    """
    keys = accounts.with_name(KEYS)
    known = columns_of(connection, f"SELECT * FROM read_parquet({literal(keys)})")
    tables, found = [], []
    for number, (link, text) in enumerate(links):
        theirs = _column(link.matches, known, f"tables.{table}.account")
        for form, value in _forms(text, link.by):
            name = f"match_{number}_{form}"
            tables.append(
                f"LEFT JOIN ({_unique(keys, theirs, link.by)}) AS {name} ON {name}.key = {value}"
            )
            found.append(f"{name}.account")
    given = ", ".join(f"nullif(trim(CAST({text} AS VARCHAR)), '')" for _, text in links)
    linked = f"raw.{ident('linked ' + table)}"
    connection.execute(
        f"CREATE OR REPLACE TABLE {linked} AS SELECT source.*, "
        f"coalesce({', '.join(found)}, {given}) AS {ACCOUNT} FROM {relation} AS source "
        f"{' '.join(tables)}"
    )
    return linked


def _column(wanted: str, known: Mapping[str, str], where: str) -> str:
    found = {name.lower(): name for name in known if name != ACCOUNT}.get(wanted.strip().lower())
    if found is None:
        names = [name for name in known if name != ACCOUNT]
        raise SourceError(
            f"the source of the accounts has no column {wanted!r}; "
            + (did_you_mean(wanted, names) or f"it has: {', '.join(names)}"),
            where=f"{where} in company.yaml",
            fix="name a column of the accounts' own source under `matches`",
        )
    return found


def _forms(text: str, by: str) -> list[tuple[str, str]]:
    """Return the values to look up: for a domain also without its first part."""
    value = normalised(text, by)
    if by != "domain":
        return [("whole", value)]
    return [("whole", value), ("parent", f"regexp_replace({value}, '^[^.]+[.]', '')")]


def _unique(keys: Path, column: str, by: str) -> str:
    """Return SQL of the values that belong to exactly one account: key, account."""
    source = f"read_parquet({literal(keys)})"
    account = ACCOUNT
    parents = keys.with_name(PARENTS)
    if parents.is_file():
        source += f" LEFT JOIN read_parquet({literal(parents)}) ON account_id = {ACCOUNT}"
        account = f"coalesce(top, {ACCOUNT})"
    return (
        f"SELECT key, any_value({ACCOUNT}) AS account FROM (SELECT {ACCOUNT}, {account} AS whole, "
        f"{normalised(ident(column), by)} AS key FROM {source}) WHERE key IS NOT NULL "
        f"GROUP BY key HAVING count(DISTINCT whole) = 1"
    )
