"""What stands beside an account's estimate: evidence, precedents, plays, the life of its risk.

None of it is needed to answer: what cannot be read is left out and said, and the estimate stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc

from configs.runtime.errors import BellwetherError
from configs.schema.plays import Plays, load_plays
from configs.schema.workspace import Workspace
from serving.batch.band_medians import EVERYBODY, BandMedians, levels_of
from serving.batch.score_book import ScoreRun, read_table
from serving.ledger.score_changes import asked_of
from serving.online.server_state import CurrentBook, ServerState
from serving.pages.history_charts import HistoryCharts
from serving.pages.risk_history import MOST_POINTS, History, history_of
from serving.pages.track_record import DID
from serving.pages.whats_new import MOST, Update, news
from serving.scoring.export_rows import first_per_outcome, flat_row
from serving.scoring.playbooks import has_conflict, suggest
from serving.workflow.driver_evidence import DriverEvidence
from serving.workflow.risk_cases import MOVES, STAGE_WORDS, lives, tried
from serving.workflow.risk_store import RiskStore, new_event_id
from serving.workflow.similar_accounts import PastCase, SimilarAccounts

logger = logging.getLogger("bellwether.serving")

T = TypeVar("T")

NEWS_KEPT = 8
"""Pairs of books whose news are kept in memory."""


class AccountContext:
    """Everything a page about one account needs beside the score; opened on first use.

    Parameters
    ----------
    workspace : Workspace
        The company.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._plays: Plays | None = None
        self._evidence: DriverEvidence | None = None
        self._casebook: RiskStore | None = None
        self._past: dict[tuple[str, str], PastCase | None] = {}
        self._news_of: dict[tuple[str, str], list[Update]] = {}
        self.trails = HistoryCharts(workspace.state)

    @property
    def plays(self) -> Plays:
        """The company's plays."""
        with self._lock:
            if self._plays is None:
                self._plays = load_plays(self._workspace.folder)
            return self._plays

    @property
    def casebook(self) -> RiskStore:
        """The risks of the company."""
        plays = self.plays
        with self._lock:
            if self._casebook is None:
                self._casebook = RiskStore.open(self._workspace, plays)
            return self._casebook

    def beside(
        self, answer: Mapping[str, Any], live: ServerState, who: str, *, sees_all: bool = True
    ) -> dict[str, Any]:
        """Return what the template shows beside an answer; each part None when it cannot be read.

        Parameters
        ----------
        answer : mapping
            Of `serving.scoring.scorer.Scorer.score`.
        live : Live
            What is served.
        who : str
            The reader.
        sees_all : bool
            Whether the reader sees every account; others are told counts of similar accounts,
            and not which they were.
        """
        return {
            "listings": self._try("evidence", lambda: self._listings(answer)),
            "weeks": self._try("evidence", lambda: self._weeks(answer)),
            "precedents": self._try("precedents", lambda: self._precedents(answer, sees_all)),
            "history": self._try("history", lambda: self._history(answer, live)),
            "levels": self._try("levels", lambda: self._levels(answer, live)),
            "case": self._try("risks", lambda: self._case(answer, live.clock())),
            "said": self._try("feedback", lambda: live.intake.said(answer["account_id"], who)),
            "stage_words": STAGE_WORDS,
        }

    def beside_book(self, book: CurrentBook, whole: CurrentBook, who: str) -> dict[str, Any]:
        """Return what stands beside the book: what is new to somebody, and how risks went.

        Parameters
        ----------
        book : Book
            What they see of the last book.
        whole : Book
            All of it.
        who : str
            The reader.
        """
        return {
            "news": self._try("news", lambda: self._news(book, whole, who)),
            "trails": self._try("trails", lambda: self.trails.of(book.run)) or {},
            "n_escalated": self._try("escalations", lambda: self._n_escalated(book)) or 0,
        }

    def _n_escalated(self, book: CurrentBook) -> int:
        found = pa.array(self.casebook.escalated_risks(), pa.string())
        return int(pc.sum(pc.is_in(book.table["account_id"], found)).as_py() or 0)

    def _news(self, book: CurrentBook, whole: CurrentBook, who: str) -> dict[str, Any] | None:
        seen_before = self.trails.earlier(self.casebook.look(who, book.run.run_id))
        # who looks for the first time is told what a week brought
        earlier = seen_before or self.trails.about_a_week_before(book.run)
        if earlier is None:
            return None
        found = self._news_since(earlier, whole)
        if book is not whole:
            seen = set(book.table["account_id"].to_pylist())
            found = [item for item in found if item.account_id in seen]
        return {"since": earlier.as_of, "items": found[:MOST], "n": len(found)}

    def _news_since(self, earlier: ScoreRun, whole: CurrentBook) -> list[Update]:
        """Return what is new between two books; compared once for everybody who asks."""
        key = (earlier.run_id, whole.run.run_id)
        with self._lock:
            found = self._news_of.get(key)
        if found is None:
            found = news(read_table(earlier), whole.table)
            with self._lock:
                while len(self._news_of) >= NEWS_KEPT:
                    del self._news_of[next(iter(self._news_of))]
                self._news_of[key] = found
        return found

    def _try(self, part: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except BellwetherError as error:
            logger.warning("%s cannot be shown: %s", part, error.what)
            return None

    def _reader(self) -> DriverEvidence:
        with self._lock:
            if self._evidence is None:
                self._evidence = DriverEvidence(self._workspace.state)
            return self._evidence

    def _listings(self, answer: Mapping[str, Any]) -> list[Any]:
        risk = first_per_outcome(answer).get("churn")
        if risk is None:
            return []
        reasons = (*risk["raises"], *risk["lowers"])
        themes = [reason["theme"] for reason in reasons]
        return self._reader().listings(answer["account_id"], _day(answer["as_of"]), themes)

    def _weeks(self, answer: Mapping[str, Any]) -> Any:
        if not answer.get("as_of"):
            return None
        return self._reader().weeks(answer["account_id"], _day(answer["as_of"]))

    def _precedents(self, answer: Mapping[str, Any], sees_all: bool) -> SimilarAccounts | None:
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

    def _history(self, answer: Mapping[str, Any], live: ServerState) -> History | None:
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

    def _levels(self, answer: Mapping[str, Any], live: ServerState) -> BandMedians | None:
        group = (answer.get("peers") or {}).get("text") or EVERYBODY
        return levels_of(live.book.run, group) if live.book else None

    def _case(self, answer: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        row = flat_row(answer)
        events = self.casebook.events(answer["account_id"])
        found = lives(events)
        risk = found[-1] if found else None
        is_open = risk is not None and not risk.has_ended
        today = now.date()
        return {
            "risk": risk,
            "days_in_stage": risk.days_in_stage(now) if risk else None,
            "overdue_days": risk.overdue_days(today) if risk else None,
            "suggestions": suggest(
                self.plays, row, tried=tried(events), today=today, has_open_risk=is_open
            ),
            "has_conflict": has_conflict(row, has_open_risk=is_open),
            "events": list(reversed(events)),
            "play_titles": {play.id: play.title for play in self.plays.plays},
            "moves": MOVES[risk.stage] if risk else (),
            "after": events[-1].event_id if events else "",
            "today": today,
            "event_ids": [new_event_id() for _ in range(3)],
        }


class AccountContexts:
    """One desk for what is served; a process serves one company, tests may serve several."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[ServerState, AccountContext] = WeakKeyDictionary()

    def __call__(self, live: ServerState) -> AccountContext:
        """Return the desk of what is served."""
        return self._found.setdefault(live, AccountContext(live.workspace))


def _day(as_of: str) -> date:
    return date.fromisoformat(as_of[:10])
