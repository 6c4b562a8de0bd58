"""The book: everybody counted, two amounts kept apart, questions told apart."""

from __future__ import annotations

import pandas as pd
import pytest

from training.validation.current_accounts import (
    account_totals,
    book_now,
    by_band,
    by_question,
    question,
    statuses,
    top,
)

CONTRACTS = {"churn": {"outcome": "churn"}}


def answer(name, p=None, arr=100.0, *, status="scored", asks="horizon", band="low", **more):
    row = {"account_id": name, "status": status, "arr": arr, "as_of": "2026-07-01T00:00:00Z"}
    if p is not None:
        row["scores"] = {
            "churn": {"probability": p, "band": band, "asks_about": asks, "until": "2026-09-30"}
        }
    return row | more


BOOK = [
    answer("a", 0.5, 1000.0, band="high", asks="renewal"),
    answer("b", 0.2, 3000.0, band="elevated"),
    answer("c", 0.01, 10_000.0),
    answer("d", 0.6, None, band="high"),
    answer("e", arr=500.0, status="notice_given"),
    answer("f", arr=70.0, status="on_hold", status_text="somebody else's status"),
]


def test_nobody_vanishes(example):
    for book in (BOOK, example.book):
        table = statuses(book)
        assert sum(item["accounts"] for item in table) == len(book)
        assert sum(item["arr"] for item in table) == sum(row["arr"] or 0 for row in book)
    found = {item["status"]: item for item in statuses(BOOK)}
    assert found["scored"]["accounts"] == 4
    assert found["closed"]["accounts"] == 0
    assert found["on_hold"]["words"] == "somebody else's status"
    assert found["notice_given"]["words"] == "has already given notice"


def test_two_amounts():
    found = account_totals(BOOK, "churn")
    assert found["raised_arr"] == 4000.0  # all the value of some
    assert found["expected_arr"] == pytest.approx(500 + 600 + 100)  # a part of the value of all
    assert found["raised_accounts"] == 3
    assert found["unknown_arr"] == 1
    assert found["expected_accounts"] == pytest.approx(1.31)


def test_bands_add_up():
    table = by_band(BOOK, "churn")
    assert [item["band"] for item in table] == ["high", "elevated", "low"]
    assert sum(item["accounts"] for item in table) == 4
    assert sum(item["arr_share"] for item in table) == pytest.approx(1.0)
    assert (
        sum(item["expected_arr"] for item in table) == account_totals(BOOK, "churn")["expected_arr"]
    )


def test_what_is_expected_says_by_when_and_closed_accounts_are_in_no_count():
    later = answer("g", 0.1, 1000.0, asks="renewal")
    later["scores"]["churn"]["until"] = "2028-02-01"
    book = [*BOOK, later, answer("h", arr=900.0, status="closed")]
    found = book_now(book, CONTRACTS, {"churn": {"verdict": "promotable"}})
    assert (found["accounts"], found["closed"]) == (7, 1)
    assert found["arr"] == sum(row["arr"] or 0 for row in book) - 900.0
    assert found["targets"]["churn"]["totals"]["loss"] == {
        "total": pytest.approx(1300.0),
        "until": "2028-02-01",
        "within_91_days": pytest.approx(1200.0),
        "within_91_days_on": "2026-09-30",
        "by_year_end": pytest.approx(1200.0),
        "year_end_on": "2026-12-31",
    }
    bands = found["targets"]["churn"]["bands"]
    assert sum(item["expected_arr_91d"] for item in bands) == pytest.approx(1200.0)
    asked = {item["asks_about"]: item["until"] for item in found["targets"]["churn"]["questions"]}
    assert asked == {"renewal": "2028-02-01", "horizon": "2026-09-30"}


def test_questions_apart():
    table = {item["asks_about"]: item for item in by_question(BOOK, "churn")}
    assert table["renewal"]["expected_arr"] == 500.0
    assert table["horizon"]["accounts"] == 3
    assert question({"asks_about": "horizon", "until": "2026-09-30"}) == "by 30 Sep 2026"


def test_top_is_raised_only_and_ordered():
    found = top(BOOK, "churn")
    assert [item["account_id"] for item in found] == ["b", "a", "d"]
    assert found[2]["expected_arr"] is None


def test_at_most_ten(example):
    found = top(example.book, "churn")
    assert len(found) == 10
    worth = [item["expected_arr"] for item in found]
    assert worth == sorted(worth, reverse=True)
    assert found[0]["reasons"][0]["facts"]


def test_frame_and_rows_say_the_same():
    released = {"churn": {"verdict": "promotable"}}
    frame = pd.DataFrame(BOOK)
    assert book_now(frame, CONTRACTS, released) == book_now(BOOK, CONTRACTS, released)


def test_no_signal_names_nobody():
    found = book_now(BOOK, CONTRACTS, {"churn": {"verdict": "no_signal"}})["targets"]["churn"]
    assert found["top"] == []
    assert not found["has_signal"]


def test_empty_book():
    found = book_now([], CONTRACTS, {})
    assert found["accounts"] == 0
    assert found["as_of"] is None
    assert found["targets"]["churn"]["totals"]["expected_arr"] == 0.0
