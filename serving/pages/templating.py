"""Jinja environment of the pages: templates, filters and the rendered response."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from configs.runtime.formatting import (
    NOT_KNOWN,
    NOTHING,
    count,
    dated,
    day,
    money,
    money_in_full,
    percent,
    percent_range,
    plain,
    plural,
    signed,
)
from serving.http.addresses import account_url
from serving.pages.history.charts import sparkline
from training.model.reason_text import amount, capitalize, shorten

ROOM = Path(__file__).parent
TEMPLATES, STATIC = ROOM / "templates", ROOM / "static"

PRIVATE = {"Cache-Control": "private, no-cache"}
"""Pages hold account data, so shared caches must not store them."""


def fact_value(value: float | str | None, unit: str, currency: str) -> str:
    """Return the value of a fact with its unit; a dash when it is unknown."""
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else amount(value, unit, currency=currency)


def query(values: Mapping[str, Any]) -> str:
    """Return a query string with its question mark; empty values are left out."""
    kept = {key: value for key, value in values.items() if value not in ("", None)}
    return f"?{urlencode(kept)}" if kept else "?"


def _version() -> str:
    """Return the installed version; empty in a packed service, which has no distribution."""
    try:
        return version("bellwether-cs")
    except PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the Jinja environment; values are escaped and an undefined name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "money": partial(money, missing=NOT_KNOWN),
        "money_in_full": partial(money_in_full, missing=NOT_KNOWN),
        "whole": count,
        "percent": percent,
        "percent_range": percent_range,
        "plain": plain,
        "plural": plural,
        "signed": partial(signed, digits=1),
        "day": day,
        "dated": dated,
        "fact": fact_value,
        "account_url": account_url,
        "sparkline": sparkline,
        "query": query,
        "capital": capitalize,
        "shorten": shorten,
    }
    made.globals["version"] = _version()
    return made


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a rendered page with private cache headers."""
    text = environment().get_template(template).render(**values)
    return HTMLResponse(text, status, headers=PRIVATE)
