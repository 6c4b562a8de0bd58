"""BW-L14."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, skipped
from training.checks.context import CheckContext
from training.checks.helpers import name_list


class KnownBeforeEvent(Check):
    """Finds ``known_at`` values before the event.

    Such a column is not the time at which a row became known: it is a date of the account, of a
    batch, or in another time zone. It hides later corrections, so the past cannot be recomputed.
    Terms, entitlements and milestones may be agreed up to 400 days ahead.
    """

    code: ClassVar[str] = "BW-L14"
    title = "no row is known before it happens"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "map known_at to the time the row was loaded or last changed, or remove it and set "
        "known_delay_days"
    )

    def run(self, context: CheckContext) -> Finding:
        """List the tables with rows known too early."""
        if context.evidence is None:
            return skipped("ready-made table: no source tables")
        found = [f"{name}: {words}" for name, words in context.evidence.clockless.items()]
        if found:
            return issue_finding(name_list(found))
        return passed("no table has rows known before they happen")
