"""BW-L15."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

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
from training.checks.helpers import name_list
from training.checks.label_turns import label_turns

ISSUE, TIP = 0.60, 0.55
"""Lower limit (three standard errors) of the AUC from which it is an issue, and a tip."""

ERRORS = 3.0


class LabelTurns(Check):
    """Finds features derived from the outcome: they change on the day the label changes.

    The label of an account that leaves changes from 0 to 1 when its decision comes within the
    horizon. That day is unknown to customers, so a legitimate feature changes as in the months
    around it, however well it predicts. Each feature's change ranks the rows at which the label
    changed among those at which it stayed 0, at a similar distance to renewal, and the excess AUC
    of the months before and after is subtracted, because declines continue. A lower limit (three
    standard errors) from 0.60 is an issue, from 0.55 a tip. Good features alone (BW-L02) are no
    issue here; noise on top of a leak does not hide it.
    """

    code: ClassVar[str] = "BW-L15"
    title = "no feature changes with the label"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "check how this value is computed: exclude values derived from the outcome, or from a "
        "list of accounts known to leave, with exclude_features"
    )

    def run(self, context: CheckContext) -> Finding:
        """Rank the label changes by the change of each feature."""
        found = label_turns(context.frame)
        if found is None:
            return not_applicable("too few accounts have rows before and after a label change")
        low = found.auc - ERRORS * found.error
        for mark, say in ((ISSUE, issue_finding), (TIP, tip)):
            beyond = [
                f"{found.names[i]} (AUC of its change {found.auc[i]:.3f})"
                for i in np.argsort(-found.auc, kind="stable")
                if low[i] > mark
            ]
            if beyond:
                return say(
                    f"turns with the label: {name_list(beyond)}, over {found.n_turns:,} turns"
                )
        top = int(np.nanargmax(found.auc))
        return passed(
            f"over {found.n_turns:,} label changes, the change of {found.names[top]} ranks "
            f"best, AUC {found.auc[top]:.3f}"
        )
