"""Effect of interventions: contacted and other accounts, randomised hold-outs, sample sizes.

Teams contact accounts that look at risk, so accounts without contact are no control group. Only a
randomised hold-out is. Without a hold-out the report shows numbers and draws no conclusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from training.evaluation.metrics import CONFIDENCE_LEVEL, design_effect, wilson
from training.validation.score_evidence import BANDS

TOUCH_DAYS = 30
"""Days after a score within which a contact counts as a response to it."""

POWER = 0.80
EXAMPLE = (0.10, 0.07)
"""Loss rates without and with interventions for which sample sizes are shown."""

DRAWS = 1_000
FEWEST = 20
ARMS = ("treated", "held_out")

CANNOT = (
    "Contacted accounts were chosen because they looked at risk, so more of them leave, "
    "whether or not contact helps.",
    "An account that stayed after contact may have stayed anyway; an account that left may have "
    "left later than without contact.",
    "The model was trained on accounts that got contact. It predicts losses with today's level of "
    "contact, not losses without it.",
)

Plain = dict[str, Any]


def accounts_per_arm(p_without: float, p_with: float, power: float = POWER) -> int:
    """Return the accounts per arm needed to detect the difference between two loss rates.

    Parameters
    ----------
    p_without, p_with : float
        Loss rates of the held-out and of the treated, in (0, 1), different.
    power : float
        Probability of detecting the difference, two-sided at 95 %.

    Notes
    -----
    Normal approximation with pooled variance under no difference (Fleiss, Statistical Methods for
    Rates and Proportions, 3rd ed., eq. 4.14, without continuity correction).

    >>> accounts_per_arm(0.10, 0.07)
    1356
    """
    mean = (p_without + p_with) / 2.0
    z_error = norm.ppf(0.5 + CONFIDENCE_LEVEL / 2.0) * np.sqrt(2.0 * mean * (1.0 - mean))
    spread = p_without * (1.0 - p_without) + p_with * (1.0 - p_with)
    z_power = norm.ppf(power) * np.sqrt(spread)
    return int(np.ceil(((z_error + z_power) / (p_without - p_with)) ** 2))


def difference(events_a: float, n_a: float, events_b: float, n_b: float) -> dict[str, float | None]:
    """Return rate a minus rate b with Newcombe's 95 % interval.

    Notes
    -----
    Method 10 of Newcombe, Statistics in Medicine 17 (1998): from the Wilson limits of both rates.

    >>> {key: round(x, 4) for key, x in difference(56, 70, 48, 80).items()}
    {'value': 0.2, 'low': 0.0524, 'high': 0.3339}
    """
    if not n_a or not n_b:
        return {"value": None, "low": None, "high": None}
    a, b = events_a / n_a, events_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson(events_a, n_a), wilson(events_b, n_b)
    below = np.sqrt((a - low_a) ** 2 + (high_b - b) ** 2)
    above = np.sqrt((high_a - a) ** 2 + (b - low_b) ** 2)
    return {"value": a - b, "low": float(a - b - below), "high": float(a - b + above)}


def assign(
    accounts: pd.DataFrame, share: float, *, seed: int, taken: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Randomly assign flagged accounts to hold-out or treatment, stratified by risk and ARR.

    Parameters
    ----------
    accounts : pandas.DataFrame
        One row per flagged account: account_id, band, arr (NaN counts as the smallest).
    share : float
        Share of hold-out accounts, in (0, 1).
    seed : int
        The same seed and accounts give the same assignment.
    taken : mapping, optional
        Accounts that already have an arm; they keep it and are left out here.

    Returns
    -------
    pandas.DataFrame
        New accounts with stratum and arm; in each stratum the hold-out share is exact to within
        one account.
    """
    fresh = accounts[~accounts["account_id"].isin(list(taken or {}))]
    fresh = fresh.sort_values("account_id", ignore_index=True)
    if fresh.empty:
        return fresh.assign(stratum=pd.Series(dtype=object), arm=pd.Series(dtype=object))
    size = fresh["arr"].fillna(0.0).rank(method="first", pct=True)
    third = pd.cut(size, [0.0, 1 / 3, 2 / 3, 1.0], labels=["small", "middle", "large"])
    fresh = fresh.assign(stratum=fresh["band"].astype(str) + ", " + third.astype(str) + " ARR")
    rng = np.random.default_rng(seed)
    order = fresh.assign(dice=rng.random(len(fresh))).sort_values(["stratum", "dice"]).index
    # Systematic sampling through all strata: every 1/share-th account from a random start.
    held = np.diff(np.floor(np.arange(-1, len(fresh)) * share + rng.random())) > 0
    arm = pd.Series(np.where(held, ARMS[1], ARMS[0]), index=order)
    return fresh.assign(arm=arm.reindex(fresh.index))


