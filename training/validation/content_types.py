"""Types of report content on current accounts and on checks."""

from __future__ import annotations

from typing import TypedDict


class CheckContent(TypedDict):
    """One integrity or leakage check; `passed` is None if it could not run."""

    code: str
    title: str
    passed: bool | None
    words: str


class ExpectedLossContent(TypedDict):
    """Expected ARR lost in total and by date, see `training.model.expected_loss`."""

    total: float
    until: str | None
    within_91_days: float
    within_91_days_on: str
    by_year_end: float
    year_end_on: str


class StatusRow(TypedDict):
    """Number and ARR of accounts with one status."""

    status: str
    words: str
    accounts: int
    arr: float


class BandRow(TypedDict):
    """Accounts of one band; expected amounts are probability times ARR."""

    band: str
    accounts: int
    arr: float
    arr_share: float | None
    expected_accounts: float
    expected_arr: float
    expected_arr_91d: float


class AccountTotals(TypedDict):
    """Sums over all scored accounts, and over the elevated and high bands ("raised")."""

    scored: int
    scored_arr: float
    unknown_arr: int
    raised_accounts: int
    raised_arr: float
    expected_accounts: float
    expected_arr: float
    loss: ExpectedLossContent | None


class QuestionRow(TypedDict):
    """Accounts with one kind of prediction window: until renewal or until the horizon."""

    asks_about: str
    accounts: int
    arr: float
    expected_arr: float
    until: str


class ReasonContent(TypedDict):
    """One reason of a score."""

    theme: str
    text: str
    points: float
    facts: list[str]


class TopAccount(TypedDict):
    """One account of the list with the most expected ARR."""

    account_id: str
    name: str
    segment: str | None
    arr: float | None
    probability: float
    band: str
    expected_arr: float | None
    question: str
    reasons: list[ReasonContent]


class TargetAccounts(TypedDict):
    """Current accounts by one target."""

    is_growth: bool
    has_signal: bool
    totals: AccountTotals
    bands: list[BandRow]
    questions: list[QuestionRow]
    top: list[TopAccount]


class CurrentAccounts(TypedDict):
    """All current accounts."""

    as_of: str | None
    accounts: int
    closed: int
    arr: float
    statuses: list[StatusRow]
    targets: dict[str, TargetAccounts]
