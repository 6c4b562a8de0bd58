"""Ticket categories that accumulate right before decisions, as part of the decision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from training.evaluation.sampling import MIN_SLICE_EVENTS

NEAR_DAYS, WINDOWS = 14, 13
"""Length of a window in days, and number of windows before a decision."""

RATIO, LIMIT = 3.0, 3.09
"""Ratio of a category's rate in the last window to the earlier windows above which it is reported,
if its lower 99.9 % limit (in standard errors) exceeds it."""

LEAST_SHARE = 0.05
"""Smallest share of accounts with a decision that opened such a ticket."""

EVERY = "tickets of any category"
NONE = "tickets without a category"


def crowded_categories(tickets: pd.DataFrame, decided: pd.DataFrame) -> tuple[str, ...]:
    """Return the categories whose tickets accumulate in the last 14 days before decisions.

    Each account with a decision is divided into windows of 14 days before it, back to its start; a
    window counts once, with any number of tickets.

    Parameters
    ----------
    tickets : pandas.DataFrame
        One row per ticket that features may count: entity_id, day (since 1970), category.
    decided : pandas.DataFrame
        One row per account that left: entity_id, decided_day and since_day (since 1970).
    """
    if len(decided) < MIN_SLICE_EVENTS or tickets.empty:
        return ()
    whole = np.clip((decided["decided_day"] - decided["since_day"]) // NEAR_DAYS, 0, WINDOWS)
    n_near, n_far = int((whole > 0).sum()), int(np.maximum(whole - 1, 0).sum())
    joined = tickets.merge(decided.assign(windows=whole), on="entity_id")
    joined["window"] = (joined["decided_day"] - joined["day"]) // NEAR_DAYS
    inside = joined[(joined["window"] >= 0) & (joined["window"] < joined["windows"])]
    named = inside["category"].fillna("").str.strip().str.lower().replace("", NONE)
    parts = [*inside.groupby(named), (EVERY, inside)]
    return tuple(words for name, part in parts for words in _crowds(str(name), part, n_near, n_far))


def _crowds(name: str, part: pd.DataFrame, n_near: int, n_far: int) -> Iterator[str]:
    once = part.drop_duplicates(["entity_id", "window"])
    near = int((once["window"] == 0).sum())
    far = len(once) - near
    if near < max(MIN_SLICE_EVENTS, LEAST_SHARE * n_near) or not n_far:
        return
    rates = (near + 0.5) / (n_near + 1.0), (far + 0.5) / (n_far + 1.0)
    error = np.sqrt((1 - rates[0]) / (near + 0.5) + (1 - rates[1]) / (far + 0.5))
    if np.log(rates[0] / rates[1]) - LIMIT * error > np.log(RATIO):
        yield (
            f"{name} ({near:,} of {n_near:,} accounts that left opened one in the last "
            f"{NEAR_DAYS} days, {rates[0] / rates[1]:.0f} times the rate before)"
        )
