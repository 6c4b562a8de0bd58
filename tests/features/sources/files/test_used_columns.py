"""Columns that are read from a database."""

from __future__ import annotations

import duckdb
import pytest

from features.sources.files.used_columns import used_columns

AVAILABLE = ["account_id", "Happened", "event_id", "n", "payload", "plan", "Domain"]


def used(small, table, mapping, available=AVAILABLE, **rest):
    inputs = {"log": {"connection": "x", "table": "log"}}
    company = small.workspace(inputs=inputs, tables={table: mapping, **rest}).company
    return used_columns(company, "log", available)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"columns": {"occurred_at": "happened"}}, ["account_id", "Happened", "event_id"]),
        (
            {"columns": {"occurred_at": "Happened", "quantity": 'TRY_CAST("n" AS DOUBLE)'}},
            ["account_id", "Happened", "event_id", "n"],
        ),
        (
            {"columns": {"occurred_at": "Happened"}, "leave_out": "plan = 'test'"},
            ["account_id", "Happened", "event_id", "plan"],
        ),
        (
            {"account": {"column": "Domain", "matches": "w"}, "known_at": "Happened"},
            ["account_id", "Happened", "event_id", "Domain"],
        ),
        ({"columns": {"occurred_at": "hapened"}}, AVAILABLE),  # the error lists every column
        ({"columns": {"occurred_at": "Happened", "feature": "null"}},
         ["account_id", "Happened", "event_id"]),
    ],
)  # fmt: skip
def test_columns_of_a_mapping(small, mapping, expected):
    assert used(small, "usage_events", {"from": "log", **mapping}) == expected


def test_events_without_an_id_are_the_same_only_in_every_column(small):
    without = [name for name in AVAILABLE if name != "event_id"]
    mapping = {"from": "log", "columns": {"occurred_at": "Happened"}}
    assert used(small, "usage_events", mapping, without) == without
    mapping["columns"]["event_id"] = "payload"
    assert used(small, "usage_events", mapping, without) == ["account_id", "Happened", "payload"]


def test_sql_and_billing_read_every_column(small):
    assert used(small, "usage_events", {"sql": "SELECT * FROM log"}) == AVAILABLE
    billing = {"rows": "period", "amount": "n", "interval": "'month'"}
    assert used(small, "subscriptions", {"from": "log", "billing": billing}) == AVAILABLE
    both = {"usage_events": {"from": "log", "columns": {"occurred_at": "Happened"}}}
    assert used(small, "invoices", {"sql": "SELECT 1 AS x FROM LOG"}, **both) == AVAILABLE


def test_accounts_keep_the_columns_that_other_tables_match(small):
    link = {"account": {"column": "mail", "matches": "Domain", "by": "domain"}}
    found = used(
        small, "accounts", {"from": "log"}, support_tickets={"from": "usage_events", **link}
    )
    assert found == ["account_id", "plan", "Domain"]


def test_equal_rows_that_differ_in_another_column_stay_two_events(small, rows):
    path = small.data / "w.duckdb"
    with duckdb.connect(str(path)) as session:
        session.execute(
            "CREATE TABLE events AS SELECT 'A1' AS account_id, TIMESTAMP '2024-03-01 10:00' AS "
            "occurred_at, 1 AS quantity, i AS payload FROM range(3) t(i)"
        )
    small.connections["w"] = f"duckdb:///{path}"
    info = small.load(
        {"usage_events": None}, inputs={"usage_events": {"connection": "w", "table": "events"}}
    ).tables["usage_events"]
    assert (info.rows, info.rows_duplicate) == (3, 0)
