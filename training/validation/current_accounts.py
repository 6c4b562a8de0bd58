"""Current accounts: ARR by band, expected loss, and the accounts with the largest expected loss.

Every expected amount has a date. An estimate covers the time up to the renewal or to the end of
the horizon, so a sum reports the latest of those dates and the part within 91 days. Closed
accounts appear in the table of statuses and in no other count.

Rows are the latest scores, one per account, as served and exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, cast

import numpy as np
import pandas as pd

from configs.runtime.formatting import day
from features.snapshots.statuses import NOT_CUSTOMERS, STATUSES
from training.model.expected_loss import expected_loss
from training.reporting.report_text import outcome_of
from training.validation.content_types import (
    AccountTotals,
    BandRow,
    CurrentAccounts,
    ExpectedLossContent,
    QuestionRow,
    ReasonContent,
    StatusRow,
    TargetAccounts,
    TopAccount,
)
from training.validation.score_evidence import BANDS

TOP = 10
REASONS = 3
RAISED = ("elevated", "high")
"""Bands that count as at risk (for growth: as likely to grow)."""

Row = Mapping[str, Any]


def book_rows(book: pd.DataFrame | Iterable[Row]) -> list[dict[str, Any]]:
    """Return the latest scores as plain rows, missing values as None.

    Parameters
    ----------
    book : pandas.DataFrame or iterable of mapping
        One row per account: account_id, status, status_text, name, segment, arr, as_of; and, for
        those that are scored, ``scores``: target to probability in [0, 1], band, asks_about
        (``renewal`` or ``horizon``), until (date), raises (reasons with their facts).
    """
    records = book.to_dict(orient="records") if isinstance(book, pd.DataFrame) else list(book)
    return [{str(key): _known(value) for key, value in row.items()} for row in records]


def _known(value: Any) -> Any:
    """Return None for missing values of pandas."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def scored_accounts(rows: Iterable[Row], target: str) -> list[tuple[Row, Row]]:
    """Return pairs of account and score, for accounts with a score for the target."""
    pairs = ((row, (row.get("scores") or {}).get(target)) for row in rows)
    return [(row, score) for row, score in pairs if score is not None]


def value_of(rows: Iterable[Row]) -> float:
    """Return the ARR of accounts; unknown ARR counts as 0."""
    return float(sum(row.get("arr") or 0.0 for row in rows))


def expected_value(pairs: Iterable[tuple[Row, Row]]) -> float:
    """Return the sum of probability times ARR."""
    return float(sum(score["probability"] * (row.get("arr") or 0.0) for row, score in pairs))


def customers(rows: Iterable[Row]) -> list[Row]:
    """Return the open accounts; closed accounts are counted separately."""
    return [row for row in rows if row["status"] not in NOT_CUSTOMERS]


def loss_of(pairs: Sequence[tuple[Row, Row]]) -> ExpectedLossContent | None:
    """Return the expected loss of accounts by date; None without accounts.

    See `training.model.expected_loss.ExpectedLoss.as_dict`.
    """
    if not pairs:
        return None
    found = expected_loss(
        np.array([expected_value([pair]) for pair in pairs]),
        date.fromisoformat(max(str(row["as_of"]) for row, _ in pairs)[:10]),
        [date.fromisoformat(str(score["until"])[:10]) for _, score in pairs],
        [score["asks_about"] == "renewal" for _, score in pairs],
    )
    return cast(ExpectedLossContent, found.as_dict())


def statuses(rows: Sequence[Row]) -> list[StatusRow]:
    """Return number and ARR of accounts per status, over all accounts."""
    found: dict[str, list[Row]] = {str(status): [] for status in STATUSES}
    for row in rows:
        found.setdefault(str(row["status"]), []).append(row)
    return [
        {
            "status": status,
            "words": _status_words(status, inside),
            "accounts": len(inside),
            "arr": value_of(inside),
        }
        for status, inside in found.items()
    ]


def _status_words(status: str, rows: Sequence[Row]) -> str:
    known: dict[str, str] = {str(name): words for name, words in STATUSES.items()}
    given = rows[0].get("status_text") if rows else None
    return str(given or known.get(status, status.replace("_", " ")))


def by_band(rows: Sequence[Row], target: str) -> list[BandRow]:
    """Return accounts, ARR and expected ARR of the event per band, highest band first.

    Returns
    -------
    list of dict
        band, accounts, arr, arr_share (of scored value, 0 to 1), expected_accounts (sum of
        probabilities), expected_arr (sum of probability times annual value, of each account up to
        the day it is asked about), expected_arr_91d (what of it falls within 91 days).
    """
    pairs = scored_accounts(rows, target)
    whole = value_of(row for row, _ in pairs)
    table: list[BandRow] = []
    for band in reversed(BANDS):
        inside = [pair for pair in pairs if pair[1]["band"] == band]
        arr, loss = value_of(row for row, _ in inside), loss_of(inside)
        table.append(
            {
                "band": band,
                "accounts": len(inside),
                "arr": arr,
                "arr_share": arr / whole if whole else None,
                "expected_accounts": float(sum(score["probability"] for _, score in inside)),
                "expected_arr": expected_value(inside),
                "expected_arr_91d": loss["within_91_days"] if loss else 0.0,
            }
        )
    return table


