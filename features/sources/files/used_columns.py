"""Columns of a database input that the company uses, so that no others are transferred."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from configs.schema.company import Company
from configs.schema.source_mapping import TableMapping
from features.tables.source_tables import TABLES

EVENT_ID = "event_id"
_NAME = re.compile(r"[\w .-]+")


def used_columns(company: Company, name: str, available: Sequence[str]) -> list[str]:
    """Return the columns of an input that its mappings use.

    All columns are used where the mapping is SQL over inputs or a billing export, where the input
    is a ready-made table, and for events without a mapped `event_id`: two events are the same only
    if they are the same in every column. A mapping that names an unknown column also reads all, so
    that the error can list them.

    Parameters
    ----------
    company : Company
        The configuration.
    name : str
        The input.
    available : sequence of str
        Its columns.
    """
    everything = list(available)
    users = list(_users(company, name))
    if not users or _is_used_whole(company, name, users, available):
        return everything
    texts = [text for _, part in users for text in _texts(part)]
    if any(_is_unknown(text, available) for text in texts):
        return everything
    same = {column for table, _ in users for column in (*TABLES[table].columns, "known_at")}
    if any(table == "accounts" for table, _ in users):
        texts += [
            link.matches
            for parts in company.tables.values()
            for part in parts
            for link in part.account
        ]
    joined = "\n".join(texts).lower()
    used = [item for item in available if item.lower() in same or _is_named(item, joined)]
    return used or everything


def _is_named(column: str, text: str) -> bool:
    """Whether a column occurs in SQL as a whole word; too many are read rather than too few."""
    names = {column.lower(), column.lower().replace('"', '""')}
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names)


def _users(company: Company, name: str) -> Iterator[tuple[str, TableMapping]]:
    """Yield the tables and mappings that read an input."""
    for table in TABLES:
        if table not in company.tables and table not in company.inputs:
            continue
        for part in company.tables.get(table) or (TableMapping(),):
            if part.sql is not None:
                if name in re.findall(r"\w+", part.sql.lower()):
                    yield table, part
            elif (part.source or table) == name:
                yield table, part


def _is_used_whole(
    company: Company,
    name: str,
    users: Sequence[tuple[str, TableMapping]],
    available: Sequence[str],
) -> bool:
    if company.table is not None and company.table.input_name == name:
        return True
    has_id = EVENT_ID in {item.lower() for item in available}
    return any(
        part.sql is not None
        or part.billing is not None
        or not (TABLES[table].key or EVENT_ID in part.columns or has_id)
        for table, part in users
    )


def _texts(part: TableMapping) -> Iterator[str]:
    """Yield the texts of a mapping that name columns."""
    yield from part.columns.values()
    yield from (link.column for link in part.account)
    yield from (text for text in (part.known_at, part.leave_out) if text is not None)


def _is_unknown(text: str, available: Sequence[str]) -> bool:
    """Whether a text looks like the name of a column that does not exist."""
    known = {item.lower() for item in available}
    name = text.strip().lower()
    return bool(_NAME.fullmatch(name)) and name not in known and name != "null"
