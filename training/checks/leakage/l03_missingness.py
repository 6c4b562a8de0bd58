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
    in_words,
    lacks_events,
    score_of,
)
from training.data.training_frame import TrainingFrame
from training.fitting.fit import TrainingConfig

SUSPECT, CURIOUS = 0.85, 0.70
"""AUC of missing values from which it is an issue, and a tip."""

SLACK = 0.10
ALWAYS = 0.002
"""Smallest share of rows in which an indicator must be 0, and 1."""


class Missingness(Check):
    """Finds outcomes that missing values reveal, such as an end date of churned accounts.

    Every feature is replaced by an indicator of whether it is missing. Each indicator ranks the
    out-of-time rows, and shallow trees are fitted on the indicators alone at every cut-off.
    Legitimate indicators have some information (accounts stop answering surveys before churn), so
    an AUC from 0.85 is an issue and from 0.70 a tip, if the lower 95 % limit is within 0.10 of the
    threshold.
    """

    code: ClassVar[str] = "BW-L03"
    title = "missing values do not determine the outcome"
    severity: ClassVar[Severity] = "blocking"
    to_do = (
        "find out why the values are missing; exclude columns that the decision fills in or empties"
    )

    def run(self, context: CheckContext) -> Finding:
        """Rank the out-of-time rows by missing values."""
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
            f"AUC of missing values alone {in_words(joint)}; the strongest is {name} missing, "
            f"{in_words(single)}"
        )
        for mark, say in ((SUSPECT, issue_finding), (CURIOUS, tip)):
            for found in (joint, single):
                if (found.value or 0.0) >= mark and (found.low or 0.0) >= mark - SLACK:
                    return say(words)
        return passed(words)


def flags_of(frame: TrainingFrame) -> TrainingFrame | None:
    """Return the frame with missing-value indicators as features; None without any."""
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
    """Return out-of-time log-odds of shallow trees on the indicators."""
    rows, config = context.headline, context.config
    trees = TrainingConfig("lightgbm", config.outcome, config.seeds[:1], threads=config.threads)
    score = np.empty(len(rows))
    for fold in context.folds.folds:
        here = (rows["fold"] == fold.number).to_numpy()
        tested = flags.take(rows.loc[here, "position"].to_numpy())
        score[here] = score_of(trees, flags.take(fold.train), tested, fold.number)
    return score
