"""Proposals computed in the background and kept while the files are unchanged."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from configs.runtime.errors import SourceError
from features.sources.proposal.proposal import Proposal
from features.sources.proposal.propose import answered, propose
from features.sources.proposal.raw_tables import data_files, input_names
from features.sources.scaffold import company_name
from serving.setup.desk import Desk
from serving.setup.mapping_form import MappingForm, mapping_form

MOST_KEPT = 8

Key = tuple[object, ...]


@dataclass(frozen=True)
class ReadMapping:
    """A proposal with the answers of a desk, and its form.

    Attributes
    ----------
    base, proposal : Proposal
        Without answers, except for the tables of files; and with all of them.
    form : MappingForm
        For the page.
    """

    base: Proposal
    proposal: Proposal
    form: MappingForm


class Proposals:
    """Proposals of folders; each is computed once per state of its files, in a thread."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: OrderedDict[Key, Future[Proposal]] = OrderedDict()

    def read(self, desk: Desk, seconds: float) -> ReadMapping | None:
        """Return the mapping of a desk, or None while its files are still being read.

        Parameters
        ----------
        desk : Desk
            The company folder.
        seconds : float
            Time to wait.

        Raises
        ------
        SourceError
            There is no file to read, or none that can serve as accounts.
        """
        answers = desk.record.answers
        future = self._future(desk.data, files_of(answers))
        if wait([future], seconds).not_done:
            return None
        error = future.exception()
        if error is not None and not isinstance(error, SourceError):
            self._forget(future)  # a full disk, for example: the next request tries again
        base = _named(future.result(), desk)
        names = input_names(desk.data)
        possible = mapping_form(base, base, names, answers).kept(answers)
        shown = answered(base, possible)
        return ReadMapping(base, shown, mapping_form(base, shown, names, answers))

    def _future(self, data: Path, answers: Mapping[str, str]) -> Future[Proposal]:
        now = self._clock()
        facts = [(str(path), *_stamp(path)) for path in data_files(data)] if data.is_dir() else []
        key = (str(data), tuple(facts), tuple(sorted(answers.items())), now.date())
        with self._lock:
            future = self._found.get(key)
            if future is None:
                future = self._found[key] = Future()
                threading.Thread(
                    target=_compute, args=(future, data, now, dict(answers)), daemon=True
                ).start()
            self._found.move_to_end(key)
            while len(self._found) > MOST_KEPT:
                self._found.popitem(last=False)
        return future

    def _forget(self, future: Future[Proposal]) -> None:
        with self._lock:
            for key in [key for key, found in self._found.items() if found is future]:
                del self._found[key]


def files_of(answers: Mapping[str, str]) -> dict[str, str]:
    """Return the answers about the tables of files."""
    return {key: value for key, value in answers.items() if key.startswith("files.")}


def _compute(
    future: Future[Proposal], data: Path, now: datetime, answers: Mapping[str, str]
) -> None:
    try:
        future.set_result(propose(data, now, answers))
    except BaseException as error:  # handed to the request that waits for the result
        future.set_exception(error)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _named(proposal: Proposal, desk: Desk) -> Proposal:
    """Return a proposal with the name of the company folder, not of the folder of the exports."""
    return replace(proposal, name=company_name(desk.title), title=desk.title)
