"""A simulated company whose account, person and texts carry unique texts, and a search for them."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import bellwether
from configs.schema.workspace import Workspace, open_workspace

ACCOUNT = "MZ-QACCT-77"
"""Sorts between other ids."""
NAME = "Qvartz77 Works"
PERSON = "q.person77@marker.example"
OWNER = "Qowner77 Ada"
TEXT = "Qtext77"
MENTIONED = "q.mention77@marker.example"

KIND_OF = {ACCOUNT: "account", PERSON: "person", NAME: "name", OWNER: "name", TEXT: "text",
           MENTIONED: "text"}  # fmt: skip
"""Marker → kind of personal data it stands for."""

QUICK = {
    "folds": 2,
    "fold_days": 91,
    "model_seeds": 1,
    "bootstrap_draws": 100,
    "threads": 1,
    "tuning": {"trials": 1, "inner_folds": 1},
}


@dataclass(frozen=True)
class MarkedCompany:
    """A company that was run; its state is to be copied before it is changed."""

    folder: Path

    @property
    def workspace(self) -> Workspace:
        return open_workspace(self.folder, state=self.folder / "state", data=self.folder / "data")

    @property
    def options(self) -> tuple[str, ...]:
        folder = self.folder
        return (str(folder), "--state", str(folder / "state"), "--data", str(folder / "data"))

    def copy_to(self, folder: Path) -> MarkedCompany:
        shutil.copytree(self.folder, folder)
        return MarkedCompany(folder)


def call(*words: object) -> tuple[int, str]:
    """Run a command; return its exit code and what it printed."""
    out, code = io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["bellwether", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        try:
            bellwether.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue()


def mark(data: Path) -> None:
    """Give one account, one of its users and its texts the markers, in every raw file."""
    terms = pd.read_csv(data / "billing_subscriptions.csv", dtype=str, keep_default_na=False)
    tickets = pd.read_csv(data / "helpdesk_tickets.csv", dtype=str, keep_default_na=False)
    alive = set(terms.loc[terms["end_reason"] == "", "account_id"])
    account = next(i for i in tickets["account_id"].value_counts().index if i in alive)
    events = pd.read_parquet(data / "usage_events.parquet")
    user = events.loc[events["account_id"] == account, "user_id"].value_counts().index[0]
    ids = {account: ACCOUNT, user: PERSON}
    for path in data.glob("*.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False).replace(ids)
        own = table.isin([ACCOUNT]).any(axis=1)
        for column in {"text", "remark"} & set(table.columns):
            table.loc[own, column] = f"{TEXT}: please write to {MENTIONED}"
        if path.name == "crm_accounts.csv":
            table.loc[own, "AccountName"] = NAME
            table.loc[own, "Phone"] = TEXT  # a column without a mapping
        if path.name == "owners.csv":
            table.loc[0, "name"] = OWNER
        table.to_csv(path, index=False)
    for path in data.glob("*.parquet"):
        table = pq.read_table(path)
        for position, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type):
                values = [ids.get(value, value) for value in table[field.name].to_pylist()]
                table = table.set_column(position, field.name, pa.array(values, pa.string()))
        pq.write_table(table.replace_schema_metadata(None), path)


def traces(root: Path, words: tuple[str, ...]) -> dict[str, set[str]]:
    """Return every file below a folder that holds one of some words, with these words.

    Parquet files and SQLite databases are read value by value, compressed values unpacked;
    databases are searched as bytes, too, for what deleted rows leave behind.
    """
    found: dict[str, set[str]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.endswith((".lock", "-shm")):
            held = {word for word in words if any(word in text for text in _texts(path))}
            if held:
                found[path.relative_to(root).as_posix()] = held
    return found


def _texts(path: Path) -> list[str]:
    raw = path.read_bytes()
    if raw[:4] == b"PAR1":
        return [str(batch.to_pydict()) for batch in pq.ParquetFile(path).iter_batches()]
    if raw[:15] == b"SQLite format 3":
        return [raw.decode("utf-8", "replace"), *_sqlite_texts(path)]
    return [raw.decode("utf-8", "replace")]


def _sqlite_texts(path: Path) -> list[str]:
    found = []
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            for row in database.execute(f'SELECT * FROM "{name}"'):
                found += [_unpacked(value) for value in row if isinstance(value, (str, bytes))]
    return found


def _unpacked(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    with contextlib.suppress(zlib.error):
        value = zlib.decompress(value)
    return value.decode("utf-8", "replace")
