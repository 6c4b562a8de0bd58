"""BW-L11."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
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
from training.checks.column_ranking import alone
from training.checks.context import CheckContext
from training.checks.helpers import lacks_events, name_list

SUSPECT, CURIOUS = 0.90, 0.80
"""AUC of one column, of who has the event later on, from which it is an issue, and a tip."""


class FutureColumns(Check):
    """Finds values written over after the account left, and so told long before it does.

    Seats set to 0 at termination, an end date that only the gone have, a score corrected later:
    such a value stands in every row of the account, also a year ahead, where the label is still 0.
    Out-of-time rows without the event are ranked by each column, like BW-L02, for whether the
    account has the event *after* its label window, those under contract apart from the others,
    whose windows are shorter. Honest signals fade with distance, so an AUC from 0.90 is an issue,
    from 0.80 a tip, when the lower 95 % limit lies within 0.10 of the mark.
    """

    code: ClassVar[str] = "BW-L11"
    title: ClassVar[str] = "no feature knows who leaves long before"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "ask whether this value is overwritten in place: bring its history, with known_at, or "
        "leave it out with exclude_features"
    )

    def look(self, context: CheckContext) -> Finding:
        """Rank rows without the event by each column for what comes later."""
        rows = later_events(context)
        if lacks_events(rows):
            return not_applicable(
                f"{int(rows['label'].sum())} of {len(rows)} out-of-time rows without the event "
                "have it later on: too few to ask"
            )
        kinds = 2 * rows["fold"].to_numpy() + rows["is_under_contract"].to_numpy(dtype=np.int64)
        found = alone(context, rows, SUSPECT, CURIOUS, among=kinds)
        if found.issues:
            return issue_finding(f"tells who leaves later: {name_list(found.issues + found.tips)}")
        if found.tips:
            return tip(f"may tell who leaves later: {name_list(found.tips)}")
        return passed(f"the most is told of later events by {found.best}")


def later_events(context: CheckContext) -> pd.DataFrame:
    """Return the headline rows without the event, labelled by whether it comes after the window."""
    events = context.frame.rows[context.frame.rows["label"] == 1]
    last = events.groupby("entity_id")["as_of"].max()
    stayed = context.headline[context.headline["label"] == 0].reset_index(drop=True)
    later = stayed["entity_id"].map(last) > stayed["as_of"]
    return stayed.assign(label=later.astype("int64"))
