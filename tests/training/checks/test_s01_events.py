"""BW-S01: enough events were predicted out of time."""

from __future__ import annotations

from dataclasses import replace

import pytest

CODE = "BW-S01"


@pytest.mark.parametrize(
    ("n", "outcome"), [(49, "issue"), (50, "tip"), (199, "tip"), (200, "passed")]
)
def test_the_marks(find, clean, n, outcome):
    assert clean.company.gates.min_events == 50
    measured = replace(clean.evaluation, n_decisions=n)
    assert find(CODE, replace(clean, evaluation=measured)).outcome == outcome
