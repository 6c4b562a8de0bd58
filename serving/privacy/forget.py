"""Deletion of accounts and persons: `bellwether forget`.

Deleted or replaced by a random name in every file, database and store of the company; raw exports
are not changed. The present release, scores of other accounts and what they are replayed from stay
as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.runtime.errors import DataError
from configs.runtime.state_directory import State, write_text_atomically
from configs.schema.workspace import Workspace
from features.feast_store import FeastStore
from features.sources.account_links import ACCOUNT, KEYS, normalised
from features.sources.cleaning.forget_list import SubjectKind, keep_out
from features.sources.files.sql import ident, literal, open_duckdb
from features.sources.mapping import check_tables, mappings_of
from features.sources.raw_search import raw_rows_with
from serving.privacy.databases import scrub_databases
from serving.privacy.files import Finding, scrub_files
from serving.privacy.subject import MIN_WORD, Subject

RECORD = "deletions.jsonl"
"""Record of deletions, below the state's ``privacy``."""


@dataclass(frozen=True)
class Forgotten:
    """Result for one account or person.

    Attributes
    ----------
    kind : {"account", "person"}
        What it is.
    value : str
        As asked; never stored.
    findings : tuple of Finding
        Places with the numbers of deleted rows and replaced values.
    raw : dict of str to int
        Raw inputs that still hold it, with rows.
    is_kept_out : bool
        Whether the next load keeps it out.
    """

    kind: SubjectKind
    value: str
    findings: tuple[Finding, ...]
    raw: dict[str, int]
    is_kept_out: bool = False

    @property
    def deleted(self) -> int:
        """Number of deleted rows."""
        return sum(item.deleted for item in self.findings)

    @property
    def changed(self) -> int:
        """Number of replaced or emptied values."""
        return sum(item.changed for item in self.findings)


def subjects(
    workspace: Workspace, accounts: Sequence[str], persons: Sequence[str]
) -> list[Subject]:
    """Return the accounts and persons with the display names the state directory has of them."""
    asked: list[tuple[SubjectKind, str]] = [
        *(("account", value.strip()) for value in accounts),
        *(("person", value.strip()) for value in persons),
    ]
    if not asked or any(not value for _, value in asked):
        raise DataError(
            "no account and no person is named",
            where="--account, --person",
            fix="bellwether forget COMPANY --account ID   or   --person ID_OR_EMAIL",
        )
    return [Subject(kind, value, _names(workspace.state, kind, value)) for kind, value in asked]


def _names(state: State, kind: SubjectKind, value: str) -> tuple[str, ...]:
    table, key = ("accounts", "account_id") if kind == "account" else ("owners", "owner_id")
    path = state.sources / table / "data.parquet"
    if not path.is_file() or not {key, "name"} <= set(pq.read_schema(path).names):
        return ()
    rows = pq.read_table(path, columns=[key, "name"], filters=pc.field(key) == value)
    found = {str(name).strip() for name in rows["name"].to_pylist() if name}
    return tuple(sorted(name for name in found if len(name) >= MIN_WORD))


def preview(
    workspace: Workspace, wanted: Iterable[Subject], *, reads_raw: bool = True
) -> list[Forgotten]:
    """Return what would be deleted, and the raw inputs that still hold it; nothing is changed.

    Without `reads_raw` the raw inputs are not searched: they may be out of reach.
    """
    return [
        Forgotten(
            item.kind, item.value, tuple(_scrub(workspace, item, is_trial=True)),
            _raw(workspace, item) if reads_raw else {},
        )
        for item in wanted
    ]  # fmt: skip


def _raw(workspace: Workspace, subject: Subject) -> dict[str, int]:
    words = (subject.value,) if "@" in subject.value else ()
    return raw_rows_with(workspace, [subject.value], words)


def check_raw(found: Iterable[Forgotten]) -> None:
    """Refuse to delete what the next load would bring back.

    Raises
    ------
    DataError
        A raw input still holds an account or a person.
    """
    left = [item for item in found if item.raw]
    if left:
        places = "; ".join(
            f"{item.kind} {item.value}: "
            + ", ".join(f"{n:,} rows of {name}" for name, n in item.raw.items())
            for item in left
        )
        raise DataError(
            f"the raw inputs still hold what is to be forgotten, so the next load would bring it "
            f"back: {places}",
            where="inputs in company.yaml",
            fix="delete these rows in the exports first, or add --keep-out: every later load then "
            "sets them aside",
        )


