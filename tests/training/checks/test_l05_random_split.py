"""BW-L05: a random split is no better than a split in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

CODE = "BW-L05"


def test_quiet_when_all_periods_are_alike(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_a_column_filled_in_later_for_everybody_is_caught(find, with_feature, frame):
    """Known for the tested periods only, which the time folds have not learned from."""
    noise = np.random.default_rng(3).normal(size=len(frame))
    period = (frame.rows["as_of"].dt.month + 12 * frame.rows["as_of"].dt.year) // 3 % 2 == 0
    turned = np.where(period, 1.0, -1.0) * (2.0 * frame.label - 1.0)
    context = with_feature(frame, turned + noise)
    stuck = replace(
        context, predictions=context.predictions.assign(raw=context.predictions["raw"] * 0.0)
    )
    assert find(CODE, stuck).outcome == "issue"


def test_folds_over_accounts_have_no_time_to_compare_with(find, clean):
    over = replace(clean, folds=replace(clean.folds, over="accounts"))
    assert find(CODE, over).outcome == "not applicable"


def test_pooled_rates_learn_from_no_feature(find, clean):
    rates = replace(clean, config=replace(clean.config, kind="rates"))
    assert find(CODE, rates).outcome == "not applicable"
