"""Background threads of a serving process: refresh, score jobs, webhooks, upkeep of the ledger."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from configs.runtime.errors import BellwetherError
from configs.schema.workspace import Workspace
from serving.integrations.webhooks import KEPT_DAYS, Outbox, endpoint_of
from serving.ledger.retention import RetentionWorker

if TYPE_CHECKING:
    from serving.online.server_state import ServerState

logger = logging.getLogger("bellwether.serving")

JOB_SECONDS = 1.0
"""Pause between two looks of a worker for a score job and for webhook messages that are due."""

TIDY_SECONDS, BREATH_SECONDS = 60.0, 0.05
"""Pause between two looks of a worker at whether the ledger is due; its pause between writes."""

CLOSE_SECONDS = 30.0
"""Longest time that work in the background may take to stop."""


class BackgroundWorkers:
    """Threads that repeat a piece of work until they are stopped; an error ends none of them.

    Parameters
    ----------
    state : ServerState
        What they work on.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, check_seconds: float) -> None:
        """Start every thread; `check_seconds` is how often the state is refreshed."""
        self._repeat("refresh", check_seconds, self._state.refresh)
        self._repeat("jobs", JOB_SECONDS, self._run_job)
        self._repeat("upkeep", TIDY_SECONDS, self._tidy)
        for name in self._state.workspace.company.webhooks:  # one never waits for another
            sender = WebhookSender(self._state.workspace, name)
            self._repeat(f"webhook {name}", JOB_SECONDS, sender.send, sender.close)

    def stop(self) -> None:
        """Stop the threads; a job goes on where it was at the next start."""
        self._stop.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.1))

    def _repeat(
        self,
        name: str,
        seconds: float,
        work: Callable[[], object],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        run = partial(self._run, name, seconds, work, close)
        self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        self._threads[-1].start()

    def _run(
        self, name: str, seconds: float, work: Callable[[], object], close: Callable[[], None]
    ) -> None:
        said = ""
        while not self._stop.wait(seconds):
            words = _failure(work)
            if words and words != said:
                logger.warning("%s failed: %s", name, words)
            said = words
        close()

    def _run_job(self) -> None:
        if self._state.is_ready():
            self._state.jobs.run_next(self._state, datetime.now(UTC))

    def _tidy(self) -> None:
        """Keep the ledger and the outbox small; one worker of all does it at a time."""
        state, now = self._state, datetime.now(UTC)
        upkeep = RetentionWorker(
            state.workspace, state.ledger, pause=lambda: self._stop.wait(BREATH_SECONDS)
        )
        if upkeep.is_due(now):
            logger.info("ledger: %s", upkeep.tidy(now, state.clock()).words)
            if state.stores.outbox is not None:
                state.stores.outbox.forget(now - timedelta(days=KEPT_DAYS))


class WebhookSender:
    """Sends the messages that are due to one webhook."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace, self._name = workspace, name
        self._outbox: Outbox | None = None

    def send(self) -> None:
        """Send what is due."""
        endpoint = endpoint_of(self._workspace, self._name)
        self._outbox = self._outbox or Outbox(self._workspace)
        self._outbox.deliver_to(endpoint, datetime.now(UTC))

    def close(self) -> None:
        """Close the outbox."""
        if self._outbox is not None:
            self._outbox.close()


def _failure(work: Callable[[], object]) -> str:
    """Run a piece of work; return what failed, empty when nothing did."""
    try:
        work()
    except BellwetherError as error:
        return f"{type(error).__name__}: {error.what}"
    except Exception as error:
        logger.debug("background work failed", exc_info=True)
        return type(error).__name__
    return ""
