"""The benchmark of the integrity checks counts what it says it counts."""

from __future__ import annotations

from tests.benchmarks.training import integrity
from tests.benchmarks.training.histories import EDITS, honest
from tests.benchmarks.training.integrity import is_asked, share_of


def test_suspect_worlds_are_counted_by_check(monkeypatch):
    said = iter([["cliff"], [], ["cliff", "too_even"]])
    monkeypatch.setattr(integrity, "failed", lambda _: next(said))
    found = share_of(lambda seed: honest("few leavers", seed), range(3))
    assert found == (2, 3, {"cliff": 2, "too_even": 1})


def test_goals_are_set_for_what_can_be_found():
    asked = {kind for kind in EDITS if is_asked(kind)}
    assert "floor, 90 days, a quarter" in asked
    assert "low, a year, half" in asked
    assert "low, a year, a quarter" not in asked
    assert not any(kind.startswith(("plausible", "lowered slowly")) for kind in asked)
