"""What a check is, and what it can find."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from training.checks.context import CheckContext

Severity = Literal["blocking", "advisory"]
Outcome = Literal["issue", "tip", "passed", "not applicable", "skipped", "ignored"]

OUTCOMES: Mapping[Outcome, str] = {
    "issue": "the fault was found",
    "tip": "something to look at, which may be right",
    "passed": "looked for and not found",
    "not applicable": "the question does not arise, or too little is known to ask it",
    "skipped": "what it needs was not at hand",
    "ignored": "the company has a reason not to heed it",
}

SECTIONS: Mapping[str, str] = {"L": "leakage", "S": "sufficiency", "T": "stability"}
"""What the letter of a code stands for."""

CATALOGUE = "reference/checks/"
"""Page of the documentation site that describes the checks."""


@dataclass(frozen=True)
class Finding:
    """What one look found.

    Attributes
    ----------
    outcome : str
        A key of `OUTCOMES`; never ``ignored``, which a check cannot know.
    words : str
        One sentence with the numbers.
    """

    outcome: Outcome
    words: str


def issue_finding(words: str) -> Finding:
    """Say that the fault was found."""
    return Finding("issue", words)


def tip(words: str) -> Finding:
    """Say that something is worth a look."""
    return Finding("tip", words)


def passed(words: str) -> Finding:
    """Say that the fault was looked for and not found."""
    return Finding("passed", words)


def not_applicable(words: str) -> Finding:
    """Say that the question does not arise."""
    return Finding("not applicable", words)


def skipped(words: str) -> Finding:
    """Say that what the check needs was not given."""
    return Finding("skipped", words)


class Check(ABC):
    """One methodological check: one file, one class, whose docstring says fault and method.

    Attributes
    ----------
    code : str
        ``BW-`` and a letter of `SECTIONS` with two digits.
    title : str
        What is right when it passes.
    severity : str
        ``blocking``: with an issue, the model is published only as provisional.
    to_do : str
        What to do about an issue or a tip.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity]
    to_do: ClassVar[str]

    @abstractmethod
    def look(self, context: CheckContext) -> Finding:
        """Look for the fault; pure."""


@dataclass(frozen=True)
class CheckResult:
    """What a check found in one training.

    Attributes
    ----------
    code, title, severity : str
        Of the check.
    outcome : str
        A key of `OUTCOMES`.
    words : str
        The finding in one sentence; the reason when ignored.
    to_do : str
        Advice; empty unless there is an issue or a tip.
    section : str
        ``leakage``, ``sufficiency`` or ``stability``.
    link : str
        Address of its description, relative to the documentation site.
    """

    code: str
    title: str
    severity: Severity
    outcome: Outcome
    words: str
    to_do: str
    section: str
    link: str

    @property
    def is_blocking(self) -> bool:
        """Whether it keeps the model from being published without the word provisional."""
        return self.outcome == "issue" and self.severity == "blocking"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON content."""
        return asdict(self)


def result_of(check: Check, finding: Finding) -> CheckResult:
    """Return a finding with what is known of its check."""
    return CheckResult(
        code=check.code,
        title=check.title,
        severity=check.severity,
        outcome=finding.outcome,
        words=finding.words,
        to_do=check.to_do if finding.outcome in ("issue", "tip") else "",
        section=section_of(check.code),
        link=f"{CATALOGUE}#{check.code.lower()}",
    )


def section_of(code: str) -> str:
    """Return what a check is about.

    >>> section_of("BW-L01")
    'leakage'
    """
    return SECTIONS[code.removeprefix("BW-")[0]]