def touched_content(rows: pd.DataFrame, touches: pd.DataFrame, cuts: Mapping[str, float]) -> Plain:
    """Return loss rates of accounts with and without contact per band, after the landmark.

    Parameters
    ----------
    rows : pandas.DataFrame
        Out-of-time headline rows: entity_id, as_of, p_model, label, decision_at, arr.
    touches : pandas.DataFrame
        entity_id, touched_at (UTC): contacts started by the team, or plays.
    cuts : mapping
        Where each band starts.

    Notes
    -----
    Landmark analysis: accounts that decide within `TOUCH_DAYS` of the score had less time to be
    contacted. They are counted and left out of both groups, otherwise contact would appear to
    retain accounts.
    """
    landmark = rows["as_of"] + pd.Timedelta(days=TOUCH_DAYS)
    is_early = rows["decision_at"].notna() & (rows["decision_at"] <= landmark)
    kept = rows[~is_early].reset_index(drop=True)
    pairs = kept.reset_index()[["index", "entity_id", "as_of"]].merge(touches, on="entity_id")
    after = pairs["touched_at"] - pairs["as_of"]
    hit = pairs[(after > pd.Timedelta(0)) & (after <= pd.Timedelta(days=TOUCH_DAYS))]
    kept = kept.assign(is_touched=kept.index.isin(hit["index"]), band=_bands(kept["p_model"], cuts))
    return {
        "days": TOUCH_DAYS,
        "early": int(is_early.sum()),
        "rows": [_apart(str(band), kept[kept["band"] == band]) for band in reversed(BANDS)],
    }


def _bands(p: pd.Series, cuts: Mapping[str, float]) -> pd.Series:
    high, raised = cuts.get("high", 1.1), cuts.get("elevated", 1.1)
    names = np.where(p >= high, "high", np.where(p >= raised, "elevated", "low"))
    return pd.Series(names, index=p.index)


def _apart(band: str, rows: pd.DataFrame) -> Plain:
    groups: dict[str, dict[str, Any]] = {}
    effects: dict[str, float] = {}
    for name, part in (
        ("touched", rows[rows["is_touched"]]),
        ("untouched", rows[~rows["is_touched"]]),
    ):
        n, events = len(part), int(part["label"].sum())
        label, entity = part["label"].to_numpy(np.float64), part["entity_id"].to_numpy(str)
        effects[name] = design_effect(label, entity) if n else 1.0
        low, high = wilson(events / effects[name], n / effects[name]) if n else (None, None)
        groups[name] = {
            "rows": n,
            "accounts": int(part["entity_id"].nunique()),
            "events": events,
            "rate": events / n if n else None,
            "low": low,
            "high": high,
            "arr": float(part["arr"].fillna(0.0).sum()),
        }
    one, other = groups["touched"], groups["untouched"]
    # Rows of the same account are correlated: weigh them by the effective sample size.
    a, b = effects["touched"], effects["untouched"]
    gap = difference(one["events"] / a, one["rows"] / a, other["events"] / b, other["rows"] / b)
    return {"band": band, **groups, "difference": gap}


