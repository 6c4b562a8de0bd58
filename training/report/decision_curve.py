"""Value of a score: decision curve, and profit over a grid of assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation.metrics import Sample
from training.evaluation.significance import net_benefit

THRESHOLDS = (0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.40)
"""Threshold probabilities of the decision curve."""

SAVE_RATES = (0.05, 0.10, 0.20, 0.30)
"""Assumed share of contacted accounts that are retained; history cannot show it."""

EFFORT_SHARES = (0.005, 0.01, 0.02, 0.05)
"""Assumed cost of working one account, as a share of the median ARR."""

Plain = dict[str, Any]


def decision_curve(
    label: np.ndarray, p: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> list[Plain]:
    """Return net benefit by threshold for the score, all accounts and no account.

    Returns
    -------
    list of dict
        threshold; score, all_accounts (net benefit per 1,000 accounts, in losses found); no account
        is 0. Thresholds above three times the base rate are left out.
    """
    rate = float(label.mean())
    kept = np.array([t for t in thresholds if t <= max(3.0 * rate, thresholds[2])])
    scored = net_benefit(label, p, kept)
    all_accounts = rate - (1.0 - rate) * kept / (1.0 - kept)
    return [
        {"threshold": float(t), "score": 1000.0 * float(a), "all_accounts": 1000.0 * float(b)}
        for t, a, b in zip(kept, scored, all_accounts, strict=True)
    ]


def profit_grid(sample: Sample, years: float, arr_known: bool) -> Plain | None:
    """Return the yearly profit of working the flagged accounts, by assumption.

    Parameters
    ----------
    sample : Sample
        Headline rows; ``flagged`` marks accounts on the list.
    years : float
        Total length of the test periods.
    arr_known : bool
        Whether ARR is known; otherwise the result is None.

    Returns
    -------
    dict or None
        typical_arr (median), worked_a_year, arr_reached_a_year (of losses among the worked),
        save_rates, effort_shares, and grid: a row per save rate, a column per effort: ARR
        retained minus cost of the work, per year.
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
