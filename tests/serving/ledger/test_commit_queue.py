"""The commit queue groups callers, refuses no caller for another's rows, and drains on closing."""

from __future__ import annotations

import threading

import pytest

import serving.ledger.store.commit_queue as module
from configs.runtime.errors import StateError, UnavailableError
from serving.ledger.store.commit_queue import CommitQueue


class Commits:
    """Commits that are held up until they are let go, and remembered group by group."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[int]]] = []
        self.is_in, self.go_on = threading.Event(), threading.Event()

    def __call__(self, records: list[tuple[int]]) -> None:
        self.is_in.set()
        assert self.go_on.wait(5)
        self.groups.append(records)


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest.fixture
def queue(commits: Commits):
    queue = CommitQueue(commits, commits)
    yield queue
    commits.go_on.set()
    queue.close()


def test_callers_that_come_during_a_commit_share_the_next(queue, commits):
    first = queue.put([(0,)], 1.0)
    assert commits.is_in.wait(5)
    others = [queue.put([(i,), (i + 10,)], 1.0) for i in range(1, 4)]
    assert not first.done()
    commits.go_on.set()
    assert [first.result(5), *(other.result(5) for other in others)] == [1, 2, 2, 2]
    assert commits.groups == [[(0,)], [(1,), (11,), (2,), (12,), (3,), (13,)]]


def test_a_group_that_is_refused_is_settled_caller_by_caller():
    kept = []

    def settle(records):
        if records == [(2,)]:
            raise ValueError("this row")
        kept.extend(records)

    def commit(records):
        raise ValueError("one of these")

    queue = CommitQueue(commit, settle)
    futures = [queue.put([(i,)], 1.0) for i in range(4)]
    outcomes = [type(future.exception(5)).__name__ for future in futures]
    queue.close()
    assert outcomes == ["NoneType", "NoneType", "ValueError", "NoneType"]
    assert kept == [(0,), (1,), (3,)]


def test_a_short_outage_is_waited_for_and_a_long_one_is_raised(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.0, 0.0))
    failures = [UnavailableError("away")] * 5
    kept = []

    def commit(records):
        if failures:
            raise failures.pop()
        kept.extend(records)

    queue = CommitQueue(commit, commit)
    assert isinstance(queue.put([(0,)], 1.0).exception(5), UnavailableError)
    assert queue.put([(1,)], 1.0).result(5) == 1
    queue.close()
    assert kept == [(1,)]


def test_a_caller_waits_for_room(queue, commits, monkeypatch):
    monkeypatch.setattr(module, "WAITING_ROWS", 2)
    queue.put([(0,)], 0.0)
    assert commits.is_in.wait(5)
    queue.put([(1,), (2,)], 0.0)
    with pytest.raises(UnavailableError, match="behind: 2 scores wait"):
        queue.put([(3,)], 0.0)
    threading.Timer(0.1, commits.go_on.set).start()
    assert queue.put([(4,)], 5.0).result(5) == 1


def test_closing_commits_what_waits(commits):
    queue = CommitQueue(commits, commits)
    futures = [queue.put([(i,)], 1.0) for i in range(3)]
    commits.go_on.set()
    queue.close()
    assert [future.result(0) for future in futures] == [1, 1, 1]
    with pytest.raises(StateError, match="closed"):
        queue.put([(9,)], 1.0)
