"""AUC of each single feature on the out-of-time rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from training.checks.context import CheckContext
from training.checks.helpers import auc_interval, check_sample, column_aucs
from training.fitting.fit import fit_encoder

SLACK = 0.10
"""Largest distance of the lower limit below its threshold: guards against chance."""


@dataclass(frozen=True)
class SingleColumn:
    """Features with a high AUC of their own.

    Attributes
    ----------
    issues, tips : list of str
        Features above either threshold, strongest first, with their AUC.
    best : str
        The strongest feature, with its AUC.
    """

    issues: list[str]
    tips: list[str]
    best: str


def rank_single_columns(
    context: CheckContext,
    rows: pd.DataFrame,
    suspect: float,
    curious: float,
    *,
    among: np.ndarray | None = None,
) -> SingleColumn:
    """Rank out-of-time rows by each feature alone, within their test period.

    The best of ascending and descending order, with unknown values first or last; categories are
    ranked by the rate of their level in the earlier rows.

    Parameters
    ----------
    context : Context
        The training.
    rows : pandas.DataFrame
        Some of its headline rows: label (for this check), fold, position, entity_id.
    suspect, curious : float
        AUC from which a feature is an issue, and a tip, if the lower 95 % limit is within `SLACK`
        of the threshold.
    among : numpy.ndarray, optional
        Group in which rows are ranked; by default their test period.
    """
    label = rows["label"].to_numpy()
    fold = rows["fold"].to_numpy() if among is None else among
    matrix = ranked_columns(context, rows)
    orders = {"high": _filled(matrix, np.inf), "low": _filled(matrix, -np.inf)}
    found = {order_name: column_aucs(values, label, fold) for order_name, values in orders.items()}
    folded = np.stack([np.maximum(values, 1.0 - values) for values in found.values()])
    best = folded.max(axis=0)
    names = [item.name for item in context.frame.info]
    issues, tips = [], []
    for position in np.argsort(-best):
        if best[position] < curious:
            break
        order_name = list(orders)[int(folded[:, position].argmax())]
        score = orders[order_name][:, position]
        turn = 1.0 if found[order_name][position] >= 0.5 else -1.0
        sample = replace(check_sample(rows, _ranks(turn * score)), cohort=fold)
        low = auc_interval(context, sample).low or 0.0
        words = f"{names[position]} (AUC {best[position]:.3f}, lower limit {low:.3f})"
        if best[position] >= suspect and low >= suspect - SLACK:
            issues.append(words)
        elif low >= curious - SLACK:
            tips.append(words)
    top = int(np.argmax(best))
    return SingleColumn(issues, tips, f"{names[top]}, AUC {best[top]:.3f}")


def ranked_columns(context: CheckContext, rows: pd.DataFrame) -> np.ndarray:
    """Return the features of out-of-time rows as numbers; NaN unknown."""
    frame = context.frame
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
    """Return finite ranks in the same order."""
    order: np.ndarray = np.unique(score, return_inverse=True)[1].astype(np.float64)
    return order
