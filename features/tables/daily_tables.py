"""Source tables on whole days: the only scan of events, and the only place dates become integers.

Day ``k`` is the instant 00:00 UTC of day ``k`` since 1970-01-01. A fact at an instant belongs to
the first midnight at or after it, so ``(as_of − w, as_of]`` is ``0 ≤ as_of_day − day < w``. A
date-only fact becomes known at the next midnight, so it belongs to day ``date + 1``; a date that
is only planned (``renews_on``, ``due_on``) keeps its own day.

Every daily table has ``entity_id``, ``day`` (when it happened) and ``known_day`` (when it became
visible, never before ``day``). Columns that are overwritten in place are left out unless the
mapping declares ``history``.
"""

from __future__ import annotations

from collections.abc import Iterable

import ibis
import ibis.expr.types as ir

from features.revenue.terms import line_of
from features.revenue.usual_spend import is_sale
from features.tables.source_tables import ROW, TABLES, VERSIONS, SourceColumn, SourceTable

EPOCH = "1970-01-01"
TERM_FACTS = ("renews_on", "ended_on", "end_reason", "notice_at", "notice_period_days")
"""Facts of a subscription that a source may not record: unknown then, and read as such."""

SELDOM_RECORDED = {"subscriptions": TERM_FACTS, "support_tickets": ("category",)}
"""Columns a source may not record, added as unknown, because features that need them can do
without: an uncategorised ticket still is a ticket."""

LATEST_BY: dict[str, tuple[str, ...]] = {
    "opportunities": ("opportunity_id",),
    "entitlements": ("product",),
}
"""Tables whose rows replace each other: only the latest known one per key counts at an as_of."""

ADDED_UP = {"arr", "amount", "quantity", "used", "limit", "csat", "score"}
STEP = 2.0**-20
"""Numbers that are added up are whole multiples of this: their sums are exact (up to 8·10⁹) in any
order, so the same rows give the same bytes on any number of threads."""

MADE_FROM = {"arr_constant": "arr"}
"""Daily columns that are made from a source column, and lack where it does."""

MONEY = {"subscriptions": ("arr",), "opportunities": ("amount",), "invoices": ("amount",)}
"""Amounts reported in one currency, at the rate of the day the row happened."""


def stem_day(column: str) -> str:
    """Return the day column a date or instant becomes.

    >>> stem_day("resolved_at"), stem_day("paid_on")
    ('resolved_day', 'paid_day')
    """
    return column.removesuffix("_at").removesuffix("_on") + "_day"


def date_day(value: ir.Value) -> ir.IntegerValue:
    """Day index of a calendar date."""
    return value.cast("date").delta(ibis.date(EPOCH), unit="day").cast("int64")


def instant_day(value: ir.Value) -> ir.IntegerValue:
    """Day index of the first midnight at or after an instant."""
    floor = value.truncate("D")
    return date_day(floor) + (value > floor).cast("int64")


def happened_day(value: ir.Value, column: SourceColumn) -> ir.IntegerValue:
    """Day from which a fact that happened is known: the next midnight for a date."""
    return date_day(value) + 1 if column.kind == "day" else instant_day(value)


def usable_columns(table: str, present: Iterable[str], *, history: bool) -> list[str]:
    """Columns of a source table that may reach a feature: present and with known visibility."""
    spec = TABLES[table]
    given = set(present)
    visible = {ROW, *given, *({VERSIONS} if history else set())}
    return [
        name
        for name in spec.columns
        if name in given and spec.columns[name].visible_from in visible
    ]


def version_key(table: str, *, history: bool) -> tuple[str, ...]:
    """Return the daily columns that name what a row is a version of; empty when rows just add up.

    >>> version_key("subscriptions", history=True)
    ('entity_id', 'subscription_id', 'day')
    >>> version_key("subscriptions", history=False)
    ()
    """
    spec = TABLES[table]
    names = LATEST_BY.get(table) or (spec.key if history else ())
    ours = {"account_id": "entity_id", spec.happened: "day"}
    keys = [ours.get(name) or daily_name(name, spec.columns[name]) for name in names]
    return tuple(dict.fromkeys(["entity_id", *keys])) if keys else ()


