"""Texts of raw columns: which mean nothing, yes or no, and what is asked about a column of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from configs.schema.ready_table import Written
from features.sources.files.sql import literal

MISSING = frozenset(
    {
        "", "-", "--", "—", "–", "?", "\\n", "na", "n/a", "n.a.", "nan", "nat", "<na>", "nil",
        "null", "(null)", "none", "(none)", "(blank)", "undefined", "#n/a", "#na", "#null!",
        "#value!", "#ref!", "#div/0!", "#name?", "#num!",
    }
)  # fmt: skip
"""Texts that mean nothing is there, in lower case, in every kind of column and every reader."""

WORDS_MISSING = MISSING - {"na"}
"""The same in a column of words, where NA may be North America or Namibia."""

UNKNOWN = frozenset({"unknown", "unk", "n/k", "not known", "tbd", "not available", "not set"})
"""Words that are missing among numbers, dates and flags; among words they are a word."""

MONEY = frozenset(
    {
        "arr", "mrr", "acv", "tcv", "ltv", "clv", "amount", "price", "revenue", "spend", "charge",
        "charges", "fee", "fees", "cost", "value", "salary", "payment", "balance", "billing",
        "invoice", "budget", "sales", "turnover",
    }
)  # fmt: skip
"""Words of a column's name by which it holds amounts of money."""

INFINITE = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
"""Words that stand for never among dates, and among numbers for what is none."""

TRUE = ("true", "t", "yes", "y", "1", "1.0", "on", "x", "wahr", "ja", "vrai", "oui", "si", "sí")
FALSE = ("false", "f", "no", "n", "0", "0.0", "off", "falsch", "nein", "faux", "non")


@dataclass(frozen=True)
class ColumnQuery:
    """One column of text whose way of writing is to be decided.

    Attributes
    ----------
    expression : str
        SQL of the trimmed text.
    kind : {"time", "number"}
        What it holds.
    told : str or None
        What the company says.
    is_money, is_whole : bool
        Amounts have at most two decimals, and counts none: three digits are a thousand.
    high : float or None
        The highest value there can be.
    has_currency : bool
        Another column says the currency, so marks may differ.
    """

    expression: str
    kind: Literal["time", "number"]
    told: Written | None = None
    is_money: bool = False
    is_whole: bool = False
    high: float | None = None
    has_currency: bool = False


def words_in(values: frozenset[str] | tuple[str, ...]) -> str:
    """Return texts as the right side of an SQL ``IN``."""
    return "(" + ", ".join(literal(value) for value in sorted(values)) + ")"


def is_missing(text: str, *, with_infinite: bool = True) -> str:
    """Return whether a trimmed text says nothing, among numbers, dates and flags."""
    words = MISSING | UNKNOWN | (INFINITE if with_infinite else frozenset())
    return f"(lower({text}) IN {words_in(words)})"


def ask(name: str, *answers: str) -> str:
    """Return the line of configuration that decides how a column is read."""
    return f"say which:  written: {{{name}: {' or '.join(answers)}}}"


def is_money(name: str) -> bool:
    """Return whether a column is named for amounts of money.

    >>> is_money("MonthlyCharges"), is_money("ARR"), is_money("seats_used"), is_money("carrier")
    (True, True, False, False)
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return any(word in MONEY for word in re.split(r"[^a-z]+", apart.lower()))
