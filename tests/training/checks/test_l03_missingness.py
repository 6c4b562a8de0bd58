"""BW-L03: missing values alone do not tell the outcome."""

from __future__ import annotations

import numpy as np

from training.checks.leakage.l03_missingness import flags_of

CODE = "BW-L03"


def test_quiet_when_answers_are_missing_by_chance(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_an_end_date_that_is_empty_for_the_living_is_caught(find, with_feature, frame):
    rng = np.random.default_rng(3)
    emptied = np.where((frame.label == 1) & (rng.random(len(frame)) < 0.9), 1.0, np.nan)
    found = find(CODE, with_feature(frame, emptied))
    assert found.outcome == "issue"
    assert "planted missing" in found.words


def test_a_telling_absence_is_a_tip(find, with_feature, frame):
    rng = np.random.default_rng(3)
    telling = np.where(rng.random(len(frame)) < 0.25 + 0.5 * frame.label, np.nan, 1.0)
    assert find(CODE, with_feature(frame, telling)).outcome == "tip"


def test_flags_say_what_is_missing_and_nothing_else(frame):
    flags = flags_of(frame)
    assert list(flags.features) == ["nps"]
    np.testing.assert_array_equal(flags.features["nps"], frame.features["nps"].isna())
    assert [item.churn_sign for item in flags.info] == [0]


def test_not_applicable_where_nothing_is_missing(find, make_context, frame, small):
    whole = small.with_columns(frame, features={"nps": frame.features["nps"].fillna(7.0)})
    assert find(CODE, make_context(whole)).outcome == "not applicable"
