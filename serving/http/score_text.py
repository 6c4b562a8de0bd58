"""Texts of a score: question, estimate, missing data.

Texts describe associations, never causes or certain outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from configs.runtime.formatting import day, percent_in_words, plural
from features.snapshots.statuses import STATUSES
from features.tables.catalog import THEMES
from training.model.bundle import Confidence
from training.model.reason_text import capitalize

UNKNOWN = "unknown_account"
INVALID = "invalid_account_id"
FAILED = "score_failed"

STATUS_WORDS: dict[str, str] = {
    **{str(code): words for code, words in STATUSES.items()},
    UNKNOWN: "no account with this id in the published scores",
    INVALID: "an account id is a string of 1 to 200 characters",
    FAILED: "this account could not be scored; the others were",
}
"""Text of every status of an answer."""

MEASURES = {
    "churn": "churn_risk",
    "contraction": "contraction_risk",
    "expansion": "expansion_propensity",
}
"""Name of the probability by outcome."""

_VERBS = {"churn": "leave", "contraction": "shrink", "expansion": "grow"}

VERDICT_WORDS = {
    "promotable": "the model passed every check",
    "provisional": "provisional: the model did not pass every check",
    "no_signal": "no signal: the data does not separate accounts better than chance, so this is "
    "the average",
}


@lru_cache(maxsize=256)
def instant(moment: datetime) -> str:
    """Return an instant as ISO 8601 with a Z.

    >>> from datetime import UTC
    >>> instant(datetime(2026, 3, 2, tzinfo=UTC))
    '2026-03-02T00:00:00Z'
    """
    return moment.isoformat().replace("+00:00", "Z")


def to_second(moment: datetime) -> str:
    """Return a time in UTC to the second; these texts sort like their times.

    >>> from datetime import UTC
    >>> to_second(datetime(2026, 3, 2, 9, 30, 0, 7, tzinfo=UTC))
    '2026-03-02T09:30:00Z'
    """
    return instant(moment.astimezone(UTC).replace(microsecond=0))


def asks_renewal(contract: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Return whether the question of an account is its renewal, not the horizon."""
    is_asked = contract["outcome"] == "churn" and bool(contract["until_renewal"])
    return is_asked and bool(facts.get("is_under_contract")) and bool(facts.get("renews_on"))


def window(contract: Mapping[str, Any], facts: Mapping[str, Any], as_of: datetime) -> date:
    """Return the last day of the prediction window: renewal, or end of the horizon."""
    if asks_renewal(contract, facts):
        return date.fromisoformat(facts["renews_on"])
    return as_of.date() + timedelta(days=contract["lead_time_days"] + contract["horizon_days"])


def estimate_text(
    contract: Mapping[str, Any], is_renewal: bool, p: float, until: date | None = None
) -> str:
    r"""Return the estimate as a sentence, with the last day of the prediction window.

    Parameters
    ----------
    contract : mapping
        Label definition: outcome, horizon_days, lead_time_days.
    is_renewal : bool
        Whether the question is the renewal (`asks_renewal`).
    p : float
        Probability.
    until : date, optional
        Renewal date, or end of the horizon; None for rows of a table without time.

    Examples
    --------
    >>> contract = {"outcome": "churn", "horizon_days": 91, "lead_time_days": 0}
    >>> estimate_text(contract, True, 0.31, date(2027, 6, 27))
    'an estimated 31\xa0% of such renewals are lost; this one is due on 27 Jun 2027'
    >>> estimate_text(contract, False, 0.31, date(2026, 9, 28))
    'an estimated 31\xa0% of such accounts leave within 91 days, by 28 Sep 2026'
    >>> estimate_text(contract | {"lead_time_days": 14}, False, 0.31)
    'an estimated 31\xa0% of such accounts leave within 91 days, counted from 14 days on'
    """
    if is_renewal:
        due = f"; this one is due on {day(until)}" if until else ""
        return f"an estimated {percent_in_words(p)} of such renewals are lost{due}"
    later = contract["lead_time_days"]
    counted = f", counted from {later} days on" if later else ""
    verb = _VERBS[contract["outcome"]]
    days = contract["horizon_days"]
    within = f" within {days} days" if days else ""  # a table without time has no horizon
    by = f", by {day(until)}" if until and days else ""
    return f"an estimated {percent_in_words(p)} of such accounts {verb}{within}{counted}{by}"