def forget(
    workspace: Workspace, wanted: Iterable[Subject], now: datetime, by: str, *, keeps_out: bool
) -> list[Forgotten]:
    """Delete accounts and persons everywhere, and record it.

    The caller holds the lock of the state directory.

    Parameters
    ----------
    workspace : Workspace
        The company.
    wanted : iterable of Subject
        What to delete (`subjects`).
    now : datetime
        Time of the record, with a zone.
    by : str
        User, for the record.
    keeps_out : bool
        Add them to the forget list, so that later loads set their rows aside.
    """
    done = []
    for subject in wanted:
        if keeps_out:
            keep_out(workspace.state, subject.kind, _spellings(workspace, subject))
        found = tuple(_scrub(workspace, subject, is_trial=False))
        item = Forgotten(subject.kind, subject.value, found, {}, keeps_out)
        _record(workspace.state, item, now, by)
        done.append(item)
    return done


def _scrub(workspace: Workspace, subject: Subject, *, is_trial: bool) -> list[Finding]:
    found = scrub_databases(workspace, subject, is_trial=is_trial)
    store = FeastStore(workspace)
    if subject.kind == "account" and (n := store.forget(subject.value, is_trial=is_trial)):
        found.append(Finding("online store", n))
    holders = _with_facts(workspace.state, subject)
    found += scrub_files(workspace.state, subject, is_trial=is_trial)
    n_online = sum(len(entities) for _, entities in holders)
    if n_online:
        found.append(Finding("online store: facts of other accounts", 0, n_online))
    if not is_trial:
        for path, entities in holders:
            _replace_online(store, path, entities)
    return found + _scrub_tracking(workspace, subject, is_trial=is_trial)


def _scrub_tracking(workspace: Workspace, subject: Subject, *, is_trial: bool) -> list[Finding]:
    """Clean the artifacts on a tracking server; those of the embedded store are files."""
    if not workspace.places.tracking_url:
        return []
    # Only the extra `train` installs what this needs.
    from training.registry.mlflow_registry import scrub_artifacts

    return [
        Finding(f"MLflow artifact {name}", 0, 1)
        for name in scrub_artifacts(workspace, subject.removed_from, is_trial=is_trial)
    ]


def _with_facts(state: State, subject: Subject) -> list[tuple[Path, list[str]]]:
    """Return the newest vectors of every feature set, and the other accounts that name it."""
    found = []
    for folder in sorted((state.snapshots / "vector").glob("*/")):
        days = sorted(path for path in folder.glob("*/part.parquet"))
        if days:
            rows = pq.read_table(days[-1], columns=["entity_id", "facts"]).to_pylist()
            held = [
                row["entity_id"]
                for row in rows
                if not (subject.kind == "account" and row["entity_id"] == subject.value)
                and subject.cleaned(row["facts"]) != row["facts"]
            ]
            if held:
                found.append((days[-1], held))
    return found


def _replace_online(store: FeastStore, path: Path, entities: list[str]) -> None:
    wanted = pc.field("entity_id").isin(entities)
    rows = pq.read_table(path, columns=["entity_id", "facts", "as_of"], filters=wanted).to_pylist()
    if rows:
        facts = {row["entity_id"]: row["facts"] for row in rows}
        store.replace_facts(path.parents[1].name, facts, rows[0]["as_of"].astimezone(UTC))


def _spellings(workspace: Workspace, subject: Subject) -> set[str]:
    """Return the values by which later loads recognise a subject.

    Of an account also the values that other tables are linked by, in the form they are compared.
    """
    found = {subject.value}
    path = workspace.state.sources / "accounts" / KEYS
    if subject.kind != "account" or not path.is_file():
        return found
    company = workspace.company
    links = {
        (link.matches, link.by)
        for name in check_tables(company)
        for part in mappings_of(company, name)
        for link in part.account
    }
    columns = {name.lower(): name for name in pq.read_schema(path).names}
    with open_duckdb(files=[path]) as connection:
        for matches, by in sorted(links):
            column = columns.get(matches.strip().lower())
            if column is not None:
                rows = connection.execute(
                    f"SELECT {normalised(ident(column), by)} FROM read_parquet({literal(path)}) "
                    f"WHERE {ident(ACCOUNT)} = {literal(subject.value)}"
                ).fetchall()
                found |= {str(value) for (value,) in rows if value}
    return found


def _record(state: State, item: Forgotten, now: datetime, by: str) -> None:
    """Append to the record: time, user, kind and counts; no id."""
    path = state.privacy / RECORD
    entry = {
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "by": by,
        "kind": item.kind,
        "deleted": item.deleted,
        "changed": item.changed,
        "is_kept_out": item.is_kept_out,
        "places": [asdict(finding) for finding in item.findings],
    }
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    state.privacy.mkdir(mode=0o700, exist_ok=True)
    write_text_atomically(path, before + json.dumps(entry, sort_keys=True) + "\n")
    path.chmod(0o600)
