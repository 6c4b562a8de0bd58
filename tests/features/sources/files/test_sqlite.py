"""SQLite files as sources."""

from __future__ import annotations

import sqlite3
from datetime import datetime

import pytest

from configs.runtime.errors import SourceError
from features.sources.files.databases.tables import table_names


@pytest.fixture
def file(small):
    path = small.data / "app.sqlite"
    with sqlite3.connect(path) as session:
        session.execute(
            'CREATE TABLE events (account_id TEXT, "at %" TEXT, quantity NUMERIC, feature, '
            "raw BLOB)"
        )
        session.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
            [
                ("A1", "2024-03-01 10:00:00", 1.5, "007", b"\xff\x00"),
                ("A2", "2024-03-02", 2, 7, b"x"),
                (None, "2024-03-02", None, None, None),
            ],
        )
        session.execute("CREATE VIEW recent AS SELECT * FROM events WHERE account_id = 'A2'")
    session.close()
    small.connections["app"] = f"sqlite:///{path}"
    return path


def load(small, table="events", **rest):
    columns = {"occurred_at": "at %", "product": "raw"}
    return small.load(
        {"usage_events": None},
        inputs={"usage_events": {"connection": "app", "table": table}},
        tables={"usage_events": {"columns": columns}},
        **rest,
    ).tables["usage_events"]


def test_a_table_and_a_view(small, rows, file):
    info = load(small)
    assert (info.rows_read, info.rows, info.quarantined) == (3, 2, {"missing:account_id": 1})
    first, second = rows(info.path)
    assert (first["quantity"], first["feature"], first["product"]) == (1.5, "007", "ff00")
    assert (second["quantity"], second["feature"], second["product"]) == (2, "7", "x")
    assert first["occurred_at"] == datetime(2024, 3, 1, 10)
    assert "feature: values of several types, read as text" in info.read["file_notes"]
    assert load(small, "main.recent").rows == 1


def test_a_changed_file_is_read_again_and_never_written(small, file):
    said: list[str] = []
    before = file.read_bytes()
    for _ in range(2):
        load(small, progress=said.append)
    assert said[-1] == "usage_events: unchanged, 2 rows"
    assert file.read_bytes() == before
    with sqlite3.connect(file) as session:
        session.execute("UPDATE events SET quantity = 9 WHERE account_id = 'A1'")
    session.close()
    load(small, progress=said.append)
    assert said[-1].startswith("usage_events: 2 of 3 rows kept")


def test_rows_in_the_log_of_a_running_program_are_read(small, file):
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    try:
        assert load(small).rows == 2
        writer.execute("INSERT INTO events VALUES ('A3', '2024-03-03', 1, 'x', NULL)")
        assert load(small).rows == 3
    finally:
        writer.close()


def test_a_text_that_is_not_utf8_is_noted(small, file):
    with sqlite3.connect(file) as session:
        session.execute("UPDATE events SET feature = CAST(X'63ff' AS TEXT)")
    session.close()
    assert "3 texts are not UTF-8, replaced by \ufffd" in load(small).read["file_notes"]


def test_a_missing_table_names_the_closest(small, file):
    with pytest.raises(SourceError, match='did you mean "events"'):
        load(small, "event")


def test_a_missing_file_lists_where_it_looked(small):
    small.connections["app"] = "sqlite:///nowhere.db"
    with pytest.raises(SourceError, match="SQLite file of connection app does not exist"):
        load(small)


@pytest.mark.parametrize("keep", [3_000, 40])
def test_a_damaged_file_is_named(small, file, keep):
    with sqlite3.connect(file) as session:
        session.executemany(
            "INSERT INTO events VALUES ('A1', ?, 1, 'x', NULL)", [[f"{n}"] for n in range(5_000)]
        )
    session.close()
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(SourceError, match="cannot be read") as caught:
        load(small)
    assert str(file) in caught.value.where
    assert "integrity_check" in caught.value.fix


def test_the_tables_of_a_file_are_listed(small, file):
    workspace = small.workspace({"usage_events": None})
    assert table_names(workspace, "app") == ["events", "recent"]
