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
from training.checks.helpers import auc_interval, check_sample, told
from training.evaluation.metrics import Sample, auc
from training.evaluation.sampling import MIN_SLICE_EVENTS, MODEL

NEAR, FAR = 30, 90
"""Days before the decision: near is up to 30, far is 30 to 90."""

CLIFF, STEEP = 0.10, 0.05
"""A rise of AUC whose lower limit is beyond this is an issue, and a tip."""


class WindowCliff(Check):
    """Finds signals of a decision already made: usage that stops after notice, an export, a tag.

    Out of time, accounts that decided within 30 days, and those that decided 30 to 90 days later,
    are each told from accounts that stayed. Honest signals grow slowly; when the AUC rises towards
    the decision by more than 0.10, its 95 % interval taken into account, something knows. A
    lower limit beyond 0.05 is a tip.
    """

    code: ClassVar[str] = "BW-L04"
    title: ClassVar[str] = "no cliff just before the decision"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "check that the decision is dated when it was made (notice, not the end of the term), and "
        "what changes in the last 30 days"
    )

    def look(self, context: CheckContext) -> Finding:
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
            f"{FAR} days: a rise of {told(found)}"
        )
        low = found.low or 0.0
        return issue_finding(words) if low > CLIFF else tip(words) if low > STEEP else passed(words)


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(["entity_id", "fold"])
