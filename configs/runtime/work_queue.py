"""Work queue in a SQL table: a worker claims an item for a time, after which another may claim it.

Score jobs and webhook messages are such queues. A worker that dies loses its items when their time
is over; one that was only slow notices that it lost them. Threads and processes share a queue.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, func, select, update

from configs.runtime.database import reading, writing


@dataclass(frozen=True)
class Claim:
    """One item in the hands of one worker.

    Attributes
    ----------
    item_id : str
        Key of the item within its company.
    worker : str
        Random; another claim of the same item has another one.
    """

    item_id: str
    worker: str


class LostClaimError(Exception):
    """The time of a claim was over, and another worker has the item."""


@dataclass(frozen=True)
class WorkQueue:
    """The items of one company in one table.

    Attributes
    ----------
    engine : sqlalchemy.Engine
        Of `configs.runtime.migrate.open_engine`.
    table : sqlalchemy.Table
        With the columns ``company``, ``state``, ``created_at``, ``due_at`` (the instant from which
        any worker may claim an item) and ``worker``.
    key : str
        Column that names an item within its company.
    company : str
        Whose items.
    open_states : tuple of str
        States of items that are not finished.
    lease : timedelta
        How long a claim lasts without a sign of life.
    """

    engine: Engine
    table: Table
    key: str
    company: str
    open_states: tuple[str, ...]
    lease: timedelta

    def is_due(self, now: datetime) -> ColumnElement[bool]:
        """Return the condition that an item can be claimed."""
        columns = self.table.c
        return and_(self.is_open, columns.due_at <= now)

    @property
    def is_open(self) -> ColumnElement[bool]:
        """The condition that an item is not finished."""
        columns = self.table.c
        return and_(columns.company == self.company, columns.state.in_(self.open_states))

    @property
    def is_finished(self) -> ColumnElement[bool]:
        """The condition that an item is finished."""
        columns = self.table.c
        return and_(columns.company == self.company, columns.state.not_in(self.open_states))

    def due(self, now: datetime, *where: Any, limit: int | None = None) -> list[str]:
        """Return the items that can be claimed, oldest first."""
        columns = self.table.c
        query = select(columns[self.key]).where(self.is_due(now), *where).limit(limit)
        with reading(self.engine) as connection:
            ordered = query.order_by(columns.created_at, columns[self.key])
            return list(connection.execute(ordered).scalars())

    def claim(self, item_id: str, now: datetime, **values: Any) -> Claim | None:
        """Claim an item and set columns of it; None when it is not due or another has it."""
        claim = Claim(item_id, secrets.token_hex(8))
        taken = {"due_at": now + self.lease, "worker": claim.worker, **values}
        changed = self.change(self._is(item_id), self.is_due(now), **taken)
        return claim if changed else None

    def update(self, claim: Claim, **values: Any) -> None:
        """Set columns of a claimed item.

        Raises
        ------
        LostClaimError
            Another worker has it.
        """
        mine = self.table.c.worker == claim.worker
        if not self.change(self._is(claim.item_id), mine, **values):
            raise LostClaimError

    def extend(self, claim: Claim, now: datetime, **values: Any) -> None:
        """Give a sign of life: the claim lasts for another lease.

        Raises
        ------
        LostClaimError
            Another worker has it.
        """
        self.update(claim, due_at=now + self.lease, **values)

    def change(self, *where: Any, **values: Any) -> int:
        """Set columns of every item that a condition holds for; return how many."""
        query = update(self.table).where(self.table.c.company == self.company, *where)
        with writing(self.engine) as connection:
            return int(connection.execute(query.values(**values)).rowcount)

    def count_open(self) -> int:
        """Return how many items are not finished."""
        query = select(func.count()).select_from(self.table).where(self.is_open)
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())

    def forget(self, *where: Any) -> int:
        """Remove finished items that a condition holds for; return how many."""
        with writing(self.engine) as connection:
            found = connection.execute(delete(self.table).where(self.is_finished, *where))
            return int(found.rowcount)

    def _is(self, item_id: str) -> ColumnElement[bool]:
        return self.table.c[self.key] == item_id
