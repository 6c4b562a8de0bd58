"""Workbooks of accounts: typed cells, a frozen head and filters, safe to open."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import xlsxwriter

from serving.scoring.export_rows import list_text

DAY, MONEY, SHARE = "yyyy-mm-dd", "#,##0.00", "0.0 %"
"""Number formats of days, amounts and probabilities."""

_SHARES = ("risk", "low", "high", "base", "propensity", "probability", "change")
_MONEY = ("arr", "expected", "p10", "p50", "p90", "lost", "91d")

LONGEST = 32_767
"""Most characters of a cell."""


def workbook(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as a workbook with one sheet.

    Numbers, days and true or false are cells of that type; lists are text. Texts are never read as
    formulas or addresses.

    Parameters
    ----------
    title : str
        Name of the sheet, at most 31 characters.
    columns : sequence of str
        Columns, in order; the head of the table.
    rows : iterable of mapping
        Values by column; None is an empty cell.
    """
    content = io.BytesIO()
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_numbers": False,
        "strings_to_urls": False,
    }
    with xlsxwriter.Workbook(content, options) as book:
        sheet = book.add_worksheet(title[:31])
        head = book.add_format({"bold": True, "bottom": 1})
        formats = {name: book.add_format({"num_format": name}) for name in (DAY, MONEY, SHARE)}
        for place, name in enumerate(columns):
            sheet.write_string(0, place, name, head)
            sheet.set_column(place, place, min(max(len(name) + 2, 10), 40))
        n = 0
        for n, row in enumerate(rows, start=1):
            for place, name in enumerate(columns):
                _write(sheet, n, place, name, row.get(name), formats)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, n, len(columns) - 1)
    return content.getvalue()


def _write(
    sheet: Any, row: int, place: int, name: str, value: Any, formats: Mapping[str, Any]
) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value)
    elif isinstance(value, int | float):
        sheet.write_number(row, place, value, formats.get(_format_of(name, value)))
    elif isinstance(value, str):
        if day := _day(name, value):
            sheet.write_datetime(row, place, day, formats[DAY])
        else:
            sheet.write_string(row, place, value[:LONGEST])
    else:
        sheet.write_string(row, place, list_text(value)[:LONGEST])


def _format_of(name: str, value: float) -> str:
    """Return the number format of a value of a column; empty for plain numbers.

    >>> _format_of("churn_risk", 0.2), _format_of("arr", 2.5), _format_of("tenure_days", 3)
    ('0.0 %', '#,##0.00', '')
    """
    if isinstance(value, int):
        return ""
    end = name.rsplit("_", 1)[-1]
    return MONEY if end in _MONEY else SHARE if end in _SHARES else ""


def _day(name: str, value: str) -> date | None:
    """Return the day of a column of days; None for other texts."""
    if not name.endswith(("_on", "_until", "_since")):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None
