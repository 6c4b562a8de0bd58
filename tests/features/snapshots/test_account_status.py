"""Where an account stands: every status by a small ledger, and none is ever lost."""

from __future__ import annotations

from datetime import date, datetime

import ibis
import pandas as pd
import pytest

from configs.runtime.errors import ConfigError
from configs.schema.company import Cohort, GrowthRoom
from features.days import day_index
from features.snapshots.account_status import COLUMNS, account_status_table, activity_table
from features.snapshots.grid import NOT_SIGNALS
from features.snapshots.statuses import STATUSES
from features.tables.daily_tables import to_daily
from features.tables.source_tables import TABLES

BOUNDS = {"min_tenure_days": 28, "active_within_days": 91, "grace_days": 45}


@pytest.fixture(scope="module")
def engine():
    engine = ibis.duckdb.connect(threads=1)
    engine.raw_sql("SET TimeZone = 'UTC'")
    yield engine
    engine.disconnect()


@pytest.fixture(scope="module")
def stand(engine, canonical):
    """Standing of every account at some moments: a frame indexed by entity and moment."""

    def at(tables, moments, room=None, **cohort):
        daily = {
            name: to_daily(
                name, ibis.memtable(canonical(name, rows)), None, history=False, currency="EUR"
            )
            for name, rows in tables.items()
        }
        grid = ibis.memtable(
            [
                {
                    "entity_id": row["account_id"],
                    "as_of_day": day_index(moment),
                    "tenure_days": (moment - row["created_at"].date()).days,
                }
                for row in tables["accounts"]
                for moment in moments
                if row["created_at"].date() <= moment
            ]
        )
        found = account_status_table(daily, grid, Cohort(**(BOUNDS | cohort)), {}, room)
        frame = engine.execute(found)
        frame["as_of"] = [str(date.fromordinal(int(day) + 719163)) for day in frame["as_of_day"]]
        return frame.set_index(["entity_id", "as_of"]).sort_index()

    return at


def account(name: str, created: str = "2023-01-01") -> dict[str, object]:
    return {"account_id": name, "created_at": datetime.fromisoformat(created)}


def term(name: str, started: str, **others: object) -> dict[str, object]:
    dates = {"renews_on", "ended_on"}
    plain = {
        "account_id": name,
        "subscription_id": f"{name}-1",
        "started_on": date.fromisoformat(started),
        "arr": 100.0,
        "renews_on": None,
        "ended_on": None,
        "end_reason": None,
        "notice_at": None,
        "notice_period_days": None,
    }
    return plain | {
        key: date.fromisoformat(value) if key in dates and isinstance(value, str) else value
        for key, value in others.items()
    }


ANNUAL = {"renews_on": "2025-06-01", "notice_period_days": 90}
TERMS = [
    term("annual", "2024-06-01", **ANNUAL),
    term("monthly", "2025-02-20", renews_on="2025-03-20"),
    term("open_ended", "2024-01-01"),
    term("short_44", "2025-02-01", renews_on="2025-03-17"),
    term("short_45", "2025-02-01", renews_on="2025-03-18"),
    term("new", "2025-02-02"),
    term("noticed", "2024-06-01", **ANNUAL, notice_at=datetime(2025, 2, 28, 15)),
    term("notice_later", "2024-06-01", **ANNUAL, notice_at=datetime(2025, 3, 1, 0, 0, 1)),
    term("late_1", "2024-02-28", renews_on="2025-02-28"),
    term("late_45", "2024-01-15", renews_on="2025-01-15"),
    term("late_46", "2024-01-14", renews_on="2025-01-14"),
    term("late_monthly_7", "2025-01-22", renews_on="2025-02-22"),
    term("late_monthly_8", "2025-01-21", renews_on="2025-02-21"),
    term(
        "awaiting",
        "2024-02-01",
        renews_on="2025-02-01",
        ended_on="2025-02-01",
        end_reason="renewed",
    ),
    term(
        "awaited_long",
        "2024-01-01",
        renews_on="2025-01-01",
        ended_on="2025-01-01",
        end_reason="renewed",
    ),
    term("gone", "2024-01-01", ended_on="2025-02-27", end_reason="churned"),
    term("gone_today", "2024-01-01", ended_on="2025-03-01", end_reason="churned"),
    term("two", "2024-06-01", **ANNUAL),
    term("two", "2024-09-01", subscription_id="two-2", renews_on="2025-04-01", arr=50.25),
    term("two", "2024-01-01", subscription_id="two-0", arr=900.0, ended_on="2024-12-01"),
    term("mixed", "2024-01-01", arr=500.0),
    term("mixed", "2024-06-01", subscription_id="mixed-2", **ANNUAL),
    term("future", "2025-04-01", **ANNUAL),
    term("priceless", "2024-06-01", **ANNUAL, arr=None),
]
NAMES = sorted({str(row["account_id"]) for row in TERMS} | {"nothing"})
CREATED = {"new": "2025-02-02", "old_enough": "2025-02-01"}


