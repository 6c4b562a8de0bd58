"""The nightly refresh: readiness, what is kept and recorded, kills and resumption."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

import bellwether
from configs.runtime.state_directory import State
from configs.schema.workspace import open_workspace
from serving.batch.score_book import read_latest, read_table
from serving.commands.app import settings
from serving.monitoring.refresh_records import RefreshRecords, why_not_updated
from serving.online.server_state import ServerState
from serving.run.pipeline import run_company
from tests.serving.run.nightly_company import NightlyCompany, utc_today

pytestmark = pytest.mark.slow

ROOT = Path(bellwether.__file__).parent
TIMES = {"updated_at", "served_at", "scored_at", "score_id"}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def run_command(monkeypatch) -> Callable[..., Done]:
    def run(*words) -> Done:
        monkeypatch.setattr(sys, "argv", ["bellwether", *map(str, words)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                bellwether.main()
            except SystemExit as end:
                code = end.code or 0
        return Done(code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(settings, "is_debug", False)
    return run


def trained(folder: Path, *, is_pinned: bool) -> NightlyCompany:
    company = NightlyCompany(folder, utc_today(), is_pinned).write()
    workspace = open_workspace(company.folder, state=company.state)
    run_company(workspace, workspace.company.clock(), lambda _: None)
    return company


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> NightlyCompany:
    return trained(tmp_path_factory.mktemp("nightly"), is_pinned=True)


@pytest.fixture
def company(original, tmp_path) -> NightlyCompany:
    """A copy with a pinned clock, to be changed."""
    shutil.copytree(original.folder, tmp_path / "copy")
    return replace(original, folder=tmp_path / "copy")


@pytest.fixture
def live(company) -> NightlyCompany:
    """The same company, whose clock is the present."""
    live = replace(company, is_pinned=False)
    live.configure()
    return live


def rows_of(company: NightlyCompany) -> list[dict]:
    book = read_latest(State(company.state))
    assert book is not None
    rows = read_table(book).to_pylist()
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def latest(company: NightlyCompany):
    found = RefreshRecords(State(company.state)).latest()
    assert found is not None
    return found


def test_a_refresh_reports_what_it_did(company, run_command):
    later = company.forward()
    done = run_command("refresh", *later.options, "--json")
    assert done.code == 0, done
    told = json.loads(done.out)
    assert told == latest(later).as_dict()
    assert told["status"] == "scored"
    assert told["readiness"]["is_pinned"]
    assert told["readiness"]["targets"]["churn"]["level"] == "ready"
    assert told["tables"]["usage_events"]["new_rows"] > 50
    assert told["tables"]["accounts"] == {"rows": 60, "new_rows": 0, "built": "unchanged"}
    assert told["accounts_scored"] > 40
    assert told["run_id"] == read_latest(State(later.state)).run_id
    assert set(told["seconds"]) == {"load", "check", "score", "tidy"}
    listed = run_command("refresh", *later.options, "--history").out
    assert "scored" in listed
    assert json.loads(run_command("refresh", *later.options, "--history", "--json").out) == [told]


def test_a_refresh_as_text_names_tables_accounts_and_time(company, run_command):
    done = run_command("refresh", *company.forward().options)
    assert done.code == 0, done
    assert "readiness: churn ready (pinned clock)" in done.out
    assert "usage_events: +" in done.out
    assert "accounts scored: " in done.out
    assert "processor" in done.out


def test_complete_data_is_ready_by_the_present_clock(live, run_command):
    done = run_command("refresh", *live.options)
    assert done.code == 0, done
    assert "readiness: churn ready\n" in done.out


def test_data_that_is_late_keeps_yesterdays_book_and_says_so(live, run_command):
    assert run_command("refresh", *live.options).code == 0
    before = rows_of(live)
    for days in (1, 2):
        live.file_of(live.today - timedelta(days=days)).unlink()
    done = run_command("refresh", *live.options)
    assert done.code == 8, done
    assert "usage_events: late, no rows since" in done.out
    assert "to do: deliver the missing files" in done.out
    assert "nothing was scored; the results as of" in done.err
    assert rows_of(live) == before
    assert latest(live).status == "not_ready"
    assert "late" in why_not_updated(State(live.state))
    served = ServerState(open_workspace(live.folder, state=live.state))
    try:
        served.refresh()
        assert "usage_events: late" in served.notes["refresh"]
    finally:
        served.close()
    listed = run_command("refresh", *live.options, "--history").out
    assert "not ready, nothing scored: usage_events: late" in listed
    forced = run_command("refresh", *live.options, "--even-if-not-ready", "--json")
    assert forced.code == 0, forced
    assert json.loads(forced.out)["is_overridden"]
    assert why_not_updated(State(live.state)) == ""


def test_half_a_delivery_is_incomplete(live, run_command):
    assert run_command("refresh", *live.options).code == 0
    path = live.file_of(live.today - timedelta(days=1))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:6]))
    done = run_command("refresh", *live.options)
    assert done.code == 8, done
    assert "5 rows on" in done.out


def test_an_accounts_table_that_lost_accounts_is_not_ready(live, run_command):
    assert run_command("refresh", *live.options).code == 0
    live.write_accounts(50)
    done = run_command("refresh", *live.options)
    assert done.code == 8, done
    assert "accounts: 50 rows, 60 at the last refresh" in done.out


def test_an_error_is_recorded_and_keeps_the_book(company, run_command):
    before = rows_of(company)
    (company.folder / "subscriptions.csv").unlink()
    done = run_command("refresh", *company.options)
    assert done.code == 3, done
    assert rows_of(company) == before
    assert latest(company).status == "failed"
    assert "subscriptions does not exist" in latest(company).reason


def test_a_second_refresh_at_the_same_time_is_refused(company, run_command):
    with State(company.state).lock("test"):
        done = run_command("refresh", *company.options)
    assert done.code == 5, done
    assert "another run is writing to this state directory, so 'refresh' did not start" in done.err


def kill_at(moment: str, options) -> None:
    """Start a refresh and kill it, without any warning, when it has come to `moment`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bellwether", "refresh", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        for line in process.stdout:
            if moment in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL, f"the refresh never came to {moment!r}"


