"""Build of a table of activity from groups of its input files: only new and changed ones are read.

What needs all files at once is checked: the files must have the same columns, and the formats of
their values must be the standard ones. Otherwise the table is read in one piece, and its manifest
says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence

import duckdb

from configs.runtime.errors import SourceError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import MANIFEST, read_manifest, write_json_atomically
from configs.schema.company import Company
from features.sources.build_table import DATA, QUARANTINE
from features.sources.cleaning.forget_list import read_forget_list
from features.sources.cleaning.timestamp_profile import midnight_is_date
from features.sources.files.readers import CSV_ENDINGS, PARQUET_ENDINGS
from features.sources.files.sql import ident, literal, text_list
from features.sources.manifest import (
    FileFacts,
    Fingerprint,
    LineTotals,
    ServedPart,
    TableFacts,
    TableManifest,
)
from features.sources.mapping import mappings_of
from features.sources.months import MONTHLY, months_of
from features.sources.per_file.groups import (
    GROUPS,
    GroupManifest,
    GroupTask,
    accounts_prints,
    build_group,
)
from features.sources.per_file.plan import FileGroup, plan_groups
from features.sources.per_file.repeats import (
    COPY,
    Indexed,
    Repeats,
    find_repeats,
    repeated_in_groups,
)
from features.sources.table_parts import merged_facts
from features.tables.source_tables import TABLES

ENDINGS = (*CSV_ENDINGS, *PARQUET_ENDINGS)


def is_per_file(company: Company, table: str, files: Sequence[FileFacts]) -> bool:
    """Whether a table is built per file: activity, one source, several CSV or Parquet files.

    Links to accounts by other values, accounts rolled up to their parents, `sql` and several
    sources need all rows at once.
    """
    parts = mappings_of(company, table)
    if table not in MONTHLY or len(parts) != 1 or len(files) < 2 or company.grain == "product":
        return False
    mapping = parts[0]
    rolls_up = any(part.roll_up for part in mappings_of(company, "accounts"))
    is_plain = mapping.sql is None and not mapping.account and mapping.billing is None
    has_tables = all(item["file"].lower().endswith(ENDINGS) for item in files)
    is_local = all("://" not in item["file"] for item in files)
    return is_plain and not rolls_up and has_tables and is_local


def build_per_file(
    task: GroupTask, identity: str, fingerprint: Fingerprint, before: TableManifest | None
) -> TableManifest:
    """Read new and changed files of a table, merge all groups, and write the table's manifest.

    Parameters
    ----------
    task : GroupTask
        The table.
    identity : str
        Identity of the whole table.
    fingerprint : Fingerprint
        Identity of its input with its files.
    before : TableManifest or None
        Manifest of the last build.

    Raises
    ------
    SourceError
        A file cannot be read or mapped.
    """
    files = fingerprint.get("files", [])
    (task.folder / GROUPS).mkdir(parents=True, exist_ok=True)
    if before is not None:
        # Groups change before the manifest does: if the process ends here, the table is outdated.
        write_json_atomically(task.folder / MANIFEST, {**before, "identity": ""})
    why = _why_whole(task, before)
    try:
        groups, manifests, fresh = _groups(task, files, why)
        found = "" if why else _disagreement(manifests)
    except SourceError as error:
        if why:
            raise
        found = f"a file cannot be read by itself: {error.what}"
    if found:
        why = found
        groups, manifests, fresh = _groups(task, files, why)
    _check_usable(task, manifests)
    with task.connect([]) as db:
        manifest = _merged(db, task, groups, manifests, fresh, before)
    n_read = sum(len(group.files) for group in groups if group.content in fresh)
    built = f"{n_read:,} of {len(files):,} files read"
    manifest["identity"] = identity
    manifest["fingerprints"] = {task.input_name: fingerprint}
    manifest["built"] = f"read in full: {why}" if why and n_read else built
    manifest["whole"] = [task.identity, why] if why else []
    write_json_atomically(task.folder / MANIFEST, manifest)
    _sweep(task, groups, manifest)
    return manifest


def _why_whole(task: GroupTask, before: TableManifest | None) -> str:
    """Return why the last build read the table in one piece, while its mapping is the same."""
    stored = before.get("whole") if before is not None else None
    return stored[1] if stored and stored[0] == task.identity else ""


def _groups(
    task: GroupTask, files: Sequence[FileFacts], why_whole: str
) -> tuple[list[FileGroup], list[GroupManifest], frozenset[str]]:
    """Return the groups with their manifests, and those that were built in this run."""
    groups = [FileGroup(tuple(files))] if why_whole else plan_groups(files, _held(task))
    unchanged = _same_accounts(task, groups)
    manifests, fresh = [], set()
    for group in groups:
        manifest = task.manifest_of(group) if group.content in unchanged else None
        if manifest is None:
            manifest = build_group(task, group)
            fresh.add(group.content)
        manifests.append(manifest)
    return groups, manifests, frozenset(fresh)


def _held(task: GroupTask) -> dict[str, list[str]]:
    """Return the groups in the folder of the table with the names of their files."""
    found = {}
    for path in sorted((task.folder / GROUPS).glob("[!.]*")):
        manifest = read_manifest(path)
        if manifest is not None:
            found[path.name] = list(manifest["names"])
    return found


def _same_accounts(task: GroupTask, groups: Iterable[FileGroup]) -> set[str]:
    """Return the groups whose accounts are as they were when the group was built."""
    held = {group.content: m for group in groups if (m := task.manifest_of(group)) is not None}
    if not held:
        return set()
    with task.connect([]) as db:
        now = accounts_prints(db, task, [task.folder / GROUPS / content for content in held])
    return {content for content, m in held.items() if now.get(content, "") == m["accounts"]}


def _disagreement(manifests: Sequence[GroupManifest]) -> str:
    """Return what the files disagree about, so that they must be read in one piece; else empty."""
    if len(manifests) < 2:
        return ""
    columns = manifests[0]["raw_columns"]
    if any(item["raw_columns"] != columns for item in manifests):
        return "its files have different columns"
    facts = [item["facts"] for item in manifests]
    odd = sorted({name for item in facts for key in ("written", "marks") for name in item[key]})
    if odd:
        return f"the format of {', '.join(odd)} is decided over all files"
    merged = merged_facts(facts, facts[0]["columns"], 0)["profile"]
    for name, counts in merged.items():
        for item in facts:
            own = item["profile"].get(name)
            if own is None or not own["given"]:
                continue
            whole = {key: counts[key] for key in ("given", "dates", "zoned", "midnights")}
            mixes = (own["dates"] == own["given"]) != (whole["dates"] == whole["given"])
            if mixes or own["as_dates"] != int(midnight_is_date(whole)):
                return f"the times of {name} are dates in some files only"
    return ""


def _check_usable(task: GroupTask, manifests: Sequence[GroupManifest]) -> None:
    read = sum(item["facts"]["rows_read"] for item in manifests)
    if read and not any(item["facts"]["rows"] for item in manifests):
        reasons = merged_facts([item["facts"] for item in manifests], [], 0)["quarantined"]
        shown = ", ".join(f"{code} {count}" for code, count in reasons.items())
        raise SourceError(
            f"{task.table}: none of the {read} rows is usable ({shown})",
            where=f"input {task.input_name}",
            fix="correct the mapping or the files",
        )


def _merged(
    db: duckdb.DuckDBPyConnection,
    task: GroupTask,
    groups: Sequence[FileGroup],
    manifests: Sequence[GroupManifest],
    fresh: frozenset[str],
    before: TableManifest | None,
) -> TableManifest:
    facts = merged_facts([m["facts"] for m in manifests], manifests[0]["facts"]["columns"], 0)
    facts["lines"] = _lines(manifests)
    merged = {
        group.content: digest(m["identity"], m["accounts"])
        for group, m in zip(groups, manifests, strict=True)
    }
    # A group that a killed run built was not compared yet.
    held = before.get("merged", {}) if before is not None else {}
    new = {content for content, state in merged.items() if held.get(content) != state}
    indexed = Indexed(
        {group.content: task.folder_of(group) for group in groups},
        fresh | new,
        before.get("dropped", {}) if before is not None else {},
        has_key=bool(TABLES[task.table].key),
        are_copies_events=_are_copies_events(task, facts),
    )
    repeats = find_repeats(db, indexed)
    if manifests[0]["ids"]:
        facts["repeated_ids"] = repeated_in_groups(db, indexed, manifests[0]["ids"])
    parts = [
        _served(db, task, group, m, repeats.places.get(group.content, []))
        for group, m in zip(groups, manifests, strict=True)
    ]
    _write_quarantine(db, task, indexed, groups, facts["columns"])
    return {
        **_without(facts, repeats),
        "identity": "",
        "fingerprints": {},
        "inputs": {task.input_name: sum(m["raw_rows"] for m in manifests)},
        "parts": parts,
        "dropped": repeats.places,
        "built": "",
        "whole": [],
        "merged": merged,
    }


def _are_copies_events(task: GroupTask, facts: TableFacts) -> bool:
    """Whether equal rows are separate events (`features.sources.build_table`)."""
    spec = TABLES[task.table]
    if spec.key or "quantity" not in spec.columns or "quantity" in facts["columns"]:
        return False
    counts = facts["profile"].get(spec.happened, {"given": 0, "dates": 0})
    return counts["given"] > 0 and counts["dates"] == counts["given"]


def _lines(manifests: Sequence[GroupManifest]) -> dict[str, LineTotals]:
    total: dict[str, LineTotals] = {}
    for manifest in manifests:
        for name, counts in manifest["facts"].get("lines", {}).items():
            held = total.setdefault(name, {"total": 0, "kept": 0, "set_aside": 0})
            held["total"] += counts["total"]
            held["kept"] += counts["kept"]
            held["set_aside"] += counts["set_aside"]
    return total


def _served(
    db: duckdb.DuckDBPyConnection,
    task: GroupTask,
    group: FileGroup,
    manifest: GroupManifest,
    dropped: Sequence[int],
) -> ServedPart:
    """Return the file of the rows of a group that count, written without the dropped ones."""
    folder = task.folder_of(group)
    if not dropped:
        name = f"{GROUPS}/{group.content}/{DATA}"
        return {"file": name, "months": manifest["months"]}
    path = folder / f"kept-{digest(list(dropped))}-{DATA}"
    if not path.exists():
        aside = path.with_suffix(".part")
        columns = ", ".join(ident(n) for n in [*manifest["facts"]["columns"], "known_at"])
        db.execute(
            f"COPY (SELECT {columns} FROM read_parquet({literal(folder / DATA)}, "
            f"file_row_number = true) WHERE file_row_number NOT IN "
            f"(SELECT place FROM dropped WHERE group_id = {literal(group.content)}) "
            f"ORDER BY file_row_number) TO {literal(aside)} (FORMAT parquet, COMPRESSION zstd)"
        )
        aside.replace(path)
    months = months_of(db, task.table, manifest["facts"]["columns"], [path])
    return {"file": f"{GROUPS}/{group.content}/{path.name}", "months": months}


def _write_quarantine(
    db: duckdb.DuckDBPyConnection,
    task: GroupTask,
    indexed: Indexed,
    groups: Sequence[FileGroup],
    columns: Sequence[str],
) -> None:
    """Write the rows set aside by all groups, and those that repeat a row of another group."""
    # Quarantined rows may have been removed by their retention.
    own = [p for f in indexed.folders.values() if (p := f / QUARANTINE).is_file()]
    data = text_list(folder / DATA for folder in indexed.folders.values())
    # With a forget list, values of rows that do not count are not copied once more.
    shown = () if read_forget_list(task.workspace.state) else columns
    values = "".join(f", CAST({ident(name)} AS VARCHAR) AS {ident(name)}" for name in shown)
    first = {group.content: group.names[0] for group in groups}
    source = "regexp_extract(filename, '([^/]*)/[^/]*$', 1)"
    db.execute("CREATE OR REPLACE TABLE group_names (group_id VARCHAR, quarantine_source VARCHAR)")
    db.executemany("INSERT INTO group_names VALUES (?, ?)", list(first.items()))
    aside = task.folder / f".{QUARANTINE}"
    rows = (
        "SELECT * FROM (SELECT NULL::BIGINT AS quarantine_row, "
        "[]::VARCHAR[] AS quarantine_reasons, '' AS group_id) WHERE false"
    )
    if own:
        rows += (
            f" UNION ALL BY NAME SELECT * EXCLUDE (filename), {source} AS group_id "
            f"FROM read_parquet({text_list(own)}, filename = true, union_by_name = true)"
        )
    if db.execute("SELECT count(*) FROM dropped").fetchone() != (0,):
        rows += (
            f" UNION ALL BY NAME SELECT place + 1 AS quarantine_row, "
            f"[reason] AS quarantine_reasons, group_id{values} "
            f"FROM (SELECT *, {source} AS group_id, file_row_number AS place "
            f"FROM read_parquet({data}, filename = true, file_row_number = true)) "
            f"JOIN (SELECT * FROM dropped WHERE reason <> {literal(COPY)}) "
            f"USING (group_id, place)"
        )
    db.execute(
        f"COPY (SELECT * EXCLUDE (group_id) FROM ({rows}) JOIN group_names USING (group_id) "
        f"ORDER BY quarantine_source, quarantine_row) "
        f"TO {literal(aside)} (FORMAT parquet, COMPRESSION zstd)"
    )
    aside.replace(task.folder / QUARANTINE)


def _without(facts: TableFacts, repeats: Repeats) -> TableFacts:
    """Return the counts without the rows that repeat a row of another group."""
    copies = repeats.reasons.get(COPY, 0)
    aside = {reason: n for reason, n in repeats.reasons.items() if reason != COPY}
    quarantined = dict(facts["quarantined"])
    for reason, n in aside.items():
        quarantined[reason] = quarantined.get(reason, 0) + n
    return {
        **facts,
        "rows": facts["rows"] - copies - sum(aside.values()),
        "rows_duplicate": facts["rows_duplicate"] + copies,
        "rows_quarantined": facts["rows_quarantined"] + sum(aside.values()),
        "quarantined": quarantined,
    }


def _sweep(task: GroupTask, groups: Iterable[FileGroup], manifest: Mapping[str, object]) -> None:
    """Remove groups and files that no row is read from any more."""
    kept = {group.content for group in groups}
    served = {task.folder / part["file"] for part in manifest["parts"]}  # type: ignore[attr-defined]
    for folder in (task.folder / GROUPS).iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        for path in folder.glob("kept-*"):
            if path not in served:
                path.unlink()
    (task.folder / DATA).unlink(missing_ok=True)  # of a table that was built in one piece
