"""Exports in the vendors' shapes, what an expert would map in them, and companies made of them.

The companies here are configured from the starters alone, without the evidence that a proposal
takes from values, so that they test what the starters say.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.starter import Starter, StarterFile, load_starters
from configs.schema.workspace import Environment, Workspace
from features.sources import load_sources
from features.sources.account_links import normalised
from features.sources.files.readers import open_files
from features.sources.files.sql import ident, one_row, open_duckdb
from features.sources.loaded_tables import Loaded
from features.sources.proposal.file_profile import FileProfile, profile_file
from features.sources.proposal.starters import starter_drafts, with_columns
from features.tables.source_tables import TABLES

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = sorted(path.name for path in FIXTURES.iterdir())
NOW = datetime(2026, 7, 1, tzinfo=UTC)
ENTRIES = [(starter, entry) for starter in load_starters() for entry in starter.files]


@dataclass(frozen=True)
class ExpectedTable:
    """What an expert would map from one file to one table, from the vendor's documentation.

    Attributes
    ----------
    folder, file, vendor, entry, table : str
        The file, the starter that must know it, and the table.
    columns : dict of str to str
        Canonical column to source column; a starter's SQL must read it.
    account : dict of str to str
        Link to the accounts: column, matches, by; empty for tables without one.
    known_at : str or None
        Source column, or None where the time of the event counts.
    never_known_at : tuple of str
        Source columns that say nothing about the first version of a row.
    billing : dict of str to str
        Shape of a billing export.
    set_aside : dict of str to int
        Reason to rows in the quarantine.
    values : dict of str to list
        Values that occur in a column.
    is_also : bool
        A further table of the same file.
    """

    folder: str
    file: str
    vendor: str
    entry: str
    table: str
    columns: dict[str, str]
    set_aside: dict[str, int]
    known_at: str | None
    never_known_at: tuple[str, ...]
    account: dict[str, str] = field(default_factory=dict)
    billing: dict[str, Any] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)
    is_also: bool = False

    @property
    def place(self) -> str:
        return f"{self.folder}/{self.file}: {self.entry}"

    @property
    def starter(self) -> StarterFile:
        """The entry of the starter."""
        return next(
            entry
            for starter, entry in ENTRIES
            if (starter.vendor, entry.name) == (self.vendor, self.entry)
        )

    @property
    def profile(self) -> FileProfile:
        """Profile of the file."""
        return profiles(self.folder)[self.file]


@dataclass(frozen=True)
class ExpectedFolder:
    """The expected tables of one folder, and the ARR of its accounts on a day."""

    tables: tuple[ExpectedTable, ...]
    arr_on: str | None
    arr: dict[str, float]


@cache
def expected(folder: str) -> ExpectedFolder:
    text = yaml.safe_load((FIXTURES / folder / "expected.yaml").read_text(encoding="utf-8"))
    tables = []
    for file, main in text["files"].items():
        vendor = main.pop("vendor", text["vendor"])
        further = main.pop("also", [])
        for item, is_also in [(main, False), *((item, True) for item in further)]:
            never = tuple(item.pop("never_known_at"))
            tables.append(
                ExpectedTable(folder, file, vendor, never_known_at=never, is_also=is_also, **item)
            )
    return ExpectedFolder(tuple(tables), str(text.get("arr_on")), text.get("arr", {}))


@cache
def profiles(folder: str) -> dict[str, FileProfile]:
    """Profiles of the files of a folder, by file name."""
    files = sorted((FIXTURES / folder).glob("*.csv"))
    connection = open_duckdb(files=files)
    try:
        return {
            path.name: profile_file(
                connection, open_files(connection, path.stem, [path], path.name)
            )
            for path in files
        }
    finally:
        connection.close()


def recognised(file: FileProfile, *, is_also: bool = False) -> list[tuple[Starter, StarterFile]]:
    """The entries that know a file, best first; ties would make the order arbitrary."""
    found = [draft for draft in starter_drafts(file) if draft.is_also == is_also]
    entries = {f"{starter.vendor}: {entry.about}": (starter, entry) for starter, entry in ENTRIES}
    scores = [draft.score for draft in found]
    assert is_also or scores[:1] != scores[1:2], [draft.origin for draft in found]
    return [entries[draft.origin] for draft in found]


def mapping_of(entry: StarterFile, file: FileProfile) -> dict[str, Any]:
    """The mapping that a starter gives a file, without its links."""
    columns = {}
    for name in TABLES[entry.table].columns:
        text = with_columns(entry.sql[name], file) if name in entry.sql else None
        header = file.find(entry.columns[name]) if name in entry.columns else None
        if text or header:
            columns[name] = text or header
    conditions = [*([entry.leave_out] if entry.leave_out else []), *entry.leave_out_also]
    present = [text for item in conditions if (text := with_columns(item, file))]
    mapping = {
        "columns": columns,
        "known_at": file.find(entry.known_at) if entry.known_at else None,
        "leave_out": " OR ".join(f"({text})" for text in present) or None,
        "known_delay_days": entry.known_delay_days,
        "timezone": entry.timezone,
        "billing": _billing(entry, file),
    }
    return {key: value for key, value in mapping.items() if value is not None}


def _billing(entry: StarterFile, file: FileProfile) -> dict[str, Any] | None:
    if entry.billing is None:
        return None
    named = {
        "amount": entry.billing.amount,
        "quantity": entry.billing.quantity,
        "interval": entry.billing.interval,
        "interval_count": entry.billing.interval_count,
    }
    found: dict[str, Any] = {"rows": entry.billing.rows, "amount_is": entry.billing.amount_is}
    for key, names in named.items():
        text = entry.billing.sql.get(key)  # type: ignore[call-overload]
        value = with_columns(text, file) if text else file.find(names)
        if value:
            found[key] = value
    if entry.billing.minor_units:
        found["minor_units"] = True
    return found


def links_of(entry: StarterFile, file: FileProfile) -> list[tuple[str, str]]:
    """The values of a file that may identify its accounts: column or SQL, and how."""
    texts = [
        (with_columns(link.sql, file) if link.sql else file.find(link.column), link.by)
        for link in entry.account
    ]
    return [(text, by) for text, by in texts if text]


class StarterCompany:
    """A folder of exports configured by the starters, loaded as a company would load it."""

    def __init__(self, folder: str, place: Path) -> None:
        self.tables = expected(folder).tables
        self.accounts = next(item for item in self.tables if item.table == "accounts")
        self.place, self.data = place, place / "data"
        shutil.copytree(FIXTURES / folder, self.data)

    def links(self, wanted: ExpectedTable) -> list[dict[str, str]]:
        """The links of a file to the accounts, each with the column that it matches best."""
        paths = [self.data / wanted.file, self.data / self.accounts.file]
        connection = open_duckdb(files=paths)
        try:
            rows, accounts = (
                open_files(connection, f"input_{n}", [path], path.name)
                for n, path in enumerate(paths)
            )
            found = []
            for text, by in links_of(wanted.starter, wanted.profile):
                value = ident(text) if text in wanted.profile.columns else f"({text})"
                shares = {
                    name: one_row(
                        connection,
                        f"SELECT count(*) AS n FROM {rows.relation} WHERE {normalised(value, by)} "
                        f"IN (SELECT {normalised(ident(name), by)} FROM {accounts.relation})",
                    )["n"]
                    for name in accounts.columns
                }
                best = max(shares, key=lambda name: shares[name])
                if shares[best]:
                    found.append({"column": text, "matches": best, "by": by})
            return found
        finally:
            connection.close()

    def load(self) -> Loaded:
        """Load the tables; a company without activity gets some, so that it is complete."""
        tables: dict[str, Any] = {}
        for wanted in self.tables:
            mapping = mapping_of(wanted.starter, wanted.profile)
            mapping["from"] = _input(wanted.file)
            if wanted.account:
                mapping["account"] = self.links(wanted)
            tables.setdefault(wanted.table, []).append(mapping)
        if not any(TABLES[name].activity for name in tables):
            account = tables["accounts"][0]["columns"]["account_id"]
            tables["usage_events"] = {
                "sql": f"SELECT {ident(account)} AS account_id, TIMESTAMP '2026-06-01 10:00:00' "
                f"AS occurred_at FROM {_input(self.accounts.file)}"
            }
        company = parse_company(
            {
                "name": "vendors",
                "inputs": {_input(item.file): item.file for item in self.tables},
                "tables": tables,
                "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}},
            },
            where="starters",
        )
        workspace = Workspace(
            company,
            self.place,
            self.data,
            State(self.place / "state"),
            Environment(connections={}),
        )
        return load_sources(workspace, NOW)


def _input(file: str) -> str:
    return f"file_{Path(file).stem}"
