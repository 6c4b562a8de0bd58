"""What this process serves at present: one release, its online store, the last book, the ledger.

Everything a request needs is one immutable `LoadedRelease`; a background check builds the next one
aside and puts it in place with a single assignment, so a request never sees two releases.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.runtime.errors import BellwetherError, ConfigError, StateError, UnavailableError
from configs.runtime.state_directory import State, keep_private
from configs.schema.company import company_folder, load_company
from configs.schema.plays import load_plays
from configs.schema.workspace import Environment, Workspace
from features.feast_store import FeastStore, OnlineRows
from serving.auth.api_keys import ApiKeys, KeyStore
from serving.auth.authenticate import Authenticator
from serving.auth.oidc import SignInSessions
from serving.auth.permissions import read_capacities, read_managers, seen
from serving.auth.rate_limits import RateLimiter
from serving.batch.score_book import ScoreRun, read_latest, read_ranks, read_table
from serving.http.dependency_health import DependencyHealth
from serving.integrations.webhooks import DEAD, KEPT_DAYS, Outbox, check_webhooks, endpoint_of
from serving.ledger.feedback_store import FeedbackStore
from serving.ledger.ledger import Ledger, ScoreRow
from serving.ledger.model_archive import ModelArchive
from serving.ledger.retention import RetentionWorker
from serving.ledger.score_changes import change_of
from serving.monitoring.monitoring_store import read_monitoring
from serving.monitoring.report import Monitoring
from serving.online.answer_cache import ROOM_BYTES, Recall
from serving.online.cache_warmer import Ahead
from serving.online.jobs import Jobs
from serving.online.micro_batch import Together, later
from serving.online.release_trial import ReleaseTrials
from serving.online.score_request import (
    LoadedRelease,
    ScoredBatch,
    ScoreRequest,
    known_answers,
    score_alone,
    score_together,
)
from serving.scoring.scorer import Scorer, load_peers
from serving.scoring.timings import Observe, collected, tell, timed
from serving.scoring.timings import stage as stage_timer
from serving.workflow.risk_store import RiskStore
from training.model.bands import newest_vectors
from training.registry.releases import Release, mark_served, read_current, read_served
from training.registry.shadow import read_shadow

logger = logging.getLogger("bellwether.serving")

JOB_SECONDS = 1.0
"""How often a worker looks for a score job."""

CHECK_SECONDS = 5.0
"""How often the background check looks for a new release, new vectors and a new book."""

AT_ONCE_SECONDS, AT_ONCE_SHARE = 0.02, 0.1
"""From when a disk is slow, and for what share of the time it may hold up the event loop then."""

TIDY_SECONDS, BREATH_SECONDS = 60.0, 0.05
"""How often a worker looks whether the ledger is to be tidied; its pause between two writes."""

AHEAD_SECONDS = 1.0
"""How often a worker looks whether answers can be computed ahead."""

PART_ACCOUNTS = 128
"""Accounts of a batch that are scored and handed to the ledger together."""

CLOSE_SECONDS = 30.0
"""How long work in the background may take to come to a stop."""

NO_RANKS: dict[str, np.ndarray] = {}


@dataclass(frozen=True)
class CurrentBook:
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

    run: ScoreRun
    table: pa.Table
    ranks: dict[str, np.ndarray]

    def seen_by(self, owners: frozenset[str] | None) -> CurrentBook:
        """Return what somebody sees who looks after some owners' accounts; None is everything."""
        return self if owners is None else replace(self, table=seen(self.table, owners))


