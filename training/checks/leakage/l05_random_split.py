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
    in_words,
    lacks_events,
    score_of,
    small_config,
    some_accounts,
)
from training.data.splits import entity_codes
from training.evaluation.metrics import Sample, auc

GROUPS = 3
WIDE, NOTABLE = 0.10, 0.05
"""Lower limit of the gain above which it is an issue, and a tip."""


class RandomSplit(Check):
    """Finds features that reveal the period of a row, which a random split would exploit.

    The same settings are fitted on random other accounts of all periods, with as many rows as the
    time folds, and score the same out-of-time rows. Information on the period (a price increase, an
    export, a feature filled in later for all accounts) should add little; a gain in AUC over the
    time folds with a lower 95 % limit above 0.10 is an issue. Often the periods really differ; then
    the measures of the time folds are the correct ones.
    """

    code: ClassVar[str] = "BW-L05"
    title = "a random split is no better than a split in time"
    severity: ClassVar[Severity] = "advisory"
    to_do = "rely on the time folds; look for features whose level differs by period (BW-T02)"

    def run(self, context: CheckContext) -> Finding:
        """Score the out-of-time rows with models trained on their period."""
        rows = context.headline
        if context.folds.over != "time":
            return not_applicable("folds hold out accounts, not time")
        if context.config.kind == "rates":
            return not_applicable("pooled rates use no features")
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        in_time = check_sample(rows, rows["raw"].to_numpy(dtype=np.float64))
        at_random = check_sample(rows, _random_scores(context))

        def gap(drawn: Sample, weights: np.ndarray) -> np.ndarray:
            return auc(drawn, weights) - auc(in_time, weights)

        found = auc_interval(context, at_random, gap)
        words = (
            f"random accounts of all periods minus time folds: AUC {in_words(found)}, against "
            f"{in_words(auc_interval(context, in_time))} in time"
        )
        low = found.low or 0.0
        return (
            issue_finding(words) if low > WIDE else tip(words) if low > NOTABLE else passed(words)
        )


def _random_scores(context: CheckContext) -> np.ndarray:
    """Return log-odds of the headline rows from models fitted on other accounts of all periods."""
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
            score[here] = score_of(small_config(context), others, frame.take(position[here]), seed)
    return score
