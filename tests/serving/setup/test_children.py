"""Commands that the pages start: progress, every way to end, and never two at a time."""

from __future__ import annotations

import os
import signal
import time

import pytest

from configs.runtime.errors import StateError
from configs.runtime.state_directory import read_json
from serving.setup.actions import child
from serving.setup.children import SHOWN_BYTES, Child, ChildState
from serving.setup.results import failure_of
from tests.serving.pages.test_pages import Reader

STEPS = "import sys, time; print('   0.1 s  reading'); print('  12.3 s  writing'); print('done'); "


@pytest.fixture
def one(desk, monkeypatch):
    """Return a way to start Python code as the run of the desk."""
    made = child(desk, "run")

    def start(code: str) -> Child:
        monkeypatch.setattr("serving.setup.children.PROGRAM", ("-c", code))
        made.start(["run"], {"company": ""})
        return made

    yield start
    made.stop()


def ended(one: Child) -> ChildState:
    ends = time.monotonic() + 30
    while one.is_running:
        assert time.monotonic() < ends
        time.sleep(0.05)
    return one.state()


def until_printed(one: Child, text: str) -> None:
    ends = time.monotonic() + 30
    while text not in one.state().output:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_progress_is_apart_from_other_output(one):
    state = ended(one(STEPS))
    assert state.status == "done"
    assert state.steps == [("0.1", "reading"), ("12.3", "writing")]
    assert state.rest == "done"


def test_what_was_never_started_is_absent(desk):
    assert child(desk, "run").state() == ChildState()


def test_a_second_start_is_refused_and_leaves_the_first_alone(one):
    first = one(STEPS + "time.sleep(60)")
    until_printed(first, "done")
    with pytest.raises(StateError, match="running already"):
        first.start(["run"])
    assert first.state().status == "running"
    assert first.state().rest == "done"


def test_an_error_is_shown_with_its_place_and_remedy(one):
    code = (
        STEPS + "sys.stderr.write('error: no rows\\n  where: a.csv\\n  to do: export'); sys.exit(3)"
    )
    state = ended(one(code))
    assert (state.status, state.code) == ("failed", 3)
    found = failure_of(state)
    assert (found.what, found.where, found.fix) == ("no rows", "a.csv", "export")


def test_a_stopped_run_says_so_and_can_start_again(one):
    first = one(STEPS + "time.sleep(60)")
    until_printed(first, "done")
    first.stop()
    assert first.state().status == "stopped"
    assert ended(one(STEPS)).status == "done"


def test_a_killed_command_is_recorded_by_its_wrapper(one):
    first = one("import os; print(os.getpid(), flush=True); import time; time.sleep(60)")
    until_printed(first, "\n")
    os.kill(int(first.state().output), signal.SIGKILL)
    state = ended(first)
    assert (state.status, state.code) == ("failed", -9)
    assert "Ended by signal 9" in state.words


def test_a_run_that_is_killed_with_its_wrapper_is_not_taken_for_running(one):
    first = one(STEPS + "time.sleep(60)")
    until_printed(first, "done")
    os.killpg(int(read_json(first.folder / "started.json")["pid"]), signal.SIGKILL)
    state = ended(first)
    assert state.status == "killed"
    assert state.steps, "its progress is kept"
    assert "the process was killed" in state.words


def test_the_command_holds_the_lock_although_its_wrapper_is_gone(one):
    first = one("import os; print(os.getpid(), flush=True); import time; time.sleep(60)")
    until_printed(first, "\n")
    os.kill(int(read_json(first.folder / "started.json")["pid"]), signal.SIGKILL)
    time.sleep(0.3)
    assert first.state().status == "running"
    os.kill(int(first.state().output), signal.SIGKILL)
    assert ended(first).status == "killed"


def test_a_long_output_is_shown_from_its_end(one):
    state = ended(one("for i in range(20_000): print('line', i)"))
    assert len(state.output) <= SHOWN_BYTES
    assert state.output.startswith("line ")
    assert state.output.endswith("line 19999\n")


def test_the_page_of_a_run_refreshes_until_it_has_ended(pages, no_check, one, exports):
    pages.upload(*exports)
    pages.save()
    first = one(STEPS + "time.sleep(60)")
    until_printed(first, "done")
    answer = pages.get("/start/run")
    assert "now: writing" in Reader(answer.text).text
    assert answer.headers["refresh"] == "2"
    assert "refresh" not in pages.get("/start/run?still").headers
    second = pages.post("/start/run")
    assert second.status_code == 409
    assert "running already" in second.text
    pages.post("/start/stop", {"what": "run"})
    answer = pages.get("/start/run")
    assert "The run has ended early" in answer.text
    assert "Stopped before the end" in answer.text
    assert "refresh" not in answer.headers
    assert pages.post("/start/stop", {"what": "../run"}).status_code == 422