class ServerState:
    """What is served at present.

    Parameters
    ----------
    workspace : Workspace
        The company.
    clock : callable
        Returns now, UTC.
    room_bytes : int
        What answers may take that are kept to be given again (`serving.online.answer_cache`).
    """

    def __init__(
        self,
        workspace: Workspace,
        clock: Callable[[], datetime] | None = None,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self.workspace = workspace
        self.clock = clock or workspace.company.clock
        self.room_bytes = room_bytes
        self.stage: LoadedRelease | None = None
        self.book: CurrentBook | None = None
        self.monitoring: Monitoring | None = None
        self.notes: dict[str, str] = {}
        self.observe_stage: Observe = lambda _name, _seconds: None
        # Single scores, batches and probes never wait for each other's threads.
        self.singles = ThreadPoolExecutor(2, "single")
        self.batches = ThreadPoolExecutor(2, "batch")
        self.probes = ThreadPoolExecutor(1, "probe")
        self.together = Together(self.score_each, self._keep_each, self._at_once)
        self._slow_until = 0.0
        self.archive = ModelArchive(workspace.state)
        self.managers: dict[str, str] = {}
        self.capacities: dict[str, float] = {}
        self._people = SignInSessions(workspace.company.access, workspace.places.sign_in)
        self._keys: KeyStore | None = None
        self._door: Authenticator | None = None
        self._ledger: Ledger | None = None
        self._ledger_pulse = DependencyHealth(lambda: self.ledger.ping())
        self._intake: FeedbackStore | None = None
        self._jobs: Jobs | None = None
        self.limiter = RateLimiter(workspace.company.limits, workspace.state.ledger / "limits")
        self._casebook: RiskStore | None = None
        self._trials = ReleaseTrials(workspace.state)
        self._outbox: Outbox | None = None
        self.undelivered: dict[tuple[str, str], int] = {}
        self._stop = threading.Event()
        self._refreshing = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, check_seconds: float = CHECK_SECONDS) -> None:
        """Load what is there, then keep looking."""
        self.refresh()
        work: dict[str, Callable[[], None]] = {
            "refresh": partial(self._keep_looking, check_seconds),
            "jobs": self._work,
            "ahead": self._compute_ahead,
            "upkeep": self._tidy,
        }
        for name in self.workspace.company.webhooks:  # one never waits for another
            work[f"webhook {name}"] = partial(self._send, name)
        for name, run in work.items():
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """Stop looking; commit what waits for the ledger."""
        self._stop.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:  # a job goes on where it was at the next start
            thread.join(max(deadline - time.monotonic(), 0.1))
        self.together.close()
        self.limiter.close()
        for pool in (self.singles, self.batches, self.probes):
            pool.shutdown()
        stores = (self._ledger, self._intake, self._jobs, self._keys, self._outbox, self._casebook)
        for store in stores:
            if store is not None:
                store.close()

    @property
    def has_ledger(self) -> bool:
        """Whether the ledger was opened, and its database answers now."""
        return self._ledger is not None and self._ledger_pulse.beats()

    @property
    def ledger(self) -> Ledger:
        """The score ledger; without it nothing is answered."""
        if self._ledger is None:
            raise UnavailableError("the score ledger cannot be opened, so nothing is scored")
        return self._ledger

    @property
    def door(self) -> Authenticator:
        """Whom to let in; while the keys were never read, nobody."""
        if self._door is None:
            raise UnavailableError("the keys cannot be read, so nobody is let in")
        return self._door

    @property
    def intake(self) -> FeedbackStore:
        """What others tell of accounts and reasons."""
        if self._intake is None:
            raise UnavailableError("nothing that is told can be kept")
        return self._intake

    @property
    def jobs(self) -> Jobs:
        """Books scored in the background."""
        if self._jobs is None:
            raise UnavailableError("no score job can be kept")
        return self._jobs

    def current(self) -> LoadedRelease:
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
        return not self.why_not_ready()

    def why_not_ready(self) -> str:
        """Say why no score can be given out at present; empty when one can. Names no address."""
        stage = self.stage
        if stage is None:
            return "no release is served yet"
        if not self.has_ledger:
            return "the database of the score ledger does not answer"
        if not stage.store.is_ready(stage.scorer.feature_hash):
            return "the online store does not answer, or lacks the features of the release"
        return ""

    def is_stale(self) -> bool:
        """Say whether the last book is older than the company allows."""
        if self.book is None:
            return False
        age = self.clock() - datetime.fromisoformat(self.book.run.as_of)
        return age.days > self.workspace.company.serving.stale_after_days

    def score(
        self,
        account_ids: Sequence[str],
        *,
        request_id: str,
        channel: str = "api",
        owners: frozenset[str] | None = None,
        keep: Callable[[list[ScoreRow]], object] = lambda _: None,
    ) -> ScoredBatch:
        """Score accounts; nothing may be shown before `ScoredBatch.rows` are in the ledger.

        An account that breaks the scoring of a batch is scored alone, so that it cannot cost the
        others their answers. With `owners`, accounts of other owners are as good as unknown.
        `keep` is given the rows, shadow included, part by part: the ledger commits some while
        others are scored. All parts are answered by one release.

        Raises
        ------
        UnavailableError
            The online store does not answer.
        StateError
            Nothing is published.
        """
        unique = list(dict.fromkeys(account_ids))
        asked = [ScoreRequest(entity, request_id, channel, owners) for entity in unique]
        stage, now = self._moment()
        whole = ScoredBatch([], [], [], stage.release.release_id)
        for start in range(0, len(asked), PART_ACCOUNTS):
            part = self._score(stage, asked[start : start + PART_ACCOUNTS], now)
            keep([row for one in part for row in (*one.rows, *one.shadow)])
            for one in part:
                whole.given.extend(one.given)
                whole.rows.extend(one.rows)
                whole.shadow.extend(one.shadow)
        by_id = dict(zip(unique, whole.given, strict=True))
        return replace(whole, given=[by_id[entity] for entity in account_ids])

    def score_each(self, asked: Sequence[ScoreRequest]) -> list[ScoredBatch]:
        """Score accounts that several callers ask for, as `score` does; one result per ask."""
        stage, now = self._moment()
        return self._score(stage, asked, now)

    def _keep_each(self, scored: Sequence[ScoredBatch]) -> list[Future[int]]:
        started = time.perf_counter()
        committed = self.ledger.commit_each([[*item.rows, *item.shadow] for item in scored])
        self.observe_stage("ledger", time.perf_counter() - started)
        return committed

    def _at_once(self, asked: Sequence[ScoreRequest]) -> list[ScoredBatch | None]:
        """Give again, in the event loop, what is known and embedded stores can confirm and keep.

        None where an answer has to be computed, where a store is another machine's, where another
        writes to the ledger, and for a while after the disk was slow: a thread does it then.
        """
        nothing: list[ScoredBatch | None] = [None] * len(asked)
        stage, started = self.stage, time.perf_counter()
        if stage is None or stage.shadow is not None or started < self._slow_until:
            return nothing
        ledger = self._ledger
        if ledger is None or not ledger.is_embedded or self.workspace.places.redis_url is not None:
            return nothing
        known = [i for i, ask in enumerate(asked) if ask.account_id in stage.recall]
        if not known:
            return nothing
        try:
            with collected() as spent:
                _, _, found = known_answers(stage, [asked[i] for i in known], self.clock())
                rows = [row for scored in found if scored for row in scored.rows]
                with stage_timer("ledger"):
                    is_kept = bool(rows) and ledger.commit_now(rows)
        except Exception:
            logger.debug("nothing can be given at once", exc_info=True)
            return nothing
        finally:
            took = time.perf_counter() - started
            if took > AT_ONCE_SECONDS:
                self._slow_until = started + took / AT_ONCE_SHARE
        later(partial(tell, self.observe_stage, spent))
        given = dict(zip(known, found, strict=True)) if is_kept else {}
        return [given.get(i) for i in range(len(asked))]

    def _moment(self) -> tuple[LoadedRelease, datetime]:
        """Return what answers, and the clock: one of each for everything in a request."""
        return self.current(), self.clock()

    def _score(
        self, stage: LoadedRelease, asked: Sequence[ScoreRequest], now: datetime
    ) -> list[ScoredBatch]:
        try:
            with timed(self.observe_stage):
                return score_together(stage, asked, now)
        except BellwetherError:
            raise
        except Exception:
            logger.exception(
                "%d accounts cannot be scored together",
                len(asked),
                extra={"request_id": asked[0].request_id},
            )
            return score_alone(stage, asked, now)

    def changes(
        self, rows: Sequence[ScoreRow], *, served_before: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Say what changed since the scores that were shown before these.

        Parameters
        ----------
        rows : sequence of ScoreRow
            Present scores, as the ledger has them.
        served_before : datetime, optional
            Compare with what was shown before this instant.

        Returns
        -------
        list of dict
            One `schemas.Change` per row.
        """
        currency = self.workspace.company.reporting_currency
        earlier = [
            self.ledger.previous(
                row.entity_id,
                row.target,
                as_of=row.as_of,
                bundle_sha=row.bundle_sha,
                served_before=served_before,
            )
            for row in rows
        ]
        return [
            # Without its vector, an old score is nothing to compare with.
            change_of(self.archive, row, before if before and before.features else None, currency)
            for row, before in zip(rows, earlier, strict=True)
        ]

    def refresh(self) -> None:
        """Look for a new release, new vectors and a new book; keep what is there on any trouble."""
        with self._refreshing:
            for part, look in (
                ("keys", self._refresh_door),
                ("ledger", self._open_ledger),
                ("risks", self._open_casebook),
                ("book", self._refresh_book),
                ("release", self._refresh_release),
                ("shadow", self._refresh_shadow),
                ("monitoring", self._refresh_monitoring),
                ("webhooks", self._refresh_webhooks),
            ):
                self._say(part, _noted(part, look))

    def _send(self, name: str) -> None:
        """Send what is due to one webhook, turn after turn; trouble is logged when it changes."""
        outbox: Outbox | None = None
        said = ""
        while not self._stop.wait(JOB_SECONDS):
            try:
                endpoint = endpoint_of(self.workspace, name)
                outbox = outbox or Outbox(self.workspace)
                outbox.deliver_to(endpoint, datetime.now(UTC))
                words = ""
            except Exception as error:
                words = f"{type(error).__name__}: {getattr(error, 'what', error)}"
            if words and words != said:
                logger.warning("the webhook %s waits: %s", name, words)
            said = words
        if outbox is not None:
            outbox.close()

    def _tidy(self) -> None:
        """Keep the ledger and the outbox small; one worker of all does it at a time."""
        while not self._stop.wait(TIDY_SECONDS):
            try:
                upkeep = RetentionWorker(
                    self.workspace, self.ledger, pause=lambda: self._stop.wait(BREATH_SECONDS)
                )
                now = datetime.now(UTC)
                if upkeep.is_due(now):
                    logger.info("ledger: %s", upkeep.tidy(now, self.clock()).words)
                    if self._outbox is not None:
                        self._outbox.forget(now - timedelta(days=KEPT_DAYS))
            except Exception as error:
                logger.warning("the ledger is not tidied: %s: %s", type(error).__name__, error)

    def _work(self) -> None:
        while not self._stop.wait(JOB_SECONDS):
            if self.is_ready():
                try:
                    self.jobs.run_next(self, datetime.now(UTC))
                except Exception:
                    logger.exception("a score job failed")

    def _compute_ahead(self) -> None:
        """Have the answers of the book ready, those with most at stake first."""
        ahead = Ahead(self._remember_answers, self._stop.wait)
        while not self._stop.wait(AHEAD_SECONDS):
            stage, book, today = self.stage, self.book, self.clock().date()
            if stage is None or book is None or stage.shadow is not None:
                continue
            if not ahead.is_done(stage.recall, today):
                accounts = book.table["account_id"].to_pylist()
                is_due = partial(self._is_current, stage.recall, today)
                ahead.run(stage.recall, today, accounts, is_due)

    def _is_current(self, recall: Recall, day: date) -> bool:
        stage = self.stage
        return stage is not None and stage.recall is recall and self.clock().date() == day

    def _remember_answers(self, account_ids: Sequence[str]) -> None:
        stage, now = self._moment()
        score_together(
            stage, [ScoreRequest(entity, "", "api", None) for entity in account_ids], now
        )

    def _keep_looking(self, check_seconds: float) -> None:
        while not self._stop.wait(check_seconds):
            self.refresh()

    def _say(self, part: str, note: str) -> None:
        if note and self.notes.get(part) != note:
            logger.warning("%s: %s", part, note)
        self.notes = {**self.notes, part: note} if note else _without(self.notes, part)

    def _refresh_door(self) -> str:
        if self._keys is None:
            self._keys = KeyStore(self.workspace)
        self._door = Authenticator(ApiKeys(self._keys.every()), self._people)
        return self._people.refresh(time.monotonic())

    def _open_ledger(self) -> str:
        if self._ledger is None:
            self._ledger = Ledger.open(self.workspace)
        if self._intake is None:
            self._intake = FeedbackStore(self.workspace)
        if self._jobs is None:
            self._jobs = Jobs(self.workspace)
        return ""

    def _open_casebook(self) -> str:
        """Hold the risks open: on a disk that fills up later, an open file can still be read."""
        if self._casebook is None and self.workspace.places.ledger_url is None:
            self._casebook = RiskStore.open(self.workspace, load_plays(self.workspace.folder))
        return ""

    def _refresh_book(self) -> str:
        run = read_latest(self.workspace.state)
        if run is not None and (self.book is None or self.book.run.run_id != run.run_id):
            self.book = CurrentBook(run, read_table(run), read_ranks(run))
        return "" if run else "no book is published yet"

    def _refresh_release(self) -> str:
        folder = self.workspace.state.releases
        note = _noted("release", lambda: self._take_up(read_current(folder)))
        if self.stage is None and note:
            # A process that starts while what is published cannot be served takes what was.
            _noted("earlier release", lambda: self._take_up(read_served(folder)))
        if self.stage is not None:
            self.stage = self._brought_up_to_date(self.stage)
        return note

    def _refresh_monitoring(self) -> str:
        self.monitoring = read_monitoring(self.workspace.state.monitoring)
        return ""

    def _refresh_webhooks(self) -> str:
        """Count what waits and what was given up; what is for no webhook any more is given up."""
        hooks = self.workspace.company.webhooks
        if not hooks:
            return ""
        if self._outbox is None:
            self._outbox = Outbox(self.workspace)
        self._outbox.bury(hooks, datetime.now(UTC))
        self.undelivered = self._outbox.counts()
        check_webhooks(self.workspace)
        dead = {name: n for (name, state), n in self.undelivered.items() if state == DEAD}
        told = ", ".join(f"{n:,} to {name}" for name, n in sorted(dead.items()))
        return f"messages were given up: {told}; `bellwether webhooks` lists them" if told else ""

    def _refresh_shadow(self) -> str:
        """Score requests in the shadow too, where it takes the same vectors; books always are."""
        if self.stage is None:
            return ""
        release = read_shadow(self.workspace.state.releases)
        if release is None or release.feature_set["hash"] != self.stage.scorer.feature_hash:
            self.stage = replace(self.stage, shadow=None)
            return ""
        known = self.stage.shadow
        if known is None or known.release.release_id != release.release_id:
            self.stage = replace(self.stage, shadow=self._tried(release))
        return ""

    def _take_up(self, release: Release | None) -> str:
        """Serve a release from here on, or say why not; until then the one before stays."""
        if release is None:
            return "no release is published"
        if self.stage is not None and self.stage.release.release_id == release.release_id:
            return ""
        stage = self._next_stage(release)
        if stage is None:
            return (
                f"release {release.release_id} waits: its features "
                f"{release.feature_set['hash']} are not in the online store"
            )
        # Complete before it is put in place: no request sees a stage without its ranks.
        self.stage = self._brought_up_to_date(stage)
        logger.info("release %s is served", release.release_id)
        _remember(self.workspace.state.releases, release)
        return ""

    def _next_stage(self, release: Release) -> LoadedRelease | None:
        """Try and load a release aside; None while its features are not in the online store."""
        scorer = self._tried(release)
        # A new handle: a registry read earlier does not know views declared since.
        store = FeastStore(self.workspace)
        if not store.is_ready(scorer.feature_hash):
            return None
        stage = LoadedRelease(scorer, store, "", recall=Recall(self.room_bytes))
        _warm(stage, self.clock())
        for model in scorer.models:
            model.bundle.warm()
            self.archive.adopt(model.sha, model.bundle)
        return stage

    def _tried(self, release: Release) -> Scorer:
        """Load a release that another process has scored a sample with."""
        vectors = newest_vectors(self.workspace.state, release.feature_set["hash"])
        self._trials.check(release, vectors)
        return Scorer.load(self.workspace, release)

    def _brought_up_to_date(self, stage: LoadedRelease) -> LoadedRelease:
        """Return the stage with the peers of the newest vectors and the ranks of the last book."""
        scorer = stage.scorer
        folder = newest_vectors(self.workspace.state, scorer.feature_hash)
        vectors = f"{folder.name}/{folder.stat().st_mtime_ns}" if folder else ""
        if vectors != stage.vectors:
            self.managers = read_managers(folder)
            self.capacities = read_capacities(folder)
            scorer = scorer.with_peers(load_peers(folder, scorer.release.feature_set["names"]))
        book = self.book
        is_same = book is not None and book.run.release_id == scorer.release.release_id
        ranks = book.ranks if book is not None and is_same else NO_RANKS
        if ranks is not scorer.ranks:
            scorer = scorer.with_ranks(ranks)
        if scorer is stage.scorer:
            return stage
        return replace(stage, scorer=scorer, vectors=vectors, recall=Recall(self.room_bytes))


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
            fix="`bellwether serve COMPANY` sets them; for a Bento, set both to a company folder "
            "(or the name of a shipped example) and its state directory",
        )
    folder = company_folder(environment["BELLWETHER_COMPANY"])
    company = load_company(folder)
    folder = folder.parent if folder.is_file() else folder
    data = Path(environment.get("BELLWETHER_DATA") or folder)
    root = Path(environment["BELLWETHER_STATE"]).resolve()
    if not root.is_dir():
        raise ConfigError(
            "there is no state directory",
            where=f"BELLWETHER_STATE, {root}",
            fix=f"bellwether run {company.name} --state FOLDER makes one; name it with its full "
            "path, because a Bento runs in a folder of its own",
        )
    keep_private(root)
    return Workspace(company, folder, data, State(root), Environment.from_environment(environment))


def _noted(part: str, look: Callable[[], str]) -> str:
    """Return what there is to say of a part; trouble of any kind is said, and never raised."""
    try:
        return look()
    except BellwetherError as error:
        return f"{error.what} ({error.where})" if error.where else error.what
    except Exception as error:
        logger.exception("looking for a new %s failed", part)
        return f"{type(error).__name__}: {error}"


def _remember(folder: Path, release: Release) -> None:
    try:
        mark_served(folder, release)
    except (OSError, StateError) as error:
        logger.warning("which release is served cannot be noted: %s", error)


def _without(notes: dict[str, str], part: str) -> dict[str, str]:
    return {key: note for key, note in notes.items() if key != part}


def _warm(stage: LoadedRelease, now: datetime) -> None:
    """Read and score once, so that the first caller does not pay for it."""
    scorer = stage.scorer
    stage.store.online(scorer.feature_hash, scorer.width, [""])
    nothing = np.full((1, scorer.width), np.nan)
    facts = {"status": "scored", "tenure_days": 0}
    scorer.score([""], OnlineRows(np.ones(1, dtype=bool), nothing, nothing, [facts], [now]), now)
