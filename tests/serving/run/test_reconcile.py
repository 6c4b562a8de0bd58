"""Totals that must agree: what agrees is silent, and each kind of disagreement is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.run.reconcile import disagreement_issue, disagreements, portfolio_disagreements


def answer(name: str, arr: float | None, renews: str | None = None, status: str = "scored"):
    renewal = {"renews_on": renews} if renews else None
    return {"account_id": name, "arr": arr, "status": status, "renewal": renewal}


ROWS = [
    answer("a", 100.0, "2026-08-01"),
    answer("b", 50.0, "2026-11-01"),
    answer("c", 25.5),
    answer("d", 40.0, "2026-08-09", status="notice_given"),
    answer("e", None, status="closed"),
]


def table(read=10, kept=7, aside=2, copies=1):
    return SimpleNamespace(
        rows_read=read, rows=kept, rows_quarantined=aside, rows_duplicate=copies, path=Path()
    )


def due(quarter: str, accounts: int, arr: float, **late: float):
    return {"quarter": quarter, "accounts": accounts, "arr": arr} | late


def forecast(**changes):
    period = {
        "name": "2026 Q3",
        "base": 215.5,
        "groups": [
            {"kind": "segment", "name": "big", "base": 140.0},
            {"kind": "segment", "name": "small", "base": 75.5},
        ],
    }
    return {
        "kind": "recurring",
        "accounts": 4,
        "arr": 215.5,
        "periods": [period],
        "renewals": [due("2026 Q3", 2, 140.0), due("2026 Q4", 1, 50.0)],
    } | changes


def found(rows=ROWS, told=None, ledger_arr=215.5, info=None):
    loaded = SimpleNamespace(tables={"invoices": info or table()})
    return disagreements(rows, told or forecast(), SimpleNamespace(arr=ledger_arr), loaded)


def test_totals_that_agree_are_silent():
    assert found() == []
    assert found(told={"kind": "none"}) == []


def test_late_renewals_have_no_date_in_the_scores():
    late = due("2026 Q3", 3, 165.5, late_accounts=1, late_arr=25.5)
    assert found(told=forecast(renewals=[late, due("2026 Q4", 1, 50.0)])) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ledger_arr": 300.0}, "ARR today is 300.00 in the revenue ledger and 215.50"),
        ({"told": forecast(arr=115.5)}, "ARR today is 115.50 in the forecast"),
        ({"told": forecast(accounts=3)}, "the forecast holds 3 accounts with ARR, the scores 4"),
        (
            {"told": forecast(renewals=[due("2026 Q3", 1, 100.0), due("2026 Q4", 1, 50.0)])},
            "renewals due in 2026 Q3: 1 accounts in the forecast, 2 in the scores",
        ),
        ({"info": table(read=11)}, "invoices: 11 rows were read, 10 are accounted for"),
        ({"rows": [*ROWS, ROWS[0]]}, "6 answers for 5 accounts"),
    ],
)  # fmt: skip
def test_each_disagreement_is_named(changes, words):
    assert any(words in told for told in found(**changes))


def test_parts_that_do_not_add_up_are_named():
    told = forecast()
    told["periods"][0]["groups"][0]["base"] = 40.0
    assert found(told=told) == [
        "ARR at the start of 2026 Q3 is 215.50 in all and 115.50 in the sum by segment"
    ]


def test_it_is_an_error_of_the_quality_report():
    told = disagreement_issue(["one", "two"])
    assert (told.severity, told.grade, told.rows, told.detail) == ("error", "D", 2, "one; two")


def test_a_portfolio_whose_parts_do_not_add_up_is_named():
    def group(arr, lost):
        return SimpleNamespace(arr=arr, arr_high=0.0, lost=lost, lost_91d=0.0)

    parts = {"segment": [group(140.0, 9.0), group(75.5, 3.0)]}
    told = SimpleNamespace(total=group(215.5, 12.0), groups=parts)
    assert portfolio_disagreements(told, ROWS) == []
    told.total = group(200.0, 12.0)
    assert portfolio_disagreements(told, ROWS) == [
        "ARR today is 200.00 in the portfolio and 215.50 in the scores",
        "arr of the portfolio is 200.00 in all and 215.50 in the sum by segment",
    ]
