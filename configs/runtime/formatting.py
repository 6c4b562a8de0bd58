"""Numbers, percentages, money and dates as text: one format for reports, pages and the API.

Babel formats every value in one fixed locale, so that a text depends on the value alone and not
on the machine. Unknown values (None, NaN) are a dash; negative numbers carry a true minus sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache

from babel import Locale
from babel.dates import format_date
from babel.numbers import (
    format_currency,
    format_decimal,
    get_currency_precision,
    get_currency_symbol,
)

NBSP = "\u00a0"
NOTHING = "–"
NOT_KNOWN = "not known"
MINUS = "−"

LOCALE = Locale.parse("en")

SCALES: Mapping[str, float] = {"bn": 1e9, "m": 1e6, "k": 1e3}
"""Letters of shortened amounts, largest first."""


def is_known(value: float | None) -> bool:
    """Return whether there is a number to format.

    >>> is_known(0.0), is_known(None), is_known(float("nan"))
    (True, False, False)
    """
    return value is not None and not math.isnan(value)


@lru_cache(maxsize=64)
def _pattern(digits: int, optional: int = 0) -> str:
    """Return a Babel number pattern with thousands separators."""
    decimals = "0" * digits + "#" * optional
    return f"#,##0.{decimals}" if decimals else "#,##0"


def fixed(value: float | None, digits: int = 2) -> str:
    """Return a number with a fixed number of decimals and thousands separators.

    >>> fixed(0.7449), fixed(None), fixed(-0.001), fixed(-1234.5, 1)
    ('0.74', '–', '0.00', '−1,234.5')
    """
    if value is None or not is_known(value):
        return NOTHING
    return _decimal(round(float(value), digits) + 0.0, _pattern(digits))


@lru_cache(maxsize=8192)
def _decimal(value: float, pattern: str) -> str:
    """Return a rounded number; cached, as tables repeat the same counts and percentages."""
    return format_decimal(value, pattern, locale=LOCALE).replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign; zero has none.

    >>> signed(0.061), signed(-0.02), signed(0.0), signed(2.04, 1), signed(-0.2, 0)
    ('+0.06', '−0.02', '0.00', '+2.0', '0')
    """
    shown = fixed(value, digits)
    is_positive = shown[0] not in (MINUS, NOTHING) and any(c in "123456789" for c in shown)
    return f"+{shown}" if is_positive else shown


def count(value: float | None) -> str:
    """Return a number without decimals, with thousands separators.

    >>> count(12345), count(None), count(-3.0), count(1234.6)
    ('12,345', '–', '−3', '1,235')
    """
    return fixed(value, 0)


def plain(value: float) -> str:
    """Return a number with up to six significant digits and no trailing zeros.

    >>> plain(12345.0), plain(-40.0), plain(0.346), plain(1e9), plain(1e-7)
    ('12,345', '−40', '0.346', '1,000,000,000', '0.0000001')
    """
    size = abs(value)
    decimals = 0 if size >= 1e5 else 5 - math.floor(math.log10(size)) if size else 0
    return _decimal(round(float(value), decimals) + 0.0, _pattern(0, max(decimals, 0)))


def percent(value: float | None, digits: int | None = None) -> str:
    r"""Return a fraction in percent.

    Parameters
    ----------
    value : float or None
        1.0 is 100 %.
    digits : int, optional
        Decimals. By default one below 10 % and above 99 %, where whole percents hide what
        differs, and none between.

    Examples
    --------
    >>> percent(0.2149), percent(0.0432), percent(0.0), percent(1.0), percent(0.9366, 1)
    ('21\xa0%', '4.3\xa0%', '0\xa0%', '100\xa0%', '93.7\xa0%')
    >>> percent(0.0001), percent(0.99999), percent(-0.031), percent(12.4), percent(None)
    ('<0.1\xa0%', '>99.9\xa0%', '−3.1\xa0%', '1,240\xa0%', '–')
    """
    points = percent_points(value, digits)
    return points if points == NOTHING else f"{points}{NBSP}%"


def percent_points(value: float | None, digits: int | None = None) -> str:
    """Return a fraction in percent without the sign, for columns with "%" in the header.

    >>> percent_points(0.312), percent_points(0.042), percent_points(0.0004), percent_points(None)
    ('31', '4.2', '<0.1', '–')
    """
    if value is None or not is_known(value):
        return NOTHING
    if digits is not None:
        return fixed(100.0 * value, digits)
    if 0.0 < value < 0.0005:
        return "<0.1"
    if 0.9995 <= value < 1.0:
        return ">99.9"
    return fixed(100.0 * value, _percent_digits(value))


def _percent_digits(value: float) -> int:
    is_small, is_nearly_all = 0 < abs(value) < 0.0995, 0.99 < value < 1.0
    return 1 if is_small or is_nearly_all else 0


def percent_range(low: float, high: float) -> str:
    r"""Return a range in percent, both ends with the same decimals.

    >>> percent_range(0.089, 0.18), percent_range(0.012, 0.04)
    ('9 to 18\xa0%', '1.2 to 4.0\xa0%')
    """
    digits = 1 if high < 0.0995 else 0
    return f"{fixed(100.0 * low, digits)} to {percent(high, digits)}"


