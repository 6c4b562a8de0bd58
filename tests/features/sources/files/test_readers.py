"""Files as people really bring them."""

from __future__ import annotations

import gzip

import duckdb
import pytest

from configs.runtime.errors import ConfigError, SourceError


def test_lines_that_do_not_fit_the_header_are_kept_aside_with_their_text(small, rows):
    usage = (
        "account_id,occurred_at,feature\n"
        "A1,2024-03-01,search\n"
        "A2,2024-03-01\n"
        "A3,2024-03-01,a,b\n"
        'A1,2024-03-02,"two\nlines"\n'
    )
    info = small.load({"usage_events": usage}).tables["usage_events"]
    assert (info.rows_read, info.rows, info.quarantined) == (4, 2, {"malformed_line": 2})
    aside = rows(info.quarantine)
    assert [row["quarantine_line"] for row in aside] == ["A2,2024-03-01", "A3,2024-03-01,a,b"]
    assert [row["quarantine_row"] for row in aside] == [3, 4]
    assert "two\nlines" in [row["feature"] for row in rows(info.path)]


def test_an_open_quote_costs_its_own_line_only(small, rows):
    usage = (
        "account_id,occurred_at,feature\n"
        "A1,2024-03-01,search\n"
        'A2,2024-03-01,"open\n'
        "A3,2024-03-01,lost\n"
        "A3,2024-03-02,lost\n"
    )
    info = small.load({"usage_events": usage}).tables["usage_events"]
    assert (info.rows_read, info.rows, info.quarantined) == (4, 3, {"malformed_line": 1})
    assert [row["quarantine_row"] for row in rows(info.quarantine)] == [3]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(small, rows, delimiter):
    usage = "account_id,occurred_at,quantity\nA1,2024-03-01,2\n".replace(",", delimiter)
    info = small.load({"usage_events": usage}).tables["usage_events"]
    assert rows(info.path)[0]["quantity"] == 2


def test_byte_order_mark_windows_newlines_and_compression(small, rows):
    usage = "\ufeffaccount_id,occurred_at,feature\r\nA1,2024-03-01,été\r\n"
    (small.data / "u.csv.gz").write_bytes(gzip.compress(usage.encode("utf-8")))
    info = small.load({"usage_events": None}, inputs={"usage_events": "u.csv.gz"}).tables
    assert rows(info["usage_events"].path)[0]["feature"] == "été"


def test_a_pattern_reads_many_files(small):
    (small.data / "usage").mkdir()
    for month in (1, 2):
        text = f"account_id,occurred_at\nA1,2024-0{month}-20\n"
        (small.data / "usage" / f"{month}.csv").write_text(text)
    loaded = small.load({"usage_events": None}, inputs={"usage_events": "usage/*.csv"})
    assert loaded.tables["usage_events"].rows == 2


def test_files_of_a_pattern_with_different_headers_are_refused(small):
    (small.data / "u1.csv").write_text("account_id,occurred_at\nA1,2024-01-20\n")
    (small.data / "u2.csv").write_text("account_id,at\nA1,2024-01-20\n")
    with pytest.raises(SourceError, match="different headers"):
        small.load({"usage_events": None}, inputs={"usage_events": "u*.csv"})


def test_parquet_keeps_its_types_and_float_ids_become_whole(small, rows):
    duckdb.connect().execute(
        "COPY (SELECT 17850.0::DOUBLE AS account_id, TIMESTAMPTZ '2024-03-01 10:00:00+02' AS "
        "occurred_at, 'NaN'::DOUBLE AS quantity) TO "
        f"'{small.data / 'u.parquet'}' (FORMAT parquet)"
    )
    accounts = "account_id,created_at\n17850,2024-01-01\n17851,2024-01-01\n"
    loaded = small.load(
        {"accounts": accounts, "usage_events": None}, inputs={"usage_events": "u.parquet"}
    )
    row = rows(loaded.tables["usage_events"].path)[0]
    assert (row["account_id"], row["occurred_at"].hour, row["quantity"]) == ("17850", 8, None)


def test_a_missing_file_names_the_closest_one(small):
    with pytest.raises(SourceError) as caught:
        small.load(inputs={"invoices": "invoice.csv", "other": "usage_event.csv"}, tables={
            "invoices": {"from": "other"}
        })  # fmt: skip
    assert 'did you mean "usage_events.csv"?' in str(caught.value)
    assert str(small.data / "usage_event.csv") in str(caught.value)


def test_an_empty_file_is_refused(small):
    with pytest.raises(SourceError, match="it has no header"):
        small.load({"usage_events": ""})


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("cp1252", "Windows-1252"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-8-sig", "")],
)
def test_a_file_in_another_encoding_is_read_and_said(small, rows, encoding, note):
    usage = "account_id,occurred_at,feature\nA1,2024-03-01,café\nA2,2024-03-02,thé\n"
    info = small.load({"usage_events": usage.encode(encoding)}).tables["usage_events"]
    assert [row["feature"] for row in rows(info.path)] == ["café", "thé"]
    assert note in "".join(info.read.get("file_notes", []))


def test_a_header_with_a_column_twice_is_refused(small):
    with pytest.raises(SourceError, match="repeats column names: Account_ID, account_id"):
        small.load({"usage_events": "account_id,Account_ID,occurred_at\nA1,A1,2024-01-01\n"})


def test_an_unknown_kind_of_file_is_refused(small):
    (small.data / "u.pdf").write_bytes(b"x")
    with pytest.raises(ConfigError, match="a format that is not read: u.pdf") as caught:
        small.load({"usage_events": None}, inputs={"usage_events": "u.pdf"})
    assert all(
        end in caught.value.fix for end in (".parquet", ".csv.gz", ".jsonl", ".xlsx", ".zip")
    )


def test_columns_with_quotes_and_spaces_in_their_names(small, rows):
    usage = 'account_id,"when, ""exactly""",select\nA1,2024-03-01,x\n'
    tables = {"usage_events": {"columns": {"occurred_at": 'when, "exactly"', "feature": "select"}}}
    info = small.load({"usage_events": usage}, tables=tables).tables["usage_events"]
    assert rows(info.path)[0]["feature"] == "x"
