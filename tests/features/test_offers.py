"""What could be sold to whom, from the rows known at the book: golden cases by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.offers import product_shares
from features.online_vectors import build_vectors
from features.snapshots.grid import build_snapshots
from features.sources import load_sources

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = (
    "full",
    "partly",
    "beyond",
    "capped",
    "top",
    "owing",
    "dealing",
    "alone",
    "bare",
    "filling",
    "crowded",
)
TERM = {
    "product": "core", "started_on": "2025-06-01", "renews_on": "2026-06-01", "arr": 50_000,
    "currency": "EUR", "seats": 50, "max_seats": None, "plan": "basic", "ended_on": None,
    "end_reason": None, "notice_at": None, "notice_period_days": 30,
}  # fmt: skip


def _subscriptions():
    odd = {"capped": {"max_seats": 50}, "top": {"plan": "plus", "arr": 80_000}}
    rows = [
        TERM | {"account_id": name, "subscription_id": f"S-{name}"} | odd.get(name, {})
        for name in NAMES
        if name != "bare"
    ]
    more = TERM | {"product": "more", "seats": None, "arr": 9_000, "plan": None}
    return [*rows, *(more | {"account_id": n, "subscription_id": f"M-{n}"} for n in NAMES[:3])]


def _entitlements():
    rows = [
        # nearly full since 1 January: known from the 2nd on, 58 days before 1 March
        ("full", "core", "2025-12-01", 50, 30),
        ("full", "core", "2026-01-01", 50, 43),
        ("full", "core", "2026-02-01", 50, 47),
        # full in January, not any more
        ("partly", "core", "2026-01-01", 50, 50),
        ("partly", "core", "2026-02-01", 50, 40),
        ("beyond", "core", "2026-02-01", 50, 20),
        ("beyond", "more", "2026-02-01", 1000, 1150),
        # full for less than four weeks
        ("alone", "core", "2026-02-20", 50, 49),
        ("filling", "core", "2025-11-01", 50, 33),
        ("filling", "core", "2026-02-01", 50, 40),
    ]
    names = ("account_id", "product", "occurred_on", "limit", "used")
    told = [dict(zip(names, row, strict=True)) | {"known_at": f"{row[2]} 12:00"} for row in rows]
    # What arrived after the book is not known at it, whatever day it speaks of.
    late = ("full", "core", "2026-02-15", 50, 10)
    return [*told, dict(zip(names, late, strict=True)) | {"known_at": "2026-03-01 06:00"}]


def _deals():
    base = {"kind": "expansion", "currency": "EUR", "close_on": "2026-05-02"}
    rows = [
        ("dealing", "O-1", "2026-01-10 09:00", "discovery", 9_000),
        ("dealing", "O-1", "2026-02-10 09:00", "proposal", 12_000),
        ("full", "O-2", "2026-01-10 09:00", "discovery", 5_000),
        ("full", "O-2", "2026-02-10 09:00", "closed_lost", 5_000),
    ]
    names = ("account_id", "opportunity_id", "changed_at", "stage", "amount")
    return [base | dict(zip(names, row, strict=True)) for row in rows]


def _invoices():
    base = {"currency": "EUR", "amount": 1_200.0}
    rows = [
        ("owing", "I-1", "2026-01-18", "2026-02-17", None),
        # paid, and paid before the book
        ("full", "I-2", "2026-01-01", "2026-01-31", "2026-02-10"),
        ("alone", "I-3", "2026-02-20", "2026-03-20", None),
    ]
    names = ("account_id", "invoice_id", "issued_on", "due_on", "paid_on")
    return [base | dict(zip(names, row, strict=True)) for row in rows]


def _contacts():
    rows = [
        ("full", "U-1", "2025-06-01", "user", False, None),
        ("full", "U-2", "2025-06-01", "sponsor", True, None),
        ("partly", "U-3", "2025-06-01", "admin", True, "2026-01-15 12:00"),
        ("partly", "U-4", "2025-06-01", "finance", False, None),
    ]
    names = ("account_id", "contact_id", "created_at", "role", "is_champion", "left_at")
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def facts(company_of, tmp_path_factory):
    """The facts of each account as they lie in the served vectors."""
    files = {
        "accounts": [{"account_id": name, "created_at": "2025-06-01"} for name in NAMES],
        "subscriptions": _subscriptions(),
        "entitlements": _entitlements(),
        "opportunities": _deals(),
        "invoices": _invoices(),
        "contacts": _contacts(),
        "usage_events": [
            {"account_id": "full", "user_id": "U-2", "occurred_at": f"{day} 10:00"}
            for day in ("2026-02-03", "2026-02-20")
        ]
        + [
            {"account_id": "crowded", "user_id": f"C-{n}", "occurred_at": "2026-02-20 10:00"}
            for n in range(45)
        ],
    }
    workspace = company_of(
        tmp_path_factory.mktemp("candidates"),
        files,
        reporting_currency="EUR",
        grid={"every": "month", "start_on": "2026-01-01"},
        room={"products": ["core", "more"]},
    )
    loaded = load_sources(workspace, NOW)
    snapshots = build_snapshots(workspace, loaded, NOW)
    table = pq.read_table(build_vectors(workspace, loaded, snapshots) / "part.parquet")
    told = [json.loads(row) for row in table["facts"].to_pylist()]
    return dict(zip(table["entity_id"].to_pylist(), told, strict=True))


@pytest.fixture(scope="module")
def growth(facts):
    return {entity: told["growth"] for entity, told in facts.items()}


def test_products_are_held_in_shares_of_the_revenue(facts):
    assert facts["full"]["products"] == [
        {"product": "core", "share": pytest.approx(50 / 59)},
        {"product": "more", "share": pytest.approx(9 / 59)},
    ]
    assert facts["alone"]["products"] == [{"product": "core", "share": 1.0}]
    assert facts["bare"]["products"] == []


def test_shares_without_revenue_are_alike_and_unnamed_terms_keep_their_part():
    columns = ["entity_id", "product", "arr"]
    held = pd.DataFrame(
        [("a", "x", 0.0), ("a", "y", None), ("b", "", 30.0), ("b", "x", 10.0), ("c", "", 1.0)],
        columns=columns,
    )
    a, b, c, d = product_shares(held, ["a", "b", "c", "d"])
    assert [item["share"] for item in a] == [0.5, 0.5]
    assert b == [{"product": "x", "share": 0.25}]
    assert (c, d) == ([], [])
    assert product_shares(held.iloc[:0], ["a"]) == [[]]


def test_seats_that_are_nearly_full_say_how_full_and_for_how_long(growth):
    assert growth["full"]["kinds"]["seats"] == {
        "product": "core",
        "text": "47 of 50 seats used, nearly full for 8 weeks",
        "share": 0.94,
    }
    told = "49 of 50 seats used, nearly full for 1 week"
    assert growth["alone"]["kinds"]["seats"]["text"] == told


def test_seats_that_are_not_nearly_full_are_not_offered(growth):
    assert "seats" not in growth["partly"]["kinds"]
    assert "seats" not in growth["beyond"]["kinds"]


def test_seats_that_will_soon_be_full_are_offered(growth):
    """33 of 50 on 1 November, 40 on 1 February: at that pace the last ten are gone in 19 weeks."""
    assert growth["filling"]["kinds"]["seats"]["text"] == (
        "40 of 50 seats used, full in about 19 weeks at the current growth"
    )
    assert growth["filling"]["rules"] == []


def test_without_an_allowance_the_use_of_seats_speaks(growth):
    assert "seats" not in growth["owing"]["kinds"]
    assert growth["crowded"]["kinds"]["seats"] == {
        "product": "core",
        "text": "45 people active in 28 days on 50 seats",
        "share": 0.9,
    }


def test_units_beyond_the_allowance(growth):
    assert growth["beyond"]["kinds"]["usage"] == {
        "product": "more",
        "text": "1,150 of 1,000 units used, nearly full for 3 weeks",
        "share": 1.15,
    }


@pytest.mark.parametrize(
    ("account", "rules"),
    [("full", ["seats"]), ("partly", []), ("beyond", ["usage"]), ("alone", []), ("capped", [])],
)
def test_rules_name_a_kind_only_where_they_hold(growth, account, rules):
    assert growth[account]["rules"] == rules


def test_no_more_seats_where_the_terms_allow_none(growth):
    assert "seats" not in growth["capped"]["kinds"]


def test_the_next_plan_is_the_next_dearer_one(growth):
    tier = growth["full"]["kinds"]["tier"]
    assert tier == {"product": "core", "text": "on the plan basic; the next is plus"}
    assert "tier" not in growth["top"]["kinds"]


def test_the_product_it_lacks(growth):
    assert growth["alone"]["kinds"]["product"] == {
        "product": "more",
        "text": "without more; 3 of 10 accounts have it",
    }
    assert "product" not in growth["full"]["kinds"]


def test_what_is_owed_and_what_is_being_sold_stand_in_the_way(growth):
    assert growth["owing"]["blockers"] == [
        {"code": "overdue", "text": "an invoice over 1,200 EUR is 12 days overdue"}
    ]
    assert growth["dealing"]["blockers"] == [
        {
            "code": "open_opportunity",
            "text": "an expansion over 12,000 EUR is open (proposal), expected close 2026-05-02",
        }
    ]
    assert growth["full"]["blockers"] == growth["alone"]["blockers"] == []


def test_the_advocate_is_asked_and_nobody_who_left(growth):
    assert growth["full"]["contact"] == {
        "contact_id": "U-2",
        "role": "sponsor",
        "is_champion": True,
        "last_active_on": "2026-02-20",
    }
    assert growth["partly"]["contact"] == {
        "contact_id": "U-4",
        "role": "finance",
        "is_champion": False,
        "last_active_on": None,
    }
    assert growth["alone"]["contact"] is None


def test_an_account_without_terms_has_nothing_to_be_offered(growth):
    assert growth["bare"] == {"kinds": {}, "rules": [], "blockers": [], "contact": None}
