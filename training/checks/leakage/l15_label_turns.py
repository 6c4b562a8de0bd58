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
from training.checks.label_turns import turns

ISSUE, TIP = 0.60, 0.55
"""Lower limit (three standard errors) of the AUC of a change from which it is an issue, a tip."""

ERRORS = 3.0


class LabelTurns(Check):
    """Finds features made from the outcome: they turn on the day on which the label turns.

    The label of an account that leaves turns from 0 to 1 when its decision comes within the
    horizon. No customer knows that day, so what an honest feature does between the rows before
    and after it is what it does in the months around, however well it predicts. Each feature's
    change ranks the rows at which the label turned among those at which it stayed 0, of accounts
    as near to their renewal, and what the months before and after rank by is taken off: a decline
    goes on. From an AUC of 0.60, three standard errors taken off, it is an issue, from 0.55 a tip.
    Good features alone (BW-L02) are no issue here; noise over a leak hides nothing.
    """

    code: ClassVar[str] = "BW-L15"
    title: ClassVar[str] = "no feature turns when the label turns"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "ask how this value is made: one computed from the outcome, or from a list of accounts "
        "known to leave, is left out with exclude_features"
    )

    def look(self, context: CheckContext) -> Finding:
        """Rank the turns of the label by the change of each feature."""
        found = turns(context.frame)
        if found is None:
            return not_applicable("too few accounts have rows before and after the label turns")
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
            f"over {found.n_turns:,} turns of the label the change of {found.names[top]} ranks "
            f"best, AUC {found.auc[top]:.3f}"
        )
