"""State of one serving process: a release, the last published book, the open stores.

Everything a request needs of a release is one immutable `LoadedRelease`; a refresh builds the next
one aside and puts it in place with a single assignment, so a request never sees two releases.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.runtime.errors import BellwetherError, ConfigError, StateError, UnavailableError
from configs.runtime.state_directory import State, keep_private
from configs.schema.company import company_folder, load_company
from configs.schema.workspace import Environment, Workspace
from serving.auth.api_keys import ApiKeys
from serving.auth.authenticate import Authenticator
from serving.auth.oidc import SignInSessions
from serving.auth.permissions import read_capacities, read_managers, seen
from serving.auth.rate_limits import RateLimiter
from serving.batch.score_book import ScoreRun, read_latest, read_ranks, read_table
from serving.http.dependency_health import DependencyHealth
from serving.integrations.webhooks import DEAD, check_webhooks
from serving.ledger.model_archive import ModelArchive
from serving.ledger.score_changes import change_of
from serving.ledger.store.feedback_store import FeedbackStore
from serving.ledger.store.ledger import Ledger
from serving.ledger.store.score_rows import ScoreRow
from serving.monitoring.monitoring_store import read_monitoring
from serving.monitoring.refresh_records import why_not_updated
from serving.monitoring.report import Monitoring
from serving.online.background import BackgroundWorkers
from serving.online.jobs import Jobs
from serving.online.release_loader import LoadedRelease, Ranks, ReleaseLoader
from serving.online.score_request import ScoredBatch, ScoreRequest, score_accounts
from serving.online.stores import OpenStores
from training.model.bands import newest_vectors
from training.registry.releases import Release, read_current, read_served

logger = logging.getLogger("bellwether.serving")

CHECK_SECONDS = 5.0
"""Pause between two looks for a new release, new vectors and a new book."""

NO_RANKS: dict[str, np.ndarray] = {}


@dataclass(frozen=True)
class CurrentBook:
    """The last published book, in memory.

    Attributes
    ----------
    run : ScoreRun
        Its score run.
    table : pyarrow.Table
        Canonical rows, ranked.
    ranks : dict of str to numpy.ndarray
        Ascending probabilities by target.
    """

    run: ScoreRun
    table: pa.Table
    ranks: dict[str, np.ndarray]

    def seen_by(self, owners: frozenset[str] | None) -> CurrentBook:
        """Return the part of the book with the accounts of some owners; None is the whole book."""
        return self if owners is None else replace(self, table=seen(self.table, owners))


class ServerState:
    """The release, book and stores served at present.

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
        self.stage: LoadedRelease | None = None
        self.book: CurrentBook | None = None
        self.monitoring: Monitoring | None = None
        self.notes: dict[str, str] = {}
        self.managers: dict[str, str] = {}
        self.capacities: dict[str, float] = {}
        self.undelivered: dict[tuple[str, str], int] = {}
        # Single scores, batches and probes never wait for each other's threads.
        self.singles = ThreadPoolExecutor(2, "single")
        self.batches = ThreadPoolExecutor(2, "batch")
        self.probes = ThreadPoolExecutor(1, "probe")
        self.archive = ModelArchive(workspace.state)
        self.limiter = RateLimiter(workspace.company.limits, workspace.state.ledger / "limits")
        self.stores = OpenStores(workspace)
        self._loader = ReleaseLoader(workspace, self.archive, lambda: self.clock())
        self._workers = BackgroundWorkers(self)
        self._people = SignInSessions(workspace.company.access, workspace.places.sign_in)
        self._door: Authenticator | None = None
        self._ledger_pulse = DependencyHealth(lambda: self.ledger.ping())
        self._refreshing = threading.Lock()

    def start(self, check_seconds: float = CHECK_SECONDS) -> None:
        """Load what is there, then keep looking."""
        self.refresh()
        self._workers.start(check_seconds)

    def close(self) -> None:
        """Stop looking; commit what waits for the ledger."""
        self._workers.stop()
        for pool in (self.singles, self.batches, self.probes):
            pool.shutdown()
        self.limiter.close()
        self.stores.close()

    @property
    def has_ledger(self) -> bool:
        """Whether the ledger was opened, and its database answers now."""
        return self.stores.ledger is not None and self._ledger_pulse.beats()

    @property
    def ledger(self) -> Ledger:
        """The score ledger; without it nothing is answered."""
        if self.stores.ledger is None:
            raise UnavailableError("the score ledger cannot be opened, so nothing is scored")
        return self.stores.ledger

    @property
    def door(self) -> Authenticator:
        """The authenticator, with the keys as read last."""
        if self._door is None:
            raise UnavailableError("API keys could not be loaded; all requests are rejected")
        return self._door

    @property
    def intake(self) -> FeedbackStore:
        """Outcomes and feedback that were sent in."""
        if self.stores.intake is None:
            raise UnavailableError("outcomes and feedback cannot be stored")
        return self.stores.intake

    @property
    def jobs(self) -> Jobs:
        """Books scored in the background."""
        if self.stores.jobs is None:
            raise UnavailableError("no score job can be kept")
        return self.stores.jobs

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
        """Score accounts by the present release (`serving.online.score_request.score_accounts`).

        Nothing may be shown before the rows given to `keep` are in the ledger.

        Raises
        ------
        UnavailableError
            The online store does not answer.
        StateError
            Nothing is published.
        """
        request = ScoreRequest(request_id, channel, owners)
        return score_accounts(self.current(), account_ids, request, self.clock(), keep)

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
            self.ledger.scores.previous(
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
                ("risks", self._open_risks),
                ("book", self._refresh_book),
                ("refresh", lambda: why_not_updated(self.workspace.state)),
                ("release", self._refresh_release),
                ("shadow", self._refresh_shadow),
                ("monitoring", self._refresh_monitoring),
                ("webhooks", self._refresh_webhooks),
            ):
                self._note(part, _noted(part, look))

    def _note(self, part: str, note: str) -> None:
        if note and self.notes.get(part) != note:
            logger.warning("%s: %s", part, note)
        others = {key: words for key, words in self.notes.items() if key != part}
        self.notes = {**others, part: note} if note else others

    def _refresh_door(self) -> str:
        self._door = Authenticator(ApiKeys(self.stores.keys().every()), self._people)
        return self._people.refresh(time.monotonic())

    def _open_ledger(self) -> str:
        self.stores.open_ledger()
        return ""

    def _open_risks(self) -> str:
        self.stores.open_risks()
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
            self._serve(self._loader.with_book(self.stage, self._ranks(self.stage.release)))
        return note

    def _take_up(self, release: Release | None) -> str:
        """Serve a release from here on, or say why not; until then the one before stays."""
        if release is None:
            return "no release is published"
        if self.stage is None or self.stage.release.release_id != release.release_id:
            self._serve(self._loader.load(release, self._ranks(release)))
        return ""

    def _serve(self, stage: LoadedRelease) -> None:
        """Put a complete stage in place, and the owners of its book."""
        if self.stage is None or stage.vectors != self.stage.vectors:
            folder = newest_vectors(self.workspace.state, stage.scorer.feature_hash)
            self.managers, self.capacities = read_managers(folder), read_capacities(folder)
        self.stage = stage

    def _ranks(self, release: Release) -> Ranks:
        """Return the ranks of the last book, where this release scored it."""
        book = self.book
        is_same = book is not None and book.run.release_id == release.release_id
        return book.ranks if book is not None and is_same else NO_RANKS

    def _refresh_shadow(self) -> str:
        """Score requests in the shadow too, where it takes the same vectors; books always are."""
        if self.stage is not None:
            self.stage = self._loader.with_shadow(self.stage)
        return ""

    def _refresh_monitoring(self) -> str:
        self.monitoring = read_monitoring(self.workspace.state.monitoring)
        return ""

    def _refresh_webhooks(self) -> str:
        """Count what waits and what was given up; what is for no webhook any more is given up."""
        hooks = self.workspace.company.webhooks
        if not hooks:
            return ""
        outbox = self.stores.open_outbox()
        outbox.bury(hooks, datetime.now(UTC))
        self.undelivered = outbox.counts()
        check_webhooks(self.workspace)
        dead = {name: n for (name, state), n in self.undelivered.items() if state == DEAD}
        told = ", ".join(f"{n:,} to {name}" for name, n in sorted(dead.items()))
        return f"messages were given up: {told}; `bellwether webhooks` lists them" if told else ""


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
