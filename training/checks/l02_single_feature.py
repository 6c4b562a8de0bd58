"""BW-L02."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from training.checks.check import Check, Finding, Severity, issue, not_applicable, passed, tip
from training.checks.context import Context
from training.checks.measure import column_aucs, interval, lacks_events, listing, sample_of
from training.fit import fit_encoder

SUSPECT, CURIOUS = 0.90, 0.80
"""AUC of one column from which it is an issue, and a tip."""

SLACK = 0.10
"""How far below its mark the lower limit may lie: few events make any column look good."""


class SingleFeature(Check):
    """Finds a feature that tells the outcome by itself: a column filled in after the decision.

    Every column ranks the out-of-time rows within their test period, upwards or downwards, with
    unknown values first or last, whichever ranks best; categories rank by the rate of their level
    in the earlier rows. From an AUC of 0.90 it is an issue, from 0.80 a tip, when the lower 95 %
    limit lies within 0.10 of the mark.
    """

    code: ClassVar[str] = "BW-L02"
    title: ClassVar[str] = "no single feature knows the outcome"
    severity: ClassVar[Severity] = "blocking"
    to_do: ClassVar[str] = (
        "ask when this value is written; leave it out with exclude_features until its known_at "
        "is right"
    )

    def look(self, context: Context) -> Finding:
        """Rank the out-of-time rows by each column."""
        rows = context.headline
        if lacks_events(rows):
            return not_applicable(f"{int(rows['label'].sum())} events out of time are too few")
        label, fold = rows["label"].to_numpy(), rows["fold"].to_numpy()
        matrix = ranked_columns(context)
        ways = {"high": _filled(matrix, np.inf), "low": _filled(matrix, -np.inf)}
        found = {way: column_aucs(values, label, fold) for way, values in ways.items()}
        folded = np.stack([np.maximum(values, 1.0 - values) for values in found.values()])
        best = folded.max(axis=0)
        names = [item.name for item in context.frame.info]
        issues, tips = [], []
        for position in np.argsort(-best):
            if best[position] < CURIOUS:
                break
            way = list(ways)[int(folded[:, position].argmax())]
            score = ways[way][:, position]
            turn = 1.0 if found[way][position] >= 0.5 else -1.0
            low = interval(context, sample_of(rows, _ranks(turn * score))).low or 0.0
            told = f"{names[position]} (AUC {best[position]:.3f}, lower limit {low:.3f})"
            if best[position] >= SUSPECT and low >= SUSPECT - SLACK:
                issues.append(told)
            elif low >= CURIOUS - SLACK:
                tips.append(told)
        if issues:
            return issue(f"too good alone: {listing(issues + tips)}")
        if tips:
            return tip(f"very good alone: {listing(tips)}")
        top = int(np.argmax(best))
        return passed(f"best single feature {names[top]}, AUC {best[top]:.3f}")


def ranked_columns(context: Context) -> np.ndarray:
    """Return the features of the headline rows as numbers; NaN unknown."""
    rows, frame = context.headline, context.frame
    matrix = np.empty((len(rows), len(frame.info)))
    for fold in context.folds.folds:
        here = (rows["fold"] == fold.number).to_numpy()
        train = frame.take(fold.train)
        encoder = fit_encoder(train)
        tested = frame.features.iloc[rows.loc[here, "position"]]
        values = encoder.encode(tested).matrix
        learned = encoder.encode(train.features).matrix
        for position in encoder.category_positions:
            rates = [
                train.label[learned[:, position] == code].mean()
                if (learned[:, position] == code).any()
                else np.nan
                for code in range(len(encoder.levels[encoder.names[position]]))
            ]
            known = ~np.isnan(values[:, position])
            codes = values[known, position].astype(np.int64)
            values[known, position] = np.array([*rates, np.nan])[codes]
        matrix[here] = values
    return matrix


def _filled(matrix: np.ndarray, value: float) -> np.ndarray:
    return np.where(np.isnan(matrix), value, matrix)


def _ranks(score: np.ndarray) -> np.ndarray:
    """Return finite numbers in the same order."""
    order: np.ndarray = np.unique(score, return_inverse=True)[1].astype(np.float64)
    return order