def visibility(table: str) -> dict[str, str]:
    """Return, for each daily column that can change later, the day column it is visible from."""
    spec = TABLES[table]
    return {
        daily_name(name, column): stem_day(column.visible_from)
        for name, column in spec.columns.items()
        if column.visible_from not in {ROW, VERSIONS}
    }


def daily_name(name: str, column: SourceColumn) -> str:
    """Return the name a source column carries on the day grid."""
    return stem_day(name) if column.kind in {"day", "instant"} else name


def daily_schema(table: str) -> dict[str, str]:
    """Return every column a daily table can have, with ibis types: what signals may refer to."""
    types = {
        "id": "string",
        "text": "string",
        "number": "float64",
        "count": "float64",
        "flag": "boolean",
        "day": "int64",
        "instant": "int64",
    }
    spec = TABLES[table]
    columns = {
        daily_name(name, column): types[column.kind]
        for name, column in spec.columns.items()
        if name not in {"account_id", spec.happened}
    }
    extra = {
        "usage_events": {"events": "float64"},
        "subscriptions": {"currency_rate": "float64", "arr_constant": "float64", "line": "string"},
    }
    return {
        "entity_id": "string",
        "day": "int64",
        "known_day": "int64",
        **columns,
        **extra.get(table, {}),
    }


def to_daily(
    table: str, source: ir.Table, rates: ir.Table | None, *, history: bool, currency: str
) -> ir.Table:
    """Put one canonical source table on whole days.

    Parameters
    ----------
    table : str
        Name in `features.tables.source_tables.TABLES`.
    source : ibis.Table
        The canonical table, with ``known_at``.
    rates : ibis.Table or None
        The canonical rates table, to report money in one currency.
    history : bool
        The table keeps every version of a row.
    currency : str
        The reporting currency.

    Returns
    -------
    ibis.Table
        Columns of `daily_schema` that the source has; usage is summed per account, user, product,
        feature, day and known day. ``currency_rate`` is reporting currency per unit of ``arr``'s,
        ``arr_constant`` is ``arr`` at the first rate of its currency, whenever the terms began;
        ``line`` is the product, empty where there is none.
        Amounts in a currency without a rate are null, and so are those of failed charges. Test
        accounts, events with a quantity of zero, and drafts and voided invoices are left out.
    """
    spec = TABLES[table]
    names = usable_columns(table, source.columns, history=history)
    source = _counted(table, source)
    source = source.mutate(_rate=ibis.literal(1.0), _first_rate=ibis.literal(1.0))
    if "arr" in names:
        source = source.mutate(_unconverted=source["arr"])
    if "currency" in names:
        money = [name for name in MONEY.get(table, ()) if name in source.columns]
        source = _in_reporting_currency(source, spec, money, rates, currency)
    day = happened_day(source[spec.happened], spec.columns[spec.happened])
    known = ibis.greatest(day, instant_day(source.known_at))
    columns = {
        daily_name(name, spec.columns[name]): _on_days(source[name], name, spec)
        for name in names
        if name not in {"account_id", spec.happened}
    }
    columns |= _unrecorded(table, columns)
    if table == "subscriptions":
        columns["currency_rate"] = source["_rate"]
        columns["line"] = line_of(columns.get("product"))
        if "arr" in columns:
            constant = source["_unconverted"].cast("float64") * source["_first_rate"]
            columns["arr_constant"] = constant - constant % STEP
    key = {} if "account_id" not in source.columns else {"entity_id": source.account_id}
    rows = source.select(
        **key,
        day=day,
        known_day=known,
        **columns,
        _happened=source[spec.happened],
        _known=source.known_at,
    )
    rows = _last_of_day(rows, table, history=history).drop("_happened", "_known")
    return _usage_per_day(rows) if table == "usage_events" else rows


