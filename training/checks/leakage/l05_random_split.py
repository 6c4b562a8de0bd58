"""BW-L05."""

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
from training.checks.helpers import (
    auc_interval,
    check_sample,
    lacks_events,
    probe,
    score_of,
    some_accounts,
    told,
)
from training.data.splits import entity_codes
from training.evaluation.metrics import Sample, auc

GROUPS = 3
WIDE, NOTABLE = 0.10, 0.05
"""A gap whose lower limit is beyond this is an issue, and a tip."""


class RandomSplit(Check):
    """Finds rows that know their own period: a future that a random split would let in.

    The same config is fitted on random other accounts of all periods, as many rows as the time
    folds learned from, and scores the same out-of-time rows. Knowing the period (a price rise, an
    export, a feature that was filled in later for everybody) should be worth little; a gap in AUC
    above that of the time folds beyond 0.10, its 95 % interval taken into account, is not. Most
    often the periods differ; then the past is a poor teacher, and the time folds tell the truth.
    """

    code: ClassVar[str] = "BW-L05"
    title: ClassVar[str] = "a random split is no better than a split in time"
    severity: ClassVar[Severity] = "advisory"
    to_do: ClassVar[str] = (
        "trust the time folds alone; look for features whose level differs by period (BW-T02)"
    )

    def look(self, context: CheckContext) -> Finding:
        """Score the out-of-time rows with models that have seen their period."""
        rows = context.headline
        if context.folds.over != "time":
            return not_applicable("the folds hold out accounts: there is no split in time")
        if context.config.kind == "rates":
            return not_applicable("pooled rates learn from no feature")
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        in_time = check_sample(rows, rows["raw"].to_numpy(dtype=np.float64))
        at_random = check_sample(rows, _random_scores(context))

        def gap(drawn: Sample, weights: np.ndarray) -> np.ndarray:
            return auc(drawn, weights) - auc(in_time, weights)

        found = auc_interval(context, at_random, gap)
        words = (
            f"random accounts of all periods minus time folds: AUC {told(found)}, against "
            f"{told(auc_interval(context, in_time))} in time"
        )
        low = found.low or 0.0
        return (
            issue_finding(words) if low > WIDE else tip(words) if low > NOTABLE else passed(words)
        )


def _random_scores(context: CheckContext) -> np.ndarray:
    """Return log-odds of the headline rows by models fitted on other accounts of all periods."""
    frame, rows, seed = context.frame, context.headline, context.company.training.seed
    code = entity_codes(frame.rows)
    group = np.random.default_rng(seed).permutation(int(code.max()) + 1)[code] % GROUPS
    position = rows["position"].to_numpy()
    n_learned = int(np.mean([len(fold.train) for fold in context.folds.folds]))
    score = np.empty(len(rows))
    for number in range(GROUPS):
        here = group[position] == number
        if here.any():
            others = some_accounts(frame.take(group != number), n_learned, seed + number)
            score[here] = score_of(probe(context), others, frame.take(position[here]), seed)
    return score
