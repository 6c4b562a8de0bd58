"""BW-L08: tickets about leaving are not counted."""

from __future__ import annotations

from training.checks import CancellationCategories

CODE = "BW-L08"


def test_quiet_when_no_feature_moves_without_them(find, with_evidence):
    found = find(CODE, with_evidence())
    assert found.outcome == "passed"
    assert found.words.startswith("12 cancellation tickets")


def test_a_feature_that_counts_them_is_caught(find, with_evidence, evidence):
    fewer = evidence.stored[["tickets_28d"]].copy()
    fewer.iloc[:4] -= 1.0
    found = find(CODE, with_evidence(leaving=CancellationCategories(12, fewer)))
    assert found.outcome == "issue"
    assert found.words == "12 cancellation tickets are counted by tickets_28d (4 accounts)"


def test_categories_that_sound_like_leaving_are_a_tip(find, with_evidence, evidence):
    same = evidence.stored[["tickets_28d"]]
    found = find(
        CODE, with_evidence(leaving=CancellationCategories(0, same, {"account cancellation": 9}))
    )
    assert found.outcome == "tip"
    assert "account cancellation (9)" in found.words


def test_nothing_to_ask_without_categories_or_sources(find, with_evidence, clean):
    assert find(CODE, with_evidence(leaving=None)).outcome == "not applicable"
    assert find(CODE, clean).outcome == "skipped"


def test_tickets_that_crowd_before_decisions_are_an_issue(find, with_evidence, evidence):
    same = evidence.stored[["tickets_28d"]]
    crowd = ("account closure request (30 of 90 accounts)",)
    found = find(CODE, with_evidence(leaving=CancellationCategories(0, same, {}, crowd)))
    assert found.outcome == "issue"
    assert "account closure request (30 of 90 accounts)" in found.words
