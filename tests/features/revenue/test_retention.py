"""The ledger against one worked by hand, and what always holds of it."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.runtime.errors import DataError
from features.days import day_index
from features.revenue.retention import (
    KINDS,
    TERM_COLUMNS,
    first_years,
    known_terms,
    levels,
    movements,
    position,
    quarter_name,
    quarters,
    retained,
    retention,
)
from features.snapshots.subscriptions import priced_terms


def after(text: str | None) -> float:
    """The midnight after a date: when a date-only fact counts."""
    return np.nan if text is None else day_index(date.fromisoformat(text)) + 1.0


def terms(*rows: tuple, known: dict[int, str] | None = None) -> pd.DataFrame:
    """(account, subscription, started, ended, reason, arr) → terms."""
    table = pd.DataFrame(
        [
            {
                "entity_id": account,
                "subscription_id": subscription,
                "day": int(after(started)),
                "known_day": int(after((known or {}).get(i, started))),
                "ended_day": after(ended),
                "end_reason": reason,
                "renews_day": np.nan,
                "notice_day": np.nan,
                "notice_period_days": np.nan,
                "escalator": 0.0,
                "arr": float(arr),
                "product": None,
                "currency": None,
                "currency_rate": 1.0,
            }
            for i, (account, subscription, started, ended, reason, arr) in enumerate(rows)
        ]
    )
    return table[list(TERM_COLUMNS)]


HAND_WORKED = terms(
    # Alpha grows from 100 to 130 on 10 February, with terms that follow each other.
    ("alpha", "a", "2024-06-01", "2025-02-10", "changed", 100),
    ("alpha", "a", "2025-02-10", None, None, 130),
    # Beta has two subscriptions; one of 40 is lost on 1 March: a contraction, the account stays.
    ("beta", "b1", "2024-03-01", None, None, 160),
    ("beta", "b2", "2024-03-01", "2025-03-01", "churned", 40),
    # Gamma leaves on 15 January and comes back on 20 May: churn, then reactivation.
    ("gamma", "c", "2024-01-01", "2025-01-15", "churned", 300),
    ("gamma", "c", "2025-05-20", None, None, 250),
    # Delta renews twenty days late: it never left, and its price went up by 6.
    ("delta", "d", "2024-01-10", "2025-01-10", "renewed", 200),
    ("delta", "d", "2025-01-30", None, None, 206),
    # Epsilon begins on 20 February.
    ("epsilon", "e", "2025-02-20", None, None, 80),
    # Zeta was bought by alpha on 5 April: its 50 went on there, and it is no loss.
    ("zeta", "z", "2024-05-05", "2025-04-05", "merged", 50),
)
NOW = int(after("2025-06-30"))
Q1 = (day_index(date(2025, 1, 1)), day_index(date(2025, 4, 1)))
Q2 = (day_index(date(2025, 4, 1)), day_index(date(2025, 7, 1)))


@pytest.fixture(scope="module")
def steps() -> pd.DataFrame:
    return levels(known_terms(HAND_WORKED, NOW), NOW)


def test_movements_are_those_worked_by_hand(steps):
    found = movements(steps)
    told = [
        (row.entity_id, row.kind, row.change, row.day)
        for row in found.itertuples()
        if row.day > Q1[0]
    ]
    assert told == [
        ("alpha", "expansion", 30.0, after("2025-02-10")),
        ("beta", "contraction", -40.0, after("2025-03-01")),
        ("delta", "expansion", 6.0, after("2025-01-30")),
        ("epsilon", "new", 80.0, after("2025-02-20")),
        ("gamma", "churn", -300.0, after("2025-01-15")),
        ("gamma", "reactivation", 250.0, after("2025-05-20")),
        ("zeta", "merged", -50.0, after("2025-04-05")),
    ]


def test_the_first_quarter_is_that_worked_by_hand(steps):
    """850 at the start; 300 churned, 40 contracted, 36 expanded, 80 new; 626 at the end."""
    found = retention(retained(steps, *Q1))
    assert found == {
        "start": 850.0, "new": 80.0, "reactivation": 0.0, "expansion": 36.0, "contraction": -40.0,
        "churn": -300.0, "merged": 0.0, "end": 626.0, "accounts": 5, "lost_accounts": 1,
        "grr": pytest.approx((850 - 300 - 40) / 850), "nrr": pytest.approx((850 - 340 + 36) / 850),
        "logo_retention": pytest.approx(4 / 5),
    }  # fmt: skip


def test_merged_accounts_leave_the_cohort_and_returning_ones_do_not_enter_it(steps):
    found = retention(retained(steps, *Q2))
    assert (found["reactivation"], found["merged"], found["churn"]) == (250.0, -50.0, 0.0)
    assert (found["accounts"], found["grr"], found["nrr"]) == (4, 1.0, 1.0)
    assert found["end"] == 130 + 160 + 250 + 206 + 80


def test_a_movement_on_the_last_day_of_a_quarter_belongs_to_it():
    rows = terms(
        ("one", "s", "2024-01-01", "2025-03-31", "churned", 10),
        ("two", "s", "2024-01-01", "2025-04-01", "churned", 20),
    )
    steps = levels(known_terms(rows, NOW), NOW)
    assert retention(retained(steps, *Q1))["churn"] == -10.0
    assert retention(retained(steps, *Q2))["churn"] == -20.0


def test_growth_of_one_account_pays_for_no_other(steps):
    rows = terms(
        ("shrinks", "s", "2024-01-01", "2025-02-01", "changed", 100),
        ("shrinks", "s", "2025-02-01", None, None, 40),
        ("grows", "g", "2024-01-01", "2025-02-01", "changed", 100),
        ("grows", "g", "2025-02-01", None, None, 900),
    )
    found = retention(retained(levels(known_terms(rows, NOW), NOW), *Q1))
    assert found["grr"] == pytest.approx(140 / 200)
    assert found["nrr"] == pytest.approx(940 / 200)


def test_what_was_not_known_yet_does_not_show():
    rows = terms(
        ("late", "s", "2024-01-01", "2025-02-01", "churned", 100),
        ("news", "n", "2025-01-05", None, None, 70),
        known={1: "2025-05-01"},
    )
    at = int(after("2025-01-20"))
    seen = known_terms(rows, at)
    assert position(levels(seen, at), at).to_dict() == {"late": 100.0}
    assert seen["ended_day"].isna().all()
    assert seen["end_reason"].isna().all()


def test_a_late_renewal_counts_as_there_until_the_interruption_is_too_long():
    rows = terms(("late", "s", "2024-01-01", "2025-01-01", "renewed", 100))
    soon, later = int(after("2025-01-25")), int(after("2025-02-25"))
    assert position(levels(known_terms(rows, soon), soon), soon)["late"] == 100.0
    assert position(levels(known_terms(rows, later), later), later)["late"] == 0.0


def rated(rows: pd.DataFrame, *rates: float) -> pd.DataFrame:
    """Terms in pounds, at the rate of the day each began."""
    own = rows.assign(currency="GBP", currency_rate=list(rates))
    return own.assign(arr=own["arr"] * own["currency_rate"])


def test_rates_that_move_are_no_movement_and_today_is_at_the_rate_of_today():
    daily = rated(
        terms(
            ("uk", "2024", "2023-01-01", "2024-02-01", "renewed", 80),
            ("uk", "2025", "2024-02-01", "2025-02-01", "renewed", 100),
            ("uk", "2026", "2025-02-01", None, None, 100),
        ),
        1.0, 1.2, 1.1,
    )  # fmt: skip
    priced, unpriced = priced_terms(daily, "EUR")
    steps = levels(known_terms(priced, NOW), NOW)
    assert unpriced == ()
    assert position(steps, NOW)["uk"] == 110.0
    assert steps["after"].tolist() == [88.0, 110.0]
    found = retention(retained(steps, *Q1))
    assert (found["grr"], found["nrr"]) == (1.0, 1.0)


def test_a_currency_without_a_rate_is_refused_by_name():
    daily = terms(("x", "s", "2024-01-01", None, None, np.nan)).assign(currency="JPY")
    with pytest.raises(DataError, match="JPY has no rate to EUR \\(1 of 1 rows\\)"):
        priced_terms(daily.assign(currency_rate=np.nan), "EUR")


def test_accounts_with_terms_of_unknown_revenue_are_named_and_left_out():
    daily = terms(
        ("known", "s", "2024-01-01", None, None, 100),
        ("part", "s", "2024-01-01", None, None, 100),
        ("part", "t", "2024-01-01", None, None, np.nan),
        ("once", "s", "2023-01-01", "2024-01-01", "renewed", np.nan),
        ("once", "s", "2024-01-01", None, None, 70),
    )
    priced, unpriced = priced_terms(daily, "EUR")
    assert unpriced == ("part",)
    assert set(priced["entity_id"]) == {"known", "once"}


def test_a_negative_arr_is_refused_by_account():
    rows = terms(("credit", "s", "2024-01-01", None, None, -5))
    with pytest.raises(DataError, match="1 terms have a negative ARR"):
        levels(known_terms(rows, NOW), NOW)


def test_no_arr_at_all_is_told():
    daily = terms(("x", "s", "2024-01-01", None, None, 100)).drop(columns="arr")
    with pytest.raises(DataError, match="no subscription has an ARR"):
        priced_terms(daily, "EUR")


def test_revenue_that_moves_to_another_account_is_neither_loss_nor_growth():
    rows = terms(
        ("sold", "s1", "2024-01-01", "2025-02-10", "changed", 300),
        ("buyer", "own", "2024-01-01", None, None, 500),
        ("buyer", "s1", "2025-02-10", None, None, 330),
    )
    steps = levels(known_terms(rows, NOW), NOW)
    found = retention(retained(steps, *Q1))
    assert (found["start"], found["end"], found["merged"]) == (800.0, 830.0, 0.0)
    assert (found["expansion"], found["churn"], found["lost_accounts"]) == (30.0, 0.0, 0)
    assert found["nrr"] == pytest.approx(830 / 800)
    told = movements(steps)
    told = told[told["day"] > Q1[0]]
    assert list(zip(told["entity_id"], told["kind"], told["change"], strict=True)) == [
        ("buyer", "merged", 300.0),
        ("buyer", "expansion", 30.0),
        ("sold", "merged", -300.0),
    ]


def test_cohorts_and_quarters_have_names(steps):
    assert first_years(steps)["epsilon"] == "2025"
    assert quarter_name(Q1[0]) == "2025 Q1"
    assert quarters(Q1[0] + 1, NOW + 1) == [Q2]
    assert quarters(Q1[0], Q1[1]) == [Q1]


@st.composite
def books(draw) -> pd.DataFrame:
    """Accounts with one or two subscriptions of several terms, gaps and overlaps included."""
    rows = []
    for account in range(draw(st.integers(1, 4))):
        for subscription in range(draw(st.integers(1, 2))):
            day = draw(st.integers(0, 300))
            for _ in range(draw(st.integers(1, 4))):
                length = draw(st.integers(1, 200))
                ended = draw(st.booleans())
                reason = draw(st.sampled_from(["renewed", "changed", "churned", None]))
                rows.append(
                    (account, subscription, day, day + length if ended else np.nan,
                     reason if ended else None, draw(st.integers(0, 500)))
                )  # fmt: skip
                day += length + draw(st.sampled_from([0, 0, 10, 60]))
    columns = ["entity_id", "subscription_id", "day", "ended_day", "end_reason", "arr"]
    table = pd.DataFrame(rows, columns=columns).astype({"arr": "float64", "ended_day": "float64"})
    table["known_day"] = table["day"]
    table["currency_rate"] = 1.0
    return table.reindex(columns=list(TERM_COLUMNS)).assign(
        entity_id=table["entity_id"].map("e{}".format),
        subscription_id=table["subscription_id"].map("s{}".format),
    )


@settings(max_examples=15, deadline=None)
@given(books(), st.integers(0, 800), st.integers(1, 400))
def test_the_bridge_always_adds_up_and_grr_never_exceeds_one(book, start, length):
    at = 1_300
    steps = levels(known_terms(book, at), at)
    accounts = retained(steps, start, start + length)
    found = retention(accounts)
    bridge = found["start"] + sum(found[kind] for kind in KINDS)
    assert bridge == pytest.approx(found["end"], abs=0.01)
    assert found["grr"] is None or 0.0 <= found["grr"] <= 1.0
    inside = movements(steps)
    inside = inside[(inside["day"] > start) & (inside["day"] <= start + length)]
    assert inside["change"].sum() == pytest.approx(found["end"] - found["start"], abs=0.01)
    odd, even = accounts[accounts.index < "e2"], accounts[accounts.index >= "e2"]
    parts = [retention(odd), retention(even)]
    for key in ("start", *KINDS, "end", "accounts"):
        assert sum(part[key] for part in parts) == pytest.approx(found[key], abs=0.01)