def account_totals(rows: Sequence[Row], target: str) -> AccountTotals:
    """Return the ARR of accounts in the elevated and high bands, and the expected ARR of the event.

    The two amounts differ: the first is the full ARR of some accounts, the second is probability
    times ARR over all accounts.
    """
    pairs = scored_accounts(rows, target)
    raised = [item for item in by_band(rows, target) if item["band"] in RAISED]
    return {
        "scored": len(pairs),
        "scored_arr": value_of(row for row, _ in pairs),
        "unknown_arr": sum(row.get("arr") is None for row, _ in pairs),
        "raised_accounts": sum(item["accounts"] for item in raised),
        "raised_arr": sum(item["arr"] for item in raised),
        "expected_accounts": float(sum(score["probability"] for _, score in pairs)),
        "expected_arr": expected_value(pairs),
        "loss": loss_of(pairs),
    }


def by_question(rows: Sequence[Row], target: str) -> list[QuestionRow]:
    """Return expected ARR separately for scores until renewal and scores until the horizon."""
    groups: dict[str, list[tuple[Row, Row]]] = {}
    for row, score in scored_accounts(rows, target):
        groups.setdefault(str(score["asks_about"]), []).append((row, score))
    return [
        {
            "asks_about": asked,
            "accounts": len(inside),
            "arr": value_of(row for row, _ in inside),
            "expected_arr": expected_value(inside),
            "until": max(str(score["until"])[:10] for _, score in inside),
        }
        for asked, inside in sorted(groups.items())
    ]


def question(score: Row) -> str:
    """Return the period that a probability covers.

    >>> question({"asks_about": "renewal", "until": "2026-03-02"})
    'renewal on 2 Mar 2026'
    """
    ahead = "renewal on" if score["asks_about"] == "renewal" else "by"
    return f"{ahead} {day(score['until'])}"


def top(rows: Sequence[Row], target: str) -> list[TopAccount]:
    """Return up to ten accounts of the elevated and high bands with the most expected ARR.

    Ordered by probability times ARR; accounts without ARR by probability.
    """
    raised = [pair for pair in scored_accounts(rows, target) if pair[1]["band"] in RAISED]
    ordered = sorted(
        raised,
        key=lambda pair: (
            -expected_value([pair]),
            -pair[1]["probability"],
            str(pair[0]["account_id"]),
        ),
    )
    return [
        {
            "account_id": str(row["account_id"]),
            "name": str(row.get("name") or row["account_id"]),
            "segment": row.get("segment"),
            "arr": row.get("arr"),
            "probability": float(score["probability"]),
            "band": str(score["band"]),
            "expected_arr": None if row.get("arr") is None else expected_value([(row, score)]),
            "question": question(score),
            "reasons": main_reasons(score),
        }
        for row, score in ordered[:TOP]
    ]


def main_reasons(score: Row) -> list[ReasonContent]:
    """Return the strongest reasons: theme, direction and facts."""
    return [
        {
            "theme": str(reason["theme"]),
            "text": str(reason["text"]),
            "points": float(reason["points"]),
            "facts": [str(fact["text"]) for fact in reason["facts"]],
        }
        for reason in list(score.get("raises") or ())[:REASONS]
    ]


def book_now(
    book: pd.DataFrame | Iterable[Row],
    contracts: Mapping[str, Row],
    released: Mapping[str, Row],
) -> CurrentAccounts:
    """Return the report's content on current accounts.

    Parameters
    ----------
    book : pandas.DataFrame or iterable of mapping
        See `book_rows`.
    contracts : mapping
        Label contract per target.
    released : mapping
        Per target the published bundle with its ``verdict``; ``no_signal`` lists no accounts.

    Returns
    -------
    dict
        as_of, accounts and arr (of customers), closed (accounts), statuses, and per target:
        is_growth, has_signal, totals, bands, questions, top.
    """
    rows = book_rows(book)
    return {
        "as_of": max((str(row["as_of"]) for row in rows if row.get("as_of")), default=None),
        "accounts": len(customers(rows)),
        "closed": len(rows) - len(customers(rows)),
        "arr": value_of(customers(rows)),
        "statuses": statuses(rows),
        "targets": {
            target: _book_of(rows, target, contract, released.get(target, {}))
            for target, contract in contracts.items()
        },
    }


def _book_of(rows: Sequence[Row], target: str, contract: Row, released: Row) -> TargetAccounts:
    has_signal = released.get("verdict") != "no_signal"
    return {
        "is_growth": outcome_of(contract["outcome"]).is_growth,
        "has_signal": has_signal,
        "totals": account_totals(rows, target),
        "bands": by_band(rows, target),
        "questions": by_question(rows, target),
        "top": top(rows, target) if has_signal else [],
    }
