"""Words for missing values, yes and no in raw text, and the query of a column's format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from configs.schema.ready_table import Written
from features.sources.files.sql import literal

MISSING = frozenset(
    {
        "", "-", "--", "—", "–", "?", "\\n", "na", "n/a", "n.a.", "nan", "nat", "<na>", "nil",
        "null", "(null)", "none", "(none)", "(blank)", "undefined", "#n/a", "#na", "#null!",
        "#value!", "#ref!", "#div/0!", "#name?", "#num!",
    }
)  # fmt: skip
"""Words for a missing value, in lower case, in every kind of column."""

WORDS_MISSING = MISSING - {"na"}
"""Words for a missing value in a text column, where NA may be North America or Namibia."""

UNKNOWN = frozenset({"unknown", "unk", "n/k", "not known", "tbd", "not available", "not set"})
"""Words for a missing value among numbers, dates and flags, but not in text columns."""

MONEY = frozenset(
    {
        "arr", "mrr", "acv", "tcv", "ltv", "clv", "amount", "price", "revenue", "spend", "charge",
        "charges", "fee", "fees", "cost", "value", "salary", "payment", "balance", "billing",
        "invoice", "budget", "sales", "turnover",
    }
)  # fmt: skip
"""Words in a column name that mark amounts of money."""

INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
"""Words for never among dates, and for a missing number."""

TRUE = ("true", "t", "yes", "y", "1", "1.0", "on", "x", "wahr", "ja", "vrai", "oui", "si", "sí")
FALSE = ("false", "f", "no", "n", "0", "0.0", "off", "falsch", "nein", "faux", "non")


Tally = Mapping[str, Any]
"""Row of a tally query: the number of texts per format, and examples (``eg_…``)."""


@dataclass(frozen=True)
class ColumnQuery:
    """One text column whose format is to be decided.

    Attributes
    ----------
    expression : str
        SQL of the trimmed text.
    kind : {"time", "number"}
        Kind of its values.
    configured : str or None
        Configured format.
    is_money, is_whole : bool
        Amounts have at most two decimals and counts none, so three digits are a thousand.
    high : float or None
        Highest possible value.
    has_currency : bool
        Another column has the currency, so marks may differ.
    """

    expression: str
    kind: Literal["time", "number"]
    configured: Written | None = None
    is_money: bool = False
    is_whole: bool = False
    high: float | None = None
    has_currency: bool = False


def words_in(values: frozenset[str] | tuple[str, ...]) -> str:
    """Return texts as the right side of a SQL ``IN``."""
    return "(" + ", ".join(literal(value) for value in sorted(values)) + ")"


def is_missing(text: str, *, with_infinite: bool = True) -> str:
    """Return SQL for: a trimmed text is a missing number, date or flag."""
    words = MISSING | UNKNOWN | (INFINITE if with_infinite else frozenset())
    return f"(lower({text}) IN {words_in(words)})"


def ask(name: str, *answers: str) -> str:
    """Return the configuration line that sets the format of a column."""
    return f"set one:  written: {{{name}: {' or '.join(answers)}}}"


def is_money(name: str) -> bool:
    """Whether the name of a column suggests amounts of money.

    >>> is_money("MonthlyCharges"), is_money("ARR"), is_money("seats_used"), is_money("carrier")
    (True, True, False, False)
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return any(word in MONEY for word in re.split(r"[^a-z]+", apart.lower()))
