"""Examples and remedies for quarantined rows: offending values, and the mapping that fixes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.sources.files.sql import ROW, ident, literal, one_row
from features.sources.mapping import KNOWN_AT, Mapped
from features.tables.source_tables import TABLES, SourceColumn

SHOWN = 3
"""Examples shown per reason."""
MAX_IDS = 5_000
"""Maximum number of unknown ids compared with known ones."""
MIN_AGREEMENT = 0.5
"""Share of matching ids from which a conversion is suggested."""
WITH_VALUES = ("unparsable", "out_of_bounds", "out_of_scale", "not_allowed", "unknown_account")

CHANGES: Mapping[str, str] = {
    "lower({0})": "in lower case",
    "left({0}, 15)": "in their first 15 characters",
    "ltrim({0}, '0')": "without zeros in front",
    "replace({0}, '-', '')": "without hyphens",
    "split_part({0}, '-', -1)": "behind their last hyphen",
    "split_part({0}, '_', -1)": "behind their last underscore",
    "split_part({0}, ':', -1)": "behind their last colon",
    "split_part({0}, '/', -1)": "behind their last slash",
    "split_part({0}, '.', 1)": "before their first point",
    "regexp_replace({0}, '^[^0-9]+', '')": "without the letters in front",
    "regexp_replace({0}, '[^A-Za-z0-9]', '', 'g')": "in their letters and digits",
    "lower(regexp_replace({0}, '[^A-Za-z0-9]', '', 'g'))": "in their letters and digits, ignoring "
    "case",
}
"""Conversions that may make the ids of two tables agree, and their descriptions."""


@dataclass(frozen=True)
class QuarantinedRows:
    """Examples and remedies of quarantined rows.

    Attributes
    ----------
    examples : dict of str to list of str
        Reason → some of the source values.
    remedies : dict of str to str
        Reason → the line to write in the mapping.
    """

    examples: dict[str, list[str]]
    remedies: dict[str, str]


def describe_quarantine(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    quarantined: Mapping[str, int],
    accounts: Path | None,
) -> QuarantinedRows:
    """Return offending values and remedies of the rows in the table ``aside``.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with ``aside`` and the mapped relation.
    mapped : Mapped
        The mapping.
    quarantined : mapping of str to int
        Reason → rows.
    accounts : Path or None
        The canonical accounts.
    """
    examples, remedies = {}, {}
    for reason in quarantined:
        kind, _, name = reason.partition(":")
        if kind not in WITH_VALUES:
            continue
        name = name or "account_id"
        examples[reason] = _values(connection, mapped, reason, name)
        if kind == "unparsable" and examples[reason]:
            column = TABLES[mapped.table].columns.get(name, SourceColumn("instant", ""))
            remedies[reason] = conversion(column, name, _plain(mapped, name), examples[reason][0])
        if kind == "unknown_account" and accounts is not None:
            remedies[reason] = _agreement(connection, mapped, accounts)
    return QuarantinedRows(examples, {reason: text for reason, text in remedies.items() if text})


def _expression(mapped: Mapped, name: str) -> str:
    return str(mapped.known_at) if name == KNOWN_AT else mapped.expressions[name]


def _plain(mapped: Mapped, name: str) -> str:
    """Return a column as written in the mapping."""
    text = _expression(mapped, name)
    bare = text.removeprefix('"').removesuffix('"')
    is_bare = bare.isidentifier() and text == ident(bare)
    return bare if is_bare else text


def _values(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, reason: str, name: str
) -> list[str]:
    rows = connection.execute(
        f"SELECT CAST({_expression(mapped, name)} AS VARCHAR) AS v FROM {mapped.relation} "
        f"JOIN aside USING ({ROW}) WHERE list_contains(reasons, {literal(reason)}) "
        f"GROUP BY v HAVING v IS NOT NULL ORDER BY min({ROW}) LIMIT {SHOWN}"
    ).fetchall()
    return [str(row[0])[:60] for row in rows]


def conversion(column: SourceColumn, name: str, source: str, example: str) -> str:
    """Return the mapping line that reads such a value.

    >>> conversion(SourceColumn("number", ""), "arr", "Amount", "about $1,200")
    "arr: TRY_CAST(regexp_replace(Amount, '[^0-9.-]', '', 'g') AS DOUBLE)"
    """
    if column.kind in ("number", "count"):
        return f"{name}: TRY_CAST(regexp_replace({source}, '[^0-9.-]', '', 'g') AS DOUBLE)"
    if column.kind == "flag":
        return f"{name}: CASE {source} WHEN {literal(example)} THEN true … END"
    return f"{name}: strptime({source}, '{_format_of(example)}')"


def _format_of(example: str) -> str:
    """Return a strptime format for a date like this one.

    >>> _format_of("31.03.2024"), _format_of("2024.03.31 10:00"), _format_of("March 2024")
    ('%d.%m.%Y', '%Y.%m.%d %H:%M', '%B %Y')
    """
    day, _, clock = example.strip().partition(" ")
    sign = next((mark for mark in day if not mark.isalnum()), "/")
    if day.isalpha():
        return "%B %Y"
    is_year_first = day.partition(sign)[0].isdigit() and len(day.partition(sign)[0]) == 4
    order = ("%Y", "%m", "%d") if is_year_first else ("%d", "%m", "%Y")
    times = ["", " %H:%M", " %H:%M:%S"][min(2, clock.count(":"))] if clock else ""
    return sign.join(order) + times


def _agreement(connection: duckdb.DuckDBPyConnection, mapped: Mapped, accounts: Path) -> str:
    """Return the conversion that makes unknown ids match those of the accounts."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE bw_here AS SELECT DISTINCT "
        f"trim(CAST({mapped.expressions['account_id']} AS VARCHAR)) AS id FROM {mapped.relation} "
        f"JOIN aside USING ({ROW}) WHERE list_contains(reasons, 'unknown_account') "
        f"LIMIT {MAX_IDS}"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE bw_there AS SELECT DISTINCT account_id AS id "
        f"FROM read_parquet({literal(accounts)})"
    )
    sample = one_row(
        connection,
        f"SELECT list(id) AS ids FROM (SELECT id FROM bw_there ORDER BY 1 LIMIT {SHOWN})",
    )
    known = f"account ids are like {', '.join(sample['ids'])}"
    found = {(change, side): _share(connection, change, side)
             for side in ("here", "there", "both") for change in _changes(connection)}  # fmt: skip
    best, share = max(found.items(), key=lambda item: item[1], default=(None, 0.0))
    if best is None or share < MIN_AGREEMENT:
        return known
    return f"{known}; {_agreement_words(mapped, *best, share)}"


