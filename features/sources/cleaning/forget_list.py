"""Accounts and persons that are kept out of every load, as keyed hashes.

`bellwether forget --keep-out` adds to the list while the raw exports still contain an account or a
person. The list holds no plain id: each spelling is hashed with a random key of the state directory
(HMAC in the form of two nested SHA-256). Without the key, ids cannot be guessed from the list.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from configs.runtime.hashing import digest
from configs.runtime.state_directory import State, private_file, read_json, write_json_atomically
from features.sources.account_links import normalised
from features.sources.files.sql import ident, literal, text_list
from features.sources.mapping import Mapped
from features.tables.source_tables import SourceTable

REASON = "forgotten"
"""Reason in the quarantine, where the values of these rows are not kept."""

LIST, KEY = "forget_list.json", "forget.key"
REMOVED = "[removed]"
"""Text in place of what was forgotten."""

SubjectKind = Literal["account", "person"]

FORMS = ("value", "domain", "name")
"""Forms in which a value can identify an account (`features.sources.account_links`)."""

E_MAIL = r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}"
"""E-mail addresses that are searched for within free texts."""


@dataclass(frozen=True)
class ForgetList:
    """Keyed hashes of forgotten accounts and persons.

    Attributes
    ----------
    key : str
        Random key of the state directory, hexadecimal; empty while nothing is on the list.
    hashes : dict of str to frozenset of str
        ``account`` and ``person``: the hashes.
    """

    key: str = ""
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.hashes.values())

    @property
    def identity(self) -> str:
        """Identity of the content, part of the identity of every loaded table."""
        return digest({kind: sorted(items) for kind, items in self.hashes.items()}) if self else ""

    def hash_of(self, value: str) -> str:
        """Return the keyed hash of a value; case and surrounding spaces do not count."""
        inner = hashlib.sha256(f"{self.key}inner{value.strip().lower()}".encode()).hexdigest()
        return hashlib.sha256(f"{self.key}outer{inner}".encode()).hexdigest()

    def hash_sql(self, value: str) -> str:
        """Return SQL of `hash_of` for the SQL of a text."""
        inner = f"sha256(concat({literal(self.key + 'inner')}, lower(trim({value}))))"
        return f"sha256(concat({literal(self.key + 'outer')}, {inner}))"

    def contains(self, kind: SubjectKind, value: str) -> bool:
        """Whether a value is on the list."""
        return self.hash_of(value) in self.hashes.get(kind, frozenset())

    def spelled_here(
        self, connection: duckdb.DuckDBPyConnection, query: str, kind: SubjectKind
    ) -> list[str]:
        """Return the values of a one-column query ``v`` that are on the list."""
        known = text_list(sorted(self.hashes.get(kind, ())))
        forms = FORMS if kind == "account" else ("value",)
        tests = " OR ".join(
            f"list_contains({known}, {self.hash_sql(normalised('v', form))})" for form in forms
        )
        rows = connection.execute(f"SELECT v FROM (SELECT DISTINCT v FROM ({query})) WHERE {tests}")
        return [str(row[0]) for row in rows.fetchall()]


def read_forget_list(state: State) -> ForgetList:
    """Return the list of a state directory; empty without one."""
    try:
        raw = read_json(state.privacy / LIST)
        key = (state.privacy / KEY).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ForgetList()
    return ForgetList(key, {kind: frozenset(items) for kind, items in raw.items()})


def keep_out(state: State, kind: SubjectKind, values: Iterable[str]) -> ForgetList:
    """Add values to the list of a state directory and return the list."""
    before = read_forget_list(state)
    key = before.key or _key(state.privacy / KEY)
    found = ForgetList(key, before.hashes)
    hashes = {"account": frozenset[str](), "person": frozenset[str](), **before.hashes}
    hashes[kind] |= {found.hash_of(value) for value in values if value.strip()}
    write_json_atomically(
        state.privacy / LIST, {name: sorted(items) for name, items in hashes.items()}
    )
    (state.privacy / LIST).chmod(0o600)
    return ForgetList(key, hashes)


def _key(path: Path) -> str:
    private_file(path)
    if not path.read_text(encoding="utf-8").strip():
        path.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def mark_forgotten(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, spec: SourceTable, listed: ForgetList
) -> None:
    """Give the rows of forgotten accounts and persons in ``staged`` the only reason `REASON`.

    Values elsewhere in kept rows are emptied: the id of a forgotten parent account or owner, and
    texts that mention a forgotten e-mail address.
    """
    if not listed:
        return
    present = {name: item for name, item in spec.columns.items() if name in mapped.expressions}
    for name, column in present.items():
        if column.personal in ("account", "person"):
            query = f"SELECT CAST({ident(name)} AS VARCHAR) AS v FROM staged"
            kind: SubjectKind = "account" if column.personal == "account" else "person"
            values = listed.spelled_here(connection, query, kind)
            if values and (name == "account_id" or _is_row_of_person(name, mapped.table)):
                connection.execute(
                    f"UPDATE staged SET reasons = [{literal(REASON)}], notes = [] "
                    f"WHERE list_contains({text_list(values)}, {ident(name)})"
                )
            elif values:
                connection.execute(
                    f"UPDATE staged SET {ident(name)} = NULL "
                    f"WHERE list_contains({text_list(values)}, {ident(name)})"
                )
        elif column.personal == "text":
            _empty_mentions(connection, name, listed)


def _is_row_of_person(column: str, table: str) -> bool:
    """Whether a row is about the person of a column, and not only names them."""
    return column in {"user_id", "respondent_id", "contact_id"} or (
        table == "owners" and column == "owner_id"
    )


def _empty_mentions(connection: duckdb.DuckDBPyConnection, column: str, listed: ForgetList) -> None:
    found = f"regexp_extract_all({ident(column)}, {literal(E_MAIL)})"
    query = (
        f"SELECT unnest({found}) AS v FROM staged "
        f"WHERE {ident(column)} IS NOT NULL AND contains({ident(column)}, '@')"
    )
    for value in listed.spelled_here(connection, query, "person"):
        connection.execute(
            f"UPDATE staged SET {ident(column)} = replace({ident(column)}, {literal(value)}, "
            f"{literal(REMOVED)}) WHERE contains({ident(column)}, {literal(value)})"
        )


def forgotten_cells(
    connection: duckdb.DuckDBPyConnection, rows: str, columns: Iterable[str], listed: ForgetList
) -> list[str]:
    """Return the values of any source column that are on the list, for raw copies of rows.

    The quarantine copies columns without a mapping, too; a cell that is a forgotten id, or holds a
    forgotten e-mail address, is not copied.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the source rows.
    rows : str
        SQL of the rows that are copied, after FROM.
    columns : iterable of str
        Source columns.
    listed : ForgetList
        The list.
    """
    if not listed:
        return []
    found: set[str] = set()
    for name in columns:
        text = f"CAST({ident(name)} AS VARCHAR)"
        query = f"SELECT {text} AS v FROM {rows}"
        mails = f"SELECT unnest(regexp_extract_all({text}, {literal(E_MAIL)})) AS v FROM {rows}"
        found.update(listed.spelled_here(connection, query, "account"))
        found.update(listed.spelled_here(connection, query, "person"))
        found.update(listed.spelled_here(connection, mails, "person"))
    return sorted(found)


def copied(column: str, forgotten: list[str]) -> str:
    """Return SQL of a source value for a raw copy: empty where it holds a forgotten value."""
    text = f"CAST({ident(column)} AS VARCHAR)"
    if not forgotten:
        return text
    hits = " OR ".join(
        f"contains({text}, {literal(value)})" if "@" in value else f"{text} = {literal(value)}"
        for value in forgotten
    )
    return f"CASE WHEN NOT coalesce({hits}, false) THEN {text} END"
