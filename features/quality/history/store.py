"""Stored history of data quality: one line per load in ``quality/history.jsonl``.

Lines are bounded in number, and only the newest ones keep the profiles of their tables. The file
is replaced atomically; the caller holds the lock of the state directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.runtime.errors import StateError
from configs.runtime.hashing import canonical_json
from configs.runtime.state_directory import State, write_text_atomically
from features.quality.codes import Severity
from features.quality.history.profile import TableProfile, profile_from

if TYPE_CHECKING:
    from features.quality.report import QualityReport

FILE = "history.jsonl"
MAX_LOADS, MAX_PROFILES = 400, 5
"""Maximum number of loads that are kept, and of loads that keep the profiles of their tables."""


@dataclass(frozen=True)
class StoredIssue:
    """An issue as kept in the history."""

    code: str
    table: str
    severity: Severity
    grade: str
    rows: int
    share: float | None


@dataclass(frozen=True)
class QualityLoad:
    """Data quality of one load.

    Attributes
    ----------
    at : str
        The clock, ISO, UTC.
    grade : str
        Grade of the worst issue, A to F.
    issues : tuple of StoredIssue
        Worst first.
    rows : dict of str to int
        Rows of each table.
    readiness : dict of str to str
        Target → ``ready``, ``degraded`` or ``not_ready``.
    identities : dict of str to str
        Table → identity of its content; equal identities are the same load.
    profiles : dict of str to TableProfile
        Profile of each table; empty in older loads.
    """

    at: str
    grade: str
    issues: tuple[StoredIssue, ...]
    rows: dict[str, int]
    readiness: dict[str, str]
    identities: dict[str, str]
    profiles: dict[str, TableProfile] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """Return the number of issues of a severity."""
        return sum(item.severity == severity for item in self.issues)

    def as_dict(self, *, with_profiles: bool = False) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = asdict(self)
        return plain if with_profiles else {k: v for k, v in plain.items() if k != "profiles"}


def history_path(state: State) -> Path:
    """Return the file of the history."""
    return state.quality / FILE


def read_history(state: State) -> list[QualityLoad]:
    """Return every kept load, oldest first; empty before the first one.

    Raises
    ------
    StateError
        The file is damaged.
    """
    path = history_path(state)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    try:
        return [_load_from(json.loads(line)) for line in lines if line]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StateError(
            f"damaged history of data quality: {error}",
            where=str(path),
            fix="delete the file; the next check begins a new history",
        ) from error


def _load_from(plain: dict[str, Any]) -> QualityLoad:
    return QualityLoad(
        **{
            **plain,
            "issues": tuple(StoredIssue(**item) for item in plain["issues"]),
            "profiles": {name: profile_from(p) for name, p in plain.get("profiles", {}).items()},
        }
    )


def keep_load(state: State, load: QualityLoad) -> None:
    """Append a load to the history; a repeated check of the same data replaces its entry."""
    history = read_history(state)
    last = history[-1] if history else None
    is_same = (
        last is not None and last.identities == load.identities and last.at[:10] == load.at[:10]
    )
    kept = [*(history[:-1] if is_same else history), load][-MAX_LOADS:]
    write_text_atomically(history_path(state), _text(kept))


def _text(history: Sequence[QualityLoad]) -> str:
    older = len(history) - MAX_PROFILES
    lines = [
        replace(item, profiles={}) if place < older else item for place, item in enumerate(history)
    ]
    return "".join(canonical_json(item.as_dict(with_profiles=True)) + "\n" for item in lines)


def load_of(report: QualityReport, readiness: Mapping[str, str]) -> QualityLoad:
    """Return what the history keeps of a report."""
    return QualityLoad(
        report.now,
        report.grade,
        tuple(
            StoredIssue(i.code, i.table, i.severity, i.grade, i.rows, i.share)
            for i in report.issues
        ),
        {name: info.rows for name, info in report.tables.items()},
        dict(readiness),
        {name: info.identity for name, info in report.tables.items()},
        dict(report.profiles),
    )


def profiles_before(
    history: Iterable[QualityLoad], identities: Mapping[str, str]
) -> dict[str, TableProfile]:
    """Return, per table, its newest profile with another identity than the present one."""
    found: dict[str, TableProfile] = {}
    for load in history:  # oldest first: later ones replace
        for name, profile in load.profiles.items():
            if profile.identity != identities.get(name):
                found[name] = profile
    return found


def newest_profiles(history: Sequence[QualityLoad]) -> dict[str, TableProfile]:
    """Return the profiles of the last load."""
    return history[-1].profiles if history else {}
