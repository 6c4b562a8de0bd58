"""Empirical distributions of ARR growth and contraction for the forecast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.runtime.formatting import plural
from features.revenue.retention import retained
from training.forecast.simulate import SimulatedChanges, draws_table

FEWEST = 20
"""Smallest number of past changes for an empirical distribution."""

LARGE = 0.95
"""Quantile at which weights of large accounts are capped, so that no single account dominates."""


@dataclass(frozen=True)
class SizeDistributions:
    """ARR changes of retained accounts over past periods of equal length.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per account and past period with retained ARR: factor (ARR at the end over ARR at
        the start), weight (ARR at the start, capped), is_due (a renewal in the period), grew (by
        the margin or more).
    span_days : int
        Length of those periods.
    """

    rows: pd.DataFrame
    span_days: int

    def growth_rate(self, *, is_due: bool) -> float:
        """Return the share that grew in a period of `span_days`; 0 without history."""
        rows = self.rows[self.rows["is_due"] == is_due]
        rows = rows if len(rows) >= FEWEST else self.rows
        return float(rows["grew"].mean()) if len(rows) else 0.0

    def changes(self, days: float) -> SimulatedChanges:
        """Return the distributions for a period of some days.

        Without a renewal, changes are proportional to time; at a renewal the full change applies.
        """
        grew, rest = self.rows[self.rows["grew"]], self.rows[~self.rows["grew"]]
        share = min(1.0, days / self.span_days)
        return SimulatedChanges(
            growth=_table(grew),
            others=np.stack([_table(rest[~rest["is_due"]], share), _table(rest[rest["is_due"]])]),
        )

    def words(self) -> str:
        """Return the basis of the distributions as a sentence."""
        n, grew = len(self.rows), int(self.rows["grew"].sum())
        if n < FEWEST:
            return (
                f"Only {plural(n, 'account')} have a complete past period, so ARR of retained "
                "accounts is assumed to stay flat."
            )
        return (
            f"Growth and contraction are simulated from {n:,} past account-quarters "
            f"({grew:,} of them grew by the margin or more)."
        )


def _table(rows: pd.DataFrame, share: float = 1.0) -> np.ndarray:
    enough = rows if len(rows) >= FEWEST else rows.iloc[:0]
    return draws_table(enough["factor"].to_numpy(), enough["weight"].to_numpy(), share)


def past_size_distributions(
    terms: pd.DataFrame,
    steps: pd.DataFrame,
    *,
    first: int,
    at: int,
    span_days: int,
    margin: float,
) -> SizeDistributions:
    """Return ARR changes of consecutive past periods of `span_days`, from `at` back to `first`.

    Parameters
    ----------
    terms, steps : pandas.DataFrame
        As known at `at` (`features.revenue.retention`: `known_terms`, `levels`).
    first, at : int
        Day indices.
    span_days : int
        Length of a period.
    margin : float
        Relative growth from which an account counts as grown.
    """
    starts = range(at - span_days, first - 1, -span_days)
    parts = [_period(terms, steps, start, start + span_days) for start in starts]
    columns = ["factor", "start", "is_due"]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    rows = rows.astype({"factor": "float64", "start": "float64", "is_due": "bool"})
    top = rows["start"].quantile(LARGE) if len(rows) else 0.0
    grew = rows["factor"].round(6) >= 1.0 + margin
    return SizeDistributions(
        rows.assign(weight=rows["start"].clip(upper=top), grew=grew), span_days
    )


def _period(terms: pd.DataFrame, steps: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    accounts = retained(steps, start, end)
    stayed = accounts[accounts["is_cohort"] & (accounts["end"] > 0)]
    due = due_between(terms, start, end)
    return pd.DataFrame(
        {
            "factor": stayed["end"] / stayed["base"],
            "start": stayed["base"],
            "is_due": stayed.index.isin(due),
        }
    )


def due_between(terms: pd.DataFrame, start: int, end: int) -> np.ndarray:
    """Return the accounts with a renewal in ``[start, end)`` of terms active at `start`."""
    held = (terms["day"] <= start) & ~(terms["stops_day"] <= start)
    inside = (terms["renews_day"] >= start) & (terms["renews_day"] < end)
    found: np.ndarray = terms.loc[held & inside, "entity_id"].unique()
    return found
