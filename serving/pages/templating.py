"""Templates and the few ways numbers are written on pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from serving.pages.history_charts import sparkline
from training.model.reason_text import amount, capitalize

ROOM = Path(__file__).parent
TEMPLATES, STATIC = ROOM / "templates", ROOM / "static"

SYMBOLS = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥"}
MINUS = "−"

PRIVATE = {"Cache-Control": "private, no-cache"}
"""Nobody but the reader may keep what pages show."""


def money(value: float | None, currency: str) -> str:
    """Return an amount of money, short, for sentences and totals.

    >>> money(84_000.0, "GBP"), money(1_250_000.0, "CHF"), money(None, "EUR"), money(-950.0, "USD")
    ('£84k', 'CHF 1.25m', 'not known', '−$950')
    """
    if value is None:
        return "not known"
    size = abs(value)
    power, letter = next(
        ((p, c) for p, c in ((1e9, "bn"), (1e6, "m"), (1e3, "k")) if size >= 0.9995 * p), (1.0, "")
    )
    scaled = size / power
    digits = 0 if scaled >= 100 or letter == "" else 1 if scaled >= 10 else 2
    text = f"{scaled:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    symbol = SYMBOLS.get(currency, f"{currency} ")
    return f"{MINUS if value < 0 else ''}{symbol}{text}{letter}"


def whole(value: float | None) -> str:
    """Return a number without decimals, thousands apart; a dash when it is not known.

    >>> whole(1234.6), whole(None), whole(-3.0)
    ('1,235', '–', '−3')
    """
    return "–" if value is None else f"{round(value):,}".replace("-", MINUS)


def in_hundred(p: float | None) -> str:
    """Return a probability as a number in 100; a decimal where whole numbers would say nothing.

    >>> in_hundred(0.312), in_hundred(0.042), in_hundred(0.0004), in_hundred(None)
    ('31', '4.2', '<0.1', '–')
    """
    if p is None:
        return "–"
    if p < 0.0005:
        return "<0.1"
    return f"{100 * p:.1f}" if p < 0.0995 else f"{100 * p:.0f}"


def plain(value: float) -> str:
    """Return a number as it is, thousands apart, a true minus, no zeros behind.

    >>> plain(12345.0), plain(-40.0), plain(0.346)
    ('12,345', '−40', '0.346')
    """
    return f"{value:,.6g}".replace("-", MINUS) if abs(value) < 1e6 else whole(value)


def ends(low: float, high: float) -> str:
    """Return a range in 100, both ends with the same decimals.

    >>> ends(0.089, 0.18), ends(0.012, 0.04)
    ('9 to 18', '1.2 to 4.0')
    """
    digits = 1 if high < 0.0995 else 0
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def plural(n: float | None, thing: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "day"), plural(1056.0, "day"), plural(None, "day")
    ('1 day', '1,056 days', 'not known')
    """
    if n is None:
        return "not known"
    return f"{whole(n)} {thing}{'' if round(n) == 1 else 's'}"


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign, a true minus.

    >>> signed(2.04), signed(-3.0), signed(0.0)
    ('+2.0', '−3.0', '0.0')
    """
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def day(value: str | None) -> str:
    """Return an ISO date or instant as people write a day.

    >>> day("2026-03-12"), day("2026-03-02T00:00:00Z"), day(None)
    ('12 Mar 2026', '2 Mar 2026', '–')
    """
    if not value:
        return "–"
    moment = date.fromisoformat(value[:10])
    return f"{moment.day} {moment:%b %Y}"


def dated(text: str) -> str:
    """Return a cell of a source table, an ISO date as people write a day.

    >>> dated("2026-03-12"), dated("T-01805799"), dated("")
    ('12 Mar 2026', 'T-01805799', '')
    """
    try:
        return day(text) if len(text) == len("2026-03-12") else text
    except ValueError:
        return text


def fact_value(value: float | str | None, unit: str, currency: str) -> str:
    """Return one value of a fact with its unit, a dash when it is not known."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else amount(value, unit, currency=currency)


def account_url(account_id: str) -> str:
    """Return the address of an account's page; ids may hold anything."""
    return f"/accounts/{quote(account_id, safe='')}"


def query(values: Mapping[str, Any]) -> str:
    """Return a query string with its question mark; nothing for nothing."""
    kept = {key: value for key, value in values.items() if value not in ("", None)}
    return f"?{urlencode(kept)}" if kept else "?"


def _version() -> str:
    """Return the installed version; a packed service holds the code, not the distribution."""
    try:
        return version("bellwether-cs")
    except PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates; everything is escaped, and an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "money": money,
        "whole": whole,
        "in_hundred": in_hundred,
        "ends": ends,
        "plain": plain,
        "plural": plural,
        "signed": signed,
        "day": day,
        "dated": dated,
        "fact": fact_value,
        "account_url": account_url,
        "sparkline": sparkline,
        "query": query,
        "capital": capitalize,
    }
    made.globals["version"] = _version()
    return made


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a rendered page that nobody but the reader may keep."""
    text = environment().get_template(template).render(**values)
    return HTMLResponse(text, status, headers=PRIVATE)
