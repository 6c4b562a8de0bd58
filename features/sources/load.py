"""Loading of source tables: raw inputs to validated, canonical Parquet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import duckdb

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import (
    BellwetherError,
    ConfigError,
    DataError,
    SourceError,
    combined_error,
)
from configs.runtime.hashing import digest
from configs.runtime.state_directory import (
    new_folder,
    sweep_work,
    work_folder,
    write_json_atomically,
)
from configs.schema.company import Company
from configs.schema.source_mapping import TableMapping
from configs.schema.workspace import Workspace
from features.sources import build_table, product_grain, table_parts
from features.sources.billing import billing_periods
from features.sources.billing import billing_rows as billing
from features.sources.cleaning.forget_list import read_forget_list
from features.sources.files import sql_row_trace
from features.sources.files.readers import RawInput, fingerprint, open_input, paths_of
from features.sources.files.sql import open_duckdb
from features.sources.loaded_tables import Loaded, read_loaded, read_manifests
from features.sources.manifest import (
    FileFacts,
    Fingerprint,
    InputFacts,
    ServedPart,
    TableFacts,
    TableManifest,
)
from features.sources.mapping import (
    Mapped,
    check_tables,
    inputs_of,
    map_table,
    mappings_of,
    part_inputs,
)
from features.sources.months import MONTHLY, months_of
from features.sources.per_file.groups import GroupTask
from features.sources.per_file.table import build_per_file, is_per_file
from features.tables.source_tables import TABLES

MIN_ACCOUNTS = 2
WORK = ".work."
"""Prefix of the temporary folder of a run."""

Progress = Callable[[str], None]


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
        Receives one line per table.

    Returns
    -------
    Loaded
        The tables, and the missing ones.

    Raises
    ------
    ConfigError
        The mapping has an unknown name.
    SourceError
        An input cannot be read, or a table lacks what the contract requires.
    DataError
        The data is insufficient: no activity, or a single account.
    """
    names = check_tables(workspace.company)
    sweep_work(workspace.state.sources, WORK)
    before = read_manifests(workspace)
    prints = _fingerprints(workspace, names, before)
    identities = _identities(workspace, names, prints, now)
    stale = [
        name for name in names if name not in before or before[name]["identity"] != identities[name]
    ]
    for name in (name for name in names if name not in stale):
        _refresh_times(workspace, name, before[name], prints)
        progress(f"{name}: unchanged, {before[name]['rows']:,} rows")
    if stale:
        _build(workspace, stale, identities, prints, now, progress)
    for name in set(TABLES) - set(names):
        shutil.rmtree(workspace.state.sources / name, ignore_errors=True)
    if workspace.company.grain == "product":
        product_grain.split_by_product(workspace, read_manifests(workspace))
    loaded = read_loaded(workspace, now)
    _check_enough(loaded)
    _check_grid(workspace.company.grid.start_on, loaded)
    return loaded


def _fingerprints(
    workspace: Workspace, names: list[str], before: Mapping[str, TableManifest]
) -> dict[str, Fingerprint]:
    known = {
        name: item
        for manifest in before.values()
        for name, item in manifest["fingerprints"].items()
    }
    wanted = dict.fromkeys(i for name in names for i in inputs_of(workspace.company, name))
    return {name: fingerprint(workspace, name, known) for name in wanted}


def _identities(
    workspace: Workspace, names: list[str], prints: Mapping[str, Fingerprint], now: datetime
) -> dict[str, str]:
    """Return the identity of each table; all others also depend on the accounts table."""
    code = code_digest(__name__)
    listed = read_forget_list(workspace.state).identity
    own = {
        name: digest(
            code,
            name,
            listed,
            _link_columns(workspace.company) if name == "accounts" else (),
            [
                part.model_dump(mode="json", by_alias=True)
                for part in mappings_of(workspace.company, name)
            ],
            {i: prints[i]["content"] for i in inputs_of(workspace.company, name)},
            # Subscriptions are unfolded up to the day of the run.
            str(now.date()) if _is_unfolded(mappings_of(workspace.company, name)) else "",
        )
        for name in names
    }
    return {
        name: identity
        if name == "accounts" or "account_id" not in TABLES[name].columns
        else digest(identity, own["accounts"])
        for name, identity in own.items()
    }


def _link_columns(company: Company) -> tuple[str, ...]:
    """Return the columns of the accounts' source that other tables are linked by."""
    parts = (part for name in check_tables(company) for part in mappings_of(company, name))
    return tuple(sorted({link.matches for part in parts for link in part.account}))


