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
from training.checks.column_ranking import rank_single_columns
from training.checks.context import CheckContext
from training.checks.helpers import lacks_events, name_list

SUSPECT, CURIOUS = 0.90, 0.80
"""AUC of a single feature for later events from which it is an issue, and a tip."""


class FutureColumns(Check):
    """Finds values that are overwritten after churn and so reveal it long before.

    Seats set to 0 at termination, an end date that only churned accounts have, a score corrected
    later: such a value is in every row of the account, also a year ahead where the label is still
    0. Out-of-time rows without the event are ranked by each feature, like BW-L02, for whether the
    account has the event *after* its label window, separately for accounts under contract, whose
    windows are shorter. Legitimate signals fade with distance, so an AUC from 0.90 is an issue,
    from 0.80 a tip, if the lower 95 % limit is within 0.10 of the threshold.
    """

    code: ClassVar[str] = "BW-L11"
    title = "no feature reveals distant events"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "check whether this value is overwritten in place: load its history with known_at, or "
        "exclude it with exclude_features"
    )

    def run(self, context: CheckContext) -> Finding:
        """Rank rows without the event by each feature for later events."""
        rows = later_events(context)
        if lacks_events(rows):
            return not_applicable(
                f"{int(rows['label'].sum())} of {len(rows)} out-of-time rows without the event "
                "have it later on: too few to ask"
            )
        kinds = 2 * rows["fold"].to_numpy() + rows["is_under_contract"].to_numpy(dtype=np.int64)
        found = rank_single_columns(context, rows, SUSPECT, CURIOUS, among=kinds)
        if found.issues:
            return issue_finding(f"reveals later events: {name_list(found.issues + found.tips)}")
        if found.tips:
            return tip(f"may reveal later events: {name_list(found.tips)}")
        return passed(f"the highest AUC for later events has {found.best}")


def later_events(context: CheckContext) -> pd.DataFrame:
    """Return headline rows without the event, labelled by events after their window."""
    events = context.frame.rows[context.frame.rows["label"] == 1]
    last = events.groupby("entity_id")["as_of"].max()
    stayed = context.headline[context.headline["label"] == 0].reset_index(drop=True)
    later = stayed["entity_id"].map(last) > stayed["as_of"]
    return stayed.assign(label=later.astype("int64"))
