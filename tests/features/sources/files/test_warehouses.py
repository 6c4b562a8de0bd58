"""Warehouses through ibis.

No warehouse is asked. The SELECT of every dialect is compiled and compared; the reader itself runs
with back ends of ibis that need no account: SQLite, and PostgreSQL where a server is there. (The
one of DuckDB calls a method that DuckDB 2 no longer has.)
"""

from __future__ import annotations

import sqlite3
import sys
from datetime import datetime
from types import SimpleNamespace

import ibis
import psycopg
import pytest

from configs.runtime.errors import ConfigError, SourceError, UnavailableError
from features.sources.files import databases
from features.sources.files.databases import warehouses
from tests.features.sources.files.test_databases import POSTGRES

URLS = {
    "snowflake": "snowflake://me:hunter22@account/db/schema?warehouse=w",
    "bigquery": "bigquery://project/dataset",
    "redshift": "redshift://me:hunter22@host:5439/db",
    "databricks": "databricks://token:hunter22@host/catalog/schema?http_path=/sql/1",
    "trino": "trino://me:hunter22@host:443/catalog/schema",
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("snowflake", 'SELECT "t0"."account_id", "t0"."at" FROM "crm"."EVENTS" AS "t0" '
         'WHERE "t0"."quantity" > 1'),
        ("bigquery", "SELECT `t0`.`account_id`, `t0`.`at` FROM `crm`.`EVENTS` AS `t0` "
         "WHERE `t0`.`quantity` > 1"),
        ("redshift", 'SELECT "t0"."account_id", "t0"."at" FROM "crm"."EVENTS" AS "t0" '
         'WHERE "t0"."quantity" > 1'),
        ("databricks", "SELECT `t0`.`account_id`, `t0`.`at` FROM `crm`.`EVENTS` AS `t0` "
         "WHERE `t0`.`quantity` > 1"),
        ("trino", 'SELECT "t0"."account_id", "t0"."at" FROM "crm"."EVENTS" AS "t0" '
         'WHERE "t0"."quantity" > 1'),
    ],
)  # fmt: skip
def test_one_select_with_the_columns_in_use_and_the_filter(kind, expected):
    schema = {"account_id": "string", "at": "timestamp", "quantity": "int64", "secret": "string"}
    table = ibis.table(schema, name="EVENTS", database="crm")
    found = warehouses.selected(table.filter(table.quantity > 1), ["account_id", "at"])
    assert " ".join(warehouses.sql_of(found, kind).split()) == expected


def fill(run):
    run(
        "CREATE TABLE events (account_id VARCHAR(9), happened TIMESTAMP, event_id VARCHAR(9), "
        "quantity DOUBLE PRECISION, secret VARCHAR(9))"
    )
    run(
        "INSERT INTO events VALUES ('A1', '2024-03-01 10:00:00', '007', 1.5, 's'), "
        "('A2', '2024-03-02 11:00:00', '8', NULL, 's'), "
        "(NULL, '2024-03-02 00:00:00', '9', 1, 's')"
    )


@pytest.fixture
def sqlite_backend(tmp_path):
    path = tmp_path / "w.sqlite"
    with sqlite3.connect(path) as session:
        fill(session.execute)
    session.close()
    return lambda: ibis.sqlite.connect(path), path


@pytest.fixture
def postgres_schema():
    address = POSTGRES.replace("+psycopg", "", 1)
    try:
        session = psycopg.connect(address, connect_timeout=3, autocommit=True)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL: see test_databases.py")
    session.execute("DROP SCHEMA IF EXISTS test_warehouse CASCADE")
    session.execute("CREATE SCHEMA test_warehouse")
    session.execute("SET search_path = test_warehouse")
    fill(session.execute)
    yield address
    session.execute("DROP SCHEMA test_warehouse CASCADE")
    session.close()


def load(small, kind="trino", table="events", **rest):
    small.connections["lake"] = URLS[kind]
    return small.load(
        {"usage_events": None},
        inputs={"usage_events": {"connection": "lake", "table": table}},
        tables={"usage_events": {"columns": {"occurred_at": "happened"}}},
        **rest,
    ).tables["usage_events"]


def check(rows, info):
    assert (info.rows_read, info.rows, info.quarantined) == (3, 2, {"missing:account_id": 1})
    first, second = rows(info.path)
    assert first["occurred_at"] == datetime(2024, 3, 1, 10)
    assert (first["quantity"], second["quantity"]) == (1.5, None)
    assert "quarantine_row" in rows(info.quarantine)[0]
    assert "secret" not in rows(info.quarantine)[0], "a column without use is not read"


def test_the_reader_with_the_back_end_of_sqlite(small, rows, monkeypatch, sqlite_backend):
    connect, _ = sqlite_backend
    monkeypatch.setattr(warehouses, "connect", lambda _: connect())
    check(rows, load(small, table="EVENTS"))


