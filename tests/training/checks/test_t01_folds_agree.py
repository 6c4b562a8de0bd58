"""BW-T01: it works alike in every test period."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.evaluation.stability import chance_of_spread

CODE = "BW-T01"


def test_quiet_when_periods_agree(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_a_period_in_which_the_model_fails_is_caught(find, clean):
    rows = clean.predictions
    p = rows["p_model"].where(rows["fold"] != 2, 1.0 - rows["p_model"])
    found = find(CODE, replace(clean, predictions=rows.assign(p_model=p)))
    assert found.outcome == "issue"


def test_one_period_cannot_disagree(find, clean):
    one = clean.predictions[clean.predictions["fold"] == 1]
    assert find(CODE, replace(clean, predictions=one)).outcome == "not applicable"


def test_equal_periods_are_rarely_said_to_differ():
    rng = np.random.default_rng(3)
    drawn = [chance_of_spread(rng.normal(0.7, 0.04, 4), np.full(4, 0.04**2)) for _ in range(2_000)]
    assert abs(np.mean(np.array(drawn) < 0.05) - 0.05) < 0.015
