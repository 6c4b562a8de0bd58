"""BW-L12."""

from __future__ import annotations

from typing import ClassVar

from features.quality.modelling_hazards import duplicates_text
from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext


class DuplicateAccounts(Check):
    """Finds accounts that are there twice, under two ids.

    Accounts are compared by what their rows say, without any id: two with the same history, where
    that history is not common to many, are one account. Each of its events counts twice, so that
    intervals are too narrow, and a model may be tested on rows it has learned.
    """

    code: ClassVar[str] = "BW-L12"
    title: ClassVar[str] = "no account is there twice"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = "map both ids to one account in every table, and build again"

    def look(self, context: CheckContext) -> Finding:
        """List the accounts with the same history."""
        if context.evidence is None:
            return skipped("the rows were given as a table; their sources are not known")
        copies = context.evidence.copies
        if copies:
            n = sum(len(group) for group in copies)
            return issue_finding(
                f"{n:,} accounts have the history of another: {duplicates_text(copies)}"
            )
        return passed("no two accounts have the same history")
