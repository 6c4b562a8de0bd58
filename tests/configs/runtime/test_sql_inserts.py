"""Rows into tables: waiting for other writers, outages, and what the database refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, select
from sqlalchemy.exc import IntegrityError

from configs.runtime import database
from configs.runtime.database import UtcTime, connect, reading, writing
from configs.runtime.errors import UnavailableError
from configs.runtime.sql_inserts import ROWS_AT_ONCE, insert_many

metadata = MetaData()
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("text", String(40), nullable=False),
)
NAMES = ("id", "at", "text")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(None, tmp_path / "notes.db")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def append(engine: Engine, records: list[tuple[object, ...]]) -> None:
    with writing(engine) as connection:
        insert_many(connection, notes, NAMES, records)


def rows(first: int, n: int) -> list[tuple[object, ...]]:
    return [(first + i, NOW, f"note {first + i}") for i in range(n)]


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(notes)).scalar_one())


def test_rows_come_back_as_they_were(engine: Engine) -> None:
    append(engine, rows(0, 150))
    with reading(engine) as connection:
        found = connection.execute(select(notes).order_by(notes.c.id)).all()
    assert [tuple(row) for row in found] == rows(0, 150)
    append(engine, rows(150, 2 * ROWS_AT_ONCE + 88))
    assert count(engine) == 150 + 2 * ROWS_AT_ONCE + 88


def test_another_writer_is_waited_for_and_followed_at_once(engine: Engine) -> None:
    append(engine, rows(0, 1))
    after: list[float] = []

    def wait() -> None:
        append(engine, rows(1, 1))
        after.append(time.perf_counter())

    waiting = threading.Thread(target=wait)
    with writing(engine):
        waiting.start()
        time.sleep(0.8)  # by now SQLite alone would look every tenth of a second
        released = time.perf_counter()
    waiting.join(10)
    assert count(engine) == 2
    assert after[0] > released


def test_a_lock_that_is_never_given_up_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with writing(engine), pytest.raises(UnavailableError, match="locked"):
        append(engine, rows(0, 1))
    append(engine, rows(0, 1))
    assert count(engine) == 1


def test_a_refused_row_costs_its_group_and_nothing_later(engine: Engine) -> None:
    append(engine, rows(0, 1))
    with pytest.raises(IntegrityError):
        append(engine, [*rows(5, 3), *rows(0, 1)])
    with pytest.raises(UnicodeEncodeError):
        append(engine, [*rows(5, 3), (9, NOW, "lone \ud800 surrogate")])
    assert count(engine) == 1
    append(engine, rows(5, 3))
    assert count(engine) == 4


def test_after_an_outage_it_connects_anew(engine: Engine) -> None:
    append(engine, rows(0, 1))
    with writing(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE notes RENAME TO elsewhere")
    with pytest.raises(UnavailableError, match="no such table"):
        append(engine, rows(1, 1))
    with writing(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO notes")
    append(engine, rows(1, 1))
    assert count(engine) == 2
