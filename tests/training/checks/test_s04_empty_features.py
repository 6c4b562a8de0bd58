"""BW-S04: every feature varies."""

from __future__ import annotations

import numpy as np
import pytest

CODE = "BW-S04"


def test_quiet_when_all_vary(find, clean):
    assert find(CODE, clean).outcome == "passed"


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "planted (always missing)"), (0.0, "planted (always 0.0)")]
)
def test_a_column_that_never_varies_is_a_tip(find, with_feature, frame, value, words):
    found = find(CODE, with_feature(frame, value))
    assert found.outcome == "tip"
    assert words in found.words


def test_known_or_missing_is_a_difference(find, with_feature, frame):
    flag = np.where(np.arange(len(frame)) % 2, 1.0, np.nan)
    assert find(CODE, with_feature(frame, flag)).outcome == "passed"
