"""BW-S03."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from training.checks.base import (
    Check,
    Finding,
    Severity,
    issue_finding,
    not_applicable,
    passed,
    tip,
)
from training.checks.context import CheckContext
from training.checks.helpers import lacks_events

DOMINANT = 0.8
"""Share of all events from which one segment dominates."""

SMALL = 0.5
"""Share of rows below which a dominant segment is an issue, not a tip."""


class OneSegment(Check):
    """Finds a model dominated by one segment.

    If one segment has 80 % or more of the out-of-time events, the headline measures are those of
    the segment; it is an issue if the segment has less than half of the rows, and a tip otherwise.
    """

    code: ClassVar[str] = "BW-S03"
    title = "no segment dominates the events"
    severity: ClassVar[Severity] = "advisory"
    to_do = "use the measures by segment, and do not rank segments together"

    def run(self, context: CheckContext) -> Finding:
        """Compare each segment's share of events with its share of rows."""
        rows = context.headline
        segments = rows["segment"].fillna("unknown").astype(str)
        if segments.nunique() < 2:
            return not_applicable("there is one segment")
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        events = pd.Series(rows["label"].to_numpy()).groupby(segments.to_numpy()).sum()
        name = str(events.idxmax())
        of_events = float(events.max() / events.sum())
        of_rows = float((segments == name).mean())
        words = f"{name} brings {of_events:.0%} of the events and {of_rows:.0%} of the rows"
        if of_events < DOMINANT:
            return passed(words)
        return issue_finding(words) if of_rows < SMALL else tip(words)
