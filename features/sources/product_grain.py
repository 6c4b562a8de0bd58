"""Accounts split by product (``grain: product``): every product of an account is one entity.

The canonical tables stay as they are; a second file next to each has one row per entity. An entity
is ``ACCOUNT · PRODUCT`` and begins with the first term of that product; its parent is the account,
so families add up to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import duckdb

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import DataError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import read_json, write_json_atomically
from configs.schema.workspace import Workspace
from features.sources.build_table import DATA
from features.sources.files.sql import columns_of, ident, literal, one_row, open_duckdb
from features.sources.manifest import TableManifest
from features.tables.source_tables import TABLES

FILE = "by_product.parquet"
FACTS = "by_product.json"
SEPARATOR = " · "

MONEY = {"invoices": "amount", "opportunities": "amount"}
"""Amounts of a whole account, which belong to no single product."""


class ProductFacts(TypedDict):
    """Facts about the file of one table.

    Attributes
    ----------
    identity : str
        Identity of the table, the pairs and the code.
    rows : int
        Rows of the file.
    columns : list of str
        Columns of the file without known_at.
    no_product : int
        Rows of a product that the account has no terms of; they are not in the file.
    """

    identity: str
    rows: int
    columns: list[str]
    no_product: int


def split_by_product(workspace: Workspace, manifests: dict[str, TableManifest]) -> None:
    """Write the tables by product where they are out of date.

    Parameters
    ----------
    workspace : Workspace
        The company, after its tables were loaded.
    manifests : dict of str to TableManifest
        Manifests of the loaded tables.

    Raises
    ------
    DataError
        There are no subscriptions, or they name no product.
    """
    terms = manifests.get("subscriptions")
    if terms is None or "product" not in terms["columns"]:
        raise DataError(
            "`grain: product` needs subscriptions with a product",
            where="grain in company.yaml",
            fix="map subscriptions.product, or remove `grain`",
        )
    sources = workspace.state.sources
    shared = [manifests[name]["identity"] for name in ("accounts", "subscriptions")]
    code = code_digest(__name__)
    with open_duckdb(folders=[sources]) as connection:
        _write_pairs(connection, sources)
        for name, manifest in manifests.items():
            if "account_id" not in TABLES[name].columns or not manifest["rows"]:
                continue
            identity = digest(code, manifest["identity"], shared)
            facts = read_facts(sources / name)
            if facts is None or facts["identity"] != identity:
                done = _write_table(connection, sources / name, name, identity)
                write_json_atomically(sources / name / FACTS, done)


def read_facts(folder: Path) -> ProductFacts | None:
    """Return the facts of a table by product; None before it is written."""
    path = folder / FACTS
    if not path.is_file() or not (folder / FILE).is_file():
        return None
    found: ProductFacts = read_json(path)
    return found


def _write_pairs(connection: duckdb.DuckDBPyConnection, sources: Path) -> None:
    """Write the table ``pairs``: account_id, product, entity_id, first_on."""
    terms = literal(sources / "subscriptions" / DATA)
    connection.execute(
        f"CREATE TABLE pairs AS SELECT account_id, product, "
        f"account_id || {literal(SEPARATOR)} || product AS entity_id, "
        f"min(started_on) AS first_on, min(known_at) AS first_known "
        f"FROM read_parquet({terms}) WHERE product IS NOT NULL GROUP BY ALL"
    )
    if not one_row(connection, "SELECT count(*) AS n FROM pairs")["n"]:
        raise DataError(
            "no subscription has a product",
            where="tables.subscriptions.columns.product in company.yaml",
            fix="map the column that names the product, or remove `grain: product`",
        )


def _write_table(
    connection: duckdb.DuckDBPyConnection, folder: Path, name: str, identity: str
) -> ProductFacts:
    rows = f"read_parquet({literal(folder / DATA)})"
    columns = columns_of(connection, f"SELECT * FROM {rows}")
    query = _accounts(columns, rows) if name == "accounts" else _rows(name, columns, rows)
    lost = 0
    if name != "accounts" and "product" in columns:
        lost = one_row(
            connection,
            f"SELECT count(*) AS n FROM {rows} AS source ANTI JOIN pairs ON "
            f"source.account_id = pairs.account_id AND (source.product = pairs.product "
            f"OR source.product IS NULL)",
        )["n"]
    lead = [n for n in ("account_id", TABLES[name].happened) if n in columns]
    partial = folder / f"{FILE}.new"
    connection.execute(
        f"COPY ({query} ORDER BY {', '.join(ident(n) for n in lead)}) TO {literal(partial)} "
        f"(FORMAT parquet, COMPRESSION zstd)"
    )
    partial.replace(folder / FILE)
    made = f"SELECT * FROM read_parquet({literal(folder / FILE)})"
    return {
        "identity": identity,
        "rows": int(one_row(connection, f"SELECT count(*) AS n FROM ({made})")["n"]),
        "columns": [name for name in columns_of(connection, made) if name != "known_at"],
        "no_product": int(lost),
    }


def _accounts(columns: dict[str, str], rows: str) -> str:
    """Return SQL of one account per pair; it begins with the first term of its product."""
    new = {
        "account_id": "entity_id",
        "parent_account_id": "source.account_id",
        "created_at": "greatest(source.created_at, CAST(first_on AS TIMESTAMP))",
        "name": f"source.name || {literal(SEPARATOR)} || product",
        "plan": "CAST(NULL AS VARCHAR)",
        "known_at": "greatest(source.known_at, first_known)",
    }
    names = dict.fromkeys([*columns, "parent_account_id"])
    shown = [f"{new.get(n, f'source.{ident(n)}')} AS {ident(n)}" for n in names]
    return (
        f"SELECT {', '.join(shown)} FROM {rows} AS source "
        f"JOIN pairs ON source.account_id = pairs.account_id"
    )


def _rows(name: str, columns: dict[str, str], rows: str) -> str:
    """Return SQL of the rows of a table: by their product, or for every product of the account."""
    match = " AND (source.product = pairs.product OR source.product IS NULL)"
    on = "source.account_id = pairs.account_id" + (match if "product" in columns else "")
    new: dict[str, Any] = {"account_id": "entity_id"}
    money = MONEY.get(name)
    if money in columns:
        several = "count(*) OVER (PARTITION BY pairs.account_id, source.bw_place) > 1"
        new[str(money)] = f"CASE WHEN NOT ({several}) THEN source.{ident(str(money))} END"
    shown = [f"{new.get(n, f'source.{ident(n)}')} AS {ident(n)}" for n in columns]
    numbered = f"(SELECT *, row_number() OVER () AS bw_place FROM {rows})"
    return f"SELECT {', '.join(shown)} FROM {numbered} AS source JOIN pairs ON {on}"
