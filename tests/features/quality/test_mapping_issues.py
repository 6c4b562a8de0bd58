"""Issues about the mapping itself: rows it leaves out, billing shapes, and open guesses."""

from __future__ import annotations

from features.quality import check_quality
from tests.features.sources.conftest import NOW

ACCOUNTS = "account_id,created_at,gone\nA1,2024-01-01,no\nA2,2024-01-02,no\nA9,2024-01-03,yes\n"
USAGE = "account_id,occurred_at\nA1,2024-02-01\nA2,2024-02-02\n"
TICKETS = "account_id,ticket_id,opened_at\nA1,1,2024-03-01\nA2,2,2024-03-02\n"


def issues(small, files=None, **rest):
    texts = {"accounts": ACCOUNTS, "usage_events": USAGE, **(files or {})}
    workspace = small.workspace(texts, **rest)
    report = check_quality(workspace, small.load(texts, **rest), NOW)
    return {item.code: item for item in report.issues}


def test_rows_left_out_are_counted(small):
    found = issues(small, tables={"accounts": {"leave_out": "gone = 'yes'"}})
    assert (found["left_out"].rows, found["left_out"].severity) == (1, "info")


def test_rows_of_a_second_source_with_the_same_key_are_counted(small):
    parts = [{"from": "one"}, {"from": "two"}]
    files = {"one": TICKETS, "two": TICKETS.replace("A1,1", "A1,7")}
    found = issues(small, files, tables={"support_tickets": parts})
    assert found["in_another_source"].rows == 1


def test_a_billing_shape_and_the_prices_it_lacks_are_named(small):
    lines = (
        "account_id,subscription_id,started_on,price\nA1,S1,2024-01-05,10\nA2,S2,2024-02-05,10\n"
    )
    billing = {"rows": "subscription", "amount": "price", "interval": "'month'"}
    found = issues(small, {"subscriptions": lines}, tables={"subscriptions": {"billing": billing}})
    assert found["billing_rows"].detail.startswith("2 rows, each a subscription")
    assert "read as 11 terms" in found["billing_rows"].detail
    assert found["prices_overwritten"].severity == "warning"


def test_open_guesses_are_named_until_confirmed(small):
    guess = {"reporting_currency": {"why": "no column has the currency", "sure": "low"}}
    found = issues(small, guesses=guess)
    assert found["unconfirmed_guesses"].rows == 1
    assert "reporting_currency: no column" in found["unconfirmed_guesses"].detail
    assert "unconfirmed_guesses" not in issues(small)
