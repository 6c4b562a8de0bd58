"""What to do about rows set aside: offending values, ids of both sides, and the line to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.sources.files.sql import ROW, ident, literal, one_row
from features.sources.mapping import KNOWN_AT, Mapped
from features.tables.source_tables import TABLES, SourceColumn

SHOWN = 3
"""Values shown of each kind of mistake."""
LOOKED_AT = 5_000
"""Unknown ids that are compared with the known ones."""
AGREED = 0.5
"""Share of them from which a way of writing is offered."""
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
    "lower(regexp_replace({0}, '[^A-Za-z0-9]', '', 'g'))": "in their letters and digits, whatever "
    "the case",
}
"""What may be done to an id so that two sides agree, and in which words."""


@dataclass(frozen=True)
class QuarantinedRows:
    """What to say about rows set aside.

    Attributes
    ----------
    examples : dict of str to list of str
        Reason → some of the values as they came.
    remedies : dict of str to str
        Reason → what to write in the mapping.
    """

    examples: dict[str, list[str]]
    remedies: dict[str, str]


def look_aside(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    quarantined: Mapping[str, int],
    accounts: Path | None,
) -> QuarantinedRows:
    """Return offending values and remedies; the table ``aside`` says which rows have which reason.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Where ``aside`` and the mapped relation are.
    mapped : Mapped
        The mapping.
    quarantined : mapping of str to int
        Reason → rows.
    accounts : Path or None
        The canonical accounts.
    """
    examples, remedies = {}, {}
    for reason in quarantined:
        what, _, name = reason.partition(":")
        if what not in WITH_VALUES:
            continue
        name = name or "account_id"
        examples[reason] = _values(connection, mapped, reason, name)
        if what == "unparsable" and examples[reason]:
            column = TABLES[mapped.table].columns.get(name, SourceColumn("instant", ""))
            remedies[reason] = conversion(column, name, _plain(mapped, name), examples[reason][0])
        if what == "unknown_account" and accounts is not None:
            remedies[reason] = _agreement(connection, mapped, accounts)
    return QuarantinedRows(examples, {reason: text for reason, text in remedies.items() if text})


def _expression(mapped: Mapped, name: str) -> str:
    return str(mapped.known_at) if name == KNOWN_AT else mapped.expressions[name]


def _plain(mapped: Mapped, name: str) -> str:
    """Return a column as a person writes it in the mapping."""
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


def conversion(column: SourceColumn, name: str, theirs: str, example: str) -> str:
    """Return the line of mapping that reads such a value.

    >>> conversion(Column("number", ""), "arr", "Amount", "about $1,200")
    "arr: TRY_CAST(regexp_replace(Amount, '[^0-9.-]', '', 'g') AS DOUBLE)"
    """
    if column.kind in ("number", "count"):
        return f"{name}: TRY_CAST(regexp_replace({theirs}, '[^0-9.-]', '', 'g') AS DOUBLE)"
    if column.kind == "flag":
        return f"{name}: CASE {theirs} WHEN {literal(example)} THEN true … END"
    return f"{name}: strptime({theirs}, '{_format_of(example)}')"


def _format_of(example: str) -> str:
    """Return a format that may read a date of this look.

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
    """Return how the unknown ids and those of the accounts can be made to agree."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE bw_here AS SELECT DISTINCT "
        f"trim(CAST({mapped.expressions['account_id']} AS VARCHAR)) AS id FROM {mapped.relation} "
        f"JOIN aside USING ({ROW}) WHERE list_contains(reasons, 'unknown_account') "
        f"LIMIT {LOOKED_AT}"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE bw_there AS SELECT DISTINCT account_id AS id "
        f"FROM read_parquet({literal(accounts)})"
    )
    sample = one_row(
        connection,
        f"SELECT list(id) AS ids FROM (SELECT id FROM bw_there ORDER BY 1 LIMIT {SHOWN})",
    )
    known = f"accounts are called {', '.join(sample['ids'])}"
    found = {(change, side): _share(connection, change, side)
             for side in ("here", "there", "both") for change in _changes(connection)}  # fmt: skip
    best, share = max(found.items(), key=lambda item: item[1], default=(None, 0.0))
    if best is None or share < AGREED:
        return known
    return f"{known}; {_said(mapped, *best, share)}"


def _changes(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return what may be done to ids, padding and a prefix that all accounts share included."""
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
    """Return the share of unknown ids that a change of one side, or of both, makes known.

    A change of the accounts counts only where it keeps them apart.
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


def _said(mapped: Mapped, change: str, side: str, share: float) -> str:
    words = f"{share:.0%} of the unknown ids agree with them {CHANGES.get(change, 'so changed')}"
    ours = f"account_id: {change.format(_plain(mapped, 'account_id'))}"
    theirs = f"account_id: {change.format('account_id')}"
    if side == "here":
        return f"{words}: map {ours}"
    if side == "there":
        return f"{words}: in tables.accounts map {theirs}"
    return f"{words}: map {ours}, and in tables.accounts {theirs}"