@pytest.fixture(scope="module")
def book(stand):
    tables = {
        "accounts": [account(name, CREATED.get(name, "2023-01-01")) for name in NAMES],
        "subscriptions": TERMS,
        "usage_events": [
            {"account_id": "annual", "occurred_at": datetime(2025, 2, 27, 15)},
            {"account_id": "annual", "occurred_at": datetime(2025, 1, 1)},
        ],
    }
    return stand(tables, [date(2025, 3, 1), date(2025, 3, 2)])


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("annual", "scored"),
        ("monthly", "scored"),
        ("open_ended", "scored"),
        ("new", "too_new"),
        ("noticed", "notice_given"),
        ("notice_later", "scored"),  # given after as_of
        ("late_1", "pending_renewal"),
        ("late_45", "pending_renewal"),
        ("late_46", "scored"),  # nothing happened for so long: it goes on
        ("late_monthly_7", "pending_renewal"),
        ("late_monthly_8", "scored"),
        ("awaiting", "pending_renewal"),
        ("awaited_long", "closed"),
        ("gone", "closed"),
        ("gone_today", "scored"),  # a date-only end is known at the next midnight
        ("nothing", "insufficient_data"),
        ("future", "insufficient_data"),  # terms not begun are not there yet
        ("two", "scored"),
    ],
)
def test_status(book, name, status):
    assert book.loc[(name, "2025-03-01"), "status"] == status


def test_every_status_is_reachable_and_described(book):
    # no room to grow is told beside the status: churn is asked all the same
    assert set(book["status"]) == set(STATUSES) - {"no_room_to_grow"}


def test_a_day_later(book):
    later = book.xs("2025-03-02", level="as_of")["status"]
    assert later["gone_today"] == "closed"
    assert later["notice_later"] == "notice_given"
    assert later["late_45"] == "scored"
    assert later["new"] == "scored"  # 28 days old


def test_nobody_is_lost(book):
    assert len(book) == 2 * len(NAMES)
    assert book.index.is_unique


def test_under_contract_or_month_to_month(book):
    under = book.xs("2025-03-01", level="as_of")["is_under_contract"]
    assert under[["annual", "two", "short_45", "priceless"]].all()
    assert not under[["monthly", "open_ended", "short_44", "gone", "late_1", "nothing"]].any()
    assert not under["mixed"]  # the largest subscription decides


def test_renewal_and_notice_days(book):
    rows = book.xs("2025-03-01", level="as_of")
    renews = day_index(date(2025, 6, 1))
    assert rows.loc["annual", ["renews_day", "notice_day"]].tolist() == [renews, renews - 90]
    assert rows.loc["two", "renews_day"] == renews  # of the largest one
    assert pd.isna(rows.loc["monthly", "renews_day"])
    assert rows.loc["short_45", "notice_day"] == day_index(date(2025, 3, 18))


def test_revenue_is_that_of_live_terms(book):
    arr = book.xs("2025-03-01", level="as_of")["arr"]
    assert arr["two"] == 150.25
    assert arr["mixed"] == 600.0
    assert arr[["gone", "nothing", "priceless"]].isna().all()


def test_days_since_activity(book):
    days = book["last_active_days"]
    assert days["annual", "2025-03-01"] == 1
    assert days["annual", "2025-03-02"] == 2
    assert pd.isna(days["two", "2025-03-01"])


def use(name: str, at: str) -> dict[str, object]:
    return {"account_id": name, "occurred_at": datetime.fromisoformat(at)}


def bill(name: str, on: str, amount: float) -> dict[str, object]:
    day = date.fromisoformat(on)
    return {"account_id": name, "invoice_id": f"{name}{on}", "issued_on": day, "amount": amount}


def test_without_contracts_activity_and_spend_decide(stand):
    tables = {
        "accounts": [
            account(name, "2025-02-10" if name == "young" else "2023-01-01")
            for name in ("busy", "edge", "silent", "never", "young", "credited")
        ],
        "usage_events": [
            use("busy", "2025-02-01T08:00"),
            use("edge", "2024-11-30T00:00"),  # 91 days before
            use("silent", "2024-11-29T00:00"),
            use("young", "2025-02-11T00:00"),
            use("credited", "2025-02-11T00:00"),
        ],
        "invoices": [
            bill("busy", "2025-02-28", 10.1),
            bill("busy", "2024-03-02", 20.2),  # known 363 days before
            bill("busy", "2024-03-01", 40.4),  # known 364 days before: outside
            bill("busy", "2025-03-01", 80.8),  # known tomorrow
            bill("credited", "2025-01-01", 10.0),
            bill("credited", "2025-01-02", -25.0),
        ],
    }
    rows = stand(tables, [date(2025, 3, 1)]).droplevel("as_of")
    assert rows["status"].to_dict() == {
        "busy": "scored",
        "edge": "scored",
        "silent": "closed",
        "never": "insufficient_data",
        "young": "too_new",
        "credited": "scored",
    }
    assert rows["arr"].to_dict() == dict.fromkeys(rows.index, 0.0) | {"busy": 30.3}
    assert not rows["is_under_contract"].any()
    assert rows[["renews_day", "notice_day"]].isna().all(axis=None)


