"""Deletion of an account or a person in the ledger's databases, in one transaction per database."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, and_, delete, func, or_, select, update
from sqlalchemy.exc import DBAPIError

from configs.runtime import tables
from configs.runtime.database import reading, telling, writing
from configs.runtime.migrate import open_engine
from configs.runtime.tables import books_table, contents_table, labels_table, scores_table
from configs.schema.workspace import Workspace
from serving.ledger.retention import FACTS, REASONS
from serving.privacy.database_columns import HOLDINGS, TableHolding
from serving.privacy.files import Finding
from serving.privacy.subject import Subject

AT_ONCE = 500

GROUPS: dict[str, Sequence[Table]] = {
    "ledger/scores.db": tables.LEDGER_TABLES,
    "ledger/intake.db": tables.FEEDBACK_TABLES,
    "ledger/jobs.db": tables.JOB_TABLES,
    "ledger/outbox.db": tables.OUTBOX_TABLES,
    "ledger/keys.db": tables.KEY_TABLES,
    "ledger/risks.db": tables.RISK_TABLES,
    "releases/releases.db": tables.RELEASE_TABLES,
}
"""Embedded database → its tables; a server holds all of them."""


def scrub_databases(workspace: Workspace, subject: Subject, *, is_trial: bool) -> list[Finding]:
    """Remove a subject from every table of the ledger's databases; with `is_trial` only count."""
    found: list[Finding] = []
    url = workspace.places.ledger_url
    for name, group in GROUPS.items():
        file = workspace.state.root / name
        if url is None and not file.is_file():
            continue
        with _engine(url, file, group) as engine:
            work = _Scrub(engine, workspace.company.name, subject, is_trial=is_trial)
            done = work.all(group)
            if done and not is_trial:
                _vacuum(engine, group)
        found += done
    return found


@contextmanager
def _engine(url: str | None, file: Path, group: Sequence[Table]) -> Iterator[Engine]:
    engine = open_engine(url, file, group)
    try:
        yield engine
    finally:
        engine.dispose()


def _vacuum(engine: Engine, group: Sequence[Table]) -> None:
    """Overwrite the space of deleted rows, which still holds their content.

    A reader that is busy at this moment delays it to the next time.
    """
    if engine.dialect.name == "sqlite":
        statements = ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
    else:
        statements = [f"VACUUM {', '.join(table.name for table in group)}"]
    with telling(engine), engine.connect() as plain, suppress(DBAPIError):
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            connection.exec_driver_sql(statement)


