"""MySQL as a source, against recorded answers: no server is asked.

`Recorded` stands in for the connection of PyMySQL. It knows which statements are expected, answers
each with recorded rows, and fails for any other statement.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from decimal import Decimal

import pymysql
import pytest
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from configs.runtime.errors import ConfigError, SourceError, UnavailableError
from features.sources.files.databases import mysql

COLUMNS = (
    "SELECT column_name FROM information_schema.columns "
    "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
)
TABLES = (
    "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables "
    "WHERE table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') "
    "ORDER BY 1"
)
NAMES = ["account_id", "happened", "event_id", "quantity", "feature", "secret"]
CELLS = ", ".join(f"COALESCE(HEX(CAST(`{name}` AS BINARY)), '-')" for name in NAMES)
HASH = (
    "SELECT COUNT(*), COALESCE(SUM(CAST(CONV(LEFT(MD5(CONCAT_WS(',', "
    f"{CELLS})), 15), 16, 10) AS UNSIGNED)), 0) FROM `crm`.`events`"
)
SELECT = "SELECT `account_id`, `happened`, `event_id`, `quantity`, `feature` FROM `crm`.`events`"
ROWS = [
    ("A1", datetime(2024, 3, 1, 10), 90071992547409931, Decimal("1.50"), "007"),
    ("A2", datetime(2024, 3, 2, 11), 90071992547409932, Decimal("2.00"), None),
    (None, datetime(2024, 3, 2, 11), 90071992547409933, None, "x"),
]
TYPES = [FIELD_TYPE.VAR_STRING, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.LONGLONG, FIELD_TYPE.NEWDECIMAL,
         FIELD_TYPE.VAR_STRING]  # fmt: skip


class Recorded:
    """A connection that replays recorded answers and keeps the statements sent."""

    def __init__(self, answers):
        self.answers, self.sent, self.is_closed = answers, [], False

    def cursor(self):
        return Cursor(self)

    def close(self):
        self.is_closed = True


class Cursor:
    def __init__(self, connection):
        self.connection, self.description, self.rows = connection, [], iter(())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, sql, values=None):
        self.connection.sent.append((sql, values) if values else sql)
        answer = [] if sql in mysql.SNAPSHOT else self.connection.answers[sql]
        if isinstance(answer, Exception):
            raise answer
        types = TYPES if sql == SELECT else [None] * 9
        self.description = [(None, kind) for kind in types]
        self.rows = iter(answer)

    def fetchall(self):
        return list(self.rows)

    def fetchmany(self, size):
        return [row for _, row in zip(range(min(size, 2)), self.rows, strict=False)]


ANSWERS = {COLUMNS: [(name,) for name in NAMES], HASH: [(3, Decimal(123))], SELECT: ROWS}


@pytest.fixture
def server(small, monkeypatch):
    """The recorded server, and the arguments of each connection."""
    small.connections["crm"] = "mysql://me:hunt%40er2@db.example:3307/crm?ssl_ca=/ca.pem"
    asked: list[dict] = []
    opened: list[Recorded] = []
    answers = dict(ANSWERS)

    def connect(**keys):
        asked.append(keys)
        opened.append(Recorded(answers))
        return opened[-1]

    monkeypatch.setattr(pymysql, "connect", connect)
    return answers, asked, opened


def load(small, table="events", zone="Europe/Berlin", **rest):
    mapping = {"columns": {"occurred_at": "happened"}, "timezone": zone}
    return small.load(
        {"usage_events": None},
        inputs={"usage_events": {"connection": "crm", "table": table}},
        tables={"usage_events": mapping},
        **rest,
    ).tables["usage_events"]


def test_the_statements_sent_and_the_rows_read(small, rows, server):
    _, asked, opened = server
    info = load(small)
    assert asked[0] == {
        "host": "db.example", "port": 3307, "user": "me", "password": "hunt@er2",
        "database": "crm", "charset": "utf8mb4", "cursorclass": SSCursor, "connect_timeout": 10,
        "ssl_ca": "/ca.pem",
    }  # fmt: skip
    snapshot = [
        "SET time_zone = '+00:00'",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ]
    columns = (COLUMNS, ("crm", "events"))
    assert opened[0].sent == [*snapshot, columns, HASH]
    assert opened[1].sent == [*snapshot, columns, SELECT], "the column `secret` is not read"
    assert all(item.is_closed for item in opened)
    assert (info.rows_read, info.rows, info.quarantined) == (3, 2, {"missing:account_id": 1})
    first, second = rows(info.path)
    assert (first["quantity"], second["quantity"], first["feature"]) == (1.5, 2, "007")
    assert first["occurred_at"] == datetime(2024, 3, 1, 10), "TIMESTAMP is UTC, not Berlin"


def test_an_unchanged_table_is_not_read_again(small, server):
    answers, _, opened = server
    said: list[str] = []
    for _ in range(2):
        load(small, progress=said.append)
    assert said[-1] == "usage_events: unchanged, 2 rows"
    answers[HASH] = [(3, Decimal(124))]
    load(small, progress=said.append)
    assert said[-1].startswith("usage_events: 2 of 3 rows kept")
    assert [SELECT in item.sent for item in opened] == [False, True, False, False, True]


def test_a_missing_table_names_the_closest(small, server):
    answers, *_ = server
    answers[COLUMNS] = []
    answers[TABLES] = [("crm.accounts",), ("crm.events",)]
    with pytest.raises(SourceError, match='did you mean "crm.events"'):
        load(small, "event")


def test_a_refusal_does_not_repeat_the_password(small, server, monkeypatch):
    answers, *_ = server
    answers[HASH] = pymysql.err.OperationalError(1142, "SELECT denied to me, hunt@er2")
    with pytest.raises(SourceError, match="cannot be read: SELECT denied") as caught:
        load(small)
    assert "hunt" not in str(caught.value)

    def refuse(**keys):
        raise pymysql.err.OperationalError(2003, f"no server for {keys['password']}")

    monkeypatch.setattr(pymysql, "connect", refuse)
    with pytest.raises(UnavailableError, match="crm does not answer") as unavailable:
        load(small)
    assert "hunt" not in str(unavailable.value)
    assert unavailable.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["mysql://me:hunter2@host:port/x", "mysql:///x", "mysql://h/x?local_infile=1"]
)
def test_a_url_that_is_not_valid_is_not_repeated(small, url):
    small.connections["crm"] = url
    with pytest.raises(ConfigError, match="URL of connection crm is not valid") as caught:
        load(small)
    assert "hunter2" not in str(caught.value)


def test_only_timestamps_have_a_zone():
    rows = [(datetime(2024, 1, 1), datetime(2024, 1, 1)), ("0000-00-00", date(2024, 1, 1))]
    found = list(mysql._in_utc(iter(rows), [0]))
    assert found[0] == [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)]
    assert found[1] == ["0000-00-00", date(2024, 1, 1)]


@pytest.mark.server
def test_a_table_of_a_server(small, rows):
    """Only with BELLWETHER_TEST_MYSQL, the URL of a database in which a table may be made."""
    address = os.environ.get("BELLWETHER_TEST_MYSQL")
    if address is None:
        pytest.skip("no MySQL: set BELLWETHER_TEST_MYSQL=mysql://USER@HOST/DATABASE")
    small.connections["crm"] = address
    connection = mysql.Connection("mysql", address, "BELLWETHER_TEST_MYSQL")
    session = mysql._connect(connection, "usage_events", None)
    with session.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bellwether_test_events")
        cursor.execute(
            "CREATE TABLE bellwether_test_events (account_id VARCHAR(9), happened TIMESTAMP, "
            "quantity DECIMAL(9, 2), feature VARCHAR(9) COLLATE utf8mb4_bin)"
        )
        cursor.execute("SET time_zone = '+02:00'")
        cursor.execute(
            "INSERT INTO bellwether_test_events VALUES ('A1', '2024-03-01 10:00:00', 1.5, '007'), "
            "('A2', '2024-03-02 10:00:00', NULL, NULL)"
        )
    session.commit()
    try:
        first, second = rows(load(small, "bellwether_test_events").path)
        assert (first["occurred_at"].hour, first["quantity"], first["feature"]) == (8, 1.5, "007")
        assert second["quantity"] is None
    finally:
        with session.cursor() as cursor:
            cursor.execute("DROP TABLE bellwether_test_events")
        session.close()
