"""Numbers and dates as people write them, decided over a whole column."""

from __future__ import annotations

import duckdb
import pandas as pd
import pytest

from configs.runtime.errors import ConfigError, SourceError
from features.sources.parsing import cells
from features.sources.parsing.column_formats import decide
from features.sources.parsing.dates import DateFormat, iso_sql
from features.sources.parsing.numbers import NumberFormat, number_sql
from features.sources.parsing.text_values import ColumnQuery


def read(values, kind, **asked):
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE x (v VARCHAR)")
        connection.executemany("INSERT INTO x VALUES (?)", [[value] for value in values])
        style = decide(connection, "x", {"v": ColumnQuery("trim(v)", kind, **asked)}).sure()["v"]
        if isinstance(style, NumberFormat):
            sql = number_sql("trim(v)", style)
        else:
            assert isinstance(style, DateFormat)
            sql = iso_sql("trim(v)", style)
        return [row[0] for row in connection.execute(f"SELECT {sql} FROM x").fetchall()]


NUMBERS = {
    "dollars": (["$1,234.00", "$12.00", "-$3.50"], {}, [1234, 12, -3.5]),
    "American thousands": (["1,234,567.5", "12"], {}, [1234567.5, 12]),
    "German": (["1.234,50", "12,5", "1.000.000"], {}, [1234.5, 12.5, 1e6]),
    "French": (["1 234,50", "1\u202f234\u00a0567", "7"], {}, [1234.5, 1234567, 7]),
    "Swiss": (["1'234.50", "12’345"], {}, [1234.5, 12345]),
    "Indian": (["12,34,567.00", "1,00,000"], {}, [1234567, 100000]),
    "accounting": (["(1,234)", "50-", "−3", "7"], {}, [-1234, -50, -3, 7]),
    "percent": (["45%", "7.5 %"], {}, [45, 7.5]),
    "a share": (["45%", "0.5"], {"high": 1.0}, [0.45, 0.5]),
    "marks behind": (["12 €", "1.234,50 €"], {}, [12, 1234.5]),
    "codes": (["USD 12", "1,234.50 USD"], {}, [12, 1234.5]),
    "short": (["$1.2k", "$3.4M", "$1bn"], {}, [1200, 3.4e6, 1e9]),
    "months are no millions": (["12m", "24m"], {}, [None, None]),
    "amounts are": (["12m", "1.5k"], {"is_money": True}, [12e6, 1500]),
    "plain": (["1", "2.5", "-1e3", ".5", "+4"], {}, [1, 2.5, -1000, 0.5, 4]),
    "no numbers": (["about 5", "1_000", "0x1F", "1,23,4", "3-4"], {}, [None] * 5),
    "counts have no decimals": (["1.234", "12,345"], {"is_whole": True}, [1234, 12345]),
    "amounts have no three decimals": (["12,345", "1,200"], {"is_money": True}, [12345, 1200]),
    "nor with a point": (["12.345", "950"], {"is_money": True}, [12345, 950]),
    "small ones stand by": (["12,345", "950"], {}, [12345, 950]),
    "decimals prove the comma": (["1,234", "0,5"], {}, [1.234, 0.5]),
    "decimals prove the point": (["1.234", "0.5"], {}, [1.234, 0.5]),
    "thousands prove the point": (["1.234", "1,234.5"], {}, [1.234, 1234.5]),
    "configured": (["1,234"], {"configured": "decimal_comma"}, [1.234]),
    "configured otherwise": (["1.234"], {"configured": "decimal_comma"}, [1234]),
    "bounds decide": (["4,125", "3,500"], {"high": 5.0}, [4.125, 3.5]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case):
    values, asked, wanted = NUMBERS[case]
    assert read(values, "number", **asked) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("values", "asked", "words"),
    [
        (["12,345", "1,200"], {}, "ambiguous, for example 12,345"),
        (["1.234", "1.250", "1.300", "950"], {}, "ambiguous, for example 1.2"),
        (["1,234", "1234"], {}, "ambiguous"),
        (["1,234.5", "1.234,5", "1,234"], {}, "ambiguous"),
        (["$5", "€6"], {}, r"different currencies: \$, €"),
        (["45%", "0.5"], {}, "percentages such as 45% and shares up to 0.5"),
    ],
)
def test_numbers_that_nothing_decides_are_asked_about(values, asked, words):
    with pytest.raises(SourceError, match=words) as caught:
        read(values, "number", **asked)
    assert caught.value.fix


