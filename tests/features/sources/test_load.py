"""From files to canonical Parquet: what is written, counted, reused and refused."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.errors import DataError, SourceError, StateError
from configs.runtime.state_directory import read_manifest
from features.sources import read_loaded

USAGE = "account_id,user_id,occurred_at,feature,quantity\n"


def test_canonical_parquet_has_the_contracts_types_and_only_the_columns_of_the_source(small):
    loaded = small.load()
    table = pq.read_table(loaded.tables["usage_events"].path)
    assert table.column_names == [
        "account_id", "user_id", "occurred_at", "feature", "quantity", "known_at",
    ]  # fmt: skip
    assert table.schema.field("occurred_at").type == pa.timestamp("us")
    assert table.schema.field("known_at").type == pa.timestamp("us")
    assert table.schema.field("quantity").type == pa.float64()
    assert loaded.tables["usage_events"].columns == (
        "account_id", "user_id", "occurred_at", "feature", "quantity",
    )  # fmt: skip


def test_rows_are_sorted_by_account_and_time(small, rows):
    usage = USAGE + (
        "A2,u,2024-03-02 00:00:01,f,1\nA1,u,2024-03-05 00:00:01,f,1\nA1,u,2024-03-01 00:00:01,f,1\n"
    )
    found = rows(small.load({"usage_events": usage}).tables["usage_events"].path)
    assert [(r["account_id"], r["occurred_at"].day) for r in found] == [
        ("A1", 1), ("A1", 5), ("A2", 2),
    ]  # fmt: skip


def test_a_date_where_an_instant_is_expected_is_its_last_microsecond_and_known_after_it(
    small, rows
):
    found = rows(small.load().tables["accounts"].path)[0]
    assert found["created_at"] == datetime(2024, 1, 1, 23, 59, 59, 999999)
    assert found["known_at"] == datetime(2024, 1, 2)


def test_a_date_only_fact_is_known_at_the_next_midnight(small, rows):
    invoices = "account_id,invoice_id,issued_on,amount\nA1,I1,2024-03-01,10\n"
    found = rows(small.load({"invoices": invoices}).tables["invoices"].path)[0]
    assert found["known_at"] == datetime(2024, 3, 2)


def test_an_instant_is_known_when_it_happened_plus_the_delay(small, rows):
    tables = {"usage_events": {"known_delay_days": 3}}
    info = small.load(tables=tables).tables["usage_events"]
    found = rows(info.path)[0]
    assert found["occurred_at"] == datetime(2024, 2, 1, 10)
    assert found["known_at"] == datetime(2024, 2, 4, 10)
    assert info.known_basis == "delay"


def test_known_at_of_the_source_wins_and_a_date_there_means_the_next_midnight(small, rows):
    usage = (
        "account_id,occurred_at,loaded\n"
        "A1,2024-02-01 10:00:00,2024-02-03 04:00:00\n"
        "A2,2024-02-02 10:00:00,2024-02-05\n"
        "A3,2024-02-03 10:00:00,\n"
    )
    info = small.load(
        {"usage_events": usage}, tables={"usage_events": {"known_at": "loaded"}}
    ).tables["usage_events"]
    assert [row["known_at"] for row in rows(info.path)] == [
        datetime(2024, 2, 3, 4), datetime(2024, 2, 6), datetime(2024, 2, 3, 10),
    ]  # fmt: skip
    assert info.known_basis == "column"
    assert info.noted == {"known_at_missing": 1}


def test_times_without_zone_are_in_the_mappings_zone_and_dates_wait_for_both_midnights(small, rows):
    usage = (
        "account_id,occurred_at\n"
        "A1,2024-07-01 10:00:00\n"
        "A2,2024-07-01T10:00:00+02:00\n"
        "A3,2024-07-01\n"
    )
    info = small.load(
        {"usage_events": usage}, tables={"usage_events": {"timezone": "America/New_York"}}
    ).tables["usage_events"]
    found = rows(info.path)
    assert [row["occurred_at"] for row in found] == [
        datetime(2024, 7, 1, 14), datetime(2024, 7, 1, 8), datetime(2024, 7, 1, 23, 59, 59, 999999),
    ]  # fmt: skip
    assert found[2]["known_at"] == datetime(2024, 7, 2, 4), "New York's midnight is 4:00 UTC"


def test_rows_known_after_now_are_kept_and_counted(small):
    loaded = small.load(now=datetime(2024, 2, 2, tzinfo=UTC))
    assert loaded.tables["usage_events"].rows == 3
    assert loaded.tables["usage_events"].rows_after_now == 2


def test_scan_gives_the_rows_under_the_tables_name(small):
    loaded = small.load()
    connection = duckdb.connect()
    assert len(loaded.scan(connection, "usage_events").fetchall()) == 3
    assert connection.execute("SELECT count(*) FROM usage_events").fetchone() == (3,)
    with pytest.raises(DataError, match="there is no invoices table: no payment signals"):
        loaded.scan(connection, "invoices")


def test_gaps_say_what_the_absence_removes(small):
    gaps = small.load().gaps
    assert "usage_events" not in gaps
    assert gaps["survey_responses"] == "no NPS, CSAT or effort scores"


def test_an_empty_optional_table_is_a_gap(small):
    loaded = small.load({"invoices": "account_id,invoice_id,issued_on\n"})
    assert "invoices" not in loaded.tables
    assert loaded.gaps["invoices"].startswith("the table is empty")


def test_nothing_changed_is_reused_and_said(small):
    said: list[str] = []
    first = small.load(progress=said.append)
    manifest = first.tables["usage_events"].path.stat().st_mtime_ns
    again = small.load(progress=said.append)
    assert said == [
        "accounts: 3 of 3 rows kept",
        "usage_events: 3 of 3 rows kept",
        "accounts: unchanged, 3 rows",
        "usage_events: unchanged, 3 rows",
    ]
    assert again == first
    assert again.tables["usage_events"].path.stat().st_mtime_ns == manifest


def test_a_rewritten_file_of_the_same_content_is_reused(small):
    first = small.load()
    said: list[str] = []
    small.load(progress=said.append)  # writes the files again
    assert all("unchanged" in line for line in said)
    manifest = read_manifest(first.tables["accounts"].path.parent)
    written = (small.data / "accounts.csv").stat().st_mtime_ns
    assert manifest["fingerprints"]["accounts"]["files"][0]["mtime_ns"] == written


def test_changed_content_or_mapping_is_read_again(small):
    first = small.load().tables["usage_events"].identity
    more = USAGE + "A1,u,2024-03-01 09:00:00,f,1\n"
    second = small.load({"usage_events": more}).tables["usage_events"].identity
    mapped = small.load(
        {"usage_events": more}, tables={"usage_events": {"known_delay_days": 1}}
    ).tables["usage_events"]
    assert len({first, second, mapped.identity}) == 3
    assert mapped.known_basis == "delay"


def test_other_accounts_make_every_table_of_accounts_new(small):
    before = small.load().tables["usage_events"]
    fewer = "account_id,created_at\nA1,2024-01-01\nA2,2024-01-02\n"
    after = small.load({"accounts": fewer}).tables["usage_events"]
    assert after.identity != before.identity
    assert after.quarantined == {"unknown_account": 1}


def test_a_table_that_is_no_longer_mapped_disappears(small):
    invoices = "account_id,invoice_id,issued_on,amount\nA1,I1,2024-03-01,10\n"
    assert "invoices" in small.load({"invoices": invoices}).tables
    assert "invoices" not in small.load().tables


def test_what_was_loaded_is_read_without_the_raw_files(small):
    loaded = small.load()
    for file in small.data.iterdir():
        file.unlink()
    workspace = small.workspace({"accounts": None, "usage_events": None})
    assert read_loaded(workspace, datetime(2024, 7, 1, tzinfo=UTC)) == loaded


def test_reading_before_loading_is_an_error_that_names_the_command(small):
    with pytest.raises(StateError, match="bellwether check"):
        read_loaded(small.workspace(), datetime(2024, 7, 1, tzinfo=UTC))


def test_a_failed_load_leaves_nothing_half_written(small):
    loaded = small.load()
    with pytest.raises(SourceError):
        small.load({"usage_events": "account_id,occurred_at\nZZ,2024-01-01\n"})
    assert loaded.tables["usage_events"].path.is_file()
    assert [p.name for p in (small.folder / "state" / "sources").iterdir() if "." in p.name] == []


def test_no_accounts_table_is_refused(small):
    with pytest.raises(SourceError, match='no accounts table; did you mean "account"'):
        small.load({"accounts": None, "account": "account_id,created_at\nA1,2024-01-01\n"})


def test_no_activity_table_is_refused(small):
    with pytest.raises(DataError, match="one of usage_events, support_tickets, invoices"):
        small.load({"usage_events": None})


def test_empty_activity_is_refused(small):
    with pytest.raises(DataError, match="no activity table"):
        small.load({"usage_events": "account_id,occurred_at\n"})


def test_empty_accounts_are_refused(small):
    with pytest.raises(DataError, match="number of accounts: 0"):
        small.load({"accounts": "account_id,created_at\n"})


def test_a_single_account_is_refused(small):
    usage = "account_id,occurred_at\nA1,2024-03-01\n"
    with pytest.raises(DataError, match="number of accounts: 1"):
        small.load({"accounts": "account_id,created_at\nA1,2024-01-01\n", "usage_events": usage})


def test_a_table_with_no_usable_row_is_refused_with_the_line_that_fixes_it(small):
    usage = "account_id,occurred_at\nA1,31/03/2024?\nA2,28/02/2024?\n"
    with pytest.raises(SourceError) as caught:
        small.load({"usage_events": usage})
    text = str(caught.value)
    assert "none of the 2 rows is usable (unparsable:occurred_at 2)" in text
    assert "occurred_at is '31/03/2024?', '28/02/2024?'" in text
    assert "occurred_at: strptime(occurred_at, '%d/%m/%Y')" in text


def test_the_work_of_a_killed_run_is_removed_though_nothing_is_read_again(small):
    sources = small.load().tables["accounts"].path.parent.parent
    left = sources / ".work.kil1ed00"
    left.mkdir()
    (left / "work.duckdb").write_text("")
    small.load()
    assert not left.exists()
