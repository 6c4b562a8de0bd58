"""Build of one source table: mapped rows to canonical Parquet, quarantine and counts.

All steps are SQL inside DuckDB and run out of core.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import duckdb

from configs.runtime.errors import DataError, SourceError
from features.sources.account_links import write_keys
from features.sources.cleaning.demo_accounts import REASON as TEST_ACCOUNT
from features.sources.cleaning.demo_accounts import known_accounts, mark_test_accounts
from features.sources.cleaning.forget_list import REASON as FORGOTTEN
from features.sources.cleaning.forget_list import (
    ForgetList,
    copied,
    forgotten_cells,
    mark_forgotten,
)
from features.sources.cleaning.outside_values import outside_values
from features.sources.cleaning.parent_accounts import mark_children, rolled_up, write_tops
from features.sources.cleaning.redelivered_events import (
    EVENT_ID,
    different_events,
    mark_delivered_again,
    repeated_ids,
)
from features.sources.cleaning.remedies import QuarantinedRows, describe_quarantine
from features.sources.cleaning.row_rules import (
    LEFT_OUT,
    RowRule,
    is_date_flag,
    raw_value,
    rules_for,
    sentinel,
    unreadable,
)
from features.sources.cleaning.timestamp_profile import profile_of
from features.sources.files.readers import RawInput
from features.sources.files.sql import ROW, duckdb_errors, ident, literal, one_row
from features.sources.manifest import Basis, BuiltTable, Profile, RowCounts
from features.sources.mapping import KNOWN_AT, Mapped
from features.sources.parsing import type_parsing
from features.sources.table_formats import (
    INSTANT,
    currency_marks,
    format_notes,
    with_formats,
)
from features.tables.source_tables import SourceTable

DATA = "data.parquet"
QUARANTINE = "quarantine.parquet"


def build_source_table(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    inputs: list[RawInput],
    accounts: Path | None,
    folder: Path,
    listed: ForgetList | None = None,
    link_columns: Collection[str] = (),
    *,
    is_part: bool = False,
) -> BuiltTable:
    """Write one canonical table into `folder` and return the row facts of its manifest.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Connection with the open inputs.
    mapped : Mapped
        The mapping of the table.
    inputs : list of RawInput
        Inputs of the table, for their malformed lines.
    accounts : Path or None
        The canonical accounts; None for the accounts table itself.
    folder : Path
        Receives ``data.parquet`` and ``quarantine.parquet``.
    listed : ForgetList, optional
        Accounts and persons to keep out.
    link_columns : collection of str
        Columns of the accounts' source that other tables are linked by.
    is_part : bool
        The inputs are some of the files of the table: they need not have a usable row.

    Returns
    -------
    BuiltTable
        Counts (``rows_read`` = ``rows`` + ``rows_quarantined`` + ``rows_duplicate``), reasons,
        columns and formats.
    """
    listed = listed or ForgetList()
    with duckdb_errors(mapped.place):
        spec = mapped.spec
        mapped = with_formats(connection, mapped, spec)
        profile = profile_of(connection, mapped, spec)
        rules = rules_for(
            mapped.table,
            spec,
            list(mapped.expressions),
            known_at=mapped.known_at is not None,
            leaves_out=mapped.left_out is not None,
        )
        _stage(connection, mapped, spec, profile, rules, accounts)
        mark_forgotten(connection, mapped, spec, listed)
        _mark_copies(connection, mapped, profile)
        _mark_superseded(connection, spec, history=mapped.mapping.history)
        if EVENT_ID in mapped.expressions:
            mark_delivered_again(connection, spec)
        if mapped.mapping.roll_up:
            mark_children(connection, mapped)
            write_tops(connection, folder)
        if accounts is None:
            mark_test_accounts(connection, mapped, folder)
            write_keys(connection, mapped.relation, mapped.source_columns, link_columns, folder)
        counts = _write(connection, mapped, spec, inputs, folder, listed)
        rejected = describe_quarantine(connection, mapped, counts["quarantined"], accounts)
        _check_counts(mapped, counts)
        if not is_part:
            _check_usable(mapped, counts, inputs, rejected)
        repeated = repeated_ids(connection, mapped, spec)
        outside = outside_values(connection, mapped, spec, counts["quarantined"])
        if counts["quarantined"].get("delivered_again"):
            counts["noted"]["other_event"] = different_events(connection, spec)
    return {
        **counts,
        "repeated_ids": repeated,
        "types": {name: mapped.types[name] for name in mapped.expressions},
        "outside": outside,
        "examples": rejected.examples,
        "remedies": rejected.remedies,
        "columns": [name for name in mapped.expressions if name != EVENT_ID],
        "profile": profile,
        "written": format_notes(mapped.styles),
        "marks": currency_marks(mapped.styles),
        "known_basis": _known_basis(mapped),
        "history": mapped.mapping.history,
    }


def _known_basis(mapped: Mapped) -> Basis:
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
    """Write the table ``staged``: every row cast, with the rules it breaks."""
    owner = accounts if "account_id" in spec.columns else None
    extra, join = "", ""
    if owner is not None:
        extra = ", known.account_id AS known_account, account_day, is_test_account"
        join = f"LEFT JOIN ({known_accounts(owner)}) AS known USING (account_id)"
    raw_query, types = _raw_query(mapped, spec)
    connection.execute(
        f"CREATE OR REPLACE TABLE staged AS WITH "
        f"raw_rows AS ({raw_query}), "
        f"cast_rows AS ({_cast_query(mapped, spec, profile, types)}), "
        f"clean_rows AS ({_clean_query(spec, types)}), "
        f"known_rows AS ({_known_query(mapped, spec)}), "
        f"family_rows AS ({rolled_up('known_rows', owner)}), "
        f"joined AS (SELECT family_rows.*{extra} FROM family_rows {join}) "
        f"SELECT *, {_broken(rules, sets_aside=True)} AS reasons, "
        f"{_broken(rules, sets_aside=False)} AS notes FROM joined"
    )


def _raw_query(mapped: Mapped, spec: SourceTable) -> tuple[str, dict[str, str]]:
    """Return the prepared raw columns and their DuckDB types."""
    wanted = {**mapped.expressions, **({KNOWN_AT: mapped.known_at} if mapped.known_at else {})}
    done = {
        name: type_parsing.prepared(
            spec.columns.get(name, INSTANT),
            text,
            mapped.types[name],
            mapped.styles.get(name),
        )
        for name, text in wanted.items()
    }
    parts = [f"{text} AS {raw_value(name)}" for name, (text, _) in done.items()]
    source = ", ".join(ident(name) for name in mapped.source_columns)
    if mapped.left_out:
        parts.append(f"coalesce({mapped.left_out}, false) AS {LEFT_OUT}")
    query = f"SELECT {ROW}, hash({source}) AS row_hash, {', '.join(parts)} FROM {mapped.relation}"
    return query, {name: kind for name, (_, kind) in done.items()}


def _cast_query(mapped: Mapped, spec: SourceTable, profile: Profile, types: dict[str, str]) -> str:
    """Return SQL of the typed values, each with a flag for dates without a time."""
    parts: list[str] = []
    for name, kind in types.items():
        column = spec.columns.get(name, INSTANT)
        at_midnight = bool(profile.get(name, {}).get("as_dates"))
        typed = type_parsing.value(
            column, raw_value(name), kind, mapped.mapping.timezone, midnight_is_date=at_midnight
        )
        if name == "currency":
            typed = f"upper({typed})"  # the join key of rates
        parts.append(f"{typed} AS {ident(name)}")
        if column.kind == "day":
            parts.append(f"true AS {is_date_flag(name)}")
        elif column.kind == "instant":
            only_date = type_parsing.date_text(raw_value(name), kind, midnight_is_date=at_midnight)
            parts.append(f"coalesce({only_date}, false) AS {is_date_flag(name)}")
    return f"SELECT *, {', '.join(parts)} FROM raw_rows"


def _clean_query(spec: SourceTable, types: dict[str, str]) -> str:
    """Return SQL that flags unreadable values, and turns sentinel dates into nulls."""
    parts: list[str] = []
    values: list[str] = []
    for name, kind in types.items():
        given = type_parsing.is_given(spec.columns.get(name, INSTANT), raw_value(name), kind)
        unread = f"CASE WHEN {ident(name)} IS NULL THEN {given} ELSE false END"
        parts.append(f"{unread} AS {unreadable(name)}")
        if spec.columns.get(name, INSTANT).kind in type_parsing.TIMES:
            never = type_parsing.is_sentinel(name)
            parts.append(f"{never} AS {sentinel(name)}")
            values.append(f"CASE WHEN NOT {never} THEN {ident(name)} END AS {ident(name)}")
    raws = ", ".join(raw_value(name) for name in types)
    replaced = f" REPLACE ({', '.join(values)})" if values else ""
    return f"SELECT * EXCLUDE ({raws}){replaced}, {', '.join(parts)} FROM cast_rows"


def _known_query(mapped: Mapped, spec: SourceTable) -> str:
    """Return SQL of ``known_at``: from the source, or the time of the event plus the delay."""
    zone, happened = mapped.mapping.timezone, ident(spec.happened)
    if spec.happened in mapped.expressions:
        next_midnight = type_parsing.known_after(f"CAST({happened} AS DATE)", zone)
        default = (
            f"CASE WHEN {is_date_flag(spec.happened)} THEN {next_midnight} ELSE {happened} END"
        )
        default += f" + INTERVAL {mapped.mapping.known_delay_days} DAY"
    else:
        default = "TIMESTAMP '1970-01-01'"  # rows without a time are always known
    if mapped.known_at is None:
        return f"SELECT *, {default} AS {KNOWN_AT} FROM clean_rows"
    next_known = type_parsing.known_after(f"CAST({KNOWN_AT} AS DATE)", zone)
    known = f"CASE WHEN {is_date_flag(KNOWN_AT)} THEN {next_known} ELSE {KNOWN_AT} END"
    return (
        f"SELECT * EXCLUDE ({KNOWN_AT}), {KNOWN_AT} AS given_known_at, "
        f"{is_date_flag(KNOWN_AT)} AS known_is_date, coalesce({known}, {default}) AS {KNOWN_AT} "
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
    """Write the table ``copies``: rows that repeat an earlier source row in every column."""
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
    """Whether equal rows are separate events: usage by day, one row per use, no quantity."""
    spec = mapped.spec
    if (
        spec.key
        or "quantity" not in spec.columns
        or mapped.mapping.billing
        or "quantity" in mapped.expressions
    ):
        return False
    counts = profile.get(spec.happened, {"given": 0, "dates": 0})
    return counts["given"] > 0 and counts["dates"] == counts["given"]


def _mark_superseded(
    connection: duckdb.DuckDBPyConnection, spec: SourceTable, *, history: bool
) -> None:
    """Write the table ``superseded``: rows with a later version of the same key."""
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
    listed: ForgetList,
) -> RowCounts:
    # The event id only identifies repeated deliveries and is not written.
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
    _write_quarantine(connection, mapped, inputs, folder, listed)
    return _counts(connection, mapped, spec, inputs, kept)


def _write_quarantine(
    connection: duckdb.DuckDBPyConnection,
    mapped: Mapped,
    inputs: list[RawInput],
    folder: Path,
    listed: ForgetList,
) -> None:
    """Write the rows set aside: row number, reasons and every source value as text.

    Of forgotten rows only number and reason are kept.
    """
    columns = mapped.source_columns
    rows = f"{mapped.relation} SEMI JOIN aside USING ({ROW})"
    removed = forgotten_cells(connection, rows, columns, listed)
    is_forgotten = f"list_contains(reasons, {literal(FORGOTTEN)})"
    values = ", ".join(
        f"CASE WHEN NOT {is_forgotten} THEN {copied(n, removed)} END AS {ident(n)}" for n in columns
    )
    # A malformed line cannot be searched for single values, so its text is not kept.
    line = "text" if not listed else "NULL::VARCHAR"
    lines = "".join(
        f" UNION ALL BY NAME SELECT line AS quarantine_row, "
        f"['malformed_line'] AS quarantine_reasons, {line} AS quarantine_line FROM {item.rejects}"
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
) -> RowCounts:
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
    reasons = _tally(connection, "SELECT unnest(reasons) AS code FROM aside")
    return {
        "rows_read": counts["rows_read"] + malformed,
        "rows": counts["rows"],
        "rows_quarantined": counts["rows_quarantined"] + malformed,
        "rows_duplicate": counts["rows_duplicate"],
        "first_happened": counts["first_happened"],
        "last_happened": counts["last_happened"],
        "last_known": counts["last_known"],
        "quarantined": {**({"malformed_line": malformed} if malformed else {}), **reasons},
        "noted": _tally(connection, f"SELECT unnest(notes) AS code {kept}"),
    }


def _tally(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT code, count(*) FROM ({query}) GROUP BY code ORDER BY 2 DESC, 1"
    ).fetchall()
    return {str(code): int(count) for code, count in rows}


def _check_counts(mapped: Mapped, counts: RowCounts) -> None:
    """Require that every row is accounted for."""
    accounted = counts["rows"] + counts["rows_quarantined"] + counts["rows_duplicate"]
    if counts["rows_read"] != accounted:
        raise DataError(
            f"{mapped.table}: {counts['rows_read']} rows read but {accounted} accounted for",
            where=mapped.place,
            fix="please report this as a bug",
        )


def _check_usable(
    mapped: Mapped, counts: RowCounts, inputs: list[RawInput], rejected: QuarantinedRows
) -> None:
    """Require that some rows are usable."""
    on_purpose = sum(
        counts["quarantined"].get(code, 0) for code in (TEST_ACCOUNT, LEFT_OUT, FORGOTTEN)
    )
    if counts["rows_read"] and not counts["rows"] and on_purpose < counts["rows_read"]:
        reasons = ", ".join(f"{code} {count}" for code, count in counts["quarantined"].items())
        raise SourceError(
            f"{mapped.table}: none of the {counts['rows_read']} rows is usable ({reasons})",
            where=mapped.place,
            fix=_advice(counts["quarantined"], inputs, rejected),
        )


def _advice(quarantined: dict[str, int], inputs: list[RawInput], rejected: QuarantinedRows) -> str:
    worst = next(iter(quarantined), "")
    kind, _, column = worst.partition(":")
    shown = ", ".join(repr(value) for value in rejected.examples.get(worst, []))
    remedy = rejected.remedies.get(worst, "")
    if kind == "unparsable":
        return f"{column} is {shown}; for such values map e.g. {remedy}"
    if kind == "unknown_account":
        return f"its account ids do not match the accounts table: they are {shown}, {remedy}"
    names = ", ".join(item.name for item in inputs)
    seen = f"{column} is {shown}; " if shown else ""
    return f"{seen}correct the mapping or the input {names}".rstrip()