DATES = {
    "ISO": (["2024-05-01", "2024-05-01T10:00:00+0200"], ["2024-05-01", "2024-05-01T10:00:00+0200"]),
    "day first": (["31/01/2024", "1/2/2024"], ["2024-01-31", "2024-02-01"]),
    "month first": (["01/31/2024", "1/2/24"], ["2024-01-31", "2024-01-02"]),
    "American times": (
        ["1/31/2024 5:04 PM", "1/2/2024 12:30:00 AM", "2024-01-05 10:00 PM"],
        ["2024-01-31 17:04:00", "2024-01-02 00:30:00", "2024-01-05 22:00:00"],
    ),
    "of logs": (["2024-05-01 10:00:00,123"], ["2024-05-01 10:00:00.123"]),
    "points": (["01.02.2024", "01.02.2024 9:30"], ["2024-02-01", "2024-02-01 09:30"]),
    "month names": (
        ["1 Feb 2024", "Feb 3, 2024", "04-Feb-24", "February 5th, 2024 10:00", "6 June 2024"],
        ["2024-02-01", "2024-02-03", "2024-02-04", "2024-02-05 10:00", "2024-06-06"],
    ),
    "of mails": (["Wed, 01 May 2024 10:00:00 +0200"], ["2024-05-01 10:00:00+0200"]),
    "Unix": (["1714521600", "1714521601"], ["2024-05-01 00:00:00.000000Z",
                                            "2024-05-01 00:00:01.000000Z"]),
    "Unix days": (["1714521600", "1714608000"], ["2024-05-01", "2024-05-02"]),
    "milliseconds": (["1714521600500"], ["2024-05-01 00:00:00.500000Z"]),
    "spreadsheets": (["45413", "45413.5"], ["2024-05-01", "2024-05-01 12:00:00"]),
    "without separators": (["20240501", "20240501T101500Z"],
                           ["2024-05-01", "2024-05-01 10:15:00Z"]),
    "months": (["2024-05"], ["2024-05-01"]),
    "no dates": (["Q1 2024", "soon"], ["Q1 2024", "soon"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DATES)
def test_dates(case):
    values, wanted = DATES[case]
    assert read(values, "time") == wanted


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["01/02/2024", "03/04/2024"], "ambiguous, for example 0"),
        (["25/03/2025", "03/25/2025"], "both day/month and month/day: 25/03/2025 and 03/25/2025"),
    ],
)
def test_dates_that_nothing_decides_are_asked_about(values, words):
    with pytest.raises(SourceError, match=words):
        read(values, "time")


def test_a_few_unclear_dates_among_many_clear_ones_do_not_stop_reading():
    values = [f"2024-01-{day:02d}" for day in range(1, 29)] + ["01/02/2024"]
    assert read(values, "time")[-1] == "01/02/2024"


def test_another_column_of_the_table_proves_the_order(small, rows):
    accounts = "account_id,created_at\nA1,01/02/2023\nA2,03/02/2023\n"
    terms = "account_id,subscription_id,started_on,renews_on\nA1,S1,01/02/2024,31/01/2025\n"
    tables = {"accounts": {"written": {"created_at": "day_first"}}}
    usage = "account_id,occurred_at\nA1,2024-03-01\n"
    files = {"accounts": accounts, "subscriptions": terms, "usage_events": usage}
    loaded = small.load(files, tables=tables)
    (row,) = rows(loaded.tables["subscriptions"].path)
    assert (str(row["started_on"]), str(row["renews_on"])) == ("2024-02-01", "2025-01-31")
    first = rows(loaded.tables["accounts"].path)[0]["created_at"]
    assert str(first.date()) == "2023-02-01"
    assert loaded.tables["accounts"].read["written"] == {
        "created_at": "01/02/2023 is read day first"
    }


