"""Scores overwritten once it was known who left: found for some leavers too, never in honest ones.

`make bench ONLY=integrity` measures every kind of world 200 times; here are a few of each.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.training.histories import EDITS, HONEST, edited, honest
from tests.benchmarks.training.integrity import failed, is_asked, measure
from training.health_audit.edit_detection import (
    NOTHING,
    Paths,
    break_sizes,
    on_one_level,
    paths_of,
    step_at_one_distance,
    too_even,
    traces_of,
)

PLAIN = ("usual", "weak", "strong", "weekly, sharp falls", "set low after notice")
FLOORS = [
    kind for kind in EDITS if kind.startswith(("floor", "one value")) and "varied" not in kind
]


@pytest.mark.parametrize("kind", PLAIN)
def test_honest_histories_pass(kind):
    assert failed(honest(kind, 0)) == []


@pytest.mark.parametrize("kind", [kind for kind in FLOORS if "quarter" in kind])
def test_a_quarter_of_the_leavers_overwritten_is_found(kind):
    assert all(failed(edited(kind, seed)) for seed in range(2))


def test_a_weak_score_overwritten_for_half_of_the_leavers_is_found():
    # The second of the ways edits are laid over is the weak score.
    assert all(failed(edited("floor, a year, half", seed)) for seed in (1, 9))


def test_values_that_could_be_true_are_found_where_half_begin_at_one_distance():
    found = [failed(edited("low, a year, half", seed)) for seed in range(4)]
    assert sum("one_distance" in codes for codes in found) >= 3


def test_a_straight_line_down_is_too_even():
    found = [failed(edited("ramp, a year, half", seed)) for seed in range(2)]
    assert all("too_even" in codes for codes in found)


def test_the_same_seed_is_the_same_world():
    one, other = (edited("plausible, a year, half", 3) for _ in range(2))
    pd.testing.assert_frame_equal(one.scores, other.scores)
    pd.testing.assert_frame_equal(one.outcomes, other.outcomes)
    assert not one.scores.equals(edited("plausible, a year, half", 4).scores)


def test_an_edit_touches_only_the_share_of_leavers_it_says():
    for part, share in (("a quarter", 0.25), ("half", 0.5), ("all", 1.0)):
        world = edited(f"floor, a year, {part}", 0)
        assert world.n_edited == pytest.approx(share * world.n_leavers, abs=1)


@pytest.mark.slow
def test_the_goals_hold_on_a_sample():
    measured = {item.what: item for item in measure(lambda _: None, worlds=2, processes=1)}
    whole = measured["honest histories, all kinds: suspect, 40 worlds"]
    assert len(HONEST) * 2 == 40
    assert whole.ours <= 2.5
    asked = [
        item.ours
        for what, item in measured.items()
        if what.startswith("edited") and is_asked(what.split(": ")[1])
    ]
    assert np.mean(asked) >= 90.0


def paths(left, stayed, *, spread=28) -> Paths:
    """Scores every 30 days, begun on `spread` days by turns; leavers decide after the last."""
    scores, lost = [], {}
    for number, values in enumerate([*left, *stayed]):
        start = pd.Timestamp("2023-01-01", tz="UTC") + pd.Timedelta(days=number % spread)
        at = [start + pd.Timedelta(days=30 * month) for month in range(len(values))]
        name = f"A{number:03d}"
        scores.append(pd.DataFrame({"entity_id": name, "scored_at": at, "risk": values}))
        if number < len(left):
            lost[name] = at[-1] + pd.Timedelta(days=10)
    return paths_of(pd.concat(scores, ignore_index=True), pd.Series(lost))


class TestTraces:
    def walk(self, n, level=0.0, seed=0):
        rng = np.random.default_rng(seed)
        return [level + 8 * rng.normal() + 4 * rng.normal(size=24) for _ in range(n)]

    def test_sizes_are_in_units_of_one_scores_noise(self):
        noise = np.random.default_rng(1).normal(size=200_000)
        inner = break_sizes(noise, 4)[4:-4]
        assert inner.std() == pytest.approx(1.0, abs=0.01)

    def test_only_scores_before_the_decision_count(self):
        made = paths(self.walk(10), self.walk(30, seed=1))
        assert (len(made.left), len(made.stayed), made.step_days) == (10, 30, 30.0)
        assert all((path.ahead > 0).all() for path in made.left)
        assert made.left[0].ahead[-1] == pytest.approx(10.0)

    def test_one_level(self):
        left = self.walk(40)
        for path in left[:10]:
            path[-12:] = 55 + np.random.default_rng(2).uniform(-1, 1, 12)
        clean = on_one_level(paths(self.walk(40), self.walk(80, seed=1)), 365)
        found = on_one_level(paths(left, self.walk(80, seed=1)), 365)
        assert found.p_value < 1e-6 < clean.p_value
        assert "10 of 40 lost accounts" in found.words

    def test_a_level_on_which_others_stand_too_is_natural(self):
        left, stayed = self.walk(40), self.walk(80, seed=1)
        for path in [*left[:10], *stayed[:20]]:
            path[-12:] = 55 + np.random.default_rng(2).uniform(-1, 1, 12)
        assert on_one_level(paths(left, stayed), 365).p_value > 1e-3

    def test_too_even(self):
        left = self.walk(40)
        for path in left[:14]:
            path[-13:] = np.linspace(path[-13], 40, 13)
        assert too_even(paths(left, self.walk(120, seed=1)), 365).p_value < 1e-6
        assert too_even(paths(self.walk(40), self.walk(120, seed=1)), 365).p_value > 1e-2

    def test_a_common_step_shows_in_the_average(self):
        left = self.walk(60)
        for path in left:
            path[-8:] += 6
        assert step_at_one_distance(paths(left, self.walk(60, seed=1))).p_value < 1e-3
        sliding = self.walk(60)
        for path in sliding:
            path[-8:] += np.linspace(0, 12, 8)
        assert step_at_one_distance(paths(sliding, self.walk(60, seed=1))).p_value > 1e-2

    def test_one_month_of_the_calendar_is_an_outage(self):
        fall = np.repeat([0.0, 60.0], 12)
        left, stayed = ([path + fall for path in self.walk(40, seed=n)] for n in (0, 3))
        assert step_at_one_distance(paths(left, stayed, spread=1)).p_value > 1e-3
        alone = paths(left, self.walk(40, seed=3), spread=1)
        assert step_at_one_distance(alone).p_value < 1e-3

    def test_few_accounts_are_not_asked(self):
        rows = pd.DataFrame({
            "entity_id": ["A", "B"], "risk": [1.0, 2.0],
            "scored_at": pd.to_datetime(["2024-01-01", "2024-01-01"], utc=True),
        })  # fmt: skip
        lost = pd.Series({"A": pd.Timestamp("2024-02-01", tz="UTC")})
        assert traces_of(rows, lost) is None
        assert NOTHING.p_value == 1.0
