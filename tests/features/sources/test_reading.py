"""Issues of reading: every one planted, with its numbers and its remedy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from configs.runtime.errors import ConfigError, SourceError
from features.quality import check_quality
from features.sources import load_sources

NOW = datetime(2024, 7, 1, tzinfo=UTC)
DAYS = [date(2024, 1, 2) + timedelta(days=n) for n in range(181)]
NAMES = [f"A{n}" for n in range(1, 21)]
ACCOUNTS = "account_id,created_at,name\n" + "".join(
    f"{name},2024-01-01,Company {name}\n" for name in NAMES
)


def usage(skip=lambda _name, _day: False, step=3):
    """Every account is active each third day, but where `skip` says otherwise."""
    rows = [
        f"{name},{day} 10:00:00\n"
        for number, name in enumerate(NAMES)
        for day in DAYS[number % step :: step]
        if not skip(name, day)
    ]
    return "account_id,occurred_at\n" + "".join(rows)


def report_on(small, files=None, tables=None, **rest):
    workspace = small.workspace(
        {"accounts": ACCOUNTS, "usage_events": usage(), **(files or {})}, tables=tables, **rest
    )
    return check_quality(workspace, load_sources(workspace, NOW), NOW)


def issue_of(report, code, table=None):
    found = [i for i in report.issues if i.code == code and table in (None, i.table)]
    assert found, f"no {code} among {sorted({issue.code for issue in report.issues})}"
    return found[0]


def codes_of(report):
    return {issue.code for issue in report.issues}


TICKETS = "Id,Organization,created\n" + "".join(
    f"{i},{'Nobody Ltd' if i % 6 == 0 else f'Company A{1 + i % 5}'},2024-02-0{1 + i % 9} 10:00\n"
    for i in range(60)
)
TWINS = ACCOUNTS.replace("Company A2", "Company A1")
JOIN = (
    "SELECT a.account_id, t.Id AS ticket_id, t.created AS opened_at "
    "FROM support_tickets t JOIN accounts a ON a.name = t.Organization"
)


def sql_report(small, sql, accounts=ACCOUNTS):
    files = {"accounts": accounts, "support_tickets": TICKETS}
    return report_on(small, files, {"support_tickets": {"sql": sql}})


def test_rows_that_a_join_loses_and_doubles_are_counted(small):
    report = sql_report(small, JOIN, TWINS)
    lost, doubled = issue_of(report, "sql_loses_rows"), issue_of(report, "sql_doubles_rows")
    n_first = sum(",Company A1," in line for line in TICKETS.splitlines())
    n_second = sum(",Company A2," in line for line in TICKETS.splitlines())
    assert (lost.rows, doubled.rows) == (10 + n_second, n_first)
    assert lost.detail == (
        f"support_tickets: 60 rows in, {50 - n_second + n_first} out; {10 + n_second} dropped "
        f"by a join, {n_first} repeated by a join; 4 of 20 accounts covered"
    )
    assert "LEFT JOIN" in lost.to_do


@pytest.mark.parametrize(
    "sql",
    [
        JOIN.replace(" t JOIN accounts a ON ", " t, accounts a WHERE "),
        f"WITH joined AS ({JOIN}) SELECT * FROM joined",
        f"SELECT * FROM ({JOIN}) AS inner_rows ORDER BY ticket_id",
        "SELECT a.account_id, t.Id AS ticket_id, t.created AS opened_at "
        "FROM accounts a JOIN support_tickets t ON a.name = t.Organization",
        f"{JOIN} WHERE t.Id::INT < 30 UNION ALL {JOIN} WHERE t.Id::INT >= 30",
    ],
)
def test_joins_are_followed_however_they_are_written(small, sql):
    report = sql_report(small, sql)
    assert issue_of(report, "sql_loses_rows").rows == 10
    assert "sql_doubles_rows" not in codes_of(report)


def test_a_left_join_loses_nothing(small):
    sql = JOIN.replace(" JOIN", " LEFT JOIN").replace(
        "a.account_id", "coalesce(a.account_id, 'A1') AS account_id"
    )
    report = sql_report(small, sql)
    assert not codes_of(report) & {"sql_loses_rows", "sql_doubles_rows", "sql_rows"}


def test_rows_left_out_on_purpose_are_no_error(small):
    report = sql_report(
        small, JOIN.replace("JOIN", "LEFT JOIN") + " WHERE a.account_id IS NOT NULL"
    )
    issue = issue_of(report, "sql_rows")
    assert "10 left out by WHERE" in issue.detail
    assert issue.severity == "info"


def test_sql_that_groups_says_its_rows(small):
    sql = JOIN.replace("t.Id", "min(t.Id)").replace("t.created", "min(t.created)")
    report = sql_report(small, f"{sql} GROUP BY a.account_id")
    assert issue_of(report, "sql_rows").detail == (
        "support_tickets: 60 rows in, 5 out; 5 of 20 accounts covered"
    )


def delivered(again=lambda _i: False):
    """Events with the id of their message; some arrive a second time, forty minutes later."""
    rows = []
    for i, day in enumerate(DAYS):
        for name in NAMES[:4]:
            row = f"{name},{day} 10:00:00,m{i}-{name},{day} "
            rows.append(f"{row}10:00:05\n")
            if again(i):
                rows.append(f"{row}10:40:05\n")
    return "account_id,occurred_at,message_id,received_at\n" + "".join(rows)


def test_events_delivered_again_are_named_while_their_id_is_not_mapped(small):
    report = report_on(small, {"usage_events": delivered(lambda i: i >= 150)})
    issue = issue_of(report, "repeated_events")
    n_twice, n_all = 4 * 31, 4 * 181
    assert f"repeated event ids: {n_twice:,} of {n_all:,}" in issue.detail
    assert (issue.rows, issue.severity) == (n_twice, "error")
    assert issue.to_do.endswith("event_id: message_id")


def test_events_delivered_again_count_once_by_their_id(small, rows):
    tables = {"usage_events": {"columns": {"event_id": "message_id"}, "known_at": "received_at"}}
    files = {"accounts": ACCOUNTS, "usage_events": delivered()}
    expected = rows(small.load(files, tables=tables).tables["usage_events"].path)
    files["usage_events"] = delivered(lambda i: i >= 150)
    found = small.load(files, tables=tables)
    info = found.tables["usage_events"]
    assert rows(info.path) == expected, "the first delivery of each counts, as it was known then"
    assert info.quarantined == {"delivered_again": 4 * 31}
    report = report_on(small, {"usage_events": delivered(lambda i: i >= 150)}, tables)
    assert issue_of(report, "delivered_again").grade == "A"
    assert "repeated_events" not in codes_of(report)


def test_an_id_that_other_events_share_is_named(small):
    text = delivered().replace("m1-", "m2-").replace("m3-", "m2-")
    tables = {"usage_events": {"columns": {"event_id": "message_id"}}}
    assert issue_of(report_on(small, {"usage_events": text}, tables), "other_event").rows == 8


def test_sessions_are_no_ids_of_events(small):
    text = delivered().replace("message_id", "session_id")
    shared = re.sub(r",m(\d+)-", lambda found: f",m{int(found[1]) // 3}-", text)
    report = report_on(small, {"usage_events": shared})
    assert "repeated_events" not in codes_of(report)


SALESFORCE = [f"0015g000000{n:04d}" for n in range(6)]


@pytest.mark.parametrize(
    ("ours", "theirs", "remedy"),
    [
        (
            lambda i: i,
            lambda i: i + "AAB",
            "in tables.accounts map account_id: left(account_id, 15)",
        ),
        (lambda i: i + "AAB", lambda i: i, "map account_id: left(account_id, 15)"),
        (str.upper, str.lower, "map account_id: lower(account_id)"),
        (lambda i: f"acct_{i}", lambda i: i, "map account_id: split_part(account_id, '_', -1)"),
        (lambda i: i, lambda i: f"crm-{i}", "map account_id: 'crm-' || account_id"),
        (lambda i: i.lstrip("0"), lambda i: i, "map account_id: lpad(account_id, 15, '0')"),
    ],
)
def test_ids_that_do_not_match_are_shown_with_what_makes_them_agree(small, ours, theirs, remedy):
    names = [f"{i}b" if remedy.startswith("map account_id: lower") else i for i in SALESFORCE]
    accounts = "account_id,created_at\n" + "".join(f"{theirs(n)},2024-01-01\n" for n in names)
    text = "account_id,occurred_at\n" + "".join(f"{ours(n)},2024-03-01 10:00\n" for n in names)
    with pytest.raises(SourceError) as caught:
        small.load({"accounts": accounts, "usage_events": text})
    said = str(caught.value)
    assert ours(names[0]) in said
    assert theirs(names[0]) in said
    assert said.endswith(remedy)


def test_the_remedy_for_ids_makes_them_agree(small):
    accounts = "account_id,created_at\n" + "".join(f"{n}AAB,2024-01-01\n" for n in SALESFORCE)
    text = "account_id,occurred_at\n" + "".join(f"{n},2024-03-01 10:00\n" for n in SALESFORCE)
    tables = {"accounts": {"columns": {"account_id": "left(account_id, 15)"}}}
    loaded = small.load({"accounts": accounts, "usage_events": text}, tables=tables)
    assert loaded.tables["usage_events"].rows == 6


def test_some_unknown_ids_are_shown_in_the_report(small):
    text = usage() + "a1,2024-03-01 10:00:00\n"
    issue = issue_of(report_on(small, {"usage_events": text}), "unknown_accounts")
    assert issue.detail.endswith("set aside: 'a1'")
    assert "account ids are like A1, A10, A11" in issue.to_do
    assert "in lower case" in issue.to_do


def test_values_that_cannot_be_read_are_shown_with_their_conversion(small):
    terms = (
        "account_id,subscription_id,started_on,arr\nA1,S1,2024-02-10,12\n"
        "A2,S2,2024-02-10,about 900\n"
    )
    issue = issue_of(report_on(small, {"subscriptions": terms}), "unparsable_values")
    assert "'about 900'" in issue.detail
    assert issue.to_do == "arr: TRY_CAST(regexp_replace(arr, '[^0-9.-]', '', 'g') AS DOUBLE)"


def silent(names, since, until=DAYS[-1]):
    return usage(lambda name, day: name in names and since <= day <= until)


@pytest.mark.parametrize("back", [DAYS[-1], DAYS[150]])
def test_two_fifths_silent_from_one_day_on_are_an_outage(small, back):
    text = silent(NAMES[:8], DAYS[110], back)
    issue = issue_of(report_on(small, {"usage_events": text}), "partial_outage")
    assert "8 of 20 regularly active accounts (40 %) become inactive" in issue.detail
    assert f"{8 if back != DAYS[-1] else 0} of them return" in issue.detail
    assert DAYS[110] - date.fromisoformat(issue.detail.split("around ")[1][:10]) <= timedelta(3)


def test_accounts_that_leave_one_by_one_are_no_outage(small):
    gone = {name: DAYS[20 * i] for i, name in enumerate(NAMES[:8], start=1)}
    text = usage(lambda name, day: name in gone and day >= gone[name])
    assert "partial_outage" not in codes_of(report_on(small, {"usage_events": text}))


def test_accounts_whose_terms_end_together_left(small):
    terms = "account_id,subscription_id,started_on,ended_on,end_reason,arr\n" + "".join(
        f"{name},S{name},2024-01-01,{DAYS[110]},churned,5\n" for name in NAMES[:8]
    )
    files = {"usage_events": silent(NAMES[:8], DAYS[110]), "subscriptions": terms}
    assert "partial_outage" not in codes_of(report_on(small, files))


FAMILY = "account_id,created_at,parent_account_id\n" + "".join(
    f"{name},2024-01-01,{'' if i < 10 else NAMES[i - 10]}\n" for i, name in enumerate(NAMES)
)
FAMILY_TERMS = "account_id,subscription_id,started_on,arr\n" + "".join(
    f"{name},S{name},2024-01-02,500\n" for name in NAMES[:10]
)


def family_files():
    text = usage(lambda name, _day: name in NAMES[:10])
    return {"accounts": FAMILY, "subscriptions": FAMILY_TERMS, "usage_events": text}


def test_terms_on_parents_with_activity_on_children_are_named(small):
    report = report_on(small, family_files())
    issue = issue_of(report, "activity_on_children")
    assert issue.rows == 10
    n_rows = len(family_files()["usage_events"].splitlines()) - 1
    assert f"10 child accounts have {n_rows} rows" in issue.detail
    assert "roll_up: true under tables.accounts" in issue.to_do


def test_children_can_be_rolled_up_into_their_topmost_parent(small, rows):
    deeper = FAMILY.replace("A20,2024-01-01,A10", "A20,2024-01-01,A19")
    files = {**family_files(), "accounts": deeper}
    tables = {"accounts": {"roll_up": True}}
    loaded = small.load(files, tables=tables)
    assert [row["account_id"] for row in rows(loaded.tables["accounts"].path)] == sorted(NAMES[:10])
    by_account: dict[str, int] = {}
    for row in rows(loaded.tables["usage_events"].path):
        by_account[row["account_id"]] = by_account.get(row["account_id"], 0) + 1
    counts = {n: files["usage_events"].count(f"\n{n},") for n in NAMES}
    wanted = {name: counts[NAMES[i + 10]] for i, name in enumerate(NAMES[:9])}
    wanted["A9"] += counts["A20"]
    assert by_account == wanted
    report = report_on(small, files, tables)
    assert "activity_on_children" not in codes_of(report)
    assert issue_of(report, "rolled_up").rows == 10


def test_parents_in_a_circle_stay_as_they_are(small, rows):
    circle = FAMILY.replace("A1,2024-01-01,\n", "A1,2024-01-01,A11\n")
    loaded = small.load(
        {**family_files(), "accounts": circle}, tables={"accounts": {"roll_up": True}}
    )
    kept = {row["account_id"] for row in rows(loaded.tables["accounts"].path)}
    assert {"A1", "A11"} <= kept


def test_rolling_up_needs_parents(small):
    with pytest.raises(ConfigError, match="needs parent_account_id"):
        small.load(tables={"accounts": {"roll_up": True}})


def test_test_accounts_are_set_aside_once_with_their_rows_in_every_table(small, rows):
    header, *lines = ACCOUNTS.splitlines()
    marked = [f"{header},is_test", *(f"{line},{line.startswith('A7,')}" for line in lines)]
    files = {"accounts": "\n".join(marked) + "\n", "usage_events": usage()}
    n_events = files["usage_events"].count("\nA7,")
    loaded = small.load(files)
    accounts, events = loaded.tables["accounts"], loaded.tables["usage_events"]
    assert accounts.quarantined == {"test_account": 1}
    assert events.quarantined == {"test_account": n_events}
    assert "A7" not in {row["account_id"] for row in rows(accounts.path)}
    assert "A7" not in {row["account_id"] for row in rows(events.path)}
    report = report_on(small, files)
    assert report.understood.accounts == 19
    assert issue_of(report, "not_counted", "accounts").detail == (
        f"1 of 20 rows (5.0 %): test accounts, set aside with their {n_events} rows in other tables"
    )
    assert "missing_accounts" not in codes_of(report)
    # A later load without the flag has the account and its rows again.
    assert small.load().tables["accounts"].rows == 3
    assert small.load({**files, "accounts": ACCOUNTS}).tables["usage_events"].quarantined == {}


def test_files_in_another_encoding_are_named(small):
    text = ACCOUNTS.replace("Company A1", "Café A1").encode("cp1252")
    assert issue_of(report_on(small, {"accounts": text}), "other_encoding").detail == (
        "accounts.csv: not UTF-8: read as Windows-1252 (Latin-1)"
    )


def money(values):
    return "account_id,subscription_id,started_on,arr\n" + "".join(
        f'A{i},S{i},2024-02-10,"{value}"\n' for i, value in enumerate(values, start=1)
    )


def test_how_columns_are_written_is_said(small):
    report = report_on(small, {"subscriptions": money(["$1,234.00", "$12"])})
    assert issue_of(report, "written_otherwise").detail == (
        "arr: the comma of $1,234.00 separates thousands; amounts carry $"
    )
    assert "other_currency" not in codes_of(report)


def test_amounts_with_the_mark_of_another_currency_are_an_error(small):
    files = {"subscriptions": money(["€1,234.00", "€12"])}
    issue = issue_of(report_on(small, files), "other_currency")
    assert issue.detail == "arr has €, read as USD"
    assert issue.severity == "error"
    assert "other_currency" not in codes_of(report_on(small, files, reporting_currency="EUR"))


def test_labels_before_their_account_and_off_the_grid_cost_nothing(small):
    labels = "account_id,as_of_on,target,label\nA1,2023-12-01,churn,0\nA2,2024-03-01,churn,1\n"
    labels += "A3,2024-03-15,churn,Unknown\nA4,2024-03-20,churn,no\n"
    targets = {"churn": {"outcome": "churn", "observed_in": "labels"}}
    report = report_on(small, {"labels": labels}, targets=targets)
    assert issue_of(report, "labels_before_account").grade == "A"
    assert "before_account" not in codes_of(report)
    assert (
        issue_of(report, "labels_extend_grid").detail == "1 of 3 days (33.3 %), such as 2024-03-20"
    )
    assert issue_of(report, "missing_values", "labels").rows == 1


def test_a_line_that_is_neither_kept_nor_set_aside_is_an_error(small):
    workspace = small.workspace({"accounts": ACCOUNTS, "usage_events": usage()})
    loaded = load_sources(workspace, NOW)
    info = loaded.tables["usage_events"]
    lines = dict(info.read["lines"]["usage_events"])
    assert lines == {"total": info.rows_read, "kept": info.rows_read, "set_aside": 0}
    lines["kept"] -= 793
    torn = replace(info, read={**info.read, "lines": {"usage_events": lines}})
    report = check_quality(
        workspace, replace(loaded, tables={**loaded.tables, "usage_events": torn}), NOW
    )
    issue = issue_of(report, "lines_lost")
    assert issue.severity == "error"
    assert "a difference of 793" in issue.detail


def test_the_report_says_how_everything_was_read(small):
    report = report_on(small, {"subscriptions": money(["$1,234.00", "$12"])})
    told = json.loads(json.dumps(report.as_dict(), default=str))["tables"]["subscriptions"]["read"]
    assert told["lines"]["subscriptions"] == {"total": 2, "kept": 2, "set_aside": 0}
    assert told["marks"] == {"arr": ["$"]}
