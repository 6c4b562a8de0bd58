"""BW-T01."""

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
from training.checks.helpers import check_sample, lacks_events
from training.evaluation.metrics import auc, bootstrap
from training.evaluation.sampling import MODEL
from training.evaluation.stability import chance_of_spread

SURE, LIKELY = 0.01, 0.05
"""Chance of such a spread among equal periods below which it is an issue, and a tip."""

RANGE = 0.10
"""Difference of the best and the worst period that matters."""


class FoldAgreement(Check):
    """Finds a model that works in one period and not in another.

    The AUC of each test period is weighed by its variance over accounts drawn as a whole, and the
    spread is held against what equal periods would show (Cochran's Q). Below a chance of 1 % it is
    an issue, below 5 % a tip, when best and worst period lie 0.10 apart or more.
    """

    code: ClassVar[str] = "BW-T01"
    title: ClassVar[str] = "it works alike in every test period"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = (
        "look at what happened in the worst period (a price change, a tracking outage) before "
        "trusting the average"
    )

    def look(self, context: CheckContext) -> Finding:
        """Compare the AUC of the test periods."""
        rows, settings = context.headline, context.company.training
        values, variances, told = [], [], []
        for number, part in rows.groupby("fold"):
            if lacks_events(part):
                continue
            part = part.reset_index(drop=True)
            sample = check_sample(part, part[f"p_{MODEL}"].to_numpy(dtype=np.float64))
            drawn = bootstrap(
                sample, {"auc": auc}, draws=settings.bootstrap_draws, seed=settings.seed
            )["auc"]
            values.append(float(drawn[0]))
            variances.append(float(np.nanvar(drawn[1:])))
            told.append(f"{drawn[0]:.3f} in period {number}")
        if len(values) < 2:
            return not_applicable(f"{len(values)} test periods have events enough to be compared")
        chance = chance_of_spread(np.array(values), np.array(variances))
        words = f"AUC {', '.join(told)}; chance of such a spread among equal periods {chance:.1%}"
        if max(values) - min(values) < RANGE or chance >= LIKELY:
            return passed(words)
        return issue_finding(words) if chance < SURE else tip(words)
