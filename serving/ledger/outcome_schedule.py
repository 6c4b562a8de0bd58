"""Schedule of the labelling of past books: when the next window of each book ends.

A book is labelled again only when the window of one of its open accounts has ended, or when facts
that its labels depend on changed: those known by its as_of, from which statuses and renewals are
read, and the rows of accounts whose window is over but which have no label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from configs.runtime.code_identity import code_digest
from configs.runtime.errors import StateError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import State, read_json, write_json_atomically
from configs.schema.company import midnight
from configs.schema.workspace import Workspace
from features.labels import labels_at
from features.snapshots.daily_store import daily_tables, fact_prints
from features.sources.files.sql import open_duckdb
from features.tables.duckdb_engine import connect
from serving.ledger.store.score_rows import BookEntry

if TYPE_CHECKING:
    import pandas as pd

    from features.sources import Loaded

FILE = "outcome_schedule.json"
OPEN = "window not yet observed"
"""Reason of an account whose window is open (`features.labels.windows`)."""

HINDSIGHT = ("subscriptions", "outcomes", "labels", "invoices")
"""Tables whose later rows can give a label to an account that had none when its window ended."""


@dataclass(frozen=True)
class Due:
    """Conditions under which a book has to be labelled again.

    Attributes
    ----------
    next_on : str or None
        First day on which the window of an open account has ended; None without open accounts.
    facts : str
        Identity of the facts known by the book's as_of.
    left : tuple of str
        Hashes of the accounts whose window is over, without a label; the ids are not copied.
    rows : str
        Identity of the rows of these accounts in the tables of `HINDSIGHT`.
    """

    next_on: str | None
    facts: str
    left: tuple[str, ...]
    rows: str


class OutcomeSchedule:
    """The schedule of one state directory; without its file, every book is due.

    Parameters
    ----------
    workspace, loaded : Workspace, Loaded
        The company and its source tables.
    now : datetime
        The clock.
    days : iterable of date
        as_ofs of the books.
    """

    def __init__(
        self, workspace: Workspace, loaded: Loaded, now: datetime, days: Iterable[date]
    ) -> None:
        self._state, self._loaded, self._now = workspace.state, loaded, now
        self._prints = _prints(workspace, loaded, sorted(set(days)))
        self._rows: Mapping[str, int] | None = None
        self._held = _read(workspace.state)
        self._kept: dict[str, Due] = {}

    def is_due(self, book: BookEntry, contract: str) -> bool:
        """Whether a book has to be labelled again under a contract; a book that is not is kept."""
        key = _key(book, contract)
        due = self._held.get(key)
        if due is None or due.facts != self._prints.get(book.as_of.date()):
            return True
        if due.next_on is not None and due.next_on <= str(midnight(self._now).date()):
            return True
        if due.rows != self._rows_of(due.left):
            return True
        self._kept[key] = due
        return False

    def labelled(
        self, book: BookEntry, contract: str, frame: pd.DataFrame, missing: Iterable[str]
    ) -> None:
        """Record when a book is due next.

        Parameters
        ----------
        book : BookEntry
            The book.
        contract : str
            Identity of its label contract.
        frame : pandas.DataFrame
            Labels of its as_of (`features.labels.labels_at`), all accounts.
        missing : iterable of str
            Accounts of the book that still have no outcome.
        """
        facts = self._prints.get(book.as_of.date())
        if facts is None:
            return
        wanted = set(missing)
        rows = frame[frame["entity_id"].isin(wanted)]
        is_open = rows["excluded"].eq(OPEN)
        ends = rows.loc[is_open, "label_known_at"].dropna()
        left = tuple(sorted(map(digest, wanted - set(rows.loc[is_open, "entity_id"]))))
        self._kept[_key(book, contract)] = Due(
            next_on=str(ends.min().date()) if len(ends) else None,
            facts=facts,
            left=left,
            rows=self._rows_of(left),
        )

    def save(self) -> None:
        """Keep the schedule of the books that were judged in this run."""
        kept = {key: asdict(due) for key, due in sorted(self._kept.items())}
        write_json_atomically(self._state.ledger / FILE, kept)

    def _rows_of(self, accounts: Iterable[str]) -> str:
        ids = list(accounts)
        if not ids:
            return ""
        if self._rows is None:
            self._rows = _account_rows(self._loaded, self._now)
        return digest([[account, str(self._rows.get(account))] for account in ids])


def _key(book: BookEntry, contract: str) -> str:
    return f"{book.book_id} {book.target} {contract} {book.n_scores}"


def _read(state: State) -> dict[str, Due]:
    try:
        stored = read_json(state.ledger / FILE)
        return {key: Due(**{**item, "left": tuple(item["left"])}) for key, item in stored.items()}
    except (FileNotFoundError, StateError, TypeError, AttributeError):
        return {}


def _prints(workspace: Workspace, loaded: Loaded, days: list[date]) -> dict[date, str]:
    """Return the identity of everything labels read of the moments themselves."""
    if not days:
        return {}
    company = workspace.company
    asked = digest(
        code_digest(labels_at.__module__),
        company.cohort.model_dump(),
        company.room.model_dump(),
        company.reporting_currency,
    )
    # A monitoring run comes here without having built features.
    daily, _, _ = daily_tables(connect(workspace.state.scratch), workspace, loaded, lambda _: None)
    facts = fact_prints(workspace.state, daily, days)
    return {day: digest(asked, facts[day]) for day in days}


def _account_rows(loaded: Loaded, now: datetime) -> dict[str, int]:
    """Return a hash of the rows of each account, by the hash of its id: those known by now."""
    today = midnight(now).date()
    infos = [loaded.tables[name] for name in HINDSIGHT if name in loaded.tables]
    if not infos:
        return {}
    with open_duckdb(files=[path for info in infos for path in info.files]) as connection:
        parts = []
        for info in infos:
            loaded.scan(connection, info.name)
            parts.append(
                f"SELECT account_id, sum(hash('{info.name}', t)) AS h FROM {info.name} AS t "
                f"WHERE known_at <= TIMESTAMP '{today}' GROUP BY 1"
            )
        rows = connection.execute(
            f"SELECT account_id, sum(h) FROM ({' UNION ALL '.join(parts)}) GROUP BY 1"
        ).fetchall()
    return {digest(str(account)): int(total) for account, total in rows}
