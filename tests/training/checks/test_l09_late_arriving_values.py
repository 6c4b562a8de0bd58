"""BW-L09: it is recorded when rows became visible."""

from __future__ import annotations

from training.checks import Visibility

CODE = "BW-L09"


def test_quiet_when_every_table_that_is_read_says_it(find, with_evidence):
    found = find(CODE, with_evidence())
    assert found.outcome == "passed"
    assert "all 2 tables" in found.words


def test_a_silent_table_is_a_tip_and_corrected_ones_come_first(find, with_evidence, evidence):
    sources = evidence.sources | {
        "invoices": Visibility("default", 2, is_edited=False),
        "subscriptions": Visibility("default", 9, is_edited=True),
    }
    found = find(CODE, with_evidence(sources=sources))
    assert found.outcome == "tip"
    assert found.words.startswith("2 of 3 tables")
    assert found.words.index("subscriptions (9 features, commonly") < found.words.index("invoices")


def test_skipped_for_a_ready_made_table(find, clean):
    assert find(CODE, clean).outcome == "skipped"
