"""BW-L06: shuffled labels cannot be predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.checks.leakage.l06_permutation import shuffled
from training.fitting.fit import DEFAULT_TREES

CODE = "BW-L06"


def test_quiet_when_folds_keep_the_future_out(find, clean):
    assert find(CODE, clean).outcome == "passed"


def test_test_rows_among_the_training_rows_are_caught(find, clean):
    trees = DEFAULT_TREES | {"num_leaves": 31, "max_depth": 8, "min_data_in_leaf": 2}
    leaky = tuple(
        replace(fold, train=np.union1d(fold.train, fold.test)) for fold in clean.folds.folds
    )
    found = find(
        CODE,
        replace(
            clean,
            folds=replace(clean.folds, folds=leaky),
            config=replace(clean.config, trees=trees, rounds=150),
        ),
    )
    assert found.outcome == "issue"


def test_labels_stay_within_their_as_of(frame):
    again = shuffled(frame, 1)
    before, after = (item.rows.groupby("as_of")["label"].sum().tolist() for item in (frame, again))
    assert before == after
    assert (again.rows["label"] != frame.rows["label"]).any()
    assert shuffled(frame, 1).rows["label"].equals(again.rows["label"])


def test_pooled_rates_learn_from_no_feature(find, clean):
    rates = replace(clean, config=replace(clean.config, kind="rates"))
    assert find(CODE, rates).outcome == "not applicable"
