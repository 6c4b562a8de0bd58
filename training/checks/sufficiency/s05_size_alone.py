"""BW-S05."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from training.checks.base import Check, Finding, Severity, issue_finding, not_applicable, passed
from training.checks.context import CheckContext
from training.checks.helpers import column_aucs, lacks_events
from training.evaluation.metrics import AUC_WITHIN
from training.evaluation.sampling import MODEL

NOTABLE = 0.60
"""AUC of revenue alone below which the check passes."""

MOST_OF_IT = 0.6
"""Largest share of the model's gain over chance that revenue alone may explain."""


class SizeAlone(Check):
    """Finds growth or contraction that depends only on the size of its base.

    A movement counts from a share of the revenue at as_of (`margin`), so any addition to a small
    account is growth: a model of it ranks by size and has no use for sales. Revenue alone ranks the
    out-of-time rows within their test periods; an AUC of 0.60 or more is an issue if it makes up
    three fifths of the model's gain over chance.
    """

    code: ClassVar[str] = "BW-S05"
    title = "movement is not only a matter of size"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "increase the margin of the target, or define the movement in money and provide it as "
        "labels"
    )

    def run(self, context: CheckContext) -> Finding:
        """Rank the out-of-time rows by their revenue."""
        if context.config.outcome not in ("expansion", "contraction"):
            return not_applicable("churn does not depend on a share of revenue")
        rows = context.headline
        rows = rows[rows["arr"].notna()]
        if lacks_events(rows):
            return not_applicable("too few out-of-time events with known revenue")
        arr = rows["arr"].to_numpy(dtype=np.float64)[:, None]
        found = column_aucs(arr, rows["label"].to_numpy(), rows["fold"].to_numpy())[0]
        alone = float(max(found, 1.0 - found))
        model = context.evaluation.models[MODEL]["auc"]["value"]
        if model is None:
            return not_applicable(f"{AUC_WITHIN} cannot be measured")
        way = "smaller" if found < 0.5 else "larger"
        words = (
            f"revenue alone ranks with {AUC_WITHIN} {alone:.3f} ({way} first), the model with "
            f"{model:.3f}"
        )
        if alone >= NOTABLE and alone - 0.5 >= MOST_OF_IT * (model - 0.5):
            return issue_finding(words)
        return passed(words)
