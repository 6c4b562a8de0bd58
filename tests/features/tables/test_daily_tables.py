"""Source tables on whole days, and what of them is known when: worked by hand."""

from __future__ import annotations

from datetime import date, datetime

import ibis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.days import day_index
from features.tables.daily_tables import STEP, daily_schema, to_daily, usable_columns
from features.tables.point_in_time import as_known
from features.tables.source_tables import TABLES, VERSIONS


@pytest.fixture(scope="module")
def engine():
    engine = ibis.duckdb.connect(threads=1)
    engine.raw_sql("SET TimeZone = 'UTC'")
    yield engine
    engine.disconnect()


@pytest.fixture(scope="module")
def on_days(engine, canonical):
    """Put rows of one table on days: a list of dictionaries, in the order of `order`."""

    def build(name, rows, *, rates=None, history=False, currency="EUR", order=("day",)):
        table = daily_table(name, rows, rates=rates, history=history, currency=currency)
        return table.order_by(list(order)).to_pyarrow().to_pylist()

    def daily_table(name, rows, *, rates=None, history=False, currency="EUR"):
        return to_daily(
            name,
            ibis.memtable(canonical(name, rows)),
            None if rates is None else ibis.memtable(canonical("rates", rates)),
            history=history,
            currency=currency,
        )

    build.table = daily_table
    return build


@pytest.fixture(scope="module")
def seen(engine, on_days):
    """What of the rows of one table is visible at some as_ofs."""

    def at(name, rows, moments, *, history=False):
        grid = ibis.memtable(
            [
                {"entity_id": "a", "as_of_day": day_index(moment), "tenure_days": 1000}
                for moment in moments
            ]
        )
        daily = on_days.table(name, rows, history=history)
        known = as_known(name, daily, grid, history=history)
        return known.order_by("as_of_day", "day").to_pyarrow().to_pylist()

    return at


def event(at: datetime, **others: object) -> dict[str, object]:
    return {"account_id": "a", "user_id": "u", "occurred_at": at, **others}


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (datetime(2025, 3, 1), date(2025, 3, 1)),
        (datetime(2025, 3, 1, 0, 0, 0, 1), date(2025, 3, 2)),
        (datetime(2025, 3, 1, 23, 59, 59, 999999), date(2025, 3, 2)),
        (datetime(1969, 12, 31, 12), date(1970, 1, 1)),
    ],
)
def test_an_instant_belongs_to_the_first_midnight_at_or_after_it(on_days, at, day):
    [row] = on_days("usage_events", [event(at)])
    assert row["day"] == row["known_day"] == day_index(day)


def test_dates_that_happened_are_known_at_the_next_midnight_and_plans_keep_their_day(on_days):
    [row] = on_days(
        "invoices",
        [
            {
                "account_id": "a",
                "invoice_id": "i",
                "issued_on": date(2025, 3, 1),
                "due_on": date(2025, 3, 31),
                "paid_on": date(2025, 4, 2),
            }
        ],
    )
    assert row["day"] == row["known_day"] == day_index(date(2025, 3, 2))
    assert row["due_day"] == day_index(date(2025, 3, 31))
    assert row["paid_day"] == day_index(date(2025, 4, 3))


def test_a_row_is_never_known_before_it_happened(on_days):
    early = event(datetime(2025, 3, 5, 12), known_at=datetime(2025, 3, 1))
    late = event(datetime(2025, 3, 5, 12), known_at=datetime(2025, 3, 9, 1))
    [first] = on_days("usage_events", [early])
    [second] = on_days("usage_events", [late])
    assert first["known_day"] == first["day"] == day_index(date(2025, 3, 6))
    assert second["known_day"] == day_index(date(2025, 3, 10))


def test_usage_adds_up_per_user_product_feature_day_and_known_day(on_days):
    noon = datetime(2025, 3, 1, 12)
    rows = on_days(
        "usage_events",
        [
            event(noon, feature="f", quantity=2.0),
            event(datetime(2025, 3, 1, 18), feature="f", quantity=3.5),
            event(noon, feature="f", quantity=None),  # an event without a quantity is one
            event(noon, feature="g", quantity=4.0),
            event(noon, feature="f", quantity=1.0, known_at=datetime(2025, 3, 4)),
            event(noon, feature="f", quantity=7.0, user_id=None),
        ],
        order=("known_day", "feature", "user_id"),
    )
    short = [(r["user_id"], r["feature"], r["quantity"], r["events"]) for r in rows]
    assert sorted(short, key=str) == sorted(
        [("u", "f", 6.5, 3.0), (None, "f", 7.0, 1.0), ("u", "g", 4.0, 1.0), ("u", "f", 1.0, 1.0)],
        key=str,
    )
    assert {r["known_day"] for r in rows} == {
        day_index(date(2025, 3, 2)),
        day_index(date(2025, 3, 4)),
    }


