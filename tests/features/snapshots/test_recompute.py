"""A past day rebuilt: the same from what was known then, and not when a reader looks ahead."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

import features.snapshots.aggregate
from features.pipeline import build_features
from features.signals import support
from features.snapshots.grid import build_snapshots
from features.snapshots.recompute import (
    daily_tables_known_by,
    read_daily_tables,
    recomputed,
    stored_features,
    ticket_categories,
    without_cancellation_tickets,
)
from features.sources import load_sources
from features.tables.point_in_time import as_known
from training.checks.leakage.l01_backfill_mismatch import moved
from training.checks.source_evidence import gather_evidence

NOW = datetime(2025, 7, 1, tzinfo=UTC)
DAY = date(2025, 4, 1)
BEGAN = datetime(2024, 1, 1)


def tables():
    accounts, usage, tickets = [], [], []
    for i in range(12):
        name = f"A-{i:02d}"
        accounts.append({"account_id": name, "created_at": BEGAN + timedelta(days=i)})
        lasts = 545 if i % 3 else 470
        for age in range(0, lasts, 5 + i):
            happened = BEGAN + timedelta(days=i + age)
            late = timedelta(days=20 if age % 4 == 0 else 0)
            usage.append(
                {"account_id": name, "user_id": f"u{age % 3}", "occurred_at": happened,
                 "feature": "report", "quantity": 1 + age % 4, "known_at": happened + late}
            )  # fmt: skip
        for number, age in enumerate(range(30, 500, 40)):
            opened = BEGAN + timedelta(days=i + age)
            tickets.append(
                {"account_id": name, "ticket_id": f"{i}-{number}", "opened_at": opened,
                 "resolved_at": opened + timedelta(days=25), "priority": "normal",
                 "category": "cancellation" if number % 5 == 0 else "billing"}
            )  # fmt: skip
    return {"accounts": accounts, "usage_events": usage, "support_tickets": tickets}


@pytest.fixture
def company(company_of, tmp_path):
    return company_of(tmp_path, tables(), grid={"every": "month", "start_on": "2025-01-01"})


def compared(workspace):
    loaded = load_sources(workspace, NOW)
    snapshots = build_snapshots(workspace, loaded, NOW)
    daily = read_daily_tables(workspace, list(loaded.tables))
    before = stored_features(snapshots, DAY)
    again = recomputed(workspace, snapshots, daily_tables_known_by(daily, DAY), DAY)
    return before, again, daily, snapshots


def test_the_past_is_rebuilt_the_same_from_what_was_known_then(company):
    before, again, daily, _ = compared(company)
    assert sorted(before) == sorted(again)
    assert len(before) == 12
    assert not any(moved(before, again).values())
    late = daily["usage_events"]
    assert late.filter(late.known_day > late.day).count().execute() > 0, "some rows came late"


def test_a_reader_that_looks_ahead_is_seen(company, monkeypatch):
    def ahead(table, daily, grid, *, history=False):
        return as_known(table, daily.mutate(known_day=daily.day), grid, history=history)

    monkeypatch.setattr(features.snapshots.aggregate, "as_known", ahead)
    before, again, _, _ = compared(company)
    assert any(moved(before, again).values())


def test_no_feature_counts_tickets_about_leaving(company):
    before, _, daily, snapshots = compared(company)
    without = recomputed(
        company, snapshots, without_cancellation_tickets(daily), DAY, reading="support_tickets"
    )
    assert ticket_categories(daily)["cancellation"] > 0
    assert "tickets_84d" in without
    assert not any(moved(before[without.columns], without).values())


def test_a_feature_that_counts_them_is_seen(company, monkeypatch):
    listed = support.is_counted
    monkeypatch.setattr(support, "is_counted", lambda rows: rows.day.notnull())
    before, _, daily, snapshots = compared(company)
    monkeypatch.setattr("features.snapshots.recompute.is_counted", listed)
    without = recomputed(
        company, snapshots, without_cancellation_tickets(daily), DAY, reading="support_tickets"
    )
    assert moved(before[without.columns], without)["tickets_84d"]


def test_the_evidence_of_a_company(company):
    evidence = gather_evidence(company, build_features(company, NOW))
    assert evidence.stored.shape == evidence.rebuilt.shape
    assert evidence.leaving is not None
    assert evidence.leaving.n_tickets == 36
    assert evidence.leaving.lookalikes == {}
    assert evidence.sources["usage_events"].known_basis == "column"
    assert evidence.sources["support_tickets"].known_basis == "default"
    assert 0 < len(evidence.book) <= 12
    assert list(evidence.book) == list(evidence.stored[list(evidence.book)])
