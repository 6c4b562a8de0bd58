"""Reads runs of the whole book: which there were, and their scores."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, and_, func, literal_column, select

from configs.runtime.database import reading
from configs.runtime.tables import books_table, scores_table
from serving.ledger.store.score_reader import ScoreReader, is_earlier
from serving.ledger.store.score_rows import SHADOW, BookEntry, ScoreRow


@dataclass(frozen=True)
class RunReader:
    """The complete runs of one company.

    Attributes
    ----------
    scores : ScoreReader
        Of the same ledger.
    """

    scores: ScoreReader

    @property
    def engine(self) -> Engine:
        """The ledger's database."""
        return self.scores.engine

    @property
    def company(self) -> str:
        """Name of the company whose runs are read."""
        return self.scores.company

    def every(self, *, channel: str | None = None) -> list[BookEntry]:
        """Return every complete book, oldest first; of one channel where it is named."""
        table = books_table
        query = select(table).where(table.c.company == self.company, table.c.is_complete == 1)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(table.c.served_at)).mappings().all()
        names = [item.name for item in fields(BookEntry)]
        found = [
            BookEntry(**{name: row[name] for name in names} | {"channel": row["channel"] or "book"})
            for row in rows
        ]
        return [book for book in found if channel is None or book.channel == channel]

    def last(
        self,
        target: str,
        *,
        before: datetime | None = None,
        unlike: tuple[datetime, str] | None = None,
    ) -> list[ScoreRow]:
        """Return the last complete book of a target, most probable first.

        Parameters
        ----------
        target : str
            What was asked.
        before : datetime, optional
            Only books served before this instant.
        unlike : (datetime, str), optional
            As_of and release of the present book: only books of another as_of, no later one, or of
            another release. It is the one to compare the present one with.

        Returns
        -------
        list of ScoreRow
            One per entity; empty when there is no book.
        """
        books, table = books_table, scores_table
        query = select(books.c.book_id).where(
            books.c.company == self.company,
            books.c.target == target,
            books.c.is_complete == 1,
            func.coalesce(books.c.channel, "book") == "book",
        )
        if before is not None:
            query = query.where(books.c.served_at < before)
        if unlike is not None:
            query = query.where(is_earlier(books, books.c.release_id, *unlike))
        with reading(self.engine) as connection:
            book_id = connection.execute(
                query.order_by(books.c.as_of.desc(), books.c.served_at.desc()).limit(1)
            ).scalar_one_or_none()
        where = and_(
            table.c.company == self.company,
            table.c.request_id == book_id,
            table.c.target == target,
            table.c.channel == "book",
        )
        ordered = (table.c.probability.desc(), table.c.entity_id)
        return [] if book_id is None else self.scores.read(where, *ordered)

    def scores_of(self, book: BookEntry) -> list[ScoreRow]:
        """Return the scores of one book, by entity."""
        return self.scores.read(and_(*in_book(self.company, book)), scores_table.c.entity_id)

    def probabilities(self, book: BookEntry) -> NDArray[np.float64]:
        """Return the probabilities of one book, by entity."""
        table = scores_table
        query = (
            select(table.c.probability)
            .where(*in_book(self.company, book))
            .order_by(table.c.entity_id)
        )
        with reading(self.engine) as connection:
            found = connection.execute(query.order_by(table.c.entity_id)).scalars().all()
        return np.array(found, dtype=np.float64)


def in_book(company: str, book: BookEntry) -> list[Any]:
    """Return the conditions that a score belongs to a run."""
    table = scores_table
    # The channel is written out: with a parameter, no database would take the partial index.
    return [
        table.c.company == company,
        table.c.request_id == book.book_id,
        table.c.target == book.target,
        table.c.channel == literal_column(f"'{SHADOW if book.channel == SHADOW else 'book'}'"),
    ]
