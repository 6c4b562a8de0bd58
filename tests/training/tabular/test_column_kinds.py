"""How columns are read, and what is refused rather than guessed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.runtime.errors import DataError
from training.tabular.column_kinds import convert, detect_kind, parse_dates

NOW = pd.Timestamp("2024-03-01", tz="UTC")


def read(values, name="x"):
    column = pd.Series(values, name=name)
    seen = detect_kind(column)
    as_of = pd.Series(NOW, index=column.index)
    return convert(column, seen.kind, as_of)


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (["1", " 2.5 ", "-", "1e3"], "number", [1, 2.5, np.nan, 1000]),
        (["1", "inf", "-inf", "4"], "number", [1, np.nan, np.nan, 4]),
        (["Yes", "no", None, "YES"], "flag", [1, 0, np.nan, 1]),
        (["0", "1", "1", ""], "flag", [0, 1, 1, np.nan]),
        ([True, False, None, True], "flag", [1, 0, np.nan, 1]),
        ([3, 4, 5, 5], "number", [3, 4, 5, 5]),
        (["2024-02-29", "2024-01-31T12:00:00", "n/a", "2024-03-02"], "date", [1, 29.5, np.nan, -1]),
        (list(pd.to_datetime(["2024-02-29", None, "2024-03-01"])), "date", [1, np.nan, 0]),
        (["basic", "pro", " ", "none"], "category", ["basic", "pro", None, None]),
        (["EMEA", "NA", "-", "APAC"], "category", ["EMEA", "NA", None, "APAC"]),
        (["$1,234.00", "$56.50", "n/a", "$9.00"], "number", [1234, 56.5, np.nan, 9]),
        (["1.234,50", "12,5", "7", "8"], "number", [1234.5, 12.5, 7, 8]),
        (["45%", "50 %", "7.5%", "0%"], "number", [45, 50, 7.5, 0]),
        (["29/02/2024", "01/02/2024", "unknown"], "date", [1, 29, np.nan]),
    ],
)
def test_a_column_is_read_by_what_stands_in_it(values, kind, wanted):
    assert detect_kind(pd.Series(values, name="x")).kind == kind
    found = read(values)
    if kind == "category":
        assert found.tolist() == wanted
    else:
        np.testing.assert_allclose(found.to_numpy(), wanted)


@pytest.mark.parametrize(
    ("values", "name", "words"),
    [
        ([None, "", "NA"], "x", "no value is known"),
        (["a", "a", "a"], "x", "the same in every row: a"),
        ([f"C-{i}" for i in range(200)], "customer", "200 different values: an identifier"),
        (list(range(200)), "x", "an identifier"),
        (np.random.default_rng(1).permutation(200), "customerId", "an identifier"),
    ],
)
def test_what_cannot_be_learned_from_is_left_out_and_said(values, name, words):
    seen = detect_kind(pd.Series(values, name=name))
    assert seen.kind is None
    assert words in seen.words


def test_whole_numbers_that_differ_are_numbers_unless_they_name_rows():
    spend = pd.Series(np.random.default_rng(1).permutation(200) * 7, name="spend")
    assert detect_kind(spend).kind == "number"


def test_a_constant_that_is_sometimes_missing_is_kept():
    assert detect_kind(pd.Series(["gold", None, "gold"])).kind == "category"


def test_a_column_of_ten_thousand_categories_is_kept_and_said():
    values = [f"city {i % 10_000}" for i in range(30_000)]
    seen = detect_kind(pd.Series(values, name="city"))
    assert seen.kind == "category"
    assert "10,000 different values" in seen.words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1"] * 50 + ["2"] * 48 + ["abc", "x"], "98 of 100 values of column x are numbers.*'abc'"),
        (["2024-01-01"] * 99 + ["soon"], "99 of 100 values of column x are dates.*'soon'"),
        (["03/01/2024", "01/02/2024"], "are ambiguous"),
        (["12,345", "23,456"], "are ambiguous"),
    ],
)
def test_two_kinds_in_one_column_are_refused_with_a_way_out(values, words):
    with pytest.raises(DataError, match=words) as caught:
        detect_kind(pd.Series(values, name="x"))
    assert "columns: {x:" in caught.value.fix


def test_moments_are_utc_and_numbers_are_read_as_dates_where_one_is_wanted():
    found = parse_dates(pd.Series(["2024-01-31", "2024-01-31T12:00:00+02:00", "later"]))
    assert found.isna().tolist() == [False, False, True]
    assert found[1] == pd.Timestamp("2024-01-31T10:00:00Z")
    assert parse_dates(pd.Series([20240131]))[0] == pd.Timestamp("2024-01-31T00:00:00Z")
    assert parse_dates(pd.Series([1_706_659_200.0]))[0] == pd.Timestamp("2024-01-31T00:00:00Z")
    assert parse_dates(pd.Series([7])).isna().all()
