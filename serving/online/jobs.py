"""Score jobs: a whole book, scored in the background, its results as files.

A job is a row in the ledger's database and a folder in the state directory. Any worker takes one
that is free; the job of a killed worker continues at the point where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from configs.runtime.database import reading
from configs.runtime.errors import BellwetherError, UnavailableError
from configs.runtime.migrate import open_engine
from configs.runtime.sql_inserts import settle
from configs.runtime.tables import JOB_TABLES, jobs_table
from configs.runtime.work_queue import Claim, LostClaimError, WorkQueue
from configs.schema.workspace import Workspace
from serving.http.problems import ProblemError
from serving.online.masked_answers import masked_answers
from serving.scoring.export_columns import SCHEMA, ExportRow
from serving.scoring.export_rows import csv_lines, flat_row

if TYPE_CHECKING:
    from serving.online.server_state import ServerState

CHUNK = 500
MAX_WAITING = 10
"""Jobs of one company that may wait or run at the same time."""

KEPT = 20
"""Finished jobs whose results are kept."""

ABANDONED = timedelta(seconds=30)
"""A running job without a sign of life for so long is taken up by another worker."""

MAX_RESTARTS = 3
"""A job starts again when another release was published meanwhile; not for ever."""

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
FORMATS = {
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
"""Formats of results, and their media types."""


@dataclass(frozen=True)
class Job:
    """The present state of one job.

    Attributes
    ----------
    job_id, caller : str
        The job, and the caller who started it.
    request_sha256 : str
        Digest of the request.
    state : str
        `QUEUED`, `RUNNING`, `DONE` or `FAILED`.
    n_accounts, n_done : int
        Accounts of the job, and accounts scored so far.
    release_id : str or None
        What answers.
    created_at, finished_at : datetime
        With a zone.
    problem : str or None
        Why it failed.
    """

    job_id: str
    caller: str
    request_sha256: str
    state: str
    n_accounts: int
    n_done: int
    release_id: str | None
    created_at: datetime
    finished_at: datetime | None
    problem: str | None


_NAMES = tuple(item.name for item in fields(Job))


class Jobs:
    """The jobs of one company; `close` it."""

    def __init__(self, workspace: Workspace) -> None:
        self.company = workspace.company.name
        self.folder = workspace.state.root / "jobs"
        file = workspace.state.ledger / "jobs.db"
        self.engine = open_engine(workspace.places.ledger_url, file, JOB_TABLES)
        self.queue = WorkQueue(
            self.engine, jobs_table, "job_id", self.company, (QUEUED, RUNNING), ABANDONED
        )

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    def create(
        self,
        account_ids: list[str],
        caller: str,
        key: str,
        owners: frozenset[str] | None,
        now: datetime,
        *,
        sees_people: bool = True,
    ) -> Job:
        """Queue a job; the same Idempotency-Key of the same caller gives the same job.

        Without `sees_people` the results have the ids of persons masked.

        Raises
        ------
        ProblemError
            Too many wait already, or the key was used for something else.
        """
        asked = orjson.dumps(account_ids)
        sha = hashlib.sha256(asked).hexdigest()
        job_id = _job_id(caller, key)
        known = self.find(job_id)
        if known is not None:
            if known.request_sha256 != sha:
                raise ProblemError(
                    "idempotency-key-reused", "this Idempotency-Key came with another body before"
                )
            return known
        if self.queue.count_open() >= MAX_WAITING:
            raise ProblemError("too-many-requests", f"{MAX_WAITING} jobs wait or run already")
        folder = self.folder / job_id
        folder.mkdir(parents=True, exist_ok=True)
        seen = sorted(owners) if owners is not None else None
        wanted = {"account_ids": account_ids, "owners": seen, "sees_people": sees_people}
        _write(folder / "asked.json", orjson.dumps(wanted))
        job = Job(job_id, caller[:200], sha, QUEUED, len(account_ids), 0, None, now, None, None)
        record = {name: getattr(job, name) for name in _NAMES}
        record |= {"company": self.company, "due_at": now}
        settle(
            self.engine, jobs_table, ("company", "job_id"), [record], but=["created_at", "due_at"]
        )
        self._prune()
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job, if there is one."""
        return next(iter(self._read(jobs_table.c.job_id == job_id)), None)

    def of(self, caller: str | None) -> list[Job]:
        """Return the jobs of a caller, newest first; None is every caller."""
        return self._read(jobs_table.c.caller == caller[:200] if caller is not None else True)

    def results(self, job: Job, kind: str) -> Path:
        """Return the file of a finished job's results.

        Raises
        ------
        ProblemError
            It is not done, or its results are not kept any more.
        """
        if job.state != DONE:
            raise ProblemError("job-not-done", f"the job is {job.state}")
        path = self.folder / job.job_id / f"results.{kind}"
        if not path.is_file():
            raise ProblemError("not-found", "the results of this job are not kept any more")
        return path

    def run_next(self, live: ServerState, now: datetime) -> Job | None:
        """Take a job that is free and do it; None when there is none."""
        claim = self._claim(now)
        if claim is None:
            return None
        with suppress(LostClaimError):
            self._attempt(live, claim)
        return self.find(claim.item_id)

    def _attempt(self, live: ServerState, claim: Claim) -> None:
        try:
            self._run(live, claim)
        except UnavailableError as error:
            self.queue.update(claim, problem=error.what)  # claimed again after the lease
        except BellwetherError as error:
            self._finish(claim, FAILED, error.what)
        except LostClaimError:
            raise
        except Exception as error:
            self._finish(claim, FAILED, type(error).__name__)
            raise

    def _claim(self, now: datetime) -> Claim | None:
        for job_id in self.queue.due(now):
            claim = self.queue.claim(job_id, now, state=RUNNING)
            if claim is not None:
                return claim
        return None

    def _run(self, live: ServerState, claim: Claim) -> None:
        folder = self.folder / claim.item_id
        asked = json.loads((folder / "asked.json").read_bytes())
        owners = frozenset(asked["owners"]) if asked["owners"] is not None else None
        for _ in range(MAX_RESTARTS):
            release_id = live.current().release.release_id
            if not (folder / release_id).is_dir():
                for other in folder.glob("*/"):
                    shutil.rmtree(other)
                (folder / release_id).mkdir()
            shown = asked.get("sees_people", True)  # absent in jobs of an earlier version
            parts = folder / release_id
            if self._score(live, claim, asked["account_ids"], owners, parts, sees_people=shown):
                _collect(folder, parts)
                self._finish(claim, DONE, None)
                return
        self._finish(claim, FAILED, "other releases were published again and again meanwhile")

    def _score(
        self,
        live: ServerState,
        claim: Claim,
        account_ids: list[str],
        owners: frozenset[str] | None,
        parts: Path,
        *,
        sees_people: bool,
    ) -> bool:
        """Score what is not scored yet; False when another release answers by now."""
        for start in range(0, len(account_ids), CHUNK):
            path = parts / f"{start:09d}.jsonl"
            chunk = account_ids[start : start + CHUNK]
            if not path.is_file():
                scored = live.score(chunk, request_id=claim.item_id, channel="batch", owners=owners)
                if scored.release_id != parts.name:
                    return False
                live.ledger.append([*scored.rows, *scored.shadow])
                given = scored.given if sees_people else masked_answers(scored.given)
                _write(path, b"".join(item.body + b"\n" for item in given))
            n_done = start + len(chunk)
            self.queue.extend(claim, datetime.now(UTC), n_done=n_done, release_id=parts.name)
        return True

    def _finish(self, claim: Claim, state: str, problem: str | None) -> None:
        self.queue.update(claim, state=state, problem=problem, finished_at=datetime.now(UTC))

    def _read(self, where: Any) -> list[Job]:
        table = jobs_table
        query = select(*(table.c[name] for name in _NAMES)).where(
            table.c.company == self.company, where
        )
        ordered = query.order_by(table.c.created_at.desc(), table.c.job_id)
        with reading(self.engine) as connection:
            return [Job(*row) for row in connection.execute(ordered).all()]

    def _prune(self) -> None:
        finished = [job.job_id for job in self._read(self.queue.is_finished)[KEPT:]]
        self.queue.forget(jobs_table.c.job_id.in_(finished))
        for job_id in finished:
            shutil.rmtree(self.folder / job_id, ignore_errors=True)


def _job_id(caller: str, key: str) -> str:
    if not key:
        return secrets.token_hex(16)
    return hashlib.sha256(f"{caller}\x1f{key}".encode()).hexdigest()[:32]


def _write(path: Path, body: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(body)
    aside.replace(path)


def _collect(folder: Path, parts: Path) -> None:
    """Write the results as JSON lines, CSV and Parquet, each visible when it is whole."""
    files = sorted(parts.glob("*.jsonl"))
    aside = {kind: folder / f".results.{kind}.{os.getpid()}" for kind in FORMATS}
    with aside["jsonl"].open("wb") as handle:
        for path in files:
            handle.write(path.read_bytes())
    with aside["csv"].open("w", encoding="utf-8", newline="") as text:
        text.writelines(csv_lines(row for rows in _flat(files) for row in rows))
    with pq.ParquetWriter(aside["parquet"], SCHEMA, compression="zstd") as writer:
        for rows in _flat(files):
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    for kind, path in aside.items():
        path.replace(folder / f"results.{kind}")
    shutil.rmtree(parts)


def _flat(files: list[Path]) -> Iterator[list[ExportRow]]:
    for path in files:
        yield [flat_row(orjson.loads(line)) for line in path.read_bytes().splitlines()]
