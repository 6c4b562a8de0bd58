"""Formats of numbers (amounts, thousands, decimals, percentages) as SQL over trimmed text.

The meaning of ``1,234`` and ``1.234`` is decided by the rest of the column, by the kind of the
column, or by the configuration; otherwise an error requests it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from configs.runtime.errors import SourceError
from features.sources.files.sql import literal
from features.sources.parsing.text_values import ColumnQuery, Tally, ask

_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|TRY|ZAR|BRL|MXN|SGD|HKD|"
    "KRW|ILS|AED|SAR|THB|IDR|MYR|PHP|VND|CLP|COP|ARS|EGP|NGN|KES|UAH|RUB"
)
_MARK = rf"US\$|A\$|C\$|[$€£¥₹₩₽]|(?:{_CODES})|Fr\.|kr|zł"
_GAP = r"[\s\x{00A0}\x{202F}\x{2009}'’]"
_BODY = (
    r"\d+(?:[.,]\d*)?|[.,]\d+|\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d{1,3}(?:\.\d{3})+(?:,\d*)?|"
    rf"\d{{1,3}}(?:{_GAP}\d{{3}})+(?:[.,]\d*)?|\d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?:\.\d*)?"
)
_NUMBER = (
    rf"^(\(?)\s*([-+−]?)\s*({_MARK})?\s*([-+−]?)\s*({_BODY})\s*((?:[kKmMbB]|bn|mn|Mio\.?)?)\s*"
    rf"(%|{_MARK})?\s*(-?)(\)?)$"
)
_GROUPS = "['open', 'sign', 'mark', 'sign2', 'body', 'times', 'after', 'minus', 'close']"
_PLAIN = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_EITHER = r"[1-9]\d{{0,2}}{mark}\d{{3}}"
"""One separator and three digits: a decimal or a thousand."""


@dataclass(frozen=True)
class NumberFormat:
    """Format of numbers.

    Attributes
    ----------
    is_plain : bool
        Standard format that a cast reads.
    comma, dot : {"thousand", "decimal"}
        Meaning of the separator in ``1,234`` and in ``1.234``.
    scale : float
        Factor of values with a percent sign.
    is_money : bool
        12m is twelve millions; otherwise only next to a currency mark, since it may be months.
    marks : tuple of str
        Currency marks found.
    words : str
        Note on the format; empty for plain numbers.
    """

    is_plain: bool = True
    comma: Literal["thousand", "decimal"] = "thousand"
    dot: Literal["thousand", "decimal"] = "decimal"
    scale: float = 1.0
    is_money: bool = False
    marks: tuple[str, ...] = ()
    words: str = ""


def plain_values(name: str, item: ColumnQuery, texts: Sequence[str]) -> list[float] | None:
    """Return numbers in the standard format without a database query; None for other formats.

    Raises
    ------
    SourceError
        A point may separate thousands or decimals.

    >>> plain_values("x", ColumnQuery("t", "number"), ["1", "-2.5", "1e3", "1.234"])
    [1.0, -2.5, 1000.0, 1.234]
    >>> plain_values("x", ColumnQuery("t", "number"), ["1,5"]) is None
    True
    """
    if not all(re.match(_PLAIN, text) for text in texts):
        return None
    bodies = [text.lstrip("+-") for text in texts]
    either = [text for text in bodies if re.fullmatch(_EITHER.format(mark=r"\."), text)]
    dotted = sum("." in text for text in bodies)
    whole = [len(text) for text in bodies if text.isdigit()]
    tally = {
        "either_dot": len(either),
        "eg_either_dot": next(iter(either), None),
        "comma": 0,
        "point": dotted - len(either),
        "bare_small": sum(length <= 3 for length in whole),
        "bare_large": sum(length > 3 for length in whole),
    }
    return [float(text) for text in texts] if _dot(name, item, tally) == "decimal" else None


def number_tally_sql(given: str) -> str:
    """Return SQL that counts the number formats of texts, with examples."""
    extracted = f"regexp_extract(t, {literal(_NUMBER)}, {_GROUPS})"
    either = {name: _EITHER.format(mark=mark) for name, mark in (("comma", ","), ("dot", r"\."))}
    commas, dots = (f"(length(b) - length(replace(b, '{mark}', '')))" for mark in ",.")
    last = "strpos(reverse(b), ',') < strpos(reverse(b), '.')"
    both = f"({commas} > 0 AND {dots} > 0)"
    shapes = {
        "either_comma": f"regexp_full_match(b, {literal(either['comma'])})",
        "either_dot": f"regexp_full_match(b, {literal(either['dot'])})",
    }
    comma = (
        f"(({both} AND {last}) OR ({commas} = 1 AND {dots} = 0 AND NOT {shapes['either_comma']}) "
        f"OR ({dots} > 1 AND {commas} = 0))"
    )
    point = (
        f"(({both} AND NOT {last}) OR ({dots} = 1 AND {commas} = 0 AND NOT {shapes['either_dot']}) "
        f"OR ({commas} > 1 AND {dots} = 0))"
    )
    counted = {
        **shapes,
        "comma": comma,
        "point": point,
        "bare_small": "regexp_full_match(b, '\\d{1,3}')",
        "bare_large": "regexp_full_match(b, '\\d{4,}')",
        "percent": "p.after = '%'",
    }
    parts = ", ".join(
        f"count(*) FILTER ({test}) AS {name}, any_value(t) FILTER ({test}) AS eg_{name}"
        for name, test in counted.items()
    )
    return (
        f"SELECT {parts}, count(*) FILTER (p.body <> '') AS numbers, count(*) AS given, "
        f"max(abs(TRY_CAST(b AS DOUBLE))) FILTER (p.after <> '%') AS most, "
        f"list_sort(list(DISTINCT CASE WHEN p.mark <> '' THEN p.mark ELSE p.after END) "
        f"FILTER (p.mark <> '' OR p.after NOT IN ('', '%'))) AS marks, "
        f"any_value(t) FILTER (TRY_CAST(t AS DOUBLE) IS NULL) AS eg_odd "
        f"FROM (SELECT t, p, regexp_replace(p.body, {literal(_GAP)}, '', 'g') AS b "
        f"FROM (SELECT t, {extracted} AS p FROM {given}))"
    )


def decide_numbers(name: str, item: ColumnQuery, tally: Tally) -> NumberFormat:
    """Return the format of a column.

    Raises
    ------
    SourceError
        The format is ambiguous, or values have different currencies or scales.
    """
    comma, dot = _comma(name, item, tally), _dot(name, item, tally)
    scale = 0.01 if item.high is not None and item.high <= 1 else 1.0
    _refuse_mixed(name, item, tally, scale)
    marks = tuple(tally["marks"] or ())
    is_plain = tally["eg_odd"] is None and dot == "decimal"
    words = _number_words(tally, comma, dot, scale)
    return NumberFormat(is_plain, comma, dot, scale, item.is_money, marks, words)


def _number_words(tally: Tally, comma: str, dot: str, scale: float) -> str:
    notes = []
    if tally["either_comma"]:
        eg = tally["eg_either_comma"]
        meaning = "thousands" if comma == "thousand" else "decimals"
        notes.append(f"the comma of {eg} separates {meaning}")
    elif tally["comma"]:
        notes.append(f"the comma of {tally['eg_comma']} separates decimals")
    elif tally["point"] and "," in str(tally["eg_point"]):
        notes.append(f"the comma of {tally['eg_point']} separates thousands")
    if tally["either_dot"] and dot == "thousand":
        notes.append(f"the point of {tally['eg_either_dot']} separates thousands")
    if tally["percent"]:
        notes.append(f"{tally['eg_percent']} is read as {'a share' if scale < 1 else 'its number'}")
    if tally["marks"]:
        notes.append(f"amounts carry {', '.join(tally['marks'])}")
    return "; ".join(notes)


def _comma(name: str, item: ColumnQuery, tally: Tally) -> Literal["thousand", "decimal"]:
    """Return the meaning of the comma in 1,234."""
    if item.configured in ("decimal_comma", "decimal_point"):
        return "decimal" if item.configured == "decimal_comma" else "thousand"
    if not tally["either_comma"] or item.is_whole:
        return "thousand"
    if bool(tally["comma"]) != bool(tally["point"]):
        return "decimal" if tally["comma"] else "thousand"
    if item.high is not None and item.high < 1000:
        return "decimal"
    is_thousand = item.is_money or tally["bare_small"]
    if not tally["comma"] and is_thousand and not tally["bare_large"]:
        return "thousand"
    raise _ambiguous(name, str(tally["eg_either_comma"]))


def _dot(name: str, item: ColumnQuery, tally: Tally) -> Literal["thousand", "decimal"]:
    """Return the meaning of the point in 1.234."""
    if item.configured in ("decimal_comma", "decimal_point"):
        return "thousand" if item.configured == "decimal_comma" else "decimal"
    if not tally["either_dot"] or (item.high is not None and item.high < 1000):
        return "decimal"
    if item.is_whole:
        return "thousand"
    if bool(tally["comma"]) != bool(tally["point"]):
        return "thousand" if tally["comma"] else "decimal"
    if tally["comma"]:
        raise _ambiguous(name, str(tally["eg_either_dot"]))
    if item.is_money and not tally["bare_large"]:
        return "thousand"
    if item.is_money or (
        tally["bare_small"] and tally["either_dot"] > 2 and not tally["bare_large"]
    ):
        raise _ambiguous(name, str(tally["eg_either_dot"]))
    return "decimal"


def _ambiguous(name: str, example: str) -> SourceError:
    return SourceError(
        f"the numbers of column {name!r} are ambiguous, for example {example}: a decimal or a "
        "thousand",
        fix=ask(name, "decimal_comma", "decimal_point"),
    )


def _refuse_mixed(name: str, item: ColumnQuery, tally: Tally, scale: float) -> None:
    marks = tally["marks"] or []
    if len(marks) > 1 and not item.has_currency:
        raise SourceError(
            f"the amounts of column {name!r} carry different currencies: {', '.join(marks)}",
            fix="map the currency of each row to `currency`, and the amount without its mark",
        )
    plain = tally["numbers"] - tally["percent"]
    if scale == 1.0 and tally["percent"] and plain and 0 < (tally["most"] or 0) <= 1:
        raise SourceError(
            f"column {name!r} has percentages such as {tally['eg_percent']} and shares up to "
            f"{tally['most']:g}",
            fix="export one of them only",
        )


def number_sql(text: str, style: NumberFormat) -> str:
    """Return SQL of the number in a trimmed text; null where there is none."""
    if style.is_plain:
        return f"CASE WHEN NOT contains({text}, '_') THEN TRY_CAST({text} AS DOUBLE) END"
    p = f"regexp_extract({text}, {literal(_NUMBER)}, {_GROUPS})"
    body = f"regexp_replace({p}.body, {literal(_GAP)}, '', 'g')"
    return (
        f"list_transform([{{'p': {p}, 'b': {body}, 't': {text}}}], lambda bw: "
        f"CASE WHEN regexp_matches(bw.t, {literal(_PLAIN)}) AND NOT {_is_either('bw.t', style)} "
        f"THEN TRY_CAST(bw.t AS DOUBLE) WHEN bw.b = '' OR {_is_unit('bw.p', style)} THEN NULL "
        f"ELSE TRY_CAST({_decimal('bw.b', style)} AS DOUBLE) * {_sign('bw.p')} * {_times('bw.p')} "
        f"* CASE WHEN bw.p.after = '%' THEN {style.scale} ELSE 1 END END)[1]"
    )


def _is_either(text: str, style: NumberFormat) -> str:
    shape = literal("^[-+]?" + _EITHER.format(mark=r"\.") + "$")
    return f"({style.dot == 'thousand'} AND regexp_matches({text}, {shape}))"


def _decimal(body: str, style: NumberFormat) -> str:
    """Return SQL of the digits with a decimal point and without thousands separators."""
    comma, dot = (literal("^" + _EITHER.format(mark=mark) + "$") for mark in (",", r"\."))
    commas, dots = (f"(length({body}) - length(replace({body}, '{mark}', '')))" for mark in ",.")
    is_comma = (
        f"CASE WHEN {commas} > 0 AND {dots} > 0 "
        f"THEN strpos(reverse({body}), ',') < strpos(reverse({body}), '.') "
        f"WHEN {commas} > 1 THEN false WHEN {dots} > 1 THEN true "
        f"WHEN regexp_matches({body}, {comma}) THEN {style.comma == 'decimal'} "
        f"WHEN regexp_matches({body}, {dot}) THEN {style.dot == 'thousand'} "
        f"ELSE {commas} = 1 END"
    )
    return (
        f"CASE WHEN {is_comma} THEN replace(replace({body}, '.', ''), ',', '.') "
        f"ELSE replace({body}, ',', '') END"
    )


def _is_unit(p: str, style: NumberFormat) -> str:
    """Return SQL for: a letter after the number may be a unit rather than a multiple."""
    return f"({not style.is_money} AND {p}.times <> '' AND {p}.mark = '' AND {p}.after = '')"


def _sign(p: str) -> str:
    negative = f"({p}.open = '(' AND {p}.close = ')')"
    minus = f"{p}.sign IN ('-', '−') OR {p}.sign2 IN ('-', '−') OR {p}.minus = '-'"
    return f"CASE WHEN {negative} OR {minus} THEN -1 ELSE 1 END"


def _times(p: str) -> str:
    first = f"lower(left({p}.times, 1))"
    return f"CASE {first} WHEN 'k' THEN 1e3 WHEN 'm' THEN 1e6 WHEN 'b' THEN 1e9 ELSE 1 END"
