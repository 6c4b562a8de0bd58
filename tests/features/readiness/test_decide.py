"""Every rule of readiness: a planted fault gives its finding, ordinary data gives none."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from configs.schema.company import parse_company
from features.quality.report import Issue, QualityReport
from features.readiness.decide import decide
from features.readiness.measure import TableState, usual_gap
from features.readiness.result import Baseline

TARGETS = {
    "churn": {"outcome": "churn", "observed_in": "subscriptions"},
    "expansion": {"outcome": "expansion", "observed_in": "subscriptions"},
}
USAGE = TableState(
    rows=1_000,
    rows_read=1_000,
    columns=("account_id", "occurred_at", "feature"),
    last_day="2026-03-02",
    silent_days=0,
    usual_gap_days=1,
    day_rows=100,
    usual_rows=100.0,
    missing={"feature": 0.1},
    missing_recent={"feature": 0.1},
    missing_before={"feature": 0.1},
)
ACCOUNTS = TableState(rows=100, rows_read=100, columns=("account_id", "created_at"))
SURVEYS = replace(USAGE, rows=50, columns=("account_id", "score"))
TODAY = {"accounts": ACCOUNTS, "usage_events": USAGE, "survey_responses": SURVEYS}


def company(**changes):
    return parse_company({"name": "c", "targets": TARGETS, **changes}, where="test")


def quality(*issues: Issue) -> QualityReport:
    return QualityReport("c", "2026-03-02", issues, {}, {})


BASELINE = Baseline(tables=TODAY)


def decided(tables=None, *, baseline=BASELINE, issues=(), **changes):
    today = {**TODAY, **(tables or {})}
    today = {name: state for name, state in today.items() if state is not None}
    return decide(company(**changes), today, quality(*issues), baseline)


def codes(readiness) -> list[tuple[str, str, str]]:
    return [(item.code, item.table, item.level) for item in readiness.findings]


def test_ordinary_data_is_ready_for_every_target():
    found = decided()
    assert found.level == "ready"
    assert {item.target: item.level for item in found.targets} == {
        "churn": "ready", "expansion": "ready",
    }  # fmt: skip


def test_the_first_refresh_has_nothing_to_compare_with():
    assert decided(baseline=None).level == "ready"


@pytest.mark.parametrize(
    ("name", "change", "code", "level"),
    [
        ("usage_events", {"silent_days": 1}, "late", "not_ready"),
        ("survey_responses", {"silent_days": 1}, "late", "degraded"),
        ("usage_events", {"day_rows": 19}, "few_rows", "not_ready"),
        ("usage_events", {"missing_recent": {"feature": 0.5}}, "missing_values", "not_ready"),
        ("survey_responses", {"missing": {"feature": 0.5}}, "missing_values", "degraded"),
        ("survey_responses", {"columns": ("account_id",)}, "column_gone", "not_ready"),
        (
            "usage_events",
            {"rows_read": 1_100, "set_aside": {"unparsable:occurred_at": 6}},
            "parse_failures",
            "not_ready",
        ),
        ("accounts", {"rows": 89}, "accounts_lost", "not_ready"),
    ],
)
def test_a_planted_fault_is_found_with_its_remedy(name, change, code, level):
    found = decided({name: replace(TODAY[name], **change)})
    assert codes(found) == [(code, name, level)]
    assert found.level == level
    assert name in found.reasons
    assert found.findings[0].to_do


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("usage_events", {"day_rows": 20}),
        ("usage_events", {"day_rows": 0, "usual_rows": 19.0}),
        ("usage_events", {"missing_recent": {"feature": 0.39}}),
        ("usage_events", {"rows_read": 1_100, "set_aside": {"unparsable:occurred_at": 5}}),
        ("usage_events", {"rows_read": 1_100, "set_aside": {"unknown_account": 90}}),
        ("accounts", {"rows": 90}),
        ("accounts", {"silent_days": 90, "usual_gap_days": 3}),
    ],
)
def test_what_is_just_within_the_limits_is_ready(name, change):
    assert decided({name: replace(TODAY[name], **change)}).level == "ready"


def test_a_table_on_working_days_is_late_only_after_its_own_gap():
    usage = replace(USAGE, usual_gap_days=3)
    assert decided({"usage_events": replace(usage, silent_days=2)}).level == "ready"
    assert decided({"usage_events": replace(usage, silent_days=3)}).level == "not_ready"


def test_a_delivery_that_always_comes_two_days_later_is_not_late():
    before = Baseline(tables=TODAY, lags={"usage_events": [2, 2, 3]})
    late = replace(USAGE, silent_days=2)
    assert decided({"usage_events": late}, baseline=before).level == "ready"
    late = replace(USAGE, silent_days=3)
    assert decided({"usage_events": late}, baseline=before).level == "not_ready"


def test_a_table_that_is_gone_blocks_every_target():
    assert codes(decided({"survey_responses": None})) == [
        ("table_gone", "survey_responses", "not_ready")
    ]


def test_a_currency_without_a_rate_blocks_the_targets_about_revenue_alone():
    issue = Issue("currency_without_rate", "subscriptions", 20, 0.2, "CHF", ())
    before = Baseline(tables={**TODAY, "subscriptions": ACCOUNTS})
    found = decided({"subscriptions": ACCOUNTS}, baseline=before, issues=[issue])
    assert {item.target: item.level for item in found.targets} == {
        "churn": "degraded", "expansion": "not_ready",
    }  # fmt: skip
    known = replace(before, unconverted={"subscriptions": 0.18})
    same = decided({"subscriptions": ACCOUNTS}, baseline=known, issues=[issue])
    assert same.level == "ready"


def test_settings_name_the_needed_and_the_ignored_tables():
    late = {"survey_responses": replace(SURVEYS, silent_days=1)}
    needed = {"needed": ["survey_responses"]}
    assert decided(late, refresh=needed).level == "not_ready"
    assert decided(late, refresh={"ignore": ["survey_responses"]}).level == "ready"
    assert decided(late, refresh={"late_days": 1}).level == "ready"


def test_a_pinned_clock_is_always_ready():
    found = decided({"usage_events": replace(USAGE, silent_days=900)}, now="2026-03-02")
    assert (found.level, found.is_pinned, found.findings) == ("ready", True, ())


def test_the_rhythm_ignores_one_long_pause_in_half_a_year():
    days = [date(2026, 1, 1) + timedelta(days=i) for i in range(182)]
    assert usual_gap(days[:90] + days[92:]) == 1
    weekdays = [day for day in days if day.weekday() < 5]
    assert usual_gap(weekdays) == 3


def test_a_baseline_survives_its_file():
    baseline = Baseline().after(TODAY, {"subscriptions": 0.25})
    assert Baseline.from_dict(baseline.as_dict()) == baseline
    assert baseline.lags == {"usage_events": [0], "survey_responses": [0]}
