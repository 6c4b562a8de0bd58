"""Every issue of the quality report: a planted fault raises it, clean data raises none."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from rich.console import Console

from configs.runtime.errors import DataError
from features.quality import CODES, check_quality
from features.quality.changes.codes import CHANGE_CODES
from features.quality.history.codes import DRIFT_CODES
from features.quality.modelling_hazards import require_all_accounts
from features.quality.report import Issue
from features.sources import load_sources

NOW = datetime(2024, 7, 1, tzinfo=UTC)
DAYS = [date(2024, 1, 2) + timedelta(days=n) for n in range(181)]
ACCOUNTS = "account_id,created_at,known_at\n" + "".join(
    f"A{n},2024-01-01,2024-01-01 09:00:00\n" for n in range(1, 6)
)


def usage_lines(days=DAYS, per_day=1):
    return [
        f"A{1 + n % 5},u{n % 7},{day} 1{n % 10}:30:{i:02d},{day} 2{n % 4}:00:00"
        for n, day in enumerate(days)
        for i in range(per_day)
    ]


def usage(lines=None, header="account_id,user_id,occurred_at,known_at"):
    return "\n".join([header, *(usage_lines() if lines is None else lines)]) + "\n"


TERMS = "account_id,subscription_id,started_on,ended_on,end_reason,arr,currency,known_at\n"
FINE_TERMS = TERMS + "A1,S1,2024-01-01,2024-03-01,changed,100,USD,2024-01-01 10:00:00\n"
FINE_TERMS += "A1,S1,2024-03-01,,,200,usd,2024-03-01 10:00:00\n"
FINE_TERMS += "".join(f"A{n},T{n},2024-01-01,,,50,USD,2024-01-01 10:00:00\n" for n in range(2, 6))


def report_on(small, files=None, now=NOW, **rest):
    base = {"accounts": ACCOUNTS, "usage_events": usage()}
    workspace = small.workspace({**base, **(files or {})}, **rest)
    return check_quality(workspace, load_sources(workspace, now), now)


def issue_of(report, code) -> Issue:
    found = [issue for issue in report.issues if issue.code == code]
    assert found, f"no {code} among {sorted({issue.code for issue in report.issues})}"
    return found[0]


def test_clean_data_is_an_a_and_quiet(small):
    report = report_on(small, {"subscriptions": FINE_TERMS})
    assert report.grade == "A"
    assert {issue.code for issue in report.issues} <= {"absent_tables", "mixed_precision"}


PLANTED = {
    "malformed_lines": {"usage_events": usage([*usage_lines(), "A1,u1"])},
    "missing_values": {"usage_events": usage([*usage_lines(), ",u1,2024-03-01 10:00:00,"])},
    "unparsable_values": {"usage_events": usage([*usage_lines(), "A1,u1,3 March,"])},
    "out_of_bounds": {
        "subscriptions": FINE_TERMS + "A2,S2,2024-01-01,,,-5,USD,2024-01-01 10:00:00\n"
    },
    "not_allowed": {
        "subscriptions": FINE_TERMS + "A2,S2,2024-01-01,2024-02-01,bored,5,USD,2024-01-01 10:00\n"
    },
    "unknown_accounts": {"usage_events": usage([*usage_lines(), "B1,u1,2024-03-01 10:00:00,"])},
    "missing_accounts": {
        "usage_events": usage(
            [*usage_lines(), *(f"B{d.day},u,{d} 10:00:00,{d} 12:00:00" for d in DAYS[:40])]
        )
    },
    "duplicate_accounts": {
        "accounts": ACCOUNTS + "Z1,2024-01-01,2024-01-01 09:00:00\n",
        "usage_events": usage(
            [*usage_lines(), *(f"Z{line[1:]}" for line in usage_lines() if line.startswith("A1,"))]
        ),
    },
    "known_at_no_clock": {
        "usage_events": usage([f"A{1 + d.day % 5},u,{d} 15:00:00,2024-01-02 10:00" for d in DAYS])
    },
    "time_order": {
        "subscriptions": FINE_TERMS + "A2,S2,2024-02-01,2024-01-01,,5,USD,2024-02-01 10:00:00\n"
    },
    "duplicate_keys": {
        "accounts": ACCOUNTS + "A1,2024-01-01,2024-02-01 09:00:00\n",
    },
    "exact_copies": {"usage_events": usage([*usage_lines(), usage_lines()[3]])},
    "before_account": {
        "usage_events": usage([*usage_lines(), "A1,u1,2023-06-01 10:00:00,2023-06-01 10:00:00"])
    },
    "before_first_term": {
        "subscriptions": TERMS + "A1,S1,2024-03-01,,,100,USD,2024-03-01 10:00:00\n"
    },
    "order_tolerated": {
        "invoices": "account_id,invoice_id,issued_on,paid_on,known_at\n"
        "A1,I1,2024-03-01,2024-02-01,2024-03-01 10:00:00\n"
    },
    "sentinel_dates": {
        "subscriptions": TERMS + "A1,S1,2024-01-01,9999-12-31,,100,USD,2024-01-01 10:00:00\n"
    },
    "after_now": {
        "usage_events": usage([*usage_lines(), "A1,u1,2025-03-01 10:00:00,2025-03-01 10:00:00"])
    },
    "no_known_at": {
        "usage_events": usage(["A1,u1,2024-06-30 10:00:00"], "account_id,x,occurred_at")
    },
    "edits_unseen": {"outcomes": "account_id,decided_on,outcome\nA1,2024-03-01,churn\n"},
    "known_at_missing": {"usage_events": usage([*usage_lines(), "A1,u1,2024-03-01 10:00:00,"])},
    "known_before_happened": {
        "subscriptions": FINE_TERMS + "A2,S2,2024-02-01,,,5,USD,2023-12-01 10:00:00\n"
    },
    "zone_shift": {"usage_events": usage([f"A1,u,{day} 15:00:00,{day} 10:00:01" for day in DAYS])},
    "late_arrivals": {
        "usage_events": usage(
            [*usage_lines(), *(f"A1,u,{d} 03:00:00,2024-06-30 10:00:00" for d in DAYS[:20])]
        )
    },
    "midnight_instants": {
        "usage_events": usage([f"A{1 + d.day % 5},u,{d} 00:00:00,{d} 23:00:00" for d in DAYS])
    },
    "mixed_zones": {
        "usage_events": usage([*usage_lines(), "A1,u,2024-03-01T10:00:00+02:00,2024-03-01 12:00"])
    },
    "mixed_precision": {
        "usage_events": usage([*usage_lines(), "A1,u,2024-03-01,2024-03-02 12:00:00"])
    },
    "stale_table": {"usage_events": usage(usage_lines(DAYS[:120]))},
    "quiet_table": {
        "accounts": ACCOUNTS + "".join(f"B{d.day},{d},{d} 09:00:00\n" for d in DAYS[:30])
    },
    "telemetry_gaps": {"usage_events": usage(usage_lines(DAYS[:90] + DAYS[93:], per_day=30))},
    "currency_without_rate": {
        "subscriptions": FINE_TERMS + "A2,S2,2024-01-01,,,5,CHF,2024-01-01 10:00:00\n"
    },
    "currency_missing": {
        "subscriptions": FINE_TERMS + "A2,S2,2024-01-01,,,5,,2024-01-01 10:00:00\n"
    },
    "overlapping_terms": {
        "subscriptions": TERMS + "A1,S1,2024-01-01,2024-04-01,,100,USD,2024-01-01 10:00:00\n"
        "A1,S1,2024-03-01,,,200,USD,2024-03-01 10:00:00\n"
    },
    "idle_accounts": {"accounts": ACCOUNTS + "A6,2024-01-01,2024-01-01 09:00:00\n"},
    "test_accounts": {
        "accounts": "account_id,created_at,name,known_at\n"
        "A1,2024-01-01,TEST - do not call,2024-01-01 09:00:00\n"
        + "".join(f"A{n},2024-01-01,Contest {n},2024-01-01 09:00:00\n" for n in range(2, 6))
    },
    "contradicting_churn": {
        "subscriptions": FINE_TERMS,
        "outcomes": "account_id,decided_on,outcome,known_at\n"
        "A1,2024-02-01,churn,2024-02-01 10:00\n",
    },
    "activity_after_end": {
        "subscriptions": TERMS + "A1,S1,2024-01-01,2024-03-01,churned,100,USD,2024-01-01 10:00:00\n"
    },
    "unknown_parents": {
        "accounts": "account_id,created_at,parent_account_id,known_at\n"
        "A1,2024-01-01,Z9,2024-01-01 09:00:00\n"
        + "".join(f"A{n},2024-01-01,,2024-01-01 09:00:00\n" for n in range(2, 6))
    },
    "capacity_disagrees": {"owners": "owner_id,capacity\nO1,100\nO2,172\n"},
    "unknown_owners": {
        "accounts": "account_id,created_at,owner_id,known_at\n"
        + "".join(f"A{n},2024-01-01,O{n},2024-01-01 09:00:00\n" for n in range(1, 6)),
        "owners": "owner_id,known_at\nO1,2024-01-01 10:00:00\n",
    },
    "empty_table": {"invoices": "account_id,invoice_id,issued_on\n"},
    "absent_tables": {},
    "unused_inputs": {"usage_event": usage()},
}


PLANTED_ELSEWHERE = {
    "lines_lost", "other_encoding", "written_otherwise", "other_currency", "sql_loses_rows",
    "sql_doubles_rows", "sql_rows", "repeated_events", "delivered_again", "other_event",
    "rolled_up",
    "labels_before_account", "labels_extend_grid", "partial_outage", "activity_on_children",
    # of revenue: tests/features/test_company_cases.py
    "renewed_into_nothing", "lost_on_one_day", "merged_into_unknown", "live_terms_without_arr",
    "unpaid_accounts", "activity_without_terms", "overwritten_terms", "unfolded_terms",
    "silent_by_habit", "not_counted",
    # of the mapping: test_mapping_issues.py
    "left_out", "in_another_source", "billing_rows", "prices_overwritten", "unconfirmed_guesses",
    # of rows per product: tests/features/sources/test_product_grain.py
    "no_contract_product",
    # of forgotten accounts: tests/features/sources/test_forget_list.py
    "forgotten",
    # changes of the data: test_injected_faults.py, test_history.py
    *CHANGE_CODES, *DRIFT_CODES,
    # of a whole run: tests/serving/test_reconcile.py
    "totals_disagree",
}  # fmt: skip
"""Codes whose faults are planted elsewhere: those of reading in test_reading.py."""


def test_every_code_has_a_planted_fault():
    assert set(PLANTED) | PLANTED_ELSEWHERE == set(CODES)


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_fault_raises_its_code(small, code):
    issue = issue_of(report_on(small, PLANTED[code]), code)
    assert issue.detail
    assert issue.affects
    assert issue.share is None or 0 < issue.share <= 1


@pytest.mark.parametrize("code", sorted(set(PLANTED) - {"absent_tables", "mixed_precision"}))
def test_without_the_fault_the_code_is_silent(small, code):
    report = report_on(small, {"subscriptions": FINE_TERMS})
    assert code not in {issue.code for issue in report.issues}


def alike(accounts, days, tail="") -> str:
    """Lines of accounts that use the product on the same days."""
    return usage([f"{a},u,{d} 10:00:00,{d} 12:00:00{tail}" for a in accounts for d in days])


class TestCopies:
    def test_what_many_share_makes_no_copies(self, small):
        names = [f"A{n}" for n in range(1, 6)]
        report = report_on(small, {"usage_events": alike(names, DAYS)})
        assert "duplicate_accounts" not in {issue.code for issue in report.issues}

    def test_equal_bills_of_one_plan_are_no_copies(self, small):
        bills = "account_id,invoice_id,issued_on,amount,known_at\n" + "".join(
            f"{a},{a}{d},{d},49,{d} 12:00:00\n" for a in ("A1", "A2") for d in DAYS[::5]
        )
        report = report_on(small, {"invoices": bills})
        assert "duplicate_accounts" not in {issue.code for issue in report.issues}

    def test_both_ids_are_named(self, small):
        issue = issue_of(report_on(small, PLANTED["duplicate_accounts"]), "duplicate_accounts")
        assert (issue.rows, issue.severity) == (1, "error")
        assert "A1 = Z1" in issue.detail

    def test_every_account_twice_by_terms_alone(self, small):
        ids = [f"{letter}{n}" for letter in "AB" for n in range(30)]
        accounts = "account_id,created_at,known_at\n" + "".join(
            f"{i},2024-01-01,2024-01-01 09:00:00\n" for i in ids
        )
        terms = TERMS + "".join(
            f"{i},S{i},{DAYS[int(i[1:])]},,,{1000 + 37 * int(i[1:])},USD,{DAYS[0]} 10:00:00\n"
            for i in ids
        )
        once = TERMS + "".join(line + "\n" for line in terms.splitlines()[1:31])
        days = usage([f"{i},u,{DAYS[3]} 10:00:00,{DAYS[3]} 12:00:00" for i in ids])
        files = {"accounts": accounts, "usage_events": days}
        found = report_on(small, {**files, "subscriptions": terms})
        assert issue_of(found, "duplicate_accounts").rows == 30
        found = report_on(small, {**files, "subscriptions": once})
        assert "duplicate_accounts" not in {issue.code for issue in found.issues}


class TestClock:
    def test_known_a_day_before_in_nearly_every_row(self, small):
        early = [f"A{1 + d.day % 5},u,{d} 15:00:00,{d - timedelta(days=1)} 15:00:00" for d in DAYS]
        issue = issue_of(report_on(small, {"usage_events": usage(early)}), "known_at_no_clock")
        assert (issue.severity, issue.share) == ("error", 1.0)

    def test_a_few_early_rows_are_no_fault_of_the_clock(self, small):
        early = f"A1,u,{DAYS[9]} 15:00:00,{DAYS[9] - timedelta(days=1)} 15:00:00"
        report = report_on(small, {"usage_events": usage([*usage_lines(), early])})
        assert "known_at_no_clock" not in {issue.code for issue in report.issues}

    def test_terms_signed_ahead_are_in_order_and_years_ahead_are_not(self, small):
        def terms(known):
            line = "A{0},S{0},2024-03-0{0},,,100,USD,{1} 10:00:00\n"
            return TERMS + "".join(line.format(n, known) for n in range(1, 6))

        fine = report_on(small, {"subscriptions": terms("2023-12-01")})
        assert "known_at_no_clock" not in {issue.code for issue in fine.issues}
        found = report_on(small, {"subscriptions": terms("2020-01-01")})
        assert issue_of(found, "known_at_no_clock").table == "subscriptions"


class TestMissingAccounts:
    def test_training_is_refused_and_says_where_and_what_to_do(self, small):
        workspace = small.workspace({"accounts": ACCOUNTS, **PLANTED["missing_accounts"]})
        loaded = load_sources(workspace, NOW)
        with pytest.raises(DataError, match="accounts table lacks accounts") as refused:
            require_all_accounts(workspace.company, loaded)
        assert "usage_events: 40 of 221 rows (18.1 %)" in refused.value.where
        assert "quarantine.parquet" in refused.value.where
        assert "BW-L13" in refused.value.fix

    def test_a_reason_lets_it_go_on(self, small):
        workspace = small.workspace(
            {"accounts": ACCOUNTS, **PLANTED["missing_accounts"]},
            checks={"ignore": {"BW-L13": "resellers, who are no customers"}},
        )
        require_all_accounts(workspace.company, load_sources(workspace, NOW))

    def test_a_few_strays_do_not_stop_it(self, small):
        workspace = small.workspace({"accounts": ACCOUNTS, **PLANTED["unknown_accounts"]})
        require_all_accounts(workspace.company, load_sources(workspace, NOW))


def test_an_outage_is_named_by_its_days(small):
    report = report_on(small, PLANTED["telemetry_gaps"])
    assert issue_of(report, "telemetry_gaps").detail == (
        f"3 of 181 days (1.7 %): {DAYS[90]} to {DAYS[92]}"
    )


def test_a_weekly_closing_day_is_no_outage(small):
    open_days = [day for day in DAYS if day.weekday() != 5]
    report = report_on(small, {"usage_events": usage(usage_lines(open_days, per_day=30))})
    assert "telemetry_gaps" not in {issue.code for issue in report.issues}


def test_a_monthly_table_is_not_stale_after_three_weeks(small):
    firsts = [date(2023, m, 9) for m in range(1, 13)] + [date(2024, m, 9) for m in range(1, 7)]
    lines = "".join(f"A1,I{d},{d},{d} 10:00:00\n" for d in firsts)
    accounts = ACCOUNTS.replace("2024-01-01,", "2022-12-31,")
    invoices = {"invoices": "account_id,invoice_id,issued_on,known_at\n" + lines}
    report = report_on(small, {"accounts": accounts, **invoices})
    assert "stale_table" not in {issue.code for issue in report.issues}
    later = report_on(
        small, {"accounts": accounts, **invoices}, now=datetime(2024, 12, 1, tzinfo=UTC)
    )
    assert {"invoices", "usage_events"} <= {
        issue.table for issue in later.issues if issue.code == "stale_table"
    }


def test_rates_make_a_currency_usable(small):
    files = {
        **PLANTED["currency_without_rate"],
        "rates": "currency,as_of_on,rate,known_at\nchf,2024-01-01,1.1,2024-01-01 10:00:00\n",
    }
    assert "currency_without_rate" not in {i.code for i in report_on(small, files).issues}


def test_issues_name_the_predictions_that_rest_on_them(small):
    report = report_on(small, PLANTED["exact_copies"])
    assert issue_of(report, "exact_copies").affects == (
        "adoption and breadth signals",
        "outcomes of churn",
    )


@pytest.mark.parametrize(
    ("code", "share", "grade"),
    [
        ("after_now", 1.0, "A"),
        ("exact_copies", 0.005, "A"),
        ("exact_copies", 0.05, "B"),
        ("exact_copies", 0.5, "C"),
        ("exact_copies", None, "B"),
        ("unknown_accounts", 0.005, "B"),
        ("unknown_accounts", 0.02, "C"),
        ("unknown_accounts", 0.2, "D"),
        ("unknown_accounts", 0.25, "F"),
        ("stale_table", None, "D"),
    ],
)
def test_the_grade_follows_severity_and_share(code, share, grade):
    assert Issue(code, "t", 1, share, "x", ()).grade == grade


def test_the_report_is_json_and_worst_first(small):
    usage_twice = usage([*usage_lines(), *(["B1,u1,2024-03-01 10:00:00,"] * 100)])
    report = report_on(small, {"usage_events": usage_twice})
    said = json.loads(json.dumps(report.as_dict()))
    assert said["grade"] == report.grade == said["issues"][0]["grade"]
    assert [i["grade"] for i in said["issues"]] == sorted(
        (i["grade"] for i in said["issues"]), reverse=True
    )
    first = said["issues"][0]
    assert set(first) == {
        "code", "table", "rows", "share", "detail", "affects", "accounts", "rows_where",
        "severity", "grade", "title", "to_do",
    }  # fmt: skip
    assert said["tables"]["usage_events"]["rows_read"] == 281


def test_the_terminal_view_shows_grade_tables_issues_and_gaps(small):
    report = report_on(small, PLANTED["unknown_accounts"])
    console = Console(file=io.StringIO(), width=200)
    report.render(console)
    text = console.file.getvalue()
    assert f"grade {report.grade}" in text
    assert "usage_events" in text
    assert CODES["unknown_accounts"].title in text
    assert "no touches" in text


def test_capacities_that_add_up_to_the_teams_are_no_issue(small):
    fine = report_on(small, {"owners": "owner_id,capacity\nO1,5\nO2,4.5\n"})
    assert "capacity_disagrees" not in {issue.code for issue in fine.issues}
    owners = {"owners": "owner_id,capacity\nO1,100\nO2,172\n"}
    issue = issue_of(report_on(small, owners), "capacity_disagrees")
    assert issue.detail.startswith("owners.capacity adds up to 272 accounts a week, 1,183 a month")
