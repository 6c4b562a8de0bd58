"""Five raw exports of 400 accounts: proposed without a question, with the right revenue."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml

from configs.runtime.state_directory import State
from configs.schema.company import parse_company
from configs.schema.workspace import Environment, Workspace
from features.quality import company_revenue
from features.sources import load_sources
from features.sources.proposal import company_yaml, propose

LOSSES = {
    "2025 Q1": (8, 72_480), "2025 Q2": (4, 36_600), "2025 Q3": (12, 95_400),
    "2025 Q4": (17, 100_800), "2026 Q1": (13, 59_520), "2026 Q2": (15, 92_520),
    "2026 Q3": (21, 122_880),
}  # fmt: skip
"""Accounts lost and their ARR by quarter of the effective end, computed from the files with pandas
(README of the folder)."""


def test_the_proposal_gives_the_revenue_that_finance_has(public_data, tmp_path):
    folder = public_data / "raw_exports"
    proposal = propose(folder, datetime(2026, 11, 20, tzinfo=UTC))
    assert proposal.unused == {}
    assert proposal.questions() == {}
    links = {
        draft.table: [(choice.value, matches, by) for choice, matches, by in draft.links]
        for draft in proposal.drafts
    }
    assert links == {
        "accounts": [],
        "subscriptions": [("Customer ID", "Stripe_Customer_ID__c", "value")],
        "usage_events": [("context_group_id", "Id", "value"), ("user_id", "Website", "domain")],
        "support_tickets": [("Organization", "Name", "name")],
        "survey_responses": [("Person Email", "Website", "domain")],
    }
    assert proposal.settings["now"].value == "2026-10-31T00:00:00Z"

    company = parse_company(yaml.safe_load(company_yaml(proposal)), where="proposal")
    workspace = Workspace(company, tmp_path, folder, State(tmp_path / "state"), Environment())
    loaded = load_sources(workspace, company.clock())
    assert sum(info.rows_quarantined for info in loaded.tables.values()) == 0
    summary, _ = company_revenue(workspace, loaded, company.clock())
    assert (summary.accounts, summary.paying, summary.arr) == (400, 288, 1_494_000)
    assert summary.arr_at["2024-12-31"] == 1_180_560
    assert summary.arr_at["2025-12-31"] == 1_707_720
    found = {item.quarter: (item.lost, -item.lost_arr) for item in summary.quarters}
    assert {quarter: found[quarter] for quarter in LOSSES} == LOSSES
    assert summary.so_far is not None
    assert (summary.so_far.lost, -summary.so_far.lost_arr) == (6, 38_160)
