"""Retention in the ledger: content that scores share is kept once, and old content is removed.

A score asked for ten times a second has ten rows a second, and all but their ids and instants is
the same. Compaction moves vectors, reasons and facts of older scores to where each is kept once and
compressed; nothing is lost by it. The company decides what is removed, and
when (`configs.schema.company.Retention`); a score whose outcome is open stays, unless the company
chooses otherwise.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from configs.runtime.database import reading, writing
from configs.runtime.errors import BellwetherError
from configs.runtime.tables import (
    books_table,
    contents_table,
    labels_table,
    scores_table,
    upkeep_table,
)
from configs.schema.company import Retention
from configs.schema.workspace import Workspace
from serving.http.score_text import window
from serving.ledger.model_archive import ModelArchive
from serving.ledger.store.ledger import Ledger

VECTOR, REASONS, FACTS = "vector", "reasons", "facts"
_REF_OF = {"features": "vector_ref", "reasons": "reasons_ref", "facts": "facts_ref"}
_KIND_OF = {"features": VECTOR, "reasons": REASONS, "facts": FACTS}

ROWS_AT_ONCE = 1_000
"""Scores that are looked at, changed or removed together: others write in between."""

SETTLING_DAYS = 31
"""After the end of a score's window and the grace of a late renewal: outcomes come in late."""

EVERY = timedelta(hours=1)
"""Pause between two tidyings of the ledger; one of the workers that share it does them."""

TIDY, COMPACTED = "tidy", "compacted"


