"""Readiness of each target: ready, degraded or not ready, with reasons and remedies.

A target is not ready when its outcomes, or the accounts themselves, are wrong in many rows; it is
degraded when signals are wrong or outcomes are wrong in some rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from features.quality.codes import CODES

if TYPE_CHECKING:
    from features.quality.report import Issue, QualityReport

Status = Literal["ready", "degraded", "not_ready"]

STATUS_WORDS: dict[Status, str] = {
    "ready": "ready",
    "degraded": "degraded",
    "not_ready": "not ready",
}

STOPS_GRADES = ("D", "F")
"""Grades of an error in outcomes or accounts from which a target is not ready: at least 5 % of the
rows, or an error without a share."""

WEAKENS_GRADES = ("C", "D", "F")
"""Grades of an issue from which a target is degraded: an error in at least 1 % of the rows, or a
warning in at least 10 %."""

EVERY_SCORE = "every score"
"""The prediction in `Issue.affects` of tables that all targets depend on."""

STOP_CODES = frozenset({"missing_accounts", "totals_disagree"})
"""Issues that stop every target: training stops, or totals cannot be trusted."""


@dataclass(frozen=True)
class Reason:
    """One reason for a status.

    Attributes
    ----------
    code, table : str
        The issue.
    words : str
        Title and detail of the issue.
    to_do : str
        Remedy.
    stops : bool
        The target is not ready because of it; otherwise degraded.
    """

    code: str
    table: str
    words: str
    to_do: str
    stops: bool


@dataclass(frozen=True)
class TargetReadiness:
    """Readiness of one target.

    Attributes
    ----------
    target : str
        Name of the target.
    status : {"ready", "degraded", "not_ready"}
        Worst of its reasons.
    reasons : tuple of Reason
        Those that stop first; empty when ready.
    """

    target: str
    status: Status
    reasons: tuple[Reason, ...]

    @property
    def words(self) -> str:
        """Target and status as text."""
        return f"{self.target}: {STATUS_WORDS[self.status]}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "reasons": [asdict(item) for item in self.reasons]}


def readiness(report: QualityReport) -> list[TargetReadiness]:
    """Return the readiness of every target of a report, in the order of the configuration."""
    return [_target(name, report) for name in report.targets]


def _target(name: str, report: QualityReport) -> TargetReadiness:
    reasons = sorted(_reasons(name, report), key=lambda item: not item.stops)
    status: Status = "ready"
    if reasons:
        status = "not_ready" if reasons[0].stops else "degraded"
    return TargetReadiness(name, status, tuple(reasons))


def _reasons(name: str, report: QualityReport) -> Iterator[Reason]:
    for issue in report.issues:
        stops = _stops(issue, name)
        if stops or issue.grade in WEAKENS_GRADES:
            words = f"{CODES[issue.code].title}: {issue.detail}"
            yield Reason(issue.code, issue.table, words, issue.to_do, stops)


def _stops(issue: Issue, name: str) -> bool:
    if issue.code in STOP_CODES:
        return True
    concerns = f"outcomes of {name}" in issue.affects or EVERY_SCORE in issue.affects
    return issue.severity == "error" and concerns and issue.grade in STOPS_GRADES