class _Scrub:
    """Work on one database for one subject."""

    def __init__(self, engine: Engine, company: str, subject: Subject, *, is_trial: bool) -> None:
        self._engine, self._company, self._subject = engine, company, subject
        self._is_trial = is_trial

    def all(self, group: Sequence[Table]) -> list[Finding]:
        """Return the findings of all tables of a group, after changing them unless on trial."""
        names = {table.name for table in group}
        opened = reading if self._is_trial else writing
        with opened(self._engine) as connection:
            counted = {
                holding.table.name: self._table(connection, holding)
                for holding in HOLDINGS
                if holding.table.name in names
            }
        return [
            Finding(f"table {name}", deleted, changed)
            for name, (deleted, changed) in counted.items()
            if deleted or changed
        ]

    def _table(self, connection: Connection, holding: TableHolding) -> tuple[int, int]:
        if holding.table is contents_table:
            return self._contents(connection)
        own = (0, 0)
        if self._subject.kind == "account":
            own = self._rows_of_account(connection, holding)
        deleted, changed = self._values(connection, holding)
        return own[0] + deleted, own[1] + changed

    def _ours(self, table: Table) -> Any:
        return table.c.company == self._company

    def _rows_of_account(self, connection: Connection, holding: TableHolding) -> tuple[int, int]:
        table, value = holding.table, self._subject.value
        column = next((name for name, kind in holding.columns.items() if kind == "account"), None)
        if table is tables.outbox_table:
            where = and_(self._ours(table), table.c.body.contains(f'"{value}"', autoescape=True))
            return self._delete(connection, table, where), 0
        if column is None:
            return 0, 0
        own = and_(self._ours(table), table.c[column] == value)
        if table is scores_table:
            return self._scores(connection, own)
        if table is labels_table:
            # Outcomes of kept scores have the pseudonym already: these belong to none.
            return self._delete(connection, table, own), 0
        if holding.of_account == "evidence":
            emptied = {"account_id": self._subject.pseudonym, "note": None}
            return 0, self._update(connection, table, own, emptied)
        return self._delete(connection, table, own), 0

    def _scores(self, connection: Connection, own: Any) -> tuple[int, int]:
        """Delete the scores of the account, or strip those that have an outcome."""
        scores, labels = scores_table, labels_table
        has_outcome = (
            select(labels.c.entity_id)
            .where(
                labels.c.company == scores.c.company,
                labels.c.entity_id == scores.c.entity_id,
                labels.c.target == scores.c.target,
                labels.c.as_of == scores.c.as_of,
            )
            .exists()
        )
        refs = set(connection.execute(select(scores.c.vector_ref).where(own)).scalars()) | set(
            connection.execute(select(scores.c.facts_ref).where(own)).scalars()
        )
        refs |= set(connection.execute(select(scores.c.reasons_ref).where(own)).scalars())
        books = set(connection.execute(select(scores.c.request_id).where(own)).scalars())
        deleted = self._delete(connection, scores, and_(own, ~has_outcome))
        stripped = {
            "entity_id": self._subject.pseudonym,
            "features": b"",
            "reasons": "[]",
            "facts": None,
            "vector_ref": None,
            "reasons_ref": None,
            "facts_ref": None,
        }
        judged = and_(
            self._ours(labels),
            labels.c.entity_id == self._subject.value,
            select(scores.c.row)
            .where(
                scores.c.company == labels.c.company,
                scores.c.entity_id == labels.c.entity_id,
                scores.c.target == labels.c.target,
                scores.c.as_of == labels.c.as_of,
            )
            .exists(),
        )
        if self._is_trial:
            kept = self._update(connection, scores, and_(own, has_outcome), stripped)
            return deleted, kept
        named = connection.execute(select(labels).where(judged)).mappings().all()
        kept = self._update(connection, scores, and_(own, has_outcome), stripped)
        for row in named:
            key = [labels.c[c.name] == row[c.name] for c in labels.primary_key.columns]
            connection.execute(update(labels).where(*key).values(entity_id=self._subject.pseudonym))
        self._drop_unused(connection, refs)
        self._recount(connection, books)
        return deleted, kept

    def _drop_unused(self, connection: Connection, refs: set[str | None]) -> None:
        """Delete shared contents that no score of the company refers to any more."""
        scores, wanted = scores_table, sorted(ref for ref in refs if ref)
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            used: set[str] = set()
            for name in ("vector_ref", "reasons_ref", "facts_ref"):
                query = select(scores.c[name]).where(self._ours(scores), scores.c[name].in_(part))
                used |= set(connection.execute(query).scalars())
            unused = [ref for ref in part if ref not in used]
            connection.execute(
                delete(contents_table).where(
                    self._ours(contents_table), contents_table.c.ref.in_(unused)
                )
            )

    def _recount(self, connection: Connection, books: set[str]) -> None:
        """Correct the number of scores of the runs that lost some."""
        for book_id in sorted(books):
            n = (
                select(func.count())
                .where(
                    scores_table.c.company == books_table.c.company,
                    scores_table.c.request_id == books_table.c.book_id,
                    scores_table.c.target == books_table.c.target,
                )
                .scalar_subquery()
            )
            connection.execute(
                update(books_table)
                .where(self._ours(books_table), books_table.c.book_id == book_id)
                .values(n_scores=n)
            )

    def _values(self, connection: Connection, holding: TableHolding) -> tuple[int, int]:
        """Replace the subject in the persons and texts of rows that stay."""
        table, changed = holding.table, 0
        for name, kind in holding.columns.items():
            if kind == "person" and self._subject.kind == "person":
                changed += self._persons(connection, table, name)
            elif kind == "text":
                changed += self._texts(connection, table, name)
        return 0, changed

    def _persons(self, connection: Connection, table: Table, name: str) -> int:
        value = self._subject.value
        spelled = (
            func.lower(table.c[name]) == value.lower() if "@" in value else (table.c[name] == value)
        )
        return self._update(
            connection, table, and_(self._ours(table), spelled), {name: self._subject.pseudonym}
        )

    def _texts(self, connection: Connection, table: Table, name: str) -> int:
        key = list(table.primary_key.columns)
        mentions = or_(
            *(
                func.lower(table.c[name]).contains(word.lower(), autoescape=True)
                for word in (self._subject.value, *self._subject.names)
            )
        )
        query = select(*key, table.c[name].label("_text")).where(self._ours(table), mentions)
        n = 0
        for row in connection.execute(query).mappings().all():
            clean = self._subject.cleaned(row["_text"])
            if clean != row["_text"]:
                n += 1
                if not self._is_trial:
                    where = [column == row[column.name] for column in key]
                    connection.execute(update(table).where(*where).values({name: clean}))
        return n

    def _contents(self, connection: Connection) -> tuple[int, int]:
        """Clean reasons and facts that kept scores of other accounts share."""
        table, n = contents_table, 0
        query = select(table.c.ref, table.c.body).where(
            self._ours(table), table.c.kind.in_((REASONS, FACTS))
        )
        for ref, body in connection.execute(query).all():
            text = zlib.decompress(body).decode()
            clean = self._subject.cleaned(text)
            if clean != text:
                n += 1
                if not self._is_trial:
                    connection.execute(
                        update(table)
                        .where(self._ours(table), table.c.ref == ref)
                        .values(body=zlib.compress(clean.encode()))
                    )
        return 0, n

    def _delete(self, connection: Connection, table: Table, where: Any) -> int:
        if self._is_trial:
            return int(
                connection.execute(
                    select(func.count()).select_from(table).where(where)
                ).scalar_one()
            )
        return int(connection.execute(delete(table).where(where)).rowcount)

    def _update(
        self, connection: Connection, table: Table, where: Any, values: dict[str, Any]
    ) -> int:
        if self._is_trial:
            return int(
                connection.execute(
                    select(func.count()).select_from(table).where(where)
                ).scalar_one()
            )
        return int(connection.execute(update(table).where(where).values(**values)).rowcount)