@pytest.mark.server
@pytest.mark.parametrize("table", ["test_warehouse.events", "test.test_warehouse.events"])
def test_the_reader_with_the_back_end_of_postgresql(
    small, rows, monkeypatch, postgres_schema, table
):
    monkeypatch.setattr(warehouses, "connect", lambda _: ibis.connect(postgres_schema))
    if table.count(".") == 2:
        with psycopg.connect(postgres_schema) as session:
            table = table.replace("test.", f"{session.info.dbname}.", 1)
    check(rows, load(small, table=table))


@pytest.mark.server
def test_the_reader_of_redshift_with_postgresql_in_its_place(
    small, rows, monkeypatch, postgres_schema
):
    """The statements for Redshift also run on PostgreSQL; its driver has the same interface."""
    asked: list[dict] = []

    def connect(**keys):
        asked.append(keys)
        return psycopg.connect(postgres_schema)

    monkeypatch.setitem(sys.modules, "redshift_connector", SimpleNamespace(connect=connect))
    check(rows, load(small, "redshift", "test_warehouse.events"))
    assert asked[0] == {
        "host": "host", "port": 5439, "database": "db", "user": "me", "password": "hunter22",
    }  # fmt: skip
    with pytest.raises(SourceError, match='did you mean "test_warehouse.events"'):
        load(small, "redshift", "test_warehouse.event")


def test_a_changed_table_is_read_again(small, monkeypatch, sqlite_backend):
    connect, path = sqlite_backend
    monkeypatch.setattr(warehouses, "connect", lambda _: connect())
    said: list[str] = []
    for change in (None, "secret = 't'", "quantity = 9"):
        if change:
            with sqlite3.connect(path) as session:
                session.execute(f"UPDATE events SET {change} WHERE account_id = 'A1'")
            session.close()
        load(small, progress=said.append)
    usage = [text for text in said if text.startswith("usage_events")]
    assert [text.split(":")[1].split(",")[0] for text in usage] == [
        " 2 of 3 rows kept", " unchanged", " 2 of 3 rows kept",
    ]  # fmt: skip


def test_a_missing_table_names_the_closest(small, monkeypatch, sqlite_backend):
    connect, _ = sqlite_backend
    monkeypatch.setattr(warehouses, "connect", lambda _: connect())
    with pytest.raises(SourceError, match='did you mean "events"'):
        load(small, table="event")
    with pytest.raises(SourceError, match="has no table main.zzz; it has 1: main.events"):
        load(small, table="main.zzz")


@pytest.mark.parametrize("kind", ["snowflake", "bigquery", "databricks", "trino", "redshift"])
def test_a_missing_package_names_the_extra(small, monkeypatch, kind):
    packages = {
        "snowflake": ["snowflake", "snowflake.connector"],
        "bigquery": ["google.cloud.bigquery"],
        "databricks": ["databricks", "databricks.sql"],
        "trino": ["trino"],
        "redshift": ["redshift_connector"],
    }
    for package in packages[kind]:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf"connection lake \({kind}\) needs the package"
    ) as caught:
        load(small, kind)
    assert caught.value.fix == f"pip install 'bellwether-cs[{kind}]'"


def test_without_ibis_the_extra_is_named_as_well(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "ibis", None)
    monkeypatch.delitem(sys.modules, "features.sources.files.databases.warehouses")
    monkeypatch.delattr(databases, "warehouses")
    with pytest.raises(ConfigError, match="needs the package ibis"):
        load(small, "snowflake")


def test_a_refusal_does_not_repeat_the_password(small, monkeypatch):
    def refuse(connection):
        raise RuntimeError(f"401 for {connection.url}\nhunter22")

    monkeypatch.setattr(warehouses, "connect", refuse)
    with pytest.raises(UnavailableError, match=r"lake does not answer or refuses") as caught:
        load(small)
    assert "hunter22" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_port_that_is_no_number_is_refused(small):
    small.connections["lake"] = "trino://me:hunter22@host:port/c/s"
    with pytest.raises(ConfigError, match="URL of connection lake is not valid") as caught:
        small.load(
            {"usage_events": None},
            inputs={"usage_events": {"connection": "lake", "table": "events"}},
        )
    assert "hunter22" not in str(caught.value)


def test_nothing_is_created_in_snowflake(monkeypatch):
    asked: list = []
    monkeypatch.setattr(ibis, "connect", lambda url, **keys: asked.append((url, keys)))
    warehouses.connect(SimpleNamespace(kind="snowflake", url=URLS["snowflake"]))
    assert asked == [(URLS["snowflake"], {"create_object_udfs": False})]
