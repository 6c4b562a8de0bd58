"""Mappings: columns, expressions, SQL, and what is said when they are wrong."""

from __future__ import annotations

import pytest

from configs.runtime.errors import ConfigError, SourceError

LOG = "customer,day,amount,note\nA1,2024-03-01,10,a\nA1,2024-03-01,5,b\nA2,2024-03-02,7,c\n"


def test_columns_and_expressions(small, rows):
    tables = {
        "usage_events": {
            "from": "log",
            "columns": {
                "account_id": "customer",
                "occurred_at": "day",
                "quantity": "TRY_CAST(amount AS DOUBLE) * 2",
                "product": "'core'",
            },
        }
    }
    info = small.load({"usage_events": None, "log": LOG}, tables=tables).tables["usage_events"]
    assert info.columns == ("account_id", "occurred_at", "product", "quantity")
    assert [(r["product"], r["quantity"]) for r in rows(info.path)] == [
        ("core", 20), ("core", 10), ("core", 14),
    ]  # fmt: skip
    assert info.inputs == {"log": 3}


def test_sql_over_the_inputs(small, rows):
    sql = (
        "SELECT customer AS account_id, day AS occurred_at, sum(TRY_CAST(amount AS DOUBLE)) "
        "AS quantity FROM log GROUP BY ALL;"
    )
    tables = {"usage_events": {"sql": sql}}
    info = small.load({"usage_events": None, "log": LOG}, tables=tables).tables["usage_events"]
    assert sorted(r["quantity"] for r in rows(info.path)) == [7, 15]


def test_same_named_columns_come_along_and_null_leaves_one_out(small):
    tables = {"usage_events": {"columns": {"feature": "null"}}}
    info = small.load(tables=tables).tables["usage_events"]
    assert info.columns == ("account_id", "user_id", "occurred_at", "quantity")


def test_a_column_with_an_underscore_only_tells_rows_apart(small):
    log = "id,customer,day\n1,A1,2024-03-01 09:00:00\n2,A1,2024-03-01 09:00:00\n"
    sql = "SELECT customer AS account_id, day AS occurred_at, id AS _id FROM log"
    loaded = small.load({"usage_events": None, "log": log}, tables={"usage_events": {"sql": sql}})
    assert loaded.tables["usage_events"].rows == 2


def refused(small, error, mapping, table="usage_events", files=None):
    with pytest.raises(error) as caught:
        small.load({"log": LOG, **(files or {})}, tables={table: mapping})
    return str(caught.value)


def test_an_unknown_table_names_the_closest(small):
    said = refused(small, ConfigError, {"from": "log"}, table="usage_event")
    assert "unknown table 'usage_event'; did you mean \"usage_events\"?" in said


def test_an_unknown_column_of_ours_names_the_closest(small):
    said = refused(small, ConfigError, {"columns": {"occured_at": "day"}})
    assert 'did you mean "occurred_at"?' in said
    assert "tables.usage_events.columns.occured_at" in said


def test_an_unknown_column_of_theirs_names_the_closest(small):
    said = refused(small, SourceError, {"from": "log", "columns": {"account_id": "custommer"}})
    assert 'did you mean "customer"?' in said
    assert "file log.csv" in said


def test_a_required_column_without_a_source_lists_what_is_there(small):
    said = refused(small, SourceError, {"from": "log", "columns": {"account_id": "customer"}})
    assert "usage_events has no column for occurred_at" in said
    assert "customer, day, amount, note" in said


def test_an_unknown_input_names_the_closest(small):
    assert 'did you mean "log"?' in refused(small, ConfigError, {"from": "logs"})


def test_an_unknown_time_zone_names_the_closest(small):
    said = refused(small, ConfigError, {"timezone": "Europe/Berln"})
    assert 'did you mean "Europe/Berlin"?' in said


def test_sql_that_does_not_run_says_so_in_duckdbs_words(small):
    said = refused(small, SourceError, {"sql": "SELECT custommer FROM log"})
    assert "custommer" in said
    assert "tables.usage_events.sql" in said


def test_sql_with_a_misspelt_column_of_ours_is_refused(small):
    said = refused(small, ConfigError, {"sql": "SELECT customer AS acount_id FROM log"})
    assert 'did you mean "account_id"?' in said


@pytest.mark.parametrize(
    "sql", ["SELECT 1; SELECT 2", "DROP VIEW log", "COPY log TO 'x.csv'", "CREATE TABLE x (a INT)"]
)
def test_sql_is_one_select(small, sql):
    assert "one SELECT" in refused(small, ConfigError, {"sql": sql})


def test_from_and_sql_together_are_refused(small):
    assert "not both" in refused(small, ConfigError, {"from": "log", "sql": "SELECT 1"})