@pytest.fixture(scope="module")
def unharmed(original, tmp_path_factory) -> list[dict]:
    """The book after a refresh of the next day that was not killed."""
    folder = tmp_path_factory.mktemp("unharmed") / "copy"
    shutil.copytree(original.folder, folder)
    later = changed(replace(original, folder=folder))
    done = subprocess.run(
        [sys.executable, "-m", "bellwether", "refresh", *later.options], cwd=ROOT, check=False
    )
    assert done.returncode == 0
    return rows_of(later)


def changed(company: NightlyCompany) -> NightlyCompany:
    """Return the company of the next day, with a new account and a new day of events."""
    later = company.forward()
    with (company.folder / "accounts.csv").open("a") as handle:
        handle.write(f"A-99,{company.today - timedelta(days=3)},New\n")
    return later


@pytest.mark.parametrize(
    ("moment", "finished"),
    [
        ("accounts: 61", "accounts: unchanged"),  # in the middle of the load
        ("usage: building", "usage_events: unchanged"),
        ("scoring 61 accounts", "feature store: unchanged"),
        ("writing the scores", "feature store: unchanged"),
    ],
)
def test_a_killed_refresh_keeps_the_book_and_the_next_one_continues(
    company, run_command, unharmed, moment, finished
):
    before = rows_of(company)
    later = changed(company)
    kill_at(moment, later.options)
    assert rows_of(later) == before, "the book of yesterday is still published"
    done = run_command("refresh", *later.options)
    assert done.code == 0, done
    assert "did not finish; its finished steps are kept" in done.out
    assert finished in done.out
    assert rows_of(later) == unharmed
    records = RefreshRecords(State(later.state)).history()
    assert [item.status for item in records] == ["interrupted", "scored"]


def test_digests_of_a_book_are_the_same_until_the_next_one(company, run_command):
    later = company.forward()
    assert run_command("refresh", *later.options).code == 0
    first = run_command("digest", *later.options, "--json")
    assert first.code == 0, first
    assert run_command("digest", *later.options, "--json").out == first.out
    for made in json.loads(first.out):
        assert 1 <= len(made["lines"]) <= 5
    done = run_command("digest", *later.options, "--send")
    assert done.code == 2
    assert "BELLWETHER_SMTP_URL" in done.err
