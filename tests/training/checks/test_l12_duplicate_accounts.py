"""BW-L12: no account is there twice."""

from __future__ import annotations

CODE = "BW-L12"


def test_quiet_without_copies(find, with_evidence):
    assert find(CODE, with_evidence()).outcome == "passed"


def test_copies_are_an_issue_and_named(find, with_evidence):
    found = find(CODE, with_evidence(copies=[("A1", "B1"), ("A2", "B2")]))
    assert found.outcome == "issue"
    assert found.words == "4 accounts have the history of another: A1 = B1, A2 = B2"


def test_skipped_for_a_ready_made_table(find, clean):
    assert find(CODE, clean).outcome == "skipped"
