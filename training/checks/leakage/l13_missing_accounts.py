"""BW-L13."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext


class MissingAccountsCheck(Check):
    """Finds an accounts table of survivors: those that left were deleted, with their outcomes.

    Rows of accounts that the accounts table lacks are set aside. Where that is one row in twenty
    of a table or more, training stops; it goes on only where the company ignores this check with
    its reason.
    """

    code: ClassVar[str] = "BW-L13"
    title: ClassVar[str] = "the accounts that left are among the accounts"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = "load all accounts, those that left too, under the same ids as elsewhere"

    def look(self, context: CheckContext) -> Finding:
        """List the tables that name many accounts which are not there."""
        if context.evidence is None:
            return skipped("the rows were given as a table; their sources are not known")
        if context.evidence.missing:
            return issue_finding("; ".join(context.evidence.missing))
        return passed("nearly every row of every table belongs to an account that is there")
