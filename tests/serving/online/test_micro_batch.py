"""Callers who ask while others are answered are answered together, each with their own."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from configs.runtime.errors import UnavailableError
from serving.online.micro_batch import MAX_TOGETHER, Together


def done(value: int = 1) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(value)
    return future


def kept(given):
    return [done() for _ in given]


async def many(together, asked, within_seconds=5.0):
    return await asyncio.gather(
        *(together.ask(ask, within_seconds) for ask in asked), return_exceptions=True
    )


def test_who_comes_meanwhile_is_answered_together_in_their_order():
    groups: list[list[int]] = []
    everybody_came = threading.Event()

    def answer(asked):
        groups.append(list(asked))
        everybody_came.wait(5)
        return [10 * ask for ask in asked]

    together = Together(answer, kept)

    async def go():
        waiting = asyncio.ensure_future(many(together, range(MAX_TOGETHER + 5)))
        await asyncio.sleep(0.1)
        everybody_came.set()
        return await waiting

    assert asyncio.run(go()) == [10 * ask for ask in range(MAX_TOGETHER + 5)]
    together.close()
    assert [ask for group in groups for ask in group] == list(range(MAX_TOGETHER + 5))
    assert len(groups) <= 3, "nobody is answered alone who could be answered with others"
    assert max(map(len, groups)) <= MAX_TOGETHER


def test_nothing_is_given_out_before_it_is_committed():
    committed: Future[int] = Future()
    together = Together(list, lambda given: [committed for _ in given])

    async def go():
        waiting = asyncio.ensure_future(together.ask("a", 5.0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        committed.set_result(1)
        return await waiting

    assert asyncio.run(go()) == "a"
    together.close()


def test_what_is_not_committed_in_time_is_withheld():
    together = Together(list, lambda given: [Future() for _ in given])
    with pytest.raises(UnavailableError, match="did not commit"):
        asyncio.run(together.ask("a", 0.05))
    together.close()


def test_one_caller_that_cannot_be_kept_costs_no_other_their_answer():
    def keep(given):
        futures = kept(given)
        for i, answer in enumerate(given):
            if answer == "bad":
                futures[i] = Future()
                futures[i].set_exception(ValueError("bad"))
        return futures

    together = Together(list, keep)
    first, bad, last = asyncio.run(many(together, ["a", "bad", "b"]))
    together.close()
    assert (first, last) == ("a", "b")
    assert isinstance(bad, ValueError)


def test_what_breaks_is_told_and_the_next_one_is_answered():
    def answer(asked):
        if "bad" in asked:
            raise ZeroDivisionError
        return list(asked)

    together = Together(answer, kept)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(together.ask("bad", 5.0))
    assert asyncio.run(together.ask("good", 5.0)) == "good"
    together.close()


def test_what_is_known_is_given_at_once_and_the_rest_by_the_thread():
    together = Together(
        lambda asked: [f"{ask}, computed" for ask in asked],
        kept,
        lambda asked: [f"{ask}, known" if ask < "c" else None for ask in asked],
    )
    found = asyncio.run(many(together, ["a", "c", "b", "d"]))
    together.close()
    assert found == ["a, known", "c, computed", "b, known", "d, computed"]


def test_those_who_came_meanwhile_are_looked_up_together():
    groups: list[list[int]] = []

    def at_once(asked):
        groups.append(list(asked))
        return [10 * ask for ask in asked]

    together = Together(list, kept, at_once)
    assert asyncio.run(many(together, range(20))) == [10 * i for i in range(20)]
    together.close()
    assert groups == [list(range(20))]


def test_a_fault_at_once_leaves_it_to_the_thread():
    def at_once(_):
        raise ValueError("broken")

    together = Together(list, kept, at_once)
    assert asyncio.run(many(together, ["a", "b"])) == ["a", "b"]
    together.close()


def test_after_the_end_nobody_is_kept_waiting():
    together = Together(list, kept)
    together.close()
    with pytest.raises(UnavailableError, match="ends"):
        asyncio.run(together.ask("a", 60.0))
