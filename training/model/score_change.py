"""Score change: exact decomposition of the difference between two scores of one account.

A served score is ``L = a·f(x) + c`` in log-odds: model f, calibration (a, c), features x. From an
earlier score (f₀, a₀, c₀, x₀) to the present one (f₁, a₁, c₁, x₁) lead three steps, each the same
x under two models or one model under two x, so that they telescope:

1. *model and calibration*, at the earlier features. With u = f₀(x₀) and v = f₁(x₀) it is
   ``a₁v + c₁ − a₀u − c₀``, of which ``(a₀ + a₁)/2 · (v − u)`` is the model's and
   ``(a₁ − a₀) · (u + v)/2 + c₁ − c₀`` the calibration's: the Shapley values of the two, which do
   not depend on their order.
2. *time*: the earlier features with only the calendar advanced by the days between
   (`FeatureInfo.per_day`), minus the earlier features, both under the present model.
3. *features*: the present features minus those, feature by feature, as the difference of their
   exact contributions (`Bundle.explain`) under the present model.

Log-odds become points of probability by the secant ``(p₁ − p₀)/(L₁ − L₀)``, so the parts add up to
the displayed difference. Imported by serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.tables.catalog import FeatureInfo
from training.model.bundle import RANGE_DEVIATIONS, Bundle, sigmoid
from training.model.reasons import RolledUp, membership, roll_up, secant

SMALLEST_CHANGE = 0.005
"""Smallest difference of a probability that counts as a change: half a percentage point."""


@dataclass(frozen=True)
class EarlierScore:
    """Scores served earlier, one row each, all of one bundle.

    Attributes
    ----------
    logit : numpy.ndarray
        (rows,) calibrated log-odds as served.
    seen : numpy.ndarray
        (rows, features) the earlier values, encoded for the *present* bundle.
    days : numpy.ndarray
        (rows,) days between the two as_of.
    bundle : Bundle or None
        Bundle of the earlier scores; None for the present bundle.
    matrix : numpy.ndarray or None
        (rows, its features) the earlier values encoded for that bundle; None likewise.
    lacking : sequence of int
        Columns of `seen` that were not computed then. They get their present value, so that new
        columns count as change of the model, not of the account.
    """

    logit: np.ndarray
    seen: np.ndarray
    days: np.ndarray
    bundle: Bundle | None = None
    matrix: np.ndarray | None = None
    lacking: Sequence[int] = ()


@dataclass(frozen=True)
class ScoreChange:
    """Differences in points of probability, -1 to 1.

    Attributes
    ----------
    before, after : numpy.ndarray
        (rows,) displayed probabilities.
    happened : numpy.ndarray
        (rows, features) effect of changed feature values.
    time, model, calibration : numpy.ndarray
        (rows,) effects of the calendar, of another model and of another calibration. With the sum
        of `happened` they add up to ``after − before``.
    spread : numpy.ndarray
        (rows,) standard deviation of the difference. Within one bundle, the deviation of the
        *change* over its members; across bundles that of both scores as if independent, which is an
        upper bound, because trainings share most of their rows.
    unknown : numpy.ndarray
        (rows, features) true where a value is unknown at either time.
    info : sequence of FeatureInfo
        The features in column order.
    """

    before: np.ndarray
    after: np.ndarray
    happened: np.ndarray
    time: np.ndarray
    model: np.ndarray
    calibration: np.ndarray
    spread: np.ndarray
    unknown: np.ndarray
    info: Sequence[FeatureInfo]

    @property
    def difference(self) -> np.ndarray:
        """Displayed difference: after − before."""
        return self.after - self.before

    @property
    def is_clear(self) -> np.ndarray:
        """Whether each change exceeds its uncertainty (90 %) and the smallest displayed change."""
        return is_clear(self.difference, self.spread)

    @property
    def happened_by_theme(self) -> RolledUp:
        """Effect of changed values by theme, with a separate part for unknown values."""
        return roll_up(self.happened, self.unknown, membership(self.info))


def is_clear(difference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return which differences exceed `RANGE_DEVIATIONS` standard deviations and the minimum.

    >>> is_clear(np.array([0.04, -0.04, 0.004]), np.array([0.01, 0.03, 0.0])).tolist()
    [True, False, False]
    """
    size = np.abs(difference)
    clear: np.ndarray = (size > RANGE_DEVIATIONS * spread) & (size >= SMALLEST_CHANGE)
    return clear


def explain_change(
    bundle: Bundle, now: np.ndarray, logit: np.ndarray, earlier: EarlierScore
) -> ScoreChange:
    """Decompose the difference between present and earlier scores.

    Parameters
    ----------
    bundle : Bundle
        The present model.
    now : numpy.ndarray
        (rows, features) present values, encoded.
    logit : numpy.ndarray
        (rows,) calibrated log-odds as served at present.
    earlier : EarlierScore
        Scores to compare with, row by row.

    Returns
    -------
    ScoreChange
        The parts add up to the difference of the two probabilities within rounding.
    """
    seen = earlier.seen.copy()
    seen[:, list(earlier.lacking)] = now[:, list(earlier.lacking)]
    waited = _with_time_passed(seen, bundle.info, earlier)
    slope = secant(logit, earlier.logit)
    happened = bundle.explain(now).values - bundle.explain(waited).values
    passed = bundle.predict(waited).logit - bundle.predict(seen).logit
    model, calibration = _of_versions(bundle, seen, earlier)
    return ScoreChange(
        before=sigmoid(earlier.logit),
        after=sigmoid(logit),
        happened=happened * slope[:, None],
        time=passed * slope,
        model=model * slope,
        calibration=calibration * slope,
        spread=_spread(bundle, now, seen, earlier) * slope,
        unknown=np.isnan(seen) | np.isnan(now),
        info=bundle.info,
    )


def _with_time_passed(
    seen: np.ndarray, info: Sequence[FeatureInfo], earlier: EarlierScore
) -> np.ndarray:
    """Return earlier values with only the calendar advanced."""
    per_day = np.array([item.per_day for item in info], dtype=np.float64)
    per_day[list(earlier.lacking)] = 0.0  # these have present values already
    waited: np.ndarray = seen + earlier.days[:, None] * per_day
    return waited


def _of_versions(
    bundle: Bundle, seen: np.ndarray, earlier: EarlierScore
) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects of another model and another calibration on equal values, in log-odds."""
    if earlier.bundle is None or earlier.matrix is None:
        return np.zeros(len(seen)), np.zeros(len(seen))
    old, new = earlier.bundle.calibration, bundle.calibration
    level = (earlier.bundle.predictor.raw(earlier.matrix) + bundle.predictor.raw(seen)) / 2.0
    calibration = (new.slope - old.slope) * level + (new.intercept - old.intercept)
    return bundle.predict(seen).logit - earlier.logit - calibration, calibration


def _spread(bundle: Bundle, now: np.ndarray, seen: np.ndarray, earlier: EarlierScore) -> np.ndarray:
    if earlier.bundle is None or earlier.matrix is None:
        return bundle.change_spread(seen, now)
    together: np.ndarray = np.hypot(
        bundle.predict(now).spread, earlier.bundle.predict(earlier.matrix).spread
    )
    return together
