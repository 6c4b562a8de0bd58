"""The nightly refresh: load, check readiness, score, publish; every step can be resumed.

A step leaves its finished results in the state directory, so that a refresh after a killed one
continues with them. The published book is replaced in one step at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from configs.runtime.errors import BellwetherError, StateError
from configs.schema.workspace import Workspace
from features.pipeline import refuse_ready_table
from features.quality import QualityReport, check_and_keep
from features.readiness.decide import decide, unconverted_shares
from features.readiness.measure import TableState, measure_tables
from features.readiness.result import Baseline, Readiness
from features.sources import Loaded, load_sources
from features.sources.loaded_tables import read_manifests
from features.sources.manifest import TableManifest
from serving.batch.score_book import ScoreRun, read_latest, read_table
from serving.http.score_text import to_second
from serving.monitoring.refresh_records import RefreshRecords, RefreshSummary, TableChange
from serving.privacy.retention import Removed, tidy_files
from serving.run.release import published
from serving.run.score import score_loaded

Progress = Callable[[str], None]


@dataclass
class _Clock:
    """Seconds of each step, and the processor time of all of them."""

    seconds: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.process_time)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step; a failed one counts, too."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - start, 2)

    @property
    def cpu_seconds(self) -> float:
        return round(time.process_time() - self._began, 2)


@dataclass(frozen=True)
class _Today:
    """Today's tables and the decision about them."""

    loaded: Loaded
    quality: QualityReport
    states: Mapping[str, TableState]
    readiness: Readiness
    changes: dict[str, TableChange]


def refresh_company(
    workspace: Workspace,
    now: datetime,
    progress: Progress,
    *,
    even_if_not_ready: bool = False,
) -> RefreshSummary:
    """Score with the published release if today's data is ready, and record what was done.

    The caller holds the state directory's lock. An error leaves the earlier book published, is
    recorded and raised.

    Parameters
    ----------
    workspace : Workspace
        The company.
    now : datetime
        The clock.
    progress : callable
        Called with one line per step.
    even_if_not_ready : bool
        Score although the data is not ready; recorded.

    Returns
    -------
    RefreshSummary
        Status ``scored`` or ``not_ready``; also kept in ``refresh/latest.json``.
    """
    refuse_ready_table(workspace.company)
    records, clock = RefreshRecords(workspace.state), _Clock()
    keep = workspace.company.refresh.keep_history
    # The clock of an example is pinned, the time of its refresh is not.
    summary = RefreshSummary(started_at=to_second(datetime.now(UTC)))
    killed = records.start(summary, keep)
    if killed is not None:
        progress(f"the refresh of {killed.started_at} did not finish; its finished steps are kept")
    try:
        summary, baseline = _refreshed(
            workspace, now, progress, records.baseline(), summary, clock, even_if_not_ready
        )
    except Exception as error:
        records.finish(_ended(_failed(summary, error), clock), keep)
        raise
    summary = _ended(summary, clock)
    records.finish(summary, keep, baseline)
    return summary


def _failed(summary: RefreshSummary, error: Exception) -> RefreshSummary:
    what, fix = f"{type(error).__name__}: {error}", ""
    if isinstance(error, BellwetherError):
        what, fix = error.what, error.fix
    return replace(summary, status="failed", reason=what, to_do=fix)


def _ended(summary: RefreshSummary, clock: _Clock) -> RefreshSummary:
    return replace(
        summary,
        finished_at=to_second(datetime.now(UTC)),
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
    )


def _refreshed(
    workspace: Workspace,
    now: datetime,
    progress: Progress,
    baseline: Baseline | None,
    summary: RefreshSummary,
    clock: _Clock,
    even_if_not_ready: bool,  # noqa: FBT001  private, passed on
) -> tuple[RefreshSummary, Baseline | None]:
    """Return the summary, and the new baseline when accounts were scored."""
    release = published(workspace)
    before = _book(workspace)
    today = _today(workspace, now, progress, baseline, clock)
    is_blocked = today.readiness.level == "not_ready"
    summary = replace(
        summary,
        readiness=today.readiness.as_dict(),
        grade=today.quality.grade,
        tables=today.changes,
        is_overridden=is_blocked and even_if_not_ready,
    )
    for finding in today.readiness.findings:
        progress(f"{finding.level.replace('_', ' ')}: {finding.reason}")
    if is_blocked and not even_if_not_ready:
        to_do = "; ".join(dict.fromkeys(item.to_do for item in today.readiness.findings))
        summary = replace(_with_book(summary, before), status="not_ready", to_do=to_do)
        return replace(summary, reason=today.readiness.reasons), None
    with clock.step("score"):
        run = score_loaded(workspace, release, today.loaded, now, progress)
    progress(f"exported {run.folder / 'scores.csv'} and scores.parquet")
    with clock.step("tidy"):
        _tidy(workspace, now, progress)
    done = replace(
        _with_book(summary, run),
        status="scored",
        accounts_scored=run.statuses.get("scored", 0),
        bands_changed=_bands_changed(before, run),
    )
    after = (baseline or Baseline()).after(today.states, unconverted_shares(today.quality))
    return done, after


def _tidy(workspace: Workspace, now: datetime, progress: Progress) -> None:
    """Remove files older than the company keeps them."""
    done = tidy_files(workspace.state, workspace.company.retention, datetime.now(UTC), now)
    if done != Removed():
        for line in done.lines:
            progress(f"tidied: {line}")


def _today(
    workspace: Workspace,
    now: datetime,
    progress: Progress,
    baseline: Baseline | None,
    clock: _Clock,
) -> _Today:
    """Load the tables and decide whether they are ready."""
    manifests = read_manifests(workspace)
    with clock.step("load"):
        loaded = load_sources(workspace, now, progress)
    with clock.step("check"):
        progress("checking quality and readiness")
        quality = check_and_keep(workspace, loaded, now)
        states = measure_tables(loaded, now)
        readiness = decide(workspace.company, states, quality, baseline)
    return _Today(loaded, quality, states, readiness, _changes(manifests, loaded))


def _changes(before: Mapping[str, TableManifest], loaded: Loaded) -> dict[str, TableChange]:
    """Return what happened to every table since the last load."""
    found = {}
    for name, info in loaded.tables.items():
        earlier = before.get(name)
        is_same = earlier is not None and earlier["identity"] == info.identity
        found[name] = TableChange(
            rows=info.rows,
            new_rows=info.rows_read - (earlier["rows_read"] if earlier else 0),
            built="unchanged" if is_same else info.built or "rebuilt",
        )
    return found


def _book(workspace: Workspace) -> ScoreRun | None:
    with suppress(StateError):  # a damaged book is replaced
        return read_latest(workspace.state)
    return None


def _with_book(summary: RefreshSummary, run: ScoreRun | None) -> RefreshSummary:
    return replace(summary, run_id=run.run_id, as_of=run.as_of) if run else summary


def _bands_changed(before: ScoreRun | None, run: ScoreRun) -> int:
    """Return how many accounts of both books have another risk band."""
    if before is None:
        return 0
    old, new = (_bands(item) for item in (before, run))
    return sum(1 for account, band in new.items() if account in old and old[account] != band)


def _bands(run: ScoreRun) -> dict[str, str]:
    table = read_table(run).select(["account_id", "risk_band"])
    pairs = zip(table["account_id"].to_pylist(), table["risk_band"].to_pylist(), strict=True)
    return {account: band for account, band in pairs if band is not None}
