"""Tables of several files: only new files are read, and the rows are those of a full build."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from configs.runtime.state_directory import State
from features.snapshots.daily_store import daily_files, daily_tables, fact_prints
from features.sources import load_sources
from features.sources.per_file import table
from features.sources.per_file.plan import plan_groups
from features.tables.duckdb_engine import connect

NOW = datetime(2024, 7, 1, tzinfo=UTC)
ACCOUNTS = "account_id,created_at\nA1,2024-01-01\nA2,2024-01-02\nA3,2024-01-03\n"
HEADER = "account_id,user_id,occurred_at,feature,event_id\n"
TICKETS = "account_id,ticket_id,opened_at,resolved_at,updated\n"
START = datetime(2024, 2, 20)


def events(day: int, *extra: str) -> str:
    at = START + timedelta(days=day)
    rows = [f"A{i},u{i},{at + timedelta(hours=i):%Y-%m-%d %H:%M:%S},f,{day}-{i}" for i in (1, 2, 3)]
    return HEADER + "".join(f"{row}\n" for row in [*rows, *extra])


def tickets(day: int, *rows: str) -> str:
    at = START + timedelta(days=day)
    first = f"A1,T{day},{at:%Y-%m-%d} 09:00:00,,{at:%Y-%m-%d} 10:00:00"
    return TICKETS + "".join(f"{row}\n" for row in [first, *rows])


class Delivery:
    """A company whose events and tickets arrive in one file per day."""

    def __init__(self, small) -> None:
        self.small = small
        self.data = small.data
        (self.data / "accounts.csv").write_text(ACCOUNTS)
        for name in ("usage", "tickets"):
            (self.data / name).mkdir()
        for day in range(12):
            self.write("usage", day, events(day))
            self.write("tickets", day, tickets(day))
        self.said: list[str] = []

    def write(self, folder: str, day: int, text: str) -> None:
        (self.data / folder / f"{day:03d}.csv").write_text(text)

    @property
    def workspace(self):
        return self.small.workspace(
            {"accounts": None, "usage_events": None},
            inputs={
                "accounts": "accounts.csv",
                "usage_events": "usage/*.csv",
                "support_tickets": "tickets/*.csv",
            },
            tables={"support_tickets": {"known_at": "updated"}},
        )

    def load(self):
        self.said = []
        return load_sources(self.workspace, NOW, self.said.append)

    def clean(self):
        """Load everything again into an empty state directory."""
        state = State(self.small.folder / "clean")
        shutil.rmtree(state.root, ignore_errors=True)
        return load_sources(replace(self.workspace, state=state), NOW)

    def in_one_file(self, folder: str, table: str, header: str):
        """Load the same rows from one file, which is read in one piece."""
        parts = [path.read_text() for path in sorted((self.data / folder).glob("*.csv"))]
        (self.data / "one.csv").write_text(header + "".join(p.removeprefix(header) for p in parts))
        workspace = self.workspace
        inputs = dict(workspace.company.inputs)
        inputs[table] = inputs["accounts"].model_copy(update={"file": "one.csv"})
        company = workspace.company.model_copy(update={"inputs": inputs})
        state = State(self.small.folder / f"one_{table}")
        shutil.rmtree(state.root, ignore_errors=True)
        return load_sources(replace(workspace, company=company, state=state), NOW)


@pytest.fixture
def delivery(small):
    return Delivery(small)


def rows(info) -> list[tuple]:
    files = [str(path) for path in info.files]
    return sorted(
        duckdb.connect().execute("SELECT * FROM read_parquet(?)", [files]).fetchall(), key=str
    )


def counts(info) -> dict:
    names = ("rows", "rows_read", "rows_quarantined", "rows_duplicate", "quarantined", "months")
    return {name: getattr(info, name) for name in names}


def assert_same_as_full(delivery, loaded) -> None:
    clean = delivery.clean()
    for name in ("usage_events", "support_tickets"):
        ours, theirs = loaded.tables[name], clean.tables[name]
        assert rows(ours) == rows(theirs)
        assert counts(ours) == counts(theirs)
    for folder, name, header in (
        ("usage", "usage_events", HEADER), ("tickets", "support_tickets", TICKETS),
    ):  # fmt: skip
        whole = delivery.in_one_file(folder, name, header).tables[name]
        assert len(whole.parts) == 1
        assert rows(loaded.tables[name]) == rows(whole)
        assert counts(loaded.tables[name]) == counts(whole)


def built(delivery, table: str) -> str:
    return next(text for text in delivery.said if text.startswith(table))


def test_a_new_file_alone_is_read(delivery):
    assert_same_as_full(delivery, delivery.load())
    delivery.write("usage", 12, events(12))
    loaded = delivery.load()
    assert "1 of 13 files read" in built(delivery, "usage_events")
    assert built(delivery, "support_tickets").startswith("support_tickets: unchanged")
    assert_same_as_full(delivery, loaded)


def test_late_redelivered_and_repeated_rows_are_found_across_files(delivery):
    delivery.load()
    late = "A1,u9,2024-02-21 23:00:00,late,9-9"
    again = "A2,u2,2024-02-22 02:00:00,g,2-2"  # the id of a row of file 2, other content
    copy = "A3,u3,2024-02-23 03:00:00,f,3-3"
    delivery.write("usage", 12, events(12, late, again, copy))
    newer = "A1,T3,2024-02-23 09:00:00,2024-03-01 09:00:00,2024-03-04 10:00:00"
    delivery.write("tickets", 12, tickets(12, newer))
    loaded = delivery.load()
    assert loaded.tables["usage_events"].quarantined == {"delivered_again": 1}
    assert loaded.tables["usage_events"].rows_duplicate == 1
    assert loaded.tables["support_tickets"].quarantined == {"superseded": 1}
    assert_same_as_full(delivery, loaded)
    aside = duckdb.connect().execute(
        "SELECT quarantine_reasons, ticket_id FROM read_parquet(?)",
        [str(loaded.tables["support_tickets"].quarantine)],
    )
    assert aside.fetchall() == [(["superseded"], "T3")]


def test_a_corrected_and_a_removed_file_give_the_rows_of_a_full_build(delivery):
    delivery.write("usage", 12, events(12, "A2,u2,2024-02-22 02:00:00,f,2-2"))
    delivery.load()
    delivery.write("usage", 12, events(12).replace(",f,", ",g,"))
    loaded = delivery.load()
    assert loaded.tables["usage_events"].quarantined == {}
    assert_same_as_full(delivery, loaded)
    delivery.write("usage", 13, events(13, "A2,u2,2024-02-22 02:00:00,f,2-2"))
    delivery.load()
    (delivery.data / "usage" / "002.csv").unlink()
    loaded = delivery.load()
    assert loaded.tables["usage_events"].quarantined == {}, "the row of the removed file counts now"
    assert_same_as_full(delivery, loaded)


def test_repeats_are_found_after_a_run_that_was_killed_before_it_merged(delivery, monkeypatch):
    delivery.load()
    delivery.write("usage", 12, events(12, "A2,u2,2024-02-22 02:00:00,g,2-2"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(table, "_merged", killed)
        with pytest.raises(KeyboardInterrupt):
            delivery.load()
    loaded = delivery.load()
    assert "0 of 13 files read" in built(delivery, "usage_events")
    assert loaded.tables["usage_events"].quarantined == {"delivered_again": 1}
    assert_same_as_full(delivery, loaded)


def test_rows_of_an_account_that_arrives_later_are_kept_then(delivery):
    delivery.write("usage", 12, events(12, "A4,u4,2024-03-03 10:00:00,f,12-4"))
    loaded = delivery.load()
    assert loaded.tables["usage_events"].quarantined == {"unknown_account": 1}
    (delivery.data / "accounts.csv").write_text(ACCOUNTS + "A4,2024-03-01\n")
    loaded = delivery.load()
    assert "files read" in built(delivery, "usage_events")
    assert loaded.tables["usage_events"].quarantined == {}
    assert_same_as_full(delivery, loaded)


def test_an_account_without_rows_in_a_file_does_not_make_it_read_again(delivery):
    delivery.load()
    (delivery.data / "accounts.csv").write_text(ACCOUNTS + "A9,2024-03-01\n")
    delivery.load()
    assert "0 of 12 files read" in built(delivery, "usage_events")


def test_formats_that_need_all_files_are_decided_over_all_and_said_so(delivery):
    delivery.load()
    text = events(12).replace("2024-03-03 ", "13/03/2024 ")
    delivery.write("usage", 12, text)
    loaded = delivery.load()
    assert "read in full: the format of occurred_at is decided over all files" in built(
        delivery, "usage_events"
    )
    assert_same_as_full(delivery, loaded)
    delivery.write("usage", 13, events(13))
    loaded = delivery.load()
    assert "read in full" in built(delivery, "usage_events")
    assert_same_as_full(delivery, loaded)


def test_repeated_ids_that_are_not_mapped_are_found_across_files(delivery):
    for day in range(12):
        delivery.write("usage", day, events(day).replace("event_id", "message_id"))
    delivery.load()
    again = "A2,u2,2024-02-22 02:00:00,g,2-2"
    delivery.write("usage", 12, events(12, again).replace("event_id", "message_id"))
    loaded = delivery.load()
    found = loaded.tables["usage_events"].read["repeated_ids"]
    assert found == {"message_id": {"ids": 39, "repeated": 1, "rows": 1}}
    header = HEADER.replace("event_id", "message_id")
    whole = delivery.in_one_file("usage", "usage_events", header)
    assert whole.tables["usage_events"].read["repeated_ids"] == found


def test_only_the_months_of_new_rows_are_converted_again(delivery):
    def convert():
        loaded, workspace = delivery.load(), delivery.workspace
        engine = connect(workspace.state.scratch)
        daily, _, _ = daily_tables(engine, workspace, loaded, lambda _: None)
        table = daily["usage_events"].to_pandas()
        files = {
            p.parent.name: p.stat().st_ino for p in daily_files(workspace.state, "usage_events")
        }
        prints = fact_prints(workspace.state, daily, [NOW.date()])
        return sorted(table.itertuples(index=False, name=None)), files, prints

    _, before, _ = convert()
    assert set(before) == {"2024-02", "2024-03"}
    delivery.write("usage", 12, events(12))
    ours, after, prints = convert()
    assert after["2024-02"] == before["2024-02"]
    assert after["2024-03"] != before["2024-03"]
    delivery.write("usage", 13, events(13, "A1,u9,2024-02-21 23:00:00,late,9-9"))
    ours, last, prints = convert()
    assert last["2024-02"] != after["2024-02"]
    shutil.rmtree(delivery.workspace.state.root)
    theirs, _, clean_prints = convert()
    assert ours == theirs
    assert prints == clean_prints


def test_groups_keep_their_files_together_and_in_order():
    files = [{"file": f"{n:02d}", "size": 1, "mtime_ns": 0, "sha256": str(n)} for n in range(5)]
    first = plan_groups(files[:3], {})
    assert [group.names for group in first] == [("00", "01", "02")]
    held = {group.content: group.names for group in first}
    assert [g.names for g in plan_groups(files, held)] == [("00", "01", "02"), ("03", "04")]
    corrected = [files[0], {**files[1], "sha256": "x"}, files[2]]
    assert [g.names for g in plan_groups(corrected, held)] == [("00", "01", "02")]
    between = [files[0], {**files[4], "file": "00b"}, *files[1:3]]
    assert [g.names for g in plan_groups(between, held)] == [("00", "00b", "01", "02")]
