"""Several sources of one table, merged into one canonical table.

Accounts from two CRMs, tickets from two help desks: each source is read with its own mapping; the
results are put together here. Where two sources have the same key, the first one in
``company.yaml`` counts and the row of the other is set aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from features.sources.account_links import KEYS, PARENTS
from features.sources.build_table import DATA, QUARANTINE
from features.sources.cleaning.demo_accounts import TEST_ACCOUNTS
from features.sources.files.sql import ident, literal, one_row, text_list
from features.sources.manifest import Basis, TableFacts
from features.tables.source_tables import TABLES

OTHER_SOURCE = "in_another_source"
"""Reason of a row whose key an earlier source has."""

WEAKEST: tuple[Basis, ...] = ("default", "delay", "column")


def merge(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    facts: list[TableFacts],
    folders: list[Path],
    labels: list[str],
    target: Path,
) -> TableFacts:
    """Merge the sources of a table into `target`, and return their facts together.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with access to the folders.
    table : str
        The canonical table.
    facts : list of TableFacts
        Facts of each source, in the order of ``company.yaml``.
    folders : list of Path
        Folder of each source, with its data and quarantine; removed files stay listed there.
    labels : list of str
        Name of each source, written into the quarantine.
    target : Path
        Receives the merged data and quarantine.
    """
    spec = TABLES[table]
    parts = " UNION ALL BY NAME ".join(
        f"SELECT *, {number} AS bw_source, row_number() OVER () AS bw_place "
        f"FROM read_parquet({literal(folder / DATA)})"
        for number, folder in enumerate(folders)
    )
    connection.execute(f"CREATE OR REPLACE TABLE merged AS {parts}")
    key = [name for name in spec.key if all(name in item["columns"] for item in facts)]
    later = "SELECT bw_source, bw_place FROM merged WHERE false"
    if key and len(key) == len(spec.key):
        names = ", ".join(ident(name) for name in key)
        later = (
            f"SELECT bw_source, bw_place FROM merged JOIN (SELECT {names}, min(bw_source) AS first "
            f"FROM merged GROUP BY ALL) USING ({names}) WHERE bw_source > first"
        )
    connection.execute(f"CREATE OR REPLACE TABLE repeated AS {later}")
    n_repeated = one_row(connection, "SELECT count(*) AS n FROM repeated")["n"]
    columns = [name for name in spec.columns if any(name in item["columns"] for item in facts)]
    columns = [name for name in columns if name != "event_id"]
    lead = [n for n in ("account_id", spec.happened) if n in columns]
    kept = "FROM merged ANTI JOIN repeated USING (bw_source, bw_place)"
    connection.execute(
        f"COPY (SELECT {', '.join(ident(n) for n in [*columns, 'known_at'])} {kept} "
        f"ORDER BY {', '.join([*(ident(n) for n in lead), 'bw_source', 'bw_place'])}) "
        f"TO {literal(target / DATA)} (FORMAT parquet, COMPRESSION zstd)"
    )
    _write_quarantine(connection, folders, labels, columns, target)
    for name in (KEYS, PARENTS, TEST_ACCOUNTS):
        _put_together(connection, [folder / name for folder in folders], target / name)
    return merged_facts(facts, columns, int(n_repeated))


def _write_quarantine(
    connection: duckdb.DuckDBPyConnection,
    folders: list[Path],
    labels: list[str],
    columns: list[str],
    target: Path,
) -> None:
    values = ", ".join(f"CAST({ident(name)} AS VARCHAR) AS {ident(name)}" for name in columns)
    own = " UNION ALL BY NAME ".join(
        f"SELECT *, {literal(label)} AS quarantine_source "
        f"FROM read_parquet({literal(folder / QUARANTINE)})"
        for folder, label in zip(folders, labels, strict=True)
    )
    connection.execute(
        f"COPY ({own} UNION ALL BY NAME SELECT bw_place AS quarantine_row, "
        f"[{literal(OTHER_SOURCE)}] AS quarantine_reasons, "
        f"({text_list(labels)})[bw_source + 1] AS quarantine_source, {values} "
        f"FROM merged SEMI JOIN repeated USING (bw_source, bw_place)) "
        f"TO {literal(target / QUARANTINE)} (FORMAT parquet, COMPRESSION zstd)"
    )


def _put_together(connection: duckdb.DuckDBPyConnection, files: list[Path], target: Path) -> None:
    found = [file for file in files if file.is_file()]
    if found:
        connection.execute(
            f"COPY (SELECT DISTINCT * FROM read_parquet({text_list(found)}, union_by_name = true)) "
            f"TO {literal(target)} (FORMAT parquet, COMPRESSION zstd)"
        )


def merged_facts(facts: list[TableFacts], columns: list[str], n_repeated: int) -> TableFacts:
    """Return the facts of several parts of a table together; `n_repeated` rows do not count."""
    quarantined = _summed([item["quarantined"] for item in facts])
    if n_repeated:
        quarantined[OTHER_SOURCE] = n_repeated
    traced = [item["sql_rows"] for item in facts if item.get("sql_rows")]
    split = [item["unfolded"] for item in facts if item["unfolded"]]
    return {
        "rows_read": sum(item["rows_read"] for item in facts),
        "rows": sum(item["rows"] for item in facts) - n_repeated,
        "rows_quarantined": sum(item["rows_quarantined"] for item in facts) + n_repeated,
        "rows_duplicate": sum(item["rows_duplicate"] for item in facts),
        "first_happened": min((t for i in facts if (t := i["first_happened"])), default=None),
        "last_happened": max((t for i in facts if (t := i["last_happened"])), default=None),
        "last_known": max((t for i in facts if (t := i["last_known"])), default=None),
        "quarantined": quarantined,
        "noted": _summed([item["noted"] for item in facts]),
        "columns": columns,
        "profile": _profiles(facts),
        "known_basis": min((item["known_basis"] for item in facts), key=WEAKEST.index),
        "history": all(item["history"] for item in facts),
        "unfolded": split[0] if split else {},
        "lines": _united([item.get("lines", {}) for item in facts]),
        "file_notes": list(dict.fromkeys(n for item in facts for n in item.get("file_notes", []))),
        "sql_rows": traced[0] if traced else None,
        "written": _united([item.get("written", {}) for item in facts]),
        "marks": _united([item.get("marks", {}) for item in facts]),
        "examples": _united([item.get("examples", {}) for item in facts]),
        "remedies": _united([item.get("remedies", {}) for item in facts]),
        "repeated_ids": _united([item.get("repeated_ids", {}) for item in facts]),
        "types": _united([item.get("types", {}) for item in facts]),
        "outside": _united([item.get("outside", {}) for item in facts]),
    }


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for item in counts:
        total.update(item)
    return dict(total)


def _united(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of all parts; where two have the same key, the first one counts."""
    return {key: value for part in reversed(parts) for key, value in part.items()}


def _profiles(facts: list[TableFacts]) -> dict[str, dict[str, int]]:
    names = dict.fromkeys(name for item in facts for name in item["profile"])
    merged: dict[str, dict[str, int]] = {}
    for name in names:
        found = [item["profile"][name] for item in facts if name in item["profile"]]
        merged[name] = {**_summed(found), "as_dates": min(item["as_dates"] for item in found)}
    return merged