def test_events_without_a_quantity_column_count_one_each(on_days):
    [row] = on_days("usage_events", [event(datetime(2025, 3, 1, hour)) for hour in (8, 9, 10)])
    assert (row["quantity"], row["events"]) == (3.0, 3.0)


RATES = [
    {"currency": "USD", "as_of_on": date(2025, 2, 1), "rate": 0.5},
    {"currency": "USD", "as_of_on": date(2025, 3, 1), "rate": 0.75},
    {"currency": "EUR", "as_of_on": date(2025, 1, 1), "rate": 9.0},
]


@pytest.mark.parametrize(
    ("currency", "on", "amount"),
    [
        ("USD", date(2025, 1, 5), 50.0),  # before the first rate, the first stands in
        ("USD", date(2025, 2, 28), 50.0),
        ("USD", date(2025, 3, 1), 75.0),  # the rate of the day itself
        ("USD", date(2025, 9, 1), 75.0),
        ("EUR", date(2025, 3, 1), 100.0),  # the reporting currency is 1, whatever the table says
        (None, date(2025, 3, 1), 100.0),
        ("GBP", date(2025, 3, 1), None),  # no rate: unknown, not zero and not unconverted
    ],
)
def test_money_is_reported_at_the_rate_of_the_day(on_days, currency, on, amount):
    row = {"account_id": "a", "invoice_id": "i", "issued_on": on, "amount": 100.0}
    other = {**row, "invoice_id": "j", "currency": "EUR"}
    found = on_days("invoices", [{**row, "currency": currency}, other], rates=RATES)
    assert {r["invoice_id"]: r["amount"] for r in found} == {"i": amount, "j": 100.0}


def test_the_rate_is_kept_beside_revenue(on_days):
    row = {"account_id": "a", "subscription_id": "s", "arr": 100.0, "currency": "USD"}
    [found] = on_days("subscriptions", [{**row, "started_on": date(2025, 3, 5)}], rates=RATES)
    assert (found["arr"], found["currency_rate"]) == (75.0, 0.75)
    assert found["arr_constant"] == 50.0  # at the first rate, whenever the terms began
    home = {**row, "started_on": date(2025, 3, 5), "currency": "EUR"}
    [plain] = on_days("subscriptions", [home])
    assert (plain["arr"], plain["currency_rate"], plain["arr_constant"]) == (100.0, 1.0, 100.0)


@pytest.mark.parametrize("rates", [None, RATES])
def test_money_without_a_rate_is_unknown_and_never_added_up(on_days, rates):
    row = {"account_id": "a", "invoice_id": "i", "issued_on": date(2025, 3, 5), "amount": 100.0}
    yen, plain = {**row, "currency": "JPY"}, {**row, "invoice_id": "j", "currency": None}
    found = on_days("invoices", [yen, plain], rates=rates)
    assert {r["invoice_id"]: r["amount"] for r in found} == {"i": None, "j": 100.0}
    term = {"account_id": "a", "subscription_id": "s", "started_on": date(2025, 3, 5)}
    [lost] = on_days("subscriptions", [{**term, "arr": 5.0, "currency": "JPY"}], rates=rates)
    assert (lost["arr"], lost["arr_constant"], lost["currency_rate"]) == (None, None, None)


def test_term_facts_a_source_does_not_record_are_typed_nulls(on_days):
    rows = [{"account_id": "a", "subscription_id": "s", "started_on": date(2025, 3, 1)}]
    table = on_days.table("subscriptions", rows)
    for name in ("renews_day", "ended_day", "end_reason", "notice_day", "notice_period_days"):
        assert str(table[name].type()) == daily_schema("subscriptions")[name]
        assert table[name].to_pyarrow().null_count == 1


def test_a_value_whose_moment_is_not_recorded_is_left_out(on_days, seen):
    """Satisfaction is visible from resolution on: without that, it could be from the future."""
    opened = datetime(2025, 3, 1, 9)
    ticket = {"account_id": "a", "ticket_id": "t", "opened_at": opened, "csat": 1.0}
    assert "csat" not in on_days("support_tickets", [ticket])[0]
    resolved = {**ticket, "resolved_at": datetime(2025, 3, 3, 9)}
    found = seen("support_tickets", [resolved], [date(2025, 3, 3), date(2025, 3, 4)])
    assert [row["csat"] for row in found] == [None, 1.0]


