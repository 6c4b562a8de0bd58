"""What changed: the difference between two scores of one account, split exactly.

A served score is ``L = a·f(x) + c`` in log-odds: model f, calibration (a, c), features x. From an
earlier score (f₀, a₀, c₀, x₀) to the present one (f₁, a₁, c₁, x₁) lead three steps, each the same
x under two models or one model under two x, so that they telescope:

1. *model and calibration*, at the earlier features. With u = f₀(x₀) and v = f₁(x₀) it is
   ``a₁v + c₁ − a₀u − c₀``, of which ``(a₀ + a₁)/2 · (v − u)`` is the model's and
   ``(a₁ − a₀) · (u + v)/2 + c₁ − c₀`` the calibration's: the Shapley values of the two, because
   there is no telling which of them came first.
2. *time passing*: the earlier features with the calendar moved on by the days between, and nothing
   else (`FeatureInfo.per_day`), less the earlier features, both under the present model.
3. *what happened*: the present features less those, feature by feature, as the difference of their
   exact contributions (`Bundle.explain`) under the present model.

Log-odds become points of probability by the secant ``(p₁ − p₀)/(L₁ − L₀)``, so the parts add up to
the difference that is shown. Light to import: serving explains with it.
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
        (rows,) days between the two prediction moments.
    bundle : Bundle or None
        What served them; None where it is the present bundle.
    matrix : numpy.ndarray or None
        (rows, its features) the earlier values encoded for that bundle; None likewise.
    lacking : sequence of int
        Columns of `seen` that were not computed then. They take their present value, so that a
        new column counts as a change of the model and not of the account.
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
        (rows,) probabilities as shown.
    happened : numpy.ndarray
        (rows, features) what other values of each feature did.
    time, model, calibration : numpy.ndarray
        (rows,) what the calendar, another model and another calibration did. Together with the
        sum of `happened` they are ``after − before``.
    spread : numpy.ndarray
        (rows,) standard deviation of the difference. Under one bundle, what its members disagree
        on about the *move*; across bundles both scores' own, taken as independent, which overstates
        it, because two trainings share most of their rows.
    unknown : numpy.ndarray
        (rows, features) true where a value was not known then, or is not known now.
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
        """What is shown: after − before."""
        return self.after - self.before

    @property
    def is_clear(self) -> np.ndarray:
        """Whether each move is larger than its uncertainty (90 %) and large enough to be seen."""
        return is_clear(self.difference, self.spread)

    @property
    def happened_by_theme(self) -> RolledUp:
        """What happened by theme; what became known, or unknown, is apart from the themes."""
        return roll_up(self.happened, self.unknown, membership(self.info))


def is_clear(difference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return which differences are larger than `RANGE_DEVIATIONS` standard deviations, and seen.

    >>> is_clear(np.array([0.04, -0.04, 0.004]), np.array([0.01, 0.03, 0.0])).tolist()
    [True, False, False]
    """
    size = np.abs(difference)
    clear: np.ndarray = (size > RANGE_DEVIATIONS * spread) & (size >= SMALLEST_CHANGE)
    return clear


def what_changed(
    bundle: Bundle, now: np.ndarray, logit: np.ndarray, earlier: EarlierScore
) -> ScoreChange:
    """Split the difference between present scores and earlier ones.

    Parameters
    ----------
    bundle : Bundle
        The present model.
    now : numpy.ndarray
        (rows, features) present values, encoded.
    logit : numpy.ndarray
        (rows,) calibrated log-odds as served at present.
    earlier : Earlier
        The scores to compare with, row by row.

    Returns
    -------
    Changes
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
    """Return earlier values with the calendar moved on, and nothing else."""
    per_day = np.array([item.per_day for item in info], dtype=np.float64)
    per_day[list(earlier.lacking)] = 0.0  # these are of the present already
    waited: np.ndarray = seen + earlier.days[:, None] * per_day
    return waited


def _of_versions(
    bundle: Bundle, seen: np.ndarray, earlier: EarlierScore
) -> tuple[np.ndarray, np.ndarray]:
    """Return what another model and another calibration make of the same values, in log-odds."""
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
