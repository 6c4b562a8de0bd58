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
from training.checks.column_ranking import rank_single_columns
from training.checks.context import CheckContext
from training.checks.helpers import lacks_events, name_list

SUSPECT, CURIOUS = 0.90, 0.80
"""AUC of a single feature from which it is an issue, and a tip."""


class SingleFeature(Check):
    """Finds features that determine the outcome alone, such as columns filled in afterwards.

    Every feature ranks the out-of-time rows within their test period, in the best of ascending and
    descending order with unknown values first or last; categories are ranked by the rate of their
    level in the earlier rows. An AUC from 0.90 is an issue, from 0.80 a tip, if the lower 95 %
    limit is within 0.10 of the threshold.
    """

    code: ClassVar[str] = "BW-L02"
    title = "no single feature determines the outcome"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "check when this value is written; exclude it with exclude_features until its "
        "known_at is correct"
    )

    def run(self, context: CheckContext) -> Finding:
        """Rank the out-of-time rows by each feature."""
        rows = context.headline
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        found = rank_single_columns(context, rows, SUSPECT, CURIOUS)
        if found.issues:
            return issue_finding(f"too good alone: {name_list(found.issues + found.tips)}")
        if found.tips:
            return tip(f"very good alone: {name_list(found.tips)}")
        return passed(f"best single feature {found.best}")
