"""Raw tables to canonical Parquet: the only step that reads what a company brings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import (
    BellwetherError,
    ConfigError,
    DataError,
    SourceError,
    StateError,
    joined,
)
from configs.runtime.hashing import digest
from configs.runtime.state_directory import (
    new_folder,
    read_manifest,
    sweep_work,
    work_folder,
    write_json_atomically,
)
from configs.schema.workspace import Workspace
from features.sources import billing_periods, build_table
from features.sources.files import sql_row_trace
from features.sources.files.readers import RawInput, fingerprint, open_input, paths_of
from features.sources.files.sql import literal, open_duckdb
from features.sources.mapping import Mapped, check_tables, inputs_of, map_table, mapping_of
from features.sources.missing_tables import GAPS
from features.tables.source_tables import TABLES

MIN_ACCOUNTS = 2
WORK = ".work."
"""Begins the name of the folder a run works in."""

READ = (
    "lines",
    "file_notes",
    "written",
    "marks",
    "sql_rows",
    "examples",
    "remedies",
    "repeated_ids",
)
"""Facts of a manifest about how a table was read."""

Basis = Literal["column", "delay", "default"]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class TableInfo:
    """One canonical table in the state directory.

    Attributes
    ----------
    name : str
        Its name in `features.tables.source_tables.TABLES`.
    path : Path
        ``data.parquet``: the columns of `columns` and ``known_at`` (UTC without zone,
        microseconds), sorted by account and time.
    columns : tuple of str
        Canonical columns the source has, without ``known_at``; an absent one is not there.
    rows, rows_read, rows_quarantined, rows_duplicate : int
        ``rows_read = rows + rows_quarantined + rows_duplicate``.
    rows_after_now : int
        Kept rows known after the clock: later steps must not see them.
    quarantined : dict of str to int
        Reason → rows set aside; a row can have several reasons.
    noted : dict of str to int
        Reason → rows kept in spite of it.
    known_basis : {"column", "delay", "default"}
        Where ``known_at`` comes from: the source, when it happened plus a delay, or when it
        happened.
    history : bool
        Every version of a row is there.
    first_happened, last_happened : str or None
        ISO text of the earliest and the latest row, as it happened.
    profile : dict
        How each instant column is written: ``given``, ``dates``, ``zoned``, ``midnights``,
        ``as_dates``.
    inputs : dict of str to int
        Input → rows it holds.
    identity : str
        Changes with the input, the mapping, the contract or the code.
    unfolded : Unfolded
        Rows that span several billing periods, and the rows they became.
    read : dict
        How it was read (`READ`): ``lines`` of CSV files by input, ``file_notes``, ``written``
        (column → how its text is written), ``marks`` (column → currency marks), ``sql_rows``,
        ``examples`` and ``remedies`` of rows set aside by reason, ``repeated_ids``.
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
    profile: dict[str, dict[str, int]]
    inputs: dict[str, int]
    identity: str
    unfolded: billing_periods.BillingPeriods = field(default_factory=billing_periods.BillingPeriods)
    read: dict[str, Any] = field(default_factory=dict)

    @property
    def quarantine(self) -> Path:
        """Rows set aside, with their number, their reasons and every source value as text."""
        return self.path.with_name(build_table.QUARANTINE)


@dataclass(frozen=True)
class Loaded:
    """Everything a company brought, canonical.

    Attributes
    ----------
    tables : dict of str to TableInfo
        Tables with rows.
    gaps : dict of str to str
        Absent or empty tables and what their absence removes.
    """

    tables: dict[str, TableInfo]
    gaps: dict[str, str] = field(default_factory=dict)

    def scan(self, connection: duckdb.DuckDBPyConnection, name: str) -> duckdb.DuckDBPyRelation:
        """Make a table readable as the view `name` of `connection` and return its rows."""
        path = self.info(name).path
        connection.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet({literal(path)})"
        )
        return connection.table(name)

    def info(self, name: str) -> TableInfo:
        """Return a table's facts; an absent table is an error that says so."""
        if name not in self.tables:
            raise DataError(
                f"there is no {name} table: {self.gaps.get(name, 'unknown table')}",
                where=f"tables.{name} in company.yaml",
            )
        return self.tables[name]


