"""Every row rule: what is set aside, and what is kept and counted."""

from __future__ import annotations

import pytest

FINE = {
    "usage_events": "A1,2024-02-01 10:00:00,1",
    "subscriptions": "A1,S1,2024-01-01,,1200,5,0.1,,",
    "support_tickets": "A1,T1,2024-03-01 10:00:00,,",
    "survey_responses": "A1,2024-03-01,nps,9",
    "invoices": "A1,I1,2024-03-01,,10",
    "contacts": "A1,C1,2024-03-01,",
}
HEADERS = {
    "usage_events": "account_id,occurred_at,quantity",
    "subscriptions": "account_id,subscription_id,started_on,ended_on,arr,seats,discount,"
    "end_reason,notice_at",
    "support_tickets": "account_id,ticket_id,opened_at,resolved_at,csat",
    "survey_responses": "account_id,responded_at,kind,score",
    "invoices": "account_id,invoice_id,issued_on,paid_on,amount",
    "contacts": "account_id,contact_id,created_at,left_at",
}


def load_table(small, table, *lines):
    text = "\n".join([HEADERS[table], FINE[table], *lines]) + "\n"
    return small.load({table: text}).tables[table]


@pytest.mark.parametrize(
    ("table", "line", "reason"),
    [
        ("usage_events", ",2024-02-01,1", "missing:account_id"),
        ("usage_events", "null,2024-02-01,1", "missing:account_id"),
        ("usage_events", "A1,,1", "missing:occurred_at"),
        ("usage_events", "A9,2024-02-01,1", "unknown_account"),
        ("usage_events", "A1,2024-02-30,1", "unparsable:occurred_at"),
        ("usage_events", "A1,2024-13-45,1", "unparsable:occurred_at"),
        ("usage_events", "A1,epoch,1", "unparsable:occurred_at"),
        ("usage_events", "A1,1900-01-01,1", "sentinel:occurred_at"),
        ("usage_events", "A1,2024-02-01,-1", "out_of_bounds:quantity"),
        ("usage_events", "A1,2024-02-01,many", "unparsable:quantity"),
        ("usage_events", "A1,2024-02-01,inf", "unparsable:quantity"),
        ("subscriptions", "A1,S2,2024-01-01,,x,5,0,,", "unparsable:arr"),
        ("subscriptions", "A1,S2,2024-01-01,,-1,5,0,,", "out_of_bounds:arr"),
        ("subscriptions", "A1,S2,2024-01-01,,1,5.5,0,,", "unparsable:seats"),
        ("subscriptions", "A1,S2,2024-01-01,,1,5,1.2,,", "out_of_bounds:discount"),
        ("subscriptions", "A1,S2,2024-01-01,2023-12-31,1,5,0,,", "time_order:ended_on"),
        ("subscriptions", "A1,S2,2024-01-01,2024-06-01,1,5,0,bored,", "not_allowed:end_reason"),
        ("support_tickets", "A1,T2,2024-03-01 10:00,2024-03-01 9:59,", "time_order:resolved_at"),
        ("support_tickets", "A1,T2,2024-03-01 10:00,,6", "out_of_bounds:csat"),
        ("survey_responses", "A1,2024-03-01,nps,11", "out_of_scale:score"),
        ("survey_responses", "A1,2024-03-01,csat,0", "out_of_scale:score"),
        ("survey_responses", "A1,2024-03-01,stars,4", "not_allowed:kind"),
    ],
)
def test_impossible_rows_are_set_aside_with_their_reason(small, rows, table, line, reason):
    info = load_table(small, table, line)
    assert (info.rows, info.rows_quarantined) == (1, 1)
    assert info.quarantined == {reason: 1}
    aside = rows(info.quarantine)
    assert [row["quarantine_reasons"] for row in aside] == [[reason]]
    assert aside[0]["quarantine_row"] == 2
    given = dict(zip(HEADERS[table].split(","), line.split(","), strict=True))
    assert {name: aside[0][name] or "" for name in given} == given


@pytest.mark.parametrize(
    ("table", "line", "note"),
    [
        ("usage_events", "A1,2023-12-31,1", "before_account"),
        ("subscriptions", "A1,S2,2024-03-01,9999-12-31,1,5,0,,", "sentinel:ended_on"),
        ("subscriptions", "A1,S2,2024-03-01,,1,5,0,,2024-02-01", "time_order:notice_at"),
        ("invoices", "A1,I2,2024-03-01,2024-02-01,10", "time_order:paid_on"),
        ("contacts", "A1,C2,2024-03-01,2024-02-01", "time_order:left_at"),
    ],
)
def test_contradicting_rows_are_kept_and_counted(small, table, line, note):
    info = load_table(small, table, line)
    assert (info.rows, info.rows_quarantined) == (2, 0)
    assert info.noted == {note: 1}


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("usage_events", "A1,2024-01-01,1"),
        ("usage_events", " A1 ,2024/2/1 9:30,1e2"),
        ("usage_events", "A1,2024-02-01T10:00:00.123456Z,NaN"),
        ("subscriptions", "A1,S2,2024-03-01,infinity,1,5.0,0,,"),
        ("subscriptions", "A1,S2,2024-03-01,2024-04-01,1,5,0, CHURNED ,"),
        ("support_tickets", "A1,T2,2024-03-02,2024-03-02 3:00,"),
        ("survey_responses", "A1,2024-03-01,NPS,0"),
    ],
)
def test_sound_rows_raise_nothing(small, table, line):
    info = load_table(small, table, line)
    assert (info.rows, info.quarantined, info.noted) == (2, {}, {})


