"""BW-L11: no feature knows who leaves long before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

CODE = "BW-L11"


def ever_leaves(frame) -> np.ndarray:
    """Whether an account has the event in any row: what a value overwritten in place knows."""
    return frame.rows.groupby("entity_id")["label"].transform("max").to_numpy()


@pytest.fixture(scope="module")
def final(frame, make_context):
    """A company whose accounts leave once, and for good."""
    gone = frame.rows.groupby("entity_id")["label"].cumsum() - frame.rows["label"]
    return make_context(frame.take((gone == 0).to_numpy()))


@pytest.fixture(scope="module")
def planted(final, with_column):
    return lambda values: replace(final, frame=with_column(final.frame, values))


@pytest.mark.parametrize("company", ["clean", "final"])
def test_quiet_on_honest_features(find, company, request):
    found = find(CODE, request.getfixturevalue(company))
    assert found.outcome == "passed"
    assert found.words.startswith("the highest AUC for later events has ")


@pytest.mark.parametrize("gone", [0.0, np.nan])
def test_seats_set_to_zero_or_emptied_at_termination_are_caught(find, final, planted, gone):
    seats = np.random.default_rng(2).integers(5, 50, len(final.frame)).astype(float)
    overwritten = np.where(ever_leaves(final.frame) == 1, gone, seats)
    found = find(CODE, planted(overwritten))
    assert found.outcome == "issue"
    assert "planted" in found.words


def test_a_score_corrected_afterwards_is_caught(find, final, planted):
    noise = np.random.default_rng(3).normal(size=len(final.frame))
    found = find(CODE, planted(60 - 40 * ever_leaves(final.frame) + 15 * noise))
    assert found.outcome == "issue"


def test_a_state_written_over_is_caught(find, final, planted):
    words = np.where(ever_leaves(final.frame) == 1, "former customer", "customer").astype(object)
    assert find(CODE, planted(words)).outcome == "issue"


def test_without_later_events_it_is_not_asked(find, clean):
    rows = clean.frame.rows.assign(label=0)
    found = find(CODE, replace(clean, frame=replace(clean.frame, rows=rows)))
    assert found.outcome == "not applicable"