def asked_alike(target_contract: Mapping[str, Any], is_renewal: bool, n: int) -> str:
    """Return the group of a percentile: accounts with the same kind of question.

    >>> contract = {"horizon_days": 91}
    >>> asked_alike(contract, True, 461), asked_alike(contract, False, 1)
    ('461 accounts with a renewal', '1 account over the next 91 days')
    """
    days = target_contract["horizon_days"]
    what = "with a renewal" if is_renewal else f"over the next {days} days"
    return f"{plural(n, 'account')} {what}"


def notice_words(days: int | None) -> str:
    """Return the time until the notice deadline.

    >>> [notice_words(days) for days in (14, 0, -2)]
    ['notice deadline in 14 days', 'notice deadline today', 'notice deadline passed 2 days ago']
    """
    if days is None:
        return ""
    if days < 0:
        return f"notice deadline passed {-days} day{'s' if days != -1 else ''} ago"
    near = {0: "today", 1: "tomorrow"}
    return f"notice deadline {near.get(days) or f'in {days} days'}"


def gap(theme: str, labels: Sequence[str], n_features: int) -> str:
    """Return the missing values of one theme as text.

    Parameters
    ----------
    theme : str
        A key of `features.tables.catalog.THEMES`.
    labels : sequence of str
        Labels of the missing values.
    n_features : int
        Number of features of the theme.

    Examples
    --------
    >>> gap("sentiment", ["last NPS answer", "age of it"], 2)
    'Sentiment: no data'
    >>> gap("support", ["time to resolve"], 4)
    'Support: time to resolve missing'
    """
    subject = capitalize(THEMES[theme])
    if len(labels) == n_features:
        return f"{subject}: no data"
    named = list(dict.fromkeys(labels))
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{subject}: {', '.join(named[:3])}{more} missing"


def data_notes(
    *, age_days: int, stale_after_days: int, missing: int, usual: int, unusual: int, tenure: float
) -> list[str]:
    """Return the limitations of the data behind a score; empty if there are none.

    Parameters
    ----------
    age_days : int
        Days since as_of.
    stale_after_days : int
        Limit of the age.
    missing, usual : int
        Missing values, of those present for most accounts in training.
    unusual : int
        Values outside the range seen in training.
    tenure : float
        Days since the account began.

    Examples
    --------
    >>> data_notes(
    ...     age_days=2, stale_after_days=10, missing=30, usual=60, unusual=0, tenure=500)
    ['30 of 60 usual values are missing']
    """
    notes = []
    if age_days > stale_after_days:
        notes.append(f"the data is {age_days} days old")
    if missing > 0.2 * usual:
        notes.append(f"{missing} of {usual} usual values are missing")
    if unusual > 2:
        notes.append(f"{unusual} values are outside the training range")
    if tenure < 91:
        notes.append(f"account is only {tenure:.0f} days old")
    return notes


def data_confidence(notes: Sequence[str], missing_share: float) -> Confidence:
    """Return the confidence in the data: high without notes, medium with one, otherwise low."""
    if len(notes) > 1 or missing_share > 0.6:
        return "low"
    return "medium" if notes else "high"


def rounded_to_sum(values: Sequence[float], total: float, digits: int = 1) -> list[float]:
    """Return values rounded so that they add up to `total` (largest remainders are rounded up).

    Examples
    --------
    >>> rounded_to_sum([10.34, 5.36, 4.3], 20.0)
    [10.3, 5.4, 4.3]
    >>> round(sum(rounded_to_sum([1 / 3, 1 / 3, 1 / 3], 1.0)), 9)
    1.0
    """
    unit = 10**digits
    floors = [int(value * unit // 1) for value in values]
    missing = round(total * unit) - sum(floors)
    order = sorted(range(len(values)), key=lambda i: -(values[i] * unit - floors[i]))
    for i in order[: max(missing, 0)]:
        floors[i] += 1
    return [floor / unit for floor in floors]
