"""BW-L02: no single feature knows the outcome."""

from __future__ import annotations

import numpy as np
import pytest

CODE = "BW-L02"


def test_quiet_on_honest_features(find, clean):
    found = find(CODE, clean)
    assert found.outcome == "passed"
    assert found.words.startswith("best single feature users_28d")


@pytest.mark.parametrize("turn", [1.0, -1.0])
def test_a_column_filled_in_after_the_decision_is_caught(find, with_feature, frame, turn):
    noise = np.random.default_rng(3).normal(size=len(frame))
    found = find(CODE, with_feature(frame, turn * (frame.label + 0.3 * noise)))
    assert found.outcome == "issue"
    assert "planted" in found.words


def test_a_very_good_column_is_a_tip(find, with_feature, frame):
    noise = np.random.default_rng(3).normal(size=len(frame))
    assert find(CODE, with_feature(frame, frame.label + 0.7 * noise)).outcome == "tip"


def test_a_date_that_only_leavers_have_is_caught(find, with_feature, frame):
    known = np.where(frame.label == 1, np.random.default_rng(3).normal(size=len(frame)), np.nan)
    assert find(CODE, with_feature(frame, known)).outcome == "issue"


def test_a_category_that_only_leavers_have_is_caught(find, with_feature, frame):
    words = np.where(frame.label == 1, "closing", "open").astype(object)
    found = find(CODE, with_feature(frame, words))
    assert found.outcome == "issue"
    assert "planted" in found.words
