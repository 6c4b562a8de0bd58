"""Build of one group of input files: canonical rows, quarantine, and an index of their keys.

``sources/<table>/groups/<content>/`` holds ``data.parquet`` and ``quarantine.parquet`` as a table
built in one piece does, ``keys.parquet`` (hashes of the source row and of its key, to find repeats
in other groups) and ``accounts.parquet`` (the accounts its rows name).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import duckdb

from configs.runtime.hashing import digest
from configs.runtime.state_directory import new_folder, read_manifest
from configs.schema.source_mapping import TableMapping
from configs.schema.workspace import Workspace
from features.sources import build_table
from features.sources.cleaning.demo_accounts import known_accounts
from features.sources.cleaning.forget_list import REASON as FORGOTTEN
from features.sources.cleaning.forget_list import read_forget_list
from features.sources.cleaning.redelivered_events import EVENT_ID, possible_ids
from features.sources.files.readers import open_files, place_of
from features.sources.files.sql import ROW, ident, literal, text_list
from features.sources.manifest import TableFacts
from features.sources.mapping import KNOWN_AT, map_table
from features.sources.months import MonthRows, months_of
from features.sources.per_file.plan import FileGroup
from features.tables.source_tables import TABLES

GROUPS = "groups"
KEYS, ACCOUNTS = "keys.parquet", "accounts.parquet"

Connect = Callable[[list[Path]], AbstractContextManager[duckdb.DuckDBPyConnection]]


class GroupManifest(TypedDict):
    """Manifest of a group.

    Attributes
    ----------
    identity : str
        Of the content, mapping, contract and code.
    accounts : str
        Identity of the accounts its rows name.
    names : list of str
        Its files.
    raw_columns : dict of str to str
        Columns of the files and their types.
    raw_rows : int
        Rows of the files.
    ids : list of str
        Unmapped columns that may be an event id.
    facts : TableFacts
        Counts and formats.
    months : dict
        Rows by month (`features.sources.months`).
    """

    identity: str
    accounts: str
    names: list[str]
    raw_columns: dict[str, str]
    raw_rows: int
    ids: list[str]
    facts: TableFacts
    months: MonthRows


@dataclass(frozen=True)
class GroupTask:
    """Settings that the groups of one table share.

    Attributes
    ----------
    workspace : Workspace
        The company.
    table, input_name : str
        The table and its input.
    mapping : TableMapping
        Its mapping.
    identity : str
        Identity of mapping, contract and code.
    connect : callable
        Opens a database with access to some files and to the source tables.
    """

    workspace: Workspace
    table: str
    input_name: str
    mapping: TableMapping
    identity: str
    connect: Connect

    @property
    def folder(self) -> Path:
        """Folder of the table."""
        return self.workspace.state.sources / self.table

    @property
    def accounts(self) -> Path:
        """The canonical accounts."""
        return self.workspace.state.sources / "accounts" / build_table.DATA

    def folder_of(self, group: FileGroup) -> Path:
        """Return the folder of a group."""
        return self.folder / GROUPS / group.content

    def manifest_of(self, group: FileGroup) -> GroupManifest | None:
        """Return the manifest of a group that was built with this mapping, contract and code."""
        found = read_manifest(self.folder_of(group))
        if found is None or found.get("identity") != digest(self.identity, group.content):
            return None
        return cast(GroupManifest, found)


def build_group(task: GroupTask, group: FileGroup) -> GroupManifest:
    """Read the files of a group and write its folder.

    Raises
    ------
    SourceError
        A file cannot be read or mapped, or the format of a column is ambiguous within the group.
    """
    paths = [task.workspace.data / name for name in group.names]
    item = task.workspace.company.inputs[task.input_name]
    written: dict[str, object] = {}
    folder = task.folder_of(group)
    with task.connect(paths) as db, new_folder(folder, written) as aside:
        raw = open_files(db, task.input_name, paths, place_of(task.input_name, item))
        inputs = {task.input_name: raw}
        mapped = map_table(db, task.table, task.mapping, inputs, task.accounts)
        built = build_table.build_source_table(
            db,
            mapped,
            [raw],
            task.accounts,
            aside,
            read_forget_list(task.workspace.state),
            is_part=True,
        )
        ids = possible_ids(mapped, mapped.spec)
        _write_keys(db, task, list(mapped.expressions), group, ids, aside)
        _write_accounts(db, group, aside)
        facts: TableFacts = {
            "unfolded": {},
            "lines": {task.input_name: raw.lines.as_dict()} if raw.lines.total else {},
            "file_notes": list(raw.notes),
            "sql_rows": None,
            **built,
        }
        manifest: GroupManifest = {
            "identity": digest(task.identity, group.content),
            "accounts": accounts_prints(db, task, [aside]).get(group.content, ""),
            "names": list(group.names),
            "raw_columns": raw.columns,
            "raw_rows": raw.rows,
            "ids": ids,
            "facts": facts,
            "months": months_of(db, task.table, facts["columns"], [aside / build_table.DATA]),
        }
        written.update(manifest)
    return manifest


def _write_keys(
    db: duckdb.DuckDBPyConnection,
    task: GroupTask,
    present: list[str],
    group: FileGroup,
    ids: list[str],
    folder: Path,
) -> None:
    """Write one row per canonical row, in the same order: its place and its hashes."""
    spec = TABLES[task.table]
    lead = [f"s.{ident(n)}" for n in ("account_id", spec.happened) if n in present]
    order = ", ".join([*lead, ROW])
    key = "NULL::UBIGINT"
    if spec.key:
        names = [*spec.key, *([KNOWN_AT] if task.mapping.history else [])]
        key = f"hash({', '.join(f's.{ident(name)}' for name in names)})"
    elif EVENT_ID in present:
        key = f"CASE WHEN s.{EVENT_ID} IS NOT NULL THEN hash(s.account_id, s.{EVENT_ID}) END"
    texts, source = "", ""
    if ids:
        texts = "".join(f", hash(r.{ident(name)}) AS {ident(f'id {name}')}" for name in ids)
        texts += f", hash(s.account_id) AS account_hash, s.{ident(spec.happened)} AS happened"
        source = f"JOIN raw.{ident(task.input_name)} r USING ({ROW}) "
    db.execute(
        f"COPY (SELECT {literal(group.content)} AS group_id, "
        f"row_number() OVER (ORDER BY {order}) - 1 AS place, {ROW} AS source_row, s.row_hash, "
        f"{key} AS key_hash, s.{KNOWN_AT}{texts} "
        f"FROM (SELECT * FROM staged ANTI JOIN copies USING ({ROW}) "
        f"ANTI JOIN superseded USING ({ROW}) WHERE len(reasons) = 0) AS s {source}"
        f"ORDER BY place) "
        f"TO {literal(folder / KEYS)} (FORMAT parquet, COMPRESSION zstd)"
    )


def _write_accounts(db: duckdb.DuckDBPyConnection, group: FileGroup, folder: Path) -> None:
    db.execute(
        f"COPY (SELECT DISTINCT {literal(group.content)} AS group_id, account_id FROM staged "
        f"WHERE account_id IS NOT NULL AND NOT list_contains(reasons, {literal(FORGOTTEN)}) "
        f"ORDER BY account_id) "
        f"TO {literal(folder / ACCOUNTS)} (FORMAT parquet, COMPRESSION zstd)"
    )


def accounts_prints(
    db: duckdb.DuckDBPyConnection, task: GroupTask, folders: list[Path]
) -> dict[str, str]:
    """Return, for each group, the identity of the accounts that its rows name."""
    rows = db.execute(
        f"SELECT group_id, count(known.account_day), "
        f"sum(hash(account_id, account_day, is_test_account)) "
        f"FROM read_parquet({text_list(path / ACCOUNTS for path in folders)}) "
        f"LEFT JOIN ({known_accounts(task.accounts)}) AS known USING (account_id) GROUP BY 1"
    ).fetchall()
    return {group: digest(int(n), str(total)) for group, n, total in rows}
