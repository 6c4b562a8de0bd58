"""BW-L14: nothing is known before it happens."""

from __future__ import annotations

CODE = "BW-L14"


def test_quiet_when_rows_are_known_after_they_happen(find, with_evidence):
    assert find(CODE, with_evidence()).outcome == "passed"


def test_a_table_known_too_early_is_an_issue(find, with_evidence):
    found = find(CODE, with_evidence(clockless={"usage_events": "9 of 9 rows"}))
    assert (found.outcome, found.words) == ("issue", "usage_events: 9 of 9 rows")


def test_skipped_for_a_ready_made_table(find, clean):
    assert find(CODE, clean).outcome == "skipped"
