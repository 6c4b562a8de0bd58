"""Scores asked for one by one, scored together while they wait.

Reading, scoring and committing cost little more for eight accounts than for one. Whoever asks
while others are being scored waits for them to be done and is scored with all who came meanwhile:
nobody ever waits for company. What can be answered without computing or waiting is answered right
in the event loop: to hand it to a thread and back takes longer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

from configs.runtime.errors import UnavailableError

MAX_TOGETHER = 64
"""Who is scored at once, at most."""

logger = logging.getLogger("bellwether.serving")

LOOKS = 4
"""Turns of the event loop in which further callers may come before these are answered."""

Ask = TypeVar("Ask")
Given = TypeVar("Given")


def later(work: Callable[[], object], turns: int = 2) -> None:
    """Do something in the event loop some turns later, without waiting for anything.

    After two turns those who could go on by now have gone on: what is only counted need not hold
    up an answer.
    """
    loop = asyncio.get_running_loop()
    loop.call_soon(work if turns == 1 else partial(later, work, turns - 1))


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Ask, Given]):
    """Who asks, and where the answer is waited for."""

    ask: Ask
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Given]


def _nothing(asked: Sequence[object]) -> list[None]:
    """Return that each ask takes longer."""
    return [None] * len(asked)


class Together(Generic[Ask, Given]):
    """A thread that answers all who wait at once.

    Parameters
    ----------
    answer : callable
        Returns what each of some asks is given, in their order.
    keep : callable
        Hands over what is given to the ledger; returns per ask a future that is done when it is
        committed. Nothing is given out before.
    at_once : callable
        Asked first, in the event loop: returns what each ask is given, committed already, and None
        where that takes longer.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Ask]], Sequence[Given]],
        keep: Callable[[Sequence[Given]], Sequence[Future[int]]],
        at_once: Callable[[Sequence[Ask]], Sequence[Given | None]] = _nothing,
    ) -> None:
        self._answer, self._keep, self._at_once = answer, keep, at_once
        self._is_closed = False
        self._arrived: dict[asyncio.AbstractEventLoop, list[_Waiting[Ask, Given]]] = {}
        self._waiting: SimpleQueue[_Waiting[Ask, Given] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="together", daemon=True)
        self._thread.start()

    async def ask(self, ask: Ask, within_seconds: float) -> Given:
        """Return what an ask is given, once it is committed.

        Raises
        ------
        UnavailableError
            It was not within the time, or nobody is answered any more.
        """
        if self._is_closed:
            raise UnavailableError("the service ends")
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Ask, Given] = _Waiting(ask, loop, loop.create_future())
        arrived = self._arrived.setdefault(loop, [])
        arrived.append(waiting)
        if len(arrived) == 1:
            later(partial(self._answer_at_once, loop), LOOKS)
        try:
            async with asyncio.timeout(within_seconds):
                return await waiting.future
        except TimeoutError as error:
            raise UnavailableError(
                f"the score ledger did not commit within {within_seconds:g} s, so nothing is "
                "given out"
            ) from error

    def _answer_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        arrived = [item for item in self._arrived.pop(loop) if not item.future.done()]
        if not arrived:
            return
        given: Sequence[Given | None] = [None] * len(arrived)
        try:
            given = self._at_once([item.ask for item in arrived])
        except Exception:
            logger.exception("nothing can be answered at once")
        for item, answer in zip(arrived, given, strict=True):
            if answer is None:
                self._waiting.put(item)
            else:
                item.future.set_result(answer)

    def close(self) -> None:
        """Answer who waits, then end the thread."""
        self._is_closed = True
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            try:
                given = self._answer([item.ask for item in group])
                kept = self._keep(given)
            except Exception as error:
                _settle(group, error)
            else:
                _give(group, given, kept)

    def _take(self) -> list[_Waiting[Ask, Given]]:
        """Wait for somebody; return all who wait by then, nobody when it is closed."""
        group: list[_Waiting[Ask, Given]] = []
        while not group or (len(group) < MAX_TOGETHER and not self._waiting.empty()):
            item = self._waiting.get()
            if item is None:
                self._waiting.put(None)  # for the next look: who came before is answered first
                break
            if not item.future.cancelled():
                group.append(item)
        return group


def _give(
    group: Sequence[_Waiting[Ask, Given]],
    given: Sequence[Given],
    kept: Sequence[Future[int]],
) -> None:
    """Give out what is committed at once; the rest when it is."""
    done = []
    for item, answer, future in zip(group, given, kept, strict=True):
        if future.done():
            done.append((item, answer, future.exception()))
        else:
            future.add_done_callback(
                lambda future, item=item, answer=answer: _tell(  # type: ignore[misc]
                    [(item, answer, future.exception())]
                )
            )
    _tell(done)


def _settle(group: Sequence[_Waiting[Ask, Given]], error: Exception) -> None:
    _tell([(item, None, error) for item in group])


def _tell(
    told: Sequence[tuple[_Waiting[Ask, Given], Given | None, BaseException | None]],
) -> None:
    """Wake each event loop once, and let it set its futures."""
    for loop in dict.fromkeys(item.loop for item, *_ in told):
        mine = [entry for entry in told if entry[0].loop is loop]
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_set, mine)


def _set(
    told: Sequence[tuple[_Waiting[Ask, Given], Given | None, BaseException | None]],
) -> None:
    for item, answer, error in told:
        if item.future.done():
            continue  # who asked has gone
        if error is None:
            item.future.set_result(answer)  # type: ignore[arg-type]  # given where nothing failed
        else:
            item.future.set_exception(error)
