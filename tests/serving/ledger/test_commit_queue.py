"""The writer's thread goes on whatever happens beside the groups it commits."""

from __future__ import annotations

import threading
import time

import pytest

from serving.ledger.commit_queue import GroupWriter


@pytest.fixture
def kept():
    return []


def writer_of(kept, **options) -> GroupWriter:
    return GroupWriter(kept.extend, kept.extend, **options)


def test_what_is_put_in_order_fails_without_ending_the_thread(kept, caplog):
    untidy = threading.Event()
    tries = []

    def tidy():
        untidy.clear()
        tries.append(len(kept))
        raise OSError("too many open files")

    writer = writer_of(kept, is_untidy=untidy.is_set, tidy=tidy)
    for i in range(3):
        untidy.set()
        assert writer.put([(i,)], 1.0).result(5) == 1
    ends = time.monotonic() + 5
    while untidy.is_set() and time.monotonic() < ends:
        time.sleep(0.01)
    writer.close()
    assert kept == [(0,), (1,), (2,)]
    assert tries
    assert "OSError" in caplog.text
    assert "too many open files" not in caplog.text


def test_it_is_put_in_order_after_commits_of_other_threads_too(kept):
    tidied = threading.Event()
    writer = writer_of(
        kept,
        commit_at_once=lambda records: not kept.extend(records),
        is_untidy=lambda: len(kept) > 1 and not tidied.is_set(),
        tidy=tidied.set,
    )
    assert writer.commit_now([(0,)])
    assert not tidied.wait(0.1)
    assert writer.commit_now([(1,)])
    assert tidied.wait(5)
    writer.close()


def test_nothing_is_committed_now_before_those_who_wait(kept):
    release, is_in = threading.Event(), threading.Event()

    def commit(records):
        is_in.set()
        release.wait(5)
        kept.extend(records)

    writer = GroupWriter(commit, kept.extend, lambda records: not kept.extend(records))
    first = writer.put([(0,)], 1.0)
    assert is_in.wait(5)
    assert not writer.commit_now([(1,)]), "another thread is at it"
    second = writer.put([(2,)], 1.0)
    assert not writer.commit_now([(3,)]), "somebody waits"
    release.set()
    assert (first.result(5), second.result(5)) == (1, 1)
    assert writer.commit_now([(4,)])
    writer.close()
    assert not writer.commit_now([(5,)]), "it is closed"
    assert kept == [(0,), (2,), (4,)]
