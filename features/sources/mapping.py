"""Mapping of source columns to canonical columns, as SQL expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import available_timezones

import duckdb

from configs.runtime.errors import ConfigError, SourceError, did_you_mean
from configs.schema.company import Company
from configs.schema.source_mapping import TableMapping
from features.sources.account_links import ACCOUNT, link_accounts
from features.sources.billing.billing_rows import billed_table, extra_expressions
from features.sources.files.readers import RawInput
from features.sources.files.sql import ROW, columns_of, duckdb_errors, ident
from features.sources.files.sql_expressions import one_expression, one_select
from features.sources.parsing.column_formats import Style
from features.tables.source_tables import TABLES, SourceTable

KNOWN_AT = "known_at"


@dataclass(frozen=True)
class Mapped:
    """A mapped table whose values are not yet cast.

    Attributes
    ----------
    table : str
        The canonical table.
    relation : str
        SQL name of the rows, with the row number `features.sources.files.sql.ROW`.
    place : str
        Origin of the rows, for messages.
    source_columns : tuple of str
        Columns of the relation without the row number.
    expressions : dict of str to str
        Canonical column → SQL over the relation.
    types : dict of str to str
        Canonical column → DuckDB type of its expression.
    plain : frozenset of str
        Canonical columns that are a plain source column, not an expression.
    known_at : str or None
        SQL over the relation of the time a row became visible.
    mapping : TableMapping
        Remaining configuration of this table.
    spec : SourceTable
        Contract of the table, with the extra columns of a billing export.
    left_out : str or None
        SQL over the relation, true for rows that the mapping leaves out.
    styles : dict of str to Style
        Formats of text columns (`features.sources.table_formats`).
    """

    table: str
    relation: str
    place: str
    source_columns: tuple[str, ...]
    expressions: dict[str, str]
    types: dict[str, str]
    plain: frozenset[str]
    known_at: str | None
    mapping: TableMapping
    spec: SourceTable
    left_out: str | None = None
    styles: dict[str, Style] = field(default_factory=dict)


def check_tables(company: Company) -> list[str]:
    """Return the canonical tables to load, accounts first.

    A table is loaded when it is mapped, or when an input carries its name.

    Raises
    ------
    ConfigError
        An unknown table, column or time zone, with the closest known one.
    SourceError
        There is no accounts table.
    """
    for name, parts in company.tables.items():
        if name not in TABLES:
            raise _unknown("table", name, TABLES, f"tables.{name}")
        for mapping in parts:
            _check_mapping(company, name, mapping)
    wanted = [name for name in TABLES if name in company.tables or name in company.inputs]
    if "accounts" not in wanted:
        hint = did_you_mean("accounts", company.inputs)
        raise SourceError(
            "there is no accounts table" + (f"; {hint}" if hint else ""),
            where="inputs, tables",
            fix="add under inputs:   accounts: accounts.csv",
        )
    return wanted


def _check_mapping(company: Company, name: str, mapping: TableMapping) -> None:
    known = [*spec_of(name, mapping).columns, KNOWN_AT]
    for column in mapping.columns:
        if column not in known:
            raise _unknown(f"column of {name}", column, known, f"tables.{name}.columns.{column}")
    if mapping.timezone not in available_timezones():
        raise _unknown(
            "time zone", mapping.timezone, available_timezones(), f"tables.{name}.timezone"
        )
    misplaced = [
        key
        for key, is_wrong in (
            ("billing", mapping.billing is not None and name != "subscriptions"),
            ("account", bool(mapping.account) and not _has_account(name)),
        )
        if is_wrong
    ]
    if misplaced:
        raise ConfigError(
            f"`{misplaced[0]}` does not apply to this table", where=f"tables.{name} in company.yaml"
        )
    if mapping.sql is not None and mapping.source is not None:
        raise ConfigError("a table has either `from` or `sql`, not both", where=f"tables.{name}")
    source = mapping.source or name
    if mapping.sql is None and source not in company.inputs:
        raise _unknown("input", source, company.inputs, f"tables.{name}.from")


def _unknown(
    kind: str, word: str, known: Mapping[str, object] | list[str] | set[str], where: str
) -> ConfigError:
    shown = ", ".join(sorted(known)[:24])
    return ConfigError(
        f"unknown {kind} {word!r}; {did_you_mean(word, known) or 'known: ' + shown}",
        where=f"{where} in company.yaml",
        fix="correct the name; `bellwether init FOLDER` writes an example with every table and "
        "column",
    )


def _has_account(table: str) -> bool:
    return table != "accounts" and "account_id" in TABLES[table].columns


def spec_of(table: str, mapping: TableMapping) -> SourceTable:
    """Return the contract of a table, with the extra columns of a billing export."""
    spec = TABLES[table]
    return spec if mapping.billing is None else billed_table(spec, mapping.billing)


def mappings_of(company: Company, table: str) -> tuple[TableMapping, ...]:
    """Return the mappings of a table, one per source.

    By default that is the input of the same name without changes.
    """
    return company.tables.get(table) or (TableMapping(),)


def inputs_of(company: Company, table: str) -> list[str]:
    """Return the inputs of all sources of a table."""
    parts = mappings_of(company, table)
    return list(dict.fromkeys(name for part in parts for name in part_inputs(company, table, part)))


def part_inputs(company: Company, table: str, mapping: TableMapping) -> list[str]:
    """Return the inputs of one source of a table; for `sql`, every input named in the text."""
    if mapping.sql is None:
        return [mapping.source or table]
    words = set(re.findall(r"\w+", mapping.sql.lower()))
    return [name for name in company.inputs if name in words]


def map_table(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    mapping: TableMapping,
    inputs: Mapping[str, RawInput],
    accounts: Path | None = None,
) -> Mapped:
    """Return the expression of every canonical column of one source of a table.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the open inputs.
    table : str
        The canonical table.
    mapping : TableMapping
        Its mapping.
    inputs : mapping of str to RawInput
        The open inputs.
    accounts : Path or None
        The canonical accounts, for rows that name their account by another value.

    Raises
    ------
    SourceError
        Invalid SQL, an unknown source column, or a missing required column.
    """
    if mapping.sql is None:
        source = inputs[mapping.source or table]
        relation, place = source.relation, source.place
        columns = source.columns
    else:
        relation, place = f"raw.{ident('sql ' + table)}", f"tables.{table}.sql"
        columns = _run_sql(connection, table, mapping.sql, relation, list(inputs))
    spec = spec_of(table, mapping)
    named = {
        ours: _column_or_sql(connection, theirs, columns, f"tables.{table}.{key}")
        for key, ours, theirs in _mapped_columns(mapping)
    }
    known_at = named.pop("", None)
    if mapping.account and accounts is not None:
        relation = _linked(connection, table, mapping, relation, columns, accounts)
        named["account_id"] = ident(ACCOUNT)
    expressions, plain = _expressions(spec, named, columns)
    by_name = expressions.pop(KNOWN_AT, None)
    known_at = by_name if known_at is None else known_at
    where = f"tables.{table}.columns in company.yaml, {place}"
    types = {
        name: _type_of(connection, text, relation, name, where, columns)
        for name, text in [*expressions.items(), *([(KNOWN_AT, known_at)] if known_at else [])]
    }
    _require_columns(table, spec, expressions, columns, where)
    left_out = mapping.leave_out and one_expression(
        connection, mapping.leave_out, f"tables.{table}.leave_out in company.yaml", columns
    )
    if left_out:
        _type_of(connection, left_out, relation, "leave_out", where, columns)
    return Mapped(
        table, relation, place, tuple(columns), expressions, types, plain, known_at, mapping, spec,
        left_out,
    )  # fmt: skip


def _linked(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    mapping: TableMapping,
    relation: str,
    columns: dict[str, str],
    accounts: Path,
) -> str:
    links = [
        (link, _column_or_sql(connection, link.column, columns, f"tables.{table}.account.column"))
        for link in mapping.account
    ]
    with duckdb_errors(f"tables.{table}.account in company.yaml"):
        return link_accounts(connection, table, relation, links, accounts)


def _run_sql(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    sql: str,
    relation: str,
    inputs: list[str],
) -> dict[str, str]:
    """Materialise the SELECT of a mapping, so its rows have stable numbers."""
    place = f"tables.{table}.sql"
    text = one_select(connection, sql, f"{place} in company.yaml", inputs)
    fix = "CSV columns arrive as text: write TRY_CAST(amount AS DOUBLE), TRY_CAST(day AS DATE)"
    with duckdb_errors(place, fix):
        connection.execute(
            f"CREATE TABLE {relation} AS SELECT row_number() OVER () AS {ROW}, * FROM ({text})"
        )
        columns = columns_of(connection, f"SELECT * EXCLUDE ({ROW}) FROM {relation}")
    known = [*TABLES[table].columns, KNOWN_AT]
    for name in columns:
        # A leading underscore marks columns that only distinguish rows, such as an event id.
        if name.lower() not in known and not name.startswith("_"):
            raise _unknown(f"column of {table}", name, known, place)
    return columns


def _mapped_columns(mapping: TableMapping) -> Iterator[tuple[str, str, str]]:
    """Yield key, canonical column (empty for the key `known_at`) and text of a mapping."""
    for ours, theirs in mapping.columns.items():
        yield f"columns.{ours}", ours, theirs
    if mapping.known_at is not None:
        yield KNOWN_AT, "", mapping.known_at
    if mapping.billing is not None:
        for name, text in extra_expressions(mapping.billing).items():
            yield f"billing.{name}", name, text


def _expressions(
    spec: SourceTable, named: dict[str, str], columns: dict[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    """Return mapped columns, then source columns with a canonical name."""
    by_lower = {column.lower(): column for column in columns}
    same = {
        name: ident(by_lower[name])
        for name in (*spec.columns, KNOWN_AT)
        if name in by_lower and name not in named
    }
    found = {name: text for name, text in {**same, **named}.items() if text.lower() != "(null)"}
    quoted = {ident(column) for column in columns}
    ordered = {n: found[n] for n in (*spec.columns, KNOWN_AT) if n in found}
    return ordered, frozenset(name for name, text in ordered.items() if text in quoted)


def _column_or_sql(
    connection: duckdb.DuckDBPyConnection, text: str, columns: Mapping[str, str], key: str
) -> str:
    """Return the quoted source column of that name, if any; otherwise the text is SQL."""
    by_lower = {column.lower(): column for column in columns}
    found = text if text in columns else by_lower.get(text.strip().lower())
    if found is not None:
        return ident(found)
    return one_expression(connection, text.strip(), f"{key} in company.yaml", columns)


def _type_of(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    relation: str,
    name: str,
    where: str,
    columns: Mapping[str, str],
) -> str:
    try:
        found = columns_of(connection, f"SELECT {text} AS value FROM {relation}")
    except duckdb.Error as error:
        shown = text.removeprefix("(").removesuffix(")")
        hint = did_you_mean(shown, columns)
        known = hint or f"the source has: {', '.join(columns)}"
        raise SourceError(
            f"{name}: {shown!r} is neither a column nor valid SQL; {known}\n"
            f"{str(error).splitlines()[0]}",
            where=where,
            fix=f"write   {name}: SOURCE_COLUMN   or a SQL expression over source columns",
        ) from error
    return found["value"]


def _require_columns(
    table: str,
    spec: SourceTable,
    expressions: Mapping[str, str],
    columns: Mapping[str, str],
    where: str,
) -> None:
    missing = [n for n, column in spec.columns.items() if column.required and n not in expressions]
    if not missing:
        return
    hints = [f"{name}: {did_you_mean(name, columns) or 'no similar column'}" for name in missing]
    raise SourceError(
        f"{table} has no column for {', '.join(missing)}; the source has: {', '.join(columns)}",
        where=where,
        fix=f"map it under tables.{table}.columns ({'; '.join(hints)})",
    )
