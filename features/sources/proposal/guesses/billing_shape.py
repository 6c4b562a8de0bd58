"""Shape of a billing export: what a row is, and whether its price is per seat, month or year."""

from __future__ import annotations

import duckdb

from features.sources.files.sql import ident, one_row
from features.sources.parsing import type_parsing
from features.sources.proposal.draft import Choice, Sure, TableDraft
from features.sources.proposal.file_profile import plain_name, words_of
from features.sources.proposal.guesses.column_names import (
    AMOUNT_NAMES,
    COUNT_NAMES,
    INTERVAL_NAMES,
    QUANTITY_NAMES,
    SEAT_WORDS,
)
from features.tables.source_tables import SourceColumn

_DAY = SourceColumn("day", "")
_NUMBER = SourceColumn("number", "")
DISTINCT_RATIO = 1.5
"""Ratio of different values from which one reading of a price is clearly simpler."""


def add_billing(connection: duckdb.DuckDBPyConnection, draft: TableDraft) -> None:
    """Add the shape of a billing export to the draft of the subscriptions.

    A column with ARR of terms needs none. Prices per month, seat or interval, periods that are
    overwritten, changes and invoice lines do.
    """
    found = _amount(draft)
    if found is None:
        draft.columns.pop("arr", None)
        return
    header, what, sure = found
    rows, why = _shape(connection, draft, what)
    # Without an end of its own, a contract that is not renewed ends with its term (`rows: term`).
    if what == "arr" and rows == "term" and "ended_on" in draft.columns:
        draft.columns["arr"] = Choice(header, "usual name of ARR", sure)
        return
    draft.columns.pop("arr", None)
    draft.billing = {
        "rows": Choice(rows, why, "medium", _other_shapes(rows)),
        "amount": Choice(header, f"named {header}", sure),
        "amount_is": Choice(what, _amount_why(header, what), sure, _other_amounts(what)),
    }
    interval = _find(draft, INTERVAL_NAMES, is_text=None)
    if interval is not None:
        draft.billing["interval"] = Choice(interval, "usual name of a billing interval")
        count = _find(draft, COUNT_NAMES, is_text=False)
        if count is not None:
            draft.billing["interval_count"] = Choice(count, "usual name")
    elif what == "interval" or rows == "subscription":
        _guess_interval(draft)
    quantity = _find(draft, QUANTITY_NAMES, is_text=False)
    if quantity is not None and what in ("interval", "mrr", "arr"):
        _add_quantity(connection, draft, header, quantity)


def _amount(draft: TableDraft) -> tuple[str, str, Sure] | None:
    """Return the column of the price, what it pays for, and how sure that is."""
    numbers = [column for column in draft.file.columns.values() if column.is_number]
    for what, names in AMOUNT_NAMES.items():
        for name in names:
            for column in numbers:
                if plain_name(column.name) == name:
                    return column.name, what, "high" if what in ("arr", "mrr") else "medium"
    for column in numbers:
        words = words_of(column.name)
        for word, what in (("arr", "arr"), ("mrr", "mrr"), ("amount", "interval"),
                           ("price", "interval")):  # fmt: skip
            if word in words:
                return column.name, what, "medium"
    return None


def _amount_why(header: str, what: str) -> str:
    words = {
        "arr": "ARR by its name",
        "mrr": "monthly revenue by its name",
        "total": "value of the whole term by its name",
        "interval": "a price; assumed to be per billing interval",
    }
    return words.get(what, f"{header} is a difference by its name")


def _other_shapes(rows: str) -> tuple[str, ...]:
    return tuple(
        shape
        for shape in ("term", "period", "subscription", "change", "invoice_line")
        if shape != rows
    )


def _other_amounts(what: str) -> tuple[str, ...]:
    return tuple(word for word in ("arr", "mrr", "interval", "total") if word != what)


def _find(draft: TableDraft, names: tuple[str, ...], *, is_text: bool | None) -> str | None:
    for name in names:
        for column in draft.file.columns.values():
            if plain_name(column.name) != name or not column.filled or column.is_time:
                continue
            if is_text is None or column.is_number != is_text:
                return column.name
    return None


