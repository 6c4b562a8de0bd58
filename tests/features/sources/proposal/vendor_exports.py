"""Exports in the vendors' shapes, what an expert would map in them, and the companies they form."""

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
from configs.schema.workspace import Environment, Workspace
from features.sources import load_sources
from features.sources.files.readers import open_files
from features.sources.files.sql import open_duckdb
from features.sources.loaded_tables import Loaded
from features.sources.proposal import Proposal, company_yaml, propose
from features.sources.proposal.file_profile import FileProfile, profile_file
from features.tables.source_tables import TABLES

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = sorted(path.name for path in FIXTURES.iterdir())
NOW = datetime(2026, 7, 1, tzinfo=UTC)


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
        First values of a column, in the order of the file.
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


class VendorCompany:
    """A folder of exports with its proposed configuration, loaded as a company would load it."""

    def __init__(self, folder: str, place: Path) -> None:
        self.expected = expected(folder)
        self.data = place / "data"
        shutil.copytree(FIXTURES / folder, self.data)
        (self.data / "expected.yaml").unlink()
        self.proposal: Proposal = propose(self.data, NOW)
        self.place = place

    def load(self) -> Loaded:
        """Load the tables; a company without activity gets some, so that it is complete."""
        text = yaml.safe_load(company_yaml(self.proposal, str(self.data)))
        mapped = {draft.table for draft in self.proposal.drafts}
        if not any(TABLES[name].activity for name in mapped):
            self._add_usage(text)
        company = parse_company({**text, "data": str(self.data)}, where="proposal")
        places = Environment(connections={})
        workspace = Workspace(company, self.place, self.data, State(self.place / "state"), places)
        return load_sources(workspace, NOW)

    def _add_usage(self, text: dict[str, Any]) -> None:
        accounts = next(d for d in self.proposal.drafts if d.table == "accounts")
        source = accounts.file.source.name
        text["tables"]["usage_events"] = {
            "sql": f'SELECT "{accounts.columns["account_id"].value}" AS account_id, '
            f"TIMESTAMP '2026-06-01 10:00:00' AS occurred_at FROM {source}"
        }
