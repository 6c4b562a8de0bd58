"""One worker at a time has an item, and what a dead worker had goes to another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from configs.runtime.database import reading, writing
from configs.runtime.migrate import open_engine
from configs.runtime.tables import OUTBOX_TABLES, outbox_table
from configs.runtime.work_queue import LostClaimError, WorkQueue

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LEASE = timedelta(seconds=60)


@pytest.fixture
def queue(tmp_path: Path, url: str) -> Iterator[WorkQueue]:
    engine = open_engine(url or None, tmp_path / "queue.db", OUTBOX_TABLES)
    yield WorkQueue(engine, outbox_table, "message_id", "acme", ("waiting",), LEASE)
    engine.dispose()


def add(queue: WorkQueue, *names: str, company: str = "acme") -> None:
    same = {"endpoint": "crm", "event": "book.published", "body": "{}", "attempts": 0}
    with writing(queue.engine) as connection:
        for n, name in enumerate(names):
            at = NOW + timedelta(seconds=n)
            connection.execute(
                insert(outbox_table).values(
                    company=company,
                    message_id=name,
                    state="waiting",
                    created_at=at,
                    due_at=at,
                    **same,
                )
            )


def value(queue: WorkQueue, name: str, column: str):
    columns = outbox_table.c
    with reading(queue.engine) as connection:
        query = select(columns[column]).where(columns.message_id == name)
        return connection.execute(query).scalar_one()


def test_items_are_due_in_the_order_of_their_creation(queue):
    add(queue, "b", "a", "c")
    add(queue, "of another company", company="globex")
    assert queue.due(NOW) == ["b"]
    assert queue.due(NOW + timedelta(seconds=5)) == ["b", "a", "c"]
    assert queue.due(NOW + timedelta(seconds=5), limit=2) == ["b", "a"]
    assert queue.count_open() == 3


def test_a_claimed_item_is_not_due_until_its_lease_is_over(queue):
    add(queue, "a")
    assert queue.claim("a", NOW)
    assert queue.claim("a", NOW + LEASE - timedelta(seconds=1)) is None
    assert queue.due(NOW + LEASE - timedelta(seconds=1)) == []
    assert queue.claim("a", NOW + LEASE)


def test_a_sign_of_life_extends_a_claim(queue):
    add(queue, "a")
    claim = queue.claim("a", NOW)
    queue.extend(claim, NOW + timedelta(seconds=50), attempts=1)
    assert queue.due(NOW + LEASE) == []
    assert value(queue, "a", "attempts") == 1


def test_a_worker_that_lost_its_claim_changes_nothing(queue):
    add(queue, "a")
    slow = queue.claim("a", NOW)
    other = queue.claim("a", NOW + LEASE)
    for change in (queue.update, lambda claim, **values: queue.extend(claim, NOW, **values)):
        with pytest.raises(LostClaimError):
            change(slow, state="dead")
    queue.update(other, state="delivered")
    assert value(queue, "a", "state") == "delivered"


def test_only_finished_items_are_forgotten(queue):
    add(queue, "a", "b")
    queue.update(queue.claim("a", NOW), state="delivered")
    assert queue.count_open() == 1
    assert queue.forget(outbox_table.c.created_at < NOW) == 0
    assert queue.forget() == 1
    assert queue.due(NOW + LEASE) == ["b"]


def test_of_many_threads_one_claims_an_item(queue):
    add(queue, "a")
    start, claims = threading.Barrier(6), []

    def work() -> None:
        start.wait()
        claims.append(queue.claim("a", NOW))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [claim for claim in claims if claim is not None]
    assert value(queue, "a", "worker") == winner.worker
