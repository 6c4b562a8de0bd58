"""BW-L01: a past day is rebuilt the same."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.checks.leakage.l01_backfill_mismatch import moved

CODE = "BW-L01"


def test_quiet_when_the_past_is_rebuilt_as_it_was(find, with_evidence):
    found = find(CODE, with_evidence())
    assert found.outcome == "passed"
    assert "7 features of" in found.words


def test_a_snapshot_that_knew_more_is_caught(find, with_evidence, evidence):
    again = evidence.rebuilt.copy()
    again.iloc[:3, again.columns.get_loc("users_28d")] += 1.0
    found = find(CODE, with_evidence(rebuilt=again))
    assert found.outcome == "issue"
    assert "users_28d (3 accounts)" in found.words


def test_rows_trained_on_that_differ_from_the_snapshots_are_caught(find, with_evidence, evidence):
    changed = evidence.stored.copy()
    changed["noise_3"] = changed["noise_3"] * 1.01
    found = find(CODE, with_evidence(stored=changed, rebuilt=changed))
    assert found.outcome == "issue"
    assert "noise_3" in found.words


def test_skipped_for_a_ready_made_table(find, clean):
    assert find(CODE, clean).outcome == "skipped"


def test_a_value_that_appears_disappears_or_loses_its_entity_has_moved():
    before = pd.DataFrame({"x": [1.0, np.nan, 3.0, np.nan]}, index=list("abcd"))
    again = pd.DataFrame({"x": [1.0 + 1e-13, 2.0]}, index=list("ab"))
    assert moved(before, again) == {"x": 2}
