"""BW-L06."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd

from training.checks.base import Check, Finding, Severity, issue_finding, not_applicable, passed
from training.checks.context import CheckContext
from training.checks.helpers import (
    auc_interval,
    check_sample,
    in_words,
    lacks_events,
    score_of,
    small_config,
)
from training.data.splits import Fold
from training.data.training_frame import TrainingFrame
from training.evaluation.metrics import Estimate

LAST_FOLDS = 2
TIMES = 3
"""Shuffles that must all show a signal for an issue; one in forty does by chance."""


class Permutation(Check):
    """Finds test rows among the training rows.

    Labels are shuffled among the accounts of each as_of, so that there is nothing to learn, and the
    model is fitted and tested on the last folds as before. An AUC whose 95 % interval is above 0.5
    in three of three shuffles means that the test rows were in the training data.
    """

    code: ClassVar[str] = "BW-L06"
    title = "shuffled labels cannot be predicted"
    severity: ClassVar[Severity] = "blocking"
    to_do = "look for rows of the test periods among the training rows, and for repeated rows"

    def run(self, context: CheckContext) -> Finding:
        """Fit and test on shuffled labels until one shuffle shows no signal."""
        if context.config.kind == "rates":
            return not_applicable("pooled rates use no features")
        tested = context.headline["fold"].isin([f.number for f in _last(context)])
        if lacks_events(context.headline[tested]):
            return not_applicable("too few events in the last test periods")
        found = []
        for number in range(TIMES):
            found.append(_shuffled(context, number))
            if (found[-1].low or 0.0) <= 0.5:
                return passed(f"AUC with shuffled labels {in_words(found[-1])}")
        return issue_finding(
            "AUC with shuffled labels " + ", ".join(in_words(item) for item in found)
        )


def _last(context: CheckContext) -> tuple[Fold, ...]:
    return context.folds.folds[-LAST_FOLDS:]


def _shuffled(context: CheckContext, number: int) -> Estimate:
    seed = context.company.training.seed + number
    frame = shuffled(context.frame, seed)
    rows, scores = [], []
    for fold in _last(context):
        tested = frame.take(fold.headline)
        rows.append(tested.rows.assign(fold=fold.number))
        scores.append(score_of(small_config(context), frame.take(fold.train), tested, seed))
    return auc_interval(
        context, check_sample(pd.concat(rows, ignore_index=True), np.concatenate(scores))
    )


def shuffled(frame: TrainingFrame, seed: int) -> TrainingFrame:
    """Return the frame with labels shuffled among the rows of each as_of."""
    rng = np.random.default_rng(seed)
    moment = frame.rows["as_of"].to_numpy()
    chance = rng.random(len(frame))
    into, out_of = np.lexsort((chance, moment)), np.argsort(moment, kind="stable")
    label = frame.rows["label"].to_numpy().copy()
    label[into] = frame.rows["label"].to_numpy()[out_of]
    return replace(frame, rows=frame.rows.assign(label=label))
