"""Row rules of the contract as SQL: rows to quarantine, and rows to keep and count.

A row is quarantined when a value is impossible or the row cannot be joined. A row that merely
contradicts another table is kept and counted: dropping it would hide the contradiction from the
quality report and remove data from training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from features.sources.cleaning.demo_accounts import REASON as TEST_ACCOUNT
from features.sources.files.sql import ident, literal
from features.tables.source_tables import SourceTable

LEFT_OUT = "left_out"
"""Reason of rows that `leave_out` names, and the flag column."""

TOLERATED_ORDER = {
    ("invoices", "issued_on", "paid_on"): "paid in advance",
    ("subscriptions", "started_on", "notice_at"): "notice given under the terms before",
    ("contacts", "created_at", "left_at"): "entered after the person left",
}
"""Orders of the contract with valid exceptions: violations are counted, not quarantined."""

SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}
"""Scales of the survey kinds."""


@dataclass(frozen=True)
class RowRule:
    """One rule.

    Attributes
    ----------
    code : str
        ``kind`` or ``kind:column``, written into quarantine and manifest.
    broken : str
        SQL over the cast row, true where the rule is broken.
    sets_aside : bool
        The row goes to quarantine; otherwise it is kept and counted.
    """

    code: str
    broken: str
    sets_aside: bool = True


def raw_value(column: str) -> str:
    """Return the column of the prepared source value."""
    return ident(f"raw {column}")


def unreadable(column: str) -> str:
    """Return the flag column: the value is not empty and cannot be read."""
    return ident(f"bad {column}")


def is_date_flag(column: str) -> str:
    """Return the flag column: the value is a date without a time."""
    return ident(f"date {column}")


def sentinel(column: str) -> str:
    """Return the flag column: the date means never or unknown."""
    return ident(f"never {column}")


def rules_for(
    table: str,
    spec: SourceTable,
    present: list[str],
    *,
    known_at: bool,
    leaves_out: bool = False,
) -> list[RowRule]:
    """Return every rule that applies to the columns a table has.

    Parameters
    ----------
    table : str
        The canonical table.
    spec : SourceTable
        Contract of the table.
    present : list of str
        Columns of the source.
    known_at : bool
        The source has a time of visibility.
    leaves_out : bool
        The mapping leaves some rows out.
    """
    rules = [rule for name in present for rule in _column_rules(spec, name)]
    if "account_id" in spec.columns and table != "accounts":
        rules.append(RowRule("unknown_account", "account_id IS NOT NULL AND known_account IS NULL"))
        rules.append(RowRule(TEST_ACCOUNT, "is_test_account"))
        rules.append(RowRule("before_account", f"{_day(spec.happened)} < account_day", False))
    rules += [
        _order_rule(table, earlier, later)
        for earlier, later in spec.order
        if earlier in present and later in present
    ]
    if table == "survey_responses":
        rules.append(_scale_rule())
    if known_at:
        rules += _known_rules(spec, is_dated=spec.happened in present)
    if leaves_out:
        # The other rules do not matter for rows that are left out on purpose.
        rules = [replace(rule, broken=f"NOT {LEFT_OUT} AND ({rule.broken})") for rule in rules]
        rules.append(RowRule(LEFT_OUT, LEFT_OUT))
    return rules


def _day(column: str) -> str:
    return f"CAST({ident(column)} AS DATE)"


def _column_rules(spec: SourceTable, name: str) -> list[RowRule]:
    column, value = spec.columns[name], ident(name)
    rules = [RowRule(f"unparsable:{name}", unreadable(name))]
    is_time = column.kind in {"day", "instant"}
    if is_time:
        rules.append(RowRule(f"sentinel:{name}", sentinel(name), column.required))
    if column.required:
        given = f" AND NOT {sentinel(name)}" if is_time else ""
        rules.append(
            RowRule(f"missing:{name}", f"{value} IS NULL AND NOT {unreadable(name)}{given}")
        )
    bounds = [
        f"{value} {sign} {limit!r}"
        for sign, limit in (("<", column.low), (">", column.high))
        if limit is not None
    ]
    if bounds:
        rules.append(RowRule(f"out_of_bounds:{name}", " OR ".join(bounds)))
    if column.values:
        allowed = ", ".join(literal(item) for item in column.values)
        rules.append(RowRule(f"not_allowed:{name}", f"{value} NOT IN ({allowed})"))
    return rules


def _order_rule(table: str, earlier: str, later: str) -> RowRule:
    """Return the rule that compares days, and times where both sides have one."""
    timed = f"NOT {is_date_flag(earlier)} AND NOT {is_date_flag(later)}"
    exact = f"{timed} AND {ident(later)} < {ident(earlier)}"
    broken = f"{_day(later)} < {_day(earlier)} OR ({exact})"
    return RowRule(f"time_order:{later}", broken, (table, earlier, later) not in TOLERATED_ORDER)


def _scale_rule() -> RowRule:
    outside = [
        f"(kind = {literal(kind)} AND score NOT BETWEEN {low} AND {high})"
        for kind, (low, high) in SCALES.items()
    ]
    return RowRule("out_of_scale:score", " OR ".join(outside))


def _known_rules(spec: SourceTable, *, is_dated: bool) -> list[RowRule]:
    rules = [
        RowRule("unparsable:known_at", unreadable("known_at")),
        RowRule(
            "known_at_missing", f"given_known_at IS NULL AND NOT {unreadable('known_at')}", False
        ),
    ]
    return [*rules, _early_rule(spec)] if is_dated else rules


def _early_rule(spec: SourceTable) -> RowRule:
    happened = ident(spec.happened)
    early = f"given_known_at < {happened}"
    if spec.columns[spec.happened].kind == "day":
        early = f"CAST(given_known_at AS DATE) < {happened}"
    else:
        early = (
            f"CASE WHEN {is_date_flag(spec.happened)} OR known_is_date "
            f"THEN CAST(given_known_at AS DATE) < CAST({happened} AS DATE) ELSE {early} END"
        )
    return RowRule("known_before_happened", early, False)