def _shape(connection: duckdb.DuckDBPyConnection, draft: TableDraft, what: str) -> tuple[str, str]:
    """Return what a row is, with the reason."""
    if what.startswith("change_in"):
        return "change", "the amounts are differences"
    start = draft.happened_column("started_on")
    end = draft.columns.get("renews_on")
    key = draft.columns.get("subscription_id")
    if start is None or key is None:
        return "term", "one row per term"
    rows = _facts(connection, draft, start, end.value if end else None, key.value)
    if end is None:
        if rows["per_key"] > 1.2:
            return "change", f"{rows['per_key']:.1f} rows per subscription, and no end date"
        return "term", "one row per subscription, and no end date"
    names = {plain_name(name) for name in draft.file.columns}
    if names & {"invoiceid", "invoicenumber", "lineid", "invoicelineid", "lineitemid"}:
        return "invoice_line", "rows have an invoice and a service period"
    if rows["per_key"] > 1.2:
        return "period", f"{rows['per_key']:.1f} consecutive periods per subscription"
    if rows["spread"] <= 1.2 and rows["longest"] > 1.5:
        return (
            "subscription",
            "one row per subscription; the period end moves on at each renewal",
        )
    return "term", "one row per term"


def _facts(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, start: str, end: str | None, key: str
) -> dict[str, float]:
    """Return rows per subscription, and how the period ends lie, in billing intervals."""
    interval = _find(draft, INTERVAL_NAMES, is_text=True)
    first, last = _typed(draft, start, _DAY), _typed(draft, end, _DAY) if end else "NULL::DATE"
    ended = draft.columns.get("ended_on")
    over = (
        _typed(draft, ended.value, _DAY)
        if ended is not None and ended.value in draft.file.columns
        else "NULL::DATE"
    )
    yearly = f"regexp_matches(lower({ident(interval)}), 'year|annual|^12') " if interval else "true"
    return one_row(
        connection,
        f"WITH rows AS (SELECT {ident(key)} AS key, {first} AS first, {last} AS last, "
        f"{over} AS over, CASE WHEN {yearly} THEN 365.25 ELSE 30.4 END AS length "
        f"FROM {draft.file.source.relation}) "
        f"SELECT count(*) / greatest(count(DISTINCT key), 1) AS per_key, "
        f"coalesce(max(date_diff('day', (SELECT min(last) FROM rows WHERE over IS NULL), last) "
        f"/ length) FILTER (over IS NULL), 99) AS spread, "
        f"coalesce(quantile_cont(date_diff('day', first, last) / length, 0.9), 0) AS longest "
        f"FROM rows",
    )


def _typed(draft: TableDraft, header: str, column: SourceColumn) -> str:
    text, kind = type_parsing.prepared(column, ident(header), draft.file.source.columns[header])
    return type_parsing.value(column, text, kind, "UTC")


def _guess_interval(draft: TableDraft) -> None:
    """Guess the interval of all rows from names and periods, where no column has it."""
    amount = draft.billing["amount"].value
    words = words_of(amount) | words_of(draft.file.name)
    monthly = bool(words & {"month", "monthly", "mo"}) or draft.billing["amount_is"].value == "mrr"
    value = "'month'" if monthly else "'year'"
    other = "'year'" if monthly else "'month'"
    draft.billing["interval"] = Choice(
        value, "no column has the billing interval", "low", (other, "'quarter'")
    )


def _add_quantity(
    connection: duckdb.DuckDBPyConnection, draft: TableDraft, amount: str, quantity: str
) -> None:
    """Multiply by the quantity where the amount is a price per unit.

    Names say so (price per seat), or the data does: a price list has few prices for many
    quantities, a total has as many amounts as quantities.
    """
    if words_of(amount) & SEAT_WORDS:
        draft.billing["quantity"] = Choice(quantity, f"{amount} is a price per unit by its name")
        return
    number, units = _typed(draft, amount, _NUMBER), _typed(draft, quantity, _NUMBER)
    found = one_row(
        connection,
        f"SELECT count(DISTINCT round(price, 2)) AS prices, count(DISTINCT units) AS units, "
        f"count(DISTINCT round(price / units, 2)) AS per_unit FROM (SELECT {number} AS price, "
        f"{units} AS units FROM {draft.file.source.relation}) WHERE units > 0 AND price > 0",
    )
    if found["units"] <= 1:
        return
    if found["per_unit"] >= DISTINCT_RATIO * found["prices"]:
        draft.billing["quantity"] = Choice(
            quantity,
            f"{found['prices']} prices for {found['units']} quantities: a price per unit",
            "high" if found["per_unit"] >= 3 * found["prices"] else "medium",
        )
        return
    is_clear = found["prices"] >= DISTINCT_RATIO * found["per_unit"]
    if not is_clear:
        draft.notes.append(
            f"{amount} may be a price per unit: add `quantity: {quantity}` under billing if it is"
        )
