"""BW-S02."""

from __future__ import annotations

from typing import ClassVar

from training.checks.base import Check, Finding, Severity, issue_finding, passed, tip
from training.checks.context import CheckContext
from training.checks.helpers import name_list
from training.evaluation.sampling import MIN_SLICE_EVENTS


class EnoughFolds(Check):
    """Finds a model tested on too few later periods to know how it fares over time.

    Fewer test periods than ``gates.min_folds`` (3 by default), or none, is an issue; a period with
    fewer than 10 events is a tip: it counts as a period and says next to nothing. The gate on
    folds is what blocks.
    """

    code: ClassVar[str] = "BW-S02"
    title: ClassVar[str] = "enough later periods were tested"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = "bring a longer history, or shorten training.fold_days or horizon_days"

    def look(self, context: CheckContext) -> Finding:
        """Count the test periods, and the events in each."""
        if context.evaluation.over != "time":
            return issue_finding("the folds hold out accounts: no later period was tested")
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
