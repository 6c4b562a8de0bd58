"""BW-L13."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext


class MissingAccountsCheck(Check):
    """Finds an accounts table without churned accounts, whose outcomes are then missing.

    Rows of accounts that are not in the accounts table are quarantined. If they are one row in
    twenty of a table or more, training stops, unless the company ignores this check with its
    reason.
    """

    code: ClassVar[str] = "BW-L13"
    title = "churned accounts are in the accounts table"
    severity: ClassVar[Severity] = "blocking"
    to_do = "load all accounts, including those that left, under the same ids as elsewhere"

    def run(self, context: CheckContext) -> Finding:
        """List the tables with many rows of unknown accounts."""
        if context.evidence is None:
            return skipped("ready-made table: no source tables")
        if context.evidence.missing:
            return issue_finding("; ".join(context.evidence.missing))
        return passed("nearly every row of every table belongs to a known account")
