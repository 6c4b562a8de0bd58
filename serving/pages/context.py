"""Context of an account: evidence, similar accounts, plays, risk events and history.

The estimate does not depend on it: a part that cannot be read is logged and shown as missing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import Annotated, TypedDict, TypeVar
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends

from configs.runtime.errors import BellwetherError
from configs.schema.plays import Plays, load_plays
from configs.schema.workspace import Workspace
from serving.batch.band_medians import ALL_ACCOUNTS, BandMedians, levels_of
from serving.batch.score_book import ScoreRun, read_table
from serving.http.personal_data import mask_person, mask_text
from serving.ledger.score_changes import asked_of
from serving.online.current_state import Live
from serving.online.server_state import CurrentBook, ServerState
from serving.pages.history.charts import HistoryCharts
from serving.pages.history.risk_history import DID, MOST_POINTS, History, history_of
from serving.scoring.answer import Answer
from serving.scoring.export_rows import first_per_outcome, flat_row
from serving.scoring.playbooks import Suggestion, has_conflict, suggest
from serving.workflow.call_facts import CallFacts, CallFactsReader, masked_facts
from serving.workflow.driver_evidence import PEOPLE, DriverEvidence, Listing
from serving.workflow.risk_cases import (
    MOVES,
    STAGE_WORDS,
    Event,
    Histories,
    Risk,
    Stage,
    lives,
    open_risks,
    tried,
)
from serving.workflow.risk_store import RiskStore, new_event_id
from serving.workflow.similar_accounts import PastCase, SimilarAccounts
from serving.workflow.source_rows import SourceRows
from serving.workflow.updates import Update, news

logger = logging.getLogger("bellwether.serving")

T = TypeVar("T")

UPDATES_CACHED = 8
"""Pairs of score runs whose differences are kept in memory."""


class RiskPanel(TypedDict):
    """Risk of an account with its events, and the plays that fit."""

    risk: Risk | None
    plays: Plays
    days_in_stage: int | None
    overdue_days: int | None
    suggestions: tuple[Suggestion, ...]
    has_conflict: bool
    events: list[Event]
    play_titles: dict[str, str]
    moves: tuple[Stage, ...]
    after: str
    today: date
    event_ids: list[str]


class Side(TypedDict):
    """Context of one account; a part that cannot be read is None."""

    listings: list[Listing] | None
    call: CallFacts | None
    precedents: SimilarAccounts | None
    history: History | None
    levels: BandMedians | None
    case: RiskPanel | None
    said: dict[str, tuple[str, datetime]] | None
    stage_words: dict[Stage, str]


class News(TypedDict):
    """Differences between the published scores and an earlier score run, most important first."""

    since: str
    items: list[Update]


class BookSide(TypedDict):
    """Context of the list of accounts; a part that cannot be read is None."""

    news: News | None
    trails: Mapping[str, Sequence[tuple[date, float]]]
    n_escalated: int
    rising: list[str] | None
    histories: dict[str, list[Event]] | None


@dataclass(frozen=True)
class Reader:
    """Reader of an account page.

    Attributes
    ----------
    who : str
        Name of the reader.
    sees_all : bool
        Whether the reader may see every account; others see the number of similar accounts but not
        their names.
    sees_people : bool
        Whether ids of persons and texts about them are shown as they are, not masked.
    """

    who: str
    sees_all: bool = True
    sees_people: bool = True


class AccountContext:
    """Reads the context of accounts; files and databases are opened on first use.

    Parameters
    ----------
    workspace : Workspace
        The company.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._plays: Plays | None = None
        self._readers: tuple[DriverEvidence, CallFactsReader] | None = None
        self._risks: RiskStore | None = None
        self._past: dict[tuple[str, str], PastCase | None] = {}
        self._news_of: dict[tuple[str, str], list[Update]] = {}
        self.charts = HistoryCharts(workspace.state)

    @property
    def plays(self) -> Plays:
        """The company's plays."""
        with self._lock:
            if self._plays is None:
                self._plays = load_plays(self._workspace.folder)
            return self._plays

    @property
    def risks(self) -> RiskStore:
        """The risks of the company."""
        plays = self.plays
        with self._lock:
            if self._risks is None:
                self._risks = RiskStore.open(self._workspace, plays)
            return self._risks

    def account_context(self, answer: Answer, live: ServerState, reader: Reader) -> Side:
        """Return the context of an account.

        Parameters
        ----------
        answer : Answer
            Answer of the scorer.
        live : ServerState
            The server state.
        reader : Reader
            The reader.
        """
        return {
            "listings": self._try("evidence", lambda: self._listings(answer, reader)),
            "call": self._try("call facts", lambda: self._call_facts(answer, live, reader)),
            "precedents": self._try(
                "similar accounts", lambda: self._similar(answer, reader.sees_all)
            ),
            "history": self._try("history", lambda: self._history(answer, live)),
            "levels": self._try("band medians", lambda: self._levels(answer, live)),
            "case": self._try("risks", lambda: self._risk_panel(answer, live.clock(), reader)),
            "said": self._try(
                "feedback", lambda: live.intake.said(answer["account_id"], reader.who)
            ),
            "stage_words": STAGE_WORDS,
        }

    def book_context(self, book: CurrentBook, whole: CurrentBook, who: str) -> BookSide:
        """Return the context of the list of accounts: updates, risk histories and recorded work.

        Parameters
        ----------
        book : CurrentBook
            Visible scores.
        whole : CurrentBook
            All published scores.
        who : str
            Name of the reader.
        """
        histories = self.histories()
        return {
            "news": self.news(book, whole, who),
            "trails": self._try("risk histories", lambda: self.charts.of(book.run)) or {},
            "n_escalated": _n_escalated(book, histories or {}),
            "rising": self.rising(whole),
            "histories": histories,
        }

    def rising(self, whole: CurrentBook) -> list[str] | None:
        """Return the accounts whose risk rose clearly in a week; None if it cannot be read."""
        return self._try("updates", lambda: self._rising(whole))

    def histories(self) -> dict[str, list[Event]] | None:
        """Return all recorded events by account; None if they cannot be read."""
        return self._try("risks", lambda: self.risks.histories())

    def news(
        self, book: CurrentBook, whole: CurrentBook, who: str, *, of_week: bool = False
    ) -> News | None:
        """Return the updates since the last visit of a reader, or of the last week.

        None without an earlier score run, and when they cannot be read.
        """
        return self._try("updates", lambda: self._news(book, whole, who, of_week))

    def _rising(self, whole: CurrentBook) -> list[str]:
        earlier = self.charts.about_a_week_before(whole.run)
        found = self._news_since(earlier, whole) if earlier else []
        return [item.account_id for item in found if item.kind == "worse"]

    def _news(self, book: CurrentBook, whole: CurrentBook, who: str, of_week: bool) -> News | None:
        seen_before = self.charts.earlier(self.risks.look(who, book.run.run_id))
        # A new reader sees the changes of the last week.
        week = of_week or seen_before is None
        earlier = self.charts.about_a_week_before(book.run) if week else seen_before
        if earlier is None:
            return None
        found = self._news_since(earlier, whole)
        if book is not whole:
            seen = set(book.table["account_id"].to_pylist())
            found = [item for item in found if item.account_id in seen]
        return {"since": earlier.as_of, "items": found}

    def _news_since(self, earlier: ScoreRun, whole: CurrentBook) -> list[Update]:
        """Return the updates between two score runs; cached for all readers."""
        key = (earlier.run_id, whole.run.run_id)
        with self._lock:
            found = self._news_of.get(key)
        if found is None:
            found = news(read_table(earlier), whole.table)
            with self._lock:
                while len(self._news_of) >= UPDATES_CACHED:
                    del self._news_of[next(iter(self._news_of))]
                self._news_of[key] = found
        return found

    def _try(self, part: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except BellwetherError as error:
            logger.warning("%s cannot be shown: %s", part, error.what)
            return None

    def _open_readers(self) -> tuple[DriverEvidence, CallFactsReader]:
        """Return the readers of the source tables, which share one connection."""
        with self._lock:
            if self._readers is None:
                rows = SourceRows(self._workspace.state)
                self._readers = DriverEvidence(rows), CallFactsReader(rows)
            return self._readers

    def _listings(self, answer: Answer, reader: Reader) -> list[Listing]:
        risk = first_per_outcome(answer).get("churn")
        as_of = answer.get("as_of")
        if risk is None or as_of is None:
            return []
        reasons = (*risk["raises"], *risk["lowers"])
        themes = [reason["theme"] for reason in reasons]
        found = self._open_readers()[0].listings(answer["account_id"], _day(as_of), themes)
        return found if reader.sees_people else [_without_people(listing) for listing in found]

    def _call_facts(self, answer: Answer, live: ServerState, reader: Reader) -> CallFacts | None:
        as_of, segment = answer.get("as_of"), answer.get("segment")
        if as_of is None:
            return None
        peers: list[str] = []
        if live.book is not None and segment:
            table = live.book.table
            alike = pc.and_(
                pc.equal(table["segment"], segment), pc.equal(table["status"], "scored")
            )
            peers = table["account_id"].filter(pc.fill_null(alike, False)).to_pylist()
        found = self._open_readers()[1].facts(answer["account_id"], _day(as_of), peers)
        return found if reader.sees_people else masked_facts(found)

    def _similar(self, answer: Answer, sees_all: bool) -> SimilarAccounts | None:
        risk = first_per_outcome(answer).get("churn")
        if risk is None or risk["verdict"] == "no_signal":
            return None
        past = self._tests_of(risk["target"], risk["bundle_sha"])
        if past is None:
            return None
        found = past.like(
            risk["probability"],
            answer.get("segment"),
            is_renewal=risk["asks_about"] == "renewal",
            entity_id=answer["account_id"],
        )
        return found if found is None or sees_all else replace(found, examples=())

    def _tests_of(self, target: str, sha: str) -> PastCase | None:
        key = (target, sha)
        with self._lock:
            if key not in self._past:
                self._past[key] = PastCase.of(self._workspace.state, target, sha)
            return self._past[key]

    def _history(self, answer: Answer, live: ServerState) -> History | None:
        models = [item for item in live.current().scorer.models if item.bundle.outcome in DID]
        if not models:
            return None
        entity, ledger = answer["account_id"], live.ledger
        risk = next((item for item in models if item.bundle.outcome != "expansion"), models[0])
        rows = ledger.scores.history(entity, risk.target, MOST_POINTS, channel="book")
        outcomes = {
            item.target: (item.bundle.outcome, ledger.outcomes.known(item.target, entity_id=entity))
            for item in models
        }
        asked = partial(asked_of, live.archive, contract=risk.contract)
        return history_of(rows, outcomes, live.clock().date(), asked)

    def _levels(self, answer: Answer, live: ServerState) -> BandMedians | None:
        peers = answer.get("peers")
        group = (peers and peers["text"]) or ALL_ACCOUNTS
        return levels_of(live.book.run, group) if live.book else None

    def _risk_panel(self, answer: Answer, now: datetime, reader: Reader) -> RiskPanel:
        row = flat_row(answer)
        events = self.risks.events(answer["account_id"])
        found = lives(events)
        risk = found[-1] if found else None
        is_open = risk is not None and not risk.has_ended
        today = now.date()
        return {
            "risk": risk,
            "plays": self.plays,
            "days_in_stage": risk.days_in_stage(now) if risk else None,
            "overdue_days": risk.overdue_days(today) if risk else None,
            "suggestions": suggest(
                self.plays, row, tried=tried(events), today=today, has_open_risk=is_open
            ),
            "has_conflict": has_conflict(row, has_open_risk=is_open),
            "events": [
                event if reader.sees_people else replace(event, text=mask_text(event.text))
                for event in reversed(events)
            ],
            "play_titles": {play.id: play.title for play in self.plays.plays},
            "moves": MOVES[risk.stage] if risk else (),
            "after": events[-1].event_id if events else "",
            "today": today,
            "event_ids": [new_event_id() for _ in range(5)],
        }


class AccountContexts:
    """One `AccountContext` per server state; tests may serve several companies in one process."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[ServerState, AccountContext] = WeakKeyDictionary()

    def __call__(self, live: ServerState) -> AccountContext:
        """Return the context reader of a server state."""
        return self._found.setdefault(live, AccountContext(live.workspace))


_contexts = AccountContexts()


async def account_contexts(live: Live) -> AccountContext:
    """Return the context reader of the application that handles a request."""
    return _contexts(live)


Context = Annotated[AccountContext, Depends(account_contexts)]


def _n_escalated(book: CurrentBook, histories: Histories) -> int:
    """Return the number of visible accounts whose open risk was escalated."""
    found = [entity for entity, risk in open_risks(histories).items() if risk.escalated]
    return int(
        pc.sum(pc.is_in(book.table["account_id"], pa.array(found, pa.string()))).as_py() or 0
    )


def _without_people(listing: Listing) -> Listing:
    """Return evidence with the ids of persons masked; its texts are masked for all readers."""
    people = [listing.columns.index(name) for name in PEOPLE if name in listing.columns]
    rows = tuple(
        tuple(mask_person(cell) if i in people else cell for i, cell in enumerate(row))
        for row in listing.rows
    )
    return replace(listing, rows=rows)


def _day(as_of: str) -> date:
    return date.fromisoformat(as_of[:10])
