"""The way from a request to a stored answer is short: few files, few functions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.online.server_state import ServerState

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("configs", "features", "training", "serving")
MAX_FILES, MAX_FUNCTIONS = 15, 72
INLINE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")
THREADS = ("MainThread", "single", "score-ledger")
PATH = "/v1/accounts/A-0030/score"


class Trace:
    """Our functions that ran while it was on, by file, on the threads of a request."""

    def __init__(self) -> None:
        self.functions: dict[str, set[str]] = {}
        self.is_on = False

    def note(self, frame, event, _arg) -> None:
        if not self.is_on or not threading.current_thread().name.startswith(THREADS):
            return
        path = Path(frame.f_code.co_filename)
        if event == "call" and ROOT in path.parents:
            name = path.relative_to(ROOT)
            name_of = frame.f_code.co_qualname
            if name.parts[0] in PACKAGES and not name_of.endswith(INLINE):
                self.functions.setdefault(name.as_posix(), set()).add(name_of)

    @contextmanager
    def installed(self) -> Iterator[None]:
        threading.setprofile(self.note)
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def test_a_stored_answer_crosses_few_files(world, book, client_for):
    trace = Trace()
    with trace.installed():
        state = ServerState(world.workspace)
        try:
            state.refresh()
            client = client_for(state)
            client.get(PATH)  # opens connections
            trace.is_on = True
            answer = client.get(PATH)
            trace.is_on = False
        finally:
            state.close()
    assert answer.status_code == 200
    found = trace.functions
    listed = "\n".join(f"{name}: {', '.join(sorted(found[name]))}" for name in sorted(found))
    assert "Scorer.score" not in found.get("serving/scoring/scorer.py", ()), listed
    assert len(found) <= MAX_FILES, listed
    assert sum(map(len, found.values())) <= MAX_FUNCTIONS, listed
