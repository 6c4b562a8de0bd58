"""How much evidence there is, what is missing, and about when it will be there.

The date comes from the company's own rate of events, with an interval, because a rate known from
few events is itself uncertain.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from configs.schema.company import Company
from training.data.training_frame import TrainingFrame
from training.fitting.fit import MODEL_TIERS, ModelTier

DAYS_PER_MONTH = 30.4375

RECENT_DAYS = 365
"""The rate is that of the last year, so that it is of the book as it stands, if that year alone
brought `ENOUGH_EVENTS`; otherwise of all that was observed."""

ENOUGH_EVENTS = 20

RATE_CONFIDENCE = 0.80
"""Of the interval of the date."""

MOST_FOLDS = 24
"""As many as the configuration takes."""

FAR_MONTHS = 120.0
"""Dates further away than ten years are not given: nobody waits for them."""


@dataclass(frozen=True)
class DueEvents:
    """Something that needs more events than there are.

    Attributes
    ----------
    what : str
        What the events are needed for, in words.
    needed, missing : int
        Events in all, and those not seen yet.
    about_on, early_on, late_on : str or None
        Months (``YYYY-MM``): when they will be there at the rate of the past, and its
        `RATE_CONFIDENCE` interval; None where that is too far to say.
    """

    what: str
    needed: int
    missing: int
    about_on: str | None
    early_on: str | None
    late_on: str | None


@dataclass(frozen=True)
class Sufficiency:
    """The evidence of one target.

    Attributes
    ----------
    n_events : int
        Distinct resolved events.
    resolved_from, resolved_to : str
        Days between which answers became known, ISO 8601.
    events_per_month, low, high : float
        Their rate, with its `RATE_CONFIDENCE` interval.
    tested_events : float
        Events that the configured test periods hold at that rate.
    due : tuple of Due
        What more events would bring, nearest first; empty when there is nothing to wait for.
    words : str
        All of it in a sentence or two; empty when nothing is missing.
    """

    n_events: int
    resolved_from: str
    resolved_to: str
    events_per_month: float
    low: float
    high: float
    tested_events: float
    due: tuple[DueEvents, ...]
    words: str

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping kept in the bundle."""
        return {**asdict(self), "due": [asdict(item) for item in self.due]}


def sufficiency(frame: TrainingFrame, company: Company) -> Sufficiency:
    """Count the events of a frame and say when more will be there.

    Parameters
    ----------
    frame : TrainingFrame
        Labelled rows.
    company : Company
        Its gates say how many events a promotion needs, its folds how long is tested.
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
        for what, needed in _wanted(company)
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
    """Return, per distinct event, when it was first known to have happened."""
    positive = frame.rows.loc[frame.label == 1, ["entity_id", "decision_at", "label_known_at"]]
    grouped = positive.groupby(["entity_id", "decision_at"], dropna=False, sort=False)
    return grouped["label_known_at"].min()


def _counted(known: pd.Series, first: pd.Timestamp, last: pd.Timestamp) -> tuple[int, float]:
    """Return the events the rate is taken from, and over how many months."""
    recent_from = last - pd.Timedelta(days=RECENT_DAYS)
    recent = int((known > recent_from).sum())
    if recent >= ENOUGH_EVENTS and recent_from > first:
        return recent, RECENT_DAYS / DAYS_PER_MONTH
    # A table with a single moment tells a count but no rate worth the name: a month at least.
    return len(known), max((last - first).days / DAYS_PER_MONTH, 1.0)


def poisson_interval(n: int) -> tuple[float, float]:
    """Return the exact interval of the mean of a Poisson count (Garwood 1936).

    >>> [round(x, 2) for x in poisson_interval(10)], round(poisson_interval(0)[1], 2)
    ([6.22, 15.41], 2.3)
    """
    tail = (1.0 - RATE_CONFIDENCE) / 2.0
    low = chi2.ppf(tail, 2 * n) / 2.0 if n else 0.0
    return float(low), float(chi2.ppf(1.0 - tail, 2 * n + 2) / 2.0)


def _wanted(company: Company) -> list[tuple[str, int]]:
    """Return what needs how many events, fewest first."""
    wanted = [(step.brings, step.from_events) for step in MODEL_TIERS if step.from_events]
    return sorted(
        [*wanted, ("a test long enough to promote it", company.gates.min_events)],
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
        return f"no event was seen yet, so nobody can say when {more} will be there"
    paced = f"at about {rate:.1f} events a month"
    if due.about_on is None:
        return f"{paced}, {more} will not be there within ten years"
    return f"{paced}, {more} will be there about {month_words(due.about_on)} ({_between(due)})"


def _between(due: DueEvents) -> str:
    """Return the interval of a date in words.

    >>> _between(Due("it", 40, 25, "2027-05", "2026-11", None))
    'not before November 2026'
    """
    if due.late_on is None:
        return f"not before {month_words(due.early_on)}"
    return f"between {month_words(due.early_on)} and {month_words(due.late_on)}"


def month_words(month: str | None) -> str:
    """Return ``YYYY-MM`` as people say it.

    >>> month_words("2027-05")
    'May 2027'
    """
    return pd.Period(month, "M").strftime("%B %Y") if month else "a time too far to say"


def _test_words(tested: float, rate: float, company: Company) -> str:
    """Say when waiting cannot help, because the test periods are too short for this rate."""
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
    return f"{held}so it takes {folds} test periods (training.folds) and the history for them"


def evidence_words(rung: ModelTier, found: Sufficiency) -> str:
    """Return the rung and its reason as every score shows them, and below trees what is missing."""
    if rung.kind == "lightgbm":
        return rung.reason
    opening = "not enough evidence for a model of its own" if rung.kind == "rates" else ""
    parts = [opening, rung.reason, found.words]
    return "; ".join(part for part in parts if part)