@dataclass(frozen=True)
class RetentionResult:
    """Counts of what one tidying changed in a ledger.

    Attributes
    ----------
    compacted : int
        Scores that share their content now.
    vectors : int
        Vectors and reasons that were removed.
    removed : int
        Scores that were removed.
    kept_open : int
        Scores that are old enough, and stay because their outcome is open.
    """

    compacted: int = 0
    vectors: int = 0
    removed: int = 0
    kept_open: int = 0

    @property
    def words(self) -> str:
        """The counts in words."""
        return (
            f"{self.compacted:,} scores compacted, {self.vectors:,} vectors and reasons removed, "
            f"{self.removed:,} scores removed, {self.kept_open:,} kept because their outcome is "
            "open"
        )

    def __add__(self, other: RetentionResult) -> RetentionResult:
        names = [item.name for item in fields(RetentionResult)]
        return RetentionResult(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass
class RetentionWorker:
    """The upkeep of one company's ledger.

    Parameters
    ----------
    workspace : Workspace
        The company.
    ledger : Ledger
        Its ledger, open.
    keeping : Keeping, optional
        Other limits than the company's.
    pause : callable
        Called between two transactions; says whether to stop.
    """

    workspace: Workspace
    ledger: Ledger
    keeping: Retention | None = None
    pause: Callable[[], bool] = lambda: False
    archive: ModelArchive = field(init=False)

    def __post_init__(self) -> None:
        self.archive = ModelArchive(self.workspace.state)
        self._keeping = self.keeping or self.workspace.company.ledger
        self._company = self.ledger.company

    def is_due(self, now: datetime) -> bool:
        """Say whether it is this caller's turn to tidy, which it takes for `EVERY`."""
        key = {"company": self._company, "step": TIDY}
        with writing(self.ledger.engine) as connection:
            _insert_missing(connection, upkeep_table, [{**key, "through_row": 0, "due_at": now}])
            taken = connection.execute(
                update(upkeep_table)
                .where(*_is(upkeep_table, key), upkeep_table.c.due_at <= now)
                .values(due_at=now + EVERY)
            )
        return int(taken.rowcount) == 1

    def tidy(self, now: datetime, clock: datetime) -> RetentionResult:
        """Compact what is old enough, and remove what is older still.

        Parameters
        ----------
        now : datetime
            The present, with a zone: what was served long enough before is compacted.
        clock : datetime
            The company's clock, by which scores grow old and outcomes become known. Where it is
            pinned they do not, and nothing is removed by its age.
        """
        keeping, done, today = self._keeping, RetentionResult(), clock.date()
        done += self.compact(now - timedelta(hours=keeping.compact_after_hours))
        if keeping.vectors_days is not None:
            done += self._forget_vectors(clock - timedelta(days=keeping.vectors_days))
        if keeping.scores_days is not None:
            old = clock - timedelta(days=keeping.scores_days)
            done += self._remove(today, lambda _row, _repeat: True, old, None)
        if keeping.max_scores is not None:
            done += self._remove_beyond(now, today, keeping.max_scores)
        if done.removed:
            self._forget_unused()
        return done

    def compact(self, through: datetime) -> RetentionResult:
        """Keep once what scores that were served by an instant share with others."""
        n_rows, start = 0, self._compacted_through()
        # Another may be at it too: what is emptied already has nothing more to share.
        is_whole = scores_table.c.vector_ref.is_(None)
        while rows := self._next(start, through, ("features", "reasons", "facts"), is_whole):
            with writing(self.ledger.engine) as connection:
                self._share(connection, rows)
                start = rows[-1]["row"]
                self._mark(connection, start)
            n_rows += len(rows)
            if self.pause():
                break
        return RetentionResult(compacted=n_rows)

    def _next(self, after: int, through: datetime, more: Sequence[str], *where: Any) -> list[Any]:
        """Return the scores that follow a row, up to the first that was served later."""
        table = scores_table
        names = ("row", "served_at", "entity_id", "target", "as_of", "release_id", "bundle_sha")
        query = (
            select(*(table.c[name] for name in (*names, *more)))
            .where(table.c.company == self._company, table.c.row > after, *where)
            .order_by(table.c.row)
            .limit(ROWS_AT_ONCE)
        )
        with reading(self.ledger.engine) as connection:
            rows = connection.execute(query).mappings().all()
        late = next((i for i, row in enumerate(rows) if row["served_at"] > through), len(rows))
        return list(rows[:late])

    def _compacted_through(self) -> int:
        table = upkeep_table
        query = select(table.c.through_row).where(
            *_is(table, {"company": self._company, "step": COMPACTED})
        )
        with reading(self.ledger.engine) as connection:
            return int(connection.execute(query).scalar_one_or_none() or 0)

    def _mark(self, connection: Connection, row: int) -> None:
        key = {"company": self._company, "step": COMPACTED}
        start = {**key, "through_row": row, "due_at": datetime.fromtimestamp(0, UTC)}
        _insert_missing(connection, upkeep_table, [start])
        connection.execute(
            update(upkeep_table).where(*_is(upkeep_table, key)).values(through_row=row)
        )

    def _share(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Move vectors, reasons and facts of some scores to where each is kept once."""
        contents: dict[str, dict[str, Any]] = {}
        changed = []
        for row in rows:
            refs: dict[str, Any] = {"this_row": row["row"]}
            for name, column in _REF_OF.items():
                body = row[name].encode() if isinstance(row[name], str) else bytes(row[name] or b"")
                refs[column] = self._content(contents, name, body, row["served_at"])
            changed.append(refs)
        table = contents_table
        insert = _dialect(connection).insert(table)
        later = case(
            (insert.excluded.last_served_at > table.c.last_served_at,
             insert.excluded.last_served_at),
            else_=table.c.last_served_at,
        )  # fmt: skip
        if contents:
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["company", "ref"], set_={"last_served_at": later}
                ),
                [contents[ref] for ref in sorted(contents)],
            )
        emptied = {"features": b"", "reasons": "", "facts": None}
        refs = {column: bindparam(column) for column in _REF_OF.values()}
        connection.execute(
            update(scores_table)
            .where(scores_table.c.row == bindparam("this_row"), scores_table.c.vector_ref.is_(None))
            .values(**emptied, **refs),
            changed,
        )

    def _content(
        self, contents: dict[str, dict[str, Any]], name: str, body: bytes, served_at: datetime
    ) -> str | None:
        """Add one content to those of a transaction; return what it is kept under."""
        kind = _KIND_OF[name]
        if not body and kind != VECTOR:  # the vector's says that a score is compacted
            return None
        ref = hashlib.sha256(kind.encode() + b"\x1f" + body).hexdigest()[:32]
        known = contents.get(ref)
        if known is None:
            contents[ref] = {
                "company": self._company,
                "ref": ref,
                "kind": kind,
                "body": zlib.compress(body),
                "last_served_at": served_at,
            }
        else:
            known["last_served_at"] = max(known["last_served_at"], served_at)
        return ref

    def _forget_vectors(self, before: datetime) -> RetentionResult:
        table = contents_table
        old = and_(
            table.c.company == self._company,
            table.c.kind.in_((VECTOR, REASONS)),
            table.c.last_served_at < before,
        )
        return RetentionResult(vectors=self._delete_contents(old))

    def _forget_unused(self) -> None:
        """Remove contents that only scores gave which are gone."""
        scores, table = scores_table, contents_table
        oldest = select(func.min(scores.c.served_at)).where(scores.c.company == self._company)
        with reading(self.ledger.engine) as connection:
            first = connection.execute(oldest).scalar_one()
        old = table.c.company == self._company
        if first is not None:
            old = and_(old, table.c.last_served_at < first)
        self._delete_contents(old)

    def _delete_contents(self, old: Any) -> int:
        with writing(self.ledger.engine) as connection:
            return int(connection.execute(delete(contents_table).where(old)).rowcount)

    def _remove_beyond(self, now: datetime, today: date, most: int) -> RetentionResult:
        """Remove scores until there are few enough: repeats within a month first."""
        done = RetentionResult()
        for is_chosen in (lambda _, is_repeat: bool(is_repeat), lambda _row, _repeat: True):
            excess = self.ledger.scores.count() - most
            if excess > 0:
                part = self._remove(today, is_chosen, now, excess)
                done = RetentionResult(
                    removed=done.removed + part.removed, kept_open=part.kept_open
                )
        return done

    def _remove(
        self,
        today: date,
        is_chosen: Callable[[Mapping[str, Any], bool], bool],
        through: datetime,
        at_most: int | None,
    ) -> RetentionResult:
        """Remove chosen scores, from the first on, whose outcome is known."""
        n_removed, n_open, start = 0, 0, 0
        seen: set[tuple[Any, ...]] = set()
        while rows := self._next(start, through, ("facts", "facts_ref")):
            start = rows[-1]["row"]
            chosen = [row for row in rows if is_chosen(row, _is_repeat(row, seen))]
            over = [row for row in chosen if not self._keeping.keep_open] or self._over(
                chosen, today
            )
            left = over if at_most is None else over[: at_most - n_removed]
            n_open += len(chosen) - len(over)
            n_removed += self._delete([row["row"] for row in left])
            if self.pause() or n_removed == at_most:
                break
        if n_removed:
            self._delete_empty_books(through)
        return RetentionResult(removed=n_removed, kept_open=n_open)

    def _delete(self, rows: Sequence[int]) -> int:
        if not rows:
            return 0
        with writing(self.ledger.engine) as connection:
            connection.execute(delete(scores_table).where(scores_table.c.row.in_(rows)))
        return len(rows)

    def _delete_empty_books(self, through: datetime) -> None:
        books, scores = books_table, scores_table
        is_used = exists().where(
            scores.c.company == books.c.company,
            scores.c.request_id == books.c.book_id,
            scores.c.target == books.c.target,
            # written out: with a parameter, no database would take the partial index
            scores.c.channel == literal_column("'book'"),
        )
        shown = and_(
            books.c.company == self._company,
            books.c.served_at <= through,
            func.coalesce(books.c.channel, "book") == "book",
        )
        with writing(self.ledger.engine) as connection:
            connection.execute(delete(books).where(shown, books.c.n_scores > 0, ~is_used))

    def _over(self, rows: Sequence[Any], today: date) -> list[Any]:
        """Return the scores whose outcome is known, or would be by now."""
        if not rows:
            return []
        with reading(self.ledger.engine) as connection:
            told = self.ledger.scores.contents(
                connection, (row["facts_ref"] for row in rows if row["facts_ref"])
            )
            labelled = self._labelled(connection, rows)
        return [
            row
            for row in rows
            if (row["entity_id"], row["target"], row["as_of"]) in labelled
            or self._settled_on(row, told) < today
        ]

    def _labelled(self, connection: Connection, rows: Sequence[Any]) -> set[tuple[Any, ...]]:
        table = labels_table
        query = select(table.c.entity_id, table.c.target, table.c.as_of).where(
            table.c.company == self._company,
            table.c.target.in_(sorted({row["target"] for row in rows})),
            table.c.as_of.in_(sorted({row["as_of"] for row in rows})),
            table.c.entity_id.in_(sorted({row["entity_id"] for row in rows})),
        )
        return {tuple(row) for row in connection.execute(query)}

    def _settled_on(self, row: Mapping[str, Any], told: Mapping[str, bytes]) -> date:
        """Return the day by which an outcome is known, if it ever is; far off when it is unsaid."""
        try:
            contract = self.archive.release(row["release_id"]).label_contracts[row["target"]]
            text = told.get(row["facts_ref"] or "", row["facts"])
            ends = window(contract, orjson.loads(text) if text else {}, row["as_of"])
        except (BellwetherError, KeyError):
            return date.max
        return ends + timedelta(days=int(contract.get("grace_days") or 45) + SETTLING_DAYS)


def _is_repeat(row: Mapping[str, Any], seen: set[tuple[Any, ...]]) -> bool:
    """Say whether an earlier score of the month is the one that counts; note this one."""
    month = row["as_of"].strftime("%Y-%m")
    key = (row["target"], row["entity_id"], row["bundle_sha"], month)
    is_known = key in seen
    seen.add(key)
    return is_known


def _is(table: Table, values: Mapping[str, Any]) -> list[Any]:
    return [table.c[name] == value for name, value in values.items()]


def _dialect(connection: Connection) -> Any:
    return sqlite if connection.dialect.name == "sqlite" else postgresql


def _insert_missing(
    connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]
) -> None:
    connection.execute(
        _dialect(connection).insert(table).on_conflict_do_nothing(), [dict(row) for row in rows]
    )
