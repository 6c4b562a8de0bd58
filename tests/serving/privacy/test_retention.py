"""Retention of files: what is old is removed, the latest always stays, readers keep open files."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.runtime.errors import StateError
from configs.runtime.state_directory import State, write_json_atomically
from configs.schema.company import FileRetention
from serving.privacy.retention import Removed, tidy_files

NOW = datetime(2026, 7, 1, 9, tzinfo=UTC)


@pytest.fixture
def state(tmp_path) -> State:
    state = State(tmp_path / "state")
    for run_id, days in (("r-old", 900), ("r-year", 400), ("r-month", 30), ("r-new", 1)):
        add_run(state, run_id, NOW - timedelta(days=days))
    write_json_atomically(state.scores / "latest.json", {"run_id": "r-new"})
    for day in ("2024-01-01", "2025-12-01", "2026-06-01"):
        (state.reports / f"{day}-abc123").mkdir(parents=True)
        (state.reports / f"{day}-abc123" / "report.html").write_text(day)
    add_quarantine(state.sources / "usage_events" / "quarantine.parquet", age_days=100)
    add_quarantine(state.sources / "accounts" / "quarantine.parquet", age_days=2)
    return state


def add_run(state: State, run_id: str, served_at: datetime) -> None:
    folder = state.scores / run_id
    folder.mkdir(parents=True)
    (folder / "scores.csv").write_text("rank,account_id\r\n1,A-1\r\n")
    (folder / "scores.parquet").write_bytes(b"x")
    write_json_atomically(
        folder / "manifest.json", {"run_id": run_id, "served_at": served_at.isoformat()}
    )


def add_quarantine(path: Path, age_days: int) -> None:
    path.parent.mkdir(parents=True)
    rows = [
        {"quarantine_row": 7, "quarantine_reasons": ["missing:name"], "quarantine_line": None,
         "Email": "jo@acme.example", "Id": "A-1"},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    changed_at = (NOW - timedelta(days=age_days)).timestamp()
    os.utime(path, (changed_at, changed_at))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*/")}


def test_defaults_remove_what_is_old_and_keep_the_latest(state):
    removed = tidy_files(state, FileRetention(), NOW, NOW)
    assert removed.books == ["scores/r-old"]
    assert removed.exports == ["scores/r-year/scores.csv"]
    assert removed.reports == ["reports/2024-01-01-abc123"]
    assert removed.quarantines == ["sources/usage_events/quarantine.parquet"]
    assert names(state.scores) == {"r-year", "r-month", "r-new"}
    assert (state.scores / "r-year" / "scores.parquet").is_file()
    assert names(state.reports) == {"2025-12-01-abc123", "2026-06-01-abc123"}
    assert "1 score runs removed: scores/r-old" in removed.lines
    assert tidy_files(state, FileRetention(), NOW, NOW) == Removed(), "there is nothing left to do"


def test_row_numbers_and_reasons_of_an_old_quarantine_stay(state):
    tidy_files(state, FileRetention(), NOW, NOW)
    [old] = pq.read_table(state.sources / "usage_events" / "quarantine.parquet").to_pylist()
    assert old == {"quarantine_row": 7, "quarantine_reasons": ["missing:name"],
                   "quarantine_line": None, "Email": None, "Id": None}  # fmt: skip
    [new] = pq.read_table(state.sources / "accounts" / "quarantine.parquet").to_pylist()
    assert new["Email"] == "jo@acme.example"


def test_the_latest_run_and_report_stay_however_old_they_are(state):
    later = NOW + timedelta(days=5_000)
    removed = tidy_files(state, FileRetention(), later, later)
    assert names(state.scores) == {"r-new"}
    assert (state.scores / "r-new" / "scores.csv").is_file()
    assert names(state.reports) == {"2026-06-01-abc123"}
    assert len(removed.books) == 3


def test_the_published_run_stays_when_a_later_run_is_not_published(state):
    write_json_atomically(state.scores / "latest.json", {"run_id": "r-old"})
    tidy_files(state, FileRetention(), NOW, NOW)
    assert {"r-old", "r-new"} <= names(state.scores)


def test_a_damaged_pointer_removes_nothing(state):
    (state.scores / "latest.json").write_text("[]")
    with pytest.raises(StateError, match="none was removed"):
        tidy_files(state, FileRetention(), NOW, NOW)
    assert names(state.scores) == {"r-old", "r-year", "r-month", "r-new"}


def test_null_keeps_everything_and_a_trial_changes_nothing(state):
    keeping = FileRetention(
        books_days=None, exports_days=None, reports_days=None, quarantine_days=None,
        raw_copies_days=None,
    )  # fmt: skip
    assert tidy_files(state, keeping, NOW, NOW) == Removed()
    listed = tidy_files(state, FileRetention(), NOW, NOW, is_trial=True)
    assert listed.books
    assert names(state.scores) == {"r-old", "r-year", "r-month", "r-new"}
    [row] = pq.read_table(state.sources / "usage_events" / "quarantine.parquet").to_pylist()
    assert row["Email"] == "jo@acme.example"


def test_a_reader_with_an_open_file_reads_on(state):
    quarantine = state.sources / "usage_events" / "quarantine.parquet"
    with (state.scores / "r-old" / "scores.csv").open() as export, quarantine.open("rb") as raw:
        tidy_files(state, FileRetention(), NOW, NOW)
        assert "A-1" in export.read()
        assert pq.read_table(raw).to_pylist()[0]["Email"] == "jo@acme.example"


def test_copies_of_a_killed_run_are_removed(state):
    left = state.sources / ".work.abcdefgh"
    left.mkdir()
    (left / "stored.csv").write_text("jo@acme.example")
    old = (NOW - timedelta(days=3)).timestamp()
    os.utime(left, (old, old))
    removed = tidy_files(state, FileRetention(), NOW, NOW)
    assert removed.raw_copies == ["sources/.work.abcdefgh"]
    assert not left.exists()
