"""BW-L04: no cliff just before the decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

CODE = "BW-L04"


def test_quiet_when_the_signal_grows_slowly(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_usage_that_stops_after_the_decision_is_caught(find, with_feature, frame):
    lead = (frame.rows["decision_at"] - frame.rows["as_of"]).dt.days
    noise = np.random.default_rng(3).normal(size=len(frame))
    found = find(CODE, with_feature(frame, 3.0 * (lead <= 30) + noise))
    assert found.outcome == "issue"


def test_undated_or_late_decisions_cannot_be_compared(find, clean):
    decided = clean.predictions["decision_at"]
    undated = clean.predictions.assign(decision_at=decided.mask(decided.notna()))
    assert find(CODE, replace(clean, predictions=undated)).outcome == "not applicable"
