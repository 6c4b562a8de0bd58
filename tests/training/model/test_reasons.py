import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from configs.runtime.errors import DataError
from features.tables.catalog import FeatureInfo
from training.model.bundle import Contributions, sigmoid
from training.model.reasons import (
    Comparison,
    explain_rows,
    membership,
    noise_floor,
    points,
    roll_up,
    secant,
    theme_names,
)


def information(theme="adoption", name="users", *, actionable=True, unit="count", window=28):
    return FeatureInfo(
        name, "family", name.replace("_", " "), "", unit, window, theme, is_actionable=actionable
    )


INFO = (
    information("adoption", "users"),
    information("adoption", "sessions"),
    information("adoption", "logins"),
    information("support", "tickets"),
    information("sentiment", "nps", window=None),
    information("payments", "late", unit="days"),
    information("journey", "steps"),
    information("context", "plan", window=None),
    information("commercial", "size", actionable=False, unit="money", window=None),
)
VALUES = np.array([[4.0, 9.0, 1.0, 3.0, 6.0, 12.0, 2.0, 1.0, 12400.0]])


def explained(contributions, **options):
    base, values = contributions
    return explain_rows(
        Contributions(base, np.array([values])),
        options.pop("columns", VALUES),
        INFO,
        outcome=options.pop("outcome", "churn"),
        **options,
    )[0]


LOGITS = st.floats(-40, 40, allow_subnormal=False)


@settings(max_examples=300, deadline=None)
@given(st.floats(-12, 12), arrays(np.float64, (3, 5), elements=st.floats(-6, 6)))
def test_points_sum_to_the_difference_in_probability(base, values):
    contributions = Contributions(base, values)
    moved = points(contributions).sum(axis=1)
    expected = sigmoid(contributions.logit) - sigmoid(np.array(base))
    np.testing.assert_allclose(moved, expected, atol=1e-12, rtol=0)


@given(LOGITS, LOGITS)
def test_the_secant_is_between_zero_and_a_quarter(a, b):
    slope = secant(np.array([a]), b)[0]
    assert 0.0 <= slope <= 0.25 * (1 + 1e-15), "a quarter, but for the last bit"
    assert slope * (a - b) == pytest.approx(
        float(sigmoid(np.array(a)) - sigmoid(np.array(b))), abs=1e-12
    )


def test_the_secant_near_zero_is_the_slope_of_the_curve():
    p = float(sigmoid(np.array(-2.0)))
    assert secant(np.array([-2.0]), -2.0)[0] == pytest.approx(p * (1 - p), rel=1e-14)
    assert secant(np.array([-2.0 + 1e-12]), -2.0)[0] == pytest.approx(p * (1 - p), rel=1e-9)
    assert secant(np.array([900.0]), -900.0)[0] == pytest.approx(1 / 1800)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, (4, len(INFO)), elements=st.floats(-3, 3)),
    arrays(np.bool_, (4, len(INFO))),
)
def test_themes_context_and_gaps_sum_to_the_whole(values, missing):
    themes, context, unknown = roll_up(values, missing, membership(INFO))
    total = themes.sum(axis=1) + context + unknown
    np.testing.assert_allclose(total, values.sum(axis=1), atol=1e-9)
    assert theme_names(INFO) == ["adoption", "support", "sentiment", "payments", "journey"]


def test_three_reasons_up_two_down_two_facts_each_strongest_first():
    reasons = explained((-2.0, [0.5, 0.4, 0.3, 0.6, 0.4, 0.35, -0.3, 0.2, 0.1]))
    assert [reason["theme"] for reason in reasons["raises"]] == ["adoption", "support", "sentiment"]
    assert [reason["theme"] for reason in reasons["lowers"]] == ["journey"]
    assert [fact["feature"] for fact in reasons["raises"][0]["facts"]] == ["users", "sessions"]
    assert reasons["raises"][0]["code"] == "churn.adoption.raises"
    total = sum(reasons["themes"].values()) + reasons["context"] + reasons["unknown"]
    assert reasons["base"] + total == pytest.approx(reasons["p"], abs=1e-12)