def holdout_content(assigned: pd.DataFrame, *, seed: int) -> Plain:
    """Return the result of the hold-out: losses of both arms and ARR saved, with intervals.

    Parameters
    ----------
    assigned : pandas.DataFrame
        One row per account with an arm: account_id, arm, arr, label (NaN while open).
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        arms (accounts, closed, events, rate, arr, arr_lost), difference (held-out minus treated:
        positive when treating helps), saved_arr of the treated (value, low, high), assumptions
        and words.
    """
    closed = assigned[assigned["label"].notna()]
    arms = {arm: _arm(assigned, closed, arm) for arm in ARMS}
    treated, held = arms["treated"], arms["held_out"]
    gap = difference(held["events"], held["closed"], treated["events"], treated["closed"])
    enough = min(held["closed"], treated["closed"]) >= FEWEST
    nothing: dict[str, float | None] = {"value": None, "low": None, "high": None}
    return {
        "arms": arms,
        "difference": gap,
        "saved_arr": saved_arr(closed, seed) if enough else nothing,
        "words": _verdict(gap, enough, held["closed"], treated["closed"]),
        "assumptions": [
            "Accounts are compared by assigned arm, whether or not contact took place.",
            "Hold-out accounts got no intervention, directly or indirectly.",
            "ARR saved is the ARR of treated accounts times the difference in the share of ARR "
            "lost.",
        ],
    }


def _arm(assigned: pd.DataFrame, closed: pd.DataFrame, arm: str) -> Plain:
    every, done = assigned[assigned["arm"] == arm], closed[closed["arm"] == arm]
    value = done["arr"].fillna(0.0)
    events = int(done["label"].sum())
    return {
        "accounts": len(every),
        "closed": len(done),
        "events": events,
        "rate": events / len(done) if len(done) else None,
        "arr": float(value.sum()),
        "arr_lost": float((value * done["label"]).sum()),
    }


def saved_arr(closed: pd.DataFrame, seed: int) -> dict[str, float | None]:
    """Return the ARR of treated accounts that would have been lost without interventions.

    With a 95 % interval from a bootstrap over accounts within each arm.
    """
    rng = np.random.default_rng(seed)
    values, lost = {}, {}
    for arm in ARMS:
        part = closed[closed["arm"] == arm]
        value = part["arr"].fillna(0.0).to_numpy(dtype=np.float64)
        gone = value * part["label"].to_numpy(dtype=np.float64)
        n = len(part)
        counts = np.vstack([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), DRAWS)])
        values[arm], lost[arm] = counts @ value, counts @ gone
    if not min(values["treated"][0], values["held_out"][0]) > 0:
        return {"value": None, "low": None, "high": None}
    rate = {arm: lost[arm] / np.maximum(values[arm], 1e-9) for arm in ARMS}
    saved = (rate["held_out"] - rate["treated"]) * values["treated"][0]
    low, high = np.quantile(saved[1:], [0.025, 0.975])
    return {"value": float(saved[0]), "low": float(low), "high": float(high)}


def _verdict(gap: Mapping[str, float | None], enough: bool, held: int, treated: int) -> str:
    if not enough:
        return (
            f"{held} hold-out and {treated} treated accounts have a closed window: fewer than "
            f"{FEWEST} in one arm, so nothing is estimated."
        )
    low, high = gap["low"], gap["high"]
    assert low is not None
    assert high is not None
    if low > 0:
        return "Fewer treated accounts left than hold-out accounts; the interval excludes 0."
    if high < 0:
        return "More treated accounts left than hold-out accounts; the interval excludes 0."
    return (
        "No conclusion yet on whether interventions help: the interval of the difference "
        "includes 0."
    )


def interventions_content(
    touched: Plain | None, holdout: Plain | None, base_rate: float | None
) -> Plain:
    """Return the content of the report section on interventions."""
    rates: Sequence[tuple[float, float]] = [EXAMPLE]
    if base_rate is not None and 0.01 < base_rate < 0.9 and abs(base_rate - EXAMPLE[0]) > 0.005:
        rates = [*rates, (base_rate, 0.7 * base_rate)]
    return {
        "touched": touched,
        "holdout": holdout,
        "needed": [
            {"without": a, "with": b, "per_arm": accounts_per_arm(a, b), "power": POWER}
            for a, b in rates
        ],
        "cannot": list(CANNOT),
    }
