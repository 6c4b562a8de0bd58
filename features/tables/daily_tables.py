"""Daily tables: source tables on whole days, the only scan of events.

Day ``k`` is the instant 00:00 UTC of day ``k`` since 1970-01-01. A fact at an instant belongs to
the first midnight at or after it, so ``(as_of − w, as_of]`` is ``0 ≤ as_of_day − day < w``. A
date-only fact becomes known at the next midnight, so it belongs to day ``date + 1``; planned dates
(``renews_on``, ``due_on``) keep their own day.

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
from features.tables.source_tables import (
    ROW,
    TABLES,
    VERSIONS,
    SourceColumn,
    SourceTable,
)
from features.text import TEXT_COLUMNS
from features.text.columns import SENTIMENT, THEME_COLUMNS

EPOCH = "1970-01-01"
TERM_FACTS = ("renews_on", "ended_on", "end_reason", "notice_at", "notice_period_days")
"""Optional facts of a subscription; unknown where the source does not record them."""

OPTIONAL_COLUMNS = {"subscriptions": TERM_FACTS, "support_tickets": ("category",)}
"""Optional columns added as nulls, because the features that read them also work without them."""

LATEST_BY: dict[str, tuple[str, ...]] = {
    "opportunities": ("opportunity_id",),
    "entitlements": ("product",),
}
"""Tables of states: only the latest known row per key counts at an as_of."""

SUMMED = {"arr", "amount", "quantity", "used", "limit", "csat", "score", "sentiment"}
STEP = 2.0**-20
"""Summed numbers are rounded to multiples of this step: sums up to 8·10⁹ are exact in any order, so
results do not depend on the number of threads."""

DERIVED_FROM = {"arr_constant": "arr"}
"""Daily columns derived from a source column, absent without it."""

MONEY = {"subscriptions": ("arr",), "opportunities": ("amount",), "invoices": ("amount",)}
"""Amounts converted to the reporting currency at the rate of the day the row happened."""


def stem_day(column: str) -> str:
    """Return the name of the day column of a date or instant.

    >>> stem_day("resolved_at"), stem_day("paid_on")
    ('resolved_day', 'paid_day')
    """
    return column.removesuffix("_at").removesuffix("_on") + "_day"


def date_day(value: ir.Value) -> ir.IntegerValue:
    """Return the day index of a calendar date."""
    return value.cast("date").delta(ibis.date(EPOCH), unit="day").cast("int64")


def instant_day(value: ir.Value) -> ir.IntegerValue:
    """Return the day index of the first midnight at or after an instant."""
    floor = value.truncate("D")
    return date_day(floor) + (value > floor).cast("int64")


def happened_day(value: ir.Value, column: SourceColumn) -> ir.IntegerValue:
    """Return the day of a fact: for a date the next midnight."""
    return date_day(value) + 1 if column.kind == "day" else instant_day(value)


def known_day(table: str, source: ir.Table) -> ir.IntegerValue:
    """Return the day a row of a canonical table becomes visible, never before it happened."""
    spec = TABLES[table]
    day = happened_day(source[spec.happened], spec.columns[spec.happened])
    return ibis.greatest(day, instant_day(source.known_at))


def usable_columns(table: str, present: Iterable[str], *, history: bool) -> list[str]:
    """Return the columns of a source table usable for features: present, with known visibility."""
    spec = TABLES[table]
    given = set(present)
    visible = {ROW, *given, *({VERSIONS} if history else set())}
    return [
        name
        for name in spec.columns
        if name in given and spec.columns[name].visible_from in visible
    ]


def version_key(table: str, *, history: bool) -> tuple[str, ...]:
    """Return the daily columns that identify the versions of a row; empty for tables of events.

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


def source_column(table: str, name: str) -> str:
    """Return the source column of a daily column; sentiment and themes come from the text.

    >>> source_column("support_tickets", "about_price"), source_column("invoices", "paid_day")
    ('text', 'paid_on')
    """
    text = TEXT_COLUMNS.get(table)
    if text and name in {SENTIMENT, *THEME_COLUMNS.values()}:
        return text
    columns = TABLES[table].columns.items()
    return next((own for own, column in columns if daily_name(own, column) == name), name)


def daily_name(name: str, column: SourceColumn) -> str:
    """Return the name of a source column in the daily table."""
    return stem_day(name) if column.kind in {"day", "instant"} else name


