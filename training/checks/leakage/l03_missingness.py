"""BW-L03."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd

from features.tables.catalog import FeatureInfo
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
    column_aucs,
    lacks_events,
    score_of,
    told,
)
from training.data.training_frame import TrainingFrame
from training.fitting.fit import TrainingConfig

SUSPECT, CURIOUS = 0.85, 0.70
"""AUC of missing values alone from which it is an issue, and a tip."""

SLACK = 0.10
ALWAYS = 0.002
"""A column that is missing (or present) in a smaller share of rows says nothing."""


class Missingness(Check):
    """Finds outcomes told by what is *absent*: an end date that is empty only for the living.

    Every feature is replaced by whether it is missing. Each such flag ranks the out-of-time rows,
    and shallow trees are fitted on the flags alone at every cut-off. Honest flags know something
    (nobody answers a survey before leaving, too), so an AUC from 0.85 is an issue and from 0.70 a
    tip, when the lower 95 % limit lies within 0.10 of the mark.
    """

    code: ClassVar[str] = "BW-L03"
    title: ClassVar[str] = "missing values alone do not tell the outcome"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "find out why the values are missing: a column filled in (or emptied) by the decision "
        "has no place among the features"
    )

    def look(self, context: CheckContext) -> Finding:
        """Rank the out-of-time rows by what is missing."""
        rows = context.headline
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        flags = flags_of(context.frame)
        if flags is None:
            return not_applicable("no feature is missing in some rows and known in others")
        label, fold = rows["label"].to_numpy(), rows["fold"].to_numpy()
        alone = column_aucs(flags.features.to_numpy()[rows["position"]], label, fold)
        strength = np.maximum(alone, 1.0 - alone)
        top = int(np.argmax(strength))
        name = flags.info[top].name
        single = auc_interval(context, check_sample(rows, _turned(flags, rows, top, alone[top])))
        joint = auc_interval(context, check_sample(rows, _fitted(context, flags)))
        words = (
            f"AUC of missing values alone {told(joint)}; the strongest is {name} missing, "
            f"{told(single)}"
        )
        for mark, say in ((SUSPECT, issue_finding), (CURIOUS, tip)):
            for found in (joint, single):
                if (found.value or 0.0) >= mark and (found.low or 0.0) >= mark - SLACK:
                    return say(words)
        return passed(words)


def flags_of(frame: TrainingFrame) -> TrainingFrame | None:
    """Return the frame with 1 where a feature is missing and 0 where it is known; None if never."""
    missing = frame.features.isna().astype("float64")
    info = tuple(
        _as_flag(item)
        for item, share in zip(frame.info, missing.mean(), strict=True)
        if ALWAYS < share < 1.0 - ALWAYS
    )
    if not info:
        return None
    return replace(frame, features=missing[[item.name for item in info]], info=info)


def _as_flag(item: FeatureInfo) -> FeatureInfo:
    return replace(item, unit="flag", churn_sign=0, expansion_sign=0)


def _turned(flags: TrainingFrame, rows: pd.DataFrame, position: int, auc: float) -> np.ndarray:
    column: np.ndarray = flags.features.to_numpy()[rows["position"], position]
    return column if auc >= 0.5 else -column


def _fitted(context: CheckContext, flags: TrainingFrame) -> np.ndarray:
    """Return out-of-time log-odds of shallow trees on the flags."""
    rows, config = context.headline, context.config
    trees = TrainingConfig("lightgbm", config.outcome, config.seeds[:1], threads=config.threads)
    score = np.empty(len(rows))
    for fold in context.folds.folds:
        here = (rows["fold"] == fold.number).to_numpy()
        tested = flags.take(rows.loc[here, "position"].to_numpy())
        score[here] = score_of(trees, flags.take(fold.train), tested, fold.number)
    return score
