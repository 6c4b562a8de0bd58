"""One capacity: everything that counts accounts to work follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.runtime.errors import ConfigError
from configs.schema.company import parse_company
from configs.schema.plays import parse_plays
from configs.schema.team_capacity import DAYS_PER_MONTH, weekly_slots, workable
from training.evaluation.sampling import Drawing

OWNERS = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 30), max_size=8)


@given(per_month=st.floats(1, 2000), weights=OWNERS, stakes=OWNERS)
def test_the_week_adds_up_to_what_the_team_can_work(per_month, weights, stakes):
    slots = weekly_slots(per_month, weights, stakes)
    assert set(slots) == set(weights)
    if any(weight > 0 for weight in weights.values()):
        assert sum(slots.values()) == max(round(per_month * 7 / DAYS_PER_MONTH), 1)
    assert all(slots[owner] == 0 for owner, weight in weights.items() if weight == 0)


def test_a_test_period_and_a_week_are_parts_of_the_same_month():
    drawing = Drawing(draws=10, seed=1, capacity_per_month=40, fold_days=91)
    assert drawing.capacity_per_fold == workable(40, 91)
    assert workable(40, 91) / workable(40, 7) == pytest.approx(13.0)


def company(**serving):
    raw = {"name": "x", "targets": {"churn": {"outcome": "churn", "observed_in": "activity"}}}
    return parse_company(raw | {"serving": serving}, where="here")


def test_what_is_gone_from_the_configuration_says_what_stands_for_it():
    with pytest.raises(ConfigError, match="band_days"):
        company(bands={"elevated": 1.5, "high": 3.0})
    with pytest.raises(ConfigError, match=r"serving\.capacity_per_month"):
        parse_plays({"plays": [], "workable_per_week": 8}, where="plays.yaml")
    with pytest.raises(ConfigError, match="high must not be larger"):
        company(band_days={"elevated": 30, "high": 91})
    assert company(band_days={"elevated": 91, "high": 30}).serving.band_days["high"] == 30
