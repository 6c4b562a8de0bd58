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
"""AUC of the revenue alone below which it is not worth a word."""

MOST_OF_IT = 0.6
"""Share of what the model adds to chance that the revenue alone may explain."""


class SizeAlone(Check):
    """Finds growth or shrinking that is only the size of what it is measured against.

    A movement counts from a share of the revenue at as_of (`margin`), so anything added to a small
    account is growth, and the smaller the account the likelier: a model of it ranks by size and
    tells nothing one could sell by. The revenue alone ranks the out-of-time rows, within their
    test periods; an AUC of 0.60 and more is an issue when it makes up three fifths of what the
    model adds to chance.
    """

    code: ClassVar[str] = "BW-S05"
    title: ClassVar[str] = "movement is more than the size it is measured against"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "raise the target's margin, or define the movement in money and bring it as labels"
    )

    def look(self, context: CheckContext) -> Finding:
        """Rank the out-of-time rows by their revenue."""
        if context.config.outcome not in ("expansion", "contraction"):
            return not_applicable("leaving is not measured against a share of the revenue")
        rows = context.headline
        rows = rows[rows["arr"].notna()]
        if lacks_events(rows):
            return not_applicable("too few out-of-time events of known revenue")
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
