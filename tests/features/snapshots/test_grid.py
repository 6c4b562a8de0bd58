"""Snapshots: rebuilt only when what was known changed, whole after any kill, always the same."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import features.signals
import features.snapshots.grid
from configs.runtime.errors import DataError
from configs.runtime.state_directory import MANIFEST, State
from configs.schema.company import parse_company
from configs.schema.workspace import Workspace
from features.signals import FAMILIES, feature_catalogue
from features.signals.declare import Aggregate, Feature
from features.snapshots.grid import (
    ACCOUNT_STATUS,
    Snapshots,
    build_snapshots,
    grid_days,
    read_snapshot,
)
from features.sources import load_sources
from features.tables.source_tables import ROW, TABLES, VERSIONS

NOW = datetime(2025, 3, 1, 6, tzinfo=UTC)
FEW = tuple(family for family in FAMILIES if family.name in {"journey", "payments"})


class Run:
    """One build, with what it said."""

    def __init__(self, workspace: Workspace, now: datetime = NOW) -> None:
        self.said: list[str] = []
        self.loaded = load_sources(workspace, now)
        self.snapshots = build_snapshots(workspace, self.loaded, now, self.said.append)

    @property
    def built(self) -> list[str]:
        """What was built: sets, and how many as_ofs of them."""
        return [words for words in self.said if "building" in words]


def files(snapshots: Snapshots) -> dict[tuple[str, date], tuple[int, int]]:
    """Which file holds each snapshot, and since when: a rebuilt one is another file."""
    return {
        (name, day): (item.path(day).stat().st_ino, item.path(day).stat().st_mtime_ns)
        for name, item in snapshots.sets.items()
        for day in snapshots.days
    }


def contents(snapshots: Snapshots) -> dict[tuple[str, date], bytes]:
    return {
        (name, day): item.path(day).read_bytes()
        for name, item in snapshots.sets.items()
        for day in snapshots.days
    }


@pytest.fixture
def few(monkeypatch) -> None:
    """Two families and where accounts stand: enough for how snapshots are kept."""
    monkeypatch.setattr(features.snapshots.grid, "FAMILIES", FEW)


def bill(number: int, name: str, on: str, amount: float, **others: object) -> dict[str, object]:
    named = {"account_id": name, "invoice_id": f"i{number}", "issued_on": on, "amount": amount}
    return {**named, "due_on": on, "paid_on": None} | others


BILLS = [
    bill(1, "a", "2024-11-10", 10),
    bill(2, "b", "2024-11-10", 20),
    bill(3, "a", "2025-01-10", 30),
    bill(4, "b", "2025-02-10", 40),
]
LEDGER = {
    "accounts": [{"account_id": name, "created_at": "2024-01-01"} for name in "abc"],
    "usage_events": [
        {"account_id": name, "occurred_at": f"2024-{month}-05T10:00:00"}
        for name in "ab"
        for month in ("02", "06", "12")
    ],
    "invoices": BILLS,
    "milestones": [
        {"account_id": "a", "milestone": "m", "occurred_on": "2024-02-01", "reached_on": None}
    ],
}
GRID = {"every": "month", "start_on": "2024-11-15"}  # December to March


@pytest.fixture
def ledger(company_of, tmp_path, few) -> Workspace:
    return company_of(tmp_path, LEDGER, grid=GRID)


# What is known by then, and only that


def export(tables: dict[str, pd.DataFrame], at: datetime) -> dict[str, pd.DataFrame]:
    """The raw files as they lay at a moment: rows known by then, values visible by then."""
    out = {}
    for name, frame in tables.items():
        rows = frame[frame["known_at"] <= at].copy()
        for column, spec in TABLES[name].columns.items():
            if spec.visible_from in {ROW, VERSIONS}:
                continue
            since = pd.to_datetime(frame.loc[rows.index, spec.visible_from])
            rows[column] = rows[column].astype(object).where(since < pd.Timestamp(at), None)
        out[name] = rows
    return out


@pytest.fixture(scope="module")
def landed(make_tables, company_of, tmp_path_factory):
    """Every family, before and after half a year of new data, and made from that data at once."""
    tables = make_tables(11, rows=60)
    tables["milestones"]["milestone"] = [f"m{place}" for place in range(60)]
    grid = {"every": "month", "start_on": "2024-10-01"}
    folder = tmp_path_factory.mktemp("landed")
    workspace = company_of(folder, export(tables, datetime(2025, 3, 1)), grid=grid)
    first = Run(workspace)
    before = files(first.snapshots), contents(first.snapshots)
    more = export(tables, datetime(2025, 9, 1))
    workspace = company_of(folder, more, grid=grid)
    second = Run(workspace)
    clean = Run(replace(workspace, state=State(folder / "clean")))
    return first, before, second, clean


def test_new_data_landed(landed):
    first, _, second, _ = landed
    for name in FAMILIES[0].tables:
        assert second.loaded.tables[name].rows > first.loaded.tables[name].rows
    assert set(first.snapshots.sets) == {family.name for family in FAMILIES} | {ACCOUNT_STATUS}
    assert not any("superseded" in info.quarantined for info in second.loaded.tables.values())


def test_snapshots_are_not_rebuilt_when_nothing_known_by_then_changed(landed):
    _, (held, _), second, _ = landed
    assert second.built == []
    assert files(second.snapshots) == held


def test_a_rebuild_after_new_data_gives_the_same_bytes(landed):
    """Values overwritten since, and rows known since, move nothing: for every family."""
    _, (_, held), _, clean = landed
    assert len(clean.built) == len(FAMILIES) + 1
    assert contents(clean.snapshots) == held


def test_snapshots_hold_what_they_say(landed):
    first, *_ = landed
    names = {item.name for item in feature_catalogue()} - set(first.snapshots.dropped)
    held = set()
    for name, item in first.snapshots.sets.items():
        rows = read_snapshot(first.snapshots, name, first.snapshots.book_on).to_pandas()
        assert rows["entity_id"].tolist() == list("abcdef")
        assert (rows["as_of"] == pd.Timestamp("2025-03-01", tz="UTC")).all()
        assert (rows["created_at"] == rows["as_of"]).all()
        features_of = [info.name for info in item.info]
        assert not np.isinf(rows[features_of].to_numpy(dtype=float)).any()
        held |= set(features_of)
    assert held == names == {item.name for item in first.snapshots.info}


def test_the_second_run_builds_nothing(ledger):
    first = Run(ledger)
    held = files(first.snapshots)
    second = Run(ledger)
    assert len(first.built) == 3
    assert second.built == []
    assert files(second.snapshots) == held
    assert second.snapshots == first.snapshots


def test_changed_code_is_a_new_version_of_every_set(ledger, monkeypatch):
    first = Run(ledger)
    monkeypatch.setattr("features.snapshots.grid.code_digest", lambda name: f"another {name}")
    second = Run(ledger)
    for name, item in second.snapshots.sets.items():
        assert item.version != first.snapshots.sets[name].version


def test_a_new_day_builds_only_itself(ledger):
    held = files(Run(ledger).snapshots)
    later = Run(ledger, NOW + timedelta(days=1))
    assert later.built == [
        f"{name}: building 1 of 5 snapshots" for name in (*(f.name for f in FEW), ACCOUNT_STATUS)
    ]
    assert files(later.snapshots).items() >= held.items()
    assert later.snapshots.book_on == date(2025, 3, 2)


def news(**tables: object) -> dict[str, object]:
    return LEDGER | tables


CORRECTED = news(invoices=[*BILLS[:2], bill(3, "a", "2025-01-10", 31), BILLS[3]])
SWAPPED = news(
    invoices=[bill(1, "a", "2024-11-10", 20), bill(2, "b", "2024-11-10", 10), *BILLS[2:]]
)
PAID = news(invoices=[bill(1, "a", "2024-11-10", 10, paid_on="2025-01-20"), *BILLS[1:]])
USED = news(
    usage_events=[*LEDGER["usage_events"], {"account_id": "a", "occurred_at": "2024-02-06T10:00"}]
)


def test_what_was_known_and_changed_is_rebuilt_and_nothing_else(ledger, company_of, tmp_path):
    Run(ledger)
    built = {}
    for name, tables in {
        "corrected": CORRECTED,
        "swapped": SWAPPED,
        "paid": PAID,
        "used": USED,
    }.items():
        shutil.copytree(ledger.state.root, tmp_path / name / "state")
        said = Run(company_of(tmp_path / name, tables, grid=GRID)).built
        built[name] = {words.split(":")[0]: words.split()[2] for words in said}
    assert built == {
        "corrected": {"payments": "2", ACCOUNT_STATUS: "2"},  # an amount of January
        "swapped": {"payments": "4", ACCOUNT_STATUS: "4"},  # every column holds what it held
        "paid": {"payments": "2", ACCOUNT_STATUS: "2"},  # a payment is news from its own day on
        "used": {ACCOUNT_STATUS: "4"},  # neither of the families reads usage
    }


def test_an_account_that_came_to_be_known_late_is_in_no_older_snapshot(company_of, tmp_path, few):
    early, late = "2024-01-01T00:00:00", "2025-02-10T00:00:00"
    accounts = [
        {"account_id": "a", "created_at": "2024-02-01T00:00:00", "known_at": early},
        {"account_id": "b", "created_at": "2024-01-01T00:00:00", "known_at": late},
        {"account_id": "c", "created_at": "2024-01-01T00:00:00", "known_at": early},
        # its beginning was corrected, with history
        {"account_id": "a", "created_at": "2023-02-01T00:00:00", "known_at": late},
    ]
    workspace = company_of(
        tmp_path, LEDGER | {"accounts": accounts}, grid=GRID, tables={"accounts": {"history": True}}
    )
    run = Run(workspace)
    by_day = {
        day: dict(
            zip(
                *read_snapshot(run.snapshots, ACCOUNT_STATUS, day)
                .select(["entity_id", "tenure_days"])
                .to_pydict()
                .values(),
                strict=True,
            )
        )
        for day in run.snapshots.days
    }
    assert by_day[date(2025, 2, 1)] == {"a": 366, "c": 397}
    assert by_day[date(2025, 3, 1)] == {"a": 759, "b": 425, "c": 425}


# Versions


def test_configuration_that_matters_is_a_new_version(ledger):
    def versions(**config: object) -> dict[str, str]:
        raw = ledger.company.model_dump(mode="json", by_alias=True) | config
        workspace = replace(ledger, company=parse_company(raw, where="test"))
        return {name: item.version for name, item in Run(workspace).snapshots.sets.items()}

    plain = versions()
    assert versions(title="Another title") == plain
    other = versions(cohort={"min_tenure_days": 7})
    assert {name for name in plain if plain[name] != other[name]} == {ACCOUNT_STATUS}
    other = versions(reporting_currency="CHF")
    assert {name for name in plain if plain[name] != other[name]} == set(plain)


def test_a_feature_added_in_one_file_is_in_the_catalogue_and_the_snapshots(ledger, monkeypatch):
    before = Run(ledger).snapshots
    added = Feature(
        "largest_invoice",
        Aggregate("invoices", lambda r: r.amount.max()),
        "largest invoice",
        "The largest invoice.",
        "money",
        "payments",
    )
    families = tuple(
        replace(family, columns=[*family.columns, added]) if family.name == "payments" else family
        for family in FEW
    )
    monkeypatch.setattr(features.signals, "FAMILIES", families)
    monkeypatch.setattr(features.snapshots.grid, "FAMILIES", families)
    assert "largest_invoice" in {item.name for item in feature_catalogue()}
    after = Run(ledger).snapshots
    rows = read_snapshot(after, "payments", after.book_on).to_pydict()
    assert rows["largest_invoice"] == [30.0, 40.0, 0.0]
    assert after.sets["payments"].version != before.sets["payments"].version
    assert after.sets["journey"].version == before.sets["journey"].version
    assert before.sets["payments"].path(before.book_on).exists()  # never restated


# Kills and leftovers

DYING = """
import os, signal, sys
from datetime import datetime, timezone
from pathlib import Path
import features.snapshots.grid as snapshots
from configs.schema.company import load_company
from configs.schema.workspace import Environment, Workspace
from configs.runtime.state_directory import State
from features.sources import load_sources

