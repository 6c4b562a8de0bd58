"""BW-S02."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, tip
from training.checks.context import CheckContext
from training.checks.helpers import name_list
from training.evaluation.sampling import MIN_SLICE_EVENTS


class EnoughFolds(Check):
    """Finds a model tested on too few later periods.

    Fewer test periods than ``gates.min_folds`` (3 by default), or none, is an issue; a period with
    fewer than 10 events is a tip: it counts as a period but has little information. The gate on
    folds is the one that blocks.
    """

    code: ClassVar[str] = "BW-S02"
    title = "enough test periods"
    severity: ClassVar[Severity] = "advisory"
    to_do = "load a longer history, or shorten training.fold_days or horizon_days"

    def run(self, context: CheckContext) -> Finding:
        """Count the test periods and their events."""
        if context.evaluation.over != "time":
            return issue_finding("folds hold out accounts: no later period was tested")
        folds, least = context.evaluation.folds, context.company.gates.min_folds
        words = f"{len(folds)} test periods"
        if len(folds) < least:
            return issue_finding(f"{words}, fewer than {least}")
        thin = [
            f"{fold['fold']} ({fold['n_headline_events']} events)"
            for fold in folds
            if fold["n_headline_events"] < MIN_SLICE_EVENTS
        ]
        return tip(f"{words}, of which thin: {name_list(thin)}") if thin else passed(words)
