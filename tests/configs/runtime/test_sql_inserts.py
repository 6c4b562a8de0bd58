"""Rows into tables: waiting for other writers, outages, and what the database refuses."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, select

from configs.runtime import database
from configs.runtime.database import UtcTime, connect, reading, writing
from configs.runtime.errors import UnavailableError
from configs.runtime.sql_inserts import PAGES_A_COMMIT, ROWS_AT_ONCE, WAL_PAGES, Appender

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


@pytest.fixture
def appender(engine: Engine) -> Iterator[Appender]:
    appender = Appender(engine, notes, NAMES)
    yield appender
    appender.close()


def rows(first: int, n: int) -> list[tuple[object, ...]]:
    return [(first + i, NOW, f"note {first + i}") for i in range(n)]


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(notes)).scalar_one())


def test_rows_come_back_as_they_were(engine: Engine, appender: Appender) -> None:
    appender.append(rows(0, 150))
    with reading(engine) as connection:
        found = connection.execute(select(notes).order_by(notes.c.id)).all()
    assert [tuple(row) for row in found] == rows(0, 150)
    appender.append(rows(150, 2 * ROWS_AT_ONCE + 88))
    assert count(engine) == 150 + 2 * ROWS_AT_ONCE + 88


def test_another_writer_is_waited_for_and_followed_at_once(
    engine: Engine, appender: Appender
) -> None:
    appender.append(rows(0, 1))
    after: list[float] = []

    def append() -> None:
        appender.append(rows(1, 1))
        after.append(time.perf_counter())

    waiting = threading.Thread(target=append)
    with writing(engine):
        waiting.start()
        time.sleep(0.8)  # by now SQLite alone would look every tenth of a second
        released = time.perf_counter()
    waiting.join(10)
    assert count(engine) == 2
    assert after[0] > released


def test_a_lock_that_is_never_given_up_is_told(
    engine: Engine, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with writing(engine), pytest.raises(UnavailableError, match="locked"):
        appender.append(rows(0, 1))
    appender.append(rows(0, 1))
    assert count(engine) == 1


def test_a_refused_row_costs_its_group_and_nothing_later(
    engine: Engine, appender: Appender
) -> None:
    appender.append(rows(0, 1))
    with pytest.raises(sqlite3.IntegrityError):
        appender.append([*rows(5, 3), *rows(0, 1)])
    with pytest.raises(UnicodeEncodeError):
        appender.append([*rows(5, 3), (9, NOW, "lone \ud800 surrogate")])
    assert count(engine) == 1
    appender.append(rows(5, 3))
    assert count(engine) == 4


def test_after_an_outage_it_connects_anew(engine: Engine, appender: Appender) -> None:
    appender.append(rows(0, 1))
    with writing(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE notes RENAME TO elsewhere")
    with pytest.raises(UnavailableError, match="no such table"):
        appender.append(rows(1, 1))
    with writing(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO notes")
    appender.append(rows(1, 1))
    assert count(engine) == 2


def test_what_it_holds_is_patient_for_nobody_else(engine: Engine, appender: Appender) -> None:
    appender.append(rows(0, 1))
    appender.close()
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000


def test_what_can_be_done_at_once_is_done(engine: Engine, appender: Appender) -> None:
    assert appender.append_at_once(rows(0, 3))
    assert appender.append_at_once(rows(3, ROWS_AT_ONCE))
    assert count(engine) == 3 + ROWS_AT_ONCE


def test_what_cannot_be_done_at_once_is_left_undone_and_waited_for_by_nobody(
    engine: Engine, appender: Appender
) -> None:
    appender.append(rows(0, 1))
    with writing(engine):
        started = time.perf_counter()
        assert not appender.append_at_once(rows(1, 2))
        assert time.perf_counter() - started < 0.5
    assert not appender.append_at_once([])
    assert not appender.append_at_once(rows(1, ROWS_AT_ONCE + 1))
    assert not appender.append_at_once([*rows(5, 1), *rows(0, 1)]), "one of them is there already"
    assert count(engine) == 1
    assert appender.append_at_once(rows(1, 2))


def log_pages(engine: Engine) -> tuple[int, int]:
    """Return the pages of SQLite's log, and those of them that were copied back."""
    with reading(engine) as connection:
        _, pages, copied = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
    return int(pages), int(copied)


def test_the_log_is_copied_back_when_it_is_long_and_not_within_a_commit(
    engine: Engine, appender: Appender
) -> None:
    n = WAL_PAGES // PAGES_A_COMMIT + 1
    for i in range(n):
        assert not appender.is_untidy
        appender.append(rows(i, 1))
    assert appender.is_untidy
    with reading(engine) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM notes").one()
        started = time.perf_counter()
        appender.tidy()
        assert appender.append_at_once(rows(-1, 1))
        assert time.perf_counter() - started < 2, "whoever reads holds nobody up"
    assert not appender.is_untidy
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
    appender.append(rows(n, 1))
    appender.tidy()
    appender.append(rows(n + 1, 1))
    pages, _ = log_pages(engine)
    assert 0 < pages < 10, "the log was begun anew"
    assert count(engine) == n + 3
