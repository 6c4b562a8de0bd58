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
"""P-value of equal periods below which it is an issue, and a tip."""

RANGE = 0.10
"""Smallest relevant difference of the best and the worst period."""


class FoldAgreement(Check):
    """Finds a model whose performance differs between periods.

    The AUC of each test period is weighted by its bootstrap variance over accounts, and the spread
    is compared with that of equal periods (Cochran's Q). A p-value below 1 % is an issue, below 5 %
    a tip, if the best and the worst period differ by 0.10 or more.
    """

    code: ClassVar[str] = "BW-T01"
    title = "performance is similar in all test periods"
    severity: ClassVar[Severity] = "advisory"
    to_do = (
        "check what happened in the worst period (a price change, a tracking outage) before "
        "relying on the average"
    )

    def run(self, context: CheckContext) -> Finding:
        """Compare the AUC of the test periods."""
        rows, settings = context.headline, context.company.training
        values, variances, shown = [], [], []
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
            shown.append(f"{drawn[0]:.3f} in period {number}")
        if len(values) < 2:
            return not_applicable(f"{len(values)} test periods have enough events to compare")
        chance = chance_of_spread(np.array(values), np.array(variances))
        words = f"AUC {', '.join(shown)}; p-value of equal periods {chance:.1%}"
        if max(values) - min(values) < RANGE or chance >= LIKELY:
            return passed(words)
        return issue_finding(words) if chance < SURE else tip(words)