def test_columns_overwritten_in_place_need_history():
    for name, spec in TABLES.items():
        everything = set(spec.columns)
        versions = {c for c, column in spec.columns.items() if column.visible_from == VERSIONS}
        assert set(usable_columns(name, everything, history=False)) == everything - versions
        assert set(usable_columns(name, everything, history=True)) == everything


def test_with_history_the_latest_known_version_counts(seen):
    contact = {"account_id": "a", "contact_id": "c", "created_at": datetime(2025, 1, 1)}
    rows = [
        {**contact, "role": "user", "known_at": datetime(2025, 1, 1)},
        {**contact, "role": "buyer", "known_at": datetime(2025, 2, 1, 12)},
        {**contact, "role": "admin", "known_at": datetime(2025, 2, 1, 18)},
    ]
    moments = [date(2025, 1, 1), date(2025, 2, 1), date(2025, 2, 2)]
    assert [r["role"] for r in seen("contacts", rows, moments, history=True)] == [
        "user",
        "user",
        "admin",  # of the versions of one day, the last by the clock
    ]
    assert "role" not in seen("contacts", rows, moments)[0]


def test_versions_of_a_term_do_not_hide_the_terms_before_it(seen):
    term = {"account_id": "a", "subscription_id": "s"}
    first = {**term, "started_on": date(2024, 1, 1), "arr": 10.0}
    second = {**term, "started_on": date(2025, 1, 1), "arr": 20.0}
    rows = [
        {**first, "known_at": datetime(2024, 1, 1)},
        {**first, "ended_on": date(2025, 1, 1), "known_at": datetime(2024, 12, 1)},
        {**second, "known_at": datetime(2024, 12, 1)},
        {**second, "arr": 25.0, "known_at": datetime(2025, 1, 20)},
    ]
    found = seen(
        "subscriptions", rows, [date(2024, 6, 1), date(2025, 1, 10), date(2025, 3, 1)], history=True
    )
    told = [(r["arr"], r["ended_day"] is not None) for r in found]
    assert told == [(10.0, False), (10.0, True), (20.0, False), (10.0, True), (25.0, False)]


def test_a_late_report_of_an_older_state_does_not_replace_a_newer_one(seen):
    deal = {"account_id": "a", "opportunity_id": "o", "kind": "expansion"}
    late = {"changed_at": datetime(2025, 1, 5), "known_at": datetime(2025, 2, 1)}
    rows = [
        {**deal, "stage": "open", "changed_at": datetime(2025, 1, 1)},
        {**deal, "stage": "won", "changed_at": datetime(2025, 1, 10)},
        {**deal, "stage": "offer", **late},
    ]
    rows = [{"known_at": row["changed_at"], **row} for row in rows]
    moments = [date(2025, 1, 2), date(2025, 1, 20), date(2025, 2, 2)]
    assert [r["stage"] for r in seen("opportunities", rows, moments)] == ["open", "won", "won"]


def test_two_states_of_one_day_are_told_apart_by_the_clock(seen):
    deal = {"account_id": "a", "opportunity_id": "o", "kind": "expansion"}
    states = [
        {**deal, "stage": stage, "changed_at": datetime(2025, 1, 1, hour)}
        for hour, stage in ((9, "open"), (17, "won"), (11, "offer"))
    ]
    for rows in (states, states[::-1]):
        [found] = seen("opportunities", rows, [date(2025, 1, 2)])
        assert found["stage"] == "won"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_sums_of_the_stored_numbers_do_not_depend_on_their_order(values, random):
    stored = [value - np.fmod(value, STEP) for value in values]
    other = list(stored)
    random.shuffle(other)
    assert float(np.cumsum(stored)[-1]) == float(np.cumsum(other)[-1])
    assert np.allclose(stored, values, atol=STEP)


def test_amounts_are_stored_in_steps_that_add_up_exactly(on_days):
    rows = [event(datetime(2025, 3, 1, 9), quantity=value) for value in (0.1, 1234.56, 1e15, 1e300)]
    rows = [row | {"user_id": str(place)} for place, row in enumerate(rows)]
    found = on_days("usage_events", rows, order=("user_id",))
    assert [row["quantity"] for row in found] == pytest.approx(
        [0.1, 1234.56, 1e15, 1e300], abs=STEP
    )
    assert all((row["quantity"] / STEP).is_integer() for row in found)