def load_sources(
    workspace: Workspace, now: datetime, progress: Progress = lambda _: None
) -> Loaded:
    """Read every table a company maps into canonical, validated Parquet.

    A table is loaded when `tables` maps it or an input carries its name. Rows that break the
    contract go to ``quarantine.parquet`` with their reasons; a table whose inputs, mapping,
    contract and code did not change is reused. The caller holds the state directory's lock.

    Parameters
    ----------
    workspace : Workspace
        The company, its data and its state.
    now : datetime
        The clock, UTC: rows known later are kept and counted.
    progress : callable
        Is told one line per table.

    Returns
    -------
    Loaded
        The tables, and the gaps.

    Raises
    ------
    ConfigError
        The mapping names something unknown.
    SourceError
        An input cannot be read, or a table lacks what the contract requires.
    DataError
        Readable, but not enough: no activity, a single account.
    """
    names = check_tables(workspace.company)
    sweep_work(workspace.state.sources, WORK)
    before = {name: read_manifest(workspace.state.sources / name) or {} for name in TABLES}
    prints = _fingerprints(workspace, names, before)
    identities = _identities(workspace, names, prints)
    stale = [name for name in names if before[name].get("identity") != identities[name]]
    for name in (name for name in names if name not in stale):
        _refresh_times(workspace, name, before[name], prints)
        progress(f"{name}: unchanged, {before[name]['rows']:,} rows")
    if stale:
        _build(workspace, stale, identities, prints, progress)
    for name in set(TABLES) - set(names):
        shutil.rmtree(workspace.state.sources / name, ignore_errors=True)
    loaded = read_loaded(workspace, now)
    _check_enough(loaded)
    _check_grid(workspace.company.grid.start_on, loaded)
    return loaded


def read_loaded(workspace: Workspace, now: datetime) -> Loaded:
    """Return the tables loaded last, from the state directory alone.

    Raises
    ------
    StateError
        Nothing has been loaded yet.
    """
    manifests = {name: read_manifest(workspace.state.sources / name) for name in TABLES}
    found = {name: manifest for name, manifest in manifests.items() if manifest is not None}
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
    gaps = {
        name: (f"the table is empty: {GAPS[name]}" if name in found else GAPS[name])
        for name in TABLES
        if name not in tables and name in GAPS
    }
    return Loaded(tables, gaps)


