"""Canonical tables in the state directory, as the rest of the pipeline reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, cast

import duckdb

from configs.runtime.errors import DataError, StateError
from configs.runtime.state_directory import read_manifest
from configs.schema.workspace import Workspace
from features.sources import product_grain
from features.sources.billing.billing_periods import BillingPeriods
from features.sources.build_table import DATA, QUARANTINE
from features.sources.files.sql import open_duckdb, text_list
from features.sources.manifest import Basis, Profile, ReadingFacts, TableManifest
from features.sources.months import month_identities
from features.tables.source_tables import TABLES


def canonical_files(folder: Path, since: date | None = None) -> list[Path]:
    """Return the files of the rows of a canonical table; empty before it is built.

    With `since`, files whose rows all became known in an earlier month are left out, but for one.
    """
    parts = (read_manifest(folder) or {}).get("parts")
    if not parts:
        return [folder / DATA] if (folder / DATA).is_file() else []
    month = f"{since:%Y-%m}" if since is not None else ""
    recent = [item for item in parts if max(item["months"], default="") >= month]
    return [folder / item["file"] for item in recent or parts[-1:]]


FACTS = frozenset(ReadingFacts.__annotations__)

MISSING_TABLES: dict[str, str] = {
    "subscriptions": "no contracts, ARR or renewal dates: outcomes come from activity or from the "
    "outcomes table, and results have no ARR",
    "usage_events": "no adoption or breadth signals",
    "entitlements": "no share of the allowance used, the strongest sign of expansion",
    "support_tickets": "no support signals",
    "survey_responses": "no NPS, CSAT or effort scores",
    "contacts": "no known people: the departure of a champion is not detected",
    "opportunities": "no pipeline: open expansions and renewals at risk are unknown",
    "invoices": "no payment signals, and no spend without contracts",
    "touches": "no contact history: treated and untreated accounts cannot be compared",
    "milestones": "no onboarding signals",
    "health_scores": "no audit of the health score in use",
    "outcomes": "losses and expansions are derived, not read from a log of decisions",
    "labels": "outcomes follow the built-in definitions, not one of the company",
    "owners": "no capacity per CSM: the capacity of the team is shared equally",
    "rates": "no conversion of amounts in other currencies",
}
"""Optional tables and the effect of their absence."""


@dataclass(frozen=True)
class TableInfo:
    """One canonical table in the state directory.

    Attributes
    ----------
    name : str
        Name in `features.tables.source_tables.TABLES`.
    path : Path
        ``data.parquet``: the columns of `columns` and ``known_at`` (UTC without zone,
        microseconds), sorted by account and time.
    columns : tuple of str
        Canonical columns of the source, without ``known_at``.
    rows, rows_read, rows_quarantined, rows_duplicate : int
        ``rows_read = rows + rows_quarantined + rows_duplicate``.
    rows_after_now : int
        Rows known after the clock, which later steps ignore.
    quarantined : dict of str to int
        Reason → quarantined rows; a row can have several reasons.
    noted : dict of str to int
        Reason → rows kept despite it.
    known_basis : {"column", "delay", "default"}
        Source of ``known_at``: a column, the event time plus a delay, or the event time.
    history : bool
        The table keeps every version of a row.
    first_happened, last_happened : str or None
        ISO text of the earliest and the latest event time.
    profile : dict
        Format of each instant column: ``given``, ``dates``, ``zoned``, ``midnights``,
        ``as_dates``.
    inputs : dict of str to int
        Input → number of rows.
    identity : str
        Identity of input, mapping, contract and code.
    unfolded : BillingPeriods
        Rows that were split into billing periods.
    read : ReadingFacts
        Facts about reading the table.
    parts : tuple of (Path, set of str)
        Files of the rows and their months; empty where `path` holds all rows without months.
    months : dict of str to str
        Month in which rows became known → identity of these rows; only for tables of activity.
    built : str
        What the last build read, as text.
    last_known : str or None
        ISO text of the moment at which the newest row became known.
    """

    name: str
    path: Path
    columns: tuple[str, ...]
    rows: int
    rows_read: int
    rows_quarantined: int
    rows_duplicate: int
    rows_after_now: int
    quarantined: dict[str, int]
    noted: dict[str, int]
    known_basis: Basis
    history: bool
    first_happened: str | None
    last_happened: str | None
    profile: Profile
    inputs: dict[str, int]
    identity: str
    unfolded: BillingPeriods = field(default_factory=BillingPeriods)
    read: ReadingFacts = field(default_factory=ReadingFacts)
    parts: tuple[tuple[Path, frozenset[str]], ...] = ()
    months: dict[str, str] = field(default_factory=dict)
    built: str = ""
    last_known: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the rows: `path`, or one per group of input files."""
        return tuple(path for path, _ in self.parts) or (self.path,)

    def files_of(self, months: Iterable[str]) -> tuple[Path, ...]:
        """Return the files with rows of some months; all files of a table without months."""
        wanted = set(months)
        found = tuple(path for path, own in self.parts if own & wanted)
        return found or self.files

    @property
    def quarantine(self) -> Path:
        """Quarantine file: row number, reasons and every source value as text."""
        return self.path.with_name(QUARANTINE)


