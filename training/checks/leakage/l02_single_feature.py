"""BW-L02."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import (
    Check,
    Finding,
    Severity,
    issue_finding,
    not_applicable,
    passed,
    tip,
)
from training.checks.column_ranking import alone
from training.checks.context import CheckContext
from training.checks.helpers import lacks_events, name_list

SUSPECT, CURIOUS = 0.90, 0.80
"""AUC of one column from which it is an issue, and a tip."""


class SingleFeature(Check):
    """Finds a feature that tells the outcome by itself: a column filled in after the decision.

    Every column ranks the out-of-time rows within their test period, upwards or downwards, with
    unknown values first or last, whichever ranks best; categories rank by the rate of their level
    in the earlier rows. From an AUC of 0.90 it is an issue, from 0.80 a tip, when the lower 95 %
    limit lies within 0.10 of the mark.
    """

    code: ClassVar[str] = "BW-L02"
    title: ClassVar[str] = "no single feature knows the outcome"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "ask when this value is written; leave it out with exclude_features until its known_at "
        "is right"
    )

    def look(self, context: CheckContext) -> Finding:
        """Rank the out-of-time rows by each column."""
        rows = context.headline
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        found = alone(context, rows, SUSPECT, CURIOUS)
        if found.issues:
            return issue_finding(f"too good alone: {name_list(found.issues + found.tips)}")
        if found.tips:
            return tip(f"very good alone: {name_list(found.tips)}")
        return passed(f"best single feature {found.best}")
