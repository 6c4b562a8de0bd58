"""Data sufficiency: number of events, missing events, and the month they are expected in.

The month follows from the company's own rate of events and has an interval, because a rate
estimated from few events is uncertain.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import chi2

from configs.schema.company import Company
from training.data.training_frame import TrainingFrame
from training.fitting.fit import MODEL_TIERS
from training.model.manifest_parts import DueEvents, ModelTier, Sufficiency

DAYS_PER_MONTH = 30.4375

RECENT_DAYS = 365
"""Period of the rate: the last year, so that it reflects present accounts, if it has at least
`ENOUGH_EVENTS` events; otherwise the whole history."""

ENOUGH_EVENTS = 20

RATE_CONFIDENCE = 0.80
"""Confidence level of the interval of the month."""

MOST_FOLDS = 24
"""Largest number of folds in the configuration."""

FAR_MONTHS = 120.0
"""Months more than ten years away are not given."""


def sufficiency(frame: TrainingFrame, company: Company) -> Sufficiency:
    """Count the events of a frame and estimate the months by which further ones are expected.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    company : Company
        Its gates define the events a promotion needs, its folds the length of the test periods.
    """
    known = _resolved_at(frame)
    first, last = frame.rows["label_known_at"].min(), frame.rows["label_known_at"].max()
    counted, months = _counted(known, first, last)
    rate = counted / months
    low, high = (bound / months for bound in poisson_interval(counted))
    n = len(known)
    tested = rate * company.training.folds * company.training.fold_days / DAYS_PER_MONTH
    due = tuple(
        _due(what, needed, n, last, (rate, low, high))
        for what, needed in _requirements(company)
        if n < needed
    )
    return Sufficiency(
        n_events=n,
        resolved_from=f"{first:%Y-%m-%d}",
        resolved_to=f"{last:%Y-%m-%d}",
        events_per_month=rate,
        low=low,
        high=high,
        tested_events=tested,
        due=due,
        words=_words(rate, due[0]) + _test_words(tested, rate, company) if due else "",
    )


def _resolved_at(frame: TrainingFrame) -> pd.Series:
    """Return the time at which each distinct event first became known."""
    positive = frame.rows.loc[frame.label == 1, ["entity_id", "decision_at", "label_known_at"]]
    grouped = positive.groupby(["entity_id", "decision_at"], dropna=False, sort=False)
    return grouped["label_known_at"].min()


def _counted(known: pd.Series, first: pd.Timestamp, last: pd.Timestamp) -> tuple[int, float]:
    """Return the events behind the rate, and the number of months."""
    recent_from = last - pd.Timedelta(days=RECENT_DAYS)
    recent = int((known > recent_from).sum())
    if recent >= ENOUGH_EVENTS and recent_from > first:
        return recent, RECENT_DAYS / DAYS_PER_MONTH
    # A table with a single as_of has a count but no rate: at least one month.
    return len(known), max((last - first).days / DAYS_PER_MONTH, 1.0)


def poisson_interval(n: int) -> tuple[float, float]:
    """Return the exact interval of the mean of a Poisson count (Garwood 1936).

    >>> [round(x, 2) for x in poisson_interval(10)], round(poisson_interval(0)[1], 2)
    ([6.22, 15.41], 2.3)
    """
    tail = (1.0 - RATE_CONFIDENCE) / 2.0
    low = chi2.ppf(tail, 2 * n) / 2.0 if n else 0.0
    return float(low), float(chi2.ppf(1.0 - tail, 2 * n + 2) / 2.0)


def _requirements(company: Company) -> list[tuple[str, int]]:
    """Return each use of events and the number it needs, fewest first."""
    tiers = [(step.brings, step.from_events) for step in MODEL_TIERS if step.from_events]
    return sorted(
        [*tiers, ("a test long enough to promote it", company.gates.min_events)],
        key=lambda item: item[1],
    )


def _due(
    what: str, needed: int, n: int, last: pd.Timestamp, rates: tuple[float, float, float]
) -> DueEvents:
    missing = needed - n
    about, late, early = (_month(last, missing / r if r > 0 else np.inf) for r in rates)
    return DueEvents(what, needed, missing, about, early, late)


def _month(last: pd.Timestamp, months: float) -> str | None:
    if months > FAR_MONTHS:
        return None
    return f"{last + pd.Timedelta(days=math.ceil(months * DAYS_PER_MONTH)):%Y-%m}"


def _words(rate: float, due: DueEvents) -> str:
    more = f"the {due.missing} more that {due.what} needs ({due.needed} in all)"
    if rate <= 0:
        return f"no event yet, so the month of {more} cannot be estimated"
    paced = f"at about {rate:.1f} events a month"
    if due.about_on is None:
        return f"{paced}, {more} are not expected within ten years"
    return f"{paced}, {more} are expected about {month_words(due.about_on)} ({_between(due)})"


def _between(due: DueEvents) -> str:
    """Return the interval of a date in words.

    >>> _between(DueEvents("it", 40, 25, "2027-05", "2026-11", None))
    'not before November 2026'
    """
    if due.late_on is None:
        return f"not before {month_words(due.early_on)}"
    return f"between {month_words(due.early_on)} and {month_words(due.late_on)}"


def month_words(month: str | None) -> str:
    """Return ``YYYY-MM`` as month and year.

    >>> month_words("2027-05")
    'May 2027'
    """
    return pd.Period(month, "M").strftime("%B %Y") if month else "more than ten years away"


def _test_words(tested: float, rate: float, company: Company) -> str:
    """Return advice where the test periods are too short for this rate of events."""
    settings, needed = company.training, company.gates.min_events
    if tested >= needed or rate <= 0:
        return ""
    folds = math.ceil(needed * DAYS_PER_MONTH / rate / settings.fold_days)
    held = (
        f"; {settings.folds} test periods of {settings.fold_days} days hold about {tested:.0f} "
        f"events and a promotion asks for {needed} (gates.min_events), "
    )
    if folds > MOST_FOLDS:
        return f"{held}so at this rate the model stays provisional"
    return f"{held}so it needs {folds} test periods (training.folds) and the history for them"


def evidence_words(tier: ModelTier, found: Sufficiency) -> str:
    """Return the reason for the model tier as shown with every score, and what is missing."""
    if tier.kind == "lightgbm":
        return tier.reason
    opening = "not enough events for a fitted model" if tier.kind == "rates" else ""
    parts = [opening, tier.reason, found.words]
    return "; ".join(part for part in parts if part)