def percent_in_words(value: float) -> str:
    r"""Return a fraction in percent for the middle of a sentence.

    >>> percent_in_words(0.312), percent_in_words(0.0001), percent_in_words(0.99999)
    ('31\xa0%', 'less than 0.1\xa0%', 'more than 99.9\xa0%')
    """
    return percent(value).replace("<", "less than ").replace(">", "more than ")


def times(value: float | None) -> str:
    """Return a multiple.

    >>> times(3.14), times(None)
    ('3.1×', '–')
    """
    return NOTHING if value is None else f"{fixed(value, 1)}×"


def money(value: float | None, currency: str = "", *, missing: str = NOTHING) -> str:
    r"""Return an amount of money, shortened to three digits.

    Parameters
    ----------
    value : float or None
        The amount, in units of the currency.
    currency : str
        ISO 4217 code; without it (columns with the currency in the header) only the number.
    missing : str
        Text of an unknown amount.

    Examples
    --------
    >>> money(84_000, "EUR"), money(1_250_000, "CHF"), money(-950, "USD"), money(12_400_000)
    ('€84k', 'CHF\xa01.25m', '−$950', '12.4m')
    >>> money(999_600, "JPY"), money(3.2e12, "GBP"), money(0, "EUR"), money(None, "EUR")
    ('¥1m', '£3,200bn', '€0', '–')
    """
    if value is None or not is_known(value):
        return missing
    size = abs(value)
    letter = next((name for name, unit in SCALES.items() if size >= 0.9995 * unit), "")
    if not letter:
        return money_in_full(round(value), currency)
    scaled = size / SCALES[letter]
    optional = 0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2
    return _currency(math.copysign(scaled, value), currency, _pattern(0, optional), letter)


def money_in_full(value: float | None, currency: str = "", *, missing: str = NOTHING) -> str:
    r"""Return an amount of money with all its digits.

    Amounts below ten that are not whole keep the decimals of the currency.

    >>> money_in_full(17_362_977.4, "EUR"), money_in_full(-12_400, "CHF"), money_in_full(0.354)
    ('€17,362,977', '−CHF\xa012,400', '0.35')
    >>> money_in_full(3.5, "USD"), money_in_full(3.5, "JPY"), money_in_full(None, "USD")
    ('$3.50', '¥4', '–')
    """
    if value is None or not is_known(value):
        return missing
    is_small = abs(value) < 10 and value != round(value)
    digits = get_currency_precision(currency or "USD") if is_small else 0
    return _currency(round(float(value), digits), currency, _pattern(digits))


@lru_cache(maxsize=8192)
def _currency(value: float, currency: str, pattern: str, letter: str = "") -> str:
    suffix = f"'{letter}'" if letter else ""
    if not currency:
        shown = format_decimal(value, f"{pattern}{suffix}", locale=LOCALE)
    else:
        shown = format_currency(
            value,
            currency,
            f"{_symbol_pattern(currency)}{pattern}{suffix}",
            locale=LOCALE,
            currency_digits=False,
        )
    has_digits = any(c in "123456789" for c in shown)
    return shown.replace("-", MINUS, 1) if has_digits else shown.lstrip("-")


@lru_cache(maxsize=64)
def _symbol_pattern(currency: str) -> str:
    """Return the pattern of the symbol; a space separates codes in letters from the number."""
    return f"¤{NBSP}" if get_currency_symbol(currency, LOCALE)[-1:].isalpha() else "¤"


def day(value: str | date | None) -> str:
    """Return a date; of an instant, its day.

    >>> day("2026-11-03T00:00:00+00:00"), day(date(2026, 3, 12)), day("2026-03-02"), day(None)
    ('3 Nov 2026', '12 Mar 2026', '2 Mar 2026', '–')
    """
    return _date(value, "d MMM y")


def month(value: str | date | None) -> str:
    """Return the month of a date.

    >>> month("2026-11-03")
    'Nov 2026'
    """
    return _date(value, "MMM y")


def _date(value: str | date | None, pattern: str) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, str):
        value = date.fromisoformat(value[:10])
    if isinstance(value, datetime):  # Babel would move an aware instant to its own time zone
        value = value.date()
    return format_date(value, pattern, locale=LOCALE)


def dated(text: str) -> str:
    """Return a cell of a source table; an ISO date becomes a date in words.

    >>> dated("2026-03-12"), dated("T-01805799"), dated("")
    ('12 Mar 2026', 'T-01805799', '')
    """
    try:
        return day(text) if len(text) == len("2026-03-12") else text
    except ValueError:
        return text


def plural(number: float | None, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "account"), plural(1200, "account"), plural(2, "company"), plural(2, "loss")
    ('1 account', '1,200 accounts', '2 companies', '2 losses')
    >>> plural(None, "day")
    'not known'
    """
    if number is None:
        return NOT_KNOWN
    return f"1 {noun}" if round(number) == 1 else f"{count(number)} {_plural_noun(noun)}"


def _plural_noun(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def listing(items: list[str]) -> str:
    """Return items as one phrase.

    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
