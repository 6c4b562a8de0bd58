"""Outcomes of predictions: records them, and joins them with the scores of runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine, and_, func, select

from configs.runtime.database import reading
from configs.runtime.errors import DataError
from configs.runtime.sql_inserts import settle
from configs.runtime.tables import labels_table, scores_table
from serving.ledger.store.run_reader import in_book
from serving.ledger.store.score_rows import BookEntry, JudgedScore, RecordedOutcome

_OUTCOME_NAMES = tuple(item.name for item in fields(RecordedOutcome))


@dataclass(frozen=True)
class OutcomeStore:
    """The outcomes of one company's accounts.

    Attributes
    ----------
    engine : sqlalchemy.Engine
        Of the ledger's database.
    company : str
        Whose scores.
    """

    engine: Engine
    company: str

    def record(self, outcomes: Iterable[RecordedOutcome], *, recorded_at: datetime) -> int:
        """Record what became of predictions; repeating it changes nothing.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        StateError
            The same outcome was recorded with another label. A correction has a later known_at.
        """
        records = [_outcome_record(item, self.company, recorded_at) for item in outcomes]
        key = ("company", "entity_id", "target", "as_of", "contract", "known_at")
        return settle(self.engine, labels_table, key, records, but=("recorded_at",))

    def record_one(self, outcome: RecordedOutcome, *, recorded_at: datetime) -> bool:
        """Record one outcome; False when it was known already. See `record`."""
        return self.record([outcome], recorded_at=recorded_at) == 1

    def known(
        self, target: str, *, known_by: datetime | None = None, entity_id: str | None = None
    ) -> list[RecordedOutcome]:
        """Return the outcomes of a target, one per (entity, as_of, contract): the latest known.

        Parameters
        ----------
        target : str
            What was asked.
        known_by : datetime, optional
            As they were known at this instant.
        entity_id : str, optional
            Only of this entity.
        """
        table = labels_table
        query = select(table).where(table.c.company == self.company, table.c.target == target)
        if entity_id is not None:
            query = query.where(table.c.entity_id == entity_id)
        if known_by is not None:
            query = query.where(table.c.known_at <= known_by)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.known_at)).mappings().all()
        latest = {(row["entity_id"], row["as_of"], row["contract"]): row for row in rows}
        return [
            RecordedOutcome(**{name: row[name] for name in _OUTCOME_NAMES})
            for row in latest.values()
        ]

    def count(self) -> dict[tuple[str, datetime], int]:
        """Return how many entities have an outcome, by target and prediction moment."""
        table = labels_table
        query = (
            select(table.c.target, table.c.as_of, func.count(table.c.entity_id.distinct()))
            .where(table.c.company == self.company)
            .group_by(table.c.target, table.c.as_of)
        )
        with reading(self.engine) as connection:
            return {(target, as_of): n for target, as_of, n in connection.execute(query)}

    def missing(self, book: BookEntry, contract: str) -> set[str]:
        """Return the entities of a book that have no outcome under a contract yet."""
        scores, labels = scores_table, labels_table
        asked = select(scores.c.entity_id).where(*in_book(self.company, book))
        known = select(labels.c.entity_id).where(
            labels.c.company == self.company,
            labels.c.target == book.target,
            labels.c.contract == contract,
            labels.c.as_of == book.as_of,
        )
        with reading(self.engine) as connection:
            answered = set(connection.execute(known).scalars())
            return set(connection.execute(asked).scalars()) - answered

    def judged(self, books: Iterable[BookEntry], contract: str) -> JudgedScore:
        """Return the scores of books that have an outcome under a contract."""
        scores, labels = scores_table, labels_table
        found: dict[tuple[str, datetime, str], tuple[float, int]] = {}
        for book in sorted(books, key=lambda item: item.served_at):
            query = (
                select(
                    scores.c.entity_id, scores.c.bundle_sha, scores.c.probability, labels.c.label
                )
                .join(
                    labels,
                    and_(
                        labels.c.company == self.company,
                        labels.c.target == book.target,
                        labels.c.contract == contract,
                        labels.c.as_of == book.as_of,
                        labels.c.entity_id == scores.c.entity_id,
                    ),
                )
                .where(*in_book(self.company, book))
                .order_by(labels.c.known_at, scores.c.entity_id)
            )
            with reading(self.engine) as connection:
                for entity_id, sha, p, label in connection.execute(query):
                    found[entity_id, book.as_of, sha] = (p, label)
        return JudgedScore(
            [key[0] for key in found],
            [key[2] for key in found],
            [key[1] for key in found],
            np.array([p for p, _ in found.values()], dtype=np.float64),
            np.array([label for _, label in found.values()], dtype=np.float64),
        )


def _outcome_record(
    outcome: RecordedOutcome, company: str, recorded_at: datetime
) -> dict[str, Any]:
    if outcome.label not in (0, 1):
        raise DataError(
            f"an outcome is 0 or 1, not {outcome.label}", where=f"entity {outcome.entity_id}"
        )
    record = {name: getattr(outcome, name) for name in _OUTCOME_NAMES}
    return record | {"company": company, "recorded_at": recorded_at}
