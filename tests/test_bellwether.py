"""The front door: what a person sees who gives a command something it cannot work with."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.main import get_command

import bellwether
import serving.commands.score
from configs.runtime.errors import ConfigError, StateError
from configs.runtime.state_directory import State
from configs.schema.company import load_company
from configs.schema.workspace import open_workspace
from features.feast_store import FeastStore
from features.snapshots import grid
from serving.batch.score_book import ScoreRun, read_latest, read_table
from serving.commands.app import app, settings
from serving.commands.console import Output, lines_of
from serving.run.pipeline import run_company
from training.registry.releases import read_current

ROOT = Path(bellwether.__file__).parent
BOOK_ON = date(2026, 3, 2)
COMMANDS = sorted(get_command(app).commands)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What it said on the error stream, on one line."""
        return " ".join(self.err.split())


@pytest.fixture
def run_command(monkeypatch) -> Callable[..., Done]:
    def run(*words) -> Done:
        monkeypatch.setattr(sys, "argv", ["bellwether", *map(str, words)])
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                bellwether.main()
            except SystemExit as end:
                code = end.code
        return Done(code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(settings, "is_debug", False)
    return run


def tables() -> dict[str, pd.DataFrame]:
    """Sixty accounts under monthly terms; every fourth fades and leaves, spread over a year."""
    accounts, subscriptions, usage = [], [], []
    for i in range(60):
        began = BOOK_ON - timedelta(days=500 + i)
        leaves = i % 4 == 0
        until = BOOK_ON - timedelta(days=20 + 5 * i) if leaves else BOOK_ON
        accounts.append((f"A-{i:02d}", began, f"Company {i}"))
        subscriptions.append(
            (f"A-{i:02d}", f"S-{i}", began, until if leaves else None, 1_000 * (1 + i % 7), "GBP")
        )
        for age in range(0, (until - began).days, 7):
            fading = leaves and (until - began).days - age < 70
            for user in range(1 if fading else 2 + i % 3):
                usage.append((f"A-{i:02d}", f"{i}-{user}", began + timedelta(days=age), "report"))
    return {
        "accounts": pd.DataFrame(accounts, columns=["account_id", "created_at", "name"]),
        "subscriptions": pd.DataFrame(
            subscriptions,
            columns=["account_id", "subscription_id", "started_on", "ended_on", "arr", "currency"],
        ),
        "usage_events": pd.DataFrame(
            usage, columns=["account_id", "user_id", "occurred_at", "feature"]
        ),
    }


def company(**changes) -> dict:
    return {
        "name": "tiny",
        "now": f"{BOOK_ON}T00:00:00Z",
        "reporting_currency": "GBP",
        "inputs": {name: f"{name}.csv" for name in ("accounts", "subscriptions", "usage_events")},
        "grid": {"every": "month", "start_on": "2025-04-01"},
        "targets": {
            "churn": {"outcome": "churn", "observed_in": "subscriptions", "horizon_days": 31}
        },
        "training": {
            "folds": 2,
            "fold_days": 61,
            "model_seeds": 1,
            "bootstrap_draws": 100,
            "threads": 1,
            "tuning": {"trials": 0},
        },
        **changes,
    }


@dataclass(frozen=True)
class Tiny:
    """A company of three small files, to be spoiled."""

    folder: Path

    def configure(self, **changes) -> Tiny:
        (self.folder / "company.yaml").write_text(yaml.safe_dump(company(**changes)))
        return self

    def write(self, **frames) -> Tiny:
        for name, frame in frames.items():
            frame.to_csv(self.folder / f"{name}.csv", index=False)
        return self

    @property
    def options(self) -> tuple[str, ...]:
        return (str(self.folder), "--state", str(self.folder / "state"))


@pytest.fixture
def tiny(tmp_path) -> Tiny:
    return Tiny(tmp_path).configure().write(**tables())


def absent_column(tiny):
    frame = tables()["usage_events"].drop(columns="occurred_at")
    tiny.write(usage_events=frame)


def wrong_type(tiny):
    tiny.write(accounts=tables()["accounts"].assign(created_at="soon"))


def empty_table(tiny):
    tiny.write(usage_events=tables()["usage_events"].head(0))


def no_rows_no_header(tiny):
    (tiny.folder / "usage_events.csv").write_bytes(b"")


def one_account(tiny):
    tiny.write(accounts=tables()["accounts"].head(1))


def grid_before_any_data(tiny):
    tiny.configure(grid={"every": "month", "start_on": "1990-01-01"})


def grid_after_now(tiny):
    tiny.configure(grid={"every": "month", "start_on": "2031-01-01"})


def unknown_key(tiny):
    tiny.configure(grid={"evry": "month"})


def unknown_target_key(tiny):
    tiny.configure(
        targets={"churn": {"outcome": "churn", "observed_in": "subscriptions", "horizon_day": 3}}
    )


def no_yaml(tiny):
    (tiny.folder / "company.yaml").write_text("a: [1")


def packed(tiny, content):
    inputs = {name: f"{name}.csv" for name in ("accounts", "subscriptions")}
    tiny.configure(inputs={**inputs, "usage_events": "usage_events.csv.gz"})
    (tiny.folder / "usage_events.csv.gz").write_bytes(content)


def cut_short(tiny):
    packed(tiny, gzip.compress((tiny.folder / "usage_events.csv").read_bytes())[:-200])


def not_packed(tiny):
    packed(tiny, (tiny.folder / "usage_events.csv").read_bytes())


def key_twice(tiny):
    with (tiny.folder / "company.yaml").open("a") as handle:
        handle.write("name: other\n")


def too_deep(tiny):
    with (tiny.folder / "company.yaml").open("a") as handle:
        handle.write(f"about: {'[' * 5000}\n")


def mistakes_in_two_tables(tiny):
    tiny.write(subscriptions=tables()["subscriptions"].drop(columns="started_on"))
    absent_column(tiny)


def unknown_column_in_mapping(tiny):
    tiny.configure(tables={"usage_events": {"columns": {"occurred_at": "hapened_at"}}})


def nobody_leaves(tiny):
    tiny.write(subscriptions=tables()["subscriptions"].assign(ended_on=None))


BAD_COMPANIES = [
    (lambda tiny: (tiny.folder / "accounts.csv").unlink(), 3, r"accounts\.csv"),
    (absent_column, 3, "usage_events.*occurred_at"),
    (wrong_type, 3, "accounts: none of the 60 rows.*created_at"),
    (empty_table, 4, "usage_events"),
    (no_rows_no_header, 3, r"usage_events\.csv"),
    (one_account, 4, "accounts: 1"),
    (grid_before_any_data, 2, "1990-01-01, is before the first data"),
    (grid_after_now, 4, "2031-01-01"),
    (unknown_key, 2, 'grid.evry: unknown key; did you mean "every"'),
    (unknown_target_key, 2, 'horizon_day: unknown key; did you mean "horizon_days"'),
    (no_yaml, 2, "not readable as YAML"),
    (unknown_column_in_mapping, 3, "hapened_at"),
    (cut_short, 3, "gzip file is truncated"),
    (not_packed, 3, "not compressed with gzip"),
    (key_twice, 2, "the key 'name' is repeated"),
    (too_deep, 2, "nested more than 40 levels deep"),
    (mistakes_in_two_tables, 3, "2 mistakes:.*started_on.*occurred_at"),
    (nobody_leaves, 4, "churn"),
]


@pytest.mark.parametrize(
    ("spoil", "code", "words"), BAD_COMPANIES, ids=lambda item: getattr(item, "__name__", "")
)
def test_bad_input_is_told_with_place_and_remedy(tiny, run_command, spoil, code, words):
    spoil(tiny)
    assert_told(run_command("run", *tiny.options), code, words)


def assert_told(done: Done, code: int, words: str) -> None:
    assert re.search(words, done.complaint), done
    assert done.code == code, done
    assert "  where: " in done.err, done
    assert "  to do: " in done.err, done
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err


def test_an_unknown_company_is_told_with_the_closest_one(run_command):
    done = run_command("check", "ravenstak")
    assert_told(done, 2, "no company folder 'ravenstak'.*did you mean \"ravenstack\"")


def test_a_data_folder_that_is_not_there_is_told(tiny, run_command):
    done = run_command("run", *tiny.options, "--data", tiny.folder / "elsewhere")
    assert_told(done, 2, "data folder does not exist")


@pytest.mark.parametrize("command", ["score", "report", "promote", "refresh", "serve"])
def test_steps_that_come_later_say_which_comes_first(tiny, run_command, command):
    assert_told(run_command(command, *tiny.options), 5, "bellwether (run|train) ")


def test_a_refresh_without_earlier_results_says_so(tiny, run_command):
    assert "there are no earlier results" in run_command("refresh", *tiny.options).err


def test_there_is_nothing_to_roll_back_to(tiny, run_command):
    done = run_command("rollback", *tiny.options)
    assert done.code == 5
    assert "no earlier release" in done.err


def test_a_second_run_on_the_same_state_is_refused_at_once(tiny, run_command):
    with State(tiny.folder / "state").lock("run"):
        done = run_command("run", *tiny.options)
    assert_told(done, 5, "another run is writing to this state directory")


def test_an_error_of_the_work_is_not_mistaken_for_the_lock(tmp_path):
    with pytest.raises(PermissionError), State(tmp_path).lock("run"):
        raise PermissionError(13, "Permission denied", "elsewhere")
    with State(tmp_path).lock("run"):
        assert (tmp_path / ".lock").exists()


def test_a_state_directory_that_cannot_be_made_is_told(tiny, run_command):
    state = tiny.folder / "accounts.csv" / "state"
    done = run_command("check", tiny.folder, "--state", state)
    assert_told(done, 5, "state directory cannot be written: Not a directory")


@pytest.fixture
def as_somebody() -> Iterator[None]:
    """The administrator may write anywhere, so somebody else asks."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_state_directory_is_told(tmp_path, request):
    tmp_path.chmod(0o555)
    request.getfixturevalue("as_somebody")
    lock = State(tmp_path).lock("run")
    with pytest.raises(StateError, match="cannot be written: Permission denied") as told:
        lock.__enter__()
    assert told.value.where == str(tmp_path)
    assert "--state" in told.value.fix


def test_nothing_a_command_keeps_is_readable_to_others(tiny, tmp_path):
    """In a process with the usual mask, for a state that an earlier version left open."""
    state = tmp_path / "kept"
    (state / "ledger").mkdir(parents=True)
    (state / "ledger" / "keys.db").write_bytes(b"")
    folder = str(tiny.folder)
    for words in (("check", folder), ("keys", "create", folder, "--name", "crm")):
        command = [sys.executable, "-m", "bellwether", *words, "--state", str(state)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, umask=0o022)
        assert done.returncode == 0, done.stderr
    found = [state, *state.rglob("*")]
    assert {"keys.db", "data.parquet", "manifest.json"} <= {path.name for path in found}
    open_to_others = [path for path in found if path.stat().st_mode & 0o077]
    assert open_to_others == []


def test_a_path_that_cannot_be_written_is_told(tmp_path, run_command):
    (tmp_path / "file").write_text("")
    done = run_command("simulate", tmp_path / "file", "--accounts", 20, "--months", 6)
    assert_told(done, 74, "cannot be read or written: Not a directory")


def test_what_nobody_expected_is_one_line_and_debug_shows_the_rest(tiny, run_command, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("one [bold] divided by zero")

    monkeypatch.setattr(serving.commands.score, "workspace_of", broken)
    done = run_command("run", *tiny.options)
    assert done.code == 70
    assert done.err.startswith("unexpected error: ZeroDivisionError: one [bold] divided by zero\n")
    with pytest.raises(ZeroDivisionError):
        run_command("--debug", "run", *tiny.options)


def test_debug_shows_the_traceback_of_our_own_errors(run_command):
    with pytest.raises(ConfigError):
        run_command("--debug", "check", "nobody")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_a_command_does(run_command, command):
    done = run_command(*command.split(), "--help")
    assert done.code == 0
    about = get_command(app).commands[command].help if command else "grow"
    assert " ".join(about.split()[:4]) in " ".join(done.out.split())


def test_a_missing_argument_is_a_usage_error(run_command):
    done = run_command("run")
    assert done.code == 2
    assert "company" in done.err


def test_init_writes_what_loads_and_never_writes_over_it(tmp_path, run_command):
    folder = tmp_path / "acme"
    assert run_command("init", folder).code == 0
    assert load_company(folder).name == "acme"
    before = (folder / "company.yaml").read_bytes()
    assert_told(run_command("init", folder), 2, "the company file already exists")
    assert (folder / "company.yaml").read_bytes() == before


VENDORS = Path(__file__).parent / "features" / "sources" / "proposal" / "fixtures"


def test_init_proposes_a_company_from_exports_and_its_guesses_are_confirmed(
    tmp_path, run_command, monkeypatch
):
    folder = tmp_path / "acme"
    shutil.copytree(VENDORS / "salesforce", folder)
    monkeypatch.setenv("BELLWETHER_STATE", str(tmp_path / "state"))
    assert_told(run_command("init", folder, "--set", "now"), 2, "--set 'now' has no value")
    assert not (folder / "company.yaml").exists()
    done = run_command("init", folder, "--yes", "--set", "reporting_currency=EUR")
    assert done.code == 0, done.err
    assert "recognised by" in done.out
    assert "Data summary as of" in done.out
    company = load_company(folder)
    assert company.reporting_currency == "EUR"
    assert company.guesses
    key = next(iter(company.guesses))
    assert run_command("confirm", folder, key).out.strip() == f"confirmed {key}"
    assert set(load_company(folder).guesses) == set(company.guesses) - {key}
    assert_told(run_command("confirm", folder, "nothing"), 2, "no guess 'nothing'")
    assert run_command("confirm", folder).code == 0
    assert load_company(folder).guesses == {}
    assert run_command("confirm", folder).out.strip() == "no open guesses"
    assert_told(run_command("init", folder, "--yes"), 2, "the company file already exists")


def test_simulate_writes_the_same_bytes_for_a_seed(tmp_path, run_command):
    options = ("--accounts", 20, "--months", 6, "--seed", 3)
    for name in ("one", "two"):
        assert run_command("simulate", tmp_path / name, *options).code == 0
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / n).glob("*.*")} for n in ("one", "two")
    )
    assert one == two
    assert len(one) > 10


def test_check_as_json_is_json_and_nothing_else(tiny, run_command):
    done = run_command("check", *tiny.options, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["grade"] in "ABCDF"
    assert done.err == ""


def test_check_as_text_shows_the_grade_and_the_tables(tiny, run_command):
    done = run_command("check", *tiny.options)
    assert done.code == 0
    assert "Data quality of tiny: grade " in done.out
    assert "12,345" in done.out


def test_check_keeps_a_history_that_it_shows(tiny, run_command):
    empty = run_command("check", *tiny.options, "--history")
    assert "no load has been checked yet" in empty.out
    assert json.loads(run_command("check", *tiny.options, "--history", "--json").out) == []
    report = json.loads(run_command("check", *tiny.options, "--json").out)
    loads = json.loads(run_command("check", *tiny.options, "--history", "--json").out)
    assert [load["grade"] for load in loads] == [report["grade"]]
    assert loads[0]["rows"] == {name: item["rows"] for name, item in report["tables"].items()}
    assert loads[0]["readiness"] == {i["target"]: i["status"] for i in report["readiness"]}
    shown = run_command("check", *tiny.options, "--history").out
    assert report["now"][:10] in shown


def test_the_catalogue_lists_every_feature(run_command):
    listed = json.loads(run_command("catalogue", "--json").out)
    shown = run_command("catalogue").out
    assert len(listed) > 50
    assert all(item["meaning"] and item["theme"] for item in listed)
    assert "…" not in shown
    for item, line in zip(listed, shown.splitlines()[1:], strict=True):
        assert line.split()[0] == item["name"], "one line each, nothing cut"
        assert item["meaning"] in line


LONG = "a-name-longer-than-any-terminal-is-wide-" * 6


def test_no_table_is_cut_in_a_pipe(tiny, run_command, monkeypatch):
    """Names as long as they come, in every table that shows what people wrote."""
    monkeypatch.setenv("COLUMNS", "40")
    assert run_command("keys", "create", *tiny.options, "--name", LONG).code == 0
    assert LONG in run_command("keys", "list", *tiny.options).out
    frame = pd.DataFrame({"id": range(40), LONG: range(40), "left": ["Yes", "No"] * 20})
    frame.to_csv(tiny.folder / "table.csv", index=False)
    folder = tiny.folder / "ready"
    made = run_command("init", folder, "--table", tiny.folder / "table.csv")
    assert made.code == 0, made
    shown = run_command("check", folder, "--state", folder / "state")
    assert LONG in shown.out, shown
    for command in (["catalogue"], ["checks"], ["check", *tiny.options]):
        told = run_command(*command)
        assert told.code == 0, told
        assert "…" not in told.out


def test_a_narrow_terminal_folds_and_cuts_nothing(run_command):
    narrow = Output(file=io.StringIO(), force_terminal=True, width=40)
    assert narrow.size.width == 40
    table = lines_of("key", "for")
    table.add_row("k1", LONG)
    narrow.print(table)
    text = narrow.file.getvalue()
    assert "…" not in text
    assert LONG in "".join(line.split()[-1] for line in text.splitlines()[1:])


TWO_TARGETS = {
    name: {"outcome": "churn", "observed_in": "subscriptions", "horizon_days": days}
    for name, days in (("churn", 31), ("slow_churn", 61))
}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "slow_churm"], "no target 'slow_churm'.*did you mean \"slow_churn\""),
        (["--trials", "-1"], "-1 trials are out of range.*--trials"),
        (["--trials", "10001"], "10001 trials are out of range"),
        (["--as-of", "2031-01-01"], "2031-01-01 is after the company's present day, 2026-03-02"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_read(
    tiny, run_command, options, words
):
    tiny.configure(targets=TWO_TARGETS)
    assert_told(run_command("train", *tiny.options, *options), 2, words)
    assert not (tiny.folder / "state" / "sources").exists()


def test_a_day_that_is_none_is_a_usage_error(tiny, run_command):
    done = run_command("train", *tiny.options, "--as-of", "31.12.2025")
    assert done.code == 2
    assert "31.12.2025" in done.err


def test_a_table_without_moments_has_no_earlier_day(tiny, run_command):
    frame = pd.DataFrame({"id": range(40), "use": range(40), "left": ["Yes", "No"] * 20})
    frame.to_csv(tiny.folder / "table.csv", index=False)
    folder = tiny.folder / "ready"
    assert run_command("init", folder, "--table", tiny.folder / "table.csv").code == 0
    done = run_command("train", folder, "--state", folder / "state", "--as-of", "2020-01-01")
    assert_told(done, 2, "have no as_of.*table.as_of")


def trained(tiny: Tiny, target: str = "churn") -> dict:
    """What the latest training of a target kept."""
    folder = tiny.folder / "state" / "training" / target
    manifest = json.loads((folder / "manifest.json").read_text())
    inputs = json.loads((folder / "inputs.json").read_text())
    return {"sha": manifest["sha"], "inputs": inputs}


@pytest.mark.slow
def test_one_target_is_trained_alone_with_the_trials_asked_for(finished, run_command):
    finished.configure(targets=TWO_TARGETS)
    shutil.rmtree(finished.folder / "state" / "training")
    done = run_command("train", *finished.options, "--target", "slow_churn", "--trials", 3)
    assert done.code == 0, done
    assert not (finished.folder / "state" / "training" / "churn").exists()
    kept = trained(finished, "slow_churn")["inputs"]["company"]
    assert kept["training"]["tuning"]["trials"] == 3
    again = run_command("train", *finished.options, "--target", "slow_churn", "--trials", 3)
    assert "slow_churn: nothing changed since the last training" in again.out


@pytest.mark.slow
def test_training_as_of_a_day_is_training_on_what_was_known_then(finished, run_command, tmp_path):
    """The same bundle, to the byte, as on files that end on that day."""
    day = date(2026, 1, 1)
    done = run_command("train", *finished.options, "--as-of", day)
    assert done.code == 0, done
    frames = tables()
    ended = frames["subscriptions"]["ended_on"]
    until = ended.where(ended.map(lambda item: item is not None and item <= day))
    assert until.notna().sum() < ended.notna().sum()
    usage = frames["usage_events"]
    (tmp_path / "then").mkdir()
    then = Tiny(tmp_path / "then").configure(now=f"{day}T00:00:00Z")
    then.write(
        **frames
        | {
            "subscriptions": frames["subscriptions"].assign(ended_on=until),
            "usage_events": usage[usage["occurred_at"] < day],
        }
    )
    assert run_command("train", *then.options).code == 0
    assert trained(finished)["sha"] == trained(then)["sha"]
    assert run_command("train", *finished.options).code == 0
    assert trained(finished)["sha"] != trained(then)["sha"]


@pytest.mark.slow
def test_training_as_of_a_day_leaves_what_is_served(finished, run_command):
    release = read_current(State(finished.folder / "state").releases)
    workspace = open_workspace(finished.folder, state=finished.folder / "state")

    def served() -> str:
        rows = FeastStore(workspace).online(
            release.feature_set["hash"], len(release.feature_set["names"]), ["A-01"]
        )
        return repr((rows.as_of, rows.values.tolist(), rows.facts))

    before = served()
    assert repr(datetime(2026, 3, 2, tzinfo=UTC)) in before
    done = run_command("train", *finished.options, "--as-of", "2026-01-01")
    assert done.code == 0, done
    assert served() == before
    done = run_command("promote", *finished.options, "--force")
    assert done.code == 0, done
    assert run_command("score", *finished.options).code == 0
    assert book_of(finished).as_of[:10] == str(BOOK_ON)


@pytest.mark.parametrize("room", ["configs", "features", "training", "serving"])
def test_start_up_refuses_politely_when_another_package_stands_in_a_room(tmp_path, room):
    stranger = tmp_path / room / "__init__.py"
    stranger.parent.mkdir()
    stranger.write_text("raise SystemError('imported')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bellwether"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    told = Done(done.returncode, done.stdout, done.stderr)
    assert_told(told, 2, f"packages of other projects hide.*{room}: {re.escape(str(stranger))}")


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Tiny:
    """A company that was run to its end without trouble, in a state of its own."""
    tiny = Tiny(tmp_path_factory.mktemp("clean")).configure().write(**tables())
    workspace = open_workspace(tiny.folder, state=tiny.folder / "clean")
    run_company(workspace, workspace.company.clock(), lambda _: None)
    return tiny


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["usage: building", "measuring"])
def test_a_killed_run_is_finished_by_the_next_one(clean, run_command, moment):
    state = State(clean.folder / moment.split(":")[0])
    options = (str(clean.folder), "--state", str(state.root))
    kill_at(moment, options)
    assert not (state.scores / "latest.json").exists()
    done = run_command("run", *options)
    assert done.code == 0, done
    made, wanted = read_latest(state), read_latest(State(clean.folder / "clean"))
    assert made.run_id == wanted.run_id
    assert made.release_id == wanted.release_id
    assert read_table(made).equals(read_table(wanted))


def kill_at(moment: str, options) -> None:
    """Start a run and kill it, without any warning, when it says that it has come to `moment`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bellwether", "run", *options],
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
    assert process.returncode == -signal.SIGKILL, f"the run never said {moment!r}"


@pytest.fixture
def finished(clean, tmp_path) -> Tiny:
    """A copy of the company and of its finished state, to be spoiled."""
    shutil.copytree(clean.folder, tmp_path / "copy")
    (tmp_path / "copy" / "clean").rename(tmp_path / "copy" / "state")
    return Tiny(tmp_path / "copy")


def book_of(tiny: Tiny) -> ScoreRun:
    book = read_latest(State(tiny.folder / "state"))
    assert book is not None
    return book


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file lies at each path: a file written anew is another one."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_a_refresh_exports_the_book(finished, run_command):
    done = run_command("refresh", *finished.options)
    assert done.code == 0, done
    folder = book_of(finished).folder
    assert f"exported {folder / 'scores.csv'}" in done.out
    assert (folder / "scores.csv").read_text().count("\n") == 61


@pytest.mark.slow
def test_a_refresh_that_fails_keeps_yesterdays_results_and_says_so(finished, run_command):
    before = files_of(finished.folder / "state" / "scores")
    (finished.folder / "usage_events.csv").unlink()
    done = run_command("refresh", *finished.options)
    assert_told(done, 3, "file of input usage_events does not exist")
    assert "refresh failed; the results as of 2026-03-02" in done.err
    assert str(book_of(finished).folder) in done.err
    assert files_of(finished.folder / "state" / "scores") == before


@pytest.mark.slow
def test_a_damaged_book_does_not_hide_why_a_refresh_failed(finished, run_command):
    (finished.folder / "state" / "scores" / "latest.json").write_text("{")
    (finished.folder / "usage_events.csv").unlink()
    done = run_command("refresh", *finished.options)
    assert_told(done, 3, "file of input usage_events does not exist")
    assert "the earlier results cannot be read" in done.err


@pytest.mark.slow
def test_a_second_release_can_be_taken_back(finished, run_command):
    first = book_of(finished).release_id
    assert f"release {first} is current already" in run_command("promote", *finished.options).out
    finished.configure(serving={"band_days": {"elevated": 300, "high": 200}})
    trained = run_command("train", *finished.options)
    assert trained.code == 0, trained
    assert "# churn" in trained.out
    done = run_command("promote", *finished.options, "--note", "wider bands")
    assert done.code == 0, done
    assert "published release" in done.out
    listed = run_command("releases", *finished.options).out
    assert first in listed
    assert "wider bands" in listed
    back = run_command("rollback", *finished.options, "--note", "too many alarms")
    assert f"release {first} is current again" in back.out, back
    assert run_command("score", *finished.options).code == 0
    assert book_of(finished).release_id == first
    assert run_command("rollback", *finished.options).code == 5


@pytest.mark.slow
def test_features_whose_code_changed_are_not_scored_by_the_old_model(
    finished, run_command, monkeypatch
):
    before = files_of(finished.folder / "state" / "scores")
    known = grid.code_digest
    monkeypatch.setattr(grid, "code_digest", lambda name: known(name)[::-1])
    done = run_command("score", *finished.options)
    assert_told(done, 6, "features changed since the published model was trained")
    assert files_of(finished.folder / "state" / "scores") == before


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


REPAIRED = [
    "sources/usage_events/manifest.json",
    "daily/usage_events/*/manifest.json",
    "snapshots/usage/*/2026-03-01/manifest.json",
    "labels/churn/*/manifest.json",
    "feast/applied/manifest.json",
    "training/churn/manifest.json",
    "releases/current.json",
    "scores/latest.json",
]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", REPAIRED)
def test_what_can_be_made_again_is_made_again_when_damaged(finished, run_command, pattern):
    wanted = book_of(finished)
    state = finished.folder / "state"
    one(state, pattern).write_text("damaged")
    done = run_command("run", *finished.options)
    assert done.code == 0, done
    assert book_of(finished).run_id == wanted.run_id
    assert read_current(state / "releases").release_id == wanted.release_id


@pytest.mark.slow
def test_what_was_left_out_is_said_with_the_reason(finished, run_command):
    said = run_command("features", *finished.options)
    assert said.code == 0, said
    assert re.search(r"\d+ features built", said.out)
    assert re.search(r"left out, needs invoices: .*failed_charges_84d", said.out)
    assert re.search(r"rows not used for churn: .*[\d,]+ closed, .*window not yet obs", said.out)
    told = json.loads(run_command("features", *finished.options, "--json").out)
    assert "arr" in told["built"]
    assert "failed_charges_84d" in told["left_out"]["features"]["needs invoices"]
    assert not set(told["built"]) & {n for v in told["left_out"]["features"].values() for n in v}


@pytest.mark.slow
def test_a_damaged_feature_store_is_made_again(finished, run_command):
    wanted, feast = book_of(finished), finished.folder / "state" / "feast"
    registry = feast / "registry.db"
    registry.write_bytes(registry.read_bytes()[: registry.stat().st_size // 2])
    (feast / "online.db").write_bytes(random.Random(3).randbytes(8192))
    done = run_command("score", *finished.options)
    assert done.code == 0, done
    assert "registry.db was damaged and is recreated" in done.out
    assert "online.db was damaged and is recreated" in done.out
    assert book_of(finished).run_id == wanted.run_id
    assert "feature store: unchanged" in run_command("features", *finished.options).out


DAMAGED = [
    ("releases/releases.db", 7, "not a database"),
    ("ledger/scores.db", 7, "not a database"),
    ("bundles/*/manifest.json", 6, "bundle .* is missing, incomplete or different|damaged"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "code", "words"), DAMAGED)
def test_what_cannot_be_made_again_is_told_when_damaged(
    finished, run_command, pattern, code, words
):
    one(finished.folder / "state", pattern).write_text("damaged" * 100)
    assert_told(run_command("score", *finished.options), code, words)


@pytest.mark.slow
def test_a_tracking_server_that_is_down_stops_nothing_and_is_told_later(
    tiny, run_command, monkeypatch
):
    monkeypatch.setenv("BELLWETHER_MLFLOW_URL", "http://127.0.0.1:9")
    done = run_command("run", *tiny.options)
    assert done.code == 0, done
    assert "the tracking server is unavailable" in done.out
    assert "`bellwether relog` sends it later" in done.out
    assert book_of(tiny).statuses["scored"] == 45
    assert_told(run_command("relog", *tiny.options), 7, "the tracking server is unavailable")
    monkeypatch.delenv("BELLWETHER_MLFLOW_URL")
    later = run_command("relog", *tiny.options)
    assert later.code == 0, later
    assert "churn: registered as tiny-churn version 1" in later.out
    assert "waited to be sent: 0" in run_command("relog", *tiny.options).out