def _is_unfolded(parts: Iterable[TableMapping]) -> bool:
    return any(part.billing is not None and part.billing.rows == "subscription" for part in parts)


def _refresh_times(
    workspace: Workspace,
    name: str,
    manifest: TableManifest,
    prints: Mapping[str, Fingerprint],
) -> None:
    """Store new modification times of unchanged files, so they are not read again."""
    fresh = {i: prints[i] for i in inputs_of(workspace.company, name)}
    if fresh != manifest["fingerprints"]:
        path = workspace.state.sources / name / "manifest.json"
        write_json_atomically(path, {**manifest, "fingerprints": fresh})


def _build(
    workspace: Workspace,
    names: list[str],
    identities: Mapping[str, str],
    prints: Mapping[str, Fingerprint],
    now: datetime,
    progress: Progress,
) -> None:
    wanted = dict.fromkeys(i for name in names for i in inputs_of(workspace.company, name))
    files = [path for name in wanted for path in paths_of(workspace, name)]
    with work_connection(workspace.state.sources, files) as connection:
        opened: dict[str, RawInput] = {}
        mistakes: list[BellwetherError] = []
        for name in names:
            try:
                if is_per_file(workspace.company, name, _files_of(workspace, name, prints)):
                    manifest = _build_per_file(workspace, name, identities[name], prints)
                    progress(_summary(name, manifest))
                    continue
                for used_input in inputs_of(workspace.company, name):
                    if used_input not in opened:
                        opened[used_input] = open_input(connection, workspace, used_input)
                used = {i: opened[i] for i in inputs_of(workspace.company, name)}
                own = {i: prints[i] for i in used}
                manifest = _build_one(connection, workspace, name, used, identities[name], own, now)
            except (ConfigError, SourceError) as error:
                mistakes.append(error)
                if name == "accounts":
                    break  # every other table is joined to the accounts
                continue
            progress(_summary(name, manifest))
            if name == "accounts":
                _check_accounts(manifest["rows"])
    if mistakes:
        raise combined_error(mistakes)


def _files_of(
    workspace: Workspace, name: str, prints: Mapping[str, Fingerprint]
) -> list[FileFacts]:
    return [item for i in inputs_of(workspace.company, name) for item in prints[i].get("files", [])]


def _build_per_file(
    workspace: Workspace, name: str, identity: str, prints: Mapping[str, Fingerprint]
) -> TableManifest:
    (input_name,) = inputs_of(workspace.company, name)
    mapping = mappings_of(workspace.company, name)[0]
    listed = read_forget_list(workspace.state)
    settings = mapping.model_dump(mode="json", by_alias=True)
    shared = digest(code_digest(__name__), name, listed.identity, settings)
    sources = workspace.state.sources
    task = GroupTask(
        workspace, name, input_name, mapping, shared, lambda files: work_connection(sources, files)
    )
    before = read_manifests(workspace).get(name)
    return build_per_file(task, identity, prints[input_name], before)


def _build_one(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    name: str,
    used: dict[str, RawInput],
    identity: str,
    prints: dict[str, Fingerprint],
    now: datetime,
) -> TableManifest:
    """Build a table from its source, or from each of its sources and merge them."""
    accounts = (
        workspace.state.sources / "accounts" / build_table.DATA if name != "accounts" else None
    )
    parts = mappings_of(workspace.company, name)
    written: dict[str, object] = {}
    with new_folder(workspace.state.sources / name, written) as folder:
        alone = len(parts) == 1
        places = [folder if alone else folder / f"source_{n}" for n in range(len(parts))]
        facts: list[TableFacts] = []
        for mapping, place in zip(parts, places, strict=True):
            place.mkdir(exist_ok=True)
            own = {i: used[i] for i in part_inputs(workspace.company, name, mapping)}
            mapped = map_table(connection, name, mapping, own, accounts)
            facts.append(_build_part(connection, workspace, mapped, own, accounts, place, now))
        merged = facts[0]
        if not alone:
            labels = [", ".join(part_inputs(workspace.company, name, part)) for part in parts]
            merged = table_parts.merge(connection, name, facts, places, labels, folder)
        manifest: TableManifest = {
            "identity": identity,
            "fingerprints": prints,
            "inputs": {i: item.rows for i, item in used.items()},
            **merged,
            "parts": _whole(connection, name, merged["columns"], folder),
            "built": "",
            "dropped": {},
            "whole": [],
            "merged": {},
        }
        written.update(manifest)
    return manifest