folder, now = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
state = State(folder / "state")
workspace = Workspace(load_company(folder), folder, folder / "data", state, Environment())
snapshots.FAMILIES = tuple(f for f in snapshots.FAMILIES if f.name in {"journey", "payments"})
write, written = snapshots.pq.write_table, []

def dying(table, path, **options):
    if Path(path).name != "part.parquet":
        return write(table, path, **options)
    written.append(path)
    if len(written) == 6:
        Path(path).write_bytes(b"PAR1 half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    write(table, path, **options)

snapshots.pq.write_table = dying
snapshots.build_snapshots(workspace, load_sources(workspace, now), now)
"""


def test_after_a_kill_the_next_run_completes_and_equals_a_clean_one(ledger, tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path), NOW.isoformat()],
        cwd=Path(features.__file__).parent.parent,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    leftovers = list(ledger.state.snapshots.glob("*/*/.*/part.parquet"))
    assert [path.read_bytes() for path in leftovers] == [b"PAR1 half of it"]
    done = Run(ledger)
    assert len(done.built) == 2  # one of the two families was whole, the other half done
    assert any("building 3 of 4" in words for words in done.built)
    assert not list(ledger.state.snapshots.glob("*/*/.*"))
    clean = Run(replace(ledger, state=State(tmp_path / "clean")))
    assert contents(done.snapshots) == contents(clean.snapshots)


def test_what_a_kill_leaves_is_neither_read_nor_kept(ledger):
    run = Run(ledger)
    held = contents(run.snapshots)
    item = run.snapshots.sets["payments"]
    for name in (".2024-12-01.x1y2", ".2024-12-01.old"):
        (item.folder / name).mkdir()
        (item.folder / name / "part.parquet").write_bytes(b"half")
    (item.folder / "2024-12-01" / MANIFEST).unlink()
    (item.folder / "2024-12-01" / "part.parquet").write_bytes(b"half")
    (item.folder / "2025-01-01" / MANIFEST).write_text('{"known"')
    found = item.folder.glob(item.glob.removeprefix(f"{item.folder}/"))
    assert sorted(path.parent.name for path in found) == [str(day) for day in run.snapshots.days]
    again = Run(ledger)
    assert again.built == ["payments: building 2 of 4 snapshots"]
    assert contents(again.snapshots) == held
    assert sorted(path.name for path in item.folder.iterdir()) == [
        str(day) for day in run.snapshots.days
    ]


# The grid


def grid_of(workspace: Workspace, **grid: object) -> Workspace:
    raw = workspace.company.model_dump(mode="json", by_alias=True) | {"grid": grid}
    return replace(workspace, company=parse_company(raw, where="test"))


def test_grids_of_months_and_weeks_end_with_the_book(ledger):
    now = datetime(2025, 3, 12, 15, tzinfo=UTC)
    months = grid_days(grid_of(ledger, every="month", start_on="2025-01-02"), date(2020, 1, 1), now)
    assert [str(day) for day in months] == ["2025-02-01", "2025-03-01", "2025-03-12"]
    weeks = grid_days(grid_of(ledger, every="week", start_on="2025-02-24"), date(2020, 1, 1), now)
    assert [str(day) for day in weeks] == ["2025-02-24", "2025-03-03", "2025-03-10", "2025-03-12"]
    monday = grid_days(
        grid_of(ledger, every="week", start_on="2025-02-24"),
        date(2020, 1, 1),
        datetime(2025, 3, 10, tzinfo=UTC),
    )
    assert str(monday[-1]) == "2025-03-10"
    assert len(monday) == 3
    default = grid_days(grid_of(ledger, every="month"), date(2024, 5, 3), now)
    assert str(default[0]) == "2024-11-01"  # 182 days later


def test_the_default_grid_starts_with_usage_however_old_the_invoices_are(company_of, tmp_path, few):
    old = [*BILLS, bill(5, "a", "2022-01-10", 10)]
    run = Run(company_of(tmp_path, LEDGER | {"invoices": old}))
    assert run.snapshots.days[0] == date(2024, 9, 1)  # 2024-02-06 and 182 days: 2024-08-06


@pytest.mark.parametrize(
    ("grid", "now", "where"),
    [
        ({}, datetime(2024, 8, 5, tzinfo=UTC), "the activity tables"),
        ({"start_on": "2026-01-01"}, NOW, "grid.start_on"),
    ],
)
def test_no_history_is_an_error_that_says_what_to_bring(ledger, grid, now, where):
    with pytest.raises(DataError, match="there is no history") as error:
        Run(grid_of(ledger, **grid), now)
    assert error.value.where == where
    assert "half a year of activity" in error.value.fix


# What is not there


def test_absent_tables_drop_features_and_say_so_never_zeros(company_of, tmp_path):
    bare = {name: LEDGER[name] for name in ("accounts", "invoices")}
    bare["invoices"] = [{k: v for k, v in row.items() if k != "paid_on"} for row in BILLS]
    run = Run(company_of(tmp_path, bare, grid=GRID))
    assert set(run.snapshots.sets) == {"payments", "journey", ACCOUNT_STATUS}
    dropped = run.snapshots.dropped
    built = {item.name for item in run.snapshots.info}
    assert built == {item.name for item in feature_catalogue()} - set(dropped)
    assert dropped["nps_last"] == "needs survey_responses"
    assert dropped["invoices_overdue"] == "needs invoices.paid_on"
    assert dropped["seat_use_28d"] == "needs subscriptions, usage_events"
    columns = pq.read_schema(run.snapshots.sets["journey"].path(run.snapshots.book_on)).names
    assert set(columns) == {
        "entity_id",
        "as_of_day",
        "as_of",
        "created_at",
        "tenure_days",
        "is_first_year",
    }


def test_money_in_other_currencies_is_reported_in_one(company_of, tmp_path, few):
    bills = [row | {"currency": "USD" if row["account_id"] == "b" else "EUR"} for row in BILLS]
    rates = [{"currency": "USD", "as_of_on": "2024-12-01", "rate": 0.5}]
    workspace = company_of(
        tmp_path, LEDGER | {"invoices": bills, "rates": rates}, grid=GRID, reporting_currency="EUR"
    )
    run = Run(workspace)
    arr = read_snapshot(run.snapshots, ACCOUNT_STATUS, run.snapshots.book_on)["arr"].to_pylist()
    assert arr == [40.0, 30.0, 0.0]
    # a rate that comes later changes what was invoiced after it, and nothing else
    later = [*rates, {"currency": "USD", "as_of_on": "2025-02-01", "rate": 1.0}]
    more = company_of(
        tmp_path, LEDGER | {"invoices": bills, "rates": later}, grid=GRID, reporting_currency="EUR"
    )
    again = Run(more)
    assert again.built == [
        f"{name}: building 1 of 4 snapshots" for name in ("payments", ACCOUNT_STATUS)
    ]
    arr = read_snapshot(again.snapshots, ACCOUNT_STATUS, again.snapshots.book_on)["arr"].to_pylist()
    assert arr == [40.0, 50.0, 0.0]
