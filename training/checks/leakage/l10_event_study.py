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
"""Share of its whole gap that a feature may open within the last step before the decision."""

VALUES, RANKS = (1.25, 0.5), (1.25, 0.75)
"""Gap opened in the last step, in standard deviations, for an issue and a tip: beyond what unpaid
invoices do by themselves in the month in which a payment failure ends a contract."""


class EventStudyCheck(Check):
    """Finds features that jump when the decision is made, instead of drifting towards it.

    Rows of accounts that left are aligned on the day of their decision, and each feature is
    averaged in steps of 30 days before it, against accounts that stayed at the same moments, in
    standard deviations: its values, and its ranks, for a fall of small accounts is lost among
    large ones. Disengagement shows months ahead; a feature that is level until the last
    30 days and then opens more than 1.25 standard deviations (0.5 for a tip; 0.75 of ranks), three
    fifths of its whole gap and more, was written by the decision: notice, an off-boarding export,
    seats set to zero.
    """

    code: ClassVar[str] = "BW-L10"
    title: ClassVar[str] = "no feature jumps with the decision"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "ask what writes this column: one that changes because of the decision is left out with "
        "exclude_features, or its decision is dated earlier"
    )

    def look(self, context: CheckContext) -> Finding:
        """Compare the gap to those who stayed in the last step with that in the steps before."""
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
            told = _beyond(jumps, mark)
            if told:
                return say(
                    f"level until {STEP_DAYS} days before the decision, then apart: "
                    f"{name_list(told)}, over {found.n_events} decisions"
                )
        return passed(
            f"{len(found.names)} features of {found.n_events} decisions drift towards the "
            "decision or do not move"
        )


Jumps = Mapping[str, tuple[list[tuple[str, float]], tuple[float, float]]]
"""Per way of measuring: features and their jumps, and the two marks."""


def _beyond(jumps: Jumps, mark: int) -> list[str]:
    """Return the features beyond a mark in words, each once, largest jump first."""
    beyond = [
        (abs(gap), name, f"{name} ({gap:+.1f} sd {way})")
        for way, (measured, marks) in jumps.items()
        for name, gap in measured
        if abs(gap) >= marks[mark]
    ]
    told: dict[str, str] = {}
    for _, name, words in sorted(beyond, reverse=True):
        told.setdefault(name, words)
    return list(told.values())


def _jumps(found: EventStudy) -> list[tuple[str, float]]:
    """Return the features whose gap opens in the last step, largest first."""
    last, before = found.gap[:, -1], found.gap[:, -2]
    opened = last - before
    noise = 3.0 * np.hypot(found.error[:, -1], found.error[:, -2])
    is_sudden = (np.abs(opened) >= SHARE * np.abs(last)) & (np.abs(opened) > noise)
    order = pd.Series(np.abs(opened)).sort_values(ascending=False, kind="stable").index
    return [(found.names[i], float(opened[i])) for i in order if is_sudden[i]]