def _whole(
    connection: duckdb.DuckDBPyConnection, name: str, columns: list[str], folder: Path
) -> list[ServedPart]:
    """Return the one file of a table of activity with its months; empty for other tables."""
    if name not in MONTHLY:
        return []
    months = months_of(connection, name, columns, [folder / build_table.DATA])
    return [{"file": build_table.DATA, "months": months}]


def _build_part(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    mapped: Mapped,
    used: dict[str, RawInput],
    accounts: Path | None,
    folder: Path,
    now: datetime,
) -> TableFacts:
    """Build one source of a table; overwritten terms and billing rows become terms."""
    built = build_table.build_source_table(
        connection,
        mapped,
        list(used.values()),
        accounts,
        folder,
        read_forget_list(workspace.state),
        _link_columns(workspace.company),
    )
    facts: TableFacts = {"unfolded": {}, **_reading_facts(connection, mapped, used), **built}
    if mapped.table != "subscriptions":
        return facts
    path = folder / build_table.DATA
    if mapped.mapping.billing is None:
        wanted = mapped.mapping.unfold
        done = billing_periods.unfold_terms(connection, path, facts["columns"], wanted)
    else:
        done, columns = billing.to_terms(connection, path, mapped.mapping.billing, now.date())
        facts["columns"] = columns
    facts["unfolded"] = {
        "period": done.period,
        "subscriptions": done.subscriptions,
        "rows": done.rows,
        "is_guess": done.is_guess,
        "shape": done.shape,
    }
    return facts


def _reading_facts(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, used: dict[str, RawInput]
) -> InputFacts:
    """Return lines, notes and row trace of the inputs of a table."""
    sql = mapped.mapping.sql
    table, relation = mapped.table, mapped.relation
    traced = sql_row_trace.trace(connection, table, sql, relation, used) if sql else None
    return {
        "lines": {i: item.lines.as_dict() for i, item in used.items() if item.lines.total},
        "file_notes": [note for item in used.values() for note in item.notes],
        "sql_rows": traced.as_dict() if traced else None,
    }


def _summary(name: str, manifest: TableManifest) -> str:
    parts = [f"{name}: {manifest['rows']:,} of {manifest['rows_read']:,} rows kept"]
    if manifest.get("built"):
        parts.append(manifest["built"])
    if manifest["rows_quarantined"]:
        parts.append(f"{manifest['rows_quarantined']:,} set aside")
    if manifest["rows_duplicate"]:
        parts.append(f"{manifest['rows_duplicate']:,} exact duplicates")
    return ", ".join(parts)


@contextmanager
def work_connection(sources: Path, files: list[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB on disk, so large inputs need no memory.

    It runs configured SQL and has access to the input files and the results only.
    """
    with work_folder(sources, WORK) as folder:
        connection = open_duckdb(folder / "work.duckdb", files=files, folders=[sources])
        try:
            yield connection
        finally:
            connection.close()


def _check_accounts(rows: int) -> None:
    if rows < MIN_ACCOUNTS:
        raise DataError(
            f"number of accounts: {rows}; at least {MIN_ACCOUNTS} are needed",
            where="accounts",
            fix="check its file or `sql`, and load all accounts, including former ones",
        )


def _check_enough(loaded: Loaded) -> None:
    """Require at least two accounts and one activity table."""
    _check_accounts(loaded.tables["accounts"].rows if "accounts" in loaded.tables else 0)
    activity = [name for name, spec in TABLES.items() if spec.activity]
    if not any(name in loaded.tables for name in activity):
        raise DataError(
            f"there is no activity table: one of {', '.join(activity)} is needed, with rows",
            where="inputs, tables",
            fix="add under inputs:   usage_events: usage.csv",
        )


def _check_grid(start_on: date | None, loaded: Loaded) -> None:
    """Refuse a grid that begins before the data: its first as_ofs would be empty."""
    firsts = [info.first_happened for info in loaded.tables.values() if info.first_happened]
    first = min((datetime.fromisoformat(text).date() for text in firsts), default=None)
    if start_on is not None and first is not None and start_on < first:
        raise ConfigError(
            f"the first as_of, {start_on}, is before the first data on {first}",
            where="grid.start_on in company.yaml",
            fix="leave it out, or choose a day with at least half a year of activity before it",
        )
