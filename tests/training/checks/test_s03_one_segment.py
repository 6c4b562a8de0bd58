"""BW-S03: no segment dominates the events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

CODE = "BW-S03"


def labelled(context, segment):
    return replace(context, predictions=context.predictions.assign(segment=segment))


def test_quiet_when_segments_share_the_events(find, clean):
    assert find(CODE, clean).outcome == "passed"


@pytest.mark.parametrize(("others", "outcome"), [(0.1, "issue"), (0.9, "tip")])
def test_a_segment_with_most_events(find, clean, others, outcome):
    rows = clean.predictions
    chance = np.random.default_rng(3).random(len(rows))
    own = np.where(rows["label"] == 1, chance < 0.95, chance < others)
    assert find(CODE, labelled(clean, np.where(own, "smb", "large"))).outcome == outcome


def test_one_segment_has_nothing_to_dominate(find, clean):
    assert find(CODE, labelled(clean, "all")).outcome == "not applicable"
