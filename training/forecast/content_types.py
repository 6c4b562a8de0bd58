"""Types of the forecast's content."""

from __future__ import annotations

from typing import TypedDict


class Quantiles(TypedDict):
    """P10, P50, P90 and mean of simulation draws."""

    p10: float
    p50: float
    p90: float
    mean: float


class Bands(TypedDict):
    """GRR, NRR and ARR lost of some accounts; GRR and NRR are None without ARR."""

    base: float
    grr: Quantiles | None
    nrr: Quantiles | None
    lost: Quantiles


class GroupBands(Bands):
    """Bands of one segment or owner."""

    kind: str
    name: str


class ToDate(TypedDict):
    """Retention of a period so far."""

    grr: float | None
    nrr: float | None
    lost_accounts: int


PeriodContent = TypedDict(
    "PeriodContent",
    {
        "name": str,
        "from": str,
        "open_from": str,
        "to": str,
        "to_day": int,
        "base": float,
        "grr": Quantiles | None,
        "nrr": Quantiles | None,
        "lost": Quantiles,
        "to_date": ToDate | None,
        "known_lost": float,
        "due_arr": float,
        "groups": list[GroupBands],
    },
)
"""Forecast of one period."""


class DueSums(TypedDict):
    """Sums over some renewals."""

    accounts: int
    arr: float
    signed_arr: float
    known_lost_arr: float
    open_accounts: int
    open_arr: float
    at_risk_accounts: int
    at_risk_arr: float
    expected_lost: float | None
    commit_accounts: int
    commit_arr: float
    commit_lost: float
    model_lost: float


class RenewalsDue(DueSums):
    """Renewals of one quarter."""

    quarter: str
    late_accounts: int
    late_arr: float
    is_tested: bool


class LargeAccount(TypedDict):
    """One of the largest accounts; `chance` is None under notice."""

    account_id: str
    name: str
    segment: str
    arr: float
    share: float
    chance: float | None
    expected_lost: float


class Concentration(TypedDict):
    """Share of ARR of the largest accounts."""

    share: float
    effective_accounts: float
    top: list[LargeAccount]


class PeriodsContent(TypedDict):
    """Forecast of all periods from one renewal book."""

    as_of: str
    accounts: int
    arr: float
    unscored: int
    periods: list[PeriodContent]
    renewals: list[RenewalsDue]
    concentration: Concentration


class Commit(TypedDict):
    """Expected and actual loss of renewals with a CSM commit."""

    accounts: int
    arr: float
    commit_lost: float
    model_lost: float
    actual_lost: float


class CommitSummary(Commit):
    """Commits over all past quarters, with mean errors as a share of ARR."""

    quarters: int
    commit_error: float
    model_error: float
