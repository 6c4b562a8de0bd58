"""One source table, from mapped rows to canonical Parquet, quarantine and counts.

Everything is SQL inside DuckDB and out of core; no row becomes a Python object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from configs.runtime.errors import DataError, SourceError
from features.sources.files.readers import RawInput
from features.sources.files.sql import ROW, duckdb_errors, ident, literal, one_row
from features.sources.mapping import KNOWN_AT, Mapped
from features.sources.parent_accounts import mark_children, rolled_up, write_tops
from features.sources.parsing import type_parsing
from features.sources.redelivered_events import (
    EVENT_ID,
    different_events,
    mark_delivered_again,
    repeated_ids,
)
from features.sources.remedies import QuarantinedRows, look_aside
from features.sources.row_rules import RowRule, bad, is_date_rule, raw_value, rules_for, sentinel
from features.sources.table_formats import MOMENT, format_words, marks_of, with_ways
from features.sources.timestamp_profile import Profile, profile_of
from features.tables.source_tables import TABLES, SourceTable

DATA = "data.parquet"
QUARANTINE = "quarantine.parquet"


def build_source_table(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    inputs: list[RawInput],
    accounts: Path | None,
    folder: Path,
) -> dict[str, Any]:
    """Write one canonical table into `folder` and return what its manifest says about the rows.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Where the raw inputs are open.
    mapped : Mapped
        The expressions of the canonical columns.
    inputs : list of RawInput
        The inputs read, for their malformed lines.
    accounts : Path or None
        The canonical accounts, to know which accounts exist; None for accounts themselves.
    folder : Path
        Receives ``data.parquet`` and ``quarantine.parquet``.

    Returns
    -------
    dict
        Counts (``rows_read`` = ``rows`` + ``rows_quarantined`` + ``rows_duplicate``), reasons,
        columns, and what the times look like.
    """
    with duckdb_errors(mapped.place):
        spec = TABLES[mapped.table]
        mapped = with_ways(connection, mapped, spec)
        profile = profile_of(connection, mapped, spec)
        rules = rules_for(
            mapped.table, spec, list(mapped.expressions), known_at=mapped.known_at is not None
        )
        _stage(connection, mapped, spec, profile, rules, accounts)
        _mark_copies(connection, mapped, profile)
        _mark_superseded(connection, spec, history=mapped.mapping.history)
        if EVENT_ID in mapped.expressions:
            mark_delivered_again(connection, spec)
        if mapped.mapping.roll_up:
            mark_children(connection, mapped)
            write_tops(connection, folder)
        counts = _write(connection, mapped, spec, inputs, folder)
        aside = look_aside(connection, mapped, counts["quarantined"], accounts)
        _check_counts(mapped, counts, inputs, aside)
        counts["repeated_ids"] = repeated_ids(connection, mapped, spec)
        if counts["quarantined"].get("delivered_again"):
            counts["noted"]["other_event"] = different_events(connection, spec)
    return {
        **counts,
        "examples": aside.examples,
        "remedies": aside.remedies,
        "columns": [name for name in mapped.expressions if name != EVENT_ID],
        "profile": profile,
        "written": format_words(mapped.styles),
        "marks": marks_of(mapped.styles),
        "known_basis": _known_basis(mapped),
        "history": mapped.mapping.history,
    }


def _known_basis(mapped: Mapped) -> str:
    if mapped.known_at is not None:
        return "column"
    return "delay" if mapped.mapping.known_delay_days else "default"


def _stage(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    spec: SourceTable,
    profile: Profile,
    rules: list[RowRule],
    accounts: Path | None,
) -> None:
    """Cast every row and say which rules it breaks, in the table ``staged``."""
    known = "NULL" if accounts is None else "known.account_id"
    day = "NULL" if accounts is None else "known.account_day"
    owned = accounts is not None and "account_id" in spec.columns
    join = (
        f"LEFT JOIN (SELECT account_id, CAST(min(created_at) AS DATE) AS account_day "
        f"FROM read_parquet({literal(accounts)}) GROUP BY ALL) AS known USING (account_id)"
    )
    extra = f", {known} AS known_account, {day} AS account_day" if owned else ""
    raw_query, types = _raw_query(mapped, spec)
    connection.execute(
        f"CREATE OR REPLACE TABLE staged AS WITH "
        f"raw_rows AS ({raw_query}), "
        f"cast_rows AS ({_cast_query(mapped, spec, profile, types)}), "
        f"clean_rows AS ({_clean_query(spec, types)}), "
        f"known_rows AS ({_known_query(mapped, spec)}), "
        f"family_rows AS ({rolled_up('known_rows', accounts if owned else None)}), "
        f"joined AS (SELECT family_rows.*{extra} FROM family_rows {join if owned else ''}) "
        f"SELECT *, {_broken(rules, sets_aside=True)} AS reasons, "
        f"{_broken(rules, sets_aside=False)} AS notes FROM joined"
    )


def _raw_query(mapped: Mapped, spec: SourceTable) -> tuple[str, dict[str, str]]:
    """Return the prepared raw columns and their DuckDB types."""
    wanted = {**mapped.expressions, **({KNOWN_AT: mapped.known_at} if mapped.known_at else {})}
    done = {
        name: type_parsing.prepared(
            spec.columns.get(name, MOMENT), text, mapped.types[name], mapped.styles.get(name)
        )
        for name, text in wanted.items()
    }
    parts = [f"{text} AS {raw_value(name)}" for name, (text, _) in done.items()]
    source = ", ".join(ident(name) for name in mapped.source_columns)
    query = f"SELECT {ROW}, hash({source}) AS row_hash, {', '.join(parts)} FROM {mapped.relation}"
    return query, {name: kind for name, (_, kind) in done.items()}


def _cast_query(mapped: Mapped, spec: SourceTable, profile: Profile, types: dict[str, str]) -> str:
    """Typed values, beside whether only a date was given."""
    parts: list[str] = []
    for name, kind in types.items():
        column = spec.columns.get(name, MOMENT)
        dressed = bool(profile.get(name, {}).get("as_dates"))
        typed = type_parsing.value(
            column, raw_value(name), kind, mapped.mapping.timezone, midnight_is_date=dressed
        )
        if name == "currency":
            typed = f"upper({typed})"  # rates are joined by it
        parts.append(f"{typed} AS {ident(name)}")
        if column.kind == "day":
            parts.append(f"true AS {is_date_rule(name)}")
        elif column.kind == "instant":
            only_date = type_parsing.date_text(raw_value(name), kind, midnight_is_date=dressed)
            parts.append(f"coalesce({only_date}, false) AS {is_date_rule(name)}")
    return f"SELECT *, {', '.join(parts)} FROM raw_rows"


def _clean_query(spec: SourceTable, types: dict[str, str]) -> str:
    """Say what was given but not readable, and read dates that stand for never as empty."""
    parts: list[str] = []
    values: list[str] = []
    for name, kind in types.items():
        says = type_parsing.is_given(spec.columns.get(name, MOMENT), raw_value(name), kind)
        unread = f"CASE WHEN {ident(name)} IS NULL THEN {says} ELSE false END"
        parts.append(f"{unread} AS {bad(name)}")
        if spec.columns.get(name, MOMENT).kind in type_parsing.TIMES:
            never = type_parsing.stands_for_never(name)
            parts.append(f"{never} AS {sentinel(name)}")
            values.append(f"CASE WHEN NOT {never} THEN {ident(name)} END AS {ident(name)}")
    raws = ", ".join(raw_value(name) for name in types)
    replaced = f" REPLACE ({', '.join(values)})" if values else ""
    return f"SELECT * EXCLUDE ({raws}){replaced}, {', '.join(parts)} FROM cast_rows"


def _known_query(mapped: Mapped, spec: SourceTable) -> str:
    """Give every row its ``known_at``: said by the source, or when it happened plus the delay."""
    zone, happened = mapped.mapping.timezone, ident(spec.happened)
    if spec.happened in mapped.expressions:
        next_midnight = type_parsing.known_after(f"CAST({happened} AS DATE)", zone)
        default = (
            f"CASE WHEN {is_date_rule(spec.happened)} THEN {next_midnight} ELSE {happened} END"
        )
        default += f" + INTERVAL {mapped.mapping.known_delay_days} DAY"
    else:
        default = "TIMESTAMP '1970-01-01'"  # rows without a time of their own were always known
    if mapped.known_at is None:
        return f"SELECT *, {default} AS {KNOWN_AT} FROM clean_rows"
    said_next = type_parsing.known_after(f"CAST({KNOWN_AT} AS DATE)", zone)
    said = f"CASE WHEN {is_date_rule(KNOWN_AT)} THEN {said_next} ELSE {KNOWN_AT} END"
    return (
        f"SELECT * EXCLUDE ({KNOWN_AT}), {KNOWN_AT} AS given_known_at, "
        f"{is_date_rule(KNOWN_AT)} AS known_is_date, coalesce({said}, {default}) AS {KNOWN_AT} "
        f"FROM clean_rows"
    )


def _broken(rules: list[RowRule], *, sets_aside: bool) -> str:
    parts = [
        f"CASE WHEN {rule.broken} THEN {literal(rule.code)} END"
        for rule in rules
        if rule.sets_aside == sets_aside
    ]
    return f"list_filter([{', '.join(parts) or 'NULL'}]::VARCHAR[], lambda x: x IS NOT NULL)"


def _mark_copies(connection: duckdb.DuckDBPyConnection, mapped: Mapped, profile: Profile) -> None:
    """Find rows that repeat an earlier source row in every column, in the table ``copies``."""
    if _repeats_are_events(mapped, profile):
        connection.execute(f"CREATE OR REPLACE TABLE copies ({ROW} BIGINT)")
        return
    source = ", ".join(ident(name) for name in mapped.source_columns)
    connection.execute(
        f"CREATE OR REPLACE TABLE copies AS "
        f"WITH suspects AS (SELECT row_hash FROM staged GROUP BY row_hash HAVING count(*) > 1), "
        f"alike AS (SELECT {ROW} FROM staged SEMI JOIN suspects USING (row_hash)) "
        f"SELECT {ROW} FROM {mapped.relation} SEMI JOIN alike USING ({ROW}) "
        f"QUALIFY row_number() OVER (PARTITION BY {source} ORDER BY {ROW}) > 1"
    )


def _repeats_are_events(mapped: Mapped, profile: Profile) -> bool:
    """Whether equal rows are separate uses: usage by day, one row per use, without a quantity."""
    spec = TABLES[mapped.table]
    if spec.key or "quantity" not in spec.columns or "quantity" in mapped.expressions:
        return False
    counts = profile.get(spec.happened, {"given": 0, "dates": 0})
    return counts["given"] > 0 and counts["dates"] == counts["given"]


def _mark_superseded(
    connection: duckdb.DuckDBPyConnection, spec: SourceTable, *, history: bool
) -> None:
    """Find rows whose key comes again later known (or further down), in ``superseded``."""
    connection.execute(f"CREATE OR REPLACE TABLE superseded ({ROW} BIGINT, reason VARCHAR)")
    if not spec.key:
        return
    key = ", ".join([*(ident(name) for name in spec.key), *([KNOWN_AT] if history else [])])
    connection.execute(
        f"INSERT INTO superseded "
        f"WITH sound AS (SELECT * FROM staged ANTI JOIN copies USING ({ROW}) "
        f"WHERE len(reasons) = 0), "
        f"twice AS (SELECT {key} FROM sound GROUP BY ALL HAVING count(*) > 1) "
        f"SELECT {ROW}, 'superseded' FROM sound SEMI JOIN twice USING ({key}) "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {KNOWN_AT} DESC, {ROW} DESC) > 1"
    )


def _write(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    spec: SourceTable,
    inputs: list[RawInput],
    folder: Path,
) -> dict[str, Any]:
    # An event's own id has done its work: it is not written.
    names = [name for name in mapped.expressions if name != EVENT_ID]
    shown = ", ".join([*(ident(name) for name in names), KNOWN_AT])
    lead = [n for n in ("account_id", spec.happened) if n in mapped.expressions]
    order = ", ".join([*(ident(name) for name in lead), ROW])
    kept = (
        f"FROM staged ANTI JOIN copies USING ({ROW}) ANTI JOIN superseded USING ({ROW}) "
        f"WHERE len(reasons) = 0"
    )
    connection.execute(
        f"COPY (SELECT {shown} {kept} ORDER BY {order}) TO {literal(folder / DATA)} "
        f"(FORMAT parquet, COMPRESSION zstd)"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE aside AS "
        f"SELECT {ROW}, reasons FROM staged ANTI JOIN copies USING ({ROW}) WHERE len(reasons) > 0 "
        f"UNION ALL SELECT {ROW}, [reason] FROM superseded"
    )
    _write_quarantine(connection, mapped, inputs, folder)
    return _counts(connection, mapped, spec, inputs, kept)


def _write_quarantine(
    connection: duckdb.DuckDBPyConnection, mapped: Mapped, inputs: list[RawInput], folder: Path
) -> None:
    """Rows set aside: their number, the reasons, and every source value as text."""
    values = ", ".join(f"CAST({ident(n)} AS VARCHAR) AS {ident(n)}" for n in mapped.source_columns)
    lines = "".join(
        f" UNION ALL BY NAME SELECT line AS quarantine_row, "
        f"['malformed_line'] AS quarantine_reasons, text AS quarantine_line FROM {item.rejects}"
        for item in inputs
    )
    connection.execute(
        f"COPY (SELECT * FROM (SELECT {ROW} AS quarantine_row, reasons AS quarantine_reasons, "
        f"NULL::VARCHAR AS quarantine_line, {values} FROM {mapped.relation} "
        f"JOIN aside USING ({ROW}){lines}) ORDER BY quarantine_row) "
        f"TO {literal(folder / QUARANTINE)} (FORMAT parquet, COMPRESSION zstd)"
    )


def _counts(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    spec: SourceTable,
    inputs: list[RawInput],
    kept: str,
) -> dict[str, Any]:
    happened = ident(spec.happened) if spec.happened in mapped.expressions else "NULL::DATE"
    counts = one_row(
        connection,
        f"SELECT (SELECT count(*) FROM {mapped.relation}) AS rows_read, "
        f"(SELECT count(*) FROM aside) AS rows_quarantined, "
        f"(SELECT count(*) FROM copies) AS rows_duplicate, "
        f"count(*) AS rows, CAST(min({happened}) AS VARCHAR) AS first_happened, "
        f"CAST(max({happened}) AS VARCHAR) AS last_happened, "
        f"CAST(max({KNOWN_AT}) AS VARCHAR) AS last_known {kept}",
    )
    malformed = sum(item.malformed for item in inputs)
    counts["rows_read"] += malformed
    counts["rows_quarantined"] += malformed
    reasons = _tally(connection, "SELECT unnest(reasons) AS code FROM aside")
    counts["quarantined"] = {**({"malformed_line": malformed} if malformed else {}), **reasons}
    counts["noted"] = _tally(connection, f"SELECT unnest(notes) AS code {kept}")
    return counts


def _tally(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT code, count(*) FROM ({query}) GROUP BY code ORDER BY 2 DESC, 1"
    ).fetchall()
    return {str(code): int(count) for code, count in rows}


def _check_counts(
    mapped: Mapped, counts: dict[str, Any], inputs: list[RawInput], aside: QuarantinedRows
) -> None:
    """Refuse a table that lost a row, or in which nothing is usable."""
    accounted = counts["rows"] + counts["rows_quarantined"] + counts["rows_duplicate"]
    if counts["rows_read"] != accounted:
        raise DataError(
            f"{mapped.table}: {counts['rows_read']} rows read but {accounted} accounted for",
            where=mapped.place,
            fix="please report this: no row may be lost silently",
        )
    if counts["rows_read"] and not counts["rows"]:
        reasons = ", ".join(f"{code} {count}" for code, count in counts["quarantined"].items())
        raise SourceError(
            f"{mapped.table}: none of its {counts['rows_read']} rows is usable ({reasons})",
            where=mapped.place,
            fix=_advice(counts["quarantined"], inputs, aside),
        )


def _advice(quarantined: dict[str, int], inputs: list[RawInput], aside: QuarantinedRows) -> str:
    worst = next(iter(quarantined), "")
    what, _, column = worst.partition(":")
    shown = ", ".join(repr(value) for value in aside.examples.get(worst, []))
    remedy = aside.remedies.get(worst, "")
    if what == "unparsable":
        return f"{column} is {shown}; for such values map e.g. {remedy}"
    if what == "unknown_account":
        return (
            f"its account ids are not those of the accounts table: they are called {shown}, "
            f"{remedy}"
        )
    names = ", ".join(item.name for item in inputs)
    seen = f"{column} is {shown}; " if shown else ""
    return f"{seen}correct the mapping or the input {names}".rstrip()
