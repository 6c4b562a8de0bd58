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
"""Share of all events from one segment that makes the model that segment's."""

SMALL = 0.5
"""A dominant segment with less than this share of the rows is an issue, not a tip."""


class OneSegment(Check):
    """Finds a model that learned one segment and is believed for all.

    Where one segment brings 80 % and more of the out-of-time events, the headline numbers are that
    segment's; it is an issue when the segment has less than half of the rows, and a tip otherwise.
    """

    code: ClassVar[str] = "BW-S03"
    title: ClassVar[str] = "no segment dominates the events"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = "read the measures by segment, and do not rank segments together"

    def look(self, context: CheckContext) -> Finding:
        """Compare each segment's share of the events with its share of the rows."""
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
