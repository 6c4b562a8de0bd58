"""Source databases: a DuckDB file, and PostgreSQL when a server is there."""

from __future__ import annotations

import os
import uuid

import duckdb
import psycopg
import pytest

from configs.runtime.errors import ConfigError, SourceError, UnavailableError
from features.sources.files.databases.tables import table_names

POSTGRES = os.environ.get(
    "BELLWETHER_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test"
)


def from_database(table, connection="warehouse"):
    return {"usage_events": {"connection": connection, "table": table}}


@pytest.fixture
def duckdb_file(small):
    path = small.data / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE SCHEMA app; CREATE TABLE app.events AS SELECT * FROM (VALUES "
            "('A1', TIMESTAMP '2024-03-01 10:00:00', 2), "
            "('A2', TIMESTAMP '2024-03-02 10:00:00', 3)) AS t(account_id, occurred_at, quantity)"
        )
    return path


@pytest.mark.parametrize("written", ["{path}", "warehouse.duckdb", "/{path}"])
def test_a_duckdb_file(small, rows, duckdb_file, written):
    small.connections["warehouse"] = "duckdb:///" + written.format(path=duckdb_file)
    loaded = small.load({"usage_events": None}, inputs=from_database("app.events"))
    assert [row["quantity"] for row in rows(loaded.tables["usage_events"].path)] == [2, 3]


def test_a_changed_table_of_a_duckdb_file_is_read_again(small, duckdb_file):
    small.connections["warehouse"] = f"duckdb:///{duckdb_file}"
    said: list[str] = []
    for _ in range(2):
        small.load({"usage_events": None}, inputs=from_database("app.events"), progress=said.append)
    assert said[-1] == "usage_events: unchanged, 2 rows"
    with duckdb.connect(str(duckdb_file)) as connection:
        connection.execute("UPDATE app.events SET quantity = 4 WHERE account_id = 'A1'")
    small.load({"usage_events": None}, inputs=from_database("app.events"), progress=said.append)
    assert said[-1] == "usage_events: 2 of 2 rows kept"


def test_a_missing_table_names_the_closest(small, duckdb_file):
    small.connections["warehouse"] = f"duckdb:///{duckdb_file}"
    with pytest.raises(SourceError, match='did you mean "app.events"'):
        small.load({"usage_events": None}, inputs=from_database("app.event"))


def test_a_missing_duckdb_file_lists_where_it_looked(small):
    small.connections["warehouse"] = "duckdb:///nowhere.duckdb"
    with pytest.raises(SourceError, match="looked at, in order: nowhere.duckdb, "):
        small.load({"usage_events": None}, inputs=from_database("app.events"))


def test_a_connection_without_address_names_the_variable(small):
    with pytest.raises(ConfigError, match="export BELLWETHER_CONNECTION_WAREHOUSE="):
        small.load({"usage_events": None}, inputs=from_database("app.events"))


def test_another_scheme_is_refused(small):
    small.connections["warehouse"] = "oracle://localhost/x"
    with pytest.raises(ConfigError, match="scheme 'oracle'"):
        small.load({"usage_events": None}, inputs=from_database("app.events"))


def test_a_server_that_does_not_answer_is_told_without_the_password(small):
    small.connections["warehouse"] = "postgresql://me:hunter2@127.0.0.1:1/x"
    with pytest.raises(UnavailableError) as caught:
        small.load({"usage_events": None}, inputs=from_database("events"))
    assert "warehouse does not answer" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_unreadable_address_is_not_repeated(small):
    small.connections["warehouse"] = "postgresql://me:hunter2@127.0.0.1:port/x y=1"
    with pytest.raises((ConfigError, UnavailableError)) as caught:
        small.load({"usage_events": None}, inputs=from_database("events"))
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_duckdb_file_is_said(small):
    (small.data / "x.duckdb").write_text("not a database" * 1000)
    small.connections["warehouse"] = "duckdb:///x.duckdb"
    with pytest.raises(SourceError, match="not a valid DuckDB"):
        small.load({"usage_events": None}, inputs=from_database("events"))