def _fingerprints(
    workspace: Workspace, names: list[str], before: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    known = {
        name: facts
        for manifest in before.values()
        for name, facts in manifest.get("fingerprints", {}).items()
    }
    wanted = dict.fromkeys(i for name in names for i in inputs_of(workspace.company, name))
    return {name: fingerprint(workspace, name, known) for name in wanted}


def _identities(
    workspace: Workspace, names: list[str], prints: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Name the content of each table; all but accounts depend on which accounts exist."""
    code = code_digest(__name__)
    own = {
        name: digest(
            code,
            name,
            mapping_of(workspace.company, name).model_dump(mode="json", by_alias=True),
            {i: prints[i]["content"] for i in inputs_of(workspace.company, name)},
        )
        for name in names
    }
    return {
        name: identity
        if name == "accounts" or "account_id" not in TABLES[name].columns
        else digest(identity, own["accounts"])
        for name, identity in own.items()
    }


def _refresh_times(
    workspace: Workspace,
    name: str,
    manifest: Mapping[str, Any],
    prints: Mapping[str, Mapping[str, Any]],
) -> None:
    """Remember new modification times of unchanged files, so that they are not read again."""
    fresh = {i: prints[i] for i in inputs_of(workspace.company, name)}
    if fresh != manifest["fingerprints"]:
        path = workspace.state.sources / name / "manifest.json"
        write_json_atomically(path, {**manifest, "fingerprints": fresh})


def _build(
    workspace: Workspace,
    names: list[str],
    identities: Mapping[str, str],
    prints: Mapping[str, Mapping[str, Any]],
    progress: Progress,
) -> None:
    wanted = dict.fromkeys(i for name in names for i in inputs_of(workspace.company, name))
    files = [path for name in wanted for path in paths_of(workspace, name)]
    with _work_connection(workspace.state.sources, files) as connection:
        opened: dict[str, RawInput] = {}
        mistakes: list[BellwetherError] = []
        for name in names:
            try:
                for used_input in inputs_of(workspace.company, name):
                    if used_input not in opened:
                        opened[used_input] = open_input(connection, workspace, used_input)
                used = {i: opened[i] for i in inputs_of(workspace.company, name)}
                found = {"identity": identities[name], "fingerprints": {i: prints[i] for i in used}}
                manifest = _build_one(connection, workspace, name, used, found)
            except (ConfigError, SourceError) as error:
                mistakes.append(error)
                if name == "accounts":
                    break  # every other table is joined to the accounts
                continue
            progress(_summary(name, manifest))
            if name == "accounts":
                _check_accounts(manifest["rows"])
    if mistakes:
        raise joined(mistakes)


def _build_one(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    name: str,
    used: dict[str, RawInput],
    manifest: dict[str, Any],
) -> dict[str, Any]:
    mapped = map_table(connection, name, mapping_of(workspace.company, name), used)
    accounts = (
        workspace.state.sources / "accounts" / build_table.DATA if name != "accounts" else None
    )
    with new_folder(workspace.state.sources / name, manifest) as folder:
        manifest["inputs"] = {i: item.rows for i, item in used.items()}
        manifest.update(_how_read(connection, name, mapped, used))
        manifest.update(
            build_table.build_source_table(
                connection, mapped, list(used.values()), accounts, folder
            )
        )
        if name == "subscriptions":
            wanted = mapping_of(workspace.company, name).unfold
            path = folder / build_table.DATA
            done = billing_periods.unfold_terms(connection, path, manifest["columns"], wanted)
            manifest["unfolded"] = asdict(done)
    return manifest


def _how_read(
    connection: duckdb.DuckDBPyConnection, name: str, mapped: Mapped, used: dict[str, RawInput]
) -> dict[str, Any]:
    """Return what became of the lines and rows before they are this table's own."""
    sql = mapped.mapping.sql
    followed = sql_row_trace.trace(connection, name, sql, mapped.relation, used) if sql else None
    return {
        "lines": {i: vars(item.lines) for i, item in used.items() if item.lines.total},
        "file_notes": [note for item in used.values() for note in item.notes],
        "sql_rows": followed.as_dict() if followed else None,
    }


def _summary(name: str, manifest: Mapping[str, Any]) -> str:
    parts = [f"{name}: {manifest['rows']:,} of {manifest['rows_read']:,} rows kept"]
    if manifest["rows_quarantined"]:
        parts.append(f"{manifest['rows_quarantined']:,} set aside")
    if manifest["rows_duplicate"]:
        parts.append(f"{manifest['rows_duplicate']:,} exact copies")
    return ", ".join(parts)


@contextmanager
def _work_connection(sources: Path, files: list[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB on disk beside the results, so that large inputs do not need memory.

    It runs what the company wrote, so it reaches the input files and the results only.
    """
    with work_folder(sources, WORK) as folder:
        connection = open_duckdb(folder / "work.duckdb", files=files, folders=[sources])
        try:
            yield connection
        finally:
            connection.close()


def _info(folder: Path, name: str, manifest: Mapping[str, Any], now: datetime) -> TableInfo:
    path = folder / build_table.DATA
    plain = {
        key: manifest[key]
        for key in (
            "rows",
            "rows_read",
            "rows_quarantined",
            "rows_duplicate",
            "quarantined",
            "noted",
            "known_basis",
            "history",
            "first_happened",
            "last_happened",
            "profile",
            "inputs",
            "identity",
        )
    }
    plain["unfolded"] = billing_periods.BillingPeriods(**manifest.get("unfolded", {}))
    return TableInfo(
        name=name,
        path=path,
        columns=tuple(manifest["columns"]),
        rows_after_now=_rows_after(path, manifest["last_known"], now),
        read={key: manifest[key] for key in READ if manifest.get(key)},
        **plain,
    )


def _rows_after(path: Path, last_known: str | None, now: datetime) -> int:
    clock = now.astimezone(UTC).replace(tzinfo=None)
    if last_known is None or datetime.fromisoformat(last_known) <= clock:
        return 0
    with open_duckdb(files=[path]) as connection:
        row = connection.execute(
            f"SELECT count(*) FROM read_parquet({literal(path)}) WHERE known_at > ?", [clock]
        ).fetchone()
    return int(row[0]) if row else 0


def _check_accounts(rows: int) -> None:
    if rows < MIN_ACCOUNTS:
        raise DataError(
            f"number of accounts: {rows}; predictions compare accounts with each other",
            where="accounts",
            fix="check its file or `sql`, and load all accounts, those that left too",
        )


def _check_enough(loaded: Loaded) -> None:
    """Refuse data from which nothing can be predicted."""
    _check_accounts(loaded.tables["accounts"].rows if "accounts" in loaded.tables else 0)
    activity = [name for name, spec in TABLES.items() if spec.activity]
    if not any(name in loaded.tables for name in activity):
        raise DataError(
            f"there is no activity table: one of {', '.join(activity)} is needed, with rows",
            where="inputs, tables",
            fix="add under inputs:   usage_events: usage.csv",
        )


def _check_grid(start_on: date | None, loaded: Loaded) -> None:
    """Refuse a grid that begins before anything is known: its first moments would be empty."""
    firsts = [info.first_happened for info in loaded.tables.values() if info.first_happened]
    first = min((datetime.fromisoformat(text).date() for text in firsts), default=None)
    if start_on is not None and first is not None and start_on < first:
        raise ConfigError(
            f"the first as_of, {start_on}, lies before all data, which begins on {first}",
            where="grid.start_on in company.yaml",
            fix="leave it out, or set a day with at least half a year of activity before it",
        )
