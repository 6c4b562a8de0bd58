"""Numbers, percent, money and dates: three currencies, signs, unknown, tiny and huge values."""

import math
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.runtime import formatting as f

MONEY = [
    (84_000, "€84k", "€84,000"),
    (1_250_000, "€1.25m", "€1,250,000"),
    (17_362_977.4, "€17.4m", "€17,362,977"),
    (999.4, "€999", "€999"),
    (999_600, "€1m", "€999,600"),
    (999_499, "€999k", "€999,499"),
    (3_200_000_000, "€3.2bn", "€3,200,000,000"),
    (4.2e12, "€4,200bn", "€4,200,000,000,000"),
    (0.004, "€0", "€0.00"),
    (0, "€0", "€0"),
    (-0.3, "€0", "−€0.30"),
    (-950, "−€950", "−€950"),
    (-1_250_000, "−€1.25m", "−€1,250,000"),
    (None, "–", "–"),
    (math.nan, "–", "–"),
]


@pytest.mark.parametrize(("value", "short", "full"), MONEY)
def test_money(value, short, full):
    assert f.money(value, "EUR") == short
    assert f.money_in_full(value, "EUR") == full


@pytest.mark.parametrize(
    ("currency", "short", "full"),
    [
        ("USD", "$12.3k", "$12,346"),
        ("GBP", "£12.3k", "£12,346"),
        ("JPY", "¥12.3k", "¥12,346"),
        ("CHF", "CHF\xa012.3k", "CHF\xa012,346"),
        ("", "12.3k", "12,346"),
    ],
)
def test_a_symbol_or_a_code_for_every_currency(currency, short, full):
    assert (f.money(12_345.6, currency), f.money_in_full(12_345.6, currency)) == (short, full)


def test_decimals_of_small_amounts_are_those_of_the_currency():
    assert f.money_in_full(3.5, "USD") == "$3.50"
    assert f.money_in_full(3.6, "JPY") == "¥4"
    assert f.money_in_full(-3.6, "JPY") == "−¥4"
    assert f.money(None, "USD", missing=f.NOT_KNOWN) == "not known"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2149, "21\xa0%"),
        (0.0432, "4.3\xa0%"),
        (0.0994, "9.9\xa0%"),
        (0.0996, "10\xa0%"),
        (0.0, "0\xa0%"),
        (1e-9, "<0.1\xa0%"),
        (0.996, "99.6\xa0%"),
        (1 - 1e-9, ">99.9\xa0%"),
        (1.0, "100\xa0%"),
        (-0.25, "−25\xa0%"),
        (-0.0001, "0.0\xa0%"),
        (123.0, "12,300\xa0%"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_percent(value, text):
    assert f.percent(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (np.float64(2.5), 1, "2.5"),
        (np.int64(1234), 0, "1,234"),
        (-1e-9, 2, "0.00"),
        (1e15, 0, "1,000,000,000,000,000"),
        (-1234.56, 1, "−1,234.6"),
    ],
)
def test_numbers(value, digits, text):
    assert f.fixed(value, digits) == text


def test_dates_have_one_format_whatever_they_come_as():
    evening = datetime(2026, 11, 3, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    for value in ("2026-11-03", "2026-11-03T23:30:00-05:00", date(2026, 11, 3), evening):
        assert f.day(value) == "3 Nov 2026"
        assert f.month(value) == "Nov 2026"
    assert f.day(datetime(2026, 9, 1, tzinfo=UTC)) == "1 Sep 2026"
    assert f.day(None) == f.month("") == "–"


@given(st.floats(-1e14, 1e14, allow_nan=False))
def test_amounts_have_at_most_three_digits_before_the_letter_and_one_sign(value):
    short, full = f.money(value, "EUR"), f.money_in_full(value, "EUR")
    assert short.count(f.MINUS) == full.count(f.MINUS) <= 1 or short == "€0"
    assert "-" not in short + full
    number = short.replace(f.MINUS, "").lstrip("€").rstrip("bnmk").replace(",", "")
    size = {"k": 1e3, "m": 1e6, "n": 1e9}.get(short[-1], 1.0)
    assert math.isclose(float(number) * size, abs(value), rel_tol=0.006, abs_tol=0.51)


@given(st.floats(0.0, 1.0))
def test_percent_only_says_none_or_all_where_it_is(p):
    assert (f.percent(p) == "0\xa0%") == (p == 0)
    assert (f.percent(p) == "100\xa0%") == (p == 1)