def test_facts_move_the_way_their_reason_says():
    reasons = explained((-2.0, [1.0, -0.4, 0.01, 0, 0, 0, 0, 0, 0]))
    facts = reasons["raises"][0]["facts"]
    assert [fact["feature"] for fact in facts] == ["users"], "against, and too weak, stay away"


def test_context_is_no_reason_but_a_circumstance():
    reasons = explained((-2.0, [0, 0, 0, 0, 0, 0, 0, 0.8, 0.7]))
    assert reasons["raises"] == []
    assert [fact["feature"] for fact in reasons["circumstances"]] == ["plan", "size"]
    assert reasons["context"] == pytest.approx(reasons["p"] - reasons["base"])


def test_noise_stays_silent():
    quiet = explained((-2.0, [1e-3] * 9))
    assert quiet["raises"] == quiet["lowers"] == quiet["circumstances"] == []
    assert noise_floor(0.001) == 0.002


def test_facts_carry_value_own_past_and_peers():
    past, peer = np.full(VALUES.shape, 16.0), np.full(VALUES.shape, 11.0)
    peer[0, 1] = np.nan
    reasons = explained(
        (-2.0, [0.9, 0.8, 0, 0, 0, 0, 0, 0, 0]), comparison=Comparison(past, 84, peer)
    )
    first, second = reasons["raises"][0]["facts"]
    assert first["text"] == (
        "Users 4 in the last 28 days (16 twelve weeks earlier; 11 at similar accounts)"
    )
    assert (first["value"], first["own_past"], first["peer"]) == (4.0, 16.0, 11.0)
    assert second["peer"] is None
    assert second["text"] == "Sessions 9 in the last 28 days (16 twelve weeks earlier)"


def test_what_is_not_known_counts_for_no_theme():
    columns = VALUES.copy()
    columns[0, [0, 7]] = np.nan  # users, and the plan, which is a circumstance
    contributions = (-2.0, [0.9, 0.6, 0.0, 0, 0, 0, 0, 0.8, 0])
    reasons = explained(contributions, columns=columns)
    whole = explained(contributions)
    (reason,) = reasons["raises"]
    assert [fact["feature"] for fact in reason["facts"]] == ["sessions"]
    assert reasons["unknown"] + reason["points"] == pytest.approx(whole["themes"]["adoption"])
    assert reasons["unknown"] / reason["points"] == pytest.approx(0.9 / 0.6)
    assert reasons["context"] == pytest.approx(whole["context"])
    assert reasons["circumstances"][0]["text"] == "Plan: not known"


def test_levels_are_words():
    columns = VALUES.copy()
    reasons = explained(
        (-2.0, [0.9, 0, 0, 0, 0, 0, 0, 0.9, 0]), columns=columns, levels={"plan": ("basic", "pro")}
    )
    assert reasons["circumstances"][0]["text"] == "Plan: pro"
    assert json.loads(json.dumps(reasons)) == reasons


def test_growth_has_its_own_words():
    reasons = explained((-2.0, [0.9, 0, 0, -0.9, 0, 0, 0, 0, 0]), outcome="expansion")
    assert "a higher chance of growth" in reasons["raises"][0]["text"]
    assert "a lower chance of growth" in reasons["lowers"][0]["text"]


def test_explanations_are_strict_json():
    columns = np.full(VALUES.shape, np.nan)
    json.dumps(explained((-2.0, [0.9] * 9), columns=columns), allow_nan=False)


def test_shapes_that_do_not_line_up_are_refused():
    with pytest.raises(DataError, match="do not line up"):
        explain_rows(Contributions(0.0, np.zeros((2, 9))), VALUES, INFO, outcome="churn")
