"""BW-L10."""

from __future__ import annotations

from collections.abc import Mapping
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
from training.checks.event_study import BACK_DAYS, STEP_DAYS, EventStudy, event_study
from training.checks.helpers import name_list

SHARE = 0.6
"""Largest share of the whole difference that may arise in the last step."""

VALUES, RANKS = (1.25, 0.5), (1.25, 0.75)
"""Difference that arises in the last step, in standard deviations, for an issue and a tip: more
than that of unpaid invoices in the month in which a payment failure ends a contract."""


class EventStudyCheck(Check):
    """Finds features that jump at the decision instead of drifting towards it.

    Rows of accounts that left are aligned on the day of their decision. Each feature is averaged in
    steps of 30 days before it and compared with accounts that stayed at the same as_of, in standard
    deviations of values and of ranks (changes of small accounts are visible only in ranks).
    Disengagement develops over months; a feature that is constant until the last 30 days and then
    opens more than 1.25 standard deviations (0.5 for a tip; 0.75 of ranks) and at least three
    fifths of its whole difference is a result of the decision: notice, an off-boarding export,
    seats set to zero.
    """

    code: ClassVar[str] = "BW-L10"
    title = "no feature jumps with the decision"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "check which process writes this column: exclude a column that changes because of the "
        "decision with exclude_features, or use the earlier decision date"
    )

    def run(self, context: CheckContext) -> Finding:
        """Compare the difference in the last step with that in the steps before."""
        found = event_study(context.frame)
        if found is None:
            return not_applicable(
                f"too few dated decisions with rows in each {STEP_DAYS} days of the "
                f"{BACK_DAYS} before them"
            )
        ranked = event_study(context.frame, by_rank=True)
        jumps = {"in value": (_jumps(found), VALUES)}
        if ranked is not None:
            jumps["in rank"] = (_jumps(ranked), RANKS)
        for mark, say in enumerate((issue_finding, tip)):
            found_words = _above(jumps, mark)
            if found_words:
                return say(
                    f"level until {STEP_DAYS} days before the decision, then apart: "
                    f"{name_list(found_words)}, over {found.n_events} decisions"
                )
        return passed(
            f"{len(found.names)} features of {found.n_events} decisions drift towards the "
            "decision or do not move"
        )


Jumps = Mapping[str, tuple[list[tuple[str, float]], tuple[float, float]]]
"""Per scale: features and their jumps, and the two thresholds."""


def _above(jumps: Jumps, mark: int) -> list[str]:
    """Return the features above a threshold in words, each once, largest jump first."""
    beyond = [
        (abs(gap), name, f"{name} ({gap:+.1f} sd {way})")
        for way, (measured, marks) in jumps.items()
        for name, gap in measured
        if abs(gap) >= marks[mark]
    ]
    found_words: dict[str, str] = {}
    for _, name, words in sorted(beyond, reverse=True):
        found_words.setdefault(name, words)
    return list(found_words.values())


def _jumps(found: EventStudy) -> list[tuple[str, float]]:
    """Return the features whose difference arises in the last step, largest first."""
    last, before = found.gap[:, -1], found.gap[:, -2]
    opened = last - before
    noise = 3.0 * np.hypot(found.error[:, -1], found.error[:, -2])
    is_sudden = (np.abs(opened) >= SHARE * np.abs(last)) & (np.abs(opened) > noise)
    order = pd.Series(np.abs(opened)).sort_values(ascending=False, kind="stable").index
    return [(found.names[i], float(opened[i])) for i in order if is_sudden[i]]