def test_without_contracts_and_invoices_the_value_is_unknown(stand):
    tables = {"accounts": [account("a")], "usage_events": [use("a", "2025-02-11T00:00")]}
    rows = stand(tables, [date(2025, 3, 1)])
    assert rows["arr"].isna().all()
    assert rows["status"].tolist() == ["scored"]


def test_usage_says_who_is_active_before_tickets_and_invoices():
    everything = dict.fromkeys(TABLES)
    assert activity_table(everything) == "usage_events"
    assert activity_table({"invoices": 1, "support_tickets": 1}) == "support_tickets"
    assert activity_table({"accounts": 1}) is None


def test_no_account_is_lost_whatever_the_tables_hold(engine, make_tables, canonical):
    """Random ledgers, contradictions included: one row, one status, for every account known."""
    moments = [date(2024, 1, 1), date(2025, 1, 1), date(2025, 12, 31)]
    for seed in range(6):
        tables = make_tables(seed)
        daily = {
            name: to_daily(
                name,
                ibis.memtable(canonical(name, tables[name].to_dict("records"))),
                None,
                history=False,
                currency="EUR",
            )
            for name in tables
            if name in {"subscriptions", "usage_events"} - NOT_SIGNALS
        }
        grid = ibis.memtable(
            [
                {"entity_id": name, "as_of_day": day_index(moment), "tenure_days": 400}
                for name in (*tables["accounts"]["account_id"], "without")
                for moment in moments
            ]
        )
        rows = engine.execute(account_status_table(daily, grid, Cohort(), {}))
        assert list(rows.columns) == list(COLUMNS)
        assert len(rows) == 7 * len(moments)
        assert not rows.duplicated(["entity_id", "as_of_day"]).any()
        assert set(rows["status"]) <= set(STATUSES)
        assert (rows.loc[rows["entity_id"] == "without", "status"] == "insufficient_data").all()


ROOM = [
    term("full", "2024-01-01", seats=10, max_seats=10, plan="Top", product="a"),
    term("over", "2024-01-01", seats=12, max_seats=10, plan="top", product="a"),
    term("seats_free", "2024-01-01", seats=9, max_seats=10, plan="top", product="a"),
    term("no_limit", "2024-01-01", seats=10, max_seats=None, plan="top", product="a"),
    term("plan_above", "2024-01-01", seats=10, max_seats=10, plan="basic", product="a"),
    term("no_plan", "2024-01-01", seats=10, max_seats=10, plan=None, product="a"),
    term("one_open", "2024-01-01", seats=10, max_seats=10, plan="top", product="a"),
    term("one_open", "2024-01-01", subscription_id="2", seats=1, max_seats=5, plan="top"),
    term("both", "2024-01-01", seats=10, max_seats=10, plan="top", product="a"),
    term("both", "2024-01-01", subscription_id="2", seats=5, max_seats=5, plan="top", product="b"),
    term("ended", "2024-01-01", seats=10, max_seats=10, plan="top", ended_on="2025-01-01"),
    term("raised", "2024-01-01", seats=10, max_seats=10, plan="top", ended_on="2025-02-01"),
    term("raised", "2025-02-01", seats=10, max_seats=20, plan="top"),
]
ROOMS = {"accounts": [account(name) for name in sorted({row["account_id"] for row in ROOM})]}
ROOMS["subscriptions"] = [{"product": None} | row for row in ROOM]


@pytest.mark.parametrize(
    ("room", "without"),
    [
        (GrowthRoom(), {"full", "over", "plan_above", "no_plan", "both"}),
        (GrowthRoom(top_plans=("TOP",)), {"full", "over", "both"}),
        (GrowthRoom(top_plans=("top",), products=("a", "b")), {"both"}),
    ],
)
def test_who_has_no_room_to_grow(stand, room, without):
    found = stand(ROOMS, [date(2025, 3, 1)], room)
    assert set(found.index[~found["has_room"]].get_level_values(0)) == without
    assert (found.loc[sorted(without), "status"] == "scored").all()  # churn is asked all the same
    before = stand(ROOMS, [date(2025, 1, 15)], room)
    assert not before.loc[("raised", "2025-01-15"), "has_room"] or room.products


def test_without_a_limit_on_record_everybody_has_room(stand):
    bare = [{k: v for k, v in row.items() if k not in {"max_seats", "plan"}} for row in ROOM]
    tables = ROOMS | {"subscriptions": [{"product": None} | row for row in bare]}
    assert stand(tables, [date(2025, 3, 1)])["has_room"].all()
    with pytest.raises(ConfigError, match=r"but subscriptions has no plan"):
        stand(tables, [date(2025, 3, 1)], GrowthRoom(top_plans=("top",)))
