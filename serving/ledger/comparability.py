"""Questions of scores: two scores may be compared only if they answer the same question.

The chance that one renewal is lost and the chance that the next one is are answers to different
questions, as are a renewal and the next 91 days. Their difference is not a change of the
account, so it is neither shown, nor sent, nor exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from configs.runtime import formatting
from configs.runtime.errors import DataError
from configs.runtime.formatting import percent_in_words
from serving.http.score_text import asks_renewal, window

NAMED = 5
"""Accounts that an error names."""


@dataclass(frozen=True)
class ScoreQuestion:
    """The event whose probability a score gives.

    Attributes
    ----------
    about : str
        ``renewal``: that this renewal is lost; ``horizon``: that it happens within `days`;
        ``unknown``: an earlier version kept the score without saying.
    until : date
        Day of the renewal, or the day on which the horizon ends.
    days : int
        From the prediction moment to the end of the horizon; 0 for a renewal, which stays the same
        question while its day comes nearer.
    """

    about: Literal["renewal", "horizon", "unknown"]
    until: date
    days: int = 0

    def is_same(self, other: ScoreQuestion) -> bool:
        """Say whether two scores answer the same question, at whatever moments.

        >>> june = ScoreQuestion("renewal", date(2026, 6, 27))
        >>> june.is_same(june), june.is_same(ScoreQuestion("renewal", date(2027, 6, 27)))
        (True, False)
        >>> ScoreQuestion("horizon", date(2026, 6, 1), 91).is_same(
        ...     ScoreQuestion("horizon", date(2026, 6, 8), 91))
        True
        """
        if self.about != other.about or self.about == "unknown":
            return False
        return self.until == other.until if self.about == "renewal" else self.days == other.days


def question_of(
    contract: Mapping[str, Any], facts: Mapping[str, Any], as_of: datetime
) -> ScoreQuestion:
    """Return what an account with these facts is asked under a label contract."""
    until = window(contract, facts, as_of)
    if asks_renewal(contract, facts):
        return ScoreQuestion("renewal", until)
    return ScoreQuestion("horizon", until, (until - as_of.date()).days)


def question_of_row(row: Mapping[str, Any]) -> ScoreQuestion | None:
    """Return what the risk of a canonical row was asked; None where there is no risk."""
    if row["churn_risk"] is None or not row["churn_until"]:
        return None
    until = date.fromisoformat(row["churn_until"])
    if row["churn_asks_about"] == "renewal":
        return ScoreQuestion("renewal", until)
    as_of = date.fromisoformat(str(row["as_of"])[:10])
    return ScoreQuestion("horizon", until, (until - as_of).days)


def move_of(before: Mapping[str, Any], row: Mapping[str, Any]) -> float | None:
    """Return by how much the risk moved between two canonical rows; None without a comparison.

    The only way from two rows of different books to one difference: both have a risk, and both
    risks answer the same question.

    >>> row = {"churn_risk": 0.25, "churn_asks_about": "renewal", "churn_until": "2026-06-27",
    ...        "as_of": "2026-06-01T00:00:00Z"}
    >>> move_of(row, row | {"churn_risk": 0.5})
    0.25
    >>> move_of(row, row | {"churn_risk": 0.5, "churn_until": "2027-06-27"}) is None
    True
    """
    then, now = question_of_row(before), question_of_row(row)
    if then is None or now is None or not then.is_same(now):
        return None
    return float(row["churn_risk"] - before["churn_risk"])


def asked_anew(before: ScoreQuestion, now: ScoreQuestion, day: date, p: float) -> str:
    r"""Return a sentence for two scores that cannot be compared.

    Parameters
    ----------
    before, now : Question
        What was asked then, and what is asked at present; not the same.
    day : date
        Of the present score.
    p : float
        The present probability, 0 to 1.

    Examples
    --------
    >>> june, next_june = (ScoreQuestion("renewal", date(year, 6, 27)) for year in (2026, 2027))
    >>> asked_anew(june, next_june, date(2026, 6, 29), 0.27)
    'Renewed on 27 Jun 2026. Next renewal 27 Jun 2027: 27\xa0%'
    >>> asked_anew(june, next_june, date(2026, 6, 1), 0.27)
    'The renewal moved from 27 Jun 2026. Next renewal 27 Jun 2027: 27\xa0%'
    >>> quarter = ScoreQuestion("horizon", date(2026, 9, 28), 91)
    >>> asked_anew(june, quarter, date(2026, 6, 29), 0.27)
    'No renewal ahead since 27 Jun 2026. By 28 Sep 2026: 27\xa0%'
    >>> asked_anew(quarter, next_june, date(2026, 6, 29), 0.27)
    'Under contract now. Next renewal 27 Jun 2027: 27\xa0%'
    >>> half_year = ScoreQuestion("horizon", date(2026, 9, 28), 182)
    >>> asked_anew(half_year, quarter, date(2026, 6, 29), 0.27)
    'Asked about the next 91 days, before about 182. By 28 Sep 2026: 27\xa0%'
    """
    return f"{_what_happened(before, now, day)}. {_next(now)}: {percent_in_words(p)}"


def _what_happened(before: ScoreQuestion, now: ScoreQuestion, day: date) -> str:
    if before.about == "unknown":
        return "The score before does not say what it was asked"
    if before.about == "horizon":
        if now.about == "renewal":
            return "Under contract now"
        return f"Asked about the next {now.days} days, before about {before.days}"
    then = formatting.day(before.until)
    if now.about == "horizon":
        gone = "since" if before.until <= day else "any more, it was due on"
        return f"No renewal ahead {gone} {then}"
    is_renewed = before.until <= day and now.until > before.until
    return f"Renewed on {then}" if is_renewed else f"The renewal moved from {then}"


def _next(now: ScoreQuestion) -> str:
    return f"{'Next renewal' if now.about == 'renewal' else 'By'} {formatting.day(now.until)}"


def refuse_mixed(pairs: Iterable[tuple[str, ScoreQuestion | None, ScoreQuestion | None]]) -> None:
    """Refuse comparisons of scores that were asked different questions.

    Every comparison passes here before it is shown, sent or exported.

    Parameters
    ----------
    pairs : iterable of (str, Question or None, Question or None)
        Account, what was asked of it then, and what is asked at present.

    Raises
    ------
    DataError
        Naming the accounts.
    """
    mixed = [
        account
        for account, before, now in pairs
        if before is None or now is None or not before.is_same(now)
    ]
    if mixed:
        raise DataError(
            f"{len(mixed)} scores would be compared with the answer to another question, such as "
            "another renewal",
            where=f"accounts {', '.join(mixed[:NAMED])}",
            fix="compare scores of one question only: `serving.ledger.comparability.move_of`",
        )