@dataclass(frozen=True)
class Loaded:
    """Canonical tables of a company.

    Attributes
    ----------
    tables : dict of str to TableInfo
        Tables with rows.
    gaps : dict of str to str
        Missing or empty tables and the effect of their absence.
    grain : {"account", "product"}
        Entity of the rows: accounts, or products of accounts.
    """

    tables: dict[str, TableInfo]
    gaps: dict[str, str] = field(default_factory=dict)
    grain: Literal["account", "product"] = "account"

    def scan(self, connection: duckdb.DuckDBPyConnection, name: str) -> duckdb.DuckDBPyRelation:
        """Create the view `name` of a table in `connection` and return it."""
        files = text_list(self.info(name).files)
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet({files})")
        return connection.table(name)

    def info(self, name: str) -> TableInfo:
        """Return the facts of a table.

        Raises
        ------
        DataError
            The table is missing.
        """
        if name not in self.tables:
            raise DataError(
                f"there is no {name} table: {self.gaps.get(name, 'unknown table')}",
                where=f"tables.{name} in company.yaml",
            )
        return self.tables[name]


def read_manifests(workspace: Workspace) -> dict[str, TableManifest]:
    """Return the manifests of the tables in the state directory by name."""
    found = {name: read_manifest(workspace.state.sources / name) for name in TABLES}
    return {name: cast(TableManifest, item) for name, item in found.items() if item is not None}


def read_loaded(workspace: Workspace, now: datetime) -> Loaded:
    """Return the tables of the last load from the state directory.

    Raises
    ------
    StateError
        Nothing has been loaded.
    """
    found = read_manifests(workspace)
    if not found:
        raise StateError(
            "no source tables here yet",
            where=str(workspace.state.sources),
            fix="bellwether check FOLDER   reads the raw tables and reports on them",
        )
    tables = {
        name: _info(workspace.state.sources / name, name, manifest, now)
        for name, manifest in found.items()
        if manifest["rows"]
    }
    if workspace.company.grain == "product":
        tables = {name: _by_product(info) for name, info in tables.items()}
    gaps = {
        name: (
            f"the table is empty: {MISSING_TABLES[name]}" if name in found else MISSING_TABLES[name]
        )
        for name in TABLES
        if name not in tables and name in MISSING_TABLES
    }
    return Loaded(tables, gaps, workspace.company.grain)


def _info(folder: Path, name: str, manifest: TableManifest, now: datetime) -> TableInfo:
    path, parts = folder / DATA, manifest.get("parts", [])
    files = [folder / item["file"] for item in parts] or [path]
    return TableInfo(
        name=name,
        path=path,
        columns=tuple(manifest["columns"]),
        rows=manifest["rows"],
        rows_read=manifest["rows_read"],
        rows_quarantined=manifest["rows_quarantined"],
        rows_duplicate=manifest["rows_duplicate"],
        rows_after_now=_rows_after(files, manifest["last_known"], now),
        quarantined=manifest["quarantined"],
        noted=manifest["noted"],
        known_basis=manifest["known_basis"],
        history=manifest["history"],
        first_happened=manifest["first_happened"],
        last_happened=manifest["last_happened"],
        last_known=manifest["last_known"],
        profile=manifest["profile"],
        inputs=manifest["inputs"],
        identity=manifest["identity"],
        unfolded=BillingPeriods(**manifest.get("unfolded", {})),
        read=_facts_with_content(manifest),
        parts=tuple((folder / item["file"], frozenset(item["months"])) for item in parts),
        months=month_identities(item["months"] for item in parts),
        built=manifest.get("built", ""),
    )


def _by_product(info: TableInfo) -> TableInfo:
    """Return the facts of a table whose rows belong to products of accounts."""
    facts = product_grain.read_facts(info.path.parent)
    if facts is None:
        return info
    noted = {**info.noted, "no_contract_product": facts["no_product"]}
    return replace(
        info,
        path=info.path.with_name(product_grain.FILE),
        rows=facts["rows"],
        columns=tuple(facts["columns"]),
        identity=facts["identity"],
        noted={code: n for code, n in noted.items() if n},
        parts=(),
        months={},
    )


def _facts_with_content(manifest: TableManifest) -> ReadingFacts:
    facts = {key: value for key, value in manifest.items() if key in FACTS and value}
    return cast(ReadingFacts, facts)


def _rows_after(files: Sequence[Path], last_known: str | None, now: datetime) -> int:
    clock = now.astimezone(UTC).replace(tzinfo=None)
    if last_known is None or datetime.fromisoformat(last_known) <= clock:
        return 0
    with open_duckdb(files=files) as connection:
        row = connection.execute(
            f"SELECT count(*) FROM read_parquet({text_list(files)}) WHERE known_at > ?", [clock]
        ).fetchone()
    return int(row[0]) if row else 0
