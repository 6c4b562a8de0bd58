"""The mapping as ``company.yaml`` states it: what is read from where, and the open guesses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.schema.company import Company, load_company
from configs.schema.source_mapping import Input, TableMapping


@dataclass(frozen=True)
class WrittenTable:
    """One mapping of a table.

    Attributes
    ----------
    table, source : str
        Canonical table, and where its rows come from.
    account : tuple of str
        How the account is found; empty where the rows have its id.
    columns : mapping of str to str
        Canonical column to source column or SQL.
    others : mapping of str to str
        Billing, known time, time zone and other keys.
    """

    table: str
    source: str
    account: tuple[str, ...]
    columns: Mapping[str, str]
    others: Mapping[str, str]


@dataclass(frozen=True)
class OpenGuess:
    """A guess that no person has confirmed: key, value, evidence, confidence, alternatives."""

    key: str
    value: str
    why: str
    sure: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class WrittenMapping:
    """A company file for the page.

    Attributes
    ----------
    title, data, currency, now : str
        Name, folder of the files, currency, and pinned clock or nothing.
    tables : tuple of WrittenTable
        Mapped tables.
    unmapped : mapping of str to str
        Inputs that are read as the table of their name, to their source.
    ready_table : str
        Source of a ready-made table; empty without.
    guesses : tuple of OpenGuess
        Open guesses.
    """

    title: str
    data: str
    currency: str
    now: str
    tables: tuple[WrittenTable, ...]
    unmapped: Mapping[str, str]
    ready_table: str
    guesses: tuple[OpenGuess, ...]


def written_mapping(folder: Path) -> WrittenMapping:
    """Return the mapping of a company folder.

    Raises
    ------
    ConfigError
        There is no company, or its file is wrong.
    """
    company = load_company(folder)
    inputs = {name: _source(item) for name, item in company.inputs.items()}
    tables = tuple(
        _table(name, part, inputs) for name, parts in company.tables.items() for part in parts
    )
    used = {part.source or name for name, parts in company.tables.items() for part in parts}
    ready = company.table
    return WrittenMapping(
        company.title or company.name,
        company.data,
        company.reporting_currency,
        company.now.isoformat() if company.now else "",
        tables,
        {} if ready else {name: text for name, text in inputs.items() if name not in used},
        inputs.get(ready.input_name, "") if ready else "",
        open_guesses(folder, company),
    )


def _source(item: Input) -> str:
    if item.connection is not None:
        return f"table {item.table} of connection {item.connection}"
    return ", ".join(item.files) + (f", sheet {item.sheet}" if item.sheet else "")


def _table(name: str, part: TableMapping, inputs: Mapping[str, str]) -> WrittenTable:
    source = "SQL over the inputs" if part.sql else inputs.get(part.source or name, name)
    account = tuple(f"{link.column} = {link.matches} (by {link.by})" for link in part.account)
    others = {
        key: str(value)
        for key, value in {
            "known_at": part.known_at,
            "known_delay_days": part.known_delay_days or None,
            "timezone": part.timezone if part.timezone != "UTC" else None,
            "leave_out": part.leave_out,
            "unfold": part.unfold,
        }.items()
        if value is not None
    }
    if part.billing is not None:
        billing = part.billing.model_dump(exclude_none=True, exclude_defaults=True)
        others |= {f"billing.{key}": str(value) for key, value in billing.items()}
    return WrittenTable(name, source, account, part.columns, others)


def open_guesses(folder: Path, company: Company | None = None) -> tuple[OpenGuess, ...]:
    """Return the guesses of a company that no person has confirmed."""
    found = company or load_company(folder)
    if not found.guesses:
        return ()
    path = folder if folder.is_file() else folder / "company.yaml"
    # Every value as the text that the file has.
    raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    return tuple(
        OpenGuess(key, value_at(raw, key), guess.why, guess.sure, guess.others)
        for key, guess in found.guesses.items()
    )


def value_at(raw: Any, key: str) -> str:
    """Return the value at a dotted key of a parsed file; empty where there is none.

    >>> value_at({"tables": {"a": [{"account": [{"column": "Id"}]}]}}, "tables.a.0.account.0")
    'Id'
    """
    for part in key.split("."):
        if isinstance(raw, list) and part.isdigit() and int(part) < len(raw):
            raw = raw[int(part)]
        elif isinstance(raw, dict):
            raw = raw.get(part)
        else:
            return ""
    if isinstance(raw, dict):
        raw = raw.get("column", "")
    return raw if isinstance(raw, str) else ""