def daily_schema(table: str) -> dict[str, str]:
    """Return every column a daily table can have, with its ibis type."""
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
        if name not in {"account_id", spec.happened, TEXT_COLUMNS.get(table)}
    }
    flags = dict.fromkeys(THEME_COLUMNS.values(), "boolean") if table in TEXT_COLUMNS else {}
    extra = {
        "usage_events": {"events": "float64"},
        "subscriptions": {"currency_rate": "float64", "arr_constant": "float64", "line": "string"},
    }
    return {
        "entity_id": "string",
        "day": "int64",
        "known_day": "int64",
        **columns,
        **flags,
        **extra.get(table, {}),
    }


def to_daily(
    table: str, source: ir.Table, rates: ir.Table | None, *, history: bool, currency: str
) -> ir.Table:
    """Convert one canonical source table to whole days.

    Parameters
    ----------
    table : str
        Name in `features.tables.source_tables.TABLES`.
    source : ibis.Table
        The canonical table, with ``known_at``; free texts scored by
        `features.text.columns.with_text_scores`.
    rates : ibis.Table or None
        The canonical rates table, for currency conversion.
    history : bool
        The table keeps every version of a row.
    currency : str
        The reporting currency.

    Returns
    -------
    ibis.Table
        Columns of `daily_schema` that the source has; usage is summed per account, user, product,
        feature, day and known day. ``currency_rate`` is reporting currency per unit of the currency
        of ``arr``; ``arr_constant`` is ``arr`` at the first rate of its currency; ``line`` is the
        product, empty where there is none.
        Amounts in a currency without a rate are null, and so are those of failed charges. Events
        with a quantity of zero, and drafts and voided invoices are left out. Texts are not kept.
    """
    spec = TABLES[table]
    names = usable_columns(table, source.columns, history=history)
    source = _without_excluded(table, source)
    source = source.mutate(_rate=ibis.literal(1.0), _first_rate=ibis.literal(1.0))
    if "arr" in names:
        source = source.mutate(_unconverted=source["arr"])
    if "currency" in names:
        money = [name for name in MONEY.get(table, ()) if name in source.columns]
        source = _in_reporting_currency(source, spec, money, rates, currency)
    day = happened_day(source[spec.happened], spec.columns[spec.happened])
    known = known_day(table, source)
    columns = {
        daily_name(name, spec.columns[name]): _on_days(source[name], name, spec)
        for name in names
        if name not in {"account_id", spec.happened, TEXT_COLUMNS.get(table)}
    }
    columns |= {name: source[name] for name in THEME_COLUMNS.values() if name in source.columns}
    columns |= _absent_columns(table, columns)
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


def _without_excluded(table: str, source: ir.Table) -> ir.Table:
    """Leave out rows that are neither activity nor revenue.

    These are drafts and voided invoices, the amounts of failed charges, and events with a quantity
    of zero.
    """
    present = set(source.columns)
    if table == "usage_events" and "quantity" in present:
        return source.filter(source.quantity.isnull() | (source.quantity > 0))
    if table == "invoices":
        source = source.filter(is_sale(source))
        if {"is_failed_charge", "amount"} <= present:
            failed = source.is_failed_charge.fill_null(False)
            return source.mutate(amount=failed.ifelse(ibis.null("float64"), source.amount))
    return source


def _last_of_day(rows: ir.Table, table: str, *, history: bool) -> ir.Table:
    """Keep one of the versions that became known on the same day."""
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
        return number - number % STEP if name in SUMMED else number
    return value


def _absent_columns(table: str, columns: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """Return typed nulls for the columns of `OPTIONAL_COLUMNS` that a source does not have."""
    types = daily_schema(table)
    wanted = OPTIONAL_COLUMNS.get(table, ())
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

    Amounts without a rate become null: sums over several currencies have no meaning.
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
    # Before the first known rate, the first one is used.
    best = pairs.group_by("currency", "_on").agg(
        _before=pairs._rate.argmax(pairs._rate_on, where=pairs._rate_on <= pairs._on),
        _first=pairs._rate.argmin(pairs._rate_on),
    )
    factors = best.mutate(_factor=ibis.coalesce(best._before, best._first)).drop("_before")
    return dated.left_join(factors, ["currency", "_on"])