def test_every_unclear_column_is_named_at_once(small):
    accounts = "account_id,created_at\nA1,01/02/2023\nA2,03/02/2023\n"
    with pytest.raises(SourceError) as caught:
        small.load({"accounts": accounts})
    assert "written: {created_at: day_first or month_first}" in str(caught.value)
    terms = (
        "account_id,subscription_id,started_on,arr,notice_at\n"
        'A1,S1,01/02/2024,"1,234",02/03/2024\nA2,S2,01/02/2024,1234,02/03/2024\n'
    )
    tickets = "account_id,ticket_id,opened_at\nA1,T1,03/04/2024\n"
    with pytest.raises(SourceError) as caught:
        small.load({"subscriptions": terms, "support_tickets": tickets})
    text = str(caught.value)
    for name in ("'started_on'", "'arr'", "'notice_at'", "'opened_at'"):
        assert name in text


def test_written_names_columns_that_are_there(small):
    tables = {"usage_events": {"written": {"occured_at": "day_first"}}}
    with pytest.raises(ConfigError, match='did you mean "occurred_at"'):
        small.load(tables=tables)


def test_money_as_spreadsheets_write_it(small, rows):
    terms = (
        "account_id,subscription_id,started_on,arr,discount,seats\n"
        'A1,S1,2024-02-10,"$1,200.00",15%,"1,250"\nA2,S2,2024-02-10,"$900.00",0.2,20\n'
        "A3,S3,2024-02-10,n/a,-,\n"
    )
    info = small.load({"subscriptions": terms}).tables["subscriptions"]
    assert [row["arr"] for row in rows(info.path)] == [1200.0, 900.0, None]
    assert [row["discount"] for row in rows(info.path)] == pytest.approx([0.15, 0.2, None])
    assert [row["seats"] for row in rows(info.path)] == [1250, 20, None]
    assert info.rows_quarantined == 0


def test_absurd_amounts_are_set_aside(small):
    terms = (
        "account_id,subscription_id,started_on,arr\nA1,S1,2024-02-10,1e308\nA2,S2,2024-02-10,9\n"
    )
    info = small.load({"subscriptions": terms}).tables["subscriptions"]
    assert info.quarantined == {"out_of_bounds:arr": 1}
    assert info.read["examples"] == {"out_of_bounds:arr": ["1e308"]}


MISSING = ["", "-", "--", "n/a", "N/A", "#N/A", "null", "NULL", "None", "nan", "NaN", "(blank)"]


@pytest.mark.parametrize("word", MISSING)
def test_every_reader_calls_the_same_words_missing(small, rows, word):
    terms = (
        "account_id,subscription_id,started_on,renews_on,product,arr,auto_renew\n"
        f"A1,S1,2024-02-10,{word},{word},{word},{word}\n"
    )
    info = small.load({"subscriptions": terms}).tables["subscriptions"]
    (row,) = rows(info.path)
    assert [row[name] for name in ("renews_on", "product", "arr", "auto_renew")] == [None] * 4
    assert info.rows_quarantined == 0
    assert cells.texts(pd.Series([word, "x"])).tolist() == [None, "x"]
    assert cells.numbers(pd.Series([word, "1"])).values.isna().tolist() == [True, False]
    assert cells.parse_moments(pd.Series([word, "2024-01-01"])).values.isna().tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("zone", ["UTC", None, "Europe/Berlin"])
def test_parquet_moments_of_any_unit_and_zone(small, rows, unit, zone):
    at = pd.Series(pd.to_datetime(["2024-02-01T10:00:00", "2024-02-02T11:00:00"])).dt.as_unit(unit)
    table = pd.DataFrame({"account_id": ["A1", "A2"], "occurred_at": at.dt.tz_localize(zone)})
    table.to_parquet(small.data / "u.parquet")
    loaded = small.load({"usage_events": None}, inputs={"usage_events": "u.parquet"})
    hours = [row["occurred_at"].hour for row in rows(loaded.tables["usage_events"].path)]
    assert hours == ([9, 10] if zone == "Europe/Berlin" else [10, 11])
