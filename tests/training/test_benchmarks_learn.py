"""Our side of the contest, and what both sides are given; FLAML itself is not in the lock file."""

import numpy as np

from tests.benchmarks.training import learn


def test_nothing_after_the_cut_off_is_given_and_folds_are_the_same_for_both(frame):
    given = learn.contest(frame, "churn")
    assert given.known.rows["as_of"].max() < given.later.rows["as_of"].min()
    pairs = list(learn._Splitter(given.inner).split())
    assert len(pairs) == learn._Splitter(given.inner).get_n_splits() == len(given.inner)
    for (train, test), fold in zip(pairs, given.inner.folds, strict=True):
        assert not set(train) & set(test)
        assert len(given.known.take(fold.test)) == len(test)


def test_our_search_stops_near_its_budget_and_beats_the_rate(frame):
    given = learn.contest(frame, "churn")
    found = learn.ours(given, 1)
    rate = np.full(len(given.later), given.known.label.mean())
    assert found.loss < learn.log_loss(rate, given.later.label)
    assert found.seconds > 1.0


def test_a_frame_is_kept_as_it_was_made(frame, tmp_path):
    first = learn.kept(tmp_path / "frame", lambda: frame)
    again = learn.kept(tmp_path / "frame", lambda: 1 / 0)
    assert first.fingerprint() == again.fingerprint() == frame.fingerprint()
    assert again.info == frame.info
