"""BW-S01."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, tip
from training.checks.context import CheckContext

GOOD = 200
"""Number of events for an AUC within ±0.04."""


class EnoughEvents(Check):
    """Finds a test with too few events.

    Distinct events in the test periods are counted, not the rows that precede them. Fewer than
    ``gates.min_events`` (100 by default) is an issue; fewer than 200 is a tip: at a base rate of 10
    % the 95 % interval of an AUC of 0.75 is ±0.10 with 30 events, ±0.057 with 100, ±0.040 with 200.
    The gate on events is the one that blocks.
    """

    code: ClassVar[str] = "BW-S01"
    title = "enough events in the test periods"
    severity: ClassVar[Severity] = "advisory"
    to_do = "load a longer history; until then use the intervals, not the values"

    def run(self, context: CheckContext) -> Finding:
        """Count distinct events in the test periods."""
        n, least = context.evaluation.n_decisions, context.company.gates.min_events
        words = f"{n:,} events in the test periods"
        if n < least:
            return issue_finding(f"{words}, fewer than {least}")
        return tip(f"{words}, fewer than {GOOD}") if n < GOOD else passed(words)