def _changes(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return possible conversions of ids, including padding and a prefix shared by all accounts."""
    facts = one_row(
        connection,
        "SELECT min(length(id)) AS low, max(length(id)) AS high, "
        "regexp_extract(min(id), '^[^0-9]+') AS front, "
        "bool_and(starts_with(id, (SELECT regexp_extract(min(id), '^[^0-9]+') FROM bw_there))) "
        "AS is_shared FROM bw_there",
    )
    more = []
    if facts["low"] == facts["high"]:
        more.append(f"lpad({{0}}, {facts['low']}, '0')")
    if facts["front"] and facts["is_shared"]:
        more.append(f"{literal(facts['front'])} || {{0}}")
    return [*CHANGES, *more]


def _share(connection: duckdb.DuckDBPyConnection, change: str, side: str) -> float:
    """Return the share of unknown ids that match after converting one side or both.

    A conversion of the accounts counts only where their ids remain distinct.
    """
    here = change.format("id") if side in ("here", "both") else "id"
    there = change.format("id") if side in ("there", "both") else "id"
    facts = one_row(
        connection,
        f"WITH there AS (SELECT {there} AS id FROM bw_there) SELECT "
        f"(SELECT count(DISTINCT id) = count(*) FROM there) AS is_apart, "
        f"(SELECT avg(CAST({here} IN (SELECT id FROM there) AS INTEGER)) FROM bw_here) AS share",
    )
    return float(facts["share"] or 0.0) if facts["is_apart"] else 0.0


def _agreement_words(mapped: Mapped, change: str, side: str, share: float) -> str:
    words = f"{share:.0%} of the unknown ids match them {CHANGES.get(change, 'after conversion')}"
    here = f"account_id: {change.format(_plain(mapped, 'account_id'))}"
    there = f"account_id: {change.format('account_id')}"
    if side == "here":
        return f"{words}: map {here}"
    if side == "there":
        return f"{words}: in tables.accounts map {there}"
    return f"{words}: map {here}, and in tables.accounts {there}"
