"""BW-L13: the accounts that left are among the accounts."""

from __future__ import annotations

CODE = "BW-L13"


def test_quiet_when_rows_belong_to_accounts(find, with_evidence):
    assert find(CODE, with_evidence()).outcome == "passed"


def test_tables_of_missing_accounts_are_an_issue(find, with_evidence):
    found = find(CODE, with_evidence(missing=["subscriptions: 30 of 100 rows"]))
    assert (found.outcome, found.words) == ("issue", "subscriptions: 30 of 100 rows")


def test_skipped_for_a_ready_made_table(find, clean):
    assert find(CODE, clean).outcome == "skipped"