@pytest.fixture
def postgres(small):
    """A schema of its own on the test server, and its name."""
    address = POSTGRES.replace("+psycopg", "", 1)
    schema = f"test_{uuid.uuid4().hex[:12]}"
    try:
        session = psycopg.connect(address, connect_timeout=3, autocommit=True)
    except psycopg.OperationalError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(
            "no PostgreSQL: docker run -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust "
            "-e POSTGRES_DB=test postgres   or set BELLWETHER_TEST_POSTGRES"
        )
    small.connections["warehouse"] = POSTGRES
    session.execute(f"CREATE SCHEMA {schema}")
    session.execute(
        f"CREATE TABLE {schema}.events (account_id text, occurred_at timestamptz, "
        f"feature text, quantity numeric, tags text[])"
    )
    session.execute(
        f"INSERT INTO {schema}.events VALUES "
        f"('A1', '2024-03-01 10:00:00+02', 'a \"quoted\", \n two-line', 1.5, '{{x,y}}'), "
        f"('A2', '2024-03-02 10:00:00+00', NULL, NULL, NULL), "
        f"(NULL, '2024-03-02 10:00:00+00', NULL, NULL, NULL)"
    )
    yield session, schema
    session.execute(f"DROP SCHEMA {schema} CASCADE")
    session.close()


@pytest.mark.server
def test_a_postgresql_table(small, rows, postgres):
    _, schema = postgres
    loaded = small.load({"usage_events": None}, inputs=from_database(f"{schema}.events"))
    info = loaded.tables["usage_events"]
    assert (info.rows_read, info.rows, info.quarantined) == (3, 2, {"missing:account_id": 1})
    first, second = rows(info.path)
    assert first["occurred_at"].hour == 8
    assert first["feature"] == 'a "quoted", \n two-line'
    assert (first["quantity"], second["quantity"]) == (1.5, None)


@pytest.mark.server
def test_the_tables_of_a_postgresql_schema_are_listed(small, postgres):
    session, schema = postgres
    session.execute(f"CREATE TABLE {schema}.further (x int)")
    listed = table_names(small.workspace(), "warehouse", schema)
    assert f"{schema}.further" in listed
    assert all(name.startswith(f"{schema}.") for name in listed)


def test_a_changed_postgresql_table_is_read_again(small, postgres):
    session, schema = postgres
    said: list[str] = []
    inputs = from_database(f"{schema}.events")
    for _ in range(2):
        small.load({"usage_events": None}, inputs=inputs, progress=said.append)
    assert said[-1] == "usage_events: unchanged, 2 rows"
    session.execute(f"UPDATE {schema}.events SET quantity = 9 WHERE account_id = 'A1'")
    small.load({"usage_events": None}, inputs=inputs, progress=said.append)
    assert said[-1].startswith("usage_events: 2 of 3 rows kept")


@pytest.mark.server
def test_a_missing_postgresql_table_names_the_closest(small, postgres):
    _, schema = postgres
    with pytest.raises(SourceError, match=f'did you mean "{schema}.events"'):
        small.load({"usage_events": None}, inputs=from_database(f"{schema}.event"))


@pytest.mark.server
def test_sql_over_a_postgresql_table_has_its_types(small, rows, postgres):
    _, schema = postgres
    loaded = small.load(
        {"usage_events": None},
        inputs={"log": {"connection": "warehouse", "table": f"{schema}.events"}},
        tables={
            "usage_events": {
                "sql": "SELECT account_id, occurred_at, quantity * 2 AS quantity FROM log "
                "WHERE account_id IS NOT NULL"
            }
        },
    )
    assert rows(loaded.tables["usage_events"].path)[0]["quantity"] == 3


@pytest.mark.server
def test_rows_of_one_empty_value_are_not_lost(small, postgres):
    session, schema = postgres
    session.execute(f"CREATE TABLE {schema}.ids (account_id text)")
    session.execute(f"INSERT INTO {schema}.ids VALUES ('A1'), (NULL), (''), ('A2')")
    loaded = small.load(
        {"accounts": None},
        inputs={"accounts": {"connection": "warehouse", "table": f"{schema}.ids"}},
        tables={"accounts": {"columns": {"created_at": "DATE '2024-01-01'"}}},
    )
    info = loaded.tables["accounts"]
    assert (info.rows_read, info.rows) == (4, 2)
    assert (info.rows_quarantined, info.rows_duplicate) == (1, 1), "both read as empty"
