"""Records of `bellwether refresh`: the last one, the history, and the baseline of readiness.

``refresh/latest.json`` is the summary of the last refresh, whatever became of it,
``refresh/history.json`` has the summaries of the earlier ones, newest last, and
``refresh/baseline.json`` the state of the tables at the last refresh that scored.
``refresh/started.json`` exists while a refresh runs, or after one was killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from configs.runtime.errors import StateError
from configs.runtime.state_directory import State, read_json, write_json_atomically
from features.readiness.result import Baseline

LATEST, HISTORY, BASELINE, STARTED = (
    "latest.json",
    "history.json",
    "baseline.json",
    "started.json",
)

Status = Literal["scored", "not_ready", "failed", "interrupted"]

STATUS_WORDS: Mapping[Status, str] = {
    "scored": "scored",
    "not_ready": "not ready, nothing scored",
    "failed": "failed, nothing scored",
    "interrupted": "did not finish",
}


@dataclass(frozen=True)
class TableChange:
    """Change of one table in a refresh.

    Attributes
    ----------
    rows : int
        Rows kept.
    new_rows : int
        Rows read more than before; negative when there are fewer.
    built : str
        ``unchanged``, ``rebuilt``, or how many of its files were read.
    """

    rows: int
    new_rows: int
    built: str


@dataclass(frozen=True)
class RefreshSummary:
    """Summary of one refresh.

    Attributes
    ----------
    started_at, finished_at : str
        ISO 8601, UTC.
    status : str
        scored, not_ready, failed or interrupted.
    readiness : dict
        `features.readiness.Readiness.as_dict`; empty when it was not decided.
    is_overridden : bool
        Scored with --even-if-not-ready although the data was not ready.
    reason : str
        Reason when nothing was scored.
    to_do : str
        Remedy.
    grade : str
        Grade of the data quality; empty when it was not measured.
    tables : dict of str to TableChange
        By table.
    run_id, as_of : str
        The book that is published afterwards, and its moment.
    accounts_scored : int
        Accounts with a score; 0 when nothing was scored.
    bands_changed : int
        Accounts whose risk band is another one than in the book before.
    seconds : dict of str to float
        Step → seconds.
    cpu_seconds : float
        Processor time of all steps.
    """

    started_at: str
    finished_at: str = ""
    status: Status = "interrupted"
    readiness: dict[str, Any] = field(default_factory=dict)
    is_overridden: bool = False
    reason: str = ""
    to_do: str = ""
    grade: str = ""
    tables: dict[str, TableChange] = field(default_factory=dict)
    run_id: str = ""
    as_of: str = ""
    accounts_scored: int = 0
    bands_changed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RefreshSummary:
        """Return the summary from `as_dict`."""
        tables = {name: TableChange(**item) for name, item in stored.get("tables", {}).items()}
        return cls(**{**stored, "tables": tables})


@dataclass(frozen=True)
class RefreshRecords:
    """Reads and writes the records of one state directory."""

    state: State

    def latest(self) -> RefreshSummary | None:
        """Return the summary of the last refresh, or None."""
        try:
            return RefreshSummary.from_dict(read_json(self.state.refresh / LATEST))
        except (FileNotFoundError, StateError, TypeError):
            return None

    def history(self) -> list[RefreshSummary]:
        """Return the summaries of earlier refreshes, newest last."""
        try:
            stored = read_json(self.state.refresh / HISTORY)
            return [RefreshSummary.from_dict(item) for item in stored]
        except (FileNotFoundError, StateError, TypeError):
            return []

    def baseline(self) -> Baseline | None:
        """Return the state of the tables at the last refresh that scored, or None."""
        try:
            return Baseline.from_dict(read_json(self.state.refresh / BASELINE))
        except (FileNotFoundError, StateError, TypeError, KeyError):
            return None

    def start(self, summary: RefreshSummary, keep: int) -> RefreshSummary | None:
        """Record that a refresh starts; return the one before if it was killed."""
        killed = None
        with suppress(FileNotFoundError, StateError, TypeError):
            killed = RefreshSummary.from_dict(read_json(self.state.refresh / STARTED))
        if killed is not None:
            reason = "the process ended before the refresh was finished"
            self._append(replace(killed, status="interrupted", reason=reason), keep)
        write_json_atomically(self.state.refresh / STARTED, summary.as_dict())
        return killed

    def finish(self, summary: RefreshSummary, keep: int, baseline: Baseline | None = None) -> None:
        """Record the end of a refresh, with the new baseline when it scored."""
        if baseline is not None:
            write_json_atomically(self.state.refresh / BASELINE, baseline.as_dict())
        write_json_atomically(self.state.refresh / LATEST, summary.as_dict())
        self._append(summary, keep)
        (self.state.refresh / STARTED).unlink(missing_ok=True)

    def _append(self, summary: RefreshSummary, keep: int) -> None:
        kept = [*self.history(), summary][-keep:]
        write_json_atomically(self.state.refresh / HISTORY, [item.as_dict() for item in kept])


def why_not_updated(state: State) -> str:
    """Return the reason why the last refresh scored nothing; empty without such a refresh."""
    last = RefreshRecords(state).latest()
    if last is None or last.status == "scored":
        return ""
    return f"not updated on {last.finished_at[:10]}: {last.reason}"