def test_one_row_can_have_several_reasons(small, rows):
    info = load_table(small, "usage_events", "A9,never,-1")
    assert info.rows_quarantined == 1
    assert set(info.quarantined) == {
        "unknown_account", "unparsable:occurred_at", "out_of_bounds:quantity",
    }  # fmt: skip


def test_the_latest_known_version_of_a_key_stays(small, rows):
    tickets = (
        "account_id,ticket_id,opened_at,priority,updated\n"
        "A1,T1,2024-03-01 10:00:00,low,2024-03-05\n"
        "A1,T1,2024-03-01 10:00:00,high,2024-03-09\n"
        "A1,T1,2024-03-01 10:00:00,normal,2024-03-02\n"
    )
    tables = {"support_tickets": {"known_at": "updated"}}
    info = small.load({"support_tickets": tickets}, tables=tables).tables["support_tickets"]
    assert [row["priority"] for row in rows(info.path)] == ["high"]
    assert info.quarantined == {"superseded": 2}


def test_every_version_stays_where_the_table_has_history(small, rows):
    accounts = (
        "account_id,created_at,plan,known_at\n"
        "A1,2024-01-01,basic,2024-01-01 08:00:00\n"
        "A1,2024-01-01,pro,2024-03-01 08:00:00\n"
        "A2,2024-01-02,pro,2024-01-02 08:00:00\n"
        "A3,2024-01-02,pro,2024-01-02 08:00:00\n"
    )
    info = small.load({"accounts": accounts}, tables={"accounts": {"history": True}}).tables
    assert info["accounts"].rows == 4
    assert info["accounts"].history


def test_exact_copies_count_once_and_are_counted(small):
    info = load_table(small, "usage_events", FINE["usage_events"], FINE["usage_events"])
    assert (info.rows_read, info.rows, info.rows_duplicate) == (3, 1, 2)


def test_copies_that_differ_in_an_unmapped_column_are_events(small):
    usage = "event,account_id,occurred_at\n1,A1,2024-03-01 10:00:00\n2,A1,2024-03-01 10:00:00\n"
    info = small.load({"usage_events": usage}).tables["usage_events"]
    assert (info.rows, info.rows_duplicate) == (2, 0)


def test_daily_usage_without_a_quantity_is_one_use_per_row(small):
    usage = "account_id,occurred_at,feature\n" + "A1,2024-03-01,search\n" * 3
    info = small.load({"usage_events": usage}).tables["usage_events"]
    assert (info.rows, info.rows_duplicate) == (3, 0)


def test_times_that_all_lie_at_midnight_are_dates(small, rows):
    days = [f"2024-02-{day:02d} 00:00:00" for day in range(1, 13)]
    usage = "account_id,occurred_at,quantity\n" + "".join(f"A1,{day},1\n" for day in days)
    info = small.load({"usage_events": usage}).tables["usage_events"]
    assert info.profile["occurred_at"]["as_dates"] == 1
    found = rows(info.path)[0]
    assert found["occurred_at"].isoformat() == "2024-02-01T23:59:59.999999"
    assert found["known_at"].isoformat() == "2024-02-02T00:00:00"


def test_unreadable_times_do_not_hide_that_the_others_are_dates(small):
    days = [f"2024-02-{day:02d} 00:00:00" for day in range(1, 13)] + ["soon", "31/02/2024"]
    usage = "account_id,occurred_at,quantity\n" + "".join(f"A1,{day},1\n" for day in days)
    counts = small.load({"usage_events": usage}).tables["usage_events"].profile["occurred_at"]
    assert counts == {"given": 12, "dates": 0, "zoned": 0, "midnights": 12, "as_dates": 1}


def test_currencies_are_upper_case(small, rows):
    invoices = "account_id,invoice_id,issued_on,amount,currency\nA1,I1,2024-03-01,1, eur \n"
    info = small.load({"invoices": invoices}).tables["invoices"]
    assert rows(info.path)[0]["currency"] == "EUR"


def test_midnights_the_mapping_asks_for_stay_midnights(small, rows):
    usage = "account_id,day,quantity\n" + "".join(f"A1,2024-02-{d:02d},1\n" for d in range(1, 13))
    tables = {"usage_events": {"columns": {"occurred_at": "CAST(day AS TIMESTAMP)"}}}
    info = small.load({"usage_events": usage}, tables=tables).tables["usage_events"]
    assert rows(info.path)[0]["occurred_at"].isoformat() == "2024-02-01T00:00:00"
