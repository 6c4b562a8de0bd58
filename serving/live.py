"""What this process serves at present: one release, its online store, the last book, the ledger.

Everything a request needs is one immutable `Stage`; a background check builds the next one aside
and puts it in place with a single assignment, so a request never sees two releases.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.company import load_company
from configs.errors import BellwetherError, ConfigError, StateError, UnavailableError
from configs.places import Places, Workspace
from configs.state import State
from features.store import OnlineRows, Store
from serving.book import BookRun, read_latest, read_ranks, read_table
from serving.exports import compact_reasons
from serving.ledger import Ledger, ScoreRow, new_score_ids, pack_features
from serving.phrases import FAILED
from serving.scoring import Scorer, load_peers, newest_vectors, status
from training.releases import Release, read_current

logger = logging.getLogger("bellwether.serving")

CHECK_SECONDS = 5.0
"""How often the background check looks for a new release, new vectors and a new book."""


NO_RANKS: dict[str, np.ndarray] = {}


@dataclass(frozen=True)
class Book:
    """The last published book, in memory.

    Attributes
    ----------
    run : BookRun
        Which.
    table : pyarrow.Table
        Canonical rows, ranked.
    ranks : dict of str to numpy.ndarray
        Ascending probabilities by target.
    """

    run: BookRun
    table: pa.Table
    ranks: dict[str, np.ndarray]


@dataclass(frozen=True)
class Stage:
    """One release with everything that answers for it."""

    scorer: Scorer
    store: Store
    vectors: str

    @property
    def release(self) -> Release:
        """What is published."""
        return self.scorer.release


@dataclass(frozen=True)
class Scored:
    """Answers, and what the ledger must hold before anybody sees them.

    Attributes
    ----------
    answers : list of dict
        One per account asked, in that order; every score carries its ``score_id``.
    rows : list of ScoreRow
        One per account and target, without repeats.
    """

    answers: list[dict[str, Any]]
    rows: list[ScoreRow]


class Live:
    """What is served at present.

    Parameters
    ----------
    workspace : Workspace
        The company.
    clock : callable
        Returns now, UTC.
    """

    def __init__(self, workspace: Workspace, clock: Callable[[], datetime] | None = None) -> None:
        self.workspace = workspace
        self.clock = clock or workspace.company.clock
        self.stage: Stage | None = None
        self.book: Book | None = None
        self.notes: dict[str, str] = {}
        # Single scores, batches and probes never wait for each other's threads.
        self.singles = ThreadPoolExecutor(2, "single")
        self.batches = ThreadPoolExecutor(2, "batch")
        self.probes = ThreadPoolExecutor(1, "probe")
        self._ledger: Ledger | None = None
        self._stop = threading.Event()
        self._refreshing = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, check_seconds: float = CHECK_SECONDS) -> None:
        """Load what is there, then keep looking."""
        self.refresh()
        self._thread = threading.Thread(
            target=self._keep_looking, args=(check_seconds,), name="refresh", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop looking; commit what waits for the ledger."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=60)
        for pool in (self.singles, self.batches, self.probes):
            pool.shutdown()
        if self._ledger is not None:
            self._ledger.close()

    @property
    def has_ledger(self) -> bool:
        """Whether the ledger was opened."""
        return self._ledger is not None

    @property
    def ledger(self) -> Ledger:
        """The score ledger; without it nothing is answered."""
        if self._ledger is None:
            raise UnavailableError("the score ledger cannot be opened, so nothing is scored")
        return self._ledger

    def current(self) -> Stage:
        """Return what answers.

        Raises
        ------
        StateError
            Nothing is published, or what is published cannot be served yet.
        """
        if self.stage is None:
            raise StateError(
                self.notes.get("release", "no release is published"),
                where=str(self.workspace.state.releases),
                fix="bellwether run COMPANY",
            )
        return self.stage

    def is_ready(self) -> bool:
        """Say whether a score asked for now would be answered."""
        stage = self.stage
        return (
            stage is not None
            and self._ledger is not None
            and stage.store.is_ready(stage.scorer.feature_hash)
        )

    def is_stale(self) -> bool:
        """Say whether the last book is older than the company allows."""
        if self.book is None:
            return False
        age = self.clock() - datetime.fromisoformat(self.book.run.as_of)
        return age.days > self.workspace.company.serving.stale_after_days

    def score(self, account_ids: Sequence[str], *, request_id: str, channel: str = "api") -> Scored:
        """Score accounts; nothing may be shown before `Scored.rows` are in the ledger.

        An account that breaks the scoring of a batch is scored alone, so that it cannot cost the
        others their answers.

        Raises
        ------
        UnavailableError
            The online store does not answer.
        StateError
            Nothing is published.
        """
        stage, now = self.current(), self.clock()
        unique = list(dict.fromkeys(account_ids))
        if not unique:
            return Scored([], [])
        try:
            scored = _score_together(stage, unique, now, request_id, channel)
        except BellwetherError:
            raise
        except Exception:
            logger.exception("a batch of %d accounts cannot be scored together", len(unique))
            scored = _score_alone(stage, unique, now, request_id, channel)
        by_id = dict(zip(unique, scored.answers, strict=True))
        return Scored([by_id[entity] for entity in account_ids], scored.rows)

    def refresh(self) -> None:
        """Look for a new release, new vectors and a new book; keep what is there on any trouble."""
        with self._refreshing:
            for part, look in (
                ("ledger", self._open_ledger),
                ("book", self._refresh_book),
                ("release", self._refresh_release),
            ):
                try:
                    note = look()
                except BellwetherError as error:
                    note = error.what
                except Exception as error:
                    logger.exception("looking for a new %s failed", part)
                    note = f"{type(error).__name__}: {error}"
                self._say(part, note)

    def _keep_looking(self, check_seconds: float) -> None:
        while not self._stop.wait(check_seconds):
            self.refresh()

    def _say(self, part: str, note: str) -> None:
        if note and self.notes.get(part) != note:
            logger.warning("%s: %s", part, note)
        self.notes = {**self.notes, part: note} if note else _without(self.notes, part)

    def _open_ledger(self) -> str:
        if self._ledger is None:
            self._ledger = Ledger.open(self.workspace)
        return ""

    def _refresh_book(self) -> str:
        run = read_latest(self.workspace.state)
        if run is not None and (self.book is None or self.book.run.run_id != run.run_id):
            self.book = Book(run, read_table(run), read_ranks(run))
        return "" if run else "no book is published yet"

    def _refresh_release(self) -> str:
        release = read_current(self.workspace.state.releases)
        if release is None:
            return "no release is published"
        stage = self.stage
        if stage is None or stage.release.release_id != release.release_id:
            stage = self._next_stage(release)
        if stage is None:
            return (
                f"release {release.release_id} waits: its features "
                f"{release.feature_set['hash']} are not in the online store"
            )
        self.stage = self._brought_up_to_date(stage)
        return ""

    def _next_stage(self, release: Release) -> Stage | None:
        """Load a release aside; None while its features are not in the online store."""
        scorer = Scorer.load(self.workspace, release)
        # A new handle: a registry read earlier does not know views declared since.
        store = Store(self.workspace)
        if not store.is_ready(scorer.feature_hash):
            return None
        stage = Stage(scorer, store, "")
        _warm(stage, self.clock())
        for model in scorer.models:
            model.bundle.warm()
        return stage

    def _brought_up_to_date(self, stage: Stage) -> Stage:
        """Return the stage with the peers of the newest vectors and the ranks of the last book."""
        scorer = stage.scorer
        folder = newest_vectors(self.workspace.state, scorer.feature_hash)
        vectors = f"{folder.name}/{folder.stat().st_mtime_ns}" if folder else ""
        if vectors != stage.vectors:
            scorer = scorer.with_peers(load_peers(folder, scorer.release.feature_set["names"]))
        book = self.book
        is_same = book is not None and book.run.release_id == scorer.release.release_id
        ranks = book.ranks if book is not None and is_same else NO_RANKS
        if ranks is not scorer.ranks:
            scorer = scorer.with_ranks(ranks)
        return replace(stage, scorer=scorer, vectors=vectors)


def workspace_from_environment(environment: Mapping[str, str]) -> Workspace:
    """Return whom to serve.

    Serving reads no raw data, so the data folder need not be there.

    Raises
    ------
    ConfigError
        A variable is missing or names nothing.
    """
    missing = [
        name for name in ("BELLWETHER_COMPANY", "BELLWETHER_STATE") if not environment.get(name)
    ]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not set",
            where="the environment",
            fix="bellwether serve COMPANY sets them",
        )
    folder = Path(environment["BELLWETHER_COMPANY"])
    company = load_company(folder)
    data = Path(environment.get("BELLWETHER_DATA") or folder)
    state = State(Path(environment["BELLWETHER_STATE"]).resolve())
    return Workspace(company, folder, data, state, Places.from_environment(environment))


def _without(notes: dict[str, str], part: str) -> dict[str, str]:
    return {key: note for key, note in notes.items() if key != part}


def _warm(stage: Stage, now: datetime) -> None:
    """Read and score once, so that the first caller does not pay for it."""
    scorer = stage.scorer
    stage.store.online(scorer.feature_hash, scorer.width, [""])
    nothing = np.full((1, scorer.width), np.nan)
    facts = {"status": "scored", "tenure_days": 0}
    scorer.score([""], OnlineRows(np.ones(1, dtype=bool), nothing, nothing, [facts], [now]), now)


def _score_together(
    stage: Stage, account_ids: Sequence[str], now: datetime, request_id: str, channel: str
) -> Scored:
    scorer = stage.scorer
    rows = stage.store.online(scorer.feature_hash, scorer.width, account_ids)
    answers = scorer.score(account_ids, rows, now)
    return Scored(answers, ledger_rows(stage, answers, rows, request_id, channel))


def _score_alone(
    stage: Stage, account_ids: Sequence[str], now: datetime, request_id: str, channel: str
) -> Scored:
    answers: list[dict[str, Any]] = []
    rows: list[ScoreRow] = []
    for entity in account_ids:
        try:
            one = _score_together(stage, [entity], now, request_id, channel)
        except BellwetherError:
            raise
        except Exception:
            logger.exception("account %r cannot be scored", entity)
            one = Scored([{"account_id": entity, **status(FAILED)}], [])
        answers += one.answers
        rows += one.rows
    return Scored(answers, rows)


def ledger_rows(
    stage: Stage,
    answers: Sequence[dict[str, Any]],
    rows: OnlineRows,
    request_id: str,
    channel: str,
) -> list[ScoreRow]:
    """Return what the ledger keeps of some answers, and put each score's id into it."""
    # When it was really answered: the company's clock may be pinned.
    served_at = datetime.now(UTC)
    parts = [
        (i, part) for i, answer in enumerate(answers) for part in answer.get("scores", {}).values()
    ]
    made = []
    for (i, part), score_id in zip(parts, new_score_ids(served_at, len(parts)), strict=True):
        part["score_id"] = score_id
        as_of = rows.as_of[i]
        assert as_of is not None  # a scored account has one
        made.append(
            ScoreRow(
                score_id=score_id,
                request_id=request_id,
                served_at=served_at,
                entity_id=answers[i]["account_id"],
                as_of=as_of,
                target=part["target"],
                release_id=stage.release.release_id,
                bundle_sha=part["bundle_sha"],
                probability=part["probability"],
                logit=part["logit"],
                band=part["band"],
                verdict=part["verdict"],
                features=pack_features(rows.values[i]),
                feature_set=stage.scorer.feature_hash,
                reasons=compact_reasons(part),
                channel=channel,
            )
        )
    return made
