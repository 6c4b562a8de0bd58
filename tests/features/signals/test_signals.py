"""Every feature of every family, worked by hand on one small account, and what the families say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from math import isnan, log
from typing import get_args

import ibis
import pandas as pd
import pytest

from features.days import day_index
from features.signals import FAMILIES, MODULES, feature_catalogue
from features.signals.declare import Aggregate, Derived, Family, Feature, Intermediate
from features.signals.support import CANCELLATION_CATEGORIES
from features.snapshots.aggregate import family_table
from features.snapshots.grid import NOT_SIGNALS
from features.tables.catalog import THEMES, Unit
from features.tables.daily_tables import daily_schema, to_daily
from features.tables.source_tables import TABLES
from features.text.columns import THEME_COLUMNS

AS_OF = date(2025, 3, 1)


def ago(days: int) -> datetime:
    """The noon that lies `days` whole days before as_of: its age there."""
    return datetime(2025, 2, 28, 12) - timedelta(days=days)


def on(days: int) -> date:
    """The date that is known `days` days before as_of."""
    return AS_OF - timedelta(days=days + 1)


def frame(name: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    """All columns of a table, with what the rows do not say left empty."""
    spec = TABLES[name]
    columns = {
        column: pd.Series([row.get(column) for row in rows], dtype=object)
        for column in spec.columns
    }
    happened = [row[spec.happened] for row in rows]
    if spec.columns[spec.happened].kind == "day":
        happened = [datetime(d.year, d.month, d.day, 23, 59, 59, 999999) for d in happened]
    known = [row.get("known_at", at) for row, at in zip(rows, happened, strict=True)]
    return pd.DataFrame({**columns, "known_at": pd.Series(known, dtype=object)})


def tables_of(**rows: list[dict[str, object]]) -> dict[str, pd.DataFrame]:
    return {name: frame(name, rows.get(name, [])) for name in TABLES if name not in NOT_SIGNALS}


def account(name: str, days: int) -> dict[str, object]:
    """An account that is `days` old at as_of."""
    return {"account_id": name, "created_at": datetime(2025, 3, 1) - timedelta(days=days)}


def used(user: str | None, days: int, quantity: float, feature: str, name: str = "a") -> dict:
    return {
        "account_id": name,
        "user_id": user,
        "occurred_at": ago(days),
        "quantity": quantity,
        "feature": feature,
        "product": "core" if feature < "f3" else "more",
    }


def ticket(number: int, opened: int, category: str | None, priority: str, **others: object) -> dict:
    named = {"account_id": "a", "ticket_id": f"t{number}", "opened_at": ago(opened)}
    return named | {"category": category, "priority": priority} | others


def answer(days: int, kind: str, score: float, comment: str | None = None, **more: float) -> dict:
    moment = {"account_id": "a", "responded_at": ago(days)}
    return moment | {"kind": kind, "score": score, "comment": comment} | more


def terms(name: str, started: date, **others: object) -> dict:
    return {"account_id": "a", "subscription_id": name, "started_on": started} | others


def bill(number: int, days: int, amount: float, **others: object) -> dict:
    named = {"account_id": "a", "invoice_id": f"i{number}", "issued_on": on(days), "amount": amount}
    return named | others


LEDGER = {
    "accounts": [account("a", 790)],
    "usage_events": [
        used("u1", 0, 10, "f1"),
        used("u1", 27, 4, "f1"),
        used("u2", 28, 6, "f2"),
        used("u2", 83, 2, "f3"),
        used("u3", 84, 5, "f4"),
        used("u1", 391, 7, "f1"),
        used("u9", 392, 999, "f9"),  # too old for every window
    ],
    "support_tickets": [
        ticket(1, 3, "bug", "Urgent", first_response_at=ago(2))
        | {"text": "This is BROKEN again", "sentiment": -0.75},
        ticket(2, 30, None, "low", first_response_at=ago(30), resolved_at=ago(20), csat=4.0)
        | {"reopened": False, "text": "thanks, we need an integration", "sentiment": 0.5},
        ticket(3, 90, "Billing", "high", resolved_at=ago(78), csat=2.0, reopened=True)
        | {"text": "The price went up and nobody answers", "sentiment": -0.25},
        # about leaving: in no feature at all
        ticket(4, 1, "Cancellation", "urgent", text="useless, we cancel", first_response_at=ago(1)),
        ticket(5, 40, "data_export", "urgent", resolved_at=ago(10), csat=1.0, reopened=True),
        ticket(6, 364, "bug", "urgent"),  # too old
    ],
    "survey_responses": [
        answer(200, "nps", 9, "lovely", sentiment=1.0),
        answer(10, "nps", 7, "so frustrating", sentiment=-0.5),
        answer(10, "nps", 3, "great, but the price; missing charts; we compare alternatives")
        | {"sentiment": 0.0},
        answer(181, "csat", 2, "awful", sentiment=-1.0),
        answer(182, "csat", 5),
        answer(20, "ces", 6, "not broken any more", sentiment=0.25),
        answer(20, "ces", 2),
        answer(364, "ces", 1),
    ],
    "subscriptions": [
        terms("s", date(2023, 6, 1), arr=100.0, seats=10, product="core")
        | {"ended_on": date(2024, 6, 1), "end_reason": "renewed"},
        terms("s", date(2024, 6, 1), arr=200.0, seats=20, product="core")
        | {"renews_on": date(2025, 6, 1), "notice_period_days": 90}
        | {"discount": 0.1, "escalator": 0.03, "auto_renew": True},
        terms("t", date(2024, 1, 1), arr=40.0, seats=4, product="more")
        | {"ended_on": date(2024, 10, 1), "end_reason": "changed"},
        terms("t", date(2024, 10, 1), arr=50.0, seats=4, product="more")
        | {"ended_on": date(2025, 2, 1), "end_reason": "churned"},
        terms("v", date(2024, 12, 1), arr=25.0, seats=5, product="core", discount=0.05)
        | {"auto_renew": False},
    ],
    "entitlements": [
        {"product": "core", "occurred_on": on(60), "limit": 100.0, "used": 50.0},
        {"product": "core", "occurred_on": on(30), "limit": 100.0, "used": 90.0},
        {"product": "more", "occurred_on": on(30), "limit": 10.0, "used": 2.0},
        {"product": "free", "occurred_on": on(30), "limit": 0.0, "used": 0.0},
    ],
    "opportunities": [
        {"opportunity_id": "o1", "kind": "expansion", "changed_at": ago(50), "stage": "Offer"},
        {"opportunity_id": "o2", "kind": "expansion", "changed_at": ago(50), "stage": "Offer"},
        {"opportunity_id": "o2", "kind": "expansion", "changed_at": ago(9), "stage": "Closed Lost"},
        {"opportunity_id": "o3", "kind": "renewal", "changed_at": ago(9), "stage": "Offer"},
        {"opportunity_id": "o4", "kind": "expansion", "changed_at": ago(364), "stage": "lost"},
    ],
    "invoices": [
        bill(1, 5, 30.0, due_on=on(5), paid_on=on(5), is_failed_charge=True),
        bill(2, 20, -20.0),
        bill(3, 60, 100.0, due_on=on(30)),
        bill(4, 100, 200.0, due_on=on(70), paid_on=on(65)),
        bill(5, 200, 50.0, due_on=on(170), paid_on=on(175)),  # before it was due
        bill(6, 440, 80.0, due_on=on(410), paid_on=on(400)),
    ],
    "touches": [
        {"touched_at": ago(2), "kind": "email", "initiated_by": "us"},
        {"touched_at": ago(12), "kind": "Call", "initiated_by": "account"}
        | {"text": "Very ANGRY", "sentiment": -1.0},
        {"touched_at": ago(83), "kind": "email", "initiated_by": "account"}
        | {"text": "all is well", "sentiment": 0.5},
        {"touched_at": ago(84), "kind": "meeting", "initiated_by": "account"}
        | {"text": "they spoke to a competitor", "sentiment": 0.25},
        {"touched_at": ago(182), "kind": "email", "initiated_by": "us"}
        | {"text": "awful", "sentiment": -1.0},
    ],
    "contacts": [
        {"contact_id": "c1", "created_at": ago(700), "is_champion": True, "left_at": ago(181)},
        {"contact_id": "c2", "created_at": ago(700), "is_champion": True, "left_at": ago(182)},
        {"contact_id": "c3", "created_at": ago(600), "is_champion": True},
        {"contact_id": "c4", "created_at": ago(50), "is_champion": False},
    ],
    "milestones": [
        {"milestone": "m1", "occurred_on": on(700), "due_on": on(690), "reached_on": on(684)},
        {"milestone": "m2", "occurred_on": on(600), "due_on": on(590), "reached_on": on(595)},
        {"milestone": "m3", "occurred_on": on(500), "due_on": on(490)},
        {"milestone": "m4", "occurred_on": on(10), "due_on": AS_OF},  # due today: not missed yet
    ],
}
LEDGER = {name: [{"account_id": "a"} | row for row in rows] for name, rows in LEDGER.items()}

GOLDEN = {
    # usage: 14 in 28 days, 22 in 84, 6 in the 28 before, 13 between 28 and 112, 7 a year ago
    "usage_per_week_28d": 14 / 4,
    "usage_per_week_84d": 22 / 12,
    "usage_change_28d": log(19 / 11),
    "usage_change_84d": log((3 * 14 + 15) / (13 + 15)),
    "usage_change_year": log(19 / 12),
    "usage_versus_peers_28d": 0.0,  # alone among its kind
    "active_days_28d": 2,
    "active_days_84d": 4,
    "active_days_change_28d": log(4 / 3),
    "days_since_last_use": 0,
    "usage_gap_ratio": (0 + 1) / (84 / (4 + 1)),
    "active_users_28d": 1,
    "active_users_84d": 2,
    "active_users_change_84d": log(3 / 2),
    "active_users_versus_peers_28d": 0.0,
    "stickiness_28d": 2 / 28,
    "top_user_share_28d": 1.0,
    "users_lost_84d": 1,
    "users_new_84d": 1,
    "features_used_28d": 1,
    "features_used_84d": 3,
    "features_used_change_84d": log(4 / 2),
    "top_feature_share_84d": 14 / 22,
    "products_used_84d": 2,
    # support: tickets 1, 2 and 3 count
    "tickets_28d": 1,
    "tickets_84d": 2,
    "tickets_change_84d": log(3 / 2),
    "tickets_per_month_364d": 3 / 52 * 4,
    "tickets_versus_peers_84d": 0.0,
    "tickets_fell_silent_28d": 0.0,
    "urgent_tickets_84d": 1,
    "urgent_share_364d": 2 / 3,
    "tickets_open": 1,
    "oldest_open_ticket_days": 3,
    "resolution_days_84d": (10 + 12) / 2,
    "first_response_days_84d": (1 + 0) / 2,
    "reopened_share_364d": 1 / 2,
    "ticket_csat_84d": 4.0,
    "money_tickets_share_364d": 1 / 2,  # the category of one is not known
    "days_since_last_ticket": 3,
    "tickets_per_user_84d": 2 / (2 + 1),
    # sentiment
    "nps_last": 3,
    "nps_mean_364d": 19 / 3,
    "nps_change_182d": 5 - 9,
    "nps_age_days": 10,
    "nps_answers_364d": 3,
    "nps_detractors_364d": 1,
    "csat_mean_182d": 2.0,
    "ces_last": 2,
    "ces_mean_364d": 4.0,
    # texts
    "ticket_sentiment_84d": (-0.75 + 0.5) / 2,
    "unhappy_tickets_share_84d": 1 / 2,
    "defect_tickets_84d": 1,
    "service_complaints_182d": 1,
    "comment_sentiment_182d": (-0.5 + 0.0 - 1.0 + 0.25) / 4,
    "unhappy_comments_182d": 2,
    "touch_sentiment_84d": (-1.0 + 0.5) / 2,
    "unhappy_touches_share_182d": 1 / 3,
    # commercial: 200 + 25 now; 100 + 40 on 2024-03-02; 200 + 50 on 2024-11-30
    "arr": 225.0,
    "arr_change_364d": log(325 / 240),
    "arr_change_91d": log(325 / 350),
    "products_subscribed": 1,
    "is_under_contract": 1,
    "days_to_renewal": 92,
    "days_to_notice_deadline": 2,
    "term_length_days": 365,
    "notice_period_days": 90,
    "renewals_so_far": 1,
    "terms_changed_182d": 1,
    "subscriptions_lost_364d": 1,
    "discount": 0.1,
    "signed_uplift": 0.03,
    "seats": 25,
    "seats_change_182d": log(26 / 21),  # of the product with most: 20 seats before, 25 now
    "seat_use_28d": 1 / 25,
    "cost_per_use_84d": 225 * 84 / 364 / 23,
    "entitlement_used": 92 / 110,
    "entitlement_fullest": 0.9,
    "entitlements_nearly_full": 1,
    "expansion_deals_open": 1,
    "expansion_deals_lost_364d": 1,
    # payments: −20 + 100 in 84 days, 200 in the 84 before, 80 a year ago; charges 350; the charge
    # of 30 that failed is no spend
    "spend_per_week_84d": 80 / 12,
    "spend_per_week_364d": 330 / 52,
    "spend_change_84d": log(130 / 250),
    "spend_change_year": log(130 / 130),
    "spend_versus_peers_84d": 0.0,
    "invoices_84d": 1,
    "invoices_364d": 3,
    "days_since_last_invoice": 60,
    "invoice_gap_ratio": 60 / (364 / 4),
    "invoice_amount_364d": 350 / 3,
    "credit_share_364d": 20 / 350,
    "invoices_overdue": 1,
    "days_overdue": 31,  # due on the date that ended 30 days ago: 31 midnights since it began
    "days_paid_late_364d": (0 + 5 + 0) / 3,  # what is unpaid is in `invoices_overdue`
    "failed_charges_84d": 1,
    # relationship
    "contacts_from_them_84d": 2,
    "contacts_from_them_change_84d": log(3 / 2),
    "meetings_84d": 1,
    "days_since_meeting": 12,
    "days_since_they_reached_out": 12,
    "contacts_known": 2,
    "contacts_left_182d": 1,
    "contacts_left_share": 1 / 2,
    "days_since_contact_left": 181,
    # journey
    "tenure_days": 790,
    "is_first_year": 0,
    "steps_reached_share": 2 / 4,
    "steps_missed": 1,
    "days_step_missed": 491,
    "steps_days_late": (6 + 0) / 2,
    "days_since_step": 595,
}
WITH_HISTORY = {"auto_renews": 0, "champions_known": 1, "champion_left_364d": 1}


@pytest.fixture(scope="module")
def found(features_at) -> pd.Series:
    return features_at(tables_of(**LEDGER), AS_OF).loc["a"]


def test_every_feature_is_worked_by_hand():
    assert {item.name for item in feature_catalogue()} == set(GOLDEN) | set(WITH_HISTORY)


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden(found, name):
    assert found[name] == pytest.approx(GOLDEN[name], abs=1e-6)


def test_golden_of_attributes_with_history(canonical):
    daily = {
        name: to_daily(
            name, ibis.memtable(canonical(name, LEDGER[name])), None, history=True, currency="EUR"
        )
        for name in ("contacts", "subscriptions")
    }
    grid = ibis.memtable([{"entity_id": "a", "as_of_day": day_index(AS_OF), "tenure_days": 790}])
    history = dict.fromkeys(daily, True)
    found = {}
    for family in FAMILIES:
        alone = replace(family, columns=[c for c in family.columns if c.name in WITH_HISTORY])
        if alone.columns:
            found |= family_table(alone, daily, grid, history).to_pyarrow().to_pylist()[0]
    assert {name: found[name] for name in WITH_HISTORY} == WITH_HISTORY


def test_nothing_else_is_computed(found):
    assert set(found.index) == set(GOLDEN)


UNKNOWN_WITHOUT_ROWS = {
    "usage_gap_ratio", "invoice_gap_ratio", "seat_use_28d", "steps_reached_share",
    "contacts_left_share", "credit_share_364d", "unhappy_tickets_share_84d", "nps_change_182d",
    "unhappy_touches_share_182d",
}  # fmt: skip


def test_an_account_without_any_row_has_zeros_for_counts_and_unknown_otherwise(features_at):
    row = features_at(tables_of(accounts=[account("a", 790)]), AS_OF).loc["a"]
    declared = {item.name: item.value for family in FAMILIES for item in family.features}
    for name, value in row.items():
        plain = getattr(declared[name], "empty", 0.0)
        if plain is None or name in UNKNOWN_WITHOUT_ROWS:
            assert isnan(value), name
        elif name != "tenure_days" and not name.endswith(("_peers_28d", "_peers_84d")):
            assert value == 0, name
            assert str(value) == "0.0", name  # never minus zero


def test_the_young_are_measured_over_their_own_life(features_at):
    tables = tables_of(
        accounts=[account("weeks", 14), account("days", 3), account("a", 790)],
        usage_events=[used("u", 1, 6, "f1", "weeks"), used("u", 1, 6, "f1", "days")],
        support_tickets=[ticket(1, 1, None, "low") | {"account_id": "weeks"}],
        invoices=[bill(1, 1, 6.0) | {"account_id": "weeks"}],
    )
    rows = features_at(tables, AS_OF)
    assert rows.loc["weeks", "usage_per_week_28d"] == 6 / 2
    assert rows.loc["days", "usage_per_week_28d"] == 6.0  # at least one week
    assert rows.loc["weeks", "tickets_per_month_364d"] == 1 / 2 * 4
    assert rows.loc["weeks", "spend_per_week_84d"] == 6 / 2
    of_answers = ("nps", "ticket_sentiment")  # unknown without answers and texts
    changes = [name for name in rows if "_change_" in name and not name.startswith(of_answers)]
    assert len(changes) >= 12
    assert rows.loc[["weeks", "days"], changes].isna().all(axis=None)
    assert rows.loc["a", changes].notna().all()


def test_peers_are_accounts_of_like_age_that_still_use_it(features_at):
    ages = {"m1": 400, "m2": 700, "silent": 500, "young": 182, "old": 729}
    use = {"m1": 8, "m2": 16, "young": 40, "old": 400}  # over four weeks
    tables = tables_of(
        accounts=[account(name, days) for name, days in ages.items()],
        usage_events=[used("u", 1, value, "f1", name) for name, value in use.items()],
    )
    against = features_at(tables, AS_OF)["usage_versus_peers_28d"]
    assert against["m1"] == pytest.approx(log((2 + 2) / (3 + 2)))
    assert against["m2"] == pytest.approx(log((4 + 2) / (3 + 2)))
    assert against["silent"] == pytest.approx(log((0 + 2) / (3 + 2)))
    assert against[["young", "old"]].tolist() == [0.0, 0.0]


def test_events_without_a_user_are_used_but_nobody(features_at):
    tables = tables_of(
        accounts=[account("a", 790)],
        usage_events=[used(None, 1, 30, "f1"), used("u1", 2, 6, "f1"), used("u2", 2, 4, "f2")],
    )
    row = features_at(tables, AS_OF).loc["a"]
    assert row["usage_per_week_28d"] == 10.0
    assert row["active_users_28d"] == 2
    assert row["top_user_share_28d"] == 0.6
    assert row["stickiness_28d"] == pytest.approx(2 / (2 * 28))


def test_tickets_about_leaving_move_no_feature(found, features_at):
    more = [
        ticket(1000 * days + place, days, category.title(), "urgent", text="terrible", csat=1.0)
        | {"resolved_at": ago(0) if days % 2 else None, "first_response_at": ago(0)}
        | {"reopened": True}
        for days in (0, 5, 30, 83, 84, 150, 363)
        for place, category in enumerate(CANCELLATION_CATEGORIES)
    ]
    ledger = LEDGER | {"support_tickets": LEDGER["support_tickets"] + more}
    pd.testing.assert_series_equal(features_at(tables_of(**ledger), AS_OF).loc["a"], found)


def test_silence_after_many_tickets(features_at):
    tickets = [ticket(k, days, "bug", "low") for k, days in enumerate((84, 120, 167))]
    tables = tables_of(accounts=[account("a", 790)], support_tickets=tickets)
    assert features_at(tables, AS_OF).loc["a", "tickets_fell_silent_28d"] == 1.0


def test_a_ticket_opened_on_a_date_alone_is_never_resolved_in_less_than_no_time(features_at):
    opened = {"opened_at": datetime(2025, 2, 10, 23, 59, 59, 999999)}
    answered = {"first_response_at": datetime(2025, 2, 10), "resolved_at": datetime(2025, 2, 10)}
    tables = tables_of(
        accounts=[account("a", 790)],
        support_tickets=[ticket(1, 1, "bug", "low") | opened | answered],
    )
    row = features_at(tables, AS_OF).loc["a"]
    assert row["resolution_days_84d"] == row["first_response_days_84d"] == 0.0


def test_the_catalogue_is_complete_and_in_order():
    items = feature_catalogue()
    features = [feature for family in FAMILIES for feature in family.features]
    assert [item.name for item in items] == [feature.name for feature in features]
    files = [module.__name__.rsplit(".", 1)[-1] for module in MODULES]
    assert [family.name for family in FAMILIES] == files
    for item in items:
        assert item.label.strip() == item.label != "", item.name
        assert item.theme in THEMES, item.name
        assert item.unit in get_args(Unit), item.name
        assert item.theme != "context" or not item.is_actionable, item.name
        assert item.churn_sign in {-1, 0, 1}, item.name


def test_names_units_and_windows_agree():
    for item in feature_catalogue():
        window = re.search(r"_(\d+)d$", item.name)
        if window:
            assert item.window_days == int(window.group(1)), item.name
        assert item.name.startswith("is_") <= (item.unit == "flag"), item.name
        assert ("_change_" in item.name) <= (item.unit in {"log_ratio", "score"}), item.name
        assert ("_per_week_" in item.name) <= (item.unit in {"count", "money"}), item.name
        assert item.name.startswith("days_") <= (item.unit == "days"), item.name


def daily_columns() -> dict[str, set[str]]:
    return {name: set(daily_schema(name)) for name in TABLES if name not in NOT_SIGNALS}


OF_USERS = {
    "active_users_28d", "active_users_84d", "active_users_change_84d", "users_lost_84d",
    "active_users_versus_peers_28d", "stickiness_28d", "top_user_share_28d", "users_new_84d",
    "tickets_per_user_84d", "seat_use_28d",
}  # fmt: skip
OF_SURVEYS = {"ces_last", "ces_mean_364d"} | {
    "nps_last", "nps_mean_364d", "nps_change_182d", "nps_age_days", "nps_answers_364d",
    "nps_detractors_364d", "csat_mean_182d",
}  # fmt: skip
OF_COMMENTS = {"comment_sentiment_182d", "unhappy_comments_182d"}
OF_TICKET_SENTIMENT = {
    "ticket_sentiment_84d",
    "unhappy_tickets_share_84d", "service_complaints_182d",
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "column", "dropped"),
    [
        ("usage_events", "product", {"products_used_84d"}),
        ("usage_events", "user_id", OF_USERS),
        ("support_tickets", "priority", {"urgent_tickets_84d", "urgent_share_364d"}),
        ("support_tickets", "csat", {"ticket_csat_84d"}),
        ("support_tickets", "sentiment", OF_TICKET_SENTIMENT),
        ("support_tickets", "about_bug", {"defect_tickets_84d"}),
        ("survey_responses", None, OF_SURVEYS | OF_COMMENTS),
        ("invoices", "due_day", {"invoices_overdue", "days_overdue", "days_paid_late_364d"}),
        ("invoices", "is_failed_charge", {"failed_charges_84d"}),
        ("subscriptions", "seats", {"seats", "seats_change_182d", "seat_use_28d"}),
        ("subscriptions", "arr", {"arr", "arr_change_364d", "arr_change_91d", "cost_per_use_84d"}),
        ("contacts", "is_champion", {"champions_known", "champion_left_364d"}),
        ("milestones", None, {"steps_reached_share", "steps_missed", "days_step_missed"}
         | {"steps_days_late", "days_since_step"}),
        ("accounts", "name", set()),
    ],
)  # fmt: skip
def test_a_missing_column_drops_exactly_what_it_supports(table, column, dropped):
    columns = daily_columns()
    if column is None:
        del columns[table]
    else:
        columns[table].remove(column)
    every = {item.name for item in feature_catalogue()}
    left = {f.name for family in FAMILIES for f in family.available(columns).features}
    assert every - left == dropped
    lacks = {name: words for family in FAMILIES for name, words in family.lacking(columns).items()}
    assert {name for name in lacks if name in every} == dropped
    assert all(words and words[0].startswith(table) for words in lacks.values())


def test_what_is_lacking_is_told_in_the_words_of_the_source():
    columns = daily_columns()
    columns["invoices"] -= {"paid_day"}
    columns["contacts"] -= {"is_champion"}
    lacks = {name: words for family in FAMILIES for name, words in family.lacking(columns).items()}
    assert lacks["invoices_overdue"] == ["invoices.paid_on"]
    assert lacks["champions_known"] == ["contacts.is_champion with history"]


def test_tickets_without_category_count_and_satisfaction_without_resolution_does_not(canonical):
    opened = {"account_id": "a", "ticket_id": "t", "opened_at": ago(3), "csat": 1.0}
    table = to_daily(
        "support_tickets",
        ibis.memtable(canonical("support_tickets", [opened])),
        None,
        history=False,
        currency="EUR",
    )
    [family] = [family for family in FAMILIES if family.name == "support"]
    names = {f.name for f in family.available({"support_tickets": set(table.columns)}).features}
    assert "tickets_28d" in names
    assert not names & {"ticket_csat_84d", "tickets_open", "urgent_tickets_84d"}


def test_mistakes_in_a_declaration_are_refused():
    words = ("label", "Meaning.", "count")
    count = Aggregate("touches", lambda r: r.count())
    with pytest.raises(ValueError, match="twice"):
        Family("f", [Intermediate("a", count), Feature("a", count, *words, "support")])
    with pytest.raises(ValueError, match="unknown themes"):
        Family("f", [Feature("a", count, *words, "mood")])


def test_a_value_computed_from_what_is_lacking_is_lacking_too():
    words = ("label", "Meaning.", "count", "support")
    family = Family(
        "f",
        [
            Intermediate("_n", Aggregate("touches", lambda r: r.count())),
            Intermediate("_twice", Derived(lambda o: o["_n"] * 2)),
            Feature("thrice", Derived(lambda o: o["_twice"] + o["_n"]), *words),
            Feature("age", Derived(lambda o: o.tenure_days), *words),
        ],
    )
    assert [f.name for f in family.available({}).features] == ["age"]
    assert family.lacking({})["thrice"] == ["touches"]
    assert family.lacking({"touches": set(daily_schema("touches"))}) == {}


def test_without_texts_only_what_they_support_is_missing_and_own_scores_need_no_text():
    columns = daily_columns()
    for flag in THEME_COLUMNS.values():
        columns["survey_responses"].remove(flag)  # scored by the company, without the comments
    lacks = {name: words for family in FAMILIES for name, words in family.lacking(columns).items()}
    assert set(lacks) == set()
    columns["survey_responses"].remove("sentiment")
    lacks = {name: words for family in FAMILIES for name, words in family.lacking(columns).items()}
    assert set(lacks) == OF_COMMENTS
    assert all(words == ["survey_responses.comment"] for words in lacks.values())


def test_texts_of_an_unread_language_are_left_out_and_not_neutral(features_at):
    tables = tables_of(
        accounts=[account("a", 790)],
        support_tickets=[
            ticket(1, 3, "bug", "low", text="エクスポートが途中で止まります"),
            ticket(2, 3, "bug", "low", text="Exporten stannar halvvägs varje gång"),
            ticket(3, 3, "bug", "low"),
        ],
    )
    row = features_at(tables, AS_OF).loc["a"]
    assert row["tickets_28d"] == 3
    assert isnan(row["ticket_sentiment_84d"])
    assert isnan(row["unhappy_tickets_share_84d"])
    written = [ticket(4, 3, "bug", "low", text="This is unusable")]
    more = tables_of(accounts=[account("a", 790)], support_tickets=written)
    row = features_at(more, AS_OF).loc["a"]
    assert row["ticket_sentiment_84d"] < -0.5
    assert row["unhappy_tickets_share_84d"] == 1


def test_a_text_counts_from_the_moment_its_row_is_known(features_at):
    late = ticket(1, 30, "bug", "low", text="This is unusable", known_at=ago(2))
    tables = tables_of(accounts=[account("a", 790)], support_tickets=[late])
    before = features_at(tables, AS_OF - timedelta(days=3)).loc["a"]
    assert isnan(before["ticket_sentiment_84d"])
    assert features_at(tables, AS_OF).loc["a", "ticket_sentiment_84d"] < -0.5
