"""Readiness of each target follows from its issues."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from features.quality import QualityReport, readiness
from features.quality.report import Issue
from features.quality.table_values import PATH, Gain, TableValue, table_values, value_words

CHURN = ("adoption and breadth signals", "outcomes of churn")


def report(*issues, gaps=None):
    return QualityReport(
        "small", "2026-06-29T00:00:00+00:00", tuple(issues), {}, gaps or {},
        targets=("churn", "expansion"),
    )  # fmt: skip


def statuses(*issues):
    return {item.target: item.status for item in readiness(report(*issues))}


def test_without_an_issue_every_target_is_ready():
    assert statuses() == {"churn": "ready", "expansion": "ready"}


@pytest.mark.parametrize(
    ("code", "share", "affects", "expected"),
    [
        # errors in outcomes: from 1 % degraded, from 5 % not ready
        ("unknown_accounts", 0.005, CHURN, ("ready", "ready")),
        ("unknown_accounts", 0.02, CHURN, ("degraded", "degraded")),
        ("unknown_accounts", 0.06, CHURN, ("not_ready", "degraded")),
        # errors in signals degrade only
        ("unit_change", 0.3, ("adoption and breadth signals",), ("degraded", "degraded")),
        # errors in accounts concern every target
        ("accounts_gone", 0.06, ("every score",), ("not_ready", "not_ready")),
        # an error without a share counts as a large one
        ("late_partition", None, CHURN, ("not_ready", "degraded")),
        # warnings degrade from 10 %
        ("late_arrivals", 0.05, CHURN, ("ready", "ready")),
        ("late_arrivals", 0.2, CHURN, ("degraded", "degraded")),
        ("missing_accounts", 0.05, ("support signals",), ("not_ready", "not_ready")),
        ("absent_tables", None, ("every score",), ("ready", "ready")),
    ],
)
def test_status_follows_severity_share_and_table(code, share, affects, expected):
    issue = Issue(code, "usage_events", 3, share, "3 rows", affects)
    assert tuple(statuses(issue).values()) == expected


def test_reasons_name_the_issue_and_what_to_do():
    issue = Issue("unknown_accounts", "usage_events", 3, 0.3, "3 rows", CHURN, "map the ids")
    churn = readiness(report(issue))[0]
    assert churn.words == "churn: not ready"
    assert churn.reasons[0].words == "rows of accounts that do not exist: 3 rows"
    assert churn.reasons[0].to_do == "map the ids"
    plain = json.loads(json.dumps(report(issue).as_dict()))["readiness"]
    assert [item["status"] for item in plain] == ["not_ready", "degraded"]
    assert plain[0]["reasons"][0]["stops"] is True


def test_the_terminal_view_shows_readiness_and_values_of_missing_tables():
    issue = Issue("unknown_accounts", "usage_events", 3, 0.3, "3 rows", CHURN)
    console = Console(file=io.StringIO(), width=200)
    report(issue, gaps={"usage_events": "no adoption or breadth signals"}).render(console)
    text = console.file.getvalue()
    assert "churn: not ready" in text
    assert "expansion: degraded" in text
    assert "on the simulated company it added" in text
    assert "another company can differ" in text


class TestTableValues:
    def test_usage_adds_to_the_prediction_of_churn(self):
        churn = next(item for item in table_values()["usage_events"] if item.target == "churn")
        assert 0 < churn.auc.low < churn.auc.value < churn.auc.high < 0.3
        assert churn.features > 10

    def test_every_interval_holds_its_value(self):
        for items in table_values().values():
            for item in items:
                assert isinstance(item, TableValue)
                for gain in (item.auc, item.arr_capture):
                    assert gain.low <= gain.value <= gain.high

    def test_the_file_names_the_size_of_the_company(self):
        plain = json.loads(PATH.read_text(encoding="utf-8"))
        assert plain["version"] == 1
        assert plain["accounts"] >= 1_000

    def test_words(self):
        assert Gain(-0.0031, -0.008, 0.003).words == "0.00 (-0.01 to 0.00)"
        assert value_words("usage_events").startswith("on the simulated company it added 0.0")
        assert value_words("outcomes") == ""
