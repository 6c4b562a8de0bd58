"""BW-L12."""

from __future__ import annotations

from typing import ClassVar

from features.quality.modelling_hazards import duplicates_text
from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext


class DuplicateAccounts(Check):
    """Finds accounts that exist under two ids.

    Accounts are compared by the content of their rows without ids: two with the same history,
    unless that history is common, are one account. Each of its events counts twice, so intervals
    are too narrow, and test rows may be in the training data.
    """

    code: ClassVar[str] = "BW-L12"
    title = "no account has two ids"
    severity: ClassVar[Severity] = "blocking"
    to_do = "map both ids to one account in every table, and build again"

    def run(self, context: CheckContext) -> Finding:
        """List the accounts with the same history."""
        if context.evidence is None:
            return skipped("ready-made table: no source tables")
        copies = context.evidence.copies
        if copies:
            n = sum(len(group) for group in copies)
            return issue_finding(
                f"{n:,} accounts have the history of another: {duplicates_text(copies)}"
            )
        return passed("no two accounts have the same history")
