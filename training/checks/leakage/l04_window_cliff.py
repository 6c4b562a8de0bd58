"""BW-L04."""

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
from training.checks.context import CheckContext
from training.checks.helpers import auc_interval, check_sample, in_words
from training.evaluation.metrics import Sample, auc
from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL

NEAR, FAR = 30, 90
"""Days before the decision: near is up to 30, far is 30 to 90."""

CLIFF, STEEP = 0.10, 0.05
"""Lower limit of the increase in AUC above which it is an issue, and a tip."""


class WindowCliff(Check):
    """Finds signals of a decision already made, such as usage that stops after notice.

    Out of time, accounts that decide within 30 days, and those that decide 30 to 90 days later, are
    each ranked against accounts that stay. Legitimate signals grow gradually. An increase of the
    AUC towards the decision with a lower 95 % limit above 0.10 is an issue, above 0.05 a tip.
    """

    code: ClassVar[str] = "BW-L04"
    title = "no jump just before the decision"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "check that the decision has the date it was made (notice, not end of term), and what "
        "changes in the last 30 days"
    )

    def run(self, context: CheckContext) -> Finding:
        """Compare the AUC near the decision with the AUC far from it."""
        predictions = context.predictions
        decided = predictions[(predictions["label"] == 1) & predictions["decision_at"].notna()]
        lead = (decided["decision_at"] - decided["as_of"]).dt.total_seconds() / 86_400.0
        near = _once(decided[lead <= NEAR])
        far = _once(decided[(lead > NEAR) & (lead <= FAR)])
        stayed = context.headline[context.headline["label"] == 0]
        if min(len(near), len(far), len(stayed)) < MIN_SLICE_EVENTS:
            return not_applicable(
                f"{len(near)} events within {NEAR} days and {len(far)} within {NEAR} to {FAR} "
                f"days: {MIN_SLICE_EVENTS} of each are needed"
            )
        rows = pd.concat([near, far, stayed], ignore_index=True)
        sample = check_sample(rows, rows[f"p_{MODEL}"].to_numpy(dtype=np.float64))
        counted = np.ones((2, len(rows)))
        counted[0, len(near) : len(near) + len(far)] = 0.0
        counted[1, : len(near)] = 0.0

        def rise(drawn: Sample, weights: np.ndarray) -> np.ndarray:
            return auc(drawn, weights * counted[0]) - auc(drawn, weights * counted[1])

        found = auc_interval(context, sample, rise)
        at_near, at_far = auc(sample, counted)
        words = (
            f"AUC {at_near:.3f} up to {NEAR} days before the decision, {at_far:.3f} at {NEAR} to "
            f"{FAR} days: a rise of {in_words(found)}"
        )
        low = found.low or 0.0
        return issue_finding(words) if low > CLIFF else tip(words) if low > STEEP else passed(words)


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(["entity_id", "fold"])
