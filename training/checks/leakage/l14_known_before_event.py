"""BW-L14."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext
from training.checks.helpers import name_list


class KnownBeforeEvent(Check):
    """Finds a ``known_at`` that says a row was known before it happened.

    Then the column is no time of knowing: a date of the account, a batch, another time zone. What
    else was entered or corrected later is hidden behind it, and no past can be rebuilt. Terms,
    entitlements and milestones may be agreed ahead, by up to 400 days.
    """

    code: ClassVar[str] = "BW-L14"
    title: ClassVar[str] = "nothing is known before it happens"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "map known_at to the time the row was loaded or last changed, or leave it out and set "
        "known_delay_days"
    )

    def look(self, context: CheckContext) -> Finding:
        """List the tables whose rows are known too early."""
        if context.evidence is None:
            return skipped("the rows were given as a table; their sources are not known")
        found = [f"{name}: {words}" for name, words in context.evidence.clockless.items()]
        if found:
            return issue_finding(name_list(found))
        return passed("no table is known before it happens")
