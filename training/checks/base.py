"""Base class of methodological checks and their outcomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from training.checks.context import CheckContext
from training.model.manifest_parts import CheckResult, Outcome
from training.model.manifest_parts import Severity as Severity

OUTCOMES: Mapping[Outcome, str] = {
    "issue": "the fault was found",
    "tip": "possible fault, to be reviewed",
    "passed": "the fault was not found",
    "not applicable": "the check does not apply to these data, or there are too few",
    "skipped": "the data the check needs are not available",
    "ignored": "ignored in company.yaml, with a reason",
}

SECTIONS: Mapping[str, str] = {"L": "leakage", "S": "sufficiency", "T": "stability"}
"""Section of a check by the letter of its code."""

CATALOGUE = "reference/checks/"
"""Page of the documentation site that describes the checks."""


@dataclass(frozen=True)
class Finding:
    """Outcome of a check before the company's settings are applied.

    Attributes
    ----------
    outcome : str
        A key of `OUTCOMES` except ``ignored``, which the company decides.
    words : str
        One sentence with the numbers.
    """

    outcome: Outcome
    words: str


def issue_finding(words: str) -> Finding:
    """Return the finding that the fault was found."""
    return Finding("issue", words)


def tip(words: str) -> Finding:
    """Return the finding of a possible fault."""
    return Finding("tip", words)


def passed(words: str) -> Finding:
    """Return the finding that the fault was not found."""
    return Finding("passed", words)


def not_applicable(words: str) -> Finding:
    """Return the finding that the check does not apply."""
    return Finding("not applicable", words)


def skipped(words: str) -> Finding:
    """Return the finding that required data are not available."""
    return Finding("skipped", words)


class Check(ABC):
    """One methodological check: one class per file, whose docstring describes fault and method.

    Attributes
    ----------
    code : str
        ``BW-`` and a letter of `SECTIONS` with two digits.
    title : str
        Property that holds when the check passes.
    severity : str
        ``blocking``: with an issue, the model can only be published as provisional.
    to_do : str
        Advice for an issue or a tip.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity]
    to_do: ClassVar[str]

    @abstractmethod
    def run(self, context: CheckContext) -> Finding:
        """Run the check; pure."""


def result_of(check: Check, finding: Finding) -> CheckResult:
    """Return a finding with the description of its check."""
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
    """Return the section of a check.

    >>> section_of("BW-L01")
    'leakage'
    """
    return SECTIONS[code.removeprefix("BW-")[0]]
