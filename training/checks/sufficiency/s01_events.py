"""BW-S01."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, tip
from training.checks.context import CheckContext

GOOD = 200
"""Events from which an AUC is known to within ±0.04."""


class EnoughEvents(Check):
    """Finds a test with too few events to say anything.

    Distinct events in the test periods are counted, not the rows that see them coming. Fewer than
    ``gates.min_events`` (100 by default) is an issue; fewer than 200 is a tip: at a base rate of
    10 % the 95 % interval of an AUC of 0.75 is ±0.10 with 30 events, ±0.057 with 100, ±0.040 with
    200. The gate on events is what blocks.
    """

    code: ClassVar[str] = "BW-S01"
    title: ClassVar[str] = "enough events were predicted out of time"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = "bring a longer history; until then read the intervals, not the values"

    def look(self, context: CheckContext) -> Finding:
        """Count distinct events in the test periods."""
        n, least = context.evaluation.n_decisions, context.company.gates.min_events
        words = f"{n:,} events in the test periods"
        if n < least:
            return issue_finding(f"{words}, fewer than {least}")
        return tip(f"{words}, fewer than {GOOD}") if n < GOOD else passed(words)