def _counted(table: str, source: ir.Table) -> ir.Table:
    """Leave out what is neither activity nor revenue.

    That is test accounts, invoices that ask for no money (drafts, voided ones), the amounts of
    charges that failed, and events with a quantity of zero.
    """
    present = set(source.columns)
    if table == "accounts" and "is_test" in present:
        return source.filter(~source.is_test.fill_null(False))
    if table == "usage_events" and "quantity" in present:
        return source.filter(source.quantity.isnull() | (source.quantity > 0))
    if table == "invoices":
        source = source.filter(is_sale(source))
        if {"is_failed_charge", "amount"} <= present:
            failed = source.is_failed_charge.fill_null(False)
            return source.mutate(amount=failed.ifelse(ibis.null("float64"), source.amount))
    return source


def _last_of_day(rows: ir.Table, table: str, *, history: bool) -> ir.Table:
    """Keep one of the versions that became known on one day: on days, they could not be told."""
    keys = version_key(table, history=history)
    if not keys:
        return rows
    newest_first = (
        [ibis.desc("_happened"), ibis.desc("_known")]
        if table in LATEST_BY
        else [ibis.desc("_known"), ibis.desc("_happened")]
    )
    same = [*keys, *(["day"] if table in LATEST_BY else []), "known_day"]
    window = ibis.window(group_by=list(dict.fromkeys(same)), order_by=newest_first)
    ranked = rows.mutate(_rank=ibis.row_number().over(window))
    return ranked.filter(ranked._rank == 0).drop("_rank")


def _on_days(value: ir.Value, name: str, spec: SourceTable) -> ir.Value:
    column = spec.columns[name]
    if column.kind == "instant":
        return instant_day(value)
    if column.kind == "day":
        is_fact = column.visible_from == name
        return date_day(value) + (1 if is_fact else 0)
    if column.kind in {"number", "count"}:
        number = value.cast("float64")
        return number - number % STEP if name in ADDED_UP else number
    return value


def _unrecorded(table: str, columns: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """Return typed nulls for the columns of `SELDOM_RECORDED` that a source does not have."""
    types = daily_schema(table)
    wanted = SELDOM_RECORDED.get(table, ())
    names = [daily_name(name, TABLES[table].columns[name]) for name in wanted]
    return {name: ibis.null(types[name]) for name in names if name not in columns}


def _usage_per_day(rows: ir.Table) -> ir.Table:
    quantity = rows.quantity.fill_null(1.0) if "quantity" in rows.columns else ibis.literal(1.0)
    keys = [
        name
        for name in ("entity_id", "user_id", "product", "feature", "day", "known_day")
        if name in rows.columns
    ]
    return (
        rows.mutate(_quantity=quantity)
        .group_by(keys)
        .agg(quantity=lambda r: r._quantity.sum(), events=lambda r: r.count().cast("float64"))
    )


def _in_reporting_currency(
    source: ir.Table,
    spec: SourceTable,
    money: list[str],
    rates: ir.Table | None,
    currency: str,
) -> ir.Table:
    """Multiply money columns by ``_rate``: the last one on or before the day the row happened.

    Without a rate an amount is unknown: pounds and yen that are added up are no money at all.
    """
    joined = _with_factors(source, spec, rates)
    is_home = joined.currency.isnull() | (joined.currency == currency)
    factor = is_home.ifelse(1.0, joined._factor)
    converted = {name: joined[name] * factor for name in money}
    first = is_home.ifelse(1.0, joined._first)
    return joined.mutate(**converted, _rate=factor, _first_rate=first).select(*source.columns)


def _with_factors(source: ir.Table, spec: SourceTable, rates: ir.Table | None) -> ir.Table:
    if rates is None:
        unknown = ibis.null("float64")
        return source.mutate(_factor=unknown, _first=unknown)
    dated = source.mutate(_on=source[spec.happened].cast("date"))
    table = rates.select(currency=rates.currency, _rate_on=rates.as_of_on, _rate=rates.rate)
    pairs = dated.select("currency", "_on").distinct().join(table, "currency")
    # Before the first known rate, the first one stands in.
    best = pairs.group_by("currency", "_on").agg(
        _before=pairs._rate.argmax(pairs._rate_on, where=pairs._rate_on <= pairs._on),
        _first=pairs._rate.argmin(pairs._rate_on),
    )
    factors = best.mutate(_factor=ibis.coalesce(best._before, best._first)).drop("_before")
    return dated.left_join(factors, ["currency", "_on"])
