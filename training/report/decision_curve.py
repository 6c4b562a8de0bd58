"""What a score is worth, over a grid of assumptions: never a single figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation.metrics import Sample
from training.evaluation.significance import net_benefit

THRESHOLDS = (0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.40)
"""Probabilities at which acting may be just worth it."""

SAVE_RATES = (0.05, 0.10, 0.20, 0.30)
"""Share of the accounts reached in time that stay for it. Assumed: no history can show it."""

EFFORT_SHARES = (0.005, 0.01, 0.02, 0.05)
"""Cost of working one account, as a share of the typical account's annual revenue."""

Plain = dict[str, Any]


def decision_curve(
    label: np.ndarray, p: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> list[Plain]:
    """Return net benefit per threshold beside acting on everybody and on nobody.

    Returns
    -------
    list of dict
        threshold; score, everybody (per 1,000 accounts, in losses found without cost); nobody is
        0. Thresholds beyond three times the base rate are left out.
    """
    rate = float(label.mean())
    kept = np.array([t for t in thresholds if t <= max(3.0 * rate, thresholds[2])])
    scored = net_benefit(label, p, kept)
    everybody = rate - (1.0 - rate) * kept / (1.0 - kept)
    return [
        {"threshold": float(t), "score": 1000.0 * float(a), "everybody": 1000.0 * float(b)}
        for t, a, b in zip(kept, scored, everybody, strict=True)
    ]


def profit_grid(sample: Sample, years: float, arr_known: bool) -> Plain | None:
    """Return what working the flagged accounts would have brought in a year, per assumption.

    Parameters
    ----------
    sample : Sample
        Headline rows; ``flagged`` is who would have been worked.
    years : float
        Length of the test periods together.
    arr_known : bool
        Without ARR there is nothing to count.

    Returns
    -------
    dict or None
        typical_arr (median), worked_a_year, arr_reached_a_year (of losses among the worked),
        save_rates, effort_shares, and grid: a row per save rate, a column per effort: revenue
        kept − cost of the work, a year.
    """
    known = sample.arr[np.isfinite(sample.arr)]
    if not arr_known or len(known) == 0 or years <= 0 or not np.median(known) > 0:
        return None
    worked = float(sample.flagged.sum()) / years
    reached = float((np.nan_to_num(sample.arr) * sample.label * sample.flagged).sum()) / years
    typical = float(np.median(known))
    return {
        "typical_arr": typical,
        "worked_a_year": worked,
        "arr_reached_a_year": reached,
        "save_rates": list(SAVE_RATES),
        "effort_shares": list(EFFORT_SHARES),
        "grid": [
            [rate * reached - worked * share * typical for share in EFFORT_SHARES]
            for rate in SAVE_RATES
        ],
        "break_even": (
            [share * typical * worked / reached for share in EFFORT_SHARES] if reached else None
        ),
    }
