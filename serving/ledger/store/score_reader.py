"""Reads single scores of the ledger: by id, by account, or all of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Engine, Table, and_, func, or_, select

from configs.runtime.database import reading
from configs.runtime.tables import contents_table, scores_table
from serving.ledger.store.score_rows import REFS, ROW_NAMES, SHADOW, ScoreRow, row_of

REFS_AT_ONCE = 500
"""Contents of compacted scores that are asked for by one query."""

EVERYTHING = pa.schema(
    [
        ("target", pa.string()),
        ("entity_id", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),
        ("served_at", pa.timestamp("us", tz="UTC")),
        ("release_id", pa.string()),
        ("bundle_sha", pa.string()),
        ("probability", pa.float64()),
        ("band", pa.string()),
        ("facts", pa.string()),
    ]
)


@dataclass(frozen=True)
class ScoreReader:
    """The scores of one company.

    Attributes
    ----------
    engine : sqlalchemy.Engine
        Of the ledger's database.
    company : str
        Whose scores.
    """

    engine: Engine
    company: str

    def find(self, score_id: str) -> ScoreRow | None:
        """Return one score by its id, to replay it."""
        table = scores_table
        where = and_(table.c.company == self.company, table.c.score_id == score_id)
        return next(iter(self.read(where)), None)

    def served_by(self, entity_id: str, moment: datetime | None = None) -> list[ScoreRow]:
        """Return the last score of each target of an entity that was served by an instant."""
        table = scores_table
        where = [table.c.company == self.company, table.c.entity_id == entity_id]
        if moment is not None:
            where.append(table.c.served_at <= moment)
        found = self.read(and_(*where), table.c.served_at.desc(), table.c.row.desc(), limit=1_000)
        latest: dict[str, ScoreRow] = {}
        for row in found:
            latest.setdefault(row.target, row)
        return list(latest.values())

    def everything(self) -> pa.Table:
        """Return every score that was shown, without vectors and reasons, oldest first.

        Returns
        -------
        pyarrow.Table
            One row per score: target, entity_id, as_of, served_at, release_id, bundle_sha,
            probability, band, facts (JSON text, null in rows of an earlier version).
        """
        table = scores_table
        columns = [table.c[name] for name in EVERYTHING.names]
        ours = and_(table.c.company == self.company, table.c.channel != SHADOW)
        with reading(self.engine) as connection:
            columns.append(table.c.facts_ref)
            found = connection.execute(select(*columns).where(ours).order_by(table.c.row))
            rows = [dict(row) for row in found.mappings()]
            told = self.contents(connection, (row["facts_ref"] for row in rows if row["facts_ref"]))
        for row in rows:
            facts = told.get(row.pop("facts_ref") or "")
            row["facts"] = row["facts"] if facts is None else facts.decode()
        return pa.Table.from_pylist(rows, EVERYTHING)

    def sample(self, n: int) -> list[ScoreRow]:
        """Return about `n` scores spread evenly over the ledger, oldest first."""
        table = scores_table
        ours = table.c.company == self.company
        with reading(self.engine) as connection:
            first, last, count = connection.execute(
                select(func.min(table.c.row), func.max(table.c.row), func.count()).where(ours)
            ).one()
        if not count or n < 1:
            return []
        step = max(1, (last - first + 1) // n)
        chosen = and_(ours, (table.c.row - first) % step == 0)
        # Deleted scores leave gaps, and what was kept of old ones may be too little to replay.
        return [row for row in self.read(chosen, table.c.row, limit=n) if row.features]

    def history(
        self, entity_id: str, target: str, limit: int = 50, *, channel: str | None = None
    ) -> list[ScoreRow]:
        """Return the last scores served for one entity and target, newest first."""
        table = scores_table
        where = [
            table.c.company == self.company,
            table.c.entity_id == entity_id,
            table.c.target == target,
        ]
        if channel is not None:
            where.append(table.c.channel == channel)
        return self.read(and_(*where), table.c.served_at.desc(), table.c.row.desc(), limit=limit)

    def previous(
        self,
        entity_id: str,
        target: str,
        *,
        as_of: datetime,
        bundle_sha: str,
        served_before: datetime | None = None,
    ) -> ScoreRow | None:
        """Return the last shown score that another moment or another model gave, if there is one.

        Parameters
        ----------
        entity_id, target : str
            Whose, and what was asked.
        as_of, bundle_sha : datetime, str
            Of the present score; what it is compared with is no later than that moment.
        served_before : datetime, optional
            Only scores given out before this instant.
        """
        table = scores_table
        where = [
            table.c.company == self.company,
            table.c.entity_id == entity_id,
            table.c.target == target,
            table.c.channel != SHADOW,
            is_earlier(table, table.c.bundle_sha, as_of, bundle_sha),
        ]
        if served_before is not None:
            where.append(table.c.served_at < served_before)
        newest = (table.c.as_of.desc(), table.c.served_at.desc(), table.c.row.desc())
        return next(iter(self.read(and_(*where), *newest, limit=1)), None)

    def count(self) -> int:
        """Return how many scores the ledger holds."""
        query = select(func.count()).where(scores_table.c.company == self.company)
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())

    def read(self, where: Any, *order: Any, limit: int | None = None) -> list[ScoreRow]:
        """Return the scores that a condition holds for, whatever was compacted restored."""
        names = (*ROW_NAMES, *REFS)
        query = select(*(scores_table.c[name] for name in names)).where(where)
        with reading(self.engine) as connection:
            found = connection.execute(query.order_by(*order).limit(limit)).all()
            shared = self.contents(connection, (ref for row in found for ref in row[-3:] if ref))
        return [row_of(values, shared) for values in found]

    def contents(self, connection: Connection, refs: Iterable[str]) -> dict[str, bytes]:
        """Return what compacted scores share; what is not kept any more is not among it."""
        table, wanted = contents_table, sorted(set(refs))
        found: dict[str, bytes] = {}
        for start in range(0, len(wanted), REFS_AT_ONCE):
            part = wanted[start : start + REFS_AT_ONCE]
            query = select(table.c.ref, table.c.body).where(
                table.c.company == self.company, table.c.ref.in_(part)
            )
            found |= {ref: zlib.decompress(body) for ref, body in connection.execute(query)}
        return found


def is_earlier(table: Table, version: Any, as_of: datetime, present: str) -> Any:
    """Return the condition: an earlier moment, or the same moment seen by another version."""
    return or_(table.c.as_of < as_of, and_(table.c.as_of == as_of, version != present))
